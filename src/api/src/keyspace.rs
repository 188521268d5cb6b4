//! Keyspace: how a request or a row becomes a slot.

use crate::common::conditions_schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a request or a row becomes a slot.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "Keyspace",
    namespaced,
    status = "KeyspaceStatus",
    category = "multiactive"
)]
#[serde(rename_all = "camelCase")]
pub struct KeyspaceSpec {
    /// The number of slots; immutable.
    pub slots: i32,
    /// Which requests belong to it: the longest matching prefix of the path wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Where a request's key is.
    pub key: Key,
    /// How a key becomes a slot; immutable.
    pub function: Function,
    /// Keys that do not follow the function; immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<KeyOverride>,
}

/// Requests that belong to a keyspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The beginning of the path, whole segments: /orders matches /orders and /orders/7, not /ordersX.
    pub path_prefix: String,
    /// The name of the unit's backend that serves them.
    pub backend: String,
}

/// Where a request's key is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The first source that is present wins; each must yield the same key, the text of the shard column.
    pub sources: Vec<KeySource>,
    /// What to do with a request that has none of them.
    #[serde(default = "default_on_missing")]
    pub on_missing: OnMissing,
}

/// The default of `spec.key.onMissing`.
pub fn default_on_missing() -> OnMissing {
    OnMissing::Reject
}

/// One place where a key may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySource {
    /// Which place.
    #[serde(rename = "type")]
    pub kind: KeySourceType,
    /// For `Path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathSource>,
    /// For `Header`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderSource>,
}

/// The places where a key may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeySourceType {
    /// In the path.
    Path,
    /// In a header.
    Header,
}

/// A key in the path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathSource {
    /// A regular expression with exactly one group, matched against the path without the query; the group, with
    /// percent-encoding undone, is the key.
    pub pattern: String,
}

/// A key in a header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderSource {
    /// The header's name, in any case; its whole value is the key.
    pub name: String,
}

/// What to do with a request without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnMissing {
    /// Answer 400.
    Reject,
    /// Serve it in the unit that it came to.
    Any,
}

/// How a key becomes a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Function {
    /// Which function.
    #[serde(rename = "type")]
    pub kind: FunctionType,
}

/// The functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FunctionType {
    /// CRC-32 (IEEE 802.3, as in zlib) of the key's UTF-8 bytes, modulo the number of slots.
    Crc32,
}

/// Keys that go to a fixed slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyOverride {
    /// The keys, each exactly.
    pub keys: Vec<String>,
    /// Their slot.
    pub slot: i32,
}

/// What is known of a Keyspace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyspaceStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The term and epoch of its last published change, such as 1.41.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}
