//! ShardRange: consecutive slots with a home unit and ordered failover units.

use crate::schema;
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
    shortname = "sr",
    category = "multiactive",
    doc = "Consecutive slots with a home unit and ordered failover units. Editing it never moves a slot.",
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("metadata.name must be a DNS label: at most 63 characters, without dots"),
    printcolumn(name = "KEYSPACE", type_ = "string", json_path = ".spec.keyspace"),
    printcolumn(name = "SLOTS", type_ = "string", json_path = ".status.slots"),
    printcolumn(name = "HOME", type_ = "string", json_path = ".spec.homeUnit"),
    printcolumn(name = "ACTIVE", type_ = "string", json_path = ".status.active"),
    printcolumn(name = "STATE", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "EPOCH", type_ = "integer", json_path = ".status.epoch"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "WHY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.firstSlot <= self.lastSlot")
        .message("firstSlot must not be larger than lastSlot"),
    validation = Rule::new("!has(self.failoverUnits) || !(self.homeUnit in self.failoverUnits)")
        .message("homeUnit must not be among failoverUnits"),
    validation = Rule::new("!has(self.failoverUnits) || self.failoverUnits.all(u, self.failoverUnits.exists_one(x, x == u))")
        .message("failoverUnits must not name a unit twice")
)]
#[serde(rename_all = "camelCase")]
pub struct ShardRangeSpec {
    /// The Keyspace.
    #[schemars(schema_with = "schema::label")]
    pub keyspace: String,
    /// The first slot.
    #[schemars(schema_with = "schema::slot")]
    pub first_slot: i32,
    /// The last slot, inclusive.
    #[schemars(schema_with = "schema::slot")]
    pub last_slot: i32,
    /// The unit that Git prefers; it gets the slots that were never owned.
    #[schemars(schema_with = "schema::label")]
    pub home_unit: String,
    /// Where the range may go when its unit is lost, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::failover_units")]
    pub failover_units: Vec<String>,
}

/// What is true of a ShardRange now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShardRangeStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Its slots, such as 0-511, for the column of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub slots: Option<String>,
    /// The unit that owns the slots, or `mixed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::short")]
    pub active: Option<String>,
    /// The state of the slots, or `mixed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::short")]
    pub state: Option<String>,
    /// The newest epoch of its slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub epoch: Option<i64>,
    /// Whether a slot is owned by another unit than the home unit.
    #[serde(default)]
    pub away: bool,
}
