//! One object is changed in the hub: how long until a watch of every cluster shows it. The client without an operator
//! changes the same object in every cluster by itself, in turns.

use crate::Scene;
use crate::bare::object;
use anyhow::{Context, Result};
use futures::TryStreamExt;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use multiactive_api::UnitWorkload;
use multiactive_e2e::bench::figures::{Sample, ratio};
use multiactive_e2e::region::NAMESPACE;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const CHANGES: usize = 120;
const LIMIT: Duration = Duration::from_secs(10);
/// One of the batches that `many` left in place.
const WORKLOAD: &str = "many-0-7";

/// What one cluster holds of an object, as its watch shows it.
struct Seen {
    value: watch::Receiver<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn look(client: &Client, namespace: &str, name: &str) -> Seen {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let (tell, value) = watch::channel(String::new());
    let task = tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(api, config).default_backoff().applied_objects());
        loop {
            // A watch that breaks is begun again by the watcher.
            let Ok(next) = events.try_next().await else { continue };
            let Some(object) = next else { return };
            let value = object.data.and_then(|mut data| data.remove("turn"));
            tell.send_replace(value.unwrap_or_default());
        }
    });
    Seen { value, task }
}

/// Waits until all watches show `turn`; how long that took.
async fn everywhere(seen: &mut [Seen], turn: &str, began: Instant) -> Result<Duration> {
    let waits = seen.iter_mut().map(|seen| seen.value.wait_for(|value| value == turn));
    tokio::time::timeout(LIMIT, try_join_all(waits))
        .await
        .with_context(|| format!("change {turn} was not seen everywhere within {LIMIT:?}"))??;
    Ok(began.elapsed())
}

/// Measures changes and prints them.
pub async fn measure(scene: &Scene) -> Result<()> {
    let name = format!("{WORKLOAD}-3");
    let bare_namespace = "bare-apply-0";
    let mut ours: Vec<_> = scene
        .clients
        .iter()
        .map(|client| look(client, NAMESPACE, &name))
        .collect();
    let mut theirs: Vec<_> = scene
        .clients
        .iter()
        .map(|client| look(client, bare_namespace, "object-3"))
        .collect();
    let (mut through_hub, mut alone) = (Sample::new(), Sample::new());
    for turn in 0..CHANGES {
        let turn = format!("turn-{turn}");
        let began = Instant::now();
        change_in_hub(scene, &turn).await?;
        through_hub.add(everywhere(&mut ours, &turn, began).await?);
        let began = Instant::now();
        change_alone(scene, bare_namespace, &turn).await?;
        alone.add(everywhere(&mut theirs, &turn, began).await?);
    }
    Sample::head(&format!(
        "one object changed, seen by the watches of 3 clusters ({CHANGES} times)"
    ));
    through_hub.line("a manifest patched in the hub", "targets p50 < 25, p99 < 60");
    alone.line("without an operator: 3 objects applied", "");
    println!(
        "  ratio {:>49} {:>8}",
        ratio(through_hub.quantile(0.5), alone.quantile(0.5)),
        ratio(through_hub.quantile(0.99), alone.quantile(0.99)),
    );
    Ok(())
}

/// Changes the object once more; how long until all clusters show it.
pub async fn once(scene: &Scene, turn: &str) -> Result<Duration> {
    let name = format!("{WORKLOAD}-3");
    let mut seen: Vec<_> = scene
        .clients
        .iter()
        .map(|client| look(client, NAMESPACE, &name))
        .collect();
    for one in &mut seen {
        // The watch is open once it has shown what was there.
        one.value.changed().await?;
    }
    let began = Instant::now();
    change_in_hub(scene, turn).await?;
    everywhere(&mut seen, turn, began).await
}

/// Changes the fourth manifest of the UnitWorkload.
async fn change_in_hub(scene: &Scene, turn: &str) -> Result<()> {
    let api: Api<UnitWorkload> = Api::namespaced(scene.hub()?.clone(), NAMESPACE);
    let change = json!([{"op": "add", "path": "/spec/manifests/3/data/turn", "value": turn}]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(change)?);
    api.patch(WORKLOAD, &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn change_alone(scene: &Scene, namespace: &str, turn: &str) -> Result<()> {
    let params = PatchParams::apply("bare").force();
    let writes = scene.clients.iter().map(async |client| {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let mut object = object("object-3", &json!({"bench": "bare"}), 'x');
        object["data"]["turn"] = json!(turn);
        api.patch("object-3", &params, &Patch::Apply(&object)).await
    });
    try_join_all(writes).await?;
    Ok(())
}
