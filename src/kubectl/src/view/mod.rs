//! Views: pure functions from what was read to what is shown. Nothing here asks a server or prints.

pub mod away;
pub mod changes;
pub mod event;
pub mod failover;
pub mod failover_lost;
pub mod failover_seen;
pub mod failover_shapes;
#[cfg(test)]
mod failover_tests;
pub mod failover_text;
#[cfg(test)]
pub mod fixtures;
pub mod gone;
pub mod plan;
#[cfg(test)]
mod plan_tests;
pub mod problems;
#[cfg(test)]
mod problems_tests;
pub mod route;
pub mod shapes;
pub mod status;
pub mod status_tables;
pub mod status_text;
#[cfg(test)]
mod status_text_tests;
pub mod steps;
pub mod verify;
pub mod verify_steps;
#[cfg(test)]
mod verify_tests;
pub mod verify_text;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use multiactive_api::{READY, STALLED};
use serde::Serialize;

/// Whether an object is ready, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// `True`, `False` or `Unknown`; `Unknown` too where nothing was reported yet.
    pub ready: String,
    /// One word.
    pub reason: String,
    /// What is true and what to do.
    pub message: String,
    /// Whether it cannot go on without a change from outside.
    pub stalled: bool,
}

impl Readiness {
    /// From the conditions of an object.
    pub fn of(conditions: &[Condition]) -> Self {
        let find = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
        let Some(ready) = find(READY) else {
            return Self {
                ready: "Unknown".to_owned(),
                reason: "NotReported".to_owned(),
                message: "the operator has said nothing of it yet: does it run?".to_owned(),
                stalled: false,
            };
        };
        Self {
            ready: ready.status.clone(),
            reason: ready.reason.clone(),
            message: ready.message.clone(),
            stalled: find(STALLED).is_some_and(|condition| condition.status == "True"),
        }
    }

    /// Whether it is.
    pub fn is_ready(&self) -> bool {
        self.ready == "True"
    }
}

/// The name of an object for people: `Unit shop/east-1`, or without a namespace `Region east`.
pub fn object(kind: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace.filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}
