//! What `status` says, as data: the documented shape of its JSON.

use super::Readiness;
use super::problems::Problem;
use crate::operations::OperationView;
use multiactive_api::{LeaseMode, LeaseState};
use serde::Serialize;

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// Whether nothing is wrong.
    pub healthy: bool,
    /// What is wrong, first causes first.
    pub problems: Vec<Problem>,
    /// What may not be read, and so is unknown.
    pub unknown: Vec<String>,
    /// Regions with their clusters with their units.
    pub regions: Vec<RegionView>,
    /// Who owns what.
    pub ranges: Vec<RangeView>,
    /// Who writes the stores that one unit writes.
    pub writers: Vec<WriterView>,
    /// Operations that run.
    pub operations: Vec<OperationView>,
    /// Links that do not stream.
    pub links: Vec<LinkView>,
    /// The record of each namespace.
    pub tables: Vec<TableView>,
}

/// A Region.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionView {
    /// Its name; absent for clusters whose Region is not known.
    pub name: Option<String>,
    /// The name that people read.
    pub display_name: Option<String>,
    /// Whether it is ready.
    #[serde(flatten)]
    pub readiness: Readiness,
    /// Its clusters.
    pub clusters: Vec<ClusterView>,
}

/// A MemberCluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// Its name.
    pub name: String,
    /// Whether it is the hub.
    pub hub: bool,
    /// Its Kubernetes.
    pub version: Option<String>,
    /// When it answered last, where it does not answer now.
    pub last_seen: Option<String>,
    /// When its credentials end.
    pub credentials_until: Option<String>,
    /// Whether it is ready.
    #[serde(flatten)]
    pub readiness: Readiness,
    /// Its units.
    pub units: Vec<UnitView>,
}

/// A Unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: String,
    /// How many slots it owns; absent where nothing was reported.
    pub slots: Option<i32>,
    /// The table that its agent has applied.
    pub applied: Option<String>,
    /// Whether that is older than the record; absent where either is not known.
    pub behind: Option<bool>,
    /// How its write lease stands, by its agent; absent where it has not said.
    pub lease: Option<LeaseState>,
    /// What it does when the lease cannot be renewed.
    pub lease_mode: Option<LeaseMode>,
    /// How many routers are connected; absent where nothing was reported.
    pub routers: Option<i32>,
    /// Whether it is never a target.
    pub cordoned: bool,
    /// Whether it is ready.
    #[serde(flatten)]
    pub readiness: Readiness,
}

/// A ShardRange.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RangeView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its keyspace.
    pub keyspace: String,
    /// Its slots.
    pub slots: String,
    /// The unit that Git prefers.
    pub home: String,
    /// The unit that owns it, or `mixed`.
    pub active: Option<String>,
    /// The state of its slots, or `mixed`.
    pub state: Option<String>,
    /// The newest epoch of its slots.
    pub epoch: Option<i64>,
    /// Whether a slot is owned by another unit than the home unit.
    pub away: bool,
    /// Whether it is ready.
    #[serde(flatten)]
    pub readiness: Readiness,
}

/// A DataStore that one unit writes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WriterView {
    /// Its namespace.
    pub namespace: String,
    /// The store's name.
    pub store: String,
    /// The unit that Git prefers.
    pub home: String,
    /// The unit that writes; absent where none does, or nothing was reported.
    pub active: Option<String>,
    /// What it may do.
    pub state: Option<String>,
    /// The term and epoch of the last change.
    pub epoch: Option<String>,
    /// Whether it is another unit than the home unit.
    pub away: bool,
    /// Whether the store is ready.
    #[serde(flatten)]
    pub readiness: Readiness,
}

/// A ReplicationLink that does not stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The DataStore.
    pub store: String,
    /// The unit whose writes it carries.
    pub from: String,
    /// The unit that applies them.
    pub to: String,
    /// Starting, Broken or Unknown.
    pub state: Option<String>,
    /// How late it is, at most, when that was measured last.
    pub lag: Option<String>,
    /// Whether it is ready.
    #[serde(flatten)]
    pub readiness: Readiness,
}

/// A RoutingTable.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableView {
    /// Its namespace.
    pub namespace: String,
    /// The reign of its hub.
    pub term: i64,
    /// Its version.
    pub epoch: i64,
}
