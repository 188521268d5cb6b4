//! How long writes wait while a range moves, then while a unit is emptied: promotions to and fro under load. With PostgreSQL those
//! of a range are in turns with the switchover that a careful person makes with SQL on the same servers.
//!
//! `cargo bench --workspace --bench pause -- [rounds=50] [engine=MariaDB] [logs=FOLDER]`, after the programs that pods run:
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
use multiactive_e2e::region::Engine;
use multiactive_e2e::stage::{Options, Stage, examine, orders};
use multiactive_e2e::world::root;
use serde_json::{Value, json};
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
        engine: arguments.engine,
        ..Options::default()
    };
    let stage = Stage::up_with(options).await?;
    let mut by_hand = match arguments.engine {
        Engine::PostgreSql => Some(Hand::begin(&stage).await?),
        Engine::MariaDb | Engine::MySql => None,
    };
    let load = stage.load(USERS)?;
    orders(&load, 500).await;
    let (mut ranges, mut units) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for round in 0..rounds {
        // The range lives in north-1 and goes to south-1 and back.
        let target = if round.is_multiple_of(2) { "south-1" } else { "north-1" };
        let select = json!({"type": "Ranges", "ranges": [RANGE]});
        ranges.push(promote(&stage, &format!("to-and-fro-{round}"), target, select).await?);
        orders(&load, 50).await;
        if let Some(hand) = &mut by_hand {
            hand.switch().await?;
            orders(&load, 50).await;
        }
    }
    let measured = began.elapsed();
    let by_hand = match by_hand {
        Some(hand) => Some(hand.end().await?),
        None => None,
    };
    for round in 0..rounds {
        // Whatever north-1 and south-1 own is with the one or the other.
        let [unit, target] = if round.is_multiple_of(2) {
            ["north-1", "south-1"]
        } else {
            ["south-1", "north-1"]
        };
        let select = json!({"type": "Unit", "unit": unit});
        units.push(promote(&stage, &format!("emptied-{round}"), target, select).await?);
        orders(&load, 50).await;
    }
    let record = load.stop().await;
    arguments.keep_logs(&stage)?;
    report(&ranges, by_hand.as_ref(), &record, measured)?;
    report_units(&units)?;
    judge(&stage, by_hand.as_ref(), &record).await
}

/// The range of a database of its own that is switched by hand, in turns with promotions.
struct Hand {
    by_hand: ByHand,
    writers: Writers,
    switches: Vec<Switched>,
}

/// What came of it.
struct Handled {
    by_hand: ByHand,
    written: Written,
    switches: Vec<Switched>,
}

impl Hand {
    async fn begin(stage: &Stage) -> Result<Self> {
        let schema = std::fs::read_to_string(root().join("examples/shop/sql/schema.sql"))?;
        let by_hand = ByHand::prepare([stage.region("north")?, stage.region("south")?], &schema).await?;
        Ok(Self {
            writers: Writers::start(&by_hand, WRITERS, THINK).await?,
            by_hand,
            switches: Vec::new(),
        })
    }

    async fn switch(&mut self) -> Result<()> {
        let from = Instant::now();
        let parts = self.by_hand.switch().await?;
        let to = Instant::now();
        self.switches.push(Switched { parts, from, to });
        Ok(())
    }

    async fn end(self) -> Result<Handled> {
        Ok(Handled {
            written: self.writers.stop().await?,
            by_hand: self.by_hand,
            switches: self.switches,
        })
    }
}

async fn promote(stage: &Stage, name: &str, target: &str, select: Value) -> Result<Moved> {
    let created = Timestamp::now();
    create(&stage.hub, name, target, select, "None").await?;
    let status = ended(&stage.hub, name, LIMIT).await?;
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{name}: {status:?}");
    Ok(Moved {
        status,
        created,
        ended: Timestamp::now(),
    })
}

fn report(moves: &[Moved], by_hand: Option<&Handled>, record: &Record, measured: Duration) -> Result<()> {
    let rate = record.attempts.len() as f64 / measured.as_secs_f64();
    println!(
        "{} promotions of {RANGE} between north-1 and south-1 in {:.0} s, in turns with {} switchovers by hand; then as many that \
         empty a unit.",
        moves.len(),
        measured.as_secs_f64(),
        by_hand.map_or(0, |hand| hand.switches.len()),
    );
    println!(
        "Load all the time: {USERS} users of the shop with a pause of {THINK:?} after each order, {rate:.0} orders/s, a third \
         of them in the range;\nand {WRITERS} writers of the range by hand with the same pause. Durable commits."
    );
    let pauses = pauses(moves)?;
    Sample::head("time in which no write of the range commits");
    pauses.line("promotion, from Hold to Settle (its pause)", "target p99 < 100");
    if let Some(hand) = by_hand {
        let by_hand: Sample = hand.switches.iter().map(|switched| switched.parts.pause()).collect();
        by_hand.line("by hand, from the fence to the opening", "");
        println!(
            "  ratio {:>49} {:>8} {:>8}",
            ratio(pauses.quantile(0.5), by_hand.quantile(0.5)),
            ratio(pauses.quantile(0.99), by_hand.quantile(0.99)),
            ratio(pauses.quantile(1.0), by_hand.quantile(1.0)),
        );
    }

    Sample::head("the longest request of a client during each");
    longest(moves, record).line("promotion: held, then served", "");
    let all: Sample = record
        .attempts
        .iter()
        .map(|a| Duration::from_secs_f64(a.took_ms / 1e3))
        .collect();
    all.line("all orders of the shop", "");
    by_step(moves);
    if let Some(hand) = by_hand {
        report_by_hand(hand);
    }
    fact("promotion: requests that failed", record.failures(), "must be 0");
    Ok(())
}

/// The pauses of these promotions.
fn pauses(moves: &[Moved]) -> Result<Sample> {
    let pauses = moves.iter().map(|moved| between(&moved.status, "Hold", "Settle"));
    pauses.collect::<Option<_>>().context("a promotion without a pause")
}

fn report_units(moves: &[Moved]) -> Result<()> {
    Sample::head("time in which no write of a unit's slots commits");
    pauses(moves)?.line("a unit is emptied, from Hold to Settle", "target p99 < 100");
    by_step(moves);
    Ok(())
}

fn by_step(moves: &[Moved]) {
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
    println!();
}

fn report_by_hand(hand: &Handled) {
    let Handled { written, switches, .. } = hand;
    let waits = switches
        .iter()
        .map(|switched| written.longest(switched.from, switched.to));
    let waits: Sample = waits.flatten().collect();
    Sample::head("writes by hand");
    waits.line("the longest of each switchover: refused, sent again", "");
    written.times().line("all orders by hand", "");
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
    fact(
        "by hand: writes that were refused",
        written.refusals(),
        "a client would see them",
    );
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
async fn judge(stage: &Stage, by_hand: Option<&Handled>, record: &Record) -> Result<()> {
    let failed = record.attempts.iter().find(|attempt| attempt.order.is_none());
    ensure!(
        failed.is_none(),
        "{} requests failed, the first: {failed:?}",
        record.failures()
    );
    let findings = examine(&stage.world.regions, &stage.table().await?, record).await?;
    fact("acknowledged orders that were lost", findings.lost.len(), "must be 0");
    ensure!(findings.clean(), "{findings:?}");
    let Some(hand) = by_hand else { return Ok(()) };
    let held = hand.by_hand.orders().await?;
    let taken = i64::try_from(hand.written.len())?;
    ensure!(
        held.contains(&taken),
        "by hand, {taken} orders were taken, {held:?} are there"
    );
    Ok(())
}
