//! What only a failover looks at: the lost unit's lease, the cuts that survivors report, who may be the target instead, and
//! what people decided. What is not known is `None`, or missing.

use super::request::uid_of;
use crate::promotions::seen::{current_report, links, readiness};
use crate::tables::Inputs;
use kube::ResourceExt;
use multiactive_api::{CutReport, DecisionType, Failover};
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::{
    Candidate, CutSeen, Decision, DecisionKind, FailoverRange, FailoverSeen, Operation, Progress, Received,
    common_order,
};
use multiactive_core::slots::{Slot, SlotSet};
use std::collections::BTreeSet;

/// The object of an operation, where the copies show it.
pub fn object<'a>(op: &Operation, inputs: &'a Inputs) -> Option<&'a Failover> {
    let mut all = inputs.failovers.iter();
    all.find(|failover| uid_of(failover) == op.object())
        .map(|object| &**object)
}

/// Everything that only a failover looks at.
pub fn failover_seen(op: &Operation, inputs: &Inputs) -> FailoverSeen {
    let Some(failover) = &op.failover else {
        return FailoverSeen::default();
    };
    let lost = &failover.lost;
    let report = current_report(op, lost, inputs).filter(|report| report.fenced.is_some());
    let units: BTreeSet<&UnitName> = op.stores.iter().flat_map(|store| &store.members).collect();
    let cuts = units.into_iter().filter(|unit| *unit != lost);
    let order = common_order(&ranges(inputs), &failover.ranges);
    FailoverSeen {
        lease: inputs.leases.get(lost).cloned(),
        opened: report.and_then(|report| report.opened),
        cuts: cuts.filter_map(|unit| cut(op, unit, inputs)).collect(),
        candidates: candidates(&order, lost, inputs),
    }
}

/// What a survivor reports of its cut, at the operation's present epoch. A store whose progress makes no sense is missing.
fn cut(op: &Operation, unit: &UnitName, inputs: &Inputs) -> Option<CutSeen> {
    let report = current_report(op, unit, inputs)?;
    let stores = report.cut.as_ref()?.iter().filter_map(received);
    Some(CutSeen {
        unit: unit.clone(),
        epoch: op.epoch,
        stores: stores.collect(),
    })
}

fn received(report: &CutReport) -> Option<Received> {
    let CutReport {
        store,
        log,
        at,
        position,
    } = report;
    let at = at.parse().ok().filter(|_| *store == position.store)?;
    Some(Received {
        position: position.into(),
        progress: Progress { log: log.clone(), at },
    })
}

/// What people decided; an Abort is told apart, and an end that makes no sense is in the past.
pub fn decisions(op: &Operation, inputs: &Inputs) -> Vec<Decision> {
    let all = object(op, inputs)
        .into_iter()
        .flat_map(|failover| &failover.spec.decisions);
    let decisions = all.filter_map(|decision| {
        let kind = match decision.kind {
            DecisionType::Abort => return None,
            DecisionType::AcceptDataLoss => DecisionKind::AcceptDataLoss,
            DecisionType::ConfirmFenced => DecisionKind::ConfirmFenced,
        };
        let not_after = decision.not_after.as_deref().map(str::parse).transpose().ok()?;
        Some(Decision {
            kind,
            target: decision.target.clone()?,
            by: decision.by.clone(),
            reason: decision.reason.clone(),
            not_after,
        })
    });
    decisions.collect()
}

/// The ShardRanges, each with those who may own it: its home first.
pub fn ranges(inputs: &Inputs) -> Vec<FailoverRange> {
    let slot = |slot: i32| Slot::try_from(slot).ok();
    let ranges = inputs.ranges.iter().filter_map(|range| {
        let spec = &range.spec;
        let units = std::iter::once(&spec.home_unit).chain(&spec.failover_units);
        Some(FailoverRange {
            name: range.name_any(),
            keyspace: spec.keyspace.as_str().into(),
            slots: SlotSet::range(slot(spec.first_slot)?, slot(spec.last_slot)?),
            units: units.map(|unit| unit.as_str().into()).collect(),
        })
    });
    ranges.collect()
}

/// What is seen of units that may take over from `lost`, in this order.
pub fn candidates(order: &[UnitName], lost: &UnitName, inputs: &Inputs) -> Vec<Candidate> {
    let known = order.iter().filter(|unit| *unit != lost);
    let candidates = known.filter_map(|unit| {
        let object = inputs.unit(unit)?;
        Some(Candidate {
            unit: unit.clone(),
            cordoned: object.spec.cordoned,
            reachable: inputs.answers(unit),
            ready: readiness(unit, inputs, &[]),
            behind: behind(unit, lost, inputs),
        })
    });
    candidates.collect()
}

/// Why rows of a unit may lack something: it was behind when an operation committed, and its links have not run since with
/// all that are not lost.
fn behind(unit: &UnitName, lost: &UnitName, inputs: &Inputs) -> Option<String> {
    let operation = inputs.were_behind.get(unit)?;
    let mut skipped = inputs.lost.clone();
    skipped.insert(lost.clone());
    let why = match links(unit, inputs, &inputs.stores_in_force(), false, &skipped) {
        Some(Ok(())) => return None,
        Some(Err(why)) => why,
        None => "its links are not known to run".to_owned(),
    };
    Some(format!("it had not applied all when {operation} committed: {why}"))
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
