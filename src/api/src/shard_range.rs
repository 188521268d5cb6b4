//! ShardRange: consecutive slots with a home unit and ordered failover units.

use crate::common::conditions_schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Consecutive slots with a home unit and ordered failover units. Editing it never moves a slot.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "ShardRange",
    namespaced,
    status = "ShardRangeStatus",
    category = "multiactive"
)]
#[serde(rename_all = "camelCase")]
pub struct ShardRangeSpec {
    /// The Keyspace.
    pub keyspace: String,
    /// The first slot.
    pub first_slot: i32,
    /// The last slot, inclusive.
    pub last_slot: i32,
    /// The unit that Git prefers; it gets the slots that were never owned.
    pub home_unit: String,
    /// Where the range may go when its unit is lost, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failover_units: Vec<String>,
}

/// What is true of a ShardRange now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShardRangeStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The unit that owns the slots, or `mixed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
    /// The state of the slots, or `mixed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The newest epoch of its slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Whether a slot is owned by another unit than the home unit.
    #[serde(default)]
    pub away: bool,
}
