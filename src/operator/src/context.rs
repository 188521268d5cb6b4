//! What every part of the operator shares.

use crate::hub::Hub;
use crate::members::Members;
use crate::metrics::Metrics;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio_util::task::TaskTracker;

/// The longest note that an event may carry, in bytes.
const NOTE_MAX: usize = 1000;

/// What every part of the operator shares; in an `Arc`.
pub struct Context {
    /// The hub's API server; without retries of its own.
    pub client: Client,
    /// The operator's own namespace in the hub.
    pub namespace: String,
    /// This process's name, the pod's, as holder of the lease and reporter of events.
    pub identity: String,
    /// Copies of the hub's objects.
    pub hub: Hub,
    /// The members that have been reached.
    pub members: Members,
    /// Tasks that the process waits for before it ends.
    pub tasks: TaskTracker,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    recorder: Recorder,
}

impl Context {
    /// A context with empty copies and no members yet.
    pub fn new(client: Client, namespace: String, identity: String, metrics: Metrics) -> Self {
        let reporter = Reporter {
            controller: crate::apply::FIELD_MANAGER.to_owned(),
            instance: Some(identity.clone()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            namespace,
            identity,
            hub: Hub::default(),
            members: Members::default(),
            tasks: TaskTracker::new(),
            metrics,
        }
    }

    /// Publishes an event about `object`, in a task of its own: events never hold anything up, and one that fails is
    /// logged and lost.
    pub fn event<K: Resource<DynamicType = ()>>(&self, object: &K, kind: EventType, reason: &str, note: String) {
        self.event_for(object.object_ref(&()), kind, reason, note);
    }

    /// As [`Context::event`], for a reference.
    pub fn event_for(&self, reference: ObjectReference, kind: EventType, reason: &str, mut note: String) {
        if note.len() > NOTE_MAX {
            let end = (0..=NOTE_MAX).rev().find(|at| note.is_char_boundary(*at));
            note.truncate(end.unwrap_or(0));
        }
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note),
            action: reason.to_owned(),
            secondary: None,
        };
        let recorder = self.recorder.clone();
        self.tasks.spawn(async move {
            let published = tokio::time::timeout(crate::apply::CALL_LIMIT, recorder.publish(&event, &reference)).await;
            let error = match published {
                Ok(Ok(())) => return,
                Ok(Err(error)) => crate::error::chain(&error),
                Err(_) => "no answer".to_owned(),
            };
            tracing::warn!(
                reason = event.reason,
                name = reference.name,
                error,
                "event was not published"
            );
        });
    }
}
