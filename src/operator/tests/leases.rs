//! Write leases in the hub: each unit has one, each member's agents may renew those of its own units and nothing else, and
//! what is gone or was taken away comes back as it must be.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use k8s_openapi::api::core::v1::Secret;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use multiactive_api as api;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_ledger::{Commit, HeldLease, KubernetesLeases, LeaseLedger, held};
use multiactive_runtime::kube_client::{Patience, from_kubeconfig};
use std::collections::BTreeMap;
use std::time::Duration;
use support::{NAMESPACE, Operator, SYSTEM, World, eventually};

const LIMIT: Duration = Duration::from_secs(5);

/// The client that a member's agents have: by the Secret in their own cluster.
async fn agents_client(member: &Client) -> Client {
    let secrets: Api<Secret> = Api::namespaced(member.clone(), SYSTEM);
    let text = eventually("the agents know the way to the hub", async || {
        let secret = secrets.get_opt(api::HUB_ACCESS_SECRET).await.unwrap()?;
        Some(secret.data?.remove(api::HUB_ACCESS_KEY)?.0)
    })
    .await;
    let kubeconfig = Kubeconfig::from_yaml(std::str::from_utf8(&text).unwrap()).unwrap();
    from_kubeconfig(kubeconfig, Patience::REQUESTS).await.unwrap()
}

async fn lease(world: &World, unit: &str) -> Option<HeldLease> {
    let objects: Api<LeaseObject> = Api::namespaced(world.hub.clone(), SYSTEM);
    let object = objects.get_opt(&format!("{NAMESPACE}.{unit}")).await.unwrap()?;
    Some(held(&object).unwrap())
}

/// Renews a unit's lease with a client; what that came to.
async fn renew(client: &Client, found: &HeldLease) -> Commit {
    let leases = KubernetesLeases::new(client.clone(), client.default_namespace());
    let renewed = found.lease.renewed(&found.lease.unit, BTreeMap::new(), None).unwrap();
    leases
        .write(NAMESPACE, Some(&found.version), &renewed, found.length, LIMIT)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_unit_has_a_lease_that_its_own_member_renews() {
    let world = World::start().await;
    let operator = Operator::start_with_leases(&world, "one").await;
    world.shop().await;
    world.agents();
    world.served().await;

    let east = agents_client(&world.hub).await;
    let north = agents_client(&world.member).await;
    let (of_east, of_north) = eventually("both units have leases", async || {
        lease(&world, "east-1").await.zip(lease(&world, "north-1").await)
    })
    .await;
    assert_eq!(of_north.lease.unit, UnitName("north-1".to_owned()));
    assert!(of_north.lease.sealed.is_none());
    // The authorizer learns of roles by a watch.
    eventually("north's agents renew", async || {
        let found = lease(&world, "north-1").await?;
        matches!(renew(&north, &found).await, Commit::Committed(_)).then_some(())
    })
    .await;
    let renewed = lease(&world, "north-1").await.unwrap();
    assert_eq!(renewed.lease.renewals, of_north.lease.renewals + 1);
    let foreign = renew(&north, &of_east).await;
    assert!(matches!(foreign, Commit::Refused(_)), "another member's: {foreign:?}");
    let late = renew(&north, &of_north).await;
    assert_eq!(late, Commit::Conflict, "by who has not seen the last one");
    eventually("east's agents renew", async || {
        let found = lease(&world, "east-1").await?;
        matches!(renew(&east, &found).await, Commit::Committed(_)).then_some(())
    })
    .await;

    // Taken away by hand, it is made again: at the table of now, so that no database that was not brought there takes it.
    let objects: Api<LeaseObject> = Api::namespaced(world.hub.clone(), SYSTEM);
    objects.delete("shop.north-1", &Default::default()).await.unwrap();
    let anew = eventually("the lease is there again", async || lease(&world, "north-1").await).await;
    assert_eq!(anew.lease.renewals, 0);
    let epoch = u64::try_from(world.epoch().await).unwrap();
    assert_eq!(anew.lease.granted, Epoch::new(1, epoch));

    // A restart writes nothing of it.
    let version = |lease: Option<HeldLease>| lease.map(|held| held.version.as_str().to_owned());
    let before = (
        version(lease(&world, "east-1").await),
        version(lease(&world, "north-1").await),
    );
    let secrets: Api<Secret> = Api::namespaced(world.member.clone(), SYSTEM);
    let secret = secrets.get(api::HUB_ACCESS_SECRET).await.unwrap();
    operator.stop().await;
    let operator = Operator::start_with_leases(&world, "two").await;
    eventually("it has looked", async || operator.ctx.leases.is_ready().then_some(())).await;
    world.served().await;
    assert_eq!(
        (
            version(lease(&world, "east-1").await),
            version(lease(&world, "north-1").await)
        ),
        before
    );
    let after = secrets.get(api::HUB_ACCESS_SECRET).await.unwrap();
    assert_eq!(after.metadata.resource_version, secret.metadata.resource_version);
    operator.stop().await;
}
