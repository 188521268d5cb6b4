//! Unit: a cell that can serve all traffic of the shards that it owns.

use crate::schema;
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
    shortname = "un",
    category = "multiactive",
    doc = "A cell that can serve all traffic of the shards that it owns.",
    validation = Rule::new("self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must begin with a letter and have at most 50 characters, without dots: Services are named after it"),
    validation = Rule::new("self.spec.cluster == oldSelf.spec.cluster")
        .message("cluster is immutable: a unit in another cluster is another unit, with a name of its own"),
    printcolumn(name = "CLUSTER", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "ROLE", type_ = "string", json_path = ".spec.role"),
    printcolumn(name = "SLOTS", type_ = "integer", json_path = ".status.slots"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "APPLIED", type_ = "string", json_path = ".status.applied"),
    printcolumn(name = "LEASE", type_ = "string", json_path = ".status.lease.state"),
    printcolumn(name = "CORDONED", type_ = "boolean", json_path = ".spec.cordoned"),
    printcolumn(name = "ROUTERS", type_ = "integer", json_path = ".status.routers", priority = 1),
    printcolumn(name = "WHY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("duration(self.leaseDuration) >= duration('5s') && duration(self.leaseDuration) <= duration('5m')")
        .message("leaseDuration must be at least 5s and at most 5m")
)]
#[serde(rename_all = "camelCase")]
pub struct UnitSpec {
    /// The MemberCluster that it lives in.
    #[schemars(schema_with = "schema::label")]
    pub cluster: String,
    /// What it is for.
    pub role: UnitRole,
    /// Where the other units' routers reach its router: an https URL with host and port.
    #[schemars(schema_with = "schema::https_url")]
    pub router: String,
    /// The local services that its router passes requests to, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::named::<Backend>")]
    pub backends: Vec<Backend>,
    /// Never a target of a promotion while true.
    #[serde(default)]
    pub cordoned: bool,
    /// What it does when its agents cannot renew its write lease.
    #[serde(default)]
    pub on_lease_loss: OnLeaseLoss,
    /// For how long a renewal of its write lease holds, such as 10s: at least 5s, at most 5m. It is renewed every quarter
    /// of that. A unit that is lost is waited for as long.
    #[serde(default = "default_lease_duration")]
    #[schemars(schema_with = "schema::duration")]
    pub lease_duration: String,
    /// What fences it from outside when it is lost, such as by switching its power off, and says so. It is asked where neither the
    /// unit's own agent nor the end of its write lease proves that it writes no more; without it a person has to say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing_hook: Option<FencingHook>,
}

/// The default of `spec.leaseDuration`.
pub fn default_lease_duration() -> String {
    "10s".to_owned()
}

/// An HTTP endpoint that fences a unit and answers whether it is fenced: docs/failover.md has the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new(r"self.url.matches('^https?://([^/]*@)?([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\\[[0-9a-fA-F:.]+\\])(:[1-9][0-9]{0,4})?(/[^#]*)?$')")
        .message("url must be an http or https URL with a host, and without a fragment"),
    validation = Rule::new("!self.url.matches('^[a-z]+://[^/]*@')")
        .message("url must have no credentials in it: put a token into the Secret that credentials names"),
    validation = Rule::new("duration(self.timeout) >= duration('1s') && duration(self.timeout) <= duration('5m')")
        .message("timeout must be at least 1s and at most 5m"),
    validation = Rule::new("!has(self.credentials) || self.url.startsWith('https://')")
        .message("a token is sent by https only: url must be an https URL where credentials are given")
)]
#[serde(rename_all = "camelCase")]
pub struct FencingHook {
    /// Where it is asked, by POST: an http or https URL. Redirects are not followed.
    #[schemars(schema_with = "schema::url")]
    pub url: String,
    /// A Secret in the unit's namespace of the hub: `token`, sent as bearer token, and `ca.crt`, by which the endpoint is known;
    /// both may be missing. Without `ca.crt` it is known by the authorities of the operator's system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub credentials: Option<String>,
    /// How long an answer may take, such as 30s: at least 1s, at most 5m. A later one counts no more.
    #[serde(default = "default_hook_timeout")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: String,
}

/// The default of `spec.fencingHook.timeout`.
pub fn default_hook_timeout() -> String {
    "30s".to_owned()
}

/// What a unit does that cannot renew its write lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnLeaseLoss {
    /// Fence with the etcd ledger, of which only a minority side is cut off; KeepServing with the single-hub ledger,
    /// because the loss of one hub must not stop every unit.
    #[default]
    Auto,
    /// Its databases refuse writes once the lease is over. A failover needs nobody to say that it is fenced.
    Fence,
    /// It goes on while its agent lives. A failover needs a fence that was confirmed.
    KeepServing,
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
    #[schemars(schema_with = "schema::label")]
    pub name: String,
    /// Its URL, http, with host and port.
    #[schemars(schema_with = "schema::http_url")]
    pub url: String,
}

/// What is known of a Unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// How many slots it owns, over all keyspaces.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub slots: i32,
    /// The term and epoch of the table that its agent has applied, such as 1.41.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::epoch")]
    pub applied: Option<String>,
    /// How many routers are connected to the agent.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub routers: i32,
    /// Its write lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<UnitLease>,
}

/// The write lease of a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitLease {
    /// What applies when it cannot be renewed.
    pub mode: crate::unit_assignment::LeaseMode,
    /// How it stands, by the unit's agent; absent while it has not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<crate::unit_assignment::LeaseState>,
    /// Why it stands so, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
}
