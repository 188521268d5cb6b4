//! Promotion: a planned, lossless move of ownership to a unit. One-shot.

use crate::decision::Decision;
use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A planned, lossless move of ownership. One-shot: the spec is immutable but for decisions.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "Promotion",
    namespaced,
    status = "PromotionStatus",
    shortname = "promo",
    category = "multiactive",
    doc = "A planned, lossless move of ownership to a unit. One-shot: the spec is immutable but for decisions.",
    printcolumn(name = "FROM", type_ = "string", json_path = ".status.from"),
    printcolumn(name = "TO", type_ = "string", json_path = ".spec.targetUnit"),
    printcolumn(name = "MODE", type_ = "string", json_path = ".spec.mode", priority = 1),
    printcolumn(name = "STEP", type_ = "string", json_path = ".status.step"),
    printcolumn(name = "WAITING-FOR", type_ = "string", json_path = ".status.waitingFor"),
    printcolumn(name = "PAUSE", type_ = "string", json_path = ".status.pause"),
    printcolumn(name = "OUTCOME", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "REASON", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "MESSAGE", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.mode != 'Execute' || has(self.expectedEpoch)")
        .message("expectedEpoch is required for Execute: the newest epoch that you have seen"),
    validation = Rule::new("self.select.type != 'Unit' || self.select.unit != self.targetUnit")
        .message("the unit to empty must not be the target"),
    validation = Rule::new("self.targetUnit == oldSelf.targetUnit && self.select == oldSelf.select && self.mode == oldSelf.mode && self.verify == oldSelf.verify && self.budgets == oldSelf.budgets && has(self.expectedEpoch) == has(oldSelf.expectedEpoch) && (!has(self.expectedEpoch) || self.expectedEpoch == oldSelf.expectedEpoch)")
        .message("the spec is immutable but for decisions: create a new Promotion"),
    validation = Rule::new("!has(oldSelf.decisions) || (has(self.decisions) && oldSelf.decisions.all(o, self.decisions.exists(n, n == o)))")
        .message("decisions can be added, never changed or taken away"),
    validation = Rule::new("!has(self.decisions) || self.decisions.all(d, d.type == 'Abort')")
        .message("a Promotion knows no decision but Abort")
)]
#[serde(rename_all = "camelCase")]
pub struct PromotionSpec {
    /// The unit that shall own the slots.
    #[schemars(schema_with = "schema::label")]
    pub target_unit: String,
    /// Which slots.
    pub select: Selection,
    /// The newest epoch that you have seen; required for Execute. A slot that changed later ends it as Refused/Stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub expected_epoch: Option<i64>,
    /// Only look, or do.
    pub mode: PromotionMode,
    /// How rows are compared before.
    #[serde(default = "default_verify")]
    pub verify: VerifyMode,
    /// The limits of time.
    #[serde(default)]
    pub budgets: PromotionBudgets,
    /// What people decided; the only part that may grow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<Decision>")]
    pub decisions: Vec<Decision>,
}

/// The default of `spec.verify`.
pub fn default_verify() -> VerifyMode {
    VerifyMode::None
}

/// Which slots move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("(self.type == 'Ranges') == has(self.ranges)")
        .message("ranges is given exactly for type Ranges"),
    validation = Rule::new("(self.type == 'Slots') == has(self.slots)")
        .message("slots is given exactly for type Slots"),
    validation = Rule::new("(self.type == 'Unit') == has(self.unit)")
        .message("unit is given exactly for type Unit"),
    validation = Rule::new("(self.type == 'DataStore') == has(self.dataStore)")
        .message("dataStore is given exactly for type DataStore")
)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// How they are chosen.
    #[serde(rename = "type")]
    pub kind: SelectionType,
    /// For `Ranges`: names of ShardRanges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_set")]
    pub ranges: Option<Vec<String>>,
    /// For `Slots`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotSelection>,
    /// For `Unit`: the unit whose slots move, all that it owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub unit: Option<String>,
    /// For `DataStore`: the store whose single writer moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub data_store: Option<String>,
}

/// The ways to choose slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectionType {
    /// Those of ShardRanges.
    Ranges,
    /// By number.
    Slots,
    /// All that a unit owns.
    Unit,
    /// The writer of a store with topology SingleWriter.
    DataStore,
}

/// Slots by number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotSelection {
    /// The Keyspace.
    #[schemars(schema_with = "schema::label")]
    pub keyspace: String,
    /// Numbers and ranges, such as 0-511,600.
    #[schemars(schema_with = "schema::slots")]
    pub slots: String,
}

/// Only look, or do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PromotionMode {
    /// Say what would happen.
    Plan,
    /// Do it.
    Execute,
}

/// How rows are compared before writes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VerifyMode {
    /// Not at all.
    None,
    /// Those rows of the slots that move that changed since a Verification or a Promotion has found them equal; all of them, where that
    /// is not known.
    Changed,
    /// All rows of the slots that move.
    Full,
}

/// The limits of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("duration(self.fence) > duration('0s') && duration(self.fence) <= duration('1h')")
        .message("fence must be more than 0s and at most 1h"),
    validation = Rule::new("duration(self.drain) > duration('0s') && duration(self.drain) <= duration('1h')")
        .message("drain must be more than 0s and at most 1h")
)]
#[serde(rename_all = "camelCase")]
pub struct PromotionBudgets {
    /// From Hold until every source is fenced, such as 10s.
    #[serde(default = "default_fence_budget")]
    #[schemars(schema_with = "schema::duration")]
    pub fence: String,
    /// From Drain until every member whose cluster answers has applied the position; also the largest lag at the start.
    #[serde(default = "default_drain_budget")]
    #[schemars(schema_with = "schema::duration")]
    pub drain: String,
}

/// The default of `spec.budgets.fence`.
pub fn default_fence_budget() -> String {
    "10s".to_owned()
}

/// The default of `spec.budgets.drain`.
pub fn default_drain_budget() -> String {
    "30s".to_owned()
}

impl Default for PromotionBudgets {
    fn default() -> Self {
        Self {
            fence: default_fence_budget(),
            drain: default_drain_budget(),
        }
    }
}

/// Where a Promotion stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromotionStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The present step, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub step: Option<String>,
    /// How it ended: Succeeded, Refused or Aborted; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub outcome: Option<String>,
    /// One word about the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub reason: Option<String>,
    /// What happened and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// The units that slots leave, joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::joined")]
    pub from: Option<String>,
    /// What it waits for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub waiting_for: Option<String>,
    /// From the beginning of Hold until the target was seen to have opened, which begins Settle: no write was held for
    /// longer. Such as 43ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub pause: Option<String>,
    /// The epoch at which the owner changed, such as 1.42. Where the operator was restarted just then, a later one, at
    /// most that of the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::epoch")]
    pub epoch: Option<String>,
    /// How many slots move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub slots: Option<i32>,
    /// The units whose member cluster or database was away, so that they have not applied the last writes of the units
    /// that the slots left. Their databases apply nothing of the new owner before they have; ReplicationLinks show when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub behind: Vec<String>,
    /// Links and routers of units that are neither source nor target and that were not as they shall be when it ended,
    /// each in words. Nothing is lost by them: what is sent to the old owner, it refuses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::messages")]
    pub unsettled: Vec<String>,
    /// Every step that was entered, with its time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<crate::routing_table::StepHistory>")]
    pub history: Vec<crate::routing_table::StepHistory>,
    /// For Plan: what Execute would need and meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PromotionPlan>,
}

/// What a promotion would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromotionPlan {
    /// The epoch to put into spec.expectedEpoch.
    #[schemars(schema_with = "schema::grows")]
    pub expected_epoch: i64,
    /// The slots that would move.
    #[schemars(schema_with = "schema::ordered_1024::<crate::routing_table::TableMove>")]
    pub moves: Vec<crate::routing_table::TableMove>,
    /// What stands in the way; empty when it can run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::messages")]
    pub blockers: Vec<String>,
}
