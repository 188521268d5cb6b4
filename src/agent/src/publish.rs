//! Writes a unit's status: one patch in flight, then the latest state; nothing where nothing changed.
//!
//! What a promotion waits for leaves at once. Everything else waits a moment, so that several changes are one write.

use crate::backoff::Backoff;
use crate::failpoints::hit;
use crate::metrics::Metrics;
use crate::routers::UnitKey;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use multiactive_api::{UnitAssignment, UnitAssignmentStatus};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;

/// The name under which the agent owns fields.
pub const FIELD_MANAGER: &str = "multiactive-agent";

/// How long what nobody waits for is collected.
const COLLECT: Duration = Duration::from_millis(100);

/// How long one write may take; then it is done again, with the latest state.
const LIMIT: Duration = Duration::from_secs(3);

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Writes every new status until the sender is gone; `written` is what the object holds at the start. Safe to drop.
pub async fn publish(
    client: Client,
    key: UnitKey,
    mut wanted: watch::Receiver<Option<UnitAssignmentStatus>>,
    mut written: Option<UnitAssignmentStatus>,
    metrics: Metrics,
) {
    let api: Api<UnitAssignment> = Api::namespaced(client, &key.namespace);
    let mut backoff = Backoff::new(LONGEST_PAUSE);
    loop {
        let differs = |now: &Option<UnitAssignmentStatus>| now.is_some() && *now != written;
        if wanted.wait_for(differs).await.is_err() {
            return;
        }
        let urgent = |now: &Option<UnitAssignmentStatus>| is_urgent(written.as_ref(), now.as_ref());
        // A sender that is gone shows at the next turn.
        let _ = tokio::time::timeout(COLLECT, wanted.wait_for(urgent)).await;
        let Some(status) = wanted.borrow_and_update().clone() else {
            continue;
        };
        hit("status-before-write");
        match write(&api, &key.unit, &status).await {
            Ok(()) => {
                hit("status-after-write");
                metrics.status_write(true);
                backoff.reset();
                written = Some(status);
            }
            Err(error) => {
                metrics.status_write(false);
                tracing::warn!(unit = %key, error, "writing the status, trying again");
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

/// Whether a promotion may be waiting for the difference.
fn is_urgent(written: Option<&UnitAssignmentStatus>, wanted: Option<&UnitAssignmentStatus>) -> bool {
    let path = |status: &UnitAssignmentStatus| (status.applied, status.operations.clone());
    wanted.map(path) != written.map(path)
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
    let mut fields = json!({"observedGeneration": null, "conditions": null, "applied": null});
    if let (Value::Object(fields), Value::Object(said)) = (&mut fields, serde_json::to_value(status)?) {
        fields.extend(said);
    }
    Ok(json!({"status": fields}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_api::{AppliedTable, OperationReport, RouterStatus};

    fn status(epoch: i64) -> UnitAssignmentStatus {
        UnitAssignmentStatus {
            applied: Some(AppliedTable { term: 1, epoch }),
            ..UnitAssignmentStatus::default()
        }
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
            fenced: None,
            lag_ms: None,
            reach: None,
            checksums: vec![],
        });
        for (wanted, want) in [
            (status(7), false),
            (status(8), true),
            (routers, false),
            (reported, true),
        ] {
            assert_eq!(is_urgent(Some(&status(7)), Some(&wanted)), want, "{wanted:?}");
        }
        assert!(is_urgent(None, Some(&status(7))), "the first report");
    }
}
