//! One range changes its owner by a Promotion: how long from the commit, the compare-and-swap that makes the target the
//! owner, until every router routes by it. In turns with it, a client without an operator writes a table of the same size
//! to the three clusters and watches it.

use crate::bare::Copies;
use crate::many::{name, slots};
use crate::{KEYSPACE, RANGES, SLOTS, Scene};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use jiff::Timestamp;
use kube::Api;
use multiactive_api::{PromotionStatus, ShardRange};
use multiactive_core::hash::Function;
use multiactive_e2e::bench::figures::{Sample, fact, ratio};
use multiactive_e2e::bench::usage::{cpu_seconds, memory_mb};
use multiactive_e2e::http::Http;
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::promotion::{create, ended};
use multiactive_e2e::region::NAMESPACE;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval};

const LIMIT: Duration = Duration::from_secs(120);
/// How often a router is asked.
const ASKED_EVERY: Duration = Duration::from_millis(2);

/// When what happened to one change, from its commit.
struct Changed {
    routers: Duration,
    status: Duration,
    range: Duration,
    whole: Duration,
}

/// Measures changes and prints them.
pub async fn measure(scene: &Scene, changes: usize) -> Result<()> {
    let mut spec = scene.table().await?.spec;
    let bytes = serde_json::to_vec(&spec)?.len();
    let mut copies = Copies::create(scene, &spec).await?;
    let operator = scene.operator()?;
    let (cpu, servers, mut alone) = (cpu_seconds(operator)?, scene.servers()?, Sample::new());
    let (mut all, mut servers_alone, mut cpu_alone) = (Vec::new(), 0.0, 0.0);
    for number in 0..changes {
        all.push(change(scene, number).await?);
        spec.epoch += 1;
        let (before, before_cpu) = (scene.servers()?, cpu_seconds(operator)?);
        alone.add(copies.change(&spec).await?);
        servers_alone += scene.servers()? - before;
        cpu_alone += cpu_seconds(operator)? - before_cpu;
    }
    let each = |sum: f64| format!("{:.0}", sum * 1000.0 / changes as f64);
    let (cpu, servers) = (
        cpu_seconds(operator)? - cpu - cpu_alone,
        scene.servers()? - servers - servers_alone,
    );
    println!(
        "\nOne range of {RANGES} moved to another unit by a Promotion ({changes} times, {bytes} bytes of table), in turns with \
         a client\nwithout an operator that writes a table of the same size to the hub, then to the two others, and watches it."
    );
    let sample = |time: fn(&Changed) -> Duration| all.iter().map(time).collect::<Sample>();
    let routers = sample(|changed| changed.routers);
    Sample::head("from the commit");
    routers.line("to the last of three routers", "target p99 < 1,000");
    alone.line("without an operator: to the last of three watches", "");
    println!(
        "  ratio {:>49} {:>8}",
        ratio(routers.quantile(0.5), alone.quantile(0.5)),
        ratio(routers.quantile(0.99), alone.quantile(0.99)),
    );
    sample(|changed| changed.status).line("to the end in the Promotion's status", "");
    sample(|changed| changed.range).line("to the ShardRange's status", "");
    sample(|changed| changed.whole).line("from the Promotion's creation to its end", "");
    fact("operator CPU ms for one Promotion", each(cpu), "");
    fact("API servers' CPU ms for one Promotion", each(servers), "");
    fact(
        "API servers' CPU ms for one table alone",
        each(servers_alone),
        "three writes",
    );
    let (now, most) = memory_mb(operator)?;
    fact("operator memory MB", format!("{now:.0}"), &format!("{most:.0} at most"));
    Ok(())
}

async fn change(scene: &Scene, number: usize) -> Result<Changed> {
    let units = scene.units();
    // Spread over the table, and never the same one twice.
    let range = number * 163 % RANGES;
    let target = &units[(range + 1) % units.len()];
    let (hub, operation, range_name) = (&scene.stage.hub, format!("change-{number}"), name(range));
    let key = key_of(slots(range).0)?;
    let select = json!({"type": "Ranges", "ranges": [range_name]});
    let created = Timestamp::now();
    create(hub, &operation, target, select, "None").await?;
    let routers = try_join_all(
        scene
            .regions()
            .iter()
            .map(|region| routed(region.router_admin(), &key, target)),
    );
    let status = async {
        let status = ended(hub, &operation, LIMIT).await?;
        Ok((status, Timestamp::now()))
    };
    let ranges: Api<ShardRange> = Api::namespaced(hub.clone(), NAMESPACE);
    let shown = async {
        let moved = |range: &ShardRange| {
            let status = range.status.as_ref()?;
            (status.active.as_ref() == Some(target) && status.state.as_deref() == Some("Serving")).then_some(())
        };
        wait_for(&ranges, &range_name, LIMIT, moved).await?;
        anyhow::Ok(Timestamp::now())
    };
    let (routers, (status, end), range) = tokio::try_join!(routers, status, shown)?;
    ensure!(
        status.outcome.as_deref() == Some("Succeeded"),
        "{operation}: {status:?}"
    );
    let committed = committed(&status).with_context(|| format!("{operation} has no commit: {status:?}"))?;
    let since = |at: Timestamp| Duration::try_from(at.duration_since(committed)).unwrap_or_default();
    Ok(Changed {
        routers: since(routers.into_iter().max().context("no router")?),
        status: since(end),
        range: since(range),
        whole: Duration::try_from(end.duration_since(created)).unwrap_or_default(),
    })
}

/// When the operator was about to write that the target is the owner.
fn committed(status: &PromotionStatus) -> Option<Timestamp> {
    let entry = status.history.iter().find(|entry| entry.step == "Commit");
    entry?.at.parse().ok()
}

/// A key of a slot.
fn key_of(slot: usize) -> Result<String> {
    let mut keys = (0..).map(|number: u32| format!("place-{number}"));
    let slots = u32::try_from(SLOTS)?;
    let found = keys.find(|key| usize::from(Function::Crc32.slot(key.as_bytes(), slots)) == slot);
    found.context("no key has the slot")
}

/// Asks a router until it says that `target` owns the key's slot; when it did.
async fn routed(router: String, key: &str, target: &str) -> Result<Timestamp> {
    let uri = format!("{router}/route?path=/{KEYSPACE}&header=x-place:{key}&method=GET");
    let (http, began) = (Http::default(), Instant::now());
    let mut tick = interval(ASKED_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let answer = http.call("GET", &uri).await?;
        let said: Value = serde_json::from_slice(answer.body()).with_context(|| format!("{uri}: {answer:?}"))?;
        if said["owner"] == target {
            return Ok(Timestamp::now());
        }
        ensure!(
            began.elapsed() < LIMIT,
            "{router} does not route {key} to {target}: {said}"
        );
    }
}
