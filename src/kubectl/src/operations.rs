//! Operations of every kind, seen alike: what they have in common in spec and status. A new kind is one more entry of
//! [`KINDS`], and every verb that shows, follows or decides about operations knows it.

use crate::compared::Compared;
use crate::text;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use multiactive_api::{FailoverLoss, FailoverPlacement, GROUP, NeededDecision, RepairMode, StepHistory, VERSION};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its kind.
    pub name: &'static str,
    /// Its plural.
    pub plural: &'static str,
    /// Whether it moves slots: it goes by steps, and people decide about it.
    pub moves: bool,
}

/// A planned move.
pub const PROMOTION: Kind = Kind {
    name: "Promotion",
    plural: "promotions",
    moves: true,
};

/// An unplanned move away from a lost unit.
pub const FAILOVER: Kind = Kind {
    name: "Failover",
    plural: "failovers",
    moves: true,
};

/// A comparison of rows.
pub const VERIFICATION: Kind = Kind {
    name: "Verification",
    plural: "verifications",
    moves: false,
};

/// Every kind of operation that this program knows.
pub const KINDS: &[Kind] = &[PROMOTION, FAILOVER, VERIFICATION];

impl Kind {
    /// For a dynamic API.
    pub fn resource(self) -> ApiResource {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, self.name), self.plural)
    }

    /// The kind of this name, in any case, singular or plural.
    pub fn named(name: &str) -> Option<Self> {
        let same = |kind: &&Self| kind.name.eq_ignore_ascii_case(name) || kind.plural.eq_ignore_ascii_case(name);
        KINDS.iter().find(same).copied()
    }
}

/// An operation's object.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its kind.
    pub kind: Kind,
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What all kinds have in their spec.
    pub spec: Spec,
    /// What all kinds have in their status.
    pub status: Status,
}

/// What kinds of operations share in their spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The unit that gets slots.
    pub target_unit: Option<String>,
    /// The unit that is lost, of a Failover.
    pub lost_unit: Option<String>,
    /// `Plan` or `Execute`.
    pub mode: Option<String>,
    /// The stores whose rows are compared, of a Verification.
    pub stores: Option<Vec<String>>,
    /// The units whose rows are compared, of a Verification.
    pub units: Option<Vec<String>>,
    /// What becomes of rows that differ, of a Verification.
    pub repair: Option<RepairMode>,
    /// How many rows a second are read, at most, of a Verification.
    pub max_rows_per_second: Option<i64>,
    /// What people decided, as it stands there.
    pub decisions: Vec<Value>,
}

/// What kinds of operations share in their status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// `Ready`, `Reconciling`, `Stalled`.
    pub conditions: Vec<Condition>,
    /// The present step, or the last one.
    pub step: Option<String>,
    /// How it ended.
    pub outcome: Option<String>,
    /// One word about the outcome.
    pub reason: Option<String>,
    /// What happened and what to do.
    pub message: Option<String>,
    /// The units that slots leave.
    pub from: Option<String>,
    /// The units that get them, where the operator chose them.
    pub to: Option<String>,
    /// What it waits for.
    pub waiting_for: Option<String>,
    /// The decisions without which it stays where it is.
    pub needed: Vec<NeededDecision>,
    /// Who takes over what, where the operator chose it.
    pub placement: Option<FailoverPlacement>,
    /// What may be lost.
    pub loss: Option<FailoverLoss>,
    /// For how long writes were held, or of a Failover not served.
    pub pause: Option<String>,
    /// The epoch at which the owner changed.
    pub epoch: Option<String>,
    /// How many slots move.
    pub slots: Option<i32>,
    /// Units that have not applied the last writes.
    pub behind: Vec<String>,
    /// What was not waited for at the end.
    pub unsettled: Vec<String>,
    /// Every step that was entered.
    pub history: Vec<StepHistory>,
    /// What would happen.
    pub plan: Option<multiactive_api::PromotionPlan>,
    /// What was compared, of a Verification.
    #[serde(flatten)]
    pub compared: Compared,
}

impl Operation {
    /// Reads an object.
    ///
    /// # Errors
    ///
    /// Where a field is not of its type.
    pub fn read(kind: Kind, object: DynamicObject) -> Result<Self, String> {
        let part = |name: &str| object.data.get(name).cloned().filter(|part| !part.is_null());
        let spec = part("spec").map_or(Ok(Spec::default()), serde_json::from_value);
        let status = part("status").map_or(Ok(Status::default()), serde_json::from_value);
        Ok(Self {
            kind,
            spec: spec.map_err(|error| format!("spec: {error}"))?,
            status: status.map_err(|error| format!("status: {error}"))?,
            metadata: object.metadata,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether it only looks.
    pub fn is_plan(&self) -> bool {
        self.spec.mode.as_deref() == Some("Plan")
    }

    /// Whether it has not ended.
    pub fn runs(&self) -> bool {
        self.status.outcome.is_none()
    }

    /// Since when it is at its present step, else since when it exists.
    pub fn since(&self) -> Option<Timestamp> {
        let entered = self.status.history.last().and_then(|record| record.at.parse().ok());
        entered.or_else(|| self.created())
    }

    /// When it was created.
    pub fn created(&self) -> Option<Timestamp> {
        self.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    /// For people and scripts.
    pub fn view(&self, now: Timestamp) -> OperationView {
        let status = self.status.clone();
        OperationView {
            kind: self.kind.name.to_owned(),
            namespace: self.metadata.namespace.clone().unwrap_or_default(),
            name: self.name().to_owned(),
            from: status.from,
            to: status.to.or_else(|| self.spec.target_unit.clone()),
            slots: status.slots,
            step: status.step,
            since: self.since().map(|since| since.to_string()),
            for_: self.since().map(|since| text::ago(now, since)),
            waiting_for: status.waiting_for,
            needed: status.needed,
            placement: status.placement,
            loss: status.loss,
            outcome: status.outcome,
            reason: status.reason,
            message: status.message,
            pause: status.pause,
            epoch: status.epoch,
            behind: status.behind,
            unsettled: status.unsettled,
            steps: status.history,
            compared: (self.kind == VERIFICATION).then_some(status.compared),
        }
    }
}

/// An operation, for people and scripts.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationView {
    /// Its kind.
    #[serde(rename = "operation")]
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The units that slots leave.
    pub from: Option<String>,
    /// The unit that gets them, or of a Failover several, joined by commas.
    pub to: Option<String>,
    /// How many.
    pub slots: Option<i32>,
    /// The present step, or the last one.
    pub step: Option<String>,
    /// Since when it is there.
    pub since: Option<String>,
    /// For how long, for people.
    #[serde(skip)]
    pub for_: Option<String>,
    /// What it waits for.
    pub waiting_for: Option<String>,
    /// The decisions without which it stays where it is, and the commands that give them.
    pub needed: Vec<NeededDecision>,
    /// Who takes over what and who was passed over, of a Failover.
    pub placement: Option<FailoverPlacement>,
    /// What may be lost, of a Failover that has measured it.
    pub loss: Option<FailoverLoss>,
    /// How it ended; absent while it runs.
    pub outcome: Option<String>,
    /// One word about the outcome.
    pub reason: Option<String>,
    /// What happened and what to do.
    pub message: Option<String>,
    /// For how long writes were held, or of a Failover not served.
    pub pause: Option<String>,
    /// The epoch at which the owner changed.
    pub epoch: Option<String>,
    /// Units that have not applied the last writes.
    pub behind: Vec<String>,
    /// What was not waited for at the end.
    pub unsettled: Vec<String>,
    /// Every step that was entered.
    pub steps: Vec<StepHistory>,
    /// What was compared, of a Verification.
    pub compared: Option<Compared>,
}

/// The time from one step to the next, where both were entered and neither was skipped.
pub fn between(history: &[StepHistory], from: &str, to: &str) -> Option<SignedDuration> {
    let at = |step: &str| -> Option<Timestamp> {
        let record = history
            .iter()
            .find(|record| record.step == step && record.not_needed.is_none())?;
        record.at.parse().ok()
    };
    Some(at(to)?.duration_since(at(from)?))
}
