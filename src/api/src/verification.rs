//! Verification: whether units hold the rows of the owners, exactly, under live writes; with or without repair. One-shot.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A comparison of the units' rows with those of the slots' owners, with or without repair. One-shot: the spec is immutable.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "Verification",
    namespaced,
    status = "VerificationStatus",
    shortname = "vf",
    category = "multiactive",
    doc = "A comparison of the units' rows with those of the slots' owners, with or without repair. One-shot: the spec is immutable.",
    printcolumn(name = "REPAIR", type_ = "string", json_path = ".spec.repair"),
    printcolumn(name = "DONE", type_ = "string", json_path = ".status.done"),
    printcolumn(name = "SLOTS", type_ = "string", json_path = ".status.comparedSlots"),
    printcolumn(name = "ROWS", type_ = "integer", json_path = ".status.rows"),
    printcolumn(name = "DIFFERING-SLOTS", type_ = "integer", json_path = ".status.differingSlots"),
    printcolumn(name = "OUTCOME", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "REASON", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "MESSAGE", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("has(self.stores) == has(oldSelf.stores) && (!has(self.stores) || self.stores == oldSelf.stores) && has(self.units) == has(oldSelf.units) && (!has(self.units) || self.units == oldSelf.units) && self.repair == oldSelf.repair && has(self.maxRowsPerSecond) == has(oldSelf.maxRowsPerSecond) && (!has(self.maxRowsPerSecond) || self.maxRowsPerSecond == oldSelf.maxRowsPerSecond)")
        .message("the spec is immutable: create a new Verification")
)]
#[serde(rename_all = "camelCase")]
pub struct VerificationSpec {
    /// The DataStores whose rows are compared; without it, all of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_set")]
    pub stores: Option<Vec<String>>,
    /// The units whose databases are compared with those of the owners; without it, all members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_set")]
    pub units: Option<Vec<String>>,
    /// What becomes of rows that differ.
    #[serde(default = "default_repair")]
    pub repair: RepairMode,
    /// How many rows a second are read of any one database of a store, at most, on an average: between chunks it rests. Without
    /// it, as fast as they are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pace")]
    pub max_rows_per_second: Option<i64>,
}

/// The default of `spec.repair`.
pub fn default_repair() -> RepairMode {
    RepairMode::None
}

/// What becomes of rows that differ from the owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RepairMode {
    /// They are told.
    None,
    /// They are replaced by the owner's, which nothing replicates back; rows that the owner has not are removed.
    FromOwner,
}

/// Where a Verification stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// How it ended: Succeeded where all rows are equal or were made so, Failed where some differ, Refused; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub outcome: Option<String>,
    /// One word about the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub reason: Option<String>,
    /// What was found and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// What it waits for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub waiting_for: Option<String>,
    /// How many of the comparisons have ended, such as 4/6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub done: Option<String>,
    /// How many slots of how many were compared, of all comparisons together, such as 512/2048.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub compared_slots: Option<String>,
    /// How many rows of owners were compared, each once for every unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub rows: Option<i64>,
    /// In how many slots of all units rows differed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub differing_slots: Option<i64>,
    /// When its comparisons began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::moment")]
    pub started_at: Option<String>,
    /// When the last of them had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::moment")]
    pub ended_at: Option<String>,
    /// One entry for each store, unit and owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_1024::<VerifiedPair>")]
    pub pairs: Vec<VerifiedPair>,
}

/// The rows of one store that one unit owns, as another one holds them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedPair {
    /// The store.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// The unit whose database was compared.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// What was found.
    #[serde(flatten)]
    pub found: PairReport,
}

/// What a unit asks of its databases for a Verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignedVerification {
    /// The uid of the Verification.
    #[schemars(schema_with = "schema::uid")]
    pub uid: String,
    /// The stores of this unit that are compared.
    #[schemars(schema_with = "schema::labels")]
    pub stores: Vec<String>,
    /// What becomes of rows that differ.
    pub repair: RepairMode,
    /// How many rows a second this unit may compare, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub max_rows_per_second: Option<i64>,
}

/// What an agent says of a Verification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationReport {
    /// The uid of the Verification.
    #[schemars(schema_with = "schema::uid")]
    pub uid: String,
    /// One entry for each store and owner that was begun.
    #[schemars(schema_with = "schema::ordered_1024::<StorePair>")]
    pub pairs: Vec<StorePair>,
}

/// The rows of one store that another unit owns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorePair {
    /// The store.
    #[schemars(schema_with = "schema::label")]
    pub store: String,
    /// What was found.
    #[serde(flatten)]
    pub found: PairReport,
}

/// The rows that one unit owns, as another holds them. They are compared in chunks, of slots or of ranges of the keys of one slot:
/// of each both are as they were at one place in the owner's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PairReport {
    /// The unit that owns the rows.
    #[schemars(schema_with = "schema::label")]
    pub owner: String,
    /// How far it is.
    pub state: PairState,
    /// The slots that the owner had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::slots")]
    pub slots: Option<String>,
    /// Upon what it was compared: the newest change of the owner's slots, the tables, and the unit's own database. Where that is
    /// another, it begins anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub basis: Option<String>,
    /// Those of them that were compared so far, and are not compared again; while what differed is replaced, those that are
    /// equal by now. Absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::slots")]
    pub compared: Option<String>,
    /// A slot of which a part was compared. Nothing of it counts elsewhere before all of it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<WithinSlot>,
    /// How many rows the owner has in them, as far as they were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_long")]
    pub rows: Option<i64>,
    /// The slots whose rows differed; absent where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::slots")]
    pub differing: Option<String>,
    /// Some of the rows that differed, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::messages")]
    pub examples: Vec<String>,
    /// What was repaired, or what stands in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
}

impl PairReport {
    /// Nothing is known yet; `message` says what stands in the way, if anything.
    pub fn begun(owner: &str, message: Option<String>) -> Self {
        Self {
            owner: owner.to_owned(),
            state: PairState::Comparing,
            slots: None,
            basis: None,
            compared: None,
            within: None,
            rows: None,
            differing: None,
            examples: Vec::new(),
            message,
        }
    }
}

/// How far a slot is whose rows are compared a range of keys at a time: all of the tables before this one in the order of their
/// names, and of this one the rows up to a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WithinSlot {
    /// The slot.
    #[schemars(schema_with = "schema::slot")]
    pub slot: i32,
    /// The table.
    #[schemars(schema_with = "schema::table")]
    pub table: String,
    /// By what its keys are ordered; where that has changed the table begins anew.
    #[schemars(schema_with = "schema::word")]
    pub order: String,
    /// The last key that was compared, each column in the way in which its engine finds it again; without one all of the table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::row_key")]
    pub key: Vec<String>,
    /// How many rows of the slot were compared.
    #[schemars(schema_with = "schema::count_long")]
    pub rows: i64,
    /// Whether some of them differed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub differs: bool,
    /// Some of the rows that differed, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::messages")]
    pub examples: Vec<String>,
}

impl WithinSlot {
    /// Whether an object may hold it: keys have no end in some engines, and lists have.
    pub fn can_be_told(&self) -> bool {
        self.key.len() <= 32 && self.key.iter().all(|value| value.chars().count() <= 8192)
    }
}

/// How far the comparison of two units is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PairState {
    /// Not answered yet; where something stands in the way, the message says what, and it is tried again.
    Comparing,
    /// What differed is being replaced.
    Repairing,
    /// All rows are equal.
    Equal,
    /// Rows differ.
    Differs,
    /// Rows differed, and were replaced by the owner's; compared again, they are equal.
    Repaired,
    /// In a store that several units write, rows differed that both had written, and each was decided by the store's `conflict`.
    Settled,
}

impl PairState {
    /// Whether nothing more comes.
    pub fn has_ended(self) -> bool {
        match self {
            Self::Comparing | Self::Repairing => false,
            Self::Equal | Self::Differs | Self::Repaired | Self::Settled => true,
        }
    }
}
