//! The verdicts on kinds that run pods.

use super::{Verdict, condition, count, current, fail, int, text, wait};
use serde_json::Value;

/// The first of these steps that lacks something: what is counted, how many there are, how many there should be.
fn lacking(steps: &[(&str, i64, i64)]) -> Option<Verdict> {
    let (what, have, want) = steps.iter().find(|(_, have, want)| have < want)?;
    Some(wait(format!("{have} of {want} replicas {what}")))
}

pub(super) fn deployment(object: &Value) -> Verdict {
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

pub(super) fn stateful_set(object: &Value) -> Verdict {
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

pub(super) fn daemon_set(object: &Value) -> Verdict {
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

pub(super) fn replica_set(object: &Value) -> Verdict {
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
pub(super) fn job(object: &Value) -> Verdict {
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

pub(super) fn pod(object: &Value) -> Verdict {
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
