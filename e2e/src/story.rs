//! What every engine of databases must withstand, told once: slots move under load, and a region is lost and comes home.

use crate::databases::listed_orders;
use crate::lost::{Listed, fail_over, failures, first_at, listed, stops_within_its_lease, until_unit, within_bound};
use crate::region::{NAMESPACE, Region, SYSTEM};
use crate::stage::{LIMIT, Stage, acknowledges, examine, orders};
use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use multiactive_api::FailoverStatus;
use multiactive_api::convert::parse_duration;
use serde_json::json;
use shop::check::Findings;
use shop::load::{Load, Record};

/// A range, some slots and a unit move, while orders come in; the pause of each is shown.
///
/// # Errors
///
/// Where one does not end as it should.
pub async fn everything_moves(stage: &Stage, load: &Load, verify_of_unit: &str) -> Result<()> {
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
            verify_of_unit,
        ),
    ] {
        let status = stage.moved(name, target, select, verify).await?;
        println!("{name}: pause {:?}", status.pause);
        ensure!(status.pause.is_some(), "{name}: the pause is shown: {status:?}");
        orders(load, 100).await;
    }
    Ok(())
}

/// What is lost.
const LOST: &str = "south-1";

/// Applies a Failover of the lost unit and waits for its end.
async fn failed_over(stage: &Stage) -> Result<FailoverStatus> {
    let ended = fail_over(&stage.hub, "lost-south", LOST, "15s", LIMIT).await;
    if ended.is_err() {
        let leases: Api<Lease> = Api::namespaced(stage.hub.clone(), SYSTEM);
        let lease = leases.get(&format!("{NAMESPACE}.{LOST}")).await?;
        println!("its lease: {}", serde_json::to_string(&lease)?);
    }
    ended
}

/// Only users of the lost unit saw an error, nothing was taken by two units, and what is lost is within the bound.
async fn judge(
    stage: &Stage,
    record: &Record,
    of_lost: &[String],
    killed: Timestamp,
    bound: SignedDuration,
) -> Result<Findings> {
    let (_, strangers) = failures(record, of_lost);
    ensure!(
        strangers.is_empty(),
        "{} orders of other units failed: {:?}",
        strangers.len(),
        strangers.first()
    );
    let survivors: Vec<Region> = ["east", "north"]
        .iter()
        .map(|name| stage.region(name).cloned())
        .collect::<Result<_>>()?;
    let findings = examine(&survivors, &stage.table().await?, record).await?;
    ensure!(findings.taken_twice.is_empty(), "{findings:?}");
    println!(
        "{} orders acknowledged, {} of them lost, the bound is {bound:#}",
        findings.acknowledged,
        findings.lost.len()
    );
    within_bound(&findings, record, LOST, killed, bound)?;
    Ok(findings)
}

/// The region is back: its unit says that it is in quarantine, takes no order, and its router sends all users on.
async fn is_kept_apart(stage: &Stage, users: &[String], owner: &str) -> Result<()> {
    let since = Timestamp::now();
    stage.world.revive("south").await?;
    stage.until_member("south", true).await?;
    until_unit(&stage.hub, LOST, LIMIT, |ready| ready.reason == "Quarantined").await?;
    let load = stage.load_through(&["south"], users)?;
    acknowledges(&load, owner, since).await?;
    orders(&load, 50).await;
    let record = load.stop().await;
    let mut taken = record.acknowledged();
    let elsewhere = taken.find(|order| order.unit != owner);
    ensure!(elsewhere.is_none(), "{elsewhere:?}, {}", record.summary());
    Ok(())
}

/// What it holds alone is listed, with every order that was acknowledged and is lost; a person accepts that by the command that
/// the status prints, and it is one like any other again: its rows are those of the others, and it gets its slots back.
async fn comes_home(stage: &Stage, lost: &[String], users: &[String]) -> Result<()> {
    let Listed { report, needed, found } = listed(&stage.hub, "lost-south", LIMIT).await?;
    println!("it is back: {report:?}, {found}");
    let rows = usize::try_from(report.rows.context("how much is known")?)?;
    ensure!(rows >= lost.len(), "{rows} rows differ, {} orders are lost", lost.len());
    let listed = listed_orders(stage.region("south")?).await?;
    let unlisted: Vec<_> = lost.iter().filter(|id| !listed.contains(*id)).collect();
    ensure!(unlisted.is_empty(), "lost and not listed: {unlisted:?}");

    let decided = stage.install.as_printed(stage.install.hub()?, &needed.command).await?;
    println!("{}: {decided}", needed.command);
    until_unit(&stage.hub, LOST, LIMIT, |ready| ready.status == "True").await?;
    // Home again, as a planned move, while everybody orders.
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

/// A region is lost: all that its unit owned is served elsewhere once its lease is over, what was acknowledged and is lost lies
/// within the bound that was told, the unit that is back is kept apart, and comes home.
///
/// # Errors
///
/// What was not so.
pub async fn a_region_is_lost(stage: &Stage) -> Result<()> {
    stops_within_its_lease(&stage.hub, LOST, LIMIT).await?;
    let users = shop::load::users(24, "lost");
    let of_lost = stage.users_of(&users, LOST).await?;
    // Of slots of the lost unit too, with orders of their own.
    let later = stage.users_of(&shop::load::users(24, "back"), LOST).await?;
    let load = stage.load_through(&["east", "north"], &users)?;
    orders(&load, 200).await;

    let killed = Timestamp::now();
    stage.world.kill("south").await?;
    let status = failed_over(stage).await?;
    println!(
        "{:?} to {:?}: pause {:?}, {:?}",
        status.outcome, status.to, status.pause, status.loss
    );
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{status:?}");
    // Who received most takes over, the first of the range's failover units where both have the same.
    let target = status.to.clone().context("a target is told")?;
    ensure!(["east-1", "north-1"].contains(&target.as_str()), "{status:?}");
    let loss = status.loss.context("a loss is told")?;
    ensure!(loss.fenced_by.as_deref() == Some("Lease"), "{loss:?}");
    let bound = parse_duration("bound", &loss.bound.context("a bound is told")?)?;
    acknowledges(&load, &target, Timestamp::now()).await?;
    orders(&load, 100).await;
    let record = load.stop().await;
    println!("{}", record.summary());
    let first = first_at(&record, &of_lost, &target);
    let first = first.context("an order of the lost unit's users at the target")?;
    println!("served elsewhere {:#} after the kill", first.duration_since(killed));
    let findings = judge(stage, &record, &of_lost, killed, bound).await?;
    // Who was behind has got by now what the new owner had beyond it.
    ensure!(
        findings.differing.is_empty(),
        "{findings:?}, behind: {:?}",
        status.behind
    );

    is_kept_apart(stage, &later, &target).await?;
    comes_home(stage, &findings.lost, &later).await
}
