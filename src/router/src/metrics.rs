//! What a router counts. Counters are made once, so counting a request is one addition.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Labels of refused requests and objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// One word.
    pub reason: &'static str,
}

/// Labels of passed requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct To {
    to: &'static str,
}

/// The metrics of one router.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Requests passed to a local backend.
    pub home: Counter,
    /// Requests passed to another unit's router.
    pub forwarded: Counter,
    /// Requests that the router answered by itself.
    pub answered: Family<Reason, Counter>,
    /// Requests that had to wait, by the first cause.
    pub held: Family<Reason, Counter>,
    /// How long they waited.
    pub held_seconds: Histogram,
    /// Requests that wait now.
    pub waiting: Gauge,
    /// Requests that were sent anew because the other router said 421.
    pub resent: Counter,
    /// Objects that could not be used; the last good one stays.
    pub unusable: Family<Reason, Counter>,
    /// The term of the table in force.
    pub table_term: Gauge,
    /// The epoch of the table in force.
    pub table_epoch: Gauge,
    /// 1 while the agent is connected.
    pub agent_connected: Gauge,
}

impl Metrics {
    /// Metrics, registered.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("multiactive_router");
        let passed = Family::<To, Counter>::default();
        let metrics = Self {
            home: passed.get_or_create_owned(&To { to: "home" }),
            forwarded: passed.get_or_create_owned(&To { to: "router" }),
            answered: Family::default(),
            held: Family::default(),
            held_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 17)),
            waiting: Gauge::default(),
            resent: Counter::default(),
            unusable: Family::default(),
            table_term: Gauge::default(),
            table_epoch: Gauge::default(),
            agent_connected: Gauge::default(),
        };
        registry.register("requests", "Requests passed on", passed);
        registry.register(
            "answers",
            "Requests answered by the router itself",
            metrics.answered.clone(),
        );
        registry.register("held", "Requests that had to wait", metrics.held.clone());
        registry.register_with_unit(
            "hold",
            "How long they waited",
            Unit::Seconds,
            metrics.held_seconds.clone(),
        );
        registry.register("waiting", "Requests that wait now", metrics.waiting.clone());
        registry.register("resent", "Requests sent anew after a 421", metrics.resent.clone());
        registry.register(
            "unusable_objects",
            "Objects that could not be used",
            metrics.unusable.clone(),
        );
        registry.register("table_term", "Term of the table in force", metrics.table_term.clone());
        registry.register(
            "table_epoch",
            "Epoch of the table in force",
            metrics.table_epoch.clone(),
        );
        registry.register(
            "agent_connected",
            "1 while the agent is connected",
            metrics.agent_connected.clone(),
        );
        metrics
    }

    /// Counts an object that could not be used.
    pub fn count_unusable(&self, reason: &'static str) {
        self.unusable.get_or_create(&Reason { reason }).inc();
    }

    /// Counts an answer of the router itself.
    pub fn count_answer(&self, reason: &'static str) {
        self.answered.get_or_create(&Reason { reason }).inc();
    }
}
