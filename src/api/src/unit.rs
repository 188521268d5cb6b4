//! Unit: a cell that can serve all traffic of the shards that it owns.

use crate::common::conditions_schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cell that can serve all traffic of the shards that it owns.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "Unit",
    namespaced,
    status = "UnitStatus",
    category = "multiactive"
)]
#[serde(rename_all = "camelCase")]
pub struct UnitSpec {
    /// The MemberCluster that it lives in.
    pub cluster: String,
    /// What it is for.
    pub role: UnitRole,
    /// Where the other units' routers reach its router: an https URL with host and port.
    pub router: String,
    /// The local services that its router passes requests to, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<Backend>,
    /// Never a target of a promotion while true.
    #[serde(default)]
    pub cordoned: bool,
}

/// What a unit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnitRole {
    /// Serves the ranges that it owns.
    Sharded,
    /// Serves nothing until promoted.
    Standby,
}

/// A local service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// The name that a Keyspace's routes use.
    pub name: String,
    /// Its URL, http, with host and port.
    pub url: String,
}

/// What is known of a Unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// How many slots it owns, over all keyspaces.
    #[serde(default)]
    pub slots: i32,
    /// The term and epoch of the table that its agent has applied, such as 1.41.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    /// How many routers are connected to the agent.
    #[serde(default)]
    pub routers: i32,
}
