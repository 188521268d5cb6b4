//! What people decide about an operation: the entries of `spec.decisions`, the one part of an operation that may grow.

use crate::schema;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a person decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.type == 'Abort' || has(self.target)")
        .message("target is required: the unit or the ShardRange that is decided about"),
    validation = Rule::new("self.type != 'Abort' || (!has(self.target) && !has(self.notAfter))")
        .message("an Abort ends the whole operation: it has neither target nor notAfter")
)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// What is decided.
    #[serde(rename = "type")]
    pub kind: DecisionType,
    /// What it is said of: a unit, a ShardRange, or, with `.writer` behind its name, a store with a single writer. For every type but Abort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub target: Option<String>,
    /// The user who decides; must be the one who sends the request.
    #[schemars(schema_with = "schema::user")]
    pub by: String,
    /// Why, for those who read it later.
    #[schemars(schema_with = "schema::reason")]
    pub reason: String,
    /// Until when it counts, RFC 3339; without it, for good. A later entry renews one that has expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::instant")]
    pub not_after: Option<String>,
}

/// What people may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecisionType {
    /// End it before the commit point; after it, this does nothing.
    Abort,
    /// Go on although more may be lost than maxDataLoss allows, or nobody knows how much. Its target is the lost unit, the
    /// unit that takes over, or a ShardRange.
    AcceptDataLoss,
    /// The lost unit takes no writes, somebody made sure of it: if that is false, two units write. Its target is the lost
    /// unit.
    ConfirmFenced,
    /// What only the lost unit holds, since it was lost, may be given up: its databases are made equal to those of the owners,
    /// and it rejoins. Export it first. Its target is the lost unit; it may be given after the failover has ended.
    AcceptDivergence,
}
