//! What a lost region means to those who order: who must not notice it, what may be lost, and for how long.

use crate::kube_ext::wait_for;
use crate::region::{NAMESPACE, SYSTEM};
use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use multiactive_api::Unit;
use serde_json::json;
use shop::check::Findings;
use shop::load::{Attempt, Record};
use std::time::Duration;

/// The write lease of a unit that is lost on purpose.
pub const LEASE: &str = "5s";

/// Lets a unit stop within its lease, and waits until it renews it so: what was renewed with a longer one is over then.
///
/// # Errors
///
/// Where it does not renew it within `limit`.
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
