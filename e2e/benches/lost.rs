//! How long customers of a lost unit wait until they are served elsewhere, what is lost, and for how long a unit goes on that is
//! cut off: a region is killed under load, replaced, comes back and goes home, again and again; then one is cut off from the hub.
//! All against the unit's write lease, the time that must pass in any case.
//!
//! `cargo bench --workspace --bench lost -- [rounds=20] [engine=MariaDB] [logs=FOLDER]`, after the programs that pods run:
//! see `pause`.

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use multiactive_e2e::bench::figures::{Sample, fact, ratio};
use multiactive_e2e::bench::{Arguments, run};
use multiactive_e2e::lost::{MayBeLost, fail_over, failures, stops_within_its_lease};
use multiactive_e2e::region::Engine;
use multiactive_e2e::stage::{LIMIT, Options, Stage, acknowledges, orders};
use multiactive_e2e::stops::{last_acknowledged, refuses, serves};
use multiactive_e2e::story::{Lost, Served, goes_home, judge, rejoins, served};
use multiactive_e2e::wire::Wire;
use std::process::ExitCode;
use std::time::Duration;

const ROUNDS: usize = 20;
/// A third of them are the lost unit's.
const USERS: u32 = 24;
/// The write lease of a unit that is lost on purpose: [`stops_within_its_lease`].
const LEASE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    run(measure)
}

/// A region was lost once.
struct Replaced {
    /// From the kill to the first order of its customers that is acknowledged elsewhere.
    served: Duration,
    /// From the kill to the end of the Failover.
    ended: Duration,
    /// What it says may be lost: the time of the lost unit's writing.
    bound: Duration,
    acknowledged: usize,
    lost: usize,
    /// Requests of its customers that failed, and of all others.
    failed: (usize, usize),
}

async fn measure(arguments: Arguments) -> Result<()> {
    let rounds = arguments.rounds.unwrap_or(ROUNDS);
    let options = Options {
        logs: arguments.filter(),
        fsync: true,
        engine: arguments.engine,
        ..Options::default()
    };
    let stage = Stage::up_with(options).await?;
    stops_within_its_lease(&stage.hub, Lost::SOUTH.unit, LIMIT).await?;
    let mut replaced = Vec::new();
    for round in 0..rounds {
        replaced.push(is_replaced(&stage, round).await?);
    }
    report_replaced(arguments.engine, &replaced);
    let wire = Wire::to(&stage, Lost::SOUTH.region).await?;
    let mut went_on = Sample::new();
    for round in 0..rounds {
        went_on.add(goes_on(&stage, &wire, round).await?);
    }
    report_went_on(&went_on);
    arguments.keep_logs(&stage)
}

/// South is killed, replaced, comes back and gets its range again.
async fn is_replaced(stage: &Stage, round: usize) -> Result<Replaced> {
    // As long as the bench: a Failover's name is used once.
    let lost = Lost::SOUTH.by(format!("lost-{round}").leak());
    let users = shop::load::users(USERS, &format!("killed-{round}"));
    let of_lost = stage.users_of(&users, lost.unit).await?;
    // Of slots of the lost unit, with orders of their own: of a few users none may be its own.
    let later = shop::load::users(USERS, &format!("home-{round}"));
    let later = stage.users_of(&later, lost.unit).await?;
    let load = stage.load_through(&["east", "north"], &users)?;
    orders(&load, 200).await;
    let killed = Timestamp::now();
    stage.world.kill(lost.region).await?;
    let status = fail_over(&stage.hub, lost.failover, lost.unit, "1m", LIMIT).await?;
    let ended = Timestamp::now();
    let Served { target, bound } = served(&status, "Lease")?;
    let first = serves(&load, &of_lost, &target).await?;
    orders(&load, 50).await;
    let record = load.stop().await;
    let (unit, until) = (lost.unit, killed);
    let may_be = [MayBeLost { unit, until, bound }];
    let findings = judge(stage, &["east", "north"], &record, &of_lost, &may_be).await?;
    let (own, others) = failures(&record, &of_lost);

    stage.world.revive(lost.region).await?;
    stage.until_member(lost.region, true).await?;
    rejoins(stage, &lost, &findings.lost).await?;
    goes_home(stage, &[&lost], &later).await?;
    Ok(Replaced {
        served: span(killed, first),
        ended: span(killed, ended),
        bound: Duration::try_from(bound)?,
        acknowledged: findings.acknowledged,
        lost: findings.lost.len(),
        failed: (own.len(), others.len()),
    })
}

/// For how long south took orders after it was cut off from the hub; it is joined again afterwards, and goes on.
async fn goes_on(stage: &Stage, wire: &Wire, round: usize) -> Result<Duration> {
    let unit = Lost::SOUTH.unit;
    let users = shop::load::users(USERS, &format!("cut-{round}"));
    let of_unit = stage.users_of(&users, unit).await?;
    let load = stage.load_of(users)?;
    orders(&load, 100).await;
    let cut = Timestamp::now();
    wire.cut();
    refuses(&load, &of_unit, cut).await?;
    let mended = Timestamp::now();
    wire.mend();
    acknowledges(&load, unit, mended).await?;
    let record = load.stop().await;
    let last = last_acknowledged(&record, unit, mended).context("an order of the unit that was cut off")?;
    let (_, strangers) = failures(&record, &of_unit);
    ensure!(strangers.is_empty(), "orders of others failed: {:?}", strangers.first());
    Ok(span(cut, last))
}

fn report_replaced(engine: Engine, all: &[Replaced]) {
    println!(
        "{} times the region south was killed under load and replaced, with {engine:?}.",
        all.len()
    );
    let sample = |of: fn(&Replaced) -> Duration| all.iter().map(of).collect::<Sample>();
    Sample::head("a region is killed; the unit's lease is 5 s");
    let served = sample(|round| round.served);
    served.line(
        "until its customers are served elsewhere",
        "target <= 8000, the lease and 3 s",
    );
    sample(|round| round.ended).line("until the Failover has ended", "");
    sample(|round| round.bound).line("what may be lost, as it was told", "");
    let lease = Some(LEASE.as_secs_f64() * 1e3);
    println!(
        "  ratio to the lease {:>36} {:>8} {:>8}",
        ratio(served.quantile(0.5), lease),
        ratio(served.quantile(0.99), lease),
        ratio(served.quantile(1.0), lease),
    );
    println!();
    let sum = |of: fn(&Replaced) -> usize| all.iter().map(of).sum::<usize>();
    fact("orders that were acknowledged", sum(|round| round.acknowledged), "");
    fact(
        "… and lost, each within its bound and listed",
        sum(|round| round.lost),
        "",
    );
    fact(
        "requests that failed, of its customers",
        sum(|round| round.failed.0),
        "",
    );
    fact(
        "requests that failed, of all others",
        sum(|round| round.failed.1),
        "must be 0",
    );
}

fn report_went_on(went_on: &Sample) {
    println!(
        "\n{} times south was cut off from the hub, its databases and customers not.",
        went_on.len()
    );
    Sample::head("a unit is cut off; its lease is 5 s");
    went_on.line("until it took its last order", "target <= 5000, the lease");
}

/// A clock that was set back makes it 0.
fn span(from: Timestamp, to: Timestamp) -> Duration {
    let span: SignedDuration = to.duration_since(from);
    Duration::try_from(span).unwrap_or_default()
}
