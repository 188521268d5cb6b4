//! Failovers on real API servers: a unit's agent falls silent, its write lease is sealed and waited for, and the survivor
//! owns its slots with the loss in status; where the lease's end proves nothing, a person's word is asked for.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use kube::Api;
use kube::api::{Patch, PatchParams};
use multiactive_api as api;
use multiactive_api::convert::parse_duration;
use multiactive_fleet::cluster::Part;
use serde_json::{Value, json};
use support::hook::{Hook, Says};
use support::lost::{LEASE, declare, fail_over, lease, renew, shop, status};
use support::{NAMESPACE, Operator, SYSTEM, World, condition, eventually};

async fn unit_ready(world: &World) -> Option<String> {
    let unit: api::Unit = world.namespaced().get("north-1").await.unwrap();
    condition(&unit.status?.conditions, "Ready")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_units_slots_are_served_elsewhere_once_its_lease_is_over_and_not_before() {
    let world = World::start().await;
    let operator = Operator::start_with_leases(&world, "one").await;
    let lives = shop(&world, "Fence").await;
    // It has a hook, which nobody needs.
    let hook = Hook::start(Says::No).await;
    declare(&world, "Fence", Some(&hook)).await;
    let sent = renew(&world, 3).await;
    lives.cancel();
    // Its databases let nothing pass after the deadline.
    let databases = world.databases.clone();
    let dies = tokio::spawn(async move {
        tokio::time::sleep_until((sent + LEASE).into()).await;
        databases.close("north-1");
    });
    fail_over(&world, "10s").await;
    let status = status(&world, "the failover ended", |status| status.outcome.is_some()).await;
    assert!(sent.elapsed() > LEASE, "{:?}", sent.elapsed());
    dies.await.unwrap();
    assert_eq!(world.databases.twice(), Vec::<String>::new());
    assert_eq!(status.outcome.as_deref(), Some("Succeeded"), "{status:#?}");
    assert_eq!(
        (status.from.as_deref(), status.to.as_deref()),
        (Some("north-1"), Some("east-1"))
    );
    assert_eq!(world.owners().await, ["0-7 east-1 Serving", "8-15 east-1 Serving"]);

    let loss = status.loss.unwrap();
    assert_eq!(
        (loss.fenced_by.as_deref(), loss.allowed.as_deref()),
        (Some("Lease"), Some("10s"))
    );
    assert_eq!((loss.accepted_by, loss.confirmed_by), (None, None));
    assert_eq!(
        (hook.questions(), status.fencing_hook),
        (Vec::new(), None),
        "nobody asked it"
    );
    // The survivor has the place that the last renewal carried: it lacks at most what came from then to the lease's end.
    let bound = parse_duration("bound", &loss.bound.unwrap()).unwrap();
    assert!(bound.as_secs_f64() >= 5.0 && bound.as_secs_f64() < 6.5, "{bound:#}");
    let placed = &status.placement.unwrap().placed;
    assert_eq!(
        (placed.len(), placed[0].range.as_deref(), placed[0].target.as_deref()),
        (1, Some("users-1"), Some("east-1"))
    );
    assert_eq!((status.operations.len(), status.slots), (1, Some(8)));
    let table = world.table().await.unwrap();
    let bound_in_table = table
        .spec
        .finished
        .iter()
        .find(|done| done.name == "lost-north")
        .unwrap();
    assert!(bound_in_table.loss.as_ref().unwrap().bound_ms.is_some());

    // It may not come back as if nothing had been.
    let held = lease(&world).await.unwrap();
    let seal = held.lease.sealed.clone().unwrap();
    let object: api::Failover = world.namespaced().get("lost-north").await.unwrap();
    assert_eq!(Some(seal.by.to_string()), object.metadata.uid);
    assert!(held.lease.renewed(&held.lease.unit, Default::default(), None).is_err());
    eventually("north-1 is in quarantine", async || {
        (unit_ready(&world).await? == "False Quarantined").then_some(())
    })
    .await;
    // Taken away by hand, it comes back sealed.
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(world.hub.clone(), SYSTEM);
    leases.delete("shop.north-1", &Default::default()).await.unwrap();
    let anew = eventually("the lease is there again", async || lease(&world).await).await;
    assert_eq!(anew.lease.sealed.map(|seal| seal.by), Some(seal.by));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_unit_goes_on_without_its_lease_a_person_says_that_it_is_fenced() {
    let world = World::start().await;
    let operator = Operator::start_with_leases(&world, "one").await;
    let lives = shop(&world, "KeepServing").await;
    renew(&world, 2).await;
    lives.cancel();
    fail_over(&world, "5m").await;
    let blocked = status(&world, "it is blocked", |status| !status.needed.is_empty()).await;
    let needed = &blocked.needed[0];
    assert_eq!(
        (needed.kind, needed.target.as_deref()),
        (api::DecisionType::ConfirmFenced, Some("north-1"))
    );
    assert!(needed.why.contains("KeepServing"), "{}", needed.why);
    let command = "kubectl multiactive decide failover/lost-north ConfirmFenced --target north-1 -n shop";
    assert!(needed.command.starts_with(command), "{}", needed.command);
    assert_eq!(blocked.reason.as_deref(), Some("Blocked"));
    assert_eq!(
        condition(&blocked.conditions, "Stalled").as_deref(),
        Some("True Blocked")
    );
    assert_eq!(blocked.step.as_deref(), Some("Fence"));
    assert_eq!(world.databases.open("east-1"), 8);

    // What has expired, and what is said of another unit, proves nothing.
    let decide = async |decisions: Value| {
        let failovers: Api<api::Failover> = world.namespaced();
        let patch = Patch::Merge(json!({"spec": {"decisions": decisions}}));
        failovers
            .patch("lost-north", &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    let word = |target: &str, until: &str| json!({"type": "ConfirmFenced", "target": target, "by": "alice", "reason": "no power", "notAfter": until});
    let (late, other) = (
        word("north-1", "2020-01-01T00:00:00Z"),
        word("east-1", "2099-01-01T00:00:00Z"),
    );
    decide(json!([late, other])).await;
    let failovers: Api<api::Failover> = world.namespaced();
    let generation = failovers.get("lost-north").await.unwrap().metadata.generation;
    let still = status(&world, "it was looked at again", |status| {
        status.observed_generation == generation
    })
    .await;
    assert_eq!((still.step.as_deref(), still.needed.len()), (Some("Fence"), 1));

    world.databases.close("north-1");
    decide(json!([late, other, word("north-1", "2099-01-01T00:00:00Z")])).await;
    let status = status(&world, "the failover ended", |status| status.outcome.is_some()).await;
    assert_eq!(status.outcome.as_deref(), Some("Succeeded"), "{status:#?}");
    let loss = status.loss.unwrap();
    assert_eq!(
        (loss.fenced_by.as_deref(), loss.confirmed_by.as_deref()),
        (Some("Confirmed"), Some("alice"))
    );
    assert_eq!(world.databases.twice(), Vec::<String>::new());
    assert!(status.needed.is_empty());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_begins_after_the_loss_goes_by_what_the_record_says_of_the_unit() {
    let world = World::start().await;
    let first = Operator::start_with_leases(&world, "one").await;
    let lives = shop(&world, "Fence").await;
    eventually("the record says that north-1 stops without its lease", async || {
        let known = world.table().await?.spec.fencing;
        known
            .iter()
            .find(|known| known.unit == "north-1" && known.stores == ["orders"])?;
        Some(())
    })
    .await;
    let sent = renew(&world, 3).await;
    // Both are gone: nobody is left who has seen how the unit was, and its cluster does not say it.
    first.stop().await;
    lives.cancel();
    world.north.kill_part(Part::ApiServer).await;
    let databases = world.databases.clone();
    let dies = tokio::spawn(async move {
        tokio::time::sleep_until((sent + LEASE).into()).await;
        databases.close("north-1");
    });
    let second = Operator::start_with_leases(&world, "two").await;
    fail_over(&world, "1h").await;
    let status = status(&world, "the failover ended", |status| {
        assert_eq!(status.needed, [], "nobody is asked");
        status.outcome.is_some()
    })
    .await;
    assert!(sent.elapsed() > LEASE, "{:?}", sent.elapsed());
    dies.await.unwrap();
    assert_eq!(status.outcome.as_deref(), Some("Succeeded"), "{status:#?}");
    assert_eq!(status.loss.unwrap().fenced_by.as_deref(), Some("Lease"));
    assert_eq!(world.databases.twice(), Vec::<String>::new());
    assert_eq!(world.owners().await, ["0-7 east-1 Serving", "8-15 east-1 Serving"]);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_shall_go_on_instead_is_told_so_only_once_the_record_counts_on_it_no_more() {
    let world = World::start().await;
    let operator = Operator::start_with_leases(&world, "one").await;
    let lives = shop(&world, "Fence").await;
    let noted = async || {
        world
            .table()
            .await
            .is_some_and(|table| table.spec.fencing.iter().any(|known| known.unit == "north-1"))
    };
    eventually("it is noted", async || noted().await.then_some(())).await;
    let north: Api<api::UnitAssignment> = Api::namespaced(world.north.client().await.unwrap(), NAMESPACE);
    let told = async || north.get("north-1").await.unwrap().spec.lease.unwrap().mode;
    assert_eq!(told().await, api::LeaseMode::Fence);
    declare(&world, "KeepServing", None).await;
    eventually("it is told", async || {
        // In this order: what it was told is read first.
        let (told, noted) = (told().await, noted().await);
        assert!(
            !(noted && told == api::LeaseMode::KeepServing),
            "told before the record knew"
        );
        (told == api::LeaseMode::KeepServing).then_some(())
    })
    .await;
    lives.cancel();
    operator.stop().await;
}
