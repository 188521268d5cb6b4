//! Failover: an unplanned move of ownership away from a lost unit. One-shot.

use crate::decision::{Decision, DecisionType};
use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An unplanned move of ownership away from a lost unit. One-shot: the spec is immutable but for decisions.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multiactive.io",
    version = "v1alpha1",
    kind = "Failover",
    namespaced,
    status = "FailoverStatus",
    shortname = "fo",
    category = "multiactive",
    doc = "An unplanned move of ownership away from a lost unit. One-shot: the spec is immutable but for decisions.",
    printcolumn(name = "LOST", type_ = "string", json_path = ".spec.lostUnit"),
    printcolumn(name = "TO", type_ = "string", json_path = ".status.to"),
    printcolumn(name = "STEP", type_ = "string", json_path = ".status.step"),
    printcolumn(name = "WAITING-FOR", type_ = "string", json_path = ".status.waitingFor"),
    printcolumn(name = "LOSS", type_ = "string", json_path = ".status.loss.bound"),
    printcolumn(name = "OUTCOME", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "REASON", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "MESSAGE", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("!has(self.targetUnit) || self.targetUnit != self.lostUnit")
        .message("the lost unit cannot be the target"),
    validation = Rule::new("duration(self.maxDataLoss) <= duration('24h')")
        .message("maxDataLoss must be at most 24h"),
    validation = Rule::new("self.lostUnit == oldSelf.lostUnit && self.expectedEpoch == oldSelf.expectedEpoch && self.maxDataLoss == oldSelf.maxDataLoss && has(self.targetUnit) == has(oldSelf.targetUnit) && (!has(self.targetUnit) || self.targetUnit == oldSelf.targetUnit)")
        .message("the spec is immutable but for decisions: create a new Failover"),
    validation = Rule::new("!has(oldSelf.decisions) || (has(self.decisions) && oldSelf.decisions.all(o, self.decisions.exists(n, n == o)))")
        .message("decisions can be added, never changed or taken away")
)]
#[serde(rename_all = "camelCase")]
pub struct FailoverSpec {
    /// The unit that is lost: all that it owns moves.
    #[schemars(schema_with = "schema::label")]
    pub lost_unit: String,
    /// The unit that shall own the slots. Without it, the first usable failover unit of each ShardRange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub target_unit: Option<String>,
    /// The newest epoch that you have seen. A slot of the lost unit that changed later ends it as Refused/Stale.
    #[schemars(schema_with = "schema::grows")]
    pub expected_epoch: i64,
    /// The largest loss that needs nobody's word, as a time of the lost unit's writing, such as 5s; at most 24h.
    #[serde(default = "default_max_data_loss")]
    #[schemars(schema_with = "schema::duration")]
    pub max_data_loss: String,
    /// What people decided; the only part that may grow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<Decision>")]
    pub decisions: Vec<Decision>,
}

/// The default of `spec.maxDataLoss`.
pub fn default_max_data_loss() -> String {
    "0s".to_owned()
}

/// Where a Failover stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grows")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and the abnormal-true `Reconciling` and `Stalled`, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The present step of the target that is the farthest behind, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub step: Option<String>,
    /// How it ended: Succeeded, Refused, Aborted or Failed, the worst of its targets; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub outcome: Option<String>,
    /// One word about the outcome, or Blocked while it waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub reason: Option<String>,
    /// What happened and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// The lost unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::joined")]
    pub from: Option<String>,
    /// The units that take over, joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::joined")]
    pub to: Option<String>,
    /// What it waits for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub waiting_for: Option<String>,
    /// The decisions without which it stays where it is, and the commands that give them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<NeededDecision>")]
    pub needed: Vec<NeededDecision>,
    /// What the lost unit's fencing hook said last, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing_hook: Option<HookAnswer>,
    /// What may be lost, the worst of its targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<FailoverLoss>,
    /// From the entry of Fence until the last target was seen to have opened. The lost unit's users waited from its loss
    /// on, which nobody here saw. Such as 12s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub pause: Option<String>,
    /// The epoch at which the last owner changed, such as 1.42.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::epoch")]
    pub epoch: Option<String>,
    /// How many slots move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub slots: Option<i32>,
    /// The survivors that were behind at the commit point: their databases apply nothing of the new owner before they have
    /// what it had of the lost unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub behind: Vec<String>,
    /// Links and routers of bystanders that were not as they shall be when it ended, each in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::messages")]
    pub unsettled: Vec<String>,
    /// Who takes over what, and why others do not: chosen before anything is fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<FailoverPlacement>,
    /// One entry for each target; each runs by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<FailoverOperation>")]
    pub operations: Vec<FailoverOperation>,
    /// The lost unit once it is back, as long as it is in quarantine: what only it holds, and how far it has rejoined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<crate::unit_assignment::QuarantineReport>,
    /// Every step that the target which is the farthest behind has entered, with its time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<crate::routing_table::StepHistory>")]
    pub history: Vec<crate::routing_table::StepHistory>,
}

/// A decision without which the operation stays where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NeededDecision {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: DecisionType,
    /// What it has to name; absent for Abort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub target: Option<String>,
    /// Why it is needed.
    #[schemars(schema_with = "schema::message")]
    pub why: String,
    /// The command that gives it.
    #[schemars(schema_with = "schema::message")]
    pub command: String,
}

/// What a fencing hook said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookAnswer {
    /// Which hook: its host and port.
    #[schemars(schema_with = "schema::user")]
    pub by: String,
    /// What it said.
    pub said: HookWord,
    /// In its words, or why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// Since when it says that.
    #[schemars(schema_with = "schema::instant")]
    pub since: String,
}

/// What a fencing hook may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HookWord {
    /// Nothing yet: it is being asked for the first time.
    Asked,
    /// The unit is fenced.
    Fenced,
    /// The unit is not fenced.
    NotFenced,
    /// Nothing that counts: it cannot be reached, takes too long, or answers what cannot be understood.
    NoAnswer,
}

/// What may be lost, and what was found later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverLoss {
    /// All that is lost was written in the last so long of the lost unit's writing, such as 3s, or `unknown`; absent while
    /// it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub bound: Option<String>,
    /// The largest loss that needs nobody's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub allowed: Option<String>,
    /// By what the fence was proven: Report, Lease, Hook or Confirmed. A bound is as true as that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub fenced_by: Option<String>,
    /// Who confirmed the fence, where nothing else proves it: a person, or the unit's fencing hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::user")]
    pub confirmed_by: Option<String>,
    /// Who accepted it, where somebody had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::user")]
    pub accepted_by: Option<String>,
    /// Survivors that hold more of the lost unit's writes than the new owner: what they have beyond is given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub given_up: Vec<String>,
    /// What was really lost, once the unit was back and was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub found: Option<String>,
}

/// Who takes over what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverPlacement {
    /// Slots that have a new owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_256::<PlacedSlots>")]
    pub placed: Vec<PlacedSlots>,
    /// Slots that nobody may take: they stay with the lost unit, and are served by nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_256::<PlacedSlots>")]
    pub unplaced: Vec<PlacedSlots>,
}

/// Slots, and who takes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacedSlots {
    /// Their ShardRange; absent where none holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub range: Option<String>,
    /// Their keyspace.
    #[schemars(schema_with = "schema::keyspace")]
    pub keyspace: String,
    /// The slots, such as 0-511.
    #[schemars(schema_with = "schema::slots")]
    pub slots: String,
    /// Who takes them; absent where nobody may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub target: Option<String>,
    /// Who was passed over, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<SkippedUnit>")]
    pub skipped: Vec<SkippedUnit>,
}

/// A unit that was passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkippedUnit {
    /// The unit's name.
    #[schemars(schema_with = "schema::label")]
    pub unit: String,
    /// Why it does not take over.
    #[schemars(schema_with = "schema::message")]
    pub why: String,
}

/// The part of a failover that goes to one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverOperation {
    /// Its uid: that of the Failover, a dot, and a number.
    #[schemars(schema_with = "schema::uid")]
    pub uid: String,
    /// The unit that takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label")]
    pub target: Option<String>,
    /// How many slots it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub slots: Option<i32>,
    /// Its present step, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub step: Option<String>,
    /// What it waits for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub waiting_for: Option<String>,
    /// How it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub outcome: Option<String>,
    /// One word about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub reason: Option<String>,
    /// What happened and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// What may be lost by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<FailoverLoss>,
    /// Every step that it entered, with its time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_64::<crate::routing_table::StepHistory>")]
    pub history: Vec<crate::routing_table::StepHistory>,
}
