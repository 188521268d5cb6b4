//! What a lost region means to those who order: who must not notice it, what may be lost, and for how long.

use crate::kube_ext::wait_for;
use crate::promotion::epoch;
use crate::region::{NAMESPACE, SYSTEM};
use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use multiactive_api::{
    DecisionType, Failover, FailoverStatus, NeededDecision, QuarantineReport, QuarantineState, ROUTING_TABLE,
    RoutingTable, Unit,
};
use serde_json::{Value, json};
use shop::check::Findings;
use shop::load::{Attempt, Record};
use std::collections::BTreeSet;
use std::time::Duration;

/// The write lease of a unit that is lost on purpose.
pub const LEASE: &str = "5s";

/// Lets a unit stop within its lease, and waits until it renews it so and the record says it: what was renewed with a longer
/// one is over then, and an operator that begins after the loss knows it, too.
///
/// # Errors
///
/// Where that is not so within `limit`.
pub async fn stops_within_its_lease(hub: &Client, unit: &str, limit: Duration) -> Result<()> {
    let units: Api<Unit> = Api::namespaced(hub.clone(), NAMESPACE);
    let fence = json!({"spec": {"onLeaseLoss": "Fence", "leaseDuration": LEASE}});
    units
        .patch(unit, &PatchParams::default(), &Patch::Merge(&fence))
        .await?;
    let leases: Api<Lease> = Api::namespaced(hub.clone(), SYSTEM);
    wait_for(&leases, &format!("{NAMESPACE}.{unit}"), limit, |lease| {
        let spec = lease.spec.as_ref()?;
        let renewed = spec.lease_duration_seconds == Some(5) && spec.renew_time.is_some();
        renewed.then_some(())
    })
    .await?;
    let tables: Api<RoutingTable> = Api::namespaced(hub.clone(), NAMESPACE);
    wait_for(&tables, ROUTING_TABLE, limit, |table| {
        let mut known = table.spec.fencing.iter();
        known.any(|known| known.unit == unit).then_some(())
    })
    .await
}

/// Fails a unit over, and returns how that ended.
///
/// # Errors
///
/// Where the hub refuses it, or it does not end within `limit`.
pub async fn fail_over(
    hub: &Client,
    name: &str,
    unit: &str,
    max_data_loss: &str,
    limit: Duration,
) -> Result<FailoverStatus> {
    begin(hub, name, json!({"lostUnit": unit, "maxDataLoss": max_data_loss})).await?;
    how_it_ended(hub, name, limit).await
}

/// Creates a Failover with this spec, and the epoch of now.
///
/// # Errors
///
/// Where the hub refuses it.
pub async fn begin(hub: &Client, name: &str, mut spec: Value) -> Result<()> {
    spec["expectedEpoch"] = json!(epoch(hub).await?);
    let failover = serde_json::from_value(json!({
        "apiVersion": "multiactive.io/v1alpha1",
        "kind": "Failover",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }))?;
    failovers(hub).create(&PostParams::default(), &failover).await?;
    Ok(())
}

fn failovers(hub: &Client) -> Api<Failover> {
    Api::namespaced(hub.clone(), NAMESPACE)
}

/// Waits until a Failover has ended, and gives its status.
///
/// # Errors
///
/// Where it does not end within `limit`.
pub async fn how_it_ended(hub: &Client, name: &str, limit: Duration) -> Result<FailoverStatus> {
    wait_for(&failovers(hub), name, limit, |failover| {
        failover.status.clone().filter(|status| status.outcome.is_some())
    })
    .await
}

/// Waits until a Failover is Blocked for want of a decision of this type, and gives what it says.
///
/// # Errors
///
/// Where that is not so within `limit`, or it is not said alike in all places.
pub async fn blocked(hub: &Client, name: &str, kind: DecisionType, limit: Duration) -> Result<NeededDecision> {
    let (needed, message) = wait_for(&failovers(hub), name, limit, |failover| {
        let status = failover.status.as_ref()?;
        let needed = status.needed.iter().find(|needed| needed.kind == kind)?;
        let blocked = status.reason.as_deref() == Some("Blocked");
        blocked.then(|| (needed.clone(), status.message.clone().unwrap_or_default()))
    })
    .await?;
    ensure!(
        message.contains(&needed.why) && message.contains(&needed.command),
        "the message says neither why nor what to do: {message}"
    );
    Ok(needed)
}

/// What only a unit holds that is back, and the decision that gives it up.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What its agent says.
    pub report: QuarantineReport,
    /// The decision that is needed.
    pub needed: NeededDecision,
    /// What the Failover says was lost.
    pub found: String,
}

/// Waits until what only the lost unit of a Failover holds is listed.
///
/// # Errors
///
/// Where that is not so within `limit`.
pub async fn listed(hub: &Client, failover: &str, limit: Duration) -> Result<Listed> {
    wait_for(&failovers(hub), failover, limit, |failover| {
        let status = failover.status.as_ref()?;
        let report = status.quarantine.clone()?;
        let mut needed = status.needed.iter();
        let needed = needed.find(|needed| needed.kind == DecisionType::AcceptDivergence)?;
        let found = status.loss.as_ref()?.found.clone()?;
        (report.state == QuarantineState::Compared).then(|| Listed {
            report,
            needed: needed.clone(),
            found,
        })
    })
    .await
    .context("what only the lost unit holds is listed")
}

/// Waits until what a Unit says of its readiness is as wanted.
///
/// # Errors
///
/// Where that is not so within `limit`.
pub async fn until_unit(hub: &Client, unit: &str, limit: Duration, is: impl Fn(&Condition) -> bool) -> Result<()> {
    let units: Api<Unit> = Api::namespaced(hub.clone(), NAMESPACE);
    wait_for(&units, unit, limit, |unit| {
        let mut conditions = unit.status.as_ref()?.conditions.iter();
        conditions
            .find(|condition| condition.type_ == "Ready" && is(condition))
            .map(drop)
    })
    .await
}

/// When an attempt had its answer.
pub fn ended(attempt: &Attempt) -> Timestamp {
    attempt.began + SignedDuration::from_micros((attempt.took_ms * 1000.0) as i64)
}

/// When the first order of these users was acknowledged by `target`.
pub fn first_at(record: &Record, users: &[String], target: &str) -> Option<Timestamp> {
    let of_users = record.attempts.iter().filter(|attempt| users.contains(&attempt.user));
    let there = of_users.filter(|attempt| attempt.order.as_ref().is_some_and(|order| order.unit == target));
    there.map(ended).min()
}

/// The failed attempts of these users, and of all others.
pub fn failures<'a>(record: &'a Record, users: &[String]) -> (Vec<&'a Attempt>, Vec<&'a Attempt>) {
    let failed = record.attempts.iter().filter(|attempt| attempt.order.is_none());
    failed.partition(|attempt| users.contains(&attempt.user))
}

/// What may be lost of a unit: what it took less than `bound` before `until`.
#[derive(Clone, Copy, Debug)]
pub struct MayBeLost<'a> {
    /// The unit.
    pub unit: &'a str,
    /// When it took its last order, or was killed.
    pub until: Timestamp,
    /// The bound that was told.
    pub bound: SignedDuration,
}

/// Every order that is lost was taken by the lost unit, less than `bound` before it was killed.
///
/// # Errors
///
/// The first that was not.
pub fn within_bound(
    findings: &Findings,
    record: &Record,
    lost: &str,
    killed: Timestamp,
    bound: SignedDuration,
) -> Result<()> {
    let (unit, until) = (lost, killed);
    within_bounds(findings, record, &[MayBeLost { unit, until, bound }])
}

/// Every order that is lost was taken by one of these units, within its bound.
///
/// # Errors
///
/// The first that was not.
pub fn within_bounds(findings: &Findings, record: &Record, may_be: &[MayBeLost<'_>]) -> Result<()> {
    for id in &findings.lost {
        let of_id = |attempt: &&Attempt| attempt.order.as_ref().is_some_and(|order| order.id == *id);
        let attempt = record.attempts.iter().find(of_id);
        let attempt = attempt.context("a lost order was acknowledged")?;
        let unit = attempt.order.as_ref().map(|order| order.unit.as_str());
        let may_be = may_be.iter().find(|may_be| Some(may_be.unit) == unit);
        let MayBeLost { until, bound, .. } =
            may_be.with_context(|| format!("an order of {unit:?} is lost: {attempt:?}"))?;
        ensure!(
            until.duration_since(ended(attempt)) < *bound,
            "lost, and older than the bound of {bound:#}: {attempt:?}"
        );
    }
    Ok(())
}

/// The attempts of which the orders were acknowledged by `unit`.
pub fn taken_by<'a>(record: &'a Record, unit: &'a str) -> impl Iterator<Item = &'a Attempt> {
    let attempts = record.attempts.iter();
    attempts.filter(move |attempt| attempt.order.as_ref().is_some_and(|order| order.unit == unit))
}

/// Those of them that were sent once: where an answer was withheld, the order may have been taken long before the next attempt is
/// told so.
pub fn taken_at_once_by<'a>(record: &'a Record, unit: &'a str) -> impl Iterator<Item = &'a Attempt> {
    let failed = record.attempts.iter().filter(|attempt| attempt.order.is_none());
    let failed: BTreeSet<(&str, i64)> = failed.map(|attempt| (attempt.user.as_str(), attempt.seq)).collect();
    taken_by(record, unit).filter(move |attempt| !failed.contains(&(attempt.user.as_str(), attempt.seq)))
}
