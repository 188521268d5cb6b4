//! What commits changed, as events of the objects that they concern, and as metrics.

use super::After;
use crate::metrics::{EndLabels, NamespaceLabels};
use crate::promotions::status::pause;
use crate::tables::view::{Told, View};
use kube::ResourceExt;
use kube::runtime::events::EventType;
use multiactive_core::diff::Change;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::{Outcome, Step};

impl After {
    /// Events and metrics of one commit.
    pub(super) fn tell(&mut self, told: &Told, view: &View) {
        self.witnessed.see(&told.table);
        for change in &told.changes {
            match change {
                Change::OperationBegan { operation, .. } => self.step_event(view, operation, "Started", change),
                Change::OperationStep { operation, after, .. } => {
                    let op = told.table.operations.iter().find(|op| op.name == *operation);
                    if let Some(op) = op.filter(|_| *after == Step::Open) {
                        self.owner_changed.insert(op.uid.clone(), op.epoch);
                    }
                    self.step_event(view, operation, "StepEntered", change);
                }
                Change::OperationEnded { operation, outcome } => {
                    self.ended(told, operation, outcome.as_ref());
                    let reason = outcome.as_ref().map_or("Ended", |outcome| outcome_word(outcome).0);
                    self.step_event(view, operation, reason, change);
                }
                Change::Slots { keyspace, .. } if keyspace.writer_of().is_some() => {
                    let mut stores = view.inputs.stores.iter();
                    let store = stores.find(|store| store.keyspace_name() == *keyspace);
                    // One that stays in force without its object has nobody to be told of.
                    if let Some(store) = store.filter(|store| store.uid().is_some()) {
                        let said = change.to_string();
                        self.ctx.event(&**store, EventType::Normal, "WriterChanged", said);
                    }
                }
                Change::Slots { keyspace, .. } => {
                    let object = view.inputs.keyspaces.iter().find(|k| k.name_any() == keyspace.as_str());
                    if let Some(object) = object {
                        self.ctx
                            .event(&**object, EventType::Normal, "SlotsChanged", change.to_string());
                    }
                }
                Change::OperationTail { operation, .. } => self.step_event(view, operation, "HandedOn", change),
                Change::OperationTarget { operation, .. } => self.step_event(view, operation, "TargetChanged", change),
                Change::Quarantined { unit, .. } => self.unit_event(view, unit, "Quarantined", change),
                Change::Accepted { unit, .. } => self.unit_event(view, unit, "DivergenceAccepted", change),
                Change::Found { operation, .. } => self.step_event(view, operation, "LossFound", change),
                Change::Rejoined(unit) => self.unit_event(view, unit, "Rejoined", change),
                Change::UnitAdded(_)
                | Change::UnitRemoved(_)
                | Change::UnitRouter { .. }
                | Change::KeyspaceAdded { .. }
                | Change::KeyspaceRemoved(_) => {}
            }
        }
    }

    fn unit_event(&self, view: &View, unit: &UnitName, reason: &str, change: &Change) {
        if let Some(object) = view.inputs.unit(unit) {
            let kind = match reason {
                "Quarantined" => EventType::Warning,
                _ => EventType::Normal,
            };
            self.ctx.event(object, kind, reason, change.to_string());
        }
    }

    fn step_event(&self, view: &View, operation: &str, reason: &str, change: &Change) {
        let object = view.inputs.promotions.iter().find(|p| p.name_any() == operation);
        let kind = match reason {
            "Aborted" | "Refused" | "Failed" => EventType::Warning,
            _ => EventType::Normal,
        };
        // A change names its operation only, and a Promotion may have a Failover's name: both are told.
        if let Some(object) = object {
            self.ctx.event(&**object, kind, reason, change.to_string());
        }
        let failover = view.inputs.failovers.iter().find(|p| p.name_any() == operation);
        if let Some(object) = failover {
            self.ctx.event(&**object, kind, reason, change.to_string());
        }
    }

    fn ended(&self, told: &Told, operation: &str, outcome: Option<&Outcome>) {
        let Some(outcome) = outcome else { return };
        let (outcome, reason) = outcome_word(outcome);
        let labels = EndLabels {
            outcome: outcome.to_owned(),
            reason: reason.to_owned(),
        };
        self.ctx.metrics.ended.get_or_create(&labels).inc();
        let done = told.table.finished.iter().rev().find(|done| done.name == operation);
        if let Some(pause) = done.and_then(|done| pause(&done.history)) {
            self.ctx.metrics.pause.observe(pause.as_secs_f64());
        }
    }

    /// Gauges of the namespace as it is now.
    pub(super) fn measure(&self, view: &View) {
        let Some(table) = &view.table else { return };
        let labels = NamespaceLabels {
            namespace: self.namespace.clone(),
        };
        let unowned: usize = table
            .keyspaces
            .iter()
            .map(|keyspace| keyspace.slots_where(|span| span.owner.is_none()).len())
            .sum();
        let metrics = &self.ctx.metrics;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.slots_without_owner.get_or_create(&labels).set(count(unowned));
        metrics
            .operations
            .get_or_create(&labels)
            .set(count(table.operations.len()));
    }
}

fn outcome_word(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Succeeded => ("Succeeded", ""),
        Outcome::Refused { reason, .. } => ("Refused", reason),
        Outcome::Aborted { reason, .. } => ("Aborted", reason),
        Outcome::Failed { reason, .. } => ("Failed", reason),
    }
}
