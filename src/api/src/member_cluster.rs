//! MemberCluster: one Kubernetes cluster of the fleet, in one region, and how the operator reaches it.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One Kubernetes cluster of the fleet.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "MemberCluster",
    status = "MemberClusterStatus",
    shortname = "mcl",
    category = "multiactive",
    doc = "One Kubernetes cluster of the fleet, in one region, and how the operator reaches it.",
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("metadata.name must be a DNS label: at most 63 characters, without dots"),
    printcolumn(name = "REGION", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "SEEN", type_ = "date", json_path = ".status.lastSeen"),
    printcolumn(name = "CREDENTIALS-UNTIL", type_ = "string", json_path = ".status.credentialsUntil"),
    printcolumn(name = "VERSION", type_ = "string", json_path = ".status.version", priority = 1),
    printcolumn(name = "WHY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MemberClusterSpec {
    /// The Region that it is in.
    #[schemars(schema_with = "schema::label")]
    pub region: String,
    /// How the operator reaches its API server.
    pub access: Access,
    /// The namespaces that the operator may write to in this cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespaces")]
    pub allowed_namespaces: Vec<String>,
    /// The namespace in which this cluster's agent runs.
    #[serde(default = "default_agent_namespace")]
    #[schemars(schema_with = "schema::label")]
    pub agent_namespace: String,
}

/// The default of `spec.agentNamespace`.
pub fn default_agent_namespace() -> String {
    "multiactive-system".to_owned()
}

/// How an API server is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("(self.type == 'Kubeconfig') == has(self.kubeconfig)")
        .message("kubeconfig is given exactly for type Kubeconfig")
)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Which way.
    #[serde(rename = "type")]
    pub kind: AccessType,
    /// For `Kubeconfig`: where the kubeconfig is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<KubeconfigAccess>,
}

/// The ways to reach an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessType {
    /// The cluster that the operator itself runs in: the hub.
    InCluster,
    /// By a kubeconfig in a Secret of the hub.
    Kubeconfig,
}

/// A kubeconfig in a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeconfigAccess {
    /// The Secret's name.
    #[schemars(schema_with = "schema::object_name")]
    pub secret: String,
    /// The Secret's namespace, by default that of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub namespace: Option<String>,
    /// The key in the Secret.
    #[serde(default = "default_kubeconfig_key")]
    #[schemars(schema_with = "schema::secret_key")]
    pub key: String,
}

/// The default of `spec.access.kubeconfig.key`.
pub fn default_kubeconfig_key() -> String {
    "kubeconfig".to_owned()
}

/// What is known of a MemberCluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberClusterStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The version of its Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub version: Option<String>,
    /// The uid of its kube-system namespace: which cluster it is, whatever address it has. Where another one answers,
    /// nothing is written there until a person accepts it: annotation multiactive.io/accept-cluster with its uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uid")]
    pub cluster_uid: Option<String>,
    /// Whether it is the hub itself.
    #[serde(default)]
    pub hub: bool,
    /// When it answered last, where it does not answer now; absent while it does, and where nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// When the credentials end, where that can be read from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_until: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}
