//! ReplicationLink: one directed stream of a DataStore from one unit to another. Generated; read-only for users.

use crate::common::conditions_schema;
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
    category = "multiactive"
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationLinkSpec {
    /// The DataStore.
    pub store: String,
    /// The unit whose writes it carries.
    pub from: String,
    /// The unit that applies them.
    pub to: String,
}

/// What is known of a ReplicationLink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationLinkStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Running, Starting, Broken or Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}
