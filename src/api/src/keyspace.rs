//! Keyspace: how a request or a row becomes a slot.

use crate::schema;
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
    shortname = "mks",
    category = "multiactive",
    doc = "How a request or a row becomes a slot.",
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("metadata.name must be a DNS label: at most 63 characters, without dots"),
    validation = Rule::new("self.spec.slots == oldSelf.spec.slots")
        .message("slots is immutable: the fences apply it"),
    validation = Rule::new("self.spec.__function__ == oldSelf.spec.__function__")
        .message("function is immutable: the fences apply it"),
    validation = Rule::new("has(self.spec.overrides) == has(oldSelf.spec.overrides) && (!has(self.spec.overrides) || self.spec.overrides == oldSelf.spec.overrides)")
        .message("overrides are immutable: the fences apply them"),
    printcolumn(name = "SLOTS", type_ = "integer", json_path = ".spec.slots"),
    printcolumn(name = "FUNCTION", type_ = "string", json_path = ".spec.function.type"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "EPOCH", type_ = "string", json_path = ".status.epoch"),
    printcolumn(name = "WHY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("!has(self.overrides) || self.overrides.all(o, o.slot < self.slots)")
        .message("the slot of an override must be smaller than slots"),
    validation = Rule::new("!has(self.overrides) || self.overrides.all(o, o.keys.all(k, self.overrides.exists_one(p, k in p.keys)))")
        .message("a key must not be in two overrides")
)]
#[serde(rename_all = "camelCase")]
pub struct KeyspaceSpec {
    /// The number of slots; immutable.
    #[schemars(schema_with = "schema::slot_count")]
    pub slots: i32,
    /// Which requests belong to it: the longest matching prefix of the path wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::by_prefix::<Route>")]
    pub routes: Vec<Route>,
    /// Where a request's key is.
    pub key: Key,
    /// How a key becomes a slot; immutable.
    pub function: Function,
    /// Keys that do not follow the function; immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered::<KeyOverride>")]
    pub overrides: Vec<KeyOverride>,
}

/// Requests that belong to a keyspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The beginning of the path, whole segments: /orders matches /orders and /orders/7, not /ordersX.
    #[schemars(schema_with = "schema::path_prefix")]
    pub path_prefix: String,
    /// The name of the unit's backend that serves them.
    #[schemars(schema_with = "schema::label")]
    pub backend: String,
}

/// Where a request's key is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The first source that is present wins; each must yield the same key, the text of the shard column.
    #[schemars(schema_with = "schema::some_ordered::<KeySource>")]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("(self.type == 'Path') == has(self.path)")
        .message("path is given exactly for type Path"),
    validation = Rule::new("(self.type == 'Header') == has(self.header)")
        .message("header is given exactly for type Header")
)]
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
    /// A regular expression with exactly one group, which is the key. It is matched against the path without the query,
    /// with percent-encoding undone, as services see it. Paths that servers read in different ways (`.`, `..` or empty
    /// segments, encoded slashes, control characters) are answered 400.
    #[schemars(schema_with = "schema::regex")]
    pub pattern: String,
}

/// A key in a header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!self.name.lowerAscii().startsWith('x-multiactive-')")
        .message("the routers remove x-multiactive- headers that come from outside: choose another name")
)]
#[serde(rename_all = "camelCase")]
pub struct HeaderSource {
    /// The header's name, in any case; its whole value is the key. A request that has the header twice, with a comma, or
    /// also with `_` in place of `-` is answered 400: the service might take another value than the router.
    #[schemars(schema_with = "schema::header")]
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
    /// CRC-32 (IEEE 802.3, as in zlib) of the key's UTF-8 bytes, modulo the number of slots. PostgreSQL has it from 18 on.
    Crc32,
    /// The first four bytes of the MD5 of the key's UTF-8 bytes, as one number whose highest byte is the first, modulo the
    /// number of slots. PostgreSQL and MariaDB have it, MySQL by a component.
    Md5,
}

/// Keys that go to a fixed slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyOverride {
    /// The keys, each exactly.
    #[schemars(schema_with = "schema::keys")]
    pub keys: Vec<String>,
    /// Their slot.
    #[schemars(schema_with = "schema::slot")]
    pub slot: i32,
}

/// What is known of a Keyspace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyspaceStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The term and epoch of its last published change, such as 1.41.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::epoch")]
    pub epoch: Option<String>,
}
