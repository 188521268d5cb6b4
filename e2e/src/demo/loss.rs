//! A region is killed while users order: they are served elsewhere once its lease is over, what it alone holds is listed and
//! given up by a person, and its users come home. Then the rows of all databases are compared.

use super::control::{self, Act};
use super::moves::{marks, orders_of};
use super::{console, state};
use crate::install::Install;
use crate::lost::{LEASE, failures, first_at, listed, stops_within_its_lease, until_unit, within_bound};
use crate::region::{NAMESPACE, Region};
use crate::stage::{acknowledges, examine, orders, owners, users_of};
use crate::verification::verified;
use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::{Api, Client};
use multiactive_api::convert::parse_duration;
use multiactive_api::{Failover, FailoverStatus, QuarantineReport};
use serde_json::json;
use shop::check::Findings;
use shop::load::Record;
use shop::picture::{Mark, Operation, draw};
use std::path::Path;
use std::time::Duration;

/// How long a part of the story may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What is lost.
const REGION: &str = "south";
const UNIT: &str = "south-1";

/// What was found while the region was away.
struct Away {
    record: Record,
    findings: Findings,
    killed: Timestamp,
    served: SignedDuration,
    bound: SignedDuration,
    targets: String,
    failover: (String, FailoverStatus),
    /// Failed requests of the lost unit's users, and of all others.
    failed: (usize, usize),
}

/// Kills a region and brings it home; prints what happened, and draws `lost.svg` into `dir`.
///
/// # Errors
///
/// Where a step fails, others than its users noticed, or more is lost than was told.
pub async fn run(install: &Install, users: u32, dir: &Path) -> Result<()> {
    let hub = install.hub()?.client().await?;
    println!("  {UNIT} stops by itself once nobody could renew its write lease for {LEASE} (onLeaseLoss: Fence):");
    println!("  so it is known to be over, though nobody can ask it");
    stops_within_its_lease(&hub, UNIT, LIMIT).await?;
    let away = lose(install, &hub, users, dir).await?;
    control::ask(dir, Act::Start, REGION).await?;
    let back = listed(&hub, &away.failover.0, LIMIT).await?;
    tell_found(&back.report);
    let (home, of_home) = come_home(install, &hub, users, &back.needed.command).await?;
    let compared = verified(&hub, "after-the-failback", json!({}), LIMIT).await?;
    report(&away, &back.report, &home, compared.message.as_deref().unwrap_or("?"));
    picture(&away, dir)?;
    judge(&away, &home, &of_home)?;
    ensure!(compared.reason.as_deref() == Some("Equal"), "{compared:?}");
    Ok(())
}

async fn lose(install: &Install, hub: &Client, users: u32, dir: &Path) -> Result<Away> {
    let survivors: Vec<Region> = install
        .regions
        .iter()
        .filter(|region| region.name != REGION)
        .cloned()
        .collect();
    let users = shop::load::users(users, "loss");
    let of_lost = users_of(&owners(hub).await?, &users, UNIT);
    let load = orders_of(&survivors, &users)?;
    println!("  {} users order, {} of them are {UNIT}'s", users.len(), of_lost.len());
    orders(&load, 300).await;

    let killed = Timestamp::now();
    control::ask(dir, Act::Kill, REGION).await?;
    console::done("kill -9: control plane, agent, router, service and database of south are gone");
    let command = "kubectl multiactive failover --region south -A --max-data-loss 15s";
    console::said(&format!("{command} --yes"));
    let said = install.as_printed(install.hub()?, command).await?;
    console::lines(&said);
    let (name, status) = failover_of(hub).await?;
    let targets: Vec<String> = status
        .to
        .iter()
        .flat_map(|to| to.split(','))
        .map(str::to_owned)
        .collect();
    for target in &targets {
        acknowledges(&load, target, Timestamp::now()).await?;
    }
    orders(&load, 200).await;
    let record = load.stop().await;
    let findings = examine(&survivors, &owners(hub).await?, &record).await?;
    let first = targets.iter().map(|target| first_at(&record, &of_lost, target));
    let first = first
        .max()
        .flatten()
        .context("orders of the lost unit's users at the targets")?;
    let (own, strangers) = failures(&record, &of_lost);
    let failed = (own.len(), strangers.len());
    let loss = status.loss.as_ref().context("a loss is told")?;
    let bound = parse_duration("bound", loss.bound.as_deref().context("a bound is told")?)?;
    Ok(Away {
        served: first.duration_since(killed),
        record,
        findings,
        killed,
        bound,
        targets: targets.join(" and "),
        failover: (name, status),
        failed,
    })
}

/// The Failover of the lost unit.
async fn failover_of(hub: &Client) -> Result<(String, FailoverStatus)> {
    let failovers: Api<Failover> = Api::namespaced(hub.clone(), NAMESPACE);
    let all = failovers.list(&ListParams::default()).await?;
    let mut all = all.items.into_iter();
    let found = all.find(|failover| failover.spec.lost_unit == UNIT);
    let found = found.with_context(|| format!("there is no Failover of {UNIT}"))?;
    Ok((
        found.metadata.name.context("its name")?,
        found.status.context("its status")?,
    ))
}

/// The region is up again: its unit is one like any other once a person has accepted what it lost, and its users come home by a
/// planned move. What was ordered meanwhile, and what was found of that.
async fn come_home(install: &Install, hub: &Client, users: u32, accept: &str) -> Result<(Record, Findings)> {
    console::said(&format!("{accept} --yes"));
    console::lines(&install.as_printed(install.hub()?, accept).await?);
    until_unit(hub, UNIT, LIMIT, |ready| ready.status == "True")
        .await
        .context("the unit rejoins")?;
    console::done(&format!("{UNIT} has the others' rows, follows them, and is Ready"));
    let users = shop::load::users(users, HOME);
    let load = orders_of(&install.regions, &users)?;
    orders(&load, 200).await;
    let command = format!("kubectl multiactive failback users-2 -n {NAMESPACE}");
    console::said(&format!("{command} --yes"));
    console::lines(&install.as_printed(install.hub()?, &command).await?);
    acknowledges(&load, UNIT, Timestamp::now()).await?;
    orders(&load, 200).await;
    let record = load.stop().await;
    let mut findings = examine(&install.regions, &owners(hub).await?, &record).await?;
    // Whose order was lost before has a hole there, which no later order fills.
    let mine = |order: &String| users.iter().any(|user| order.contains(&format!("-{user}:")));
    findings.out_of_order.retain(mine);
    Ok((record, findings))
}

/// What the users' orders are called who order on the way home.
const HOME: &str = "home";

fn tell_found(found: &QuarantineReport) {
    let rows = found.rows.unwrap_or_default();
    println!(
        "\n  south is up again, and {UNIT} in quarantine: it serves nothing. What only it holds is listed in its own database"
    );
    println!("  (multiactive.divergence: the key, both versions, the commit): {rows} rows");
    let shown = found.first.iter().take(5);
    if rows > 0 {
        console::table(
            ["store", "table", "key"],
            shown.map(|row| [row.store.clone(), row.table.clone(), row.key.clone()]),
        );
    }
}

fn report(away: &Away, found: &QuarantineReport, home: &Record, compared: &str) {
    println!("\n  while south was away: {}", away.record.summary());
    println!("  on its way home:      {}", home.summary());
    let seconds = |time: SignedDuration| format!("{:.1} s", time.as_secs_f64());
    let rows = [
        [
            "served elsewhere after the kill",
            &seconds(away.served),
            &format!("by {}; the lease is {LEASE}", away.targets),
        ],
        [
            "requests of its users that failed meanwhile",
            &away.failed.0.to_string(),
            "",
        ],
        [
            "requests of all other users that failed",
            &away.failed.1.to_string(),
            "",
        ],
        [
            &format!("acknowledged and lost, of {}", away.findings.acknowledged),
            &away.findings.lost.len().to_string(),
            away.findings.lost.first().map_or("", String::as_str),
        ],
        [
            "the bound of the loss, told before the commit",
            &seconds(away.bound),
            "of the lost unit's writing",
        ],
        [
            "rows that only it held, listed",
            &found.rows.unwrap_or_default().to_string(),
            "",
        ],
        ["requests that failed on its way home", &home.failures().to_string(), ""],
        ["rows of all databases compared", compared, ""],
    ];
    console::table(
        ["what was looked for", "found", ""],
        rows.map(|row| row.map(str::to_owned)),
    );
}

/// The kill and the failover over the orders that were sent meanwhile.
fn picture(away: &Away, dir: &Path) -> Result<()> {
    let began = away.record.attempts.iter().map(|attempt| attempt.began).min();
    let began = began.unwrap_or(away.killed);
    let at_ms = |time: Timestamp| time.duration_since(began).as_secs_f64() * 1000.0;
    let (name, status) = &away.failover;
    let killed = Mark {
        at_ms: at_ms(away.killed),
        label: "killed".to_owned(),
    };
    let operation = Operation {
        name: format!("{name}: served elsewhere after {:.1} s", away.served.as_secs_f64()),
        held_ms: Some((killed.at_ms, at_ms(away.killed + away.served))),
        steps: std::iter::once(killed).chain(marks(&status.history, began)).collect(),
    };
    let path = dir.join(state::PICTURE_OF_LOSS);
    draw(
        &away.record,
        &[operation],
        "Orders while a region is killed and its users are taken over",
        &path,
    )?;
    println!("  picture: {}", path.display());
    Ok(())
}

fn judge(away: &Away, home: &Record, of_home: &Findings) -> Result<()> {
    ensure!(away.failed.1 == 0, "{} requests of others failed", away.failed.1);
    let found = &away.findings;
    ensure!(found.taken_twice.is_empty() && found.differing.is_empty(), "{found:?}");
    within_bound(found, &away.record, UNIT, away.killed, away.bound)?;
    ensure!(
        home.failures() == 0,
        "{} requests failed on the way home",
        home.failures()
    );
    ensure!(of_home.clean(), "{of_home:?}");
    Ok(())
}
