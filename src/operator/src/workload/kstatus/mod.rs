//! Whether an object is what its spec asks for, read from the object alone (the rules of kstatus). Kinds that run pods
//! are in `pods`, all others here.

mod pods;

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
        ("apps", "Deployment") => pods::deployment(object),
        ("apps", "StatefulSet") => pods::stateful_set(object),
        ("apps", "DaemonSet") => pods::daemon_set(object),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => pods::replica_set(object),
        ("batch", "Job") => pods::job(object),
        ("", "Pod") => pods::pod(object),
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
mod tests;
