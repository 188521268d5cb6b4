//! What `/metrics` shows of the operator itself; all names begin with `multiactive_`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The outcome of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CommitLabels {
    /// committed, conflict, refused or unknown.
    pub outcome: &'static str,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NamespaceLabels {
    /// Its name.
    pub namespace: String,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndLabels {
    /// Succeeded, Refused or Aborted.
    pub outcome: String,
    /// One word, empty for Succeeded.
    pub reason: String,
}

/// A member cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MemberLabels {
    /// Its name.
    pub member: String,
}

/// A kind of task.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TaskLabels {
    /// What it does.
    pub task: &'static str,
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabels {
    /// The kind.
    pub kind: &'static str,
}

/// All metrics; cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Attempts to change the record.
    pub commits: Family<CommitLabels, Counter>,
    /// Slots that no unit owns.
    pub slots_without_owner: Family<NamespaceLabels, Gauge>,
    /// Operations that run.
    pub operations: Family<NamespaceLabels, Gauge>,
    /// Operations that ended.
    pub ended: Family<EndLabels, Counter>,
    /// From Hold until the target serves, in seconds.
    pub pause: Histogram,
    /// 1 while a member answers.
    pub member_ready: Family<MemberLabels, Gauge>,
    /// Projections behind the record, by member.
    pub publish: Histogram,
    /// Objects written, by kind; a resync adds nothing.
    pub writes: Family<WriteLabels, Counter>,
    /// Tasks that panicked and began anew; anything above zero is a fault of this program.
    pub panics: Family<TaskLabels, Counter>,
    /// 1 while this process leads.
    pub leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            commits: Family::default(),
            slots_without_owner: Family::default(),
            operations: Family::default(),
            ended: Family::default(),
            pause: Histogram::new(exponential_buckets(0.005, 2.0, 14)),
            member_ready: Family::default(),
            publish: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            writes: Family::default(),
            panics: Family::default(),
            leader: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Puts all metrics into `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("multiactive");
        registry.register("commits", "Attempts to change a routing table", self.commits.clone());
        let help = "Slots that no unit owns";
        registry.register("slots_without_owner", help, self.slots_without_owner.clone());
        registry.register("operations", "Operations that run", self.operations.clone());
        registry.register("operations_ended", "Operations that ended", self.ended.clone());
        let help = "From Hold until the target serves";
        registry.register("promotion_pause_seconds", help, self.pause.clone());
        registry.register(
            "member_ready",
            "Whether a member cluster answers",
            self.member_ready.clone(),
        );
        let help = "From a commit until a member holds the table";
        registry.register("publish_seconds", help, self.publish.clone());
        registry.register("writes", "Objects written", self.writes.clone());
        let help = "Tasks that panicked and began anew";
        registry.register("panics", help, self.panics.clone());
        registry.register("leader", "Whether this process leads", self.leader.clone());
    }

    /// Counts a write.
    pub fn wrote(&self, kind: &'static str) {
        self.writes.get_or_create(&WriteLabels { kind }).inc();
    }
}
