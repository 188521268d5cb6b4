//! UnitAssignment: what a unit's agent shall do, and what it reports. It lives in the member cluster: the operator writes its spec, the agent its status.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use multiactive_core::ids::KeyspaceName;
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
    shortname = "ua",
    category = "multiactive",
    doc = "What a unit's agent and routers need to know besides the RoutingTable, and what the agent reports.",
    validation = Rule::new("self.metadata.name == self.spec.unit")
        .message("metadata.name must be the name of the unit"),
    validation = Rule::new("self.spec.cluster == oldSelf.spec.cluster")
        .message("cluster is immutable"),
    printcolumn(name = "CLUSTER", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "LEASE", type_ = "string", json_path = ".status.lease.state"),
    printcolumn(name = "APPLIED-EPOCH", type_ = "integer", json_path = ".status.applied.epoch"),
    printcolumn(name = "WHY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct UnitAssignmentSpec {
    /// The unit; the same as the object's name.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// The MemberCluster that the unit lives in.
    #[schemars(schema_with = "schema::label")]
    pub cluster: String,
    /// The unit's local services.
    #[serde(default)]
    #[schemars(schema_with = "schema::named::<crate::unit::Backend>")]
    pub backends: Vec<crate::unit::Backend>,
    /// The keyspaces of the namespace, as declared.
    #[serde(default)]
    #[schemars(schema_with = "schema::many_named::<AssignedKeyspace>")]
    pub keyspaces: Vec<AssignedKeyspace>,
    /// The stores with a single writer, for routers: whether they have a member here or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::by_store::<AssignedWriter>")]
    pub writers: Vec<AssignedWriter>,
    /// The stores that have a member in this unit.
    #[serde(default)]
    #[schemars(schema_with = "schema::named::<AssignedStore>")]
    pub stores: Vec<AssignedStore>,
    /// The unit's write lease; absent where the operator is older: then the agent lengthens it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<AssignedLease>,
    /// The Verification that runs, where it concerns this unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<crate::verification::AssignedVerification>,
}

/// How the agents of a unit keep its write lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignedLease {
    /// What applies when it cannot be renewed.
    pub mode: LeaseMode,
    /// For how long a renewal holds, such as 10s.
    #[schemars(schema_with = "schema::duration")]
    pub duration: String,
}

/// What applies to a unit whose write lease cannot be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LeaseMode {
    /// Its databases refuse writes once the lease is over.
    Fence,
    /// It goes on while its agent lives.
    KeepServing,
}

/// How the write lease of a unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LeaseState {
    /// It was renewed in the ledger.
    Held,
    /// The ledger does not answer, and the agent goes on by itself.
    Alone,
    /// It could not be renewed and is not over yet.
    Late,
    /// It is over: the databases refuse writes.
    Over,
    /// An operation sealed it, because the unit counts as lost: the databases refuse writes.
    Sealed,
}

/// What an agent says of its unit's write lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReport {
    /// How it stands.
    pub state: LeaseState,
    /// Why, where it is not Held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
}

/// A keyspace as agents and routers need it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignedKeyspace {
    /// Its name.
    #[schemars(schema_with = "schema::label")]
    pub name: String,
    /// Its spec.
    #[serde(flatten)]
    pub spec: crate::keyspace::KeyspaceSpec,
}

/// A store with a single writer, as routers need it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignedWriter {
    /// The DataStore.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// Its routes.
    #[serde(default)]
    #[schemars(schema_with = "schema::by_prefix::<crate::keyspace::Route>")]
    pub routes: Vec<crate::keyspace::Route>,
    /// Where reads that come to this unit go.
    pub reads: crate::data_store::Reads,
    /// Whether reads are local in some units: then writes are answered with their place in the log.
    #[serde(default)]
    pub places: bool,
    /// How old what a read shows may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub max_lag: Option<String>,
}

/// A store as the agent drives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignedStore {
    /// Its name.
    #[schemars(schema_with = "schema::label")]
    pub name: String,
    /// The keyspace that it is fenced by: a Keyspace, that of its single writer, or that of a store which several units write.
    #[schemars(schema_with = "schema::keyspace")]
    pub keyspace: String,
    /// Where one unit writes it: who that is by Git's wish. The agent does not use it; it is kept here so that a store whose
    /// object is gone stays in force as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_writer: Option<crate::data_store::SingleWriter>,
    /// Where several units write it: what becomes of rows that two wrote at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<AssignedConflict>,
    /// Its engine.
    pub engine: crate::data_store::Engine,
    /// How its servers prove who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<crate::data_store::StoreTls>,
    /// Its tables.
    #[schemars(schema_with = "schema::some_named::<crate::data_store::Table>")]
    pub tables: Vec<crate::data_store::Table>,
    /// The member in this unit.
    pub local: crate::data_store::StoreMember,
    /// The members from which this unit receives.
    #[serde(default)]
    #[schemars(schema_with = "schema::by_unit::<crate::data_store::StoreMember>")]
    pub peers: Vec<crate::data_store::StoreMember>,
}

impl AssignedStore {
    /// Whether several units write it.
    pub fn is_shared(&self) -> bool {
        KeyspaceName::from(self.keyspace.as_str()).is_shared()
    }
}

/// What becomes of rows that two units wrote at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignedConflict {
    /// Whose row is right.
    pub rule: crate::data_store::Conflict,
    /// The Keyspace in whose slots the rows are, and by whose owners it may be decided.
    #[schemars(schema_with = "schema::label")]
    pub keyspace: String,
}

/// What the agent reports. What changes all the time is reported only for operations that run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitAssignmentStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The version of the protocol that the agent speaks.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub protocol: i32,
    /// The table to which the agent has brought every store of the unit: what the unit owns is open, the rest fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedTable>,
    /// The unit's routers.
    #[serde(default)]
    #[schemars(schema_with = "schema::many_named::<RouterStatus>")]
    pub routers: Vec<RouterStatus>,
    /// The unit's stores.
    #[serde(default)]
    #[schemars(schema_with = "schema::named::<AssignedStoreStatus>")]
    pub stores: Vec<AssignedStoreStatus>,
    /// The links into this unit.
    #[serde(default)]
    #[schemars(schema_with = "schema::links::<LinkStatus>")]
    pub links: Vec<LinkStatus>,
    /// What running operations ask for.
    #[serde(default)]
    #[schemars(schema_with = "schema::by_uid::<crate::operation_report::OperationReport>")]
    pub operations: Vec<crate::operation_report::OperationReport>,
    /// The unit's write lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseReport>,
    /// Of the operations at whose commit this unit was behind and that the table remembers, those of which it has all rows by
    /// now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::uids")]
    pub caught_up: Vec<String>,
    /// While the unit is in quarantine: what only its databases hold, and how far it has rejoined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<QuarantineReport>,
    /// While a Verification runs: what was found here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<crate::verification::VerificationReport>,
}

/// A unit in quarantine, as its agent sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineReport {
    /// The uid of the Failover that put it there.
    #[schemars(schema_with = "schema::uid")]
    pub by: String,
    /// Comparing, Compared, Rejoining or Rejoined.
    pub state: QuarantineState,
    /// How many rows its databases hold that the owners do not, or hold otherwise; absent while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub rows: Option<i64>,
    /// From the oldest to the newest of the transactions that wrote them, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub span_ms: Option<i64>,
    /// The first of them. All are listed, with both versions, in the table `multiactive.divergence` of the store's database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<DivergentRow>")]
    pub first: Vec<DivergentRow>,
    /// What is under way, or stands in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
}

/// How far a unit in quarantine is on its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum QuarantineState {
    /// What only it holds is being listed.
    Comparing,
    /// That is listed: a person looks at it, and accepts it.
    Compared,
    /// It was accepted: its databases are being made equal to those of the owners.
    Rejoining,
    /// They are equal, and follow the owners: the table may let it in again.
    Rejoined,
}

/// A row that only a unit in quarantine holds, or holds otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DivergentRow {
    /// The store.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// The table.
    #[schemars(schema_with = "schema::short")]
    pub table: String,
    /// Its primary key, as JSON.
    #[schemars(schema_with = "schema::message")]
    pub key: String,
}

/// A table's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedTable {
    /// Its term.
    #[schemars(schema_with = "schema::term")]
    pub term: i64,
    /// Its epoch.
    #[schemars(schema_with = "schema::grows")]
    pub epoch: i64,
}

/// A router of the unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouterStatus {
    /// Its name, its pod's.
    #[schemars(schema_with = "schema::short")]
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
    #[schemars(schema_with = "schema::label")]
    pub name: String,
    /// Whether the agent has it in hand: reachable, fence installed, table applied.
    pub ready: bool,
    /// One word, where it is not ready, or where rows may be wrong though it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub reason: Option<String>,
    /// What is wrong and what to do, where there is a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// Which server it is: the system identifier and the time of its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::short")]
    pub server: Option<String>,
    /// Which database it was when the agent had it in hand last: an empty one in its place is not taken for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::short")]
    pub incarnation: Option<String>,
    /// Whether the agent's sessions with it are encrypted, and its links are made so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// The highest table that it held then: one that holds a lower table was restored from an older state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<AppliedTable>,
    /// Where several units write it: the rows that are listed here because another one wrote them at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<crate::data_store::ConflictCounts>,
}

/// A link into the unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// The store.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// The unit whose writes it carries.
    #[schemars(schema_with = "schema::label")]
    pub from: String,
    /// Running, Starting, Broken, Cut or Quarantined.
    pub state: LinkState,
    /// Whether rows of that unit may be missing or wrong here, however the link is: the message says why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
    /// How long what is written there takes to be read here, in milliseconds: not longer than this when it was measured last, in
    /// steps of 1, 2, 5, 10 seconds and so on. It grows while something is waited for; while that unit does not answer it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub lag_ms: Option<i64>,
    /// Why, where it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
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
    /// The unit that it comes from was lost and is cut off: nothing is taken from it before it has rejoined.
    Cut,
    /// This unit was lost: what the new owner of its slots writes waits until the difference was accepted.
    Quarantined,
}
