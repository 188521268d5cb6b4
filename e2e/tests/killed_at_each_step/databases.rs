//! The target's database is killed at each step of a promotion, and started again.

use super::Mover;
use anyhow::{Context, Result, ensure};
use kube::Api;
use multiactive_api::{ROUTING_TABLE, RoutingTable};
use multiactive_core::promotion::{OperationKind, Step};
use multiactive_core::table::RoutingTable as Owners;
use multiactive_e2e::held_up::{InTheWay, lets_no_order_in};
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::region::{NAMESPACE, Region};
use multiactive_e2e::session::Session;
use multiactive_e2e::stage::{LIMIT, Stage, orders};
use std::time::Duration;

/// Where a promotion stands when the target's database is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// The record says so, and everybody acts on it.
    Entered,
    /// The record says so, and the operator died before it told anybody.
    Recorded,
}

/// Steps that are passed in a moment are stood at: the operator dies with the commit that enters them.
fn stand(step: Step) -> Stand {
    match step {
        // Fence and Drain are recorded by themselves only where they take their time: see to that.
        Step::Check | Step::Hold | Step::Fence | Step::Cut | Step::Drain | Step::Open => Stand::Entered,
        // Commit and Open are one record: the owner has changed, and no member knows.
        Step::Prepare | Step::Verify | Step::Commit | Step::Settle => Stand::Recorded,
    }
}

/// Who stands in the way of a step.
enum Holds {
    Nobody,
    /// A transaction at the source that has written to one of the slots: the fence waits for it.
    Fence(InTheWay),
    /// A lock at the target.
    Drain(Session),
}

impl Holds {
    async fn up(stage: &Stage, target: &str, step: Step) -> Result<Self> {
        Ok(match step {
            Step::Fence => Self::Fence(InTheWay::of(region(stage, source_of(target))?, &order()).await?),
            Step::Drain => Self::Drain(holds_up_the_drain(stage, target).await?),
            Step::Check | Step::Prepare | Step::Verify | Step::Hold | Step::Cut => Self::Nobody,
            Step::Commit | Step::Open | Step::Settle => Self::Nobody,
        })
    }

    async fn no_more(self) -> Result<()> {
        match self {
            Self::Nobody => Ok(()),
            Self::Fence(in_the_way) => in_the_way.goes().await,
            Self::Drain(session) => {
                drop(session);
                Ok(())
            }
        }
    }
}

/// Kills the target's database at each of these steps, and starts it again.
pub(super) async fn kill_databases(
    stage: &Stage,
    mover: &mut Mover<'_>,
    steps: impl Fn(Step) -> bool,
) -> Result<shop::load::Record> {
    let load = stage.load_of(super::users("databases"))?;
    orders(&load, 50).await;
    let mut ends = Vec::new();
    for step in OperationKind::Promotion.steps().filter(|step| steps(*step)) {
        stage.install.ready(|_| {}).await?;
        if step == Step::Commit && mover.target().await? == "east-1" {
            // In the hub the record is its own copy: a target there would be told by the commit itself.
            let name = mover.begin("east-1", "None").await?;
            mover.end(&name, "nothing").await?;
        }
        let target = mover.target().await?;
        let database = &region(stage, target)?.name;
        let (name, stood) = match stand(step) {
            Stand::Entered => {
                let in_the_way = Holds::up(stage, target, step).await?;
                let (name, stood) = begun(stage, mover, target, step).await?;
                stage.world.kill_database(database).await?;
                ensure!(
                    matches!(in_the_way, Holds::Nobody) || stood == step.to_string(),
                    "{step}: {name} stood at {stood}"
                );
                in_the_way.no_more().await?;
                (name, stood)
            }
            Stand::Recorded => {
                let name = killed_as_recorded(stage, mover, target, step, database).await?;
                (name, "recorded".to_owned())
            }
        };
        stage.world.revive_database(database).await?;
        let status = mover.end(&name, &format!("{step}: the database of {target}")).await?;
        let outcome = status.outcome.unwrap_or_default();
        ensure!(
            step.may_abort() || outcome == "Succeeded",
            "{step} is behind the commit point: {outcome}"
        );
        ends.push(format!("{step} ({stood}): {outcome}"));
        orders(&load, 20).await;
    }
    println!(
        "the target's database killed at {} steps: {}",
        ends.len(),
        ends.join(", ")
    );
    Ok(load.stop().await)
}

/// Begins a promotion, and waits until it has entered the step. One that is refused is begun anew: whose database was started again
/// a moment ago may be found not to be ready after all.
async fn begun(stage: &Stage, mover: &mut Mover<'_>, target: &str, step: Step) -> Result<(String, String)> {
    let mut refused = String::new();
    for _ in 0..5 {
        let name = mover.begin(target, "None").await?;
        let stood = entered(stage, &name, step).await?;
        let status = match stood.as_str() {
            ENDED => mover.end(&name, "nothing").await?,
            _ => return Ok((name, stood)),
        };
        if status.outcome.as_deref() != Some("Refused") {
            return Ok((name, format!("the end: {status:?}")));
        }
        refused = status.message.unwrap_or_default();
        println!("{name} is refused: {refused}");
        stage.install.ready(|_| {}).await?;
    }
    anyhow::bail!("{step}: refused again and again: {refused}")
}

/// Where a promotion stands that has ended.
const ENDED: &str = "the end";

/// Waits until the record of this promotion has entered the step, and says where it stands then: steps that end at once
/// are recorded together with those that follow.
pub(super) async fn entered(stage: &Stage, name: &str, step: Step) -> Result<String> {
    let tables: Api<RoutingTable> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let stands = |table: &RoutingTable| {
        if let Some(operation) = table.spec.operations.iter().find(|op| op.name == name) {
            let mut history = operation.history.iter();
            let entered = history.any(|record| record.step == step.to_string());
            return entered.then(|| operation.step.clone());
        }
        let ended = table.spec.finished.iter().any(|done| done.name == name);
        ended.then(|| ENDED.to_owned())
    };
    wait_for(&tables, ROUTING_TABLE, LIMIT, stands)
        .await
        .with_context(|| format!("{name} at {step}"))
}

/// Lets the operator die as soon as it has recorded the step, and kills the database while the promotion stands there.
async fn killed_as_recorded(
    stage: &Stage,
    mover: &mut Mover<'_>,
    target: &str,
    step: Step,
    database: &str,
) -> Result<String> {
    let verify = if step == Step::Verify { "Full" } else { "None" };
    let stands_at = if step == Step::Commit { Step::Open } else { step };
    // Up to Hold each step is a commit; from there on several may be one, so each one is looked at.
    let first = match step {
        Step::Check | Step::Prepare => 1,
        Step::Verify | Step::Hold => 2,
        Step::Fence | Step::Cut | Step::Drain | Step::Commit | Step::Open | Step::Settle => 3,
    };
    let operator = stage.install.failpoint("operator", &stage.install.hub()?.name);
    std::fs::write(&operator, format!("step-after-commit:{first}"))?;
    let name = mover.begin(target, verify).await?;
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let stands = async {
        loop {
            while operator.exists() {
                tick.tick().await;
            }
            let table = stage.table().await?;
            let operation = table.operations.iter().find(|operation| operation.name == name);
            let operation =
                operation.with_context(|| format!("it ended before {step}: {:?}", table.finished.last()))?;
            if operation.step >= stands_at {
                return anyhow::Ok(());
            }
            std::fs::write(&operator, "step-after-commit:1")?;
        }
    };
    tokio::time::timeout(LIMIT, stands)
        .await
        .with_context(|| format!("the operator did not record {step}"))??;
    // Should it be back at once, it goes no further.
    std::fs::write(&operator, "step-before-commit:1")?;
    stage.world.kill_database(database).await?;
    let table = stage.table().await?;
    let operation = table.operations.iter().find(|operation| operation.name == name);
    ensure!(
        operation.is_some_and(|operation| operation.step == stands_at),
        "{step}: {operation:?}"
    );
    if step == Step::Commit {
        let copies: Api<RoutingTable> = Api::namespaced(region(stage, target)?.client().await?, NAMESPACE);
        let told = Owners::try_from(&copies.get(ROUTING_TABLE).await?.spec)?;
        ensure!(told.epoch < table.epoch, "{target} was told of {}", told.epoch);
    }
    let _ = std::fs::remove_file(&operator);
    Ok(name)
}

/// The region of a unit.
fn region<'a>(stage: &'a Stage, unit: &str) -> Result<&'a Region> {
    let region = stage.world.regions.iter().find(|region| region.unit() == unit);
    region.context("the unit's region")
}

/// The unit that the slots leave.
fn source_of(target: &str) -> &'static str {
    if target == "east-1" { "north-1" } else { "east-1" }
}

/// An order of a user whose slot is one of those that move.
fn order() -> String {
    let mut users = (0..).map(|number| format!("in-the-way-{number}"));
    let user = users.find(|user| super::is_moved(user)).unwrap_or_default();
    format!("INSERT INTO orders (id, user_id, seq, prev, unit) VALUES ('in-the-way', '{user}', 1, 0, 'nobody')")
}

/// A session at the target that lets no row in, and a row that comes: the target cannot follow the source.
pub(super) async fn holds_up_the_drain(stage: &Stage, target: &str) -> Result<Session> {
    let there = lets_no_order_in(region(stage, target)?).await?;
    let mut here = Session::of(region(stage, source_of(target))?).await?;
    here.run(&order()).await?;
    here.run("DELETE FROM orders WHERE id = 'in-the-way'").await?;
    Ok(there)
}
