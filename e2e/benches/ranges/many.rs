//! All ranges at once, until the status of each says that it is served.

use crate::bare;
use crate::{AT_ONCE, KEYSPACE, RANGES, SLOTS, Scene};
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use multiactive_api::{Keyspace, ShardRange, ShardRangeStatus};
use multiactive_e2e::bench::audit::summary;
use multiactive_e2e::bench::figures::{fact, ratio};
use multiactive_e2e::bench::usage::{cpu_seconds, memory_mb};
use multiactive_e2e::kube_ext::is_ready;
use multiactive_e2e::region::NAMESPACE;
use serde_json::json;
use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(600);

/// The first and the last slot of a range: the first ones have two, so that there are as many as asked for.
pub fn slots(number: usize) -> (usize, usize) {
    let long = SLOTS - RANGES;
    if number < long {
        (2 * number, 2 * number + 1)
    } else {
        (long + number, long + number)
    }
}

/// The name of a range.
pub fn name(number: usize) -> String {
    format!("{KEYSPACE}-{number}")
}

/// The ranges; no two neighbours are at home in one unit, so that the table has a span for each.
fn ranges(units: &[String]) -> Result<Vec<ShardRange>> {
    let one = |number: usize| {
        let (first, last) = slots(number);
        Ok(serde_json::from_value(json!({
            "apiVersion": "multiactive.io/v1alpha1", "kind": "ShardRange",
            "metadata": {"name": name(number), "namespace": NAMESPACE},
            "spec": {"keyspace": KEYSPACE, "firstSlot": first, "lastSlot": last, "homeUnit": units[number % units.len()]},
        }))?)
    };
    (0..RANGES).map(one).collect()
}

/// Measures it and prints it; the ranges stay.
pub async fn measure(scene: &Scene) -> Result<()> {
    let ranges = ranges(&scene.units())?;
    let bare = bare::ranges(scene, &ranges, &like(scene).await?).await?;

    let hub = scene.hub()?;
    let (operator, hub_name) = (scene.operator()?, &scene.regions()[0].name);
    let keyspaces: Api<Keyspace> = Api::namespaced(hub.clone(), NAMESPACE);
    let keyspace = serde_json::from_value(json!({
        "apiVersion": "multiactive.io/v1alpha1", "kind": "Keyspace",
        "metadata": {"name": KEYSPACE, "namespace": NAMESPACE},
        "spec": {"slots": SLOTS, "routes": [{"pathPrefix": format!("/{KEYSPACE}"), "backend": "shop"}],
            "key": {"sources": [{"type": "Header", "header": {"name": "x-place"}}]}, "function": {"type": "Crc32"}},
    }))?;
    let api: Api<ShardRange> = Api::namespaced(hub.clone(), NAMESPACE);
    let (cpu, servers, mark) = (cpu_seconds(operator)?, scene.servers()?, scene.audit()?.mark(hub_name)?);
    let began = Instant::now();
    keyspaces.create(&PostParams::default(), &keyspace).await?;
    let params = PostParams::default();
    let created = async {
        let creations = futures::stream::iter(&ranges).map(|one| api.create(&params, one));
        let creations = creations.buffer_unordered(AT_ONCE);
        let all = creations.try_for_each(|_| std::future::ready(Ok(())));
        all.await.context("creating ShardRanges")?;
        anyhow::Ok(began.elapsed())
    };
    let served = async {
        all_served(&api).await?;
        anyhow::Ok(began.elapsed())
    };
    let (created, served): (Duration, Duration) = tokio::try_join!(created, served)?;
    let (cpu, servers) = (cpu_seconds(operator)? - cpu, scene.servers()? - servers);
    let writes = scene.audit()?.since(hub_name, mark)?;
    let table = scene.table().await?;
    let spans: usize = table.spec.keyspaces.iter().map(|k| k.spans.split(',').count()).sum();

    println!(
        "\n{RANGES} ShardRanges of a Keyspace with {SLOTS} slots and without a store, created {AT_ONCE} at a time, no two \
         neighbours\nat home in one unit, until the status of each says that it is served. Without an operator: a client \
         creates as many\nobjects of the same schema and applies the status of each, once."
    );
    let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
    fact("without an operator: objects and statuses, s", seconds(bare), "");
    fact("all created, s", seconds(created), "");
    fact("all served, s", seconds(served), "");
    let figure = ratio(Some(served.as_secs_f64()), Some(bare.as_secs_f64()));
    fact("ratio to the client without an operator", figure, "");
    let each = writes.len() as f64 / RANGES as f64;
    fact(
        "hub writes for one range",
        format!("{each:.2}"),
        "the user's own included",
    );
    println!("    {}", summary(&writes));
    fact("operator CPU s", format!("{cpu:.1}"), "");
    fact("API servers' CPU s, with their stores", format!("{servers:.1}"), "");
    let (now, most) = memory_mb(operator)?;
    fact("operator memory MB", format!("{now:.0}"), &format!("{most:.0} at most"));
    let bytes = serde_json::to_vec(&table.spec)?.len();
    fact("the table, bytes", bytes, &format!("{spans} spans"));
    Ok(())
}

/// A status as the operator writes it: that of one of the shop's ranges.
async fn like(scene: &Scene) -> Result<ShardRangeStatus> {
    let api: Api<ShardRange> = Api::namespaced(scene.hub()?.clone(), NAMESPACE);
    api.get("users-0").await?.status.context("users-0 has no status")
}

/// Waits until every range says, of its present generation, that it is served.
async fn all_served(api: &Api<ShardRange>) -> Result<()> {
    let mut events = pin!(
        watcher(api.clone(), watcher::Config::default())
            .default_backoff()
            .applied_objects()
    );
    let mut ready = BTreeSet::new();
    let search = async {
        while let Some(object) = events.try_next().await? {
            let status = object.status.as_ref().filter(|status| is_ready(&status.conditions));
            let current = status.is_some_and(|status| status.observed_generation == object.metadata.generation);
            if current && object.spec.keyspace == KEYSPACE {
                ready.insert(object.name_any());
            }
            if ready.len() == RANGES {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    let found = tokio::time::timeout(LIMIT, search).await;
    found.with_context(|| format!("not all of {RANGES} are served within {LIMIT:?}"))?
}
