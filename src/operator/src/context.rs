//! What every part of the operator shares.

use crate::hub::Hub;
use crate::leases::{HubAddress, Renewals};
use crate::members::Members;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::tables::Checks;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::EventType;
use kube::{Client, Resource};
use multiactive_runtime::events::Events;
use tokio_util::task::TaskTracker;

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
    /// Copies of the Leases in the operator's namespace: those of units, and its own.
    pub leases: Mirror<Lease>,
    /// Which renewals of them this process has seen, and when.
    pub renewals: Renewals,
    /// Where members reach the hub; without it their agents keep no write leases in it.
    pub hub_address: Option<HubAddress>,
    /// Which Keyspaces can be used.
    pub checks: Checks,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    events: Events,
}

impl Context {
    /// A context with empty copies and no members yet.
    pub fn new(client: Client, namespace: String, identity: String, metrics: Metrics) -> Self {
        Self {
            events: Events::new(client.clone(), crate::apply::FIELD_MANAGER, &identity),
            client,
            namespace,
            identity,
            hub: Hub::default(),
            members: Members::default(),
            tasks: TaskTracker::new(),
            checks: Checks::default(),
            metrics,
            leases: Mirror::default(),
            renewals: Renewals::default(),
            hub_address: None,
        }
    }

    /// The same, for members that reach the hub there.
    #[must_use]
    pub fn with_hub_address(mut self, address: Option<HubAddress>) -> Self {
        self.hub_address = address;
        self
    }

    /// Publishes an event about `object`, in a task of its own: events never hold anything up.
    pub fn event<K: Resource<DynamicType = ()>>(&self, object: &K, kind: EventType, reason: &str, note: String) {
        self.event_for(object.object_ref(&()), kind, reason, note);
    }

    /// As [`Context::event`], for a reference.
    pub fn event_for(&self, reference: ObjectReference, kind: EventType, reason: &str, note: String) {
        self.tasks.spawn(self.events.tell(reference, kind, reason, note));
    }
}
