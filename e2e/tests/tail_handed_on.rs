//! A person names who takes over, and another survivor has received more of the lost unit: it hands that on, though the target's
//! agent dies before and behind that, and of what any survivor has nothing is lost.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use multiactive_e2e::lost::{MayBeLost, begin, how_it_ended, stops_within_its_lease};
use multiactive_e2e::region::{NAMESPACE, Region};
use multiactive_e2e::session::Session;
use multiactive_e2e::stage::{LIMIT, Stage, acknowledges, orders};
use multiactive_e2e::stops::serves;
use multiactive_e2e::story::{Lost, judge, served};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// The process that sends `from`'s log to `to` stands still: who receives it notices nothing. Its id.
async fn silenced(from: &Region, to: &Region) -> Result<Pid> {
    let link = format!(
        "SELECT s.subname::text FROM pg_subscription s JOIN multiactive.link l ON l.name = s.subname::text
         WHERE l.from_unit = '{}'",
        from.unit()
    );
    let link = Session::of(to).await?.rows(&link).await?;
    let name = link.into_iter().flatten().next().context("a link")?;
    let sender = format!("SELECT active_pid::text FROM pg_replication_slots WHERE slot_name = '{name}'");
    let sender = Session::of(from).await?.rows(&sender).await?;
    let sender = sender.into_iter().flatten().next().context("a sender")?;
    let pid = Pid::from_raw(sender.parse()?);
    kill(pid, Signal::SIGSTOP)?;
    Ok(pid)
}

/// Whoever reads this file dies at each of these places once, one after the other.
async fn dies_at(file: PathBuf, places: [&'static str; 2]) -> Result<()> {
    for place in places {
        std::fs::write(&file, place)?;
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let struck = async {
            while file.exists() {
                tick.tick().await;
            }
        };
        tokio::time::timeout(LIMIT, struck)
            .await
            .with_context(|| format!("nobody came to {place}"))?;
        println!("died at {place}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn whoever_is_named_takes_over_what_another_survivor_has_received_more() -> Result<()> {
    let stage = Stage::up().await?;
    let lost = Lost::SOUTH;
    stops_within_its_lease(&stage.hub, lost.unit, LIMIT).await?;
    let users = shop::load::users(24, "tail");
    let of_lost = stage.users_of(&users, lost.unit).await?;
    let load = stage.load_through(&["east", "north"], &users)?;
    orders(&load, 200).await;

    let sender = silenced(stage.region(lost.region)?, stage.region("north")?).await?;
    let silent = Timestamp::now();
    acknowledges(&load, lost.unit, silent).await?;
    orders(&load, 100).await;
    let killed = Timestamp::now();
    stage.world.kill(lost.region).await?;
    // It stands still for good otherwise, with the memory of a server that is gone.
    kill(sender, Signal::SIGKILL)?;

    let deaths = tokio::spawn(dies_at(
        stage.install.failpoint("agent", "north"),
        ["tail-before", "tail-after"],
    ));
    let spec = json!({"lostUnit": lost.unit, "targetUnit": "north-1", "maxDataLoss": "15s"});
    begin(&stage.hub, lost.failover, spec).await?;
    let status = how_it_ended(&stage.hub, lost.failover, LIMIT).await?;
    deaths.await??;
    let bound = served(&status, "Lease")?.bound;
    ensure!(status.to.as_deref() == Some("north-1"), "{status:?}");
    ensure!(status.behind.is_empty(), "both have the same: {status:?}");
    let first = serves(&load, &of_lost, "north-1").await?;
    orders(&load, 100).await;
    let record = load.stop().await;
    println!("{}", record.summary());
    println!("served elsewhere {:#} after the kill", first.duration_since(killed));
    let (unit, until) = (lost.unit, killed);
    let may_be = [MayBeLost { unit, until, bound }];
    let findings = judge(&stage, &["east", "north"], &record, &of_lost, &may_be).await?;
    ensure!(findings.differing.is_empty(), "{findings:?}");
    // North heard nothing of these, and has them.
    let only_east = record.acknowledged().filter(|order| order.unit == lost.unit);
    let (taken, lost) = (only_east.count(), findings.lost.len());
    println!("{taken} orders taken by {unit}, {lost} lost");
    let since_silent = record
        .attempts
        .iter()
        .filter(|attempt| attempt.order.as_ref().is_some_and(|order| order.unit == unit))
        .filter(|attempt| attempt.began > silent);
    let since_silent = since_silent.count();
    println!("{since_silent} of them since north heard nothing any more");
    ensure!(since_silent > 10, "the load was too small: {since_silent}");
    ensure!(lost < since_silent / 2, "{lost} of {since_silent} are lost");
    let events = ["get", "events", "--namespace", NAMESPACE, "--output", "wide"];
    let events = stage.install.kubectl(stage.install.hub()?, &events).await?;
    ensure!(
        events.contains("north-1 takes over the rows that east-1 has received more"),
        "{events}"
    );
    Ok(())
}
