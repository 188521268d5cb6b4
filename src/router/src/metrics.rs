//! What a router counts. Counters are made once, so counting a request is one addition.

use multiactive_runtime::metrics::{EpochGauge, Shown};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

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
    /// Writes that a service's database refused, each time.
    pub refused: Counter,
    /// Objects that could not be used; the last good one stays.
    pub unusable: Family<Reason, Counter>,
    /// The table in force.
    pub table: EpochGauge,
    /// 1 while what is in force was saved before the start and the API server has not given it yet.
    pub from_file: Gauge,
    /// The table that was saved for a restart.
    pub saved: EpochGauge,
    /// 1 while the agent is connected.
    pub agent_connected: Gauge,
}

impl Metrics {
    /// Metrics, registered.
    pub fn new(registry: &mut Registry) -> Self {
        let mut shown = Shown::of(registry, "router");
        let passed: Family<To, Counter> = shown.make("requests", "Requests passed on");
        let saved = "what is in force was saved before the start, and the API server has not given it yet";
        Self {
            home: passed.get_or_create_owned(&To { to: "home" }),
            forwarded: passed.get_or_create_owned(&To { to: "router" }),
            answered: shown.make("answers", "Requests answered by the router itself"),
            held: shown.make("held", "Requests that had to wait"),
            held_seconds: shown.seconds("hold", "How long they waited", 0.001, 17),
            waiting: shown.make("waiting", "Requests that wait now"),
            resent: shown.make("resent", "Requests sent anew after a 421"),
            refused: shown.make("refused_writes", "Writes that a database refused, each time"),
            unusable: shown.make("unusable_objects", "Objects that could not be used"),
            table: shown.epoch("table", "the table in force"),
            from_file: shown.make("table_from_file", &format!("1 while {saved}")),
            saved: shown.epoch("saved", "the table saved for a restart"),
            agent_connected: shown.make("agent_connected", "1 while the agent is connected"),
        }
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
