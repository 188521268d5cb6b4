//! UnitWorkload: Kubernetes objects to run in each selected unit, with per-unit overrides.

use crate::common::conditions_schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kubernetes objects to run in each selected unit.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "UnitWorkload",
    namespaced,
    status = "UnitWorkloadStatus",
    category = "multiactive"
)]
#[serde(rename_all = "camelCase")]
pub struct UnitWorkloadSpec {
    /// The units by name. Exactly one of units, roles and selector is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<Vec<String>>,
    /// The units by role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<crate::unit::UnitRole>>,
    /// The units by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
    /// Kubernetes objects as they are.
    #[schemars(schema_with = "manifests_schema")]
    pub manifests: Vec<serde_json::Value>,
    /// Changes for single units, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<UnitPatch>,
}

fn manifests_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 64,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    })
}

fn merge_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A change of one manifest in one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitPatch {
    /// The unit.
    pub unit: String,
    /// Which manifest.
    pub target: PatchTarget,
    /// Merged over it; lists of objects with a name or a containerPort merge by that key, other lists are replaced.
    #[schemars(schema_with = "merge_schema")]
    pub merge: serde_json::Value,
}

/// Which manifest a patch changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatchTarget {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What is known of a UnitWorkload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitWorkloadStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// How many units are ready, as "2/3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_units: Option<String>,
    /// One entry for each selected unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<WorkloadUnit>,
}

/// A workload in one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadUnit {
    /// The unit.
    pub unit: String,
    /// The MemberCluster that holds its objects: where they are found also after the Unit is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Ready, Progressing, Failed or Unknown.
    pub state: String,
    /// The first cause, where it is not Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<WorkloadObject>,
}

/// An object of a workload in one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadObject {
    /// Its apiVersion.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The uid that we know it by: only what has it is ever pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Current, InProgress, Failed, Conflict or Unknown (kstatus).
    pub state: String,
    /// Why, where it is not Current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
