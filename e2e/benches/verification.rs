//! How many rows a second a Verification compares, and what the shop's customers notice of it: with many rows in every database,
//! orders are taken with nothing beside them, beside a comparison as fast as it goes, and beside one at a pace. The limit is a
//! plain read of the same rows with a sum of their hashes in one database, in the same run. Then a third of the rows move to and fro: how
//! long `verify: Changed` takes, once they were found equal, over `verify: Full`.
//!
//! `cargo bench --workspace --bench verification -- [rounds=3] [engine=MariaDB] [logs=FOLDER]`, after the programs that
//! pods run: see `pause`.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use multiactive_e2e::bench::figures::{self, Sample, fact};
use multiactive_e2e::bench::{Arguments, run};
use multiactive_e2e::databases::{execute, number};
use multiactive_e2e::region::{Engine, Region};
use multiactive_e2e::stage::{Options, Stage, orders, users_of};
use multiactive_e2e::verification::verified;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::time::interval;

const ROUNDS: usize = 3;
/// In each database, of all units together.
const ROWS: usize = 150_000;
const ROWS_OF_USER: usize = 250;
/// In one statement.
const ROWS_AT_ONCE: usize = 5_000;
const USERS: u32 = 24;
/// Orders with nothing beside them are taken for so long.
const ALONE: Duration = Duration::from_secs(20);
/// What a comparison at a pace may read.
const PACE: usize = 20_000;
const LIMIT: Duration = Duration::from_secs(900);

fn main() -> ExitCode {
    run(measure)
}

/// What customers saw while something ran beside them.
struct Beside {
    orders: f64,
    times: Sample,
    failed: usize,
}

/// A comparison, and what customers saw meanwhile.
struct Compared {
    rows: i64,
    took: Duration,
    beside: Beside,
}

async fn measure(arguments: Arguments) -> Result<()> {
    let options = Options {
        logs: arguments.filter(),
        fsync: true,
        engine: arguments.engine,
        ..Options::default()
    };
    let stage = Stage::up_with(options).await?;
    let rows = fill(&stage).await?;
    let (mut alone, mut fast, mut paced, mut plain) = (Vec::new(), Vec::new(), Vec::new(), Sample::new());
    for round in 0..arguments.rounds.unwrap_or(ROUNDS) {
        plain.add(read_plainly(stage.region("north")?).await?);
        let rest = async || {
            tokio::time::sleep(ALONE).await;
            Ok(())
        };
        alone.push(beside(&stage, rest).await?.1);
        fast.push(compare(&stage, &format!("fast-{round}"), json!({})).await?);
        let spec = json!({"maxRowsPerSecond": PACE});
        paced.push(compare(&stage, &format!("paced-{round}"), spec).await?);
    }
    let (mut changed, mut full) = (Sample::new(), Sample::new());
    for round in 0..arguments.rounds.unwrap_or(ROUNDS) {
        for (verify, took) in [("Full", &mut full), ("Changed", &mut changed)] {
            took.add(moved_there(&stage, &format!("{verify}-{round}").to_lowercase(), verify).await?);
            let home = format!("home-{verify}-{round}").to_lowercase();
            stage.moved(&home, "east-1", range(), "None").await?;
        }
    }
    arguments.keep_logs(&stage)?;
    report(arguments.engine, rows, &plain, &alone, &fast, &paced)?;
    report_moves(&full, &changed)
}

fn range() -> Value {
    json!({"type": "Ranges", "ranges": ["users-0"]})
}

/// Moves east's range to north, and tells how long its rows were compared.
async fn moved_there(stage: &Stage, name: &str, verify: &str) -> Result<Duration> {
    let status = stage.moved(name, "north-1", range(), verify).await?;
    let entered = |step: &str| -> Result<Timestamp> {
        let mut history = status.history.iter();
        let entry = history
            .find(|entry| entry.step == step)
            .with_context(|| format!("{name} has no {step}"))?;
        Ok(entry.at.parse()?)
    };
    Ok(entered("Hold")?.duration_since(entered("Verify")?).try_into()?)
}

fn report_moves(full: &Sample, changed: &Sample) -> Result<()> {
    println!("\nBefore a third of the rows moves, from Verify to Hold, median:");
    let (full, changed) = (full.quantile(0.5), changed.quantile(0.5));
    let told = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.0}"));
    fact("verify: Full, ms", told(full), "");
    fact(
        "verify: Changed, ms",
        told(changed),
        "they were found equal a moment before",
    );
    fact("Changed over Full", figures::ratio(changed, full), "");
    Ok(())
}

/// Puts rows of every unit's own customers into its database, and waits until all databases have all of them.
async fn fill(stage: &Stage) -> Result<i64> {
    let table = stage.table().await?;
    let customers: Vec<String> = (0..ROWS / ROWS_OF_USER).map(|number| format!("old{number}")).collect();
    let mut rows = 0_i64;
    for region in &stage.world.regions {
        let unit = region.unit();
        let of_unit = users_of(&table, &customers, &unit);
        let all: Vec<(&String, usize)> = of_unit
            .iter()
            .flat_map(|user| (1..=ROWS_OF_USER).map(move |seq| (user, seq)))
            .collect();
        for some in all.chunks(ROWS_AT_ONCE) {
            let row =
                |(user, seq): &(&String, usize)| format!("('{seq}-{user}', '{user}', {seq}, {}, '{unit}')", seq - 1);
            let some: Vec<_> = some.iter().map(row).collect();
            let sql = format!(
                "INSERT INTO orders (id, user_id, seq, prev, unit) VALUES {}",
                some.join(", ")
            );
            execute(region, &sql).await.context("filling the databases")?;
        }
        rows += i64::try_from(all.len())?;
    }
    let mut tick = interval(Duration::from_millis(500));
    let deadline = Instant::now() + LIMIT;
    for region in &stage.world.regions {
        while number(region, "SELECT count(*) FROM orders").await? < rows {
            ensure!(Instant::now() < deadline, "{} has not got all rows", region.name);
            tick.tick().await;
        }
    }
    Ok(rows)
}

/// How long one database takes to read all rows once and to sum up their hashes.
async fn read_plainly(region: &Region) -> Result<Duration> {
    let sql = match region.engine {
        Engine::PostgreSql => "SELECT bit_xor(hashtextextended(o::text, 0)) FROM orders o",
        Engine::MariaDb | Engine::MySql => {
            "SELECT CAST(BIT_XOR(CRC32(CONCAT_WS('#', id, user_id, seq, prev, unit, taken_at))) AS SIGNED) FROM orders"
        }
    };
    let began = Instant::now();
    number(region, sql).await?;
    Ok(began.elapsed())
}

/// Lets customers order while something runs.
async fn beside<T>(stage: &Stage, what: impl AsyncFnOnce() -> Result<T>) -> Result<(T, Beside)> {
    let load = stage.load(USERS)?;
    orders(&load, 50).await;
    let (before, began) = (load.acknowledged().await, Instant::now());
    let done = what().await?;
    let (taken, time) = (load.acknowledged().await - before, began.elapsed());
    let record = load.stop().await;
    let times = record
        .attempts
        .iter()
        .map(|attempt| Duration::from_secs_f64(attempt.took_ms / 1e3));
    let beside = Beside {
        orders: taken as f64 / time.as_secs_f64(),
        times: times.collect(),
        failed: record.failures(),
    };
    Ok((done, beside))
}

async fn compare(stage: &Stage, name: &str, spec: Value) -> Result<Compared> {
    let began = Instant::now();
    let (status, beside) = beside(stage, async || verified(&stage.hub, name, spec, LIMIT).await).await?;
    ensure!(status.reason.as_deref() == Some("Equal"), "{status:?}");
    Ok(Compared {
        rows: status.rows.context("rows are told")?,
        took: began.elapsed(),
        beside,
    })
}

fn report(
    engine: Engine,
    rows: i64,
    plain: &Sample,
    alone: &[Beside],
    fast: &[Compared],
    paced: &[Compared],
) -> Result<()> {
    println!(
        "{rows} rows in each of three databases of {engine:?}, and {USERS} customers who order. Medians of the rounds."
    );
    println!(
        "\n  {:<40} {:>10} {:>10} {:>8} {:>8} {:>7}",
        "beside the customers' orders", "rows/s", "orders/s", "p50 ms", "p99 ms", "failed"
    );
    let paced_name = format!("a comparison of {PACE} rows/s at most");
    let alone: Vec<_> = alone.iter().map(|beside| (None, beside)).collect();
    // A function: a closure's argument and result would have lifetimes of their own.
    fn of(all: &[Compared]) -> Vec<(Option<f64>, &Beside)> {
        let rate = |compared: &Compared| compared.rows as f64 / compared.took.as_secs_f64();
        all.iter()
            .map(|compared| (Some(rate(compared)), &compared.beside))
            .collect()
    }
    let mut rates = Vec::new();
    for (name, rounds) in [
        ("nothing", alone),
        ("a comparison as fast as it goes", of(fast)),
        (paced_name.as_str(), of(paced)),
    ] {
        let rate = median(rounds.iter().filter_map(|(rate, _)| *rate));
        let told =
            |figure: Option<f64>, digits: usize| figure.map_or("-".to_owned(), |figure| format!("{figure:.digits$}"));
        println!(
            "  {name:<40} {:>10} {:>10} {:>8} {:>8} {:>7}",
            told(rate, 0),
            told(median(rounds.iter().map(|(_, beside)| beside.orders)), 0),
            told(
                median(rounds.iter().filter_map(|(_, beside)| beside.times.quantile(0.5))),
                1
            ),
            told(
                median(rounds.iter().filter_map(|(_, beside)| beside.times.quantile(0.99))),
                1
            ),
            rounds.iter().map(|(_, beside)| beside.failed).sum::<usize>(),
        );
        rates.push(rate);
    }
    println!();
    let once = plain.quantile(0.5).context("rows were read plainly")?;
    let limit = rows as f64 / (once / 1e3);
    fact(
        "one database read plainly, rows/s",
        format!("{limit:.0}"),
        "the limit: each comparison reads two",
    );
    let fast = rates.get(1).copied().flatten();
    fact(
        "a comparison as fast as it goes, of that",
        figures::ratio(fast, Some(limit)),
        "",
    );
    Ok(())
}

fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}
