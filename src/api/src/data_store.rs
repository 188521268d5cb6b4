//! DataStore: one logical database that is present in several units.

use crate::common::conditions_schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One logical database that is present in several units.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "DataStore",
    namespaced,
    status = "DataStoreStatus",
    category = "multiactive"
)]
#[serde(rename_all = "camelCase")]
pub struct DataStoreSpec {
    /// Who writes.
    pub topology: Topology,
    /// The Keyspace by which its tables are sharded.
    pub keyspace: String,
    /// The database engine.
    pub engine: Engine,
    /// The sharded tables; they are fenced by slot and replicated.
    pub tables: Vec<Table>,
    /// One database in each unit.
    pub members: Vec<StoreMember>,
    /// What happens to links and fences when this object is deleted.
    #[serde(default = "default_deletion_policy")]
    pub deletion_policy: DeletionPolicy,
}

/// Who writes to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Topology {
    /// Each unit writes the slots that it owns.
    Sharded,
}

/// What a deletion leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Everything stays as it is.
    Orphan,
    /// Links, triggers and the schema of multiactive are removed; rows stay.
    Delete,
}

/// The default of `spec.deletionPolicy`.
pub fn default_deletion_policy() -> DeletionPolicy {
    DeletionPolicy::Orphan
}

/// A database engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// Which engine.
    #[serde(rename = "type")]
    pub kind: EngineType,
    /// For `PostgreSQL`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "postgreSQL")]
    pub postgre_sql: Option<PostgreSqlEngine>,
}

/// The engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EngineType {
    /// PostgreSQL 18.
    #[serde(rename = "PostgreSQL")]
    PostgreSql,
}

/// PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgreSqlEngine {
    /// The database's name, the same in every unit.
    pub database: String,
}

/// A sharded table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Its name, with or without a schema.
    pub name: String,
    /// The column whose text is the key.
    pub shard_key: String,
}

/// The database of one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreMember {
    /// The unit.
    pub unit: String,
    /// Host and port, reachable from every unit.
    pub address: String,
    /// A Secret in the unit's namespace of the member cluster: username and password of the agent here,
    /// replicationUsername and replicationPassword with which this member reads from the others.
    pub credentials: String,
}

/// What is known of a DataStore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataStoreStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// One entry for each member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<StoreMemberStatus>,
}

/// What is known of a member's database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreMemberStatus {
    /// The unit.
    pub unit: String,
    /// Ready, NotReady or Unknown.
    pub state: String,
    /// The first problem and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
