//! RoutingTable: the committed owner of every slot of a namespace. The operator alone writes it.

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
    category = "multiactive"
)]
#[serde(rename_all = "camelCase")]
pub struct RoutingTableSpec {
    /// The reign of one hub.
    pub term: i64,
    /// Grows with every write of this object.
    pub epoch: i64,
    /// The units, sorted by name; the spans name them by their place in this list.
    #[serde(default)]
    pub units: Vec<TableUnit>,
    /// The keyspaces, sorted by name.
    #[serde(default)]
    pub keyspaces: Vec<TableKeyspace>,
    /// Operations that run: enough to finish or abort each one without its object.
    #[serde(default)]
    pub operations: Vec<TableOperation>,
    /// The last 256 operations that ended, oldest first.
    #[serde(default)]
    pub finished: Vec<TableFinished>,
}

/// A unit, as routers need it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableUnit {
    /// Its name.
    pub name: String,
    /// Where the other units' routers reach it.
    pub router: String,
}

/// The owners of a keyspace's slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableKeyspace {
    /// Its name.
    pub name: String,
    /// Its number of slots.
    pub slots: i32,
    /// Runs of slots: length, state (u unowned, s serving, h held, f fenced, o opening), owner's place in units, @,
    /// term.epoch; joined by commas. 512s0@1.12,512u@0.0
    pub spans: String,
}

/// Slots that leave a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableMove {
    /// Their keyspace.
    pub keyspace: String,
    /// The unit that owned them when the operation began.
    pub source: String,
    /// The slots, such as 0-511,600.
    pub slots: String,
}

/// A running operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableOperation {
    /// The uid of its object.
    pub uid: String,
    /// The name of its object.
    pub name: String,
    /// The unit that shall own the slots.
    pub target: String,
    /// The slots that move.
    pub moves: Vec<TableMove>,
    /// None or Full.
    pub verify: String,
    /// The budget of Hold and Fence, in milliseconds.
    pub fence_budget_ms: i64,
    /// The budget of Drain, in milliseconds.
    pub drain_budget_ms: i64,
    /// The step that was recorded last.
    pub step: String,
    /// The term of the last change of its spans.
    #[serde(default)]
    pub term: i64,
    /// The epoch of the last change of its spans; 0 before Hold.
    #[serde(default)]
    pub epoch: i64,
    /// In Verify: the round of comparison, from 0.
    #[serde(default)]
    pub round: i32,
    /// In Verify: the slots that are still compared; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remaining: Vec<TableSlots>,
    /// From Drain on: the final positions of the sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<TablePosition>,
    /// Every step that was entered, in order.
    #[serde(default)]
    pub history: Vec<StepHistory>,
}

/// Slots of a keyspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableSlots {
    /// The keyspace.
    pub keyspace: String,
    /// The slots, such as 0-511,600.
    pub slots: String,
}

/// The position vector of one store at one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TablePosition {
    /// The store.
    pub store: String,
    /// The source that was fenced.
    pub source: String,
    /// Its own position first, then what it had applied from each other unit.
    pub vector: Vec<TableUnitPosition>,
}

/// How far a unit's log had come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableUnitPosition {
    /// The unit whose writes these are.
    pub unit: String,
    /// The position in that unit's own log, as its engine writes it.
    pub position: String,
}

/// An operation that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableFinished {
    /// The uid of its object.
    pub uid: String,
    /// The name of its object.
    pub name: String,
    /// Succeeded, Refused, Aborted or Failed.
    pub outcome: String,
    /// One word, unless Succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happened and what to do, unless Succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When, RFC 3339 with fractions of a second.
    pub at: String,
    /// The term in which it ended.
    pub term: i64,
    /// The epoch of the table in which it ended.
    pub epoch: i64,
    /// Every step that was entered, in order.
    #[serde(default)]
    pub history: Vec<StepHistory>,
}

/// When a step was entered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepHistory {
    /// The step.
    pub step: String,
    /// When, RFC 3339 with fractions of a second.
    pub at: String,
    /// Why it had nothing to do, where it is NotNeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_needed: Option<String>,
}
