//! Two units of which north-1 is lost, and what is asked about it.

use super::agent::{LOG, RECEIVED};
use super::hook::Hook;
use super::{NAMESPACE, SYSTEM, World, eventually, namespaced, range, unit_object};
use kube::Api;
use multiactive_api as api;
use multiactive_core::ids::UnitName;
use multiactive_ledger::{Commit, HeldLease, KubernetesLeases, LeaseLedger};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(5);
/// The lease of the unit that is lost.
pub const LEASE: Duration = Duration::from_secs(5);

/// Two units whose slots are served; those of north-1 may go to east-1. north-1 does `on_loss` without its lease.
pub async fn shop(world: &World, on_loss: &str) -> CancellationToken {
    world.shop().await;
    declare(world, on_loss, None).await;
    let mut moved = range("users-1", 8, 15, "north-1");
    moved["spec"]["failoverUnits"] = json!(["east-1"]);
    world.apply(moved).await;
    let lives = CancellationToken::new();
    world.agent("east-1", &CancellationToken::new());
    world.agent("north-1", &lives);
    world.served().await;
    lives
}

/// Declares north-1: what it does without its lease, and the hook that fences it.
pub async fn declare(world: &World, on_loss: &str, hook: Option<&Hook>) {
    let mut unit = unit_object("north-1", "north");
    unit["spec"]["onLeaseLoss"] = json!(on_loss);
    unit["spec"]["leaseDuration"] = json!("5s");
    if let Some(hook) = hook {
        unit["spec"]["fencingHook"] = json!({"url": hook.url, "timeout": "1s"});
    }
    world.apply(unit).await;
}

pub async fn lease(world: &World) -> Option<HeldLease> {
    let leases = KubernetesLeases::new(world.hub.clone(), SYSTEM);
    leases.read(NAMESPACE, &UnitName("north-1".to_owned())).await.unwrap()
}

/// Renews north-1's lease as its agent would, a few times; when the last renewal that counted was sent.
pub async fn renew(world: &World, times: usize) -> Instant {
    let leases = KubernetesLeases::new(world.hub.clone(), SYSTEM);
    let (mut counted, mut last) = (0, Instant::now());
    while counted < times {
        let found = eventually("north-1 has a lease", async || lease(world).await).await;
        let positions = [("orders".into(), format!("{LOG}@{}", RECEIVED - 10))].into();
        let renewed = found.lease.renewed(&found.lease.unit, positions, None).unwrap();
        let sent = Instant::now();
        let length = LEASE.try_into().unwrap();
        let written = leases
            .write(NAMESPACE, Some(&found.version), &renewed, length, LIMIT)
            .await;
        if let Commit::Committed(_) = written {
            (counted, last) = (counted + 1, sent);
        }
    }
    last
}

pub async fn fail_over(world: &World, max_data_loss: &str) {
    let epoch = world.epoch().await;
    let spec = json!({"lostUnit": "north-1", "expectedEpoch": epoch, "maxDataLoss": max_data_loss});
    world.apply(namespaced("Failover", "lost-north", spec)).await;
}

pub async fn status(world: &World, what: &str, is: impl Fn(&api::FailoverStatus) -> bool) -> api::FailoverStatus {
    let failovers: Api<api::Failover> = world.namespaced();
    let mut last = None;
    let search = async || {
        last = failovers.get("lost-north").await.unwrap().status;
        last.clone().filter(|status| is(status))
    };
    match tokio::time::timeout(Duration::from_secs(50), eventually(what, search)).await {
        Ok(status) => status,
        Err(_) => panic!("{what}: {last:#?}"),
    }
}
