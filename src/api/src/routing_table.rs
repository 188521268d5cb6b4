//! RoutingTable: the committed owner of every slot of a namespace. The operator alone writes it.

use crate::schema;
use crate::table_failover::{TableFailover, TableLoss};
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The committed owner of every slot of a namespace, in `spec` because restores drop `status`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "RoutingTable",
    namespaced,
    shortname = "rt",
    category = "multiactive",
    doc = "The committed owner of every slot of a namespace. The operator alone writes it.",
    validation = Rule::new("self.metadata.name == 'routing'")
        .message("a namespace has one RoutingTable, and its name is routing"),
    validation = Rule::new("self.spec.term > oldSelf.spec.term || (self.spec.term == oldSelf.spec.term && self.spec.epoch >= oldSelf.spec.epoch)")
        .message("the pair of term and epoch never goes back"),
    validation = Rule::new("!has(oldSelf.spec.writers) || oldSelf.spec.writers.all(o, !has(o.owner) || (has(self.spec.writers) && self.spec.writers.exists(n, n.store == o.store)))")
        .message("a store that has a writer stays in the table: who writes this does not know of it, and must not"),
    printcolumn(name = "TERM", type_ = "integer", json_path = ".spec.term"),
    printcolumn(name = "EPOCH", type_ = "integer", json_path = ".spec.epoch"),
    printcolumn(name = "OPERATION", type_ = "string", json_path = ".spec.operations[0].name"),
    printcolumn(name = "STEP", type_ = "string", json_path = ".spec.operations[0].step"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RoutingTableSpec {
    /// The reign of one hub.
    #[schemars(schema_with = "schema::term")]
    pub term: i64,
    /// Grows with every write of this object.
    #[schemars(schema_with = "schema::grows")]
    pub epoch: i64,
    /// The units, sorted by name; the spans name them by their place in this list.
    #[serde(default)]
    #[schemars(schema_with = "schema::many_named::<TableUnit>")]
    pub units: Vec<TableUnit>,
    /// The keyspaces, sorted by name.
    #[serde(default)]
    #[schemars(schema_with = "schema::many_named::<TableKeyspace>")]
    pub keyspaces: Vec<TableKeyspace>,
    /// The owners of the stores with a single writer, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::by_store::<TableWriter>")]
    pub writers: Vec<TableWriter>,
    /// Operations that run: enough to finish or abort each one without its object.
    #[serde(default)]
    #[schemars(schema_with = "schema::by_uid::<TableOperation>")]
    pub operations: Vec<TableOperation>,
    /// The last 256 operations that ended, oldest first.
    #[serde(default)]
    #[schemars(schema_with = "schema::ordered_256::<TableFinished>")]
    pub finished: Vec<TableFinished>,
    /// Units whose slots were given to others without their word: they serve nothing before they have rejoined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::by_unit::<TableQuarantined>")]
    pub quarantined: Vec<TableQuarantined>,
    /// Write leases that were granted anew after they had been sealed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::by_unit::<TableLease>")]
    pub leases: Vec<TableLease>,
    /// Units that are known to stop writing without their lease: whoever begins only after such a unit was lost goes by this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::by_unit::<TableFencing>")]
    pub fencing: Vec<TableFencing>,
}

/// A unit that stops writing without its lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableFencing {
    /// The unit's name.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// Its stores whose databases were known to keep the deadline.
    #[serde(default)]
    #[schemars(schema_with = "schema::store_names")]
    pub stores: Vec<String>,
}

/// A unit in quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableQuarantined {
    /// The unit's name.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// The term of the table that did it.
    #[schemars(schema_with = "schema::term")]
    pub term: i64,
    /// The epoch of that table.
    #[schemars(schema_with = "schema::grows")]
    pub epoch: i64,
    /// The uid of the Failover.
    #[schemars(schema_with = "schema::uid")]
    pub by: String,
    /// The name of the Failover.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Who accepted what only this unit holds, and why: with that it may rejoin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<crate::table_failover::TableWord>,
}

/// A write lease that was granted anew: the unit extends its deadline only once its databases stand at this table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableLease {
    /// The unit's name.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// The term of the table that granted it.
    #[schemars(schema_with = "schema::term")]
    pub term: i64,
    /// The epoch of that table.
    #[schemars(schema_with = "schema::grows")]
    pub epoch: i64,
}

/// A unit, as routers need it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableUnit {
    /// Its name.
    #[schemars(schema_with = "schema::label")]
    pub name: String,
    /// Where the other units' routers reach it.
    #[schemars(schema_with = "schema::https_url")]
    pub router: String,
}

/// The owners of a keyspace's slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableKeyspace {
    /// Its name.
    #[schemars(schema_with = "schema::label")]
    pub name: String,
    /// Its number of slots.
    #[schemars(schema_with = "schema::slot_count")]
    pub slots: i32,
    /// By what its slots were given out: the function, and the number of overridden keys with a hash of them, such as
    /// Crc32+2:9f31c2a7d04b5e68. A Keyspace of this name with another one is not published while slots are owned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub definition: Option<String>,
    /// Runs of slots: length, state (u unowned, s serving, h held, f fenced, o opening), owner's place in units, @,
    /// term.epoch; joined by commas. 512s0@1.12,512u@0.0
    #[schemars(schema_with = "schema::spans")]
    pub spans: String,
}

/// The owner of a store with a single writer. In operations it is slot 0 of the keyspace that has the store's name and
/// `.writer` behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableWriter {
    /// The DataStore.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// The unit that writes; absent exactly where the state is Unowned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub owner: Option<String>,
    /// What the owner may do.
    pub state: WriterState,
    /// The term of the last change of owner or state.
    #[schemars(schema_with = "schema::term")]
    pub term: i64,
    /// The epoch of that change.
    #[schemars(schema_with = "schema::grows")]
    pub epoch: i64,
}

/// What the owner of a store with a single writer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WriterState {
    /// Nobody is: there was never one.
    Unowned,
    /// It reads and writes.
    Serving,
    /// Its routers hold new writes.
    Held,
    /// Its database refuses writes.
    Fenced,
    /// It is new: its database is about to take writes.
    Opening,
}

/// Slots that leave a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableMove {
    /// Their keyspace.
    #[schemars(schema_with = "schema::keyspace")]
    pub keyspace: String,
    /// The unit that owned them when the operation began.
    #[schemars(schema_with = "schema::label")]
    pub source: String,
    /// The slots, such as 0-511,600.
    #[schemars(schema_with = "schema::slots")]
    pub slots: String,
}

/// What an operation is: the kind of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationKind {
    /// A planned move of ownership.
    Promotion,
    /// An unplanned move of ownership away from a lost unit.
    Failover,
}

/// A store whose rows move, as it was when the operation was admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableStore {
    /// The DataStore.
    #[schemars(schema_with = "schema::label")]
    pub name: String,
    /// Its keyspace.
    #[schemars(schema_with = "schema::keyspace")]
    pub keyspace: String,
    /// The units that hold it, sorted.
    #[schemars(schema_with = "schema::labels")]
    pub members: Vec<String>,
}

/// A running operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableOperation {
    /// What it is.
    pub kind: OperationKind,
    /// The uid of its object; a Failover has one operation for each target, whose uids end in a dot and their number.
    #[schemars(schema_with = "schema::uid")]
    pub uid: String,
    /// The name of its object.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The unit that shall own the slots.
    #[schemars(schema_with = "schema::label")]
    pub target: String,
    /// The slots that move.
    #[schemars(schema_with = "schema::ordered_1024::<TableMove>")]
    pub moves: Vec<TableMove>,
    /// The stores whose rows move, as they were when it was admitted: an edit of a DataStore changes nothing of what has
    /// to be fenced and to arrive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::many_named::<TableStore>")]
    pub stores: Vec<TableStore>,
    /// None or Full.
    #[schemars(schema_with = "schema::word")]
    pub verify: String,
    /// With Full: rows that were found equal before need not be compared whole again, where they did not change. Whoever does not know
    /// of it compares all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed_only: bool,
    /// The budget of Hold and Fence, in milliseconds.
    #[schemars(schema_with = "schema::count_long")]
    pub fence_budget_ms: i64,
    /// The budget of Drain, in milliseconds.
    #[schemars(schema_with = "schema::count_long")]
    pub drain_budget_ms: i64,
    /// The step that was recorded last.
    #[schemars(schema_with = "schema::word")]
    pub step: String,
    /// The term of the last change of its spans.
    #[serde(default)]
    #[schemars(schema_with = "schema::term")]
    pub term: i64,
    /// The epoch of the last change of its spans; 0 before Hold.
    #[serde(default)]
    #[schemars(schema_with = "schema::grows")]
    pub epoch: i64,
    /// From Drain on: the final positions of the sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_1024::<TablePosition>")]
    pub positions: Vec<TablePosition>,
    /// From Hold on: the units whose member cluster or database was away. From Open on: those that have not applied the
    /// positions, and apply nothing of the new owner before they have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub behind: Vec<String>,
    /// What only a failover has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Box<TableFailover>>,
    /// Every step that was entered, in order.
    #[serde(default)]
    #[schemars(schema_with = "schema::ordered_64::<StepHistory>")]
    pub history: Vec<StepHistory>,
}

/// The position vector of one store at one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TablePosition {
    /// The store.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// The source that was fenced.
    #[schemars(schema_with = "schema::label")]
    pub source: String,
    /// Its own position first, then what it had applied from each other unit.
    #[schemars(schema_with = "schema::by_unit::<TableUnitPosition>")]
    pub vector: Vec<TableUnitPosition>,
}

/// How far a unit's log had come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableUnitPosition {
    /// The unit whose writes these are.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// The position in that unit's own log, as its engine writes it.
    #[schemars(schema_with = "schema::position")]
    pub position: String,
}

/// An operation that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableFinished {
    /// What it was.
    pub kind: OperationKind,
    /// The uid of its object.
    #[schemars(schema_with = "schema::uid")]
    pub uid: String,
    /// The name of its object.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Succeeded, Refused, Aborted or Failed.
    #[schemars(schema_with = "schema::word")]
    pub outcome: String,
    /// One word, unless Succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub reason: Option<String>,
    /// What happened and what to do, unless Succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// When, RFC 3339 with fractions of a second.
    #[schemars(schema_with = "schema::moment")]
    pub at: String,
    /// The term in which it ended.
    #[schemars(schema_with = "schema::term")]
    pub term: i64,
    /// The epoch of the table in which it ended.
    #[schemars(schema_with = "schema::grows")]
    pub epoch: i64,
    /// The units that were behind when the owner changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub behind: Vec<String>,
    /// Where some were: the keyspaces whose slots moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::keyspaces")]
    pub keyspaces: Vec<String>,
    /// Links and routers of bystanders that were not as they shall be when it ended, each in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::messages")]
    pub unsettled: Vec<String>,
    /// Of a failover: what might be lost at most, and what was found later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<TableLoss>,
    /// Every step that was entered, in order.
    #[serde(default)]
    #[schemars(schema_with = "schema::ordered_64::<StepHistory>")]
    pub history: Vec<StepHistory>,
}

/// When a step was entered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepHistory {
    /// The step.
    #[schemars(schema_with = "schema::word")]
    pub step: String,
    /// When, RFC 3339 with fractions of a second.
    #[schemars(schema_with = "schema::moment")]
    pub at: String,
    /// Why it had nothing to do, where it is NotNeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub not_needed: Option<String>,
}
