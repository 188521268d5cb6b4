//! The shop on MariaDB: ranges move under load without an error, and a region that is lost is taken over, comes back, says what
//! only it holds, and gets its slots back.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use multiactive_api::convert::parse_duration;
use multiactive_e2e::lost::{
    Listed, fail_over, failures, first_at, listed, stops_within_its_lease, until_unit, within_bound,
};
use multiactive_e2e::region::{Engine, Region};
use multiactive_e2e::stage::{LIMIT, Options, Stage, acknowledges, examine, orders};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::json;
use std::collections::BTreeSet;

/// What is lost.
const LOST: &str = "south-1";

async fn up() -> Result<Stage> {
    let engine = Engine::MariaDb;
    Stage::up_with(Options {
        engine,
        ..Options::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_and_units_move_under_load_and_nothing_fails_or_is_lost() -> Result<()> {
    let stage = up().await?;
    let load = stage.load(30)?;
    orders(&load, 200).await;
    for (name, target, select, verify) in [
        (
            "range-to-south",
            "south-1",
            json!({"type": "Ranges", "ranges": ["users-1"]}),
            "Full",
        ),
        (
            "slots-to-east",
            "east-1",
            json!({"type": "Slots", "slots": {"keyspace": "users", "slots": "341-400,682-700"}}),
            "None",
        ),
        (
            "empty-east",
            "north-1",
            json!({"type": "Unit", "unit": "east-1"}),
            "Full",
        ),
    ] {
        let status = stage.moved(name, target, select, verify).await?;
        println!("{name}: pause {:?}", status.pause);
        ensure!(status.pause.is_some(), "{name}: the pause is shown: {status:?}");
        orders(&load, 100).await;
    }
    // A client that ignores the routers and writes straight to a database that does not own the user.
    let mut app = Conn::new(stage.region("east")?.mariadb().db_name(Some("shop"))).await?;
    let insert = "INSERT INTO orders (id, user_id, seq, prev, unit) VALUES ('1-x', 'x', 1, 0, 'east-1')";
    let refused = app.query_drop(insert).await.unwrap_err().to_string();
    ensure!(refused.contains("is not open for writes in unit east-1"), "{refused}");
    stage.judge(load).await?;
    Ok(())
}

/// What it holds alone is listed, with every order that was acknowledged and is lost; a person accepts that, and it is one like
/// any other again: its rows are those of the others, and it gets its slots back.
async fn comes_home(stage: &Stage, lost: &[String], users: &[String]) -> Result<()> {
    let Listed { report, needed, found } = listed(&stage.hub, "lost-south", LIMIT).await?;
    println!("it is back: {report:?}, {found}");
    let rows = usize::try_from(report.rows.context("how much is known")?)?;
    ensure!(rows >= lost.len(), "{rows} rows differ, {} orders are lost", lost.len());
    let mut client = Conn::new(stage.region("south")?.mariadb()).await?;
    let sql = "SELECT JSON_VALUE(name, '$.id') FROM multiactive.divergence WHERE tab = 'orders' AND mine IS NOT NULL";
    let listed: BTreeSet<String> = client.query::<String, _>(sql).await?.into_iter().collect();
    let unlisted: Vec<_> = lost.iter().filter(|id| !listed.contains(*id)).collect();
    ensure!(unlisted.is_empty(), "lost and not listed: {unlisted:?}");

    let decided = stage.install.as_printed(stage.install.hub()?, &needed.command).await?;
    println!("{}: {decided}", needed.command);
    until_unit(&stage.hub, LOST, LIMIT, |ready| ready.status == "True").await?;
    let load = stage.load_through(&["east", "north", "south"], users)?;
    orders(&load, 50).await;
    stage
        .moved("home", LOST, json!({"type": "Ranges", "ranges": ["users-2"]}), "Full")
        .await?;
    acknowledges(&load, LOST, Timestamp::now()).await?;
    let record = load.stop().await;
    println!("{}", record.summary());
    ensure!(record.failures() == 0, "{} orders failed", record.failures());
    let findings = examine(&stage.world.regions, &stage.table().await?, &record).await?;
    // Whose order was lost has a hole there, which no later order fills.
    let of_these = |order: &&String| users.iter().any(|user| order.contains(&format!("-{user}:")));
    let out_of_order: Vec<_> = findings.out_of_order.iter().filter(of_these).collect();
    let nothing = findings.lost.is_empty() && findings.taken_twice.is_empty() && findings.differing.is_empty();
    ensure!(nothing && out_of_order.is_empty(), "{findings:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_is_killed_taken_over_and_comes_home() -> Result<()> {
    let stage = up().await?;
    stops_within_its_lease(&stage.hub, LOST, LIMIT).await?;
    let users = shop::load::users(24, "lost");
    let of_lost = stage.users_of(&users, LOST).await?;
    // Of slots of the lost unit too, with orders of their own.
    let later = stage.users_of(&shop::load::users(24, "back"), LOST).await?;
    let load = stage.load_through(&["east", "north"], &users)?;
    orders(&load, 200).await;

    let killed = Timestamp::now();
    stage.world.kill("south").await?;
    let status = fail_over(&stage.hub, "lost-south", LOST, "15s", LIMIT).await?;
    println!(
        "{:?} to {:?}: pause {:?}, {:?}",
        status.outcome, status.to, status.pause, status.loss
    );
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{status:?}");
    let target = status.to.clone().context("a target is told")?;
    let loss = status.loss.context("a loss is told")?;
    let bound = parse_duration("bound", &loss.bound.context("a bound is told")?)?;
    acknowledges(&load, &target, Timestamp::now()).await?;
    orders(&load, 100).await;
    let record = load.stop().await;
    println!("{}", record.summary());
    let first = first_at(&record, &of_lost, &target);
    let first = first.context("an order of the lost unit's users at the target")?;
    println!("served elsewhere {:#} after the kill", first.duration_since(killed));
    let (_, strangers) = failures(&record, &of_lost);
    ensure!(strangers.is_empty(), "orders of other units failed: {strangers:?}");
    let survivors: Vec<Region> = ["east", "north"]
        .iter()
        .map(|name| stage.region(name).cloned())
        .collect::<Result<_>>()?;
    let findings = examine(&survivors, &stage.table().await?, &record).await?;
    let (taken_twice, differing) = (&findings.taken_twice, &findings.differing);
    ensure!(taken_twice.is_empty() && differing.is_empty(), "{findings:?}");
    println!(
        "{} orders acknowledged, {} of them lost, the bound is {bound:#}",
        findings.acknowledged,
        findings.lost.len()
    );
    within_bound(&findings, &record, LOST, killed, bound)?;

    let since = Timestamp::now();
    stage.world.revive("south").await?;
    stage.until_member("south", true).await?;
    until_unit(&stage.hub, LOST, LIMIT, |ready| ready.reason == "Quarantined").await?;
    let load = stage.load_through(&["south"], &later)?;
    acknowledges(&load, &target, since).await?;
    orders(&load, 50).await;
    let record = load.stop().await;
    let mut taken = record.acknowledged();
    let elsewhere = taken.find(|order| order.unit != target);
    ensure!(elsewhere.is_none(), "{elsewhere:?}, {}", record.summary());
    comes_home(&stage, &findings.lost, &later).await
}
