//! The pods of routers. A router that left without a goodbye is forgotten only when its pod is known to be gone, and one
//! that never connected is known by its pod. An API server that does not answer says nothing.

use super::{Registry, UnitKey, UnitRouters};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt};
use multiactive_runtime::watch as watches;
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

/// How often the pod of a router that is away is looked for.
const AWAY: Duration = Duration::from_secs(1);

/// How many times rarer the pods of connected routers are looked for: a connection may be half open.
const CONNECTED_EVERY: u32 = 30;

/// Looks after the pods of a unit's routers; never returns. Safe to drop.
pub async fn watch_pods(client: Client, key: UnitKey, unit: UnitRouters) {
    let pods: Api<Pod> = Api::namespaced(client, &key.namespace);
    let registry = unit.subscribe();
    let mut ticks = tokio::time::interval(AWAY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut newest_asked = None;
    for round in 0_u32.. {
        ticks.tick().await;
        let asked = to_ask(&registry.borrow(), round % CONNECTED_EVERY == 0, newest_asked);
        newest_asked = newest_connection(&registry.borrow()).max(newest_asked);
        for name in asked {
            match look(&pods, &name).await {
                Ok(uid) => unit.change(|registry| registry.pod_seen(&name, uid.as_deref())),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(router = name, error, "asking for a router's pod");
                }
            }
        }
    }
}

/// Tells which pods of the unit's routers run, by the labels that the chart gives them; never returns. Safe to drop.
pub async fn watch_running(client: Client, key: UnitKey, unit: UnitRouters) {
    let pods: Api<DeserializeGuard<Pod>> = Api::namespaced(client, &key.namespace);
    let labels = format!("app.kubernetes.io/component=router,multiactive.io/unit={}", key.unit);
    let mut events = pin!(watches::all(pods, Config::default().labels(&labels)));
    let (mut running, mut coming) = (BTreeMap::new(), None);
    while let Some(event) = events.next().await {
        match event {
            Event::Init => coming = Some(BTreeMap::new()),
            Event::InitApply(pod) => note(coming.get_or_insert_default(), &pod),
            Event::InitDone => running = coming.take().unwrap_or_default(),
            Event::Apply(pod) => note(&mut running, &pod),
            Event::Delete(pod) => drop(running.remove(&pod.name_any())),
        }
        // While a list comes in, what was known before stays.
        if coming.is_none() {
            unit.pods_running(&running);
        }
    }
}

/// Takes note of one pod; one that cannot be read may run.
fn note(running: &mut BTreeMap<String, String>, pod: &DeserializeGuard<Pod>) {
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    match &pod.0 {
        Ok(pod) if !runs(pod) => running.remove(&name),
        Ok(_) | Err(_) => running.insert(name, uid),
    };
}

/// Whether a process of the pod runs. One that waits to be started, or started again, serves nobody.
fn runs(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let mut states = containers.iter().filter_map(|container| container.state.as_ref());
    let started = status.phase.as_deref() == Some("Running");
    started && (containers.is_empty() || states.any(|state| state.running.is_some()))
}

fn newest_connection(registry: &Registry) -> Option<u64> {
    registry.iter().filter_map(|(_, router)| router.connection).max()
}

/// Routers whose pods are asked for now: those that are away, those that connected since, or all.
fn to_ask(registry: &Registry, all: bool, newest_asked: Option<u64>) -> Vec<String> {
    let asked = registry
        .iter()
        .filter(|(_, router)| all || router.connection.is_none() || router.connection > newest_asked);
    asked.map(|(name, _)| name.to_owned()).collect()
}

/// The uid of the pod; `None` where there is none or it has ended.
async fn look(pods: &Api<Pod>, name: &str) -> Result<Option<String>, kube::Error> {
    let pod = pods.get_opt(name).await?;
    Ok(pod.filter(|pod| !has_ended(pod)).and_then(|pod| pod.uid()))
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_runs_while_one_of_its_containers_does() {
        let running = json!([{"name": "router", "state": {"running": {}}, "ready": false, "restartCount": 0,
            "image": "i", "imageID": ""}]);
        let waiting = json!([{"name": "router", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "ready": false,
            "restartCount": 7, "image": "i", "imageID": ""}]);
        for (status, want) in [
            (json!({"phase": "Running", "containerStatuses": running}), true),
            (json!({"phase": "Running", "containerStatuses": waiting}), false),
            (json!({"phase": "Running"}), true),
            (json!({"phase": "Pending"}), false),
            (json!({"phase": "Succeeded", "containerStatuses": running}), false),
            (json!({}), false),
        ] {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "r"}, "status": status})).unwrap();
            assert_eq!(runs(&pod), want, "{status}");
        }
    }
}
