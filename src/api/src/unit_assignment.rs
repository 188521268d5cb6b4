//! UnitAssignment: what a unit's agent shall do, and what it reports. It lives in the member cluster: the operator writes its spec, the agent its status.

use crate::common::conditions_schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a unit's agent and routers need to know besides the RoutingTable, and what the agent reports. Named after the unit.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "UnitAssignment",
    namespaced,
    status = "UnitAssignmentStatus",
    category = "multiactive"
)]
#[serde(rename_all = "camelCase")]
pub struct UnitAssignmentSpec {
    /// The unit; the same as the object's name.
    pub unit: String,
    /// The MemberCluster that the unit lives in.
    pub cluster: String,
    /// The unit's local services.
    #[serde(default)]
    pub backends: Vec<crate::unit::Backend>,
    /// The keyspaces of the namespace, as declared.
    #[serde(default)]
    pub keyspaces: Vec<AssignedKeyspace>,
    /// The stores that have a member in this unit.
    #[serde(default)]
    pub stores: Vec<AssignedStore>,
}

/// A keyspace as agents and routers need it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignedKeyspace {
    /// Its name.
    pub name: String,
    /// Its spec.
    #[serde(flatten)]
    pub spec: crate::keyspace::KeyspaceSpec,
}

/// A store as the agent drives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignedStore {
    /// Its name.
    pub name: String,
    /// Its keyspace.
    pub keyspace: String,
    /// Its engine.
    pub engine: crate::data_store::Engine,
    /// Its sharded tables.
    pub tables: Vec<crate::data_store::Table>,
    /// The member in this unit.
    pub local: crate::data_store::StoreMember,
    /// The members from which this unit receives.
    #[serde(default)]
    pub peers: Vec<crate::data_store::StoreMember>,
}

/// What the agent reports. What changes all the time is reported only for operations that run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitAssignmentStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The version of the protocol that the agent speaks.
    #[serde(default)]
    pub protocol: i32,
    /// The table to which the agent has brought every store of the unit: what the unit owns is open, the rest fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedTable>,
    /// The unit's routers.
    #[serde(default)]
    pub routers: Vec<RouterStatus>,
    /// The unit's stores.
    #[serde(default)]
    pub stores: Vec<AssignedStoreStatus>,
    /// The links into this unit.
    #[serde(default)]
    pub links: Vec<LinkStatus>,
    /// What running operations ask for.
    #[serde(default)]
    pub operations: Vec<OperationReport>,
}

/// A table's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedTable {
    /// Its term.
    pub term: i64,
    /// Its epoch.
    pub epoch: i64,
}

/// A router of the unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouterStatus {
    /// Its name, its pod's.
    pub name: String,
    /// The table that it routes by; absent until it has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<AppliedTable>,
    /// Whether it is connected. One that left without a goodbye stays listed until it is known to be gone.
    pub connected: bool,
}

/// A store of the unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignedStoreStatus {
    /// Its name.
    pub name: String,
    /// Whether the agent has it in hand: reachable, fence installed, table applied.
    pub ready: bool,
    /// One word, where it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong and what to do, where it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Which server it is: the system identifier and the time of its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// A link into the unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// The store.
    pub store: String,
    /// The unit whose writes it carries.
    pub from: String,
    /// Running, Starting or Broken.
    pub state: LinkState,
    /// Why, where it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LinkState {
    /// It streams.
    Running,
    /// It is being made or connects.
    Starting,
    /// It does not stream, and needs a cause removed.
    Broken,
}

/// What an operation asked for, each fact tied to the epoch for which it is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationReport {
    /// The operation's uid.
    pub uid: String,
    /// The epoch of the operation that the agent acted on (its spans' last change); 0 before Hold.
    pub term: i64,
    /// See term.
    pub epoch: i64,
    /// At a source, in Hold: writes of the moving slots under way in all its routers, once all of them hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<i64>,
    /// At a source, from Fence on: the final position of each moving store; present once the fence stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<Vec<crate::routing_table::TablePosition>>,
    /// At a member, from Check on: the largest age of the sources' heartbeat, in milliseconds; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<i64>,
    /// At a member, in Drain: Reached, Waiting or Broken: and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<String>,
    /// At source and target, in Verify: the checksums of a round.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<StoreChecksums>,
}

/// Checksums of a store's slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreChecksums {
    /// The store.
    pub store: String,
    /// The round of comparison.
    pub round: i32,
    /// How many rows were read.
    pub rows: i64,
    /// For each slot of the round, in order, 8 bytes, big-endian, all together in base64: the sum of the hashes of
    /// its rows.
    pub sums: String,
}
