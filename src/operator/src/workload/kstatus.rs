//! Whether an object is what its spec asks for, read from the object alone (the rules of kstatus).

use serde_json::Value;

/// How far an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As asked for.
    Current,
    /// On its way.
    InProgress,
    /// Not without a change.
    Failed,
}

impl State {
    /// As written in `status.units[].objects[].state`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Current => "Current",
            Self::InProgress => "InProgress",
            Self::Failed => "Failed",
        }
    }
}

/// A state and, where it is not `Current`, why.
pub type Verdict = (State, Option<String>);

/// How far `object` is.
pub fn verdict(object: &Value) -> Verdict {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return wait("it is being deleted");
    }
    if let Some(observed) = int(object, "/status/observedGeneration")
        && Some(observed) != int(object, "/metadata/generation")
    {
        return wait("its controller has not seen the latest change yet");
    }
    let group = text(object, "/apiVersion")
        .rsplit_once('/')
        .map_or("", |(group, _)| group);
    match (group, text(object, "/kind")) {
        ("apps", "Deployment") => deployment(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => daemon_set(object),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => replica_set(object),
        ("batch", "Job") => job(object),
        ("", "Pod") => pod(object),
        ("", "Service") => service(object),
        ("", "PersistentVolumeClaim") => claim(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        _ => generic(object),
    }
}

fn current() -> Verdict {
    (State::Current, None)
}

fn wait(why: impl Into<String>) -> Verdict {
    (State::InProgress, Some(why.into()))
}

fn fail(why: impl Into<String>) -> Verdict {
    (State::Failed, Some(why.into()))
}

fn int(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer)?.as_i64()
}

/// A count of the status: one that is zero is left out by the API server.
fn count(object: &Value, field: &str) -> i64 {
    object
        .get("status")
        .and_then(|status| status.get(field))
        .and_then(Value::as_i64)
        .unwrap_or(0)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Status, reason and message of a condition.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, String)> {
    let list = object.pointer("/status/conditions")?.as_array()?;
    let found = list.iter().find(|c| text(c, "/type") == kind)?;
    let (reason, message) = (text(found, "/reason"), text(found, "/message"));
    let why = match (reason.is_empty(), message.is_empty()) {
        (false, false) => format!("{reason}: {message}"),
        (false, true) => reason.to_owned(),
        (true, false) => message.to_owned(),
        (true, true) => format!("condition {kind} is {}", text(found, "/status")),
    };
    Some((text(found, "/status"), why))
}

/// The first of these steps that lacks something: what is counted, how many there are, how many there should be.
fn lacking(steps: &[(&str, i64, i64)]) -> Option<Verdict> {
    let (what, have, want) = steps.iter().find(|(_, have, want)| have < want)?;
    Some(wait(format!("{have} of {want} replicas {what}")))
}

fn deployment(object: &Value) -> Verdict {
    if let Some(("False", why)) = condition(object, "Progressing")
        && why.starts_with("ProgressDeadlineExceeded")
    {
        return fail(why);
    }
    if let Some(("True", why)) = condition(object, "ReplicaFailure") {
        return fail(why);
    }
    let want = int(object, "/spec/replicas").unwrap_or(1);
    if int(object, "/status/observedGeneration").is_none() {
        return wait("its controller has not seen it yet");
    }
    let (all, updated) = (count(object, "replicas"), count(object, "updatedReplicas"));
    if let Some(verdict) = lacking(&[("updated", updated, want)]) {
        return verdict;
    }
    if all > updated {
        return wait(format!("{} old replicas are still there", all - updated));
    }
    let (available, ready) = (count(object, "availableReplicas"), count(object, "readyReplicas"));
    if let Some(verdict) = lacking(&[("ready", ready, want), ("available", available, want)]) {
        return verdict;
    }
    match condition(object, "Available") {
        Some(("True", _)) => current(),
        Some((_, why)) => wait(why),
        None => wait("it has no condition Available yet"),
    }
}

fn stateful_set(object: &Value) -> Verdict {
    if text(object, "/spec/updateStrategy/type") == "OnDelete" {
        return current();
    }
    let want = int(object, "/spec/replicas").unwrap_or(1);
    if int(object, "/status/observedGeneration").is_none() {
        return wait("its controller has not seen it yet");
    }
    let ready = count(object, "readyReplicas");
    if let Some(verdict) = lacking(&[("created", count(object, "replicas"), want), ("ready", ready, want)]) {
        return verdict;
    }
    if count(object, "replicas") > want {
        return wait(format!(
            "{} replicas too many are still there",
            count(object, "replicas") - want
        ));
    }
    let partition = int(object, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    if let Some(verdict) = lacking(&[("updated", count(object, "updatedReplicas"), want - partition)]) {
        return verdict;
    }
    if partition == 0 && text(object, "/status/currentRevision") != text(object, "/status/updateRevision") {
        return wait("the update is not finished");
    }
    current()
}

fn daemon_set(object: &Value) -> Verdict {
    if int(object, "/status/observedGeneration").is_none() {
        return wait("its controller has not seen it yet");
    }
    let want = count(object, "desiredNumberScheduled");
    lacking(&[
        ("scheduled", count(object, "currentNumberScheduled"), want),
        ("updated", count(object, "updatedNumberScheduled"), want),
        ("available", count(object, "numberAvailable"), want),
        ("ready", count(object, "numberReady"), want),
    ])
    .unwrap_or_else(current)
}

fn replica_set(object: &Value) -> Verdict {
    if let Some(("True", why)) = condition(object, "ReplicaFailure") {
        return fail(why);
    }
    let want = int(object, "/spec/replicas").unwrap_or(1);
    lacking(&[
        ("ready", count(object, "readyReplicas"), want),
        ("available", count(object, "availableReplicas"), want),
    ])
    .unwrap_or_else(current)
}

/// Unlike plain kstatus, a Job that still runs is not yet what was asked for: others wait for its end.
fn job(object: &Value) -> Verdict {
    if let Some(("True", why)) = condition(object, "Failed") {
        return fail(why);
    }
    match condition(object, "Complete") {
        Some(("True", _)) => current(),
        Some(_) | None if object.pointer("/spec/suspend") == Some(&Value::Bool(true)) => current(),
        Some(_) | None => wait(format!(
            "it runs: {} succeeded, {} failed",
            count(object, "succeeded"),
            count(object, "failed")
        )),
    }
}

fn pod(object: &Value) -> Verdict {
    match text(object, "/status/phase") {
        "Succeeded" => return current(),
        "Failed" => return fail(format!("the pod failed {}", text(object, "/status/message"))),
        _ => {}
    }
    let containers = object.pointer("/status/containerStatuses").and_then(Value::as_array);
    for container in containers.into_iter().flatten() {
        if text(container, "/state/waiting/reason") == "CrashLoopBackOff" {
            let (name, message) = (text(container, "/name"), text(container, "/state/waiting/message"));
            return fail(format!("container {name} ends again and again: {message}"));
        }
    }
    match (condition(object, "Ready"), condition(object, "PodScheduled")) {
        (Some(("True", _)), _) => current(),
        (_, Some(("False", why))) | (Some((_, why)), _) => wait(why),
        (None, _) => wait("it has not started yet"),
    }
}

fn service(object: &Value) -> Verdict {
    if text(object, "/spec/type") == "LoadBalancer" && text(object, "/spec/clusterIP").is_empty() {
        return wait("it has no address yet");
    }
    current()
}

fn claim(object: &Value) -> Verdict {
    match text(object, "/status/phase") {
        "Bound" => current(),
        "Lost" => fail("its volume is lost"),
        "" => wait("it is not bound yet"),
        phase => wait(format!("it is {phase}, not Bound")),
    }
}

fn definition(object: &Value) -> Verdict {
    if let Some(("False", why)) = condition(object, "NamesAccepted") {
        return fail(why);
    }
    match condition(object, "Established") {
        Some(("True", _)) => current(),
        Some((_, why)) => wait(why),
        None => wait("it is not established yet"),
    }
}

/// Any other kind: abnormal-true conditions first, then `Ready`; without either it is current as soon as it exists.
fn generic(object: &Value) -> Verdict {
    if let Some(("True", why)) = condition(object, "Stalled") {
        return fail(why);
    }
    if let Some(("True", why)) = condition(object, "Reconciling") {
        return wait(why);
    }
    match condition(object, "Ready") {
        None | Some(("True", _)) => current(),
        Some((_, why)) => wait(why),
    }
}

#[cfg(test)]
mod tests {
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
}
