//! How long writes of a range wait while it moves: promotions to and fro under load, against the switchover that a
//! careful person makes with SQL on the same servers, in turns.
//!
//! `cargo bench -p multiactive-e2e --bench pause -- [rounds=50] [logs=FOLDER]`, after the programs that pods run:
//! `cargo build --release -p multiactive-operator -p multiactive-agent -p multiactive-router -p shop --bins`. With
//! `logs` the programs log at debug (or as `RUST_LOG` says) and their logs are kept: each commit, publication, verb and
//! report with its time.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use multiactive_api::PromotionStatus;
use multiactive_e2e::bench::by_hand::{ByHand, Switchover};
use multiactive_e2e::bench::figures::{Sample, fact, ratio};
use multiactive_e2e::bench::writers::{Writers, Written};
use multiactive_e2e::bench::{Arguments, run};
use multiactive_e2e::promotion::{create, ended};
use multiactive_e2e::stage::{Options, Stage, examine, orders};
use multiactive_e2e::world::root;
use serde_json::json;
use shop::load::Record;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const ROUNDS: usize = 50;
/// A third of them has the range that moves.
const USERS: u32 = 30;
/// As many as those.
const WRITERS: u32 = 10;
/// `Stage::load` gives the shop's users the same.
const THINK: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(90);
const RANGE: &str = "users-1";
/// The steps in which writes wait, and those around them.
const STEPS: [&str; 8] = ["Check", "Prepare", "Hold", "Fence", "Drain", "Commit", "Open", "Settle"];
const HELD: [&str; 5] = ["Hold", "Fence", "Drain", "Commit", "Open"];

fn main() -> ExitCode {
    run(measure)
}

/// One promotion, as its status and its caller saw it.
struct Moved {
    status: PromotionStatus,
    created: Timestamp,
    ended: Timestamp,
}

/// One switchover by hand.
struct Switched {
    parts: Switchover,
    from: Instant,
    to: Instant,
}

async fn measure(arguments: Arguments) -> Result<()> {
    let rounds = arguments.rounds.unwrap_or(ROUNDS);
    let options = Options {
        logs: arguments.filter(),
        fsync: true,
        ..Options::default()
    };
    let stage = Stage::up_with(options).await?;
    let schema = std::fs::read_to_string(root().join("examples/shop/sql/schema.sql"))?;
    // The range lives in north-1 and goes to south-1 and back.
    let mut by_hand = ByHand::prepare([stage.region("north")?, stage.region("south")?], &schema).await?;
    let writers = Writers::start(&by_hand, WRITERS, THINK).await?;
    let load = stage.load(USERS)?;
    orders(&load, 500).await;
    let (mut moves, mut switches) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for round in 0..rounds {
        moves.push(promote(&stage, round).await?);
        orders(&load, 50).await;
        let from = Instant::now();
        let parts = by_hand.switch().await?;
        switches.push(Switched {
            parts,
            from,
            to: Instant::now(),
        });
        orders(&load, 50).await;
    }
    let measured = began.elapsed();
    let (record, written) = (load.stop().await, writers.stop().await?);
    arguments.keep_logs(&stage)?;
    report(&moves, &switches, &record, &written, measured)?;
    judge(&stage, &by_hand, &record, &written).await
}

async fn promote(stage: &Stage, round: usize) -> Result<Moved> {
    let target = if round.is_multiple_of(2) { "south-1" } else { "north-1" };
    let name = format!("to-and-fro-{round}");
    let select = json!({"type": "Ranges", "ranges": [RANGE]});
    let created = Timestamp::now();
    create(&stage.hub, &name, target, select, "None").await?;
    let status = ended(&stage.hub, &name, LIMIT).await?;
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{name}: {status:?}");
    Ok(Moved {
        status,
        created,
        ended: Timestamp::now(),
    })
}

fn report(
    moves: &[Moved],
    switches: &[Switched],
    record: &Record,
    written: &Written,
    measured: Duration,
) -> Result<()> {
    let rate = record.attempts.len() as f64 / measured.as_secs_f64();
    println!(
        "{} promotions of {RANGE} between north-1 and south-1, and as many switchovers by hand, in turns, in {:.0} s.",
        moves.len(),
        measured.as_secs_f64()
    );
    println!(
        "Load all the time: {USERS} users of the shop with a pause of {THINK:?} after each order, {rate:.0} orders/s, a third \
         of them in the range;\nand {WRITERS} writers of the range by hand with the same pause. Durable commits."
    );
    let pauses = moves.iter().map(|moved| between(&moved.status, "Hold", "Settle"));
    let pauses: Sample = pauses.collect::<Option<_>>().context("a promotion without a pause")?;
    let by_hand: Sample = switches.iter().map(|switched| switched.parts.pause()).collect();
    Sample::head("time in which no write of the range commits");
    pauses.line("promotion, from Hold to Settle (its pause)", "target p99 < 100");
    by_hand.line("by hand, from the fence to the opening", "");
    println!(
        "  ratio {:>49} {:>8} {:>8}",
        ratio(pauses.quantile(0.5), by_hand.quantile(0.5)),
        ratio(pauses.quantile(0.99), by_hand.quantile(0.99)),
        ratio(pauses.quantile(1.0), by_hand.quantile(1.0)),
    );

    Sample::head("the longest request of a client during each");
    longest(moves, record).line("promotion: held, then served", "");
    let waits = switches
        .iter()
        .map(|switched| written.longest(switched.from, switched.to));
    let waits: Sample = waits.flatten().collect();
    waits.line("by hand: refused, then sent again", "");
    let all: Sample = record
        .attempts
        .iter()
        .map(|a| Duration::from_secs_f64(a.took_ms / 1e3))
        .collect();
    all.line("all orders of the shop", "");
    written.times().line("all orders by hand", "");

    Sample::head("a promotion, by step: from its entry to the next");
    for (index, step) in STEPS.iter().enumerate() {
        let next = STEPS.get(index + 1);
        let times: Sample = moves
            .iter()
            .filter_map(|moved| match next {
                Some(next) => between(&moved.status, step, next),
                None => entered(&moved.status, step).map(|at| span(at, moved.ended)),
            })
            .collect();
        times.line(step, if HELD.contains(step) { "writes wait" } else { "" });
    }
    let whole: Sample = moves.iter().map(|moved| span(moved.created, moved.ended)).collect();
    whole.line("from its creation to the end in its status", "");
    Sample::head("a switchover by hand, by part");
    for (name, part) in [
        ("fence", (|s| s.fence) as fn(Switchover) -> Duration),
        ("wait for the last write", |s| s.wait),
        ("open", |s| s.open),
    ] {
        switches
            .iter()
            .map(|s| part(s.parts))
            .collect::<Sample>()
            .line(name, "");
    }
    println!();
    fact("promotion: requests that failed", record.failures(), "must be 0");
    fact(
        "by hand: writes that were refused",
        written.refusals(),
        "a client would see them",
    );
    Ok(())
}

/// The longest attempt of the shop's users during each promotion.
fn longest(moves: &[Moved], record: &Record) -> Sample {
    let mut sample = Sample::new();
    for moved in moves {
        let during = record.attempts.iter().filter(|attempt| {
            let took = jiff::SignedDuration::from_secs_f64(attempt.took_ms / 1000.0);
            attempt.began <= moved.ended && attempt.began + took >= moved.created
        });
        if let Some(longest) = during.map(|attempt| attempt.took_ms).max_by(f64::total_cmp) {
            sample.add_ms(longest);
        }
    }
    sample
}

fn entered(status: &PromotionStatus, step: &str) -> Option<Timestamp> {
    let mut history = status.history.iter();
    let found = history.find(|entry| entry.step == step && entry.not_needed.is_none());
    found?.at.parse().ok()
}

fn between(status: &PromotionStatus, step: &str, next: &str) -> Option<Duration> {
    Some(span(entered(status, step)?, entered(status, next)?))
}

/// A clock that was set back makes it 0.
fn span(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// What must hold for the figures to mean anything.
async fn judge(stage: &Stage, by_hand: &ByHand, record: &Record, written: &Written) -> Result<()> {
    let failed = record.attempts.iter().find(|attempt| attempt.order.is_none());
    ensure!(
        failed.is_none(),
        "{} requests failed, the first: {failed:?}",
        record.failures()
    );
    let findings = examine(&stage.world.regions, &stage.table().await?, record).await?;
    fact("acknowledged orders that were lost", findings.lost.len(), "must be 0");
    ensure!(findings.clean(), "{findings:?}");
    let held = by_hand.orders().await?;
    let taken = i64::try_from(written.len())?;
    ensure!(
        held.contains(&taken),
        "by hand, {taken} orders were taken, {held:?} are there"
    );
    Ok(())
}
