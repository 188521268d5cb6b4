//! Tests of the verdicts, kind by kind.

use super::*;
use serde_json::json;

fn rolled_out() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
            "availableReplicas": 2, "conditions": [{"type": "Available", "status": "True"}]}})
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
    object
}

#[test]
fn a_deployment_is_current_only_when_all_of_it_is_rolled_out() {
    let condition =
        |kind: &str, status: &str, reason: &str| json!([{"type": kind, "status": status, "reason": reason}]);
    for (why, object, want) in [
        ("rolled out", rolled_out(), State::Current),
        (
            "not seen",
            with(rolled_out(), "/metadata/generation", json!(3)),
            State::InProgress,
        ),
        (
            "never seen",
            with(rolled_out(), "/status", json!({})),
            State::InProgress,
        ),
        (
            "old replicas",
            with(rolled_out(), "/status/replicas", json!(3)),
            State::InProgress,
        ),
        (
            "not updated",
            with(rolled_out(), "/status/updatedReplicas", json!(1)),
            State::InProgress,
        ),
        (
            "not ready",
            with(rolled_out(), "/status/readyReplicas", json!(1)),
            State::InProgress,
        ),
        (
            "not available",
            with(rolled_out(), "/status/availableReplicas", json!(1)),
            State::InProgress,
        ),
        (
            "no condition",
            with(rolled_out(), "/status/conditions", json!([])),
            State::InProgress,
        ),
        (
            "deadline",
            with(
                rolled_out(),
                "/status/conditions",
                condition("Progressing", "False", "ProgressDeadlineExceeded"),
            ),
            State::Failed,
        ),
        (
            "quota",
            with(
                rolled_out(),
                "/status/conditions",
                condition("ReplicaFailure", "True", "FailedCreate"),
            ),
            State::Failed,
        ),
        (
            "being deleted",
            with(rolled_out(), "/metadata/deletionTimestamp", json!("x")),
            State::InProgress,
        ),
    ] {
        let (state, message) = verdict(&object);
        assert_eq!(state, want, "{why}: {message:?}");
        assert_eq!(message.is_some(), want != State::Current, "{why}: {message:?}");
    }
}

#[test]
fn other_kinds_are_read_by_their_own_rules() {
    let object = |api_version: &str, kind: &str, spec: Value, status: Value| json!({"apiVersion": api_version, "kind": kind, "metadata": {"generation": 1}, "spec": spec, "status": status});
    let one = |kind: &str, status: &str| json!({"conditions": [{"type": kind, "status": status}]});
    let set = |ready: i64, updated: i64, revision: &str| {
        json!({"observedGeneration": 1, "replicas": 2, "readyReplicas": ready, "updatedReplicas": updated,
            "currentRevision": "a", "updateRevision": revision})
    };
    for (name, object, want) in [
        (
            "set",
            object("apps/v1", "StatefulSet", json!({"replicas": 2}), set(2, 2, "a")),
            State::Current,
        ),
        (
            "set not ready",
            object("apps/v1", "StatefulSet", json!({"replicas": 2}), set(1, 2, "a")),
            State::InProgress,
        ),
        (
            "set updating",
            object("apps/v1", "StatefulSet", json!({"replicas": 2}), set(2, 1, "b")),
            State::InProgress,
        ),
        (
            "set revision",
            object("apps/v1", "StatefulSet", json!({"replicas": 2}), set(2, 2, "b")),
            State::InProgress,
        ),
        (
            "set partition",
            object(
                "apps/v1",
                "StatefulSet",
                json!({"replicas": 2, "updateStrategy": {"rollingUpdate": {"partition": 1}}}),
                set(2, 1, "b"),
            ),
            State::Current,
        ),
        (
            "daemon",
            object(
                "apps/v1",
                "DaemonSet",
                json!({}),
                json!({"observedGeneration": 1, "desiredNumberScheduled": 1,
                "currentNumberScheduled": 1, "updatedNumberScheduled": 1, "numberAvailable": 1, "numberReady": 1}),
            ),
            State::Current,
        ),
        (
            "daemon not available",
            object(
                "apps/v1",
                "DaemonSet",
                json!({}),
                json!({"observedGeneration": 1, "desiredNumberScheduled": 1,
                "currentNumberScheduled": 1, "updatedNumberScheduled": 1}),
            ),
            State::InProgress,
        ),
        (
            "job runs",
            object("batch/v1", "Job", json!({}), json!({"active": 1})),
            State::InProgress,
        ),
        (
            "job done",
            object("batch/v1", "Job", json!({}), one("Complete", "True")),
            State::Current,
        ),
        (
            "job failed",
            object("batch/v1", "Job", json!({}), one("Failed", "True")),
            State::Failed,
        ),
        (
            "pod",
            object("v1", "Pod", json!({}), one("Ready", "True")),
            State::Current,
        ),
        ("pod new", object("v1", "Pod", json!({}), json!({})), State::InProgress),
        (
            "pod failed",
            object("v1", "Pod", json!({}), json!({"phase": "Failed"})),
            State::Failed,
        ),
        (
            "pod loops",
            object(
                "v1",
                "Pod",
                json!({}),
                json!({"phase": "Running", "containerStatuses":
                [{"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            ),
            State::Failed,
        ),
        (
            "service",
            object("v1", "Service", json!({"type": "ClusterIP"}), json!({})),
            State::Current,
        ),
        (
            "balancer",
            object("v1", "Service", json!({"type": "LoadBalancer"}), json!({})),
            State::InProgress,
        ),
        (
            "claim",
            object("v1", "PersistentVolumeClaim", json!({}), json!({"phase": "Bound"})),
            State::Current,
        ),
        (
            "claim waits",
            object("v1", "PersistentVolumeClaim", json!({}), json!({"phase": "Pending"})),
            State::InProgress,
        ),
        (
            "definition",
            object(
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                json!({}),
                one("Established", "True"),
            ),
            State::Current,
        ),
        (
            "definition new",
            object(
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                json!({}),
                json!({}),
            ),
            State::InProgress,
        ),
        ("plain", object("v1", "ConfigMap", json!({}), json!({})), State::Current),
        (
            "custom ready",
            object("x.io/v1", "Thing", json!({}), one("Ready", "True")),
            State::Current,
        ),
        (
            "custom not ready",
            object("x.io/v1", "Thing", json!({}), one("Ready", "False")),
            State::InProgress,
        ),
        (
            "custom stalled",
            object("x.io/v1", "Thing", json!({}), one("Stalled", "True")),
            State::Failed,
        ),
        (
            "custom deployment",
            object("x.io/v1", "Deployment", json!({}), json!({})),
            State::Current,
        ),
        (
            "custom behind",
            object("x.io/v1", "Thing", json!({}), json!({"observedGeneration": 0})),
            State::InProgress,
        ),
    ] {
        assert_eq!(verdict(&object).0, want, "{name}: {:?}", verdict(&object).1);
    }
}
