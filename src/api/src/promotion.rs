//! Promotion: a planned, lossless move of ownership to a unit. One-shot.

use crate::common::conditions_schema;
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
    category = "multiactive"
)]
#[serde(rename_all = "camelCase")]
pub struct PromotionSpec {
    /// The unit that shall own the slots.
    pub target_unit: String,
    /// Which slots.
    pub select: Selection,
    /// The newest epoch that you have seen; required for Execute. A slot that changed later ends it as Refused/Stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    pub decisions: Vec<Decision>,
}

/// The default of `spec.verify`.
pub fn default_verify() -> VerifyMode {
    VerifyMode::None
}

/// Which slots move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// How they are chosen.
    #[serde(rename = "type")]
    pub kind: SelectionType,
    /// For `Ranges`: names of ShardRanges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Vec<String>>,
    /// For `Slots`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotSelection>,
    /// For `Unit`: the unit whose slots move, all that it owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
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
}

/// Slots by number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotSelection {
    /// The Keyspace.
    pub keyspace: String,
    /// Numbers and ranges, such as 0-511,600.
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
    /// All rows of the slots that move.
    Full,
}

/// The limits of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromotionBudgets {
    /// From Hold until every source is fenced, such as 10s.
    #[serde(default = "default_fence_budget")]
    pub fence: String,
    /// From Drain until every member has applied the position; also the largest lag at the start.
    #[serde(default = "default_drain_budget")]
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

/// What a person decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// What.
    #[serde(rename = "type")]
    pub kind: DecisionType,
    /// The user who decides; must be the one who sends the request.
    pub by: String,
    /// Why, for those who read it later.
    pub reason: String,
}

/// What people may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecisionType {
    /// End it before the commit point; after it, this does nothing.
    Abort,
}

/// Where a Promotion stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromotionStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The present step, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// How it ended: Succeeded, Refused, Aborted or Failed; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// One word about the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happened and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The units that slots leave, joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it waits for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// From Hold to Open, such as 43ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<String>,
    /// The epoch at which the owner changed, such as 1.42.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// How many slots move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<i32>,
    /// Every step that was entered, with its time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
    pub expected_epoch: i64,
    /// The slots that would move.
    pub moves: Vec<crate::routing_table::TableMove>,
    /// What stands in the way; empty when it can run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<String>,
}
