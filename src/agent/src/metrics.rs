//! What `/metrics` shows of the agent; every name begins with `multiactive_agent_`.

use crate::routers::UnitKey;
use multiactive_api::{AssignedStore, UnitAssignmentStatus};
use multiactive_runtime::metrics::Shown;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnitLabels {
    namespace: String,
    unit: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    namespace: String,
    unit: String,
    store: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConflictLabels {
    namespace: String,
    unit: String,
    store: String,
    state: &'static str,
}

impl StoreLabels {
    fn of(&self, state: &'static str) -> ConflictLabels {
        ConflictLabels {
            namespace: self.namespace.clone(),
            unit: self.unit.clone(),
            store: self.store.clone(),
            state,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkLabels {
    namespace: String,
    unit: String,
    store: String,
    from: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    verb: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RenewalLabels {
    outcome: &'static str,
}

/// The agent's metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    leading: Gauge,
    applied: Family<UnitLabels, Gauge>,
    routers: Family<UnitLabels, Gauge>,
    ready: Family<StoreLabels, Gauge>,
    conflicts: Family<ConflictLabels, Gauge>,
    lag: Family<LinkLabels, Gauge<f64, AtomicU64>>,
    seconds: Family<VerbLabels, Histogram, fn() -> Histogram>,
    verbs: Family<OutcomeLabels, Counter>,
    writes: Counter,
    failed_writes: Counter,
    renewals: Family<RenewalLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            leading: Gauge::default(),
            applied: Family::default(),
            routers: Family::default(),
            ready: Family::default(),
            conflicts: Family::default(),
            lag: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14))),
            verbs: Family::default(),
            writes: Counter::default(),
            failed_writes: Counter::default(),
            renewals: Family::default(),
        }
    }
}

impl Metrics {
    /// Metrics that `registry` shows.
    pub fn registered(registry: &mut Registry) -> Self {
        let mut shown = Shown::of(registry, "agent");
        let Self { seconds, .. } = Self::default();
        Self {
            leading: shown.make("leading", "1 while this agent leads"),
            applied: shown.make("applied_epoch", "Epoch of the table that all stores stand at"),
            routers: shown.make("routers_connected", "Routers that are connected"),
            ready: shown.make("store_ready", "1 while a store is in hand"),
            conflicts: shown.make(
                "conflicts",
                "Rows listed in a store because two units wrote them at the same time: open, and settled in the last 30 days",
            ),
            lag: shown.make(
                "link_lag_seconds",
                "How long what is written at the other unit takes to be read here, at most, in steps; absent while unknown",
            ),
            seconds: shown.show("verb_seconds", "Time that a verb of a store took", seconds),
            verbs: shown.make("verbs", "Verbs of stores, by outcome"),
            writes: shown.make("status_writes", "Writes of a UnitAssignment's status"),
            failed_writes: shown.make("status_write_failures", "Writes of a status that failed"),
            renewals: shown.make("lease_renewals", "Attempts at renewing a write lease, by outcome"),
        }
    }

    /// Whether this agent leads.
    pub fn set_leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }

    /// Counts a verb.
    pub fn verb(&self, verb: &'static str, outcome: &'static str, took: Duration) {
        self.seconds
            .get_or_create(&VerbLabels { verb })
            .observe(took.as_secs_f64());
        self.verbs.get_or_create(&OutcomeLabels { verb, outcome }).inc();
    }

    /// Counts an attempt at renewing a lease.
    pub fn renewal(&self, outcome: &'static str) {
        self.renewals.get_or_create(&RenewalLabels { outcome }).inc();
    }

    /// Counts a write of a status.
    pub fn status_write(&self, worked: bool) {
        if worked {
            self.writes.inc()
        } else {
            self.failed_writes.inc()
        };
    }

    /// Shows a unit as its status says.
    pub fn unit(&self, key: &UnitKey, status: &UnitAssignmentStatus) {
        let (namespace, unit) = (key.namespace.clone(), key.unit.clone());
        let labels = UnitLabels { namespace, unit };
        let applied = status.applied.map_or(0, |applied| applied.epoch);
        self.applied.get_or_create(&labels).set(applied);
        let connected = status.routers.iter().filter(|router| router.connected).count();
        self.routers
            .get_or_create(&labels)
            .set(i64::try_from(connected).unwrap_or(i64::MAX));
        for store in &status.stores {
            let labels = StoreLabels {
                namespace: key.namespace.clone(),
                unit: key.unit.clone(),
                store: store.name.clone(),
            };
            self.ready.get_or_create(&labels).set(i64::from(store.ready));
            if let Some(known) = store.conflicts {
                self.conflicts.get_or_create(&labels.of("open")).set(known.open);
                self.conflicts.get_or_create(&labels.of("settled")).set(known.settled);
            }
        }
        for link in &status.links {
            let labels = LinkLabels {
                namespace: key.namespace.clone(),
                unit: key.unit.clone(),
                store: link.store.clone(),
                from: link.from.clone(),
            };
            match link.lag_ms {
                Some(millis) => {
                    self.lag.get_or_create(&labels).set(millis as f64 / 1000.0);
                }
                None => {
                    self.lag.remove(&labels);
                }
            }
        }
    }

    /// Forgets a unit that is not ours any more.
    pub fn forget(&self, key: &UnitKey, stores: &[AssignedStore]) {
        let (namespace, unit) = (key.namespace.clone(), key.unit.clone());
        let labels = UnitLabels { namespace, unit };
        self.applied.remove(&labels);
        self.routers.remove(&labels);
        for store in stores {
            let labels = StoreLabels {
                namespace: key.namespace.clone(),
                unit: key.unit.clone(),
                store: store.name.clone(),
            };
            self.ready.remove(&labels);
            for state in ["open", "settled"] {
                self.conflicts.remove(&labels.of(state));
            }
            for peer in &store.peers {
                self.lag.remove(&LinkLabels {
                    namespace: key.namespace.clone(),
                    unit: key.unit.clone(),
                    store: store.name.clone(),
                    from: peer.unit.clone(),
                });
            }
        }
    }
}
