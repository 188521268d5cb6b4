//! What an agent reports of the operations that run, for the operator's step machine.

use crate::schema;
use crate::verification::StorePair;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an operation asked for, each fact tied to the epoch for which it is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationReport {
    /// The operation's uid.
    #[schemars(schema_with = "schema::uid")]
    pub uid: String,
    /// The epoch of the operation that the agent acted on (its spans' last change); 0 before Hold.
    #[schemars(schema_with = "schema::term")]
    pub term: i64,
    /// The epoch that belongs to term.
    #[schemars(schema_with = "schema::grows")]
    pub epoch: i64,
    /// At a source, in Hold: writes of the moving slots under way in all its routers, once all of them hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub in_flight: Option<i64>,
    /// At a source, from Fence on: the final position of each moving store; present once the fence stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ordered_64::<crate::routing_table::TablePosition>")]
    pub fenced: Option<Vec<crate::routing_table::TablePosition>>,
    /// At a lost unit that answers after all, with its fence: whether its databases ever opened the moving slots; absent
    /// while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<bool>,
    /// At a survivor, in Cut: how far it has applied the lost unit's log in each moving store; present once every one of
    /// them has cut the lost unit off at this epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ordered_64::<CutReport>")]
    pub cut: Option<Vec<CutReport>>,
    /// At a member, before Hold: the largest age of the sources' heartbeat, in milliseconds; absent while unknown. In
    /// Verify, which may last, in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub lag_ms: Option<i64>,
    /// At a member, in Drain: whether it has applied the operation's positions; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<ReachReport>,
    /// At the target, in Verify: the stores whose rows it has compared with those of the sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<StoreComparison>")]
    pub compared: Vec<StoreComparison>,
    /// At the target, in Verify: how far each store is with each source; whoever goes on begins behind that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_1024::<StorePair>")]
    pub comparing: Vec<StorePair>,
    /// Stores that did not answer the operation when they were asked last, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<AnswerProblem>")]
    pub problems: Vec<AnswerProblem>,
}

/// How far a store has applied the log of a lost unit that it has cut off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CutReport {
    /// The store's name.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// Which history of the lost unit's log the number counts in.
    #[schemars(schema_with = "schema::short")]
    pub log: String,
    /// How far, as a number in decimals: it may be larger than what JSON keeps exactly.
    #[schemars(schema_with = "schema::digits")]
    pub at: String,
    /// The same as the engine writes it, with what was applied of the others' logs.
    pub position: crate::routing_table::TablePosition,
}

/// Why a store has not answered an operation; it is asked again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnswerProblem {
    /// The store.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// What went wrong.
    #[schemars(schema_with = "schema::message")]
    pub message: String,
}

/// Whether a member has applied an operation's positions, in all its stores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReachReport {
    /// Reached, Waiting or Broken.
    pub state: ReachState,
    /// What is missing, or what is broken; absent where it is Reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
}

/// How far a member has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReachState {
    /// All positions are applied, and recorded in the stores.
    Reached,
    /// Not yet.
    Waiting,
    /// Waiting alone will not help: a link does not run, or rows are missing.
    Broken,
}

/// The moving rows of a store here and at their owners, as both were at one place in each owner's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreComparison {
    /// The store.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// How many rows the owners have in the slots that move.
    #[schemars(schema_with = "schema::count_long")]
    pub rows: i64,
    /// The slots whose rows differ; absent where none do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::slots")]
    pub differing: Option<String>,
    /// Some of the rows that differ, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::messages")]
    pub examples: Vec<String>,
}
