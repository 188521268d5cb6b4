//! DataStore: one logical database that is present in several units.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use kube::ResourceExt;
use multiactive_core::ids::KeyspaceName;
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
    shortname = "dst",
    category = "multiactive",
    doc = "One logical database that is present in several units.",
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("metadata.name must be a DNS label: at most 63 characters, without dots"),
    validation = Rule::new("self.spec.topology == oldSelf.spec.topology")
        .message("topology is immutable"),
    validation = Rule::new("has(self.spec.keyspace) == has(oldSelf.spec.keyspace) && (!has(self.spec.keyspace) || self.spec.keyspace == oldSelf.spec.keyspace)")
        .message("keyspace is immutable: the fences apply it"),
    validation = Rule::new("self.spec.engine == oldSelf.spec.engine")
        .message("engine is immutable"),
    printcolumn(name = "TOPOLOGY", type_ = "string", json_path = ".spec.topology"),
    printcolumn(name = "ENGINE", type_ = "string", json_path = ".spec.engine.type"),
    printcolumn(name = "KEYSPACE", type_ = "string", json_path = ".spec.keyspace"),
    printcolumn(name = "HOME", type_ = "string", json_path = ".spec.singleWriter.homeUnit"),
    printcolumn(name = "WRITER", type_ = "string", json_path = ".status.writer.unit"),
    printcolumn(name = "STATE", type_ = "string", json_path = ".status.writer.state"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "WHY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "CONFLICT", type_ = "string", json_path = ".spec.conflict", priority = 1),
    printcolumn(name = "OPEN-CONFLICTS", type_ = "integer", json_path = ".status.conflicts.open", priority = 1),
    printcolumn(name = "SETTLED-CONFLICTS", type_ = "integer", json_path = ".status.conflicts.settled", priority = 1),
    printcolumn(name = "MESSAGE", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("oldSelf.tables.all(o, self.tables.exists(n, n == o))")
        .message("tables can be added, never changed or taken away: fences, links and their slots depend on them"),
    validation = Rule::new("self.engine.type != 'PostgreSQL' || self.tables.all(t, t.name.contains('.') || !self.tables.exists(o, o.name == 'public.' + t.name))")
        .message("a table must not be named twice: a name without a schema is in public"),
    validation = Rule::new("!has(self.engine.mariaDB) || self.tables.all(t, t.name.contains('.') || !self.tables.exists(o, o.name == self.engine.mariaDB.database + '.' + t.name))")
        .message("a table must not be named twice: a name without a database is in the store's own"),
    validation = Rule::new("!has(self.engine.mySQL) || self.tables.all(t, t.name.contains('.') || !self.tables.exists(o, o.name == self.engine.mySQL.database + '.' + t.name))")
        .message("a table must not be named twice: a name without a database is in the store's own"),
    validation = Rule::new("(self.topology == 'Sharded') == has(self.keyspace)")
        .message("keyspace is given exactly for topology Sharded"),
    validation = Rule::new("(self.topology == 'SingleWriter') == has(self.singleWriter)")
        .message("singleWriter is given exactly for topology SingleWriter"),
    validation = Rule::new("has(self.conflict) == has(oldSelf.conflict)")
        .message("conflict can be changed, never added or taken away: its fences and links depend on whether several units write"),
    validation = Rule::new("!has(self.conflict) || self.topology == 'Sharded'")
        .message("conflict goes with topology Sharded: a store with a single writer has none"),
    validation = Rule::new("!has(self.conflict) || has(self.verification)")
        .message("conflict needs verification.schedule: by it rows that two units wrote at the same time are found and settled"),
    validation = Rule::new("!has(self.conflict) || self.conflict != 'LastWriterWins' || self.tables.all(t, has(t.lastWrite))")
        .message("conflict LastWriterWins needs lastWrite of each table: the column that says when a row was written last"),
    validation = Rule::new("has(self.conflict) || self.tables.all(t, !has(t.lastWrite))")
        .message("lastWrite goes with conflict: elsewhere one unit writes a row"),
    validation = Rule::new("self.tables.all(t, (self.topology == 'Sharded') == has(t.shardKey))")
        .message("shardKey is given exactly for topology Sharded: a store with a single writer is not divided"),
    validation = Rule::new("!has(self.singleWriter) || self.members.exists(m, m.unit == self.singleWriter.homeUnit)")
        .message("members has no database in singleWriter.homeUnit"),
    validation = Rule::new("!has(self.singleWriter) || !has(self.singleWriter.failoverUnits) || self.singleWriter.failoverUnits.all(u, self.members.exists(m, m.unit == u))")
        .message("members has no database in one of singleWriter.failoverUnits")
)]
#[serde(rename_all = "camelCase")]
pub struct DataStoreSpec {
    /// Who writes.
    pub topology: Topology,
    /// For `Sharded`: the Keyspace by which its tables are sharded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub keyspace: Option<String>,
    /// For `SingleWriter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_writer: Option<SingleWriter>,
    /// For `Sharded`: lets every unit write every row at any time, and says whose row is right where two wrote it at the same time.
    /// Without it only the owner of a slot writes its rows, and no conflict can arise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
    /// The database engine.
    pub engine: Engine,
    /// Encrypts every session of the agents and every link, and has each server prove its name; without it nothing is
    /// encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<StoreTls>,
    /// The tables that are fenced and replicated. They can be added, never changed or taken away.
    #[schemars(schema_with = "schema::some_named::<Table>")]
    pub tables: Vec<Table>,
    /// One database in each unit. A member that is taken away stays in force while its unit owns slots of the keyspace, or
    /// is the writer.
    #[schemars(schema_with = "schema::some_by_unit::<StoreMember>")]
    pub members: Vec<StoreMember>,
    /// Compares the rows of all members with the owners' again and again: a Verification is made whenever one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<StoreVerification>,
}

/// Verifications of a store that are made by a schedule. They repair nothing, but for what `conflict` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreVerification {
    /// When: the five fields of cron (minute, hour, day of the month, month, day of the week), such as `30 2 * * *`. While the last one
    /// runs none is made; of those that were missed only the last is made up for.
    #[schemars(schema_with = "schema::cron")]
    pub schedule: String,
    /// The time zone in which that is meant, such as Europe/Berlin.
    #[serde(default = "default_time_zone")]
    #[schemars(schema_with = "schema::time_zone")]
    pub time_zone: String,
    /// As `spec.maxRowsPerSecond` of a Verification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pace")]
    pub max_rows_per_second: Option<i64>,
    /// How many that have ended are kept.
    #[serde(default = "default_keep")]
    #[schemars(schema_with = "schema::kept")]
    pub keep: i32,
    /// Whether none are made for now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// The default of `spec.verification.timeZone`.
pub fn default_time_zone() -> String {
    "UTC".to_owned()
}

/// The default of `spec.verification.keep`.
pub fn default_keep() -> i32 {
    14
}

impl DataStore {
    /// The keyspace whose slots it is fenced by: the declared one, or that of its single writer, which has one slot, or that of
    /// a store that several units write, whose slots nobody owns.
    pub fn keyspace_name(&self) -> KeyspaceName {
        match (&self.spec.conflict, &self.spec.keyspace) {
            (Some(_), _) => KeyspaceName::of_shared(&self.name_any().into()),
            (None, Some(declared)) => declared.as_str().into(),
            (None, None) => KeyspaceName::of_writer(&self.name_any().into()),
        }
    }
}

/// Whose row is right where two units wrote it at the same time. Both versions are listed in the database of the unit whose row
/// was replaced, or is in doubt: table `multiactive.conflict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Conflict {
    /// That which was written last, by the column `lastWrite` of its table; of the same moment, that which the unit has whose name
    /// comes first. A row that only one of them has stays.
    LastWriterWins,
    /// That of the unit which owns its slot.
    OwnerWins,
    /// Nobody's: it is listed, and stays different until a person or the application writes it again.
    Report,
}

/// Who writes to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Topology {
    /// Each unit writes the slots that it owns.
    Sharded,
    /// One unit writes, the others read or stand by.
    SingleWriter,
}

/// Who writes to a store that one unit writes, and how requests get there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.failoverUnits) || !(self.homeUnit in self.failoverUnits)")
        .message("homeUnit must not be among failoverUnits"),
    validation = Rule::new("!has(self.failoverUnits) || self.failoverUnits.all(u, self.failoverUnits.exists_one(x, x == u))")
        .message("failoverUnits must not name a unit twice"),
    validation = Rule::new("!has(self.maxLag) || self.reads == 'Local'")
        .message("maxLag is a bound of local reads: it goes with reads Local"),
    validation = Rule::new("!has(self.maxLag) || (duration(self.maxLag) >= duration('500ms') && duration(self.maxLag) <= duration('1h'))")
        .message("maxLag must be at least 500ms and at most 1h")
)]
#[serde(rename_all = "camelCase")]
pub struct SingleWriter {
    /// The unit that Git prefers as the writer; it becomes the first one. Editing it moves nothing.
    #[schemars(schema_with = "schema::label")]
    pub home_unit: String,
    /// Who may become the writer when it is lost, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::failover_units")]
    pub failover_units: Vec<String>,
    /// Which requests belong to the store: the longest matching prefix of the path wins. Writes go to the writer's unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::by_prefix::<crate::keyspace::Route>")]
    pub routes: Vec<crate::keyspace::Route>,
    /// Where reads of these routes go.
    #[serde(default = "default_reads")]
    pub reads: Reads,
    /// How old what a local read shows may be, such as 5s: where it is older, or nobody knows, the read goes to the writer's
    /// unit. Without it local reads are answered whatever their age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub max_lag: Option<String>,
}

/// Where reads of a store with a single writer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Reads {
    /// To the unit that they came to, where it has a member and its role is not Standby, else to the writer's unit.
    Local,
    /// To the writer's unit.
    Writer,
}

/// The default of `spec.singleWriter.reads`.
pub fn default_reads() -> Reads {
    Reads::Local
}

/// A database engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("(self.type == 'PostgreSQL') == has(self.postgreSQL)")
        .message("postgreSQL is given exactly for type PostgreSQL"),
    validation = Rule::new("(self.type == 'MariaDB') == has(self.mariaDB)")
        .message("mariaDB is given exactly for type MariaDB"),
    validation = Rule::new("(self.type == 'MySQL') == has(self.mySQL)")
        .message("mySQL is given exactly for type MySQL")
)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// Which engine.
    #[serde(rename = "type")]
    pub kind: EngineType,
    /// For `PostgreSQL`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "postgreSQL")]
    pub postgre_sql: Option<PostgreSqlEngine>,
    /// For `MariaDB`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "mariaDB")]
    pub maria_db: Option<MariaDbEngine>,
    /// For `MySQL`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "mySQL")]
    pub my_sql: Option<MySqlEngine>,
}

impl Engine {
    /// PostgreSQL, with this database.
    pub fn postgre_sql(database: &str) -> Self {
        Self {
            kind: EngineType::PostgreSql,
            postgre_sql: Some(PostgreSqlEngine {
                database: database.to_owned(),
            }),
            maria_db: None,
            my_sql: None,
        }
    }

    /// MariaDB, with this database.
    pub fn maria_db(database: &str) -> Self {
        Self {
            kind: EngineType::MariaDb,
            postgre_sql: None,
            maria_db: Some(MariaDbEngine {
                database: database.to_owned(),
            }),
            my_sql: None,
        }
    }

    /// MySQL, with this database.
    pub fn my_sql(database: &str) -> Self {
        Self {
            kind: EngineType::MySql,
            postgre_sql: None,
            maria_db: None,
            my_sql: Some(MySqlEngine {
                database: database.to_owned(),
            }),
        }
    }
}

/// The engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EngineType {
    /// PostgreSQL 16 or newer; before 18 with keyspaces of function Md5 alone.
    #[serde(rename = "PostgreSQL")]
    PostgreSql,
    /// MariaDB 10.11 or newer; one server is one member of one store.
    #[serde(rename = "MariaDB")]
    MariaDb,
    /// MySQL 9; one server is one member of one store.
    #[serde(rename = "MySQL")]
    MySql,
}

/// PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgreSqlEngine {
    /// The database's name, the same in every unit.
    #[schemars(schema_with = "schema::database")]
    pub database: String,
}

/// MariaDB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MariaDbEngine {
    /// The database's name, the same in every unit.
    #[schemars(schema_with = "schema::database")]
    pub database: String,
}

/// MySQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MySqlEngine {
    /// The database's name, the same in every unit.
    #[schemars(schema_with = "schema::database")]
    pub database: String,
}

/// By what the servers of a store's members are known: each has a certificate for the name, or the IP address, in its
/// member's address, and the key ca.crt of each member's Secret has the certificates of those who signed them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreTls {
    /// The file with these CA certificates on each member's database server, which the server itself can read: by it that
    /// server knows the ones that it receives from.
    #[schemars(schema_with = "schema::file")]
    pub ca_file: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Its name, with or without a schema; without one it is in public. Of MariaDB and MySQL a schema is a database, and without one it
    /// is in the store's own.
    #[schemars(schema_with = "schema::table")]
    pub name: String,
    /// For `Sharded`: the column whose text is the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::column")]
    pub shard_key: Option<String>,
    /// For `conflict`: the column that says when a row was written last, such as updated_at. Whoever writes a row sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::column")]
    pub last_write: Option<String>,
}

/// The database of one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreMember {
    /// The unit.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// Host and port, reachable from every unit.
    #[schemars(schema_with = "schema::address")]
    pub address: String,
    /// A Secret in the unit's namespace of the member cluster: username and password of the agent here,
    /// replicationUsername and replicationPassword with which this member reads from the others, and where spec.tls is given
    /// ca.crt.
    #[schemars(schema_with = "schema::object_name")]
    pub credentials: String,
}

/// What is known of a DataStore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataStoreStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// For `SingleWriter`: who writes now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<WriterStatus>,
    /// One entry for each member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::by_unit::<StoreMemberStatus>")]
    pub members: Vec<StoreMemberStatus>,
    /// Where it has a schedule of verifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<StoreVerificationStatus>,
    /// Where several units write it: the rows that two wrote at the same time, as far as its members' agents have said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<ConflictCounts>,
}

/// How many rows two units wrote at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConflictCounts {
    /// That differ still.
    #[schemars(schema_with = "schema::count_long")]
    pub open: i64,
    /// That are equal again, of the last 30 days.
    #[schemars(schema_with = "schema::count_long")]
    pub settled: i64,
}

/// What has become of a schedule of verifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreVerificationStatus {
    /// The last Verification that was made by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub last: Option<String>,
    /// When the next one is due; absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::moment")]
    pub next: Option<String>,
    /// What is wrong with the schedule, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
}

/// Who writes to a store with a single writer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriterStatus {
    /// The unit; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub unit: Option<String>,
    /// Unowned, Serving, Held, Fenced or Opening.
    #[schemars(schema_with = "schema::word")]
    pub state: String,
    /// The term and epoch of its last change, such as 1.41.
    #[schemars(schema_with = "schema::epoch")]
    pub epoch: String,
    /// Whether it is another unit than the home unit.
    #[serde(default)]
    pub away: bool,
}

/// What is known of a member's database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreMemberStatus {
    /// The unit.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// Ready, NotReady or Unknown.
    #[schemars(schema_with = "schema::word")]
    pub state: String,
    /// The first problem and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// Where several units write the store: the rows that are listed in this database (multiactive.conflict).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<ConflictCounts>,
}
