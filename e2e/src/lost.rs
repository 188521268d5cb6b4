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
use serde_json::json;
use shop::check::Findings;
use shop::load::{Attempt, Record};
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
    let failover = serde_json::from_value(json!({
        "apiVersion": "multiactive.io/v1alpha1",
        "kind": "Failover",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"lostUnit": unit, "expectedEpoch": epoch(hub).await?, "maxDataLoss": max_data_loss},
    }))?;
    let failovers: Api<Failover> = Api::namespaced(hub.clone(), NAMESPACE);
    failovers.create(&PostParams::default(), &failover).await?;
    wait_for(&failovers, name, limit, |failover| {
        failover.status.clone().filter(|status| status.outcome.is_some())
    })
    .await
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
    let failovers: Api<Failover> = Api::namespaced(hub.clone(), NAMESPACE);
    wait_for(&failovers, failover, limit, |failover| {
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
    for id in &findings.lost {
        let of_id = |attempt: &&Attempt| attempt.order.as_ref().is_some_and(|order| order.id == *id);
        let attempt = record.attempts.iter().find(of_id);
        let attempt = attempt.context("a lost order was acknowledged")?;
        let unit = attempt.order.as_ref().map(|order| order.unit.as_str());
        ensure!(unit == Some(lost), "an order of {unit:?} is lost: {attempt:?}");
        ensure!(
            killed.duration_since(ended(attempt)) < bound,
            "lost, and older than the bound of {bound:#}: {attempt:?}"
        );
    }
    Ok(())
}
