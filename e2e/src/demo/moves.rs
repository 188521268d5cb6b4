//! Orders from many users while a range moves and a unit is emptied; then every acknowledged order is looked for.

use super::{console, state};
use crate::install::Install;
use crate::promotion;
use crate::region::Region;
use crate::stage::{examine, orders, owners};
use anyhow::{Result, ensure};
use kube::Client;
use multiactive_api::{PromotionStatus, StepHistory};
use serde_json::json;
use shop::check::Findings;
use shop::load::{Load, LoadOptions, Record};
use shop::picture::{Mark, Operation, draw};
use std::path::Path;
use std::time::Duration;

/// How long a promotion may take in the demo.
const LIMIT: Duration = Duration::from_secs(90);

/// The names of the demo's promotions.
pub const NAMES: [&str; 2] = ["move-users-1-to-south", "empty-east-1"];

/// What the load and the checker found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Attempts that failed.
    pub errors: usize,
    /// What the checker found.
    pub findings: Findings,
}

impl Verdict {
    /// An error where anything failed or was lost.
    ///
    /// # Errors
    ///
    /// The counts, and the first of each kind.
    pub fn judge(&self) -> Result<()> {
        ensure!(self.errors == 0, "{} requests failed", self.errors);
        ensure!(self.findings.clean(), "{:?}", self.findings);
        Ok(())
    }
}

/// Runs load and promotions, prints what happened, and draws `latency.svg` into `dir`.
///
/// # Errors
///
/// Where a promotion does not succeed or the databases cannot be read.
pub async fn run(install: &Install, users: u32, dir: &Path) -> Result<Verdict> {
    let hub = install.hub()?.client().await?;
    let load = orders_of(&install.regions, &shop::load::users(users, "demo"))?;
    let began = jiff::Timestamp::now();
    println!("  {users} users order without a break, each through all three routers in turn");
    orders(&load, 300).await;

    let range = json!({"type": "Ranges", "ranges": ["users-1"]});
    let first = promote(&hub, NAMES[0], "south-1", range, "Full").await?;
    orders(&load, 300).await;
    let unit = json!({"type": "Unit", "unit": "east-1"});
    let second = promote(&hub, NAMES[1], "north-1", unit, "None").await?;
    orders(&load, 300).await;

    let record = load.stop().await;
    let findings = examine(&install.regions, &owners(&hub).await?, &record).await?;
    report(&record, &findings);
    let operations = [(NAMES[0], &first), (NAMES[1], &second)].map(|(name, status)| operation(name, status, began));
    let picture = dir.join(state::PICTURE);
    draw(
        &record,
        &operations,
        "Orders while a range moves, then a unit is emptied",
        &picture,
    )?;
    record.write_lines(&dir.join(state::ORDERS))?;
    println!("  picture: {}", picture.display());
    Ok(Verdict {
        errors: record.failures(),
        findings,
    })
}

/// Orders of these users through the routers of these regions, until it is stopped.
///
/// # Errors
///
/// Where the load cannot start.
pub fn orders_of(regions: &[Region], users: &[String]) -> Result<Load> {
    Load::start(LoadOptions {
        routers: regions.iter().map(Region::router).collect(),
        users: users.to_vec(),
        think: Duration::from_millis(100),
    })
}

async fn promote(
    hub: &Client,
    name: &str,
    target: &str,
    select: serde_json::Value,
    verify: &str,
) -> Result<PromotionStatus> {
    promotion::create(hub, name, target, select, verify).await?;
    let status = promotion::ended(hub, name, LIMIT).await?;
    println!(
        "\n  Promotion {name}: {} slots from {} to {target}: {}, pause {}",
        status.slots.unwrap_or_default(),
        status.from.as_deref().unwrap_or("?"),
        status.outcome.as_deref().unwrap_or("?"),
        status.pause.as_deref().unwrap_or("?"),
    );
    let times = step_times(&status.history);
    let begin = times.first().map(|(_, at, _)| *at);
    let rows = times.iter().map(|(step, at, not_needed)| {
        let since = begin.map_or(0, |begin| at.duration_since(begin).as_millis());
        [
            step.clone(),
            format!("{since} ms"),
            not_needed
                .clone()
                .map_or_else(String::new, |why| format!("NotNeeded: {why}")),
        ]
    });
    console::table(["step", "entered after", ""], rows);
    ensure!(
        status.outcome.as_deref() == Some("Succeeded"),
        "Promotion {name}: {status:?}"
    );
    Ok(status)
}

fn step_times(history: &[StepHistory]) -> Vec<(String, jiff::Timestamp, Option<String>)> {
    let time = |step: &StepHistory| Some((step.step.clone(), step.at.parse().ok()?, step.not_needed.clone()));
    history.iter().filter_map(time).collect()
}

/// The steps that were needed, as a picture shows them whose time begins at `began`.
pub fn marks(history: &[StepHistory], began: jiff::Timestamp) -> Vec<Mark> {
    let needed = step_times(history).into_iter();
    let needed = needed.filter(|(_, _, not_needed)| not_needed.is_none());
    needed
        .map(|(step, at, _)| Mark {
            at_ms: at.duration_since(began).as_secs_f64() * 1000.0,
            label: step,
        })
        .collect()
}

/// What the picture shows of a promotion.
fn operation(name: &str, status: &PromotionStatus, began: jiff::Timestamp) -> Operation {
    let steps = marks(&status.history, began);
    let entered = |step: &str| Some(steps.iter().find(|mark| mark.label == step)?.at_ms);
    // Writes are held from Hold on; Settle is entered when the target has reported that it is open.
    let held_ms = entered("Hold").zip(entered("Settle"));
    let pause = status.pause.as_deref().unwrap_or("?");
    Operation {
        name: format!("{name}: pause {pause}"),
        steps,
        held_ms,
    }
}

fn report(record: &Record, findings: &Findings) {
    println!("\n  {}", record.summary());
    for failed in record.attempts.iter().filter(|attempt| attempt.order.is_none()).take(5) {
        println!(
            "    failed: {}-{}: {}",
            failed.seq,
            failed.user,
            failed.error.as_deref().unwrap_or("")
        );
    }
    let row = |what: &str, list: &[String]| {
        [
            what.to_owned(),
            list.len().to_string(),
            list.first().cloned().unwrap_or_default(),
        ]
    };
    let Findings {
        acknowledged,
        lost,
        out_of_order,
        taken_twice,
        differing,
    } = findings;
    let rows = [
        [
            "requests that failed".to_owned(),
            record.failures().to_string(),
            String::new(),
        ],
        row(&format!("lost, of {acknowledged} acknowledged"), lost),
        row("out of order", out_of_order),
        row("taken by two units", taken_twice),
        row("different in two units", differing),
    ];
    console::table(["what was looked for", "found", "the first"], rows);
}
