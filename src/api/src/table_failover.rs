//! What the RoutingTable holds of a failover besides what it holds of every operation.

use crate::schema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What only a failover has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableFailover {
    /// The unit that is lost.
    #[schemars(schema_with = "schema::label")]
    pub lost: String,
    /// The ShardRanges whose slots move.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::range_names")]
    pub ranges: Vec<String>,
    /// The largest loss that needs nobody's word, in milliseconds.
    #[schemars(schema_with = "schema::count_long")]
    pub max_data_loss_ms: i64,
    /// Whether the user named the target.
    #[serde(default)]
    pub named: bool,
    /// Whether all that was known when it began said that the lost unit stops writing without its lease.
    #[serde(default)]
    pub fences: bool,
    /// The operation whose unopened slots these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<TableSuperseded>,
    /// The term of the table in which the slots became Fenced; 0 before.
    #[serde(default)]
    #[schemars(schema_with = "schema::term")]
    pub fence_term: i64,
    /// The epoch of that table.
    #[serde(default)]
    #[schemars(schema_with = "schema::grows")]
    pub fence_epoch: i64,
    /// From Cut on: by what the fence is proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<TableProof>,
    /// From Drain on: what may be lost at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<TableLoss>,
    /// The targets that were given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<TableRetargeted>")]
    pub retargeted: Vec<TableRetargeted>,
    /// From Cut on: who hands, or handed, on to the target what it has received more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<TableTail>,
}

/// A survivor that hands on to the target what it has received more of the lost unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableTail {
    /// The survivor.
    #[schemars(schema_with = "schema::label")]
    pub from: String,
    /// How far it has the lost unit's log.
    #[schemars(schema_with = "schema::ordered_64::<TableProgress>")]
    pub stores: Vec<TableProgress>,
}

/// How far somebody has a unit's log, in one store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableProgress {
    /// The store.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// The history that the number counts in.
    #[schemars(schema_with = "schema::short")]
    pub log: String,
    /// How far, as a number in decimals.
    #[schemars(schema_with = "schema::digits")]
    pub at: String,
}

/// The operation whose target was lost between its commit and its opening.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableSuperseded {
    /// The operation's uid.
    #[schemars(schema_with = "schema::uid")]
    pub uid: String,
    /// Whom it took the slots from.
    #[schemars(schema_with = "schema::labels")]
    pub sources: Vec<String>,
    /// Who had not applied all when it committed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub behind: Vec<String>,
}

/// By what it is known that the lost unit commits nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TableFencedBy {
    /// Its own agent said so.
    Report,
    /// Its write lease is sealed and over.
    Lease,
    /// A person said so.
    Confirmed,
    /// Its fencing hook said so.
    Hook,
}

/// The word of a person, or of a fencing hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableWord {
    /// Who said it.
    #[schemars(schema_with = "schema::user")]
    pub by: String,
    /// Why it was said.
    #[schemars(schema_with = "schema::reason")]
    pub reason: String,
}

/// The proof of a fence, and what was known of the lost unit's log then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableProof {
    /// What proves it.
    pub by: TableFencedBy,
    /// Whose word it is, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<TableWord>,
    /// When, RFC 3339 with fractions of a second.
    #[schemars(schema_with = "schema::moment")]
    pub at: String,
    /// Places in the lost unit's log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_1024::<TableLandmark>")]
    pub landmarks: Vec<TableLandmark>,
    /// What the survivors had heard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<TableHeard>")]
    pub heard: Vec<TableHeard>,
}

/// A place in the lost unit's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableLandmark {
    /// The store's name.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// The history that the number counts in.
    #[schemars(schema_with = "schema::short")]
    pub log: String,
    /// How far, as a number in decimals: it may be larger than what JSON keeps exactly.
    #[schemars(schema_with = "schema::digits")]
    pub position: String,
    /// The longest time from it until the unit could write no more, in milliseconds.
    #[schemars(schema_with = "schema::count_long")]
    pub until_end_ms: i64,
}

/// How much of the lost unit's last time a survivor may lack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableHeard {
    /// The survivor's name.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// The longest time from its newest row until the lost unit could write no more, in milliseconds.
    #[schemars(schema_with = "schema::count_long")]
    pub until_end_ms: i64,
}

/// What may be lost of one store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableStoreLoss {
    /// The store's name.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// All that is lost was written in the last so many milliseconds; missing where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub bound_ms: Option<i64>,
}

/// What may be lost, measured before the owner changed, and what was found later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableLoss {
    /// By what the fence was proven.
    pub fenced_by: TableFencedBy,
    /// Whose word that is, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<TableWord>,
    /// The bound of each store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_256::<TableStoreLoss>")]
    pub stores: Vec<TableStoreLoss>,
    /// The largest, in milliseconds; missing where one is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub bound_ms: Option<i64>,
    /// Survivors that held more than the new owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub given_up: Vec<String>,
    /// Who accepted it, where somebody had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<TableWord>,
    /// What was really lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<TableFound>,
}

/// What was really lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableFound {
    /// Rows that only the lost unit held, or held newer.
    #[schemars(schema_with = "schema::count_long")]
    pub rows: i64,
    /// From the oldest to the newest of their transactions, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub span_ms: Option<i64>,
    /// When it was compared.
    #[schemars(schema_with = "schema::moment")]
    pub at: String,
}

/// A target that was given up for another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableRetargeted {
    /// The one that was given up.
    #[schemars(schema_with = "schema::label")]
    pub from: String,
    /// The one that took its place.
    #[schemars(schema_with = "schema::label")]
    pub to: String,
    /// Why it was given up.
    #[schemars(schema_with = "schema::message")]
    pub why: String,
    /// Whether something was being handed on to it.
    #[serde(default)]
    pub tail: bool,
    /// When that was recorded.
    #[schemars(schema_with = "schema::moment")]
    pub at: String,
}
