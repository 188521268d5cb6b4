//! A pod's status, from what is known of its containers. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::views::{Ended, State, View};

/// The type of a condition, its status, and since when it has it.
pub(super) type Transitions = BTreeMap<String, (String, String)>;

/// The transitions that a pod's object shows.
pub(super) fn transitions(pod: &Pod) -> Transitions {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let time = |c: &k8s_openapi::api::core::v1::PodCondition| c.last_transition_time.as_ref().map(|t| t.0.to_string());
    conditions
        .filter_map(|c| Some((c.type_.clone(), (c.status.clone(), time(c)?))))
        .collect()
}

/// The status to write; `known` keeps the times of conditions that did not change.
pub(super) fn of(pod: &Pod, views: &BTreeMap<String, View>, known: &mut Transitions, now: Timestamp) -> Value {
    let none = Vec::new();
    let spec = pod.spec.as_ref();
    let main = spec.map_or(&none, |spec| &spec.containers);
    let init = spec.and_then(|spec| spec.init_containers.as_ref()).unwrap_or(&none);
    let phase = phase(main, views);
    let initialized = init.iter().all(|container| {
        let view = views.get(&container.name);
        view.is_some_and(|view| match &view.state {
            State::Ended(ended) => ended.code == 0,
            State::Running { .. } => is_sidecar(container),
            State::Waiting(_) => false,
        })
    });
    let unready: Vec<&str> = main
        .iter()
        .filter(|container| !views.get(&container.name).is_some_and(|view| view.ready))
        .map(|container| container.name.as_str())
        .collect();
    let (reason, message) = match phase {
        _ if unready.is_empty() => ("", String::new()),
        "Succeeded" => ("PodCompleted", String::new()),
        "Failed" => ("PodFailed", String::new()),
        _ => (
            "ContainersNotReady",
            format!("containers with unready status: [{}]", unready.join(" ")),
        ),
    };
    let gates = spec
        .and_then(|spec| spec.readiness_gates.as_ref())
        .unwrap_or(&Vec::new())
        .iter()
        .all(|gate| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|c| c.type_ == gate.condition_type && c.status == "True")
        });
    let mut condition = |type_: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let entry = known
            .entry(type_.to_owned())
            .or_insert_with(|| (status.to_owned(), now.to_string()));
        if entry.0 != status {
            *entry = (status.to_owned(), now.to_string());
        }
        let mut condition = json!({"type": type_, "status": status, "lastTransitionTime": entry.1});
        // An empty value takes back an earlier one: the patch merges.
        condition["reason"] = if reason.is_empty() { Value::Null } else { reason.into() };
        condition["message"] = if message.is_empty() {
            Value::Null
        } else {
            message.into()
        };
        condition
    };
    let conditions = json!([
        condition("PodScheduled", true, "", ""),
        condition(
            "Initialized",
            initialized,
            if initialized { "" } else { "ContainersNotInitialized" },
            ""
        ),
        condition("ContainersReady", unready.is_empty(), reason, &message),
        condition(
            "Ready",
            unready.is_empty() && gates,
            if unready.is_empty() && !gates {
                "ReadinessGatesNotReady"
            } else {
                reason
            },
            &message
        ),
    ]);
    let statuses = |containers: &[Container]| -> Value {
        let known = containers
            .iter()
            .filter_map(|container| Some((container, views.get(&container.name)?)));
        known
            .map(|(container, view)| container_status(container, view))
            .collect()
    };
    json!({
        "phase": phase,
        "hostIP": "127.0.0.1",
        "startTime": pod.status.as_ref().and_then(|s| s.start_time.clone()).map_or_else(|| now.to_string(), |t| t.0.to_string()),
        "conditions": conditions,
        "containerStatuses": statuses(main),
        "initContainerStatuses": statuses(init),
    })
}

/// Whether an init container goes on running beside the others.
pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn phase(main: &[Container], views: &BTreeMap<String, View>) -> &'static str {
    let states = || main.iter().filter_map(|container| views.get(&container.name));
    let code = |view: &View| match &view.state {
        State::Ended(ended) if view.over => Some(ended.code),
        State::Ended(_) | State::Running { .. } | State::Waiting(_) => None,
    };
    if !main.is_empty() && states().all(|view| code(view).is_some()) {
        return if states().all(|view| code(view) == Some(0)) {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    let began = |view: &View| view.last.is_some() || !matches!(view.state, State::Waiting(_));
    if states().any(began) { "Running" } else { "Pending" }
}

fn container_status(container: &Container, view: &View) -> Value {
    let image = container.image.as_deref().unwrap_or_default();
    let (state, id) = match &view.state {
        State::Waiting(waiting) => (
            json!({"waiting": {"reason": waiting.reason, "message": waiting.message}}),
            view.last.as_ref().map(|l| l.pid),
        ),
        State::Running { pid, since } => (json!({"running": {"startedAt": since.to_string()}}), Some(*pid)),
        State::Ended(ended) => (json!({"terminated": terminated(ended)}), Some(ended.pid)),
    };
    let mut status = json!({
        "name": container.name, "image": image, "imageID": "", "ready": view.ready, "started": view.started,
        "restartCount": view.restarts, "state": state,
    });
    if let Some(pid) = id {
        status["containerID"] = process_id(pid).into();
    }
    if let Some(last) = &view.last {
        status["lastState"] = json!({"terminated": terminated(last)});
    }
    status
}

fn terminated(ended: &Ended) -> Value {
    let mut value = json!({
        "exitCode": ended.code,
        "reason": if ended.code == 0 { "Completed" } else { "Error" },
        "startedAt": ended.since.to_string(), "finishedAt": ended.at.to_string(),
        "containerID": process_id(ended.pid),
    });
    if !ended.message.is_empty() {
        let message = ended.message.as_str();
        value["message"] = message[message.ceil_char_boundary(message.len().saturating_sub(1000))..].into();
    }
    value
}

/// How a process is named where Kubernetes names containers.
fn process_id(pid: i32) -> String {
    format!("process://{pid}")
}

#[cfg(test)]
mod tests {
    use super::super::Waiting;
    use super::*;

    fn view(state: State, over: bool, ready: bool) -> View {
        View {
            state,
            last: None,
            restarts: 0,
            started: ready,
            ready,
            over,
        }
    }

    fn ended(code: i32) -> State {
        let at = Timestamp::UNIX_EPOCH;
        State::Ended(Ended {
            pid: 1,
            code,
            since: at,
            at,
            message: String::new(),
        })
    }

    #[test]
    fn the_phase_follows_from_the_containers() {
        let running = || State::Running {
            pid: 1,
            since: Timestamp::UNIX_EPOCH,
        };
        let waiting = || {
            State::Waiting(Waiting {
                reason: "ContainerCreating",
                message: String::new(),
            })
        };
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}))
                .unwrap();
        for (a, b, phase, ready) in [
            (
                view(waiting(), false, false),
                view(waiting(), false, false),
                "Pending",
                "False",
            ),
            (
                view(running(), false, true),
                view(waiting(), false, false),
                "Running",
                "False",
            ),
            (
                view(running(), false, true),
                view(running(), false, true),
                "Running",
                "True",
            ),
            (
                view(ended(1), false, false),
                view(running(), false, true),
                "Running",
                "False",
            ),
            (
                view(ended(0), true, false),
                view(ended(0), true, false),
                "Succeeded",
                "False",
            ),
            (
                view(ended(0), true, false),
                view(ended(3), true, false),
                "Failed",
                "False",
            ),
        ] {
            let views = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
            let status = of(&pod, &views, &mut Transitions::new(), Timestamp::UNIX_EPOCH);
            assert_eq!(status["phase"], phase, "{views:?}");
            assert_eq!(status["conditions"][3]["status"], ready, "{views:?}");
            assert!(status.get("podIP").is_none(), "EndpointSlices refuse loopback");
        }
    }

    #[test]
    fn a_transition_time_moves_only_when_the_status_flips() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}})).unwrap();
        let mut known = Transitions::new();
        let mut ready_since = |ready, seconds| {
            let state = State::Running {
                pid: 1,
                since: Timestamp::UNIX_EPOCH,
            };
            let views = BTreeMap::from([("a".to_owned(), view(state, false, ready))]);
            let now = Timestamp::from_second(seconds).unwrap();
            of(&pod, &views, &mut known, now)["conditions"][3]["lastTransitionTime"].clone()
        };
        assert_eq!(ready_since(true, 1), ready_since(true, 2));
        assert_eq!(ready_since(false, 3), "1970-01-01T00:00:03Z");
    }
}
