//! What every engine of databases must withstand, told once: slots move under load, and a region is lost and comes home.

use crate::databases::{execute, listed_orders};
use crate::lost::{Listed, MayBeLost, fail_over, failures, listed, stops_within_its_lease, until_unit, within_bounds};
use crate::processes::Frozen;
use crate::region::{NAMESPACE, Region, SYSTEM};
use crate::stage::{LIMIT, Stage, acknowledges, examine, orders};
use crate::stops::serves;
use crate::unheard;
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

/// Everything moves under load and nothing fails or is lost; a client that ignores the routers and writes straight to a database
/// that does not own the user is refused.
///
/// # Errors
///
/// What was not so.
pub async fn nothing_fails_or_is_lost(stage: &Stage) -> Result<()> {
    let load = stage.load(30)?;
    orders(&load, 200).await;
    everything_moves(stage, &load, "Full").await?;
    let insert = "INSERT INTO orders (id, user_id, seq, prev, unit) VALUES ('1-x', 'x', 1, 0, 'east-1')";
    let refused = execute(stage.region("east")?, insert).await;
    let refused = refused.err().context("it was not refused")?.to_string();
    ensure!(refused.contains("is not open for writes in unit east-1"), "{refused}");
    stage.judge(load).await.map(drop)
}

/// A region that is lost, and how its part is called.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// The region.
    pub region: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// The range that is at home there.
    pub range: &'static str,
    /// The Failover by which it is replaced.
    pub failover: &'static str,
}

impl Lost {
    /// The region north.
    pub const NORTH: Self = Self {
        region: "north",
        unit: "north-1",
        range: "users-1",
        failover: "lost-north",
    };

    /// The region south.
    pub const SOUTH: Self = Self {
        region: "south",
        unit: "south-1",
        range: "users-2",
        failover: "lost-south",
    };

    /// The same, by a Failover of this name.
    pub const fn by(self, failover: &'static str) -> Self {
        Self { failover, ..self }
    }
}

/// How a region is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// As by `kill -9` of all of it. It begins anew, with what is on its disks.
    Killed,
    /// The same, once it has taken an order of which nobody else hears.
    KilledUnheard,
    /// All of it stands still, as a machine does that is suspended, for longer than its lease. It goes on where it was.
    Frozen,
}

/// A region that is lost, until it is back.
enum Away {
    Killed,
    KilledUnheard,
    Frozen(Frozen),
}

impl Away {
    /// The region is lost, and since when.
    async fn begins(stage: &Stage, load: &Load, lost: &Lost, loss: Loss) -> Result<(Self, Timestamp)> {
        let region = lost.region;
        if loss == Loss::KilledUnheard {
            unheard::begins(stage.region(region)?).await?;
            acknowledges(load, lost.unit, Timestamp::now()).await?;
        }
        let since = Timestamp::now();
        let away = match loss {
            Loss::Killed => {
                stage.world.kill(region).await?;
                Self::Killed
            }
            Loss::KilledUnheard => {
                stage.world.kill(region).await?;
                Self::KilledUnheard
            }
            Loss::Frozen => Self::Frozen(stage.world.freeze(region).await?),
        };
        Ok((away, since))
    }

    async fn ends(self, stage: &Stage, region: &str) -> Result<()> {
        match self {
            Self::Killed => stage.world.revive(region).await,
            Self::KilledUnheard => {
                stage.world.revive(region).await?;
                unheard::ends(stage.region(region)?).await
            }
            Self::Frozen(frozen) => {
                drop(frozen);
                Ok(())
            }
        }
    }
}

/// What is told about a Failover that has succeeded.
#[derive(Clone, Debug)]
pub struct Served {
    /// Who took over.
    pub target: String,
    /// How much may be lost.
    pub bound: SignedDuration,
}

/// A Failover has succeeded by this proof of the fence: who took over, and what may be lost.
///
/// # Errors
///
/// Where it has not, or does not say so.
pub fn served(status: &FailoverStatus, fenced_by: &str) -> Result<Served> {
    println!(
        "{:?} to {:?}: pause {:?}, {:?}",
        status.outcome, status.to, status.pause, status.loss
    );
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{status:?}");
    let loss = status.loss.as_ref().context("a loss is told")?;
    ensure!(loss.fenced_by.as_deref() == Some(fenced_by), "{loss:?}");
    let bound = loss.bound.as_ref().context("a bound is told")?;
    Ok(Served {
        target: status.to.clone().context("a target is told")?,
        bound: parse_duration("bound", bound)?,
    })
}

/// Applies a Failover of the lost unit and waits for its end.
async fn failed_over(stage: &Stage, lost: &Lost) -> Result<FailoverStatus> {
    let ended = fail_over(&stage.hub, lost.failover, lost.unit, "15s", LIMIT).await;
    if ended.is_err() {
        let leases: Api<Lease> = Api::namespaced(stage.hub.clone(), SYSTEM);
        let lease = leases.get(&format!("{NAMESPACE}.{}", lost.unit)).await?;
        println!("its lease: {}", serde_json::to_string(&lease)?);
    }
    ended
}

/// Only users of lost units saw an error, nothing was taken by two units, and what the survivors lack is within the bounds.
///
/// # Errors
///
/// What was not so.
pub async fn judge(
    stage: &Stage,
    survivors: &[&str],
    record: &Record,
    of_lost: &[String],
    may_be: &[MayBeLost<'_>],
) -> Result<Findings> {
    let (_, strangers) = failures(record, of_lost);
    ensure!(
        strangers.is_empty(),
        "{} orders of other units failed: {:?}",
        strangers.len(),
        strangers.first()
    );
    let survivors: Vec<Region> = survivors
        .iter()
        .map(|name| stage.region(name).cloned())
        .collect::<Result<_>>()?;
    let findings = examine(&survivors, &stage.table().await?, record).await?;
    ensure!(findings.taken_twice.is_empty(), "{findings:?}");
    println!(
        "{} orders acknowledged, {} of them lost, {may_be:?}",
        findings.acknowledged,
        findings.lost.len()
    );
    within_bounds(&findings, record, may_be)?;
    Ok(findings)
}

/// The region is back: its unit says that it is in quarantine, takes no order, and its router sends all users on.
async fn is_kept_apart(stage: &Stage, away: Away, lost: &Lost, users: &[String], owner: &str) -> Result<()> {
    let since = Timestamp::now();
    away.ends(stage, lost.region).await?;
    stage.until_member(lost.region, true).await?;
    until_unit(&stage.hub, lost.unit, LIMIT, |ready| ready.reason == "Quarantined").await?;
    let load = stage.load_through(&[lost.region], users)?;
    acknowledges(&load, owner, since).await?;
    orders(&load, 50).await;
    let record = load.stop().await;
    let mut taken = record.acknowledged();
    let elsewhere = taken.find(|order| order.unit != owner);
    ensure!(elsewhere.is_none(), "{elsewhere:?}, {}", record.summary());
    Ok(())
}

/// What a unit that is back holds alone is listed, with every order that was acknowledged and is lost; a person accepts that by
/// the command that the status prints, and it is one like any other again.
///
/// # Errors
///
/// What was not so.
pub async fn rejoins(stage: &Stage, lost: &Lost, orders: &[String]) -> Result<()> {
    let Listed { report, needed, found } = listed(&stage.hub, lost.failover, LIMIT).await?;
    println!("{} is back: {report:?}, {found}", lost.unit);
    let rows = usize::try_from(report.rows.context("how much is known")?)?;
    ensure!(
        rows >= orders.len(),
        "{rows} rows differ, {} orders are lost",
        orders.len()
    );
    let listed = listed_orders(stage.region(lost.region)?).await?;
    let unlisted: Vec<_> = orders.iter().filter(|id| !listed.contains(*id)).collect();
    ensure!(unlisted.is_empty(), "lost and not listed: {unlisted:?}");
    let exported = stage.world.exported(lost.region, stage.scratch.path()).await?;
    let missing: Vec<_> = orders.iter().filter(|id| !exported.contains(*id)).collect();
    ensure!(missing.is_empty(), "lost and not exported: {missing:?} in {exported}");

    let decided = stage.install.as_printed(stage.install.hub()?, &needed.command).await?;
    println!("{}: {decided}", needed.command);
    until_unit(&stage.hub, lost.unit, LIMIT, |ready| ready.status == "True").await
}

/// Units that have rejoined get the slots back that are at home there, as planned moves, while everybody orders: nobody sees an
/// error, and all databases hold the same.
///
/// # Errors
///
/// What was not so.
pub async fn goes_home(stage: &Stage, all: &[&Lost], users: &[String]) -> Result<()> {
    let load = stage.load_through(&["east", "north", "south"], users)?;
    orders(&load, 50).await;
    for lost in all {
        let (name, range) = (format!("home-{}", lost.failover), json!([lost.range]));
        let select = json!({"type": "Ranges", "ranges": range});
        stage.moved(&name, lost.unit, select, "Full").await?;
        acknowledges(&load, lost.unit, Timestamp::now()).await?;
    }
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
pub async fn a_region_is_lost(stage: &Stage, loss: Loss) -> Result<()> {
    let lost = Lost::SOUTH;
    stops_within_its_lease(&stage.hub, lost.unit, LIMIT).await?;
    let users = shop::load::users(24, "lost");
    let of_lost = stage.users_of(&users, lost.unit).await?;
    // Of slots of the lost unit too, with orders of their own.
    let later = stage.users_of(&shop::load::users(24, "back"), lost.unit).await?;
    let load = stage.load_through(&["east", "north"], &users)?;
    orders(&load, 200).await;

    let (away, killed) = Away::begins(stage, &load, &lost, loss).await?;
    let status = failed_over(stage, &lost).await?;
    let Served { target, bound } = served(&status, "Lease")?;
    // Who received most takes over, the first of the range's failover units where both have the same.
    ensure!(["east-1", "north-1"].contains(&target.as_str()), "{status:?}");
    let first = serves(&load, &of_lost, &target).await?;
    orders(&load, 100).await;
    let record = load.stop().await;
    println!("{}", record.summary());
    println!(
        "{loss:?}: served elsewhere {:#} after that",
        first.duration_since(killed)
    );
    let (unit, until) = (lost.unit, killed);
    let may_be = [MayBeLost { unit, until, bound }];
    let findings = judge(stage, &["east", "north"], &record, &of_lost, &may_be).await?;
    ensure!(
        loss != Loss::KilledUnheard || !findings.lost.is_empty(),
        "nothing was lost that only {unit} had taken"
    );
    // Who was behind has got by now what the new owner had beyond it.
    ensure!(
        findings.differing.is_empty(),
        "{findings:?}, behind: {:?}",
        status.behind
    );

    is_kept_apart(stage, away, &lost, &later, &target).await?;
    // Its rows are those of the others, and it gets its slots back.
    rejoins(stage, &lost, &findings.lost).await?;
    goes_home(stage, &[&lost], &later).await
}
