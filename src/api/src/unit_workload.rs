//! UnitWorkload: Kubernetes objects to run in each selected unit, with per-unit overrides.

use crate::schema;
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
    shortname = "uw",
    category = "multiactive",
    doc = "Kubernetes objects to run in each selected unit, with per-unit overrides.",
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("metadata.name must be a DNS label: at most 63 characters, without dots"),
    printcolumn(name = "UNITS-READY", type_ = "string", json_path = ".status.readyUnits"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "WHY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "MESSAGE", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("[has(self.units), has(self.roles), has(self.selector)].exists_one(given, given)")
        .message("exactly one of units, roles and selector must be given"),
    validation = Rule::new("!has(self.units) || !has(self.patches) || self.patches.all(p, p.unit in self.units)")
        .message("a patch must be for one of the units"),
    validation = Rule::new("!has(self.roles) || self.roles.all(r, self.roles.exists_one(x, x == r))")
        .message("roles must not name a role twice"),
    validation = Rule::new("self.manifests.all(m, has(m.metadata) && has(m.metadata.name) && m.metadata.name != '')")
        .message("every manifest must have a metadata.name")
)]
#[serde(rename_all = "camelCase")]
pub struct UnitWorkloadSpec {
    /// The units by name. Exactly one of units, roles and selector is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_set")]
    pub units: Option<Vec<String>>,
    /// The units by role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::roles::<crate::unit::UnitRole>")]
    pub roles: Option<Vec<crate::unit::UnitRole>>,
    /// The units by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::selector")]
    pub selector: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
    /// Kubernetes objects as they are.
    #[schemars(schema_with = "schema::manifests")]
    pub manifests: Vec<serde_json::Value>,
    /// Changes for single units, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_256::<UnitPatch>")]
    pub patches: Vec<UnitPatch>,
}

/// A change of one manifest in one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitPatch {
    /// The unit.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// Which manifest.
    pub target: PatchTarget,
    /// Merged over it; lists of objects with a name or a containerPort merge by that key, other lists are replaced.
    #[schemars(schema_with = "schema::any_object")]
    pub merge: serde_json::Value,
}

/// Which manifest a patch changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatchTarget {
    /// Its kind.
    #[schemars(schema_with = "schema::kind")]
    pub kind: String,
    /// Its name.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// What is known of a UnitWorkload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitWorkloadStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// How many units are ready, as "2/3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub ready_units: Option<String>,
    /// One entry for each selected unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_256::<WorkloadUnit>")]
    pub units: Vec<WorkloadUnit>,
}

/// A workload in one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadUnit {
    /// The unit.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// The MemberCluster that holds its objects: where they are found also after the Unit is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub cluster: Option<String>,
    /// Ready, Progressing, Failed or Unknown.
    pub state: WorkloadState,
    /// The first cause, where it is not Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// Its objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_256::<WorkloadObject>")]
    pub objects: Vec<WorkloadObject>,
}

/// How a workload is in one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadState {
    /// Every object is applied and ready.
    Ready,
    /// Some are on their way.
    Progressing,
    /// One is not as it shall be, and time alone will not help.
    Failed,
    /// The member does not answer.
    Unknown,
}

/// An object of a workload in one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadObject {
    /// Its apiVersion.
    #[schemars(schema_with = "schema::display")]
    pub api_version: String,
    /// Its kind.
    #[schemars(schema_with = "schema::kind")]
    pub kind: String,
    /// Its name.
    #[schemars(schema_with = "schema::short")]
    pub name: String,
    /// The uid that we know it by: only what has it is ever pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uid")]
    pub uid: Option<String>,
    /// Current, InProgress, Failed, Conflict or Unknown (kstatus), or Refused: nothing of it was ever sent to the member.
    #[schemars(schema_with = "schema::word")]
    pub state: String,
    /// Why, where it is not Current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
}
