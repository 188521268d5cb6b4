//! Many objects at once, until all are in every cluster and the statuses in the hub say so.

use crate::bare::{self, How, object};
use crate::{AT_ONCE, Scene};
use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use multiactive_api::UnitWorkload;
use multiactive_e2e::bench::audit::{Write, summary};
use multiactive_e2e::bench::figures::{fact, ratio};
use multiactive_e2e::bench::usage::{cpu_seconds, memory_mb};
use multiactive_e2e::kube_ext::is_ready;
use multiactive_e2e::region::NAMESPACE;
use serde_json::json;
use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};

/// Objects of a round, to each of the three clusters.
const OBJECTS: usize = 1_000;
const LIMIT: Duration = Duration::from_secs(300);

/// One round of ours.
struct Ours {
    time: Duration,
    operator_cpu: f64,
    servers_cpu: f64,
    hub_writes: Vec<Write>,
    memory: (f64, f64),
}

/// One round of the client without an operator.
struct Bare {
    apply: Duration,
    create: Duration,
    apply_servers_cpu: f64,
}

/// The UnitWorkload at `number` of a batch, with `each` objects.
fn workload(batch: &str, number: usize, each: usize) -> Result<UnitWorkload> {
    let labels = json!({"bench": batch});
    let manifests = (0..each).map(|object_number| object(&format!("{batch}-{number}-{object_number}"), &labels, 'x'));
    let units = ["east-1", "north-1", "south-1"];
    Ok(serde_json::from_value(json!({
        "apiVersion": "multiactive.io/v1alpha1", "kind": "UnitWorkload",
        "metadata": {"name": format!("{batch}-{number}"), "namespace": NAMESPACE, "labels": labels},
        "spec": {"units": units, "manifests": manifests.collect::<Vec<_>>()},
    }))?)
}

/// Measures `rounds` rounds, prints them, and leaves the objects in place; how many there are in each cluster.
pub async fn measure(scene: &Scene, rounds: usize) -> Result<usize> {
    // Connections, caches and stores are as warm for the one as for the other.
    ours(scene, "warm", 5, 20).await?;
    bare_round(scene, "warm", 200).await?;
    let (mut all, mut bares) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        bares.push(bare_round(scene, &round.to_string(), OBJECTS).await?);
        all.push(ours(scene, &format!("many-{round}"), 50, 20).await?);
    }
    let single = ours(scene, "single", OBJECTS, 1).await?;

    let by = |value: fn(&Bare) -> Duration| median(bares.iter().map(|bare| value(bare).as_secs_f64()).collect());
    let (apply, create) = (by(|bare| bare.apply), by(|bare| bare.create));
    println!(
        "\n{OBJECTS} ConfigMaps of 1 kB to 3 clusters, at most {AT_ONCE} requests at a time to each cluster; median of {rounds} \
         rounds.\nOurs: from the creation of the UnitWorkloads in the hub, {AT_ONCE} at a time, until all statuses are \
         Ready.\nWithout an operator: a client writes the same {} objects to the three clusters.",
        3 * OBJECTS
    );
    fact("without an operator, server-side apply, s", format!("{apply:.2}"), "");
    fact("without an operator, create, s", format!("{create:.2}"), "");
    show(&all, apply, create, "50 UnitWorkloads of 20 objects");
    show(&[single], apply, create, "1,000 UnitWorkloads of 1 object (one round)");
    let bare_cpu = median(bares.iter().map(|bare| bare.apply_servers_cpu).collect());
    fact(
        "API servers' CPU s, server-side apply alone",
        format!("{bare_cpu:.1}"),
        "",
    );
    Ok(OBJECTS * (rounds + 1) + 100)
}

fn show(rounds: &[Ours], apply: f64, create: f64, what: &str) {
    let of = |value: fn(&Ours) -> f64| median(rounds.iter().map(value).collect());
    let time = of(|round| round.time.as_secs_f64());
    println!("  {what}");
    fact("  time, s", format!("{time:.2}"), "");
    fact(
        "  ratio to server-side apply",
        ratio(Some(time), Some(apply)),
        "target ≤ 4",
    );
    fact("  ratio to create", ratio(Some(time), Some(create)), "");
    let writes = of(|round| round.hub_writes.len() as f64) / OBJECTS as f64;
    fact(
        "  hub writes for one object",
        format!("{writes:.2}"),
        "target ≤ 3; the user's own included",
    );
    if let Some(last) = rounds.last() {
        println!("    {}", summary(&last.hub_writes));
    }
    fact("  operator CPU s", format!("{:.1}", of(|round| round.operator_cpu)), "");
    fact(
        "  API servers' CPU s, with their stores",
        format!("{:.1}", of(|round| round.servers_cpu)),
        "",
    );
    let first = rounds.first().map(|round| round.memory);
    if let Some((now, most)) = first {
        fact(
            "  operator memory MB",
            format!("{now:.0}"),
            &format!("target < 100; {most:.0} at most"),
        );
    }
}

async fn bare_round(scene: &Scene, name: &str, count: usize) -> Result<Bare> {
    let (apply, create) = (format!("bare-apply-{name}"), format!("bare-create-{name}"));
    bare::namespace(scene, &apply).await?;
    bare::namespace(scene, &create).await?;
    let before = scene.servers()?;
    let apply = bare::write(scene, &apply, count, How::Apply).await?;
    let apply_servers_cpu = scene.servers()? - before;
    let create = bare::write(scene, &create, count, How::Create).await?;
    Ok(Bare {
        apply,
        create,
        apply_servers_cpu,
    })
}

async fn ours(scene: &Scene, batch: &str, workloads: usize, each: usize) -> Result<Ours> {
    let hub = scene.hub()?;
    let api: Api<UnitWorkload> = Api::namespaced(hub.clone(), NAMESPACE);
    let (operator, hub_name) = (scene.operator()?, &scene.regions()[0].name);
    let made = (0..workloads).map(|number| workload(batch, number, each));
    let made: Vec<UnitWorkload> = made.collect::<Result<_>>()?;
    let (cpu, servers, mark) = (cpu_seconds(operator)?, scene.servers()?, scene.audit()?.mark(hub_name)?);
    let began = Instant::now();
    let params = PostParams::default();
    let creations = futures::stream::iter(&made).map(|one| api.create(&params, one));
    let creations = creations
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| std::future::ready(Ok(())));
    let created = async { creations.await.context("creating UnitWorkloads") };
    let time = async {
        all_ready(&api, batch, workloads).await?;
        Ok(began.elapsed())
    };
    let ((), time) = tokio::try_join!(created, time)?;
    let (operator_cpu, servers_cpu) = (cpu_seconds(operator)? - cpu, scene.servers()? - servers);
    let mut hub_writes = scene.audit()?.since(hub_name, mark)?;
    // The hub is a member, too: what it gets as one is no cost of the hub.
    hub_writes.retain(|write| write.namespace == NAMESPACE && write.resource != "configmaps");
    for (region, client) in scene.regions().iter().zip(&scene.clients) {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let there = api
            .list_metadata(&ListParams::default().labels(&format!("bench={batch}")))
            .await?;
        ensure!(
            there.items.len() == workloads * each,
            "{}: {} objects",
            region.name,
            there.items.len()
        );
    }
    Ok(Ours {
        time,
        operator_cpu,
        servers_cpu,
        hub_writes,
        memory: memory_mb(operator)?,
    })
}

/// Waits until every UnitWorkload of a batch says, of its present generation, that it is Ready.
async fn all_ready(api: &Api<UnitWorkload>, batch: &str, count: usize) -> Result<()> {
    let config = watcher::Config::default().labels(&format!("bench={batch}"));
    let mut events = pin!(watcher(api.clone(), config).default_backoff().applied_objects());
    let mut ready = BTreeSet::new();
    let search = async {
        while let Some(object) = events.try_next().await? {
            let status = object.status.as_ref().filter(|status| is_ready(&status.conditions));
            let current = status.is_some_and(|status| status.observed_generation == object.metadata.generation);
            if current {
                ready.insert(object.name_any());
            }
            if ready.len() == count {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    let found = tokio::time::timeout(LIMIT, search).await;
    found.with_context(|| format!("{batch}: not all of {count} are Ready within {LIMIT:?}"))?
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
