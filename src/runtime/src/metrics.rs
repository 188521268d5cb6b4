//! Metrics of a program: made and shown in one call, so that none is counted and not shown.

use multiactive_core::epoch::Epoch;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

/// Where a program shows its metrics.
#[derive(Debug)]
pub struct Shown<'r>(&'r mut Registry);

impl<'r> Shown<'r> {
    /// Metrics whose names begin with `multiactive_` and the program's name.
    pub fn of(registry: &'r mut Registry, program: &str) -> Self {
        Self(registry.sub_registry_with_prefix(format!("multiactive_{program}")))
    }

    /// Shows a metric, whose clones share its value.
    pub fn show<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    /// A new metric, shown.
    pub fn make<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.show(name, help, M::default())
    }

    /// Seconds from `least` on, in `steps` buckets that double. The name ends with `_seconds`.
    pub fn seconds(&mut self, name: &str, help: &str, least: f64, steps: u16) -> Histogram {
        let histogram = Histogram::new(exponential_buckets(least, 2.0, steps));
        self.show(&format!("{name}_seconds"), help, histogram)
    }

    /// An epoch, as `<name>_term` and `<name>_epoch`.
    pub fn epoch(&mut self, name: &str, of_what: &str) -> EpochGauge {
        EpochGauge {
            term: self.make(&format!("{name}_term"), &format!("Term of {of_what}")),
            epoch: self.make(&format!("{name}_epoch"), &format!("Epoch of {of_what}")),
        }
    }
}

/// An epoch among the metrics.
#[derive(Clone, Debug, Default)]
pub struct EpochGauge {
    term: Gauge,
    epoch: Gauge,
}

impl EpochGauge {
    /// Shows another one.
    pub fn set(&self, epoch: Epoch) {
        self.term.set(epoch.term.into());
        self.epoch.set(i64::try_from(epoch.epoch).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn what_is_made_is_shown_under_the_programs_name() {
        let mut registry = Registry::default();
        let mut shown = Shown::of(&mut registry, "router");
        let requests: Counter = shown.make("requests", "Requests");
        let table = shown.epoch("table", "the table in force");
        let held = shown.seconds("hold", "How long", 0.5, 3);
        requests.inc();
        table.set(Epoch::new(3, 41));
        held.observe(0.7);
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        for line in [
            "multiactive_router_requests_total 1",
            "multiactive_router_table_term 3",
            "multiactive_router_table_epoch 41",
            "multiactive_router_hold_seconds_bucket{le=\"1.0\"} 1",
        ] {
            assert!(page.lines().any(|shown| shown == line), "{line} is missing in:\n{page}");
        }
    }
}
