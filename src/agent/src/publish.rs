//! Writes a unit's status: one patch in flight, then the latest state; nothing where nothing changed.
//!
//! What a promotion waits for leaves at once. Everything else waits a moment, so that several changes are one write, and
//! longer while writes are held somewhere: a write under way would hold up the one that is waited for.

use crate::backoff::Backoff;
use crate::failpoints::hit;
use crate::metrics::Metrics;
use crate::routers::UnitKey;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use multiactive_api::{OperationReport, UnitAssignment, UnitAssignmentStatus};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;

/// The name under which the agent owns fields.
pub const FIELD_MANAGER: &str = "multiactive-agent";

/// How long what nobody waits for is collected.
const COLLECT: Duration = Duration::from_millis(100);

/// The longest time that it is collected while writes are held.
const COLLECT_IN_HASTE: Duration = Duration::from_secs(1);

/// How long one write may take; then it is done again, with the latest state.
const LIMIT: Duration = Duration::from_secs(3);

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A status to be written, and how much it matters when.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The status.
    pub status: UnitAssignmentStatus,
    /// Whether an operation holds writes somewhere.
    pub haste: bool,
    /// Whether an operation waits until this unit has applied its table.
    pub opens: bool,
}

/// Writes every new status until the sender is gone; `written` is what the object holds at the start. Safe to drop.
pub async fn publish(
    client: Client,
    key: UnitKey,
    mut wanted: watch::Receiver<Option<Wanted>>,
    mut written: Option<UnitAssignmentStatus>,
    metrics: Metrics,
) {
    let api: Api<UnitAssignment> = Api::namespaced(client, &key.namespace);
    let mut backoff = Backoff::new(LONGEST_PAUSE);
    loop {
        let differs = |now: &Option<Wanted>| now.as_ref().is_some_and(|now| Some(&now.status) != written.as_ref());
        if wanted.wait_for(differs).await.is_err() {
            return;
        }
        let urgent = |now: &Option<Wanted>| now.as_ref().is_some_and(|now| is_urgent(written.as_ref(), now));
        let calm = |now: &Option<Wanted>| urgent(now) || now.as_ref().is_none_or(|now| !now.haste);
        // A sender that is gone shows at the next turn.
        let _ = tokio::time::timeout(COLLECT_IN_HASTE, wanted.wait_for(calm)).await;
        let _ = tokio::time::timeout(COLLECT, wanted.wait_for(urgent)).await;
        let Some(Wanted { status, .. }) = wanted.borrow_and_update().clone() else {
            continue;
        };
        hit("status-before-write");
        let start = std::time::Instant::now();
        match write(&api, &key.unit, &status).await {
            Ok(()) => {
                hit("status-after-write");
                tracing::debug!(took = ?start.elapsed(), "status written");
                metrics.status_write(true);
                backoff.reset();
                written = Some(status);
            }
            Err(error) => {
                // It may have arrived all the same: whatever is wanted next is written, were it what was there before.
                written = None;
                metrics.status_write(false);
                tracing::warn!(
                    namespace = key.namespace,
                    unit = key.unit,
                    error,
                    "writing the status, trying again"
                );
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

/// Whether somebody may be waiting for the difference: a fact about an operation, or the applied table.
fn is_urgent(written: Option<&UnitAssignmentStatus>, wanted: &Wanted) -> bool {
    let Some(written) = written else { return true };
    let status = &wanted.status;
    let before = |report: &OperationReport| written.operations.iter().find(|known| known.uid == report.uid).cloned();
    let news = status.operations.iter().any(|report| is_fact(before(report), report));
    news || (status.applied != written.applied && (wanted.opens || !wanted.haste))
}

/// Whether a report says something that was not said before at this epoch. That nothing is known yet is no fact, and the
/// number of writes under way is none that anybody waits for: the fence that follows the last of them is. Nor is how far a
/// comparison of rows has come before its end.
fn is_fact(before: Option<OperationReport>, now: &OperationReport) -> bool {
    let now = OperationReport {
        in_flight: None,
        comparing: Vec::new(),
        ..now.clone()
    };
    let nothing = OperationReport {
        fenced: None,
        opened: None,
        cut: None,
        lag_ms: None,
        reach: None,
        compared: Vec::new(),
        ..now.clone()
    };
    let same_epoch = |before: &OperationReport| (before.term, before.epoch) == (now.term, now.epoch);
    let before = before.filter(same_epoch).map(|before| OperationReport {
        in_flight: None,
        comparing: Vec::new(),
        ..before
    });
    now != before.unwrap_or_else(|| nothing.clone()) && now != nothing
}

async fn write(api: &Api<UnitAssignment>, name: &str, status: &UnitAssignmentStatus) -> Result<(), String> {
    let patch = Patch::Merge(merge_patch(status).map_err(|error| error.to_string())?);
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let call = api.patch_status(name, &params, &patch);
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer.map(drop).map_err(|error| crate::error_text(&error)),
        Err(_) => Err(format!("no answer within {LIMIT:?}")),
    }
}

/// The whole status as a merge patch: lists are replaced whole, and what is not said any more is removed.
fn merge_patch(status: &UnitAssignmentStatus) -> Result<Value, serde_json::Error> {
    let mut fields = json!({
        "observedGeneration": null, "conditions": null, "applied": null, "lease": null, "caughtUp": null, "quarantine": null,
        "verification": null,
    });
    if let (Value::Object(fields), Value::Object(mut said)) = (&mut fields, serde_json::to_value(status)?) {
        if let Some(Value::Object(lease)) = said.get_mut("lease") {
            lease.entry("message").or_insert(Value::Null);
        }
        if let Some(Value::Object(quarantine)) = said.get_mut("quarantine") {
            for field in ["rows", "spanMs", "first", "message"] {
                quarantine.entry(field).or_insert(Value::Null);
            }
        }
        fields.extend(said);
    }
    Ok(json!({"status": fields}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use multiactive_api::{
        AppliedTable, LeaseReport, LeaseState, OperationReport, QuarantineReport, QuarantineState, RouterStatus,
    };
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};
    use tower::BoxError;

    fn status(epoch: i64) -> UnitAssignmentStatus {
        UnitAssignmentStatus {
            applied: Some(AppliedTable { term: 1, epoch }),
            ..UnitAssignmentStatus::default()
        }
    }

    #[test]
    fn what_is_not_said_any_more_is_removed() {
        let told = |message: Option<&str>| UnitAssignmentStatus {
            lease: Some(LeaseReport {
                state: LeaseState::Held,
                message: message.map(str::to_owned),
            }),
            ..status(7)
        };
        let apart = || UnitAssignmentStatus {
            quarantine: Some(QuarantineReport {
                by: "lost".to_owned(),
                state: QuarantineState::Compared,
                rows: None,
                span_ms: None,
                first: Vec::new(),
                message: None,
            }),
            ..status(7)
        };
        for (status, pointer, want) in [
            (UnitAssignmentStatus::default(), "/status/applied", Value::Null),
            (UnitAssignmentStatus::default(), "/status/lease", Value::Null),
            (UnitAssignmentStatus::default(), "/status/caughtUp", Value::Null),
            (UnitAssignmentStatus::default(), "/status/quarantine", Value::Null),
            (UnitAssignmentStatus::default(), "/status/verification", Value::Null),
            (apart(), "/status/quarantine/rows", Value::Null),
            (apart(), "/status/quarantine/first", Value::Null),
            (apart(), "/status/quarantine/spanMs", Value::Null),
            (apart(), "/status/quarantine/message", Value::Null),
            (told(None), "/status/lease/message", Value::Null),
            (told(Some("late")), "/status/lease/message", json!("late")),
        ] {
            let patch = merge_patch(&status).unwrap();
            assert_eq!(patch.pointer(pointer), Some(&want), "{pointer} of {patch}");
        }
    }

    /// An API server that carries out what it is asked, and loses its first answer.
    fn forgetful(stored: Arc<Mutex<Value>>) -> Client {
        let lost = Arc::new(AtomicBool::new(false));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (stored, lost) = (stored.clone(), lost.clone());
            async move {
                let patch = request.into_body().collect_bytes().await.unwrap();
                let patch: Value = serde_json::from_slice(&patch).unwrap();
                *stored.lock().unwrap() = patch["status"].clone();
                if !lost.swap(true, Ordering::SeqCst) {
                    return Err("the connection is lost".into());
                }
                let object = json!({
                    "apiVersion": "multiactive.io/v1alpha1", "kind": "UnitAssignment",
                    "metadata": {"name": "east-1"}, "spec": {"unit": "east-1", "cluster": "east"},
                });
                Ok::<_, BoxError>(Response::new(Body::from(serde_json::to_vec(&object).unwrap())))
            }
        });
        Client::new(service, "shop")
    }

    #[tokio::test]
    async fn after_an_unknown_outcome_the_status_is_written_again_even_if_it_went_back() {
        let stored = Arc::<Mutex<Value>>::default();
        let wanted = |epoch| {
            let status = status(epoch);
            let (haste, opens) = (false, false);
            Some(Wanted { status, haste, opens })
        };
        let wish = watch::Sender::new(wanted(8));
        let key = UnitKey {
            namespace: "shop".into(),
            unit: "east-1".into(),
        };
        let client = forgetful(stored.clone());
        let publisher = publish(client, key, wish.subscribe(), Some(status(7)), Metrics::default());
        let publisher = tokio::spawn(publisher);
        let epoch = || stored.lock().unwrap()["applied"]["epoch"].as_i64();
        let until = async |epoch_is: i64| {
            while epoch() != Some(epoch_is) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let both = async {
            until(8).await;
            // Before the next attempt the unit is again as it was at the start.
            wish.send_replace(wanted(7));
            until(7).await;
        };
        tokio::time::timeout(Duration::from_secs(20), both)
            .await
            .expect("written again");
        drop(wish);
        publisher.await.unwrap();
    }

    #[test]
    fn a_patch_removes_what_is_not_said_any_more() {
        let patch = merge_patch(&UnitAssignmentStatus::default()).unwrap();
        assert_eq!(patch["status"]["applied"], Value::Null);
        assert!(patch["status"].as_object().unwrap().contains_key("applied"));
        let patch = merge_patch(&status(7)).unwrap();
        assert_eq!(patch["status"]["applied"]["epoch"], 7);
        assert_eq!(
            patch["status"]["operations"],
            json!([]),
            "an empty list is written, not left as it was"
        );
    }

    #[test]
    fn only_what_an_operation_waits_for_is_urgent() {
        let mut routers = status(7);
        routers.routers.push(RouterStatus {
            name: "r".into(),
            table: None,
            connected: true,
        });
        let mut reported = status(7);
        reported.operations.push(OperationReport {
            uid: "op".into(),
            term: 1,
            epoch: 7,
            in_flight: Some(0),
            fenced: Some(Vec::new()),
            opened: None,
            cut: None,
            lag_ms: None,
            reach: None,
            compared: vec![],
            comparing: vec![],
            problems: vec![],
        });
        let written = status(7);
        let other_epoch = OperationReport {
            epoch: 8,
            in_flight: Some(0),
            fenced: None,
            ..reported.operations[0].clone()
        };
        let mut unknown = status(7);
        unknown.operations.push(other_epoch.clone());
        let mut on_its_way = status(7);
        let found = multiactive_api::PairReport::begun("east", None);
        let store = "orders".to_owned();
        on_its_way.operations.push(OperationReport {
            comparing: vec![multiactive_api::StorePair { store, found }],
            ..other_epoch
        });
        for (wanted, haste, opens, want) in [
            (status(7), false, false, false),
            (status(8), false, false, true),
            (status(8), true, false, false),
            (status(8), true, true, true),
            (routers, false, false, false),
            (reported.clone(), true, false, true),
            (unknown.clone(), true, false, false),
            (on_its_way, false, false, false),
        ] {
            let wanted = Wanted {
                status: wanted,
                haste,
                opens,
            };
            assert_eq!(is_urgent(Some(&written), &wanted), want, "{wanted:?}");
        }
        let wanted = |status| Wanted {
            status,
            haste: true,
            opens: false,
        };
        assert!(!is_urgent(Some(&reported), &wanted(reported.clone())), "it was said");
        assert!(
            !is_urgent(Some(&reported), &wanted(unknown)),
            "nothing is known of the next epoch yet"
        );
        assert!(is_urgent(None, &wanted(status(7))), "the first report");
    }
}
