//! ReplicationLink: one directed stream of a DataStore from one unit to another. Generated; read-only for users.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One directed stream of a DataStore. The operator makes it; users read it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "ReplicationLink",
    namespaced,
    status = "ReplicationLinkStatus",
    shortname = "rl",
    category = "multiactive",
    doc = "One directed stream of a DataStore from one unit to another. The operator makes it; users read it.",
    validation = Rule::new("self.metadata.name == self.spec.store + '-' + self.spec.from + '-' + self.spec.to")
        .message("metadata.name must be store-from-to"),
    validation = Rule::new("self.spec == oldSelf.spec")
        .message("spec is immutable"),
    printcolumn(name = "STORE", type_ = "string", json_path = ".spec.store"),
    printcolumn(name = "FROM", type_ = "string", json_path = ".spec.from"),
    printcolumn(name = "TO", type_ = "string", json_path = ".spec.to"),
    printcolumn(name = "STATE", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "LAG", type_ = "string", json_path = ".status.lag"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "WHY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.from != self.to")
        .message("from and to must differ")
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationLinkSpec {
    /// The DataStore.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// The unit whose writes it carries.
    #[schemars(schema_with = "schema::label")]
    pub from: String,
    /// The unit that applies them.
    #[schemars(schema_with = "schema::label")]
    pub to: String,
}

/// What is known of a ReplicationLink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationLinkStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Running, Starting, Broken or Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub state: Option<String>,
    /// How long what is written at `from` takes to be read at `to`: not longer than this when it was measured last, in steps of 1s,
    /// 2s, 5s, 10s and so on. It grows while something is waited for, and stays while `from` does not answer. Absent where it is not
    /// known, or rows may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub lag: Option<String>,
}
