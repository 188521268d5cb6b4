//! What every engine of a store with a single writer must withstand, told once: the writer moves and nobody notices, a lost one is
//! replaced, comes back, is compared, and takes it home.

use crate::catalog::{CATALOG, Customers, Seen, changed_at, held, read, read_behind, until_writer};
use crate::http::Http;
use crate::kube_ext::wait_for;
use crate::lost::{fail_over, listed, stops_within_its_lease, until_unit};
use crate::region::{Engine, NAMESPACE, Region};
use crate::stage::{LIMIT, Options, Shop, Stage};
use crate::verification::verified;
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube::Api;
use multiactive_api::DataStore;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, interval};

/// A server of this engine is a member of one store, and the catalog is all that the shop has: its writer moves, is lost and comes
/// home, and all read.
///
/// # Errors
///
/// What was not so.
pub async fn one_unit_writes_and_all_read(engine: Engine) -> Result<()> {
    let stage = Stage::up_with(Options {
        engine,
        shop: Shop::Catalog,
        ..Options::default()
    })
    .await?;
    begins(&stage).await?;
    moves(&stage).await?;
    reads_of_ones_own(&stage).await?;
    is_lost(&stage).await
}

/// Items of the catalog.
pub fn items(of: &str) -> Vec<String> {
    (0..6).map(|number| format!("{of}-{number}")).collect()
}

fn by_name(stage: &Stage, names: &[&str]) -> Result<Vec<Region>> {
    names.iter().map(|name| stage.region(name).cloned()).collect()
}

/// Nobody saw an error, every region answered its own reads, and nothing is there twice or missing.
///
/// # Errors
///
/// What was not so.
pub fn flawless(stage: &Stage, seen: &Seen, items: &[String]) -> Result<()> {
    let answered = [("east", "east-1"), ("north", "north-1"), ("south", "south-1")];
    flawless_where_read(stage, seen, items, &answered)
}

/// Nobody saw an error, the reads that came to each of these regions were answered by that unit alone, and nothing is there twice or
/// missing. With MariaDB and MySQL a few may have gone to the writer: a unit whose store is not in hand for a moment sends them on, and on a
/// busy machine that was seen, once.
///
/// # Errors
///
/// What was not so.
pub fn flawless_where_read(stage: &Stage, seen: &Seen, items: &[String], answered: &[(&str, &str)]) -> Result<()> {
    ensure!(seen.failed_changes.is_empty(), "{:?}", seen.failed_changes.first());
    ensure!(seen.failed_reads.is_empty(), "{:?}", seen.failed_reads.first());
    for (region, unit) in answered {
        let here = seen.answered(region, unit);
        let of_region = seen.answered.iter().filter(|((asked, _), _)| asked == region);
        let all: usize = of_region.map(|(_, count)| count).sum();
        let most_elsewhere = match stage.region(region)?.engine {
            Engine::PostgreSql => 0,
            Engine::MariaDb | Engine::MySql => all / 4,
        };
        ensure!(
            here > 0 && all - here <= most_elsewhere,
            "reads went elsewhere: {:?}",
            seen.answered
        );
    }
    seen.in_order(items)
}

/// Waits until reads that come to `region` are answered by `unit`.
///
/// # Errors
///
/// What was not so.
pub async fn answers(stage: &Stage, region: &str, unit: &str, store: &str, sku: &str) -> Result<()> {
    let (http, router) = (Http::default(), stage.region(region)?.router());
    let deadline = Instant::now() + LIMIT;
    let mut tick = interval(Duration::from_millis(50));
    loop {
        let answer = read(&http, &router, store, sku).await;
        if answer.as_ref().is_ok_and(|(_, by)| by == unit) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{region}'s reads of {store} are not answered by {unit}: {answer:?}"
        );
        tick.tick().await;
    }
}

async fn equal(stage: &Stage, name: &str) -> Result<()> {
    let status = verified(&stage.hub, name, json!({"stores": [CATALOG]}), LIMIT).await?;
    ensure!(status.reason.as_deref() == Some("Equal"), "{status:?}");
    ensure!(status.rows > Some(0), "{status:?}");
    Ok(())
}

/// The writer moves under load, twice, and nobody notices.
///
/// # Errors
///
/// What was not so.
pub async fn moves(stage: &Stage) -> Result<()> {
    let items = items("moved");
    let customers = Customers::start(&stage.world.regions, CATALOG, &items);
    customers.more(50).await;
    for target in ["north-1", "south-1", "north-1"] {
        let select = json!({"type": "DataStore", "dataStore": CATALOG});
        let name = format!("catalog-to-{target}-{}", stage.table().await?.epoch.epoch);
        let status = stage.moved(&name, target, select, "Full").await?;
        let steps: Vec<_> = status
            .history
            .iter()
            .map(|entry| format!("{} {}", entry.step, entry.at))
            .collect();
        println!("{name}: pause {:?}, {}", status.pause, steps.join(", "));
        let writer = until_writer(&stage.hub, CATALOG, LIMIT, |writer| {
            writer.unit.as_deref() == Some(target) && writer.state == "Serving"
        });
        ensure!(writer.await?.away, "{target} is not its home");
        customers.more(50).await;
    }
    let seen = customers.stop().await;
    println!("{} changes, reads {:?}", seen.changed.len(), seen.answered);
    flawless(stage, &seen, &items)?;
    equal(stage, "moved").await
}

/// The writer's region is killed; the first that may takes over. Reads elsewhere go on throughout.
///
/// # Errors
///
/// What was not so.
pub async fn is_lost(stage: &Stage) -> Result<()> {
    stops_within_its_lease(&stage.hub, "north-1", LIMIT).await?;
    let items = items("lost");
    let survivors = by_name(stage, &["east", "south"])?;
    let customers = Customers::start(&survivors, CATALOG, &items);
    customers.more(50).await;
    let killed = Timestamp::now();
    stage.world.kill("north").await?;
    let status = fail_over(&stage.hub, "lost-north", "north-1", "15s", LIMIT).await?;
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{status:?}");
    let writer = until_writer_at(stage, "north-1").await?;
    ensure!(["east-1", "south-1"].contains(&writer.as_str()), "{writer}");
    customers.more(50).await;
    let seen = customers.stop().await;
    let wrote = seen.first.get(&writer).context("nobody wrote after the kill")?;
    println!(
        "{} changes, {} failed, {:.1} s after the kill {writer} wrote, reads {:?}",
        seen.changed.len(),
        seen.failed_changes.len(),
        wrote.duration_since(killed).as_secs_f64(),
        seen.answered
    );
    ensure!(seen.failed_reads.is_empty(), "{:?}", seen.failed_reads.first());
    // A change that was lost is made again by who writes now: nothing else is there twice.
    let mut made: BTreeMap<(&str, i64), Vec<&str>> = BTreeMap::new();
    for item in &seen.changed {
        made.entry((&item.sku, item.version)).or_default().push(&item.unit);
    }
    let twice: Vec<_> = made.iter().filter(|(_, units)| units.len() > 1).collect();
    println!("{} of {} changes were lost", twice.len(), seen.changed.len());
    for (item, units) in twice {
        ensure!(
            **units == ["north-1", writer.as_str()],
            "{item:?} was made by {units:?}"
        );
    }
    let target = writer.trim_end_matches("-1").to_owned();
    for item in held(stage.region(&target)?, CATALOG, &items).await? {
        let newest = seen
            .changed
            .iter()
            .filter(|known| known.sku == item.sku)
            .map(|known| known.version);
        let newest = newest.max().context("a change")?;
        ensure!(
            item.version >= newest,
            "{item:?} is older than what {writer} acknowledged: {newest}"
        );
    }
    is_back(stage, &writer, &items[0]).await
}

/// Who writes once the lost unit does not any more.
async fn until_writer_at(stage: &Stage, lost: &str) -> Result<String> {
    let stores: Api<DataStore> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let found = wait_for(&stores, CATALOG, LIMIT, |store| {
        let writer = store.status.as_ref()?.writer.clone()?;
        let unit = writer.unit.filter(|unit| unit != lost)?;
        (writer.state == "Serving").then_some(unit)
    });
    found.await.context("another writer")
}

/// The lost unit answers no read by itself before it has rejoined; then it does, with the writer's rows.
async fn is_back(stage: &Stage, writer: &str, sku: &str) -> Result<()> {
    stage.world.revive("north").await?;
    stage.until_member("north", true).await?;
    until_unit(&stage.hub, "north-1", LIMIT, |ready| ready.reason == "Quarantined").await?;
    answers(stage, "north", writer, CATALOG, sku).await?;
    let needed = listed(&stage.hub, "lost-north", LIMIT).await?.needed;
    stage.install.as_printed(stage.install.hub()?, &needed.command).await?;
    until_unit(&stage.hub, "north-1", LIMIT, |ready| ready.status == "True").await?;
    answers(stage, "north", "north-1", CATALOG, sku).await?;
    equal(stage, "rejoined").await?;
    // Home again.
    let select = json!({"type": "DataStore", "dataStore": CATALOG});
    let items = items("home");
    let customers = Customers::start(&stage.world.regions, CATALOG, &items);
    customers.more(30).await;
    stage.moved("catalog-home", "north-1", select, "None").await?;
    customers.more(30).await;
    flawless(stage, &customers.stop().await, &items)
}

/// Who sends the place of his write reads it everywhere, at once.
///
/// # Errors
///
/// What was not so.
pub async fn reads_of_ones_own(stage: &Stage) -> Result<()> {
    let http = Http::default();
    let mut local = 0;
    for round in 0..30 {
        for write_at in ["east", "north", "south"] {
            let (item, place) = changed_at(&http, &stage.region(write_at)?.router(), CATALOG, "own").await?;
            for region in ["east", "north", "south"] {
                let router = stage.region(region)?.router();
                let (seen, by) = read_behind(&http, &router, CATALOG, "own", Some(&place)).await?;
                let version = seen.context("the item")?.version;
                ensure!(
                    version >= item.version,
                    "round {round}: {version} of {} at {region}, by {by}",
                    item.version
                );
                local += usize::from(by == format!("{region}-1"));
            }
        }
    }
    println!("{local} of 270 reads behind a write were answered where they came in");
    ensure!(local > 135, "most reads go to the writer: {local}");
    Ok(())
}

/// A catalog that was just made: its writer is at home, and all see it as they should.
///
/// # Errors
///
/// What was not so.
pub async fn begins(stage: &Stage) -> Result<()> {
    let writer = until_writer(&stage.hub, CATALOG, LIMIT, |writer| writer.state == "Serving").await?;
    ensure!(writer.unit.as_deref() == Some("east-1") && !writer.away, "{writer:?}");
    let items = items("first");
    let customers = Customers::start(&stage.world.regions, CATALOG, &items);
    customers.more(60).await;
    let seen = customers.stop().await;
    ensure!(
        seen.changed.iter().all(|item| item.unit == "east-1"),
        "{:?}",
        seen.changed
    );
    flawless(stage, &seen, &items)
}
