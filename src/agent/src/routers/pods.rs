//! Whether the pods of routers are still there: a router that left without a goodbye is forgotten only when its pod is
//! known to be gone. An API server that does not answer says nothing.

use super::{Registry, UnitKey, UnitRouters};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
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
