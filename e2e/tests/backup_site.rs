//! Two cities that back each other up, and a site that stands by: each city writes a store and reads both, the backup site serves
//! nothing. A city that is lost is replaced by the other one; once both are, by the backup site; and both come home. Hot standby
//! and mutual backup are parts of it.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use multiactive_api::{DataStore, ReplicationLink, Verification};
use multiactive_e2e::catalog::{CATALOG, Customers, PRICES, Seen};
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::lost::{fail_over, listed, stops_within_its_lease, until_unit};
use multiactive_e2e::region::{NAMESPACE, Region};
use multiactive_e2e::stage::{LIMIT, Options, Shop, Stage};
use multiactive_e2e::verification::verified;
use multiactive_e2e::writer::{answers, flawless_where_read, items};
use serde_json::json;

const STORES: [&str; 2] = [CATALOG, PRICES];

/// How late the readers are is told, of links from who writes; who stands by writes nothing by which that could be measured.
async fn lags_are_measured(stage: &Stage) -> Result<()> {
    let links: Api<ReplicationLink> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    for link in [
        "catalog-north-1-east-1",
        "catalog-north-1-south-1",
        "prices-south-1-east-1",
    ] {
        let lag = wait_for(&links, link, LIMIT, |link| link.status.as_ref()?.lag.clone()).await;
        println!(
            "{link}: at most {} late",
            lag.with_context(|| format!("the lag of {link}"))?
        );
    }
    let idle = links.get("catalog-east-1-north-1").await?;
    ensure!(
        idle.status.and_then(|status| status.lag).is_none(),
        "unknown is no number"
    );
    Ok(())
}

/// Waits until each store is written where it should be.
async fn written_by(stage: &Stage, catalog: &str, prices: &str) -> Result<()> {
    for (store, unit, home) in [(CATALOG, catalog, "north-1"), (PRICES, prices, "south-1")] {
        let is = |writer: &multiactive_api::WriterStatus| {
            writer.unit.as_deref() == Some(unit) && writer.state == "Serving" && writer.away == (unit != home)
        };
        // Whether the store is Ready is another matter: a member that is lost keeps it from that.
        let stores: Api<DataStore> = Api::namespaced(stage.hub.clone(), NAMESPACE);
        let found = wait_for(&stores, store, LIMIT, |store| {
            store.status.as_ref()?.writer.as_ref().filter(|w| is(w)).map(drop)
        });
        found.await.with_context(|| format!("{store} is written by {unit}"))?;
    }
    Ok(())
}

/// Those of both stores, who go through these regions.
async fn customers(stage: &Stage, regions: &[&str], of: &str) -> Result<Vec<Customers>> {
    let regions: Vec<Region> = regions
        .iter()
        .map(|name| stage.region(name).cloned())
        .collect::<Result<_>>()?;
    let all = STORES.map(|store| Customers::start(&regions, store, &items(of)));
    for customers in &all {
        customers.more(30).await;
    }
    Ok(all.into())
}

async fn stopped(all: Vec<Customers>) -> Vec<Seen> {
    futures::future::join_all(all.into_iter().map(Customers::stop)).await
}

/// The city of `unit` is lost: `heir` writes what it wrote. What `heir` wrote before, it went on writing without an error.
async fn is_lost(stage: &Stage, region: &str, through: &[&str], store: &str, heir: &str) -> Result<()> {
    let unit = format!("{region}-1");
    let all = customers(stage, through, region).await?;
    let killed = Timestamp::now();
    stage.world.kill(region).await?;
    let status = fail_over(&stage.hub, &format!("lost-{region}"), &unit, "15s", LIMIT).await?;
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{status:?}");
    for customers in &all {
        customers.more(30).await;
    }
    for (seen, of) in stopped(all).await.iter().zip(STORES) {
        // Who stands by answers nothing by itself: it sends reads on to the writer, which is away for a moment.
        let is_lost = of == store || seen.first.contains_key(&unit);
        let mut failed = seen
            .failed_reads
            .iter()
            .filter(|(region, _)| !is_lost || region != "east");
        ensure!(failed.next().is_none(), "{of}: {:?}", seen.failed_reads);
        if is_lost {
            let wrote = seen
                .first
                .get(heir)
                .with_context(|| format!("{heir} wrote nothing of {of}"))?;
            let after = wrote.duration_since(killed).as_secs_f64();
            println!(
                "{of}: {heir} wrote {after:.1} s after the kill of {region}, {} changes failed",
                seen.failed_changes.len()
            );
        } else {
            ensure!(
                seen.failed_changes.is_empty(),
                "{of}: {:?}",
                seen.failed_changes.first()
            );
        }
    }
    Ok(())
}

/// It is back, and follows who writes now.
async fn is_back(stage: &Stage, region: &str) -> Result<()> {
    let unit = format!("{region}-1");
    stage.world.revive(region).await?;
    stage.until_member(region, true).await?;
    until_unit(&stage.hub, &unit, LIMIT, |ready| ready.reason == "Quarantined").await?;
    let needed = listed(&stage.hub, &format!("lost-{region}"), LIMIT).await?.needed;
    stage.install.as_printed(stage.install.hub()?, &needed.command).await?;
    until_unit(&stage.hub, &unit, LIMIT, |ready| ready.status == "True").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_cities_back_each_other_up_and_a_third_stands_by() -> Result<()> {
    let stage = Stage::up_with(Options {
        shop: Shop::BackupSite,
        ..Options::default()
    })
    .await?;
    written_by(&stage, "north-1", "south-1").await?;
    for unit in ["north-1", "south-1"] {
        stops_within_its_lease(&stage.hub, unit, LIMIT).await?;
    }
    let everywhere = ["east", "north", "south"];
    let first = stopped(customers(&stage, &everywhere, "first").await?).await;
    for (seen, writer) in first.iter().zip(["north-1", "south-1"]) {
        let answered = [("east", writer), ("north", "north-1"), ("south", "south-1")];
        flawless_where_read(&stage, seen, &items("first"), &answered)?;
    }

    lags_are_measured(&stage).await?;
    is_lost(&stage, "north", &["east", "south"], CATALOG, "south-1").await?;
    written_by(&stage, "south-1", "south-1").await?;
    is_lost(&stage, "south", &["east"], PRICES, "east-1").await?;
    written_by(&stage, "east-1", "east-1").await?;
    for store in STORES {
        answers(&stage, "east", "east-1", store, "first-0").await?;
    }

    is_back(&stage, "north").await?;
    is_back(&stage, "south").await?;
    for store in STORES {
        let status = verified(
            &stage.hub,
            &format!("{store}-rejoined"),
            json!({"stores": [store]}),
            LIMIT,
        )
        .await?;
        ensure!(status.reason.as_deref() == Some("Equal"), "{status:?}");
    }
    let all = customers(&stage, &everywhere, "home").await?;
    for (store, home) in [(CATALOG, "north-1"), (PRICES, "south-1")] {
        let select = json!({"type": "DataStore", "dataStore": store});
        stage.moved(&format!("{store}-home"), home, select, "Full").await?;
    }
    written_by(&stage, "north-1", "south-1").await?;
    for customers in &all {
        customers.more(30).await;
    }
    for seen in stopped(all).await {
        ensure!(seen.failed_changes.is_empty(), "{:?}", seen.failed_changes.first());
        ensure!(seen.failed_reads.is_empty(), "{:?}", seen.failed_reads.first());
        seen.in_order(&items("home"))?;
    }
    for (store, home) in [(CATALOG, "north-1"), (PRICES, "south-1")] {
        answers(&stage, "east", home, store, "first-0").await?;
    }
    compares_by_schedule(&stage).await
}

/// With the next minute a Verification of the catalog is made, and the store says which and when the next is due.
async fn compares_by_schedule(stage: &Stage) -> Result<()> {
    let (stores, verifications): (Api<DataStore>, Api<Verification>) = (
        Api::namespaced(stage.hub.clone(), NAMESPACE),
        Api::namespaced(stage.hub.clone(), NAMESPACE),
    );
    let asked = Patch::Merge(
        json!({"spec": {"verification": {"schedule": "* * * * *", "timeZone": "Asia/Shanghai", "keep": 1}}}),
    );
    stores.patch(CATALOG, &PatchParams::default(), &asked).await?;
    let made = wait_for(&stores, CATALOG, LIMIT, |store| {
        let shown = store.status.as_ref()?.verification.clone()?;
        shown.next.and(shown.last)
    });
    let made = made.await.context("a Verification by the schedule")?;
    let ended = wait_for(&verifications, &made, LIMIT, |object| {
        let status = object.status.clone()?;
        status.outcome.is_some().then_some(status)
    });
    let status = ended.await?;
    println!(
        "{made}: {:?} {:?}, {:?} rows",
        status.outcome, status.reason, status.rows
    );
    ensure!(
        status.reason.as_deref() == Some("Equal") && status.rows > Some(0),
        "{status:?}"
    );
    Ok(())
}
