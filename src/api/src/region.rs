//! Region: a city or geographic area; the unit of correlated failure.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A city or geographic area: what fails together.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "Region",
    status = "RegionStatus",
    shortname = "rg",
    category = "multiactive",
    doc = "A city or geographic area: what fails together.",
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("metadata.name must be a DNS label: at most 63 characters, without dots"),
    printcolumn(name = "DISPLAY", type_ = "string", json_path = ".spec.displayName"),
    printcolumn(name = "MEMBERS", type_ = "integer", json_path = ".status.members"),
    printcolumn(name = "READY-MEMBERS", type_ = "integer", json_path = ".status.readyMembers"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RegionSpec {
    /// The name that people read, such as "Shanghai".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::display")]
    pub display_name: Option<String>,
}

/// What is known of a Region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegionStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// How many member clusters are in it.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub members: i32,
    /// How many of them are Ready.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub ready_members: i32,
}
