//! What only a failover looks at: the lost unit's lease, the cuts that survivors report, who may be the target instead, and
//! what people decided. What is not known is `None`, or missing.

use super::request::uid_of;
use crate::promotions::seen::{current_report, readiness};
use crate::tables::Inputs;
use multiactive_api::{CutReport, DecisionType, Failover};
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{
    Candidate, CutSeen, Decision, DecisionKind, FailoverSeen, Operation, Progress, Received, common_order,
};
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
    let names: BTreeSet<&str> = failover.ranges.iter().map(String::as_str).collect();
    let order = common_order(&inputs.failover_ranges(|name| names.contains(name)));
    FailoverSeen {
        lease: inputs.leases.get(lost).cloned(),
        unsealed: inputs.lease_troubles.get(lost).cloned(),
        hook: inputs.hooks.get(&op.uid).cloned(),
        opened: report.and_then(|report| report.opened),
        cuts: cuts.filter_map(|unit| cut(op, unit, lost, inputs)).collect(),
        divided: inputs.divided.contains(&op.uid),
        untaken: untaken(op, inputs),
        candidates: candidates(&order, lost, inputs),
    }
}

/// What a survivor reports of its cut, at the operation's present epoch. A store whose progress makes no sense is missing.
fn cut(op: &Operation, unit: &UnitName, lost: &UnitName, inputs: &Inputs) -> Option<CutSeen> {
    let report = current_report(op, unit, inputs)?;
    let stores = report.cut.as_ref()?.iter().filter_map(received);
    Some(CutSeen {
        unit: unit.clone(),
        epoch: op.epoch,
        stores: stores.collect(),
        incomplete: incomplete(op, unit, lost, inputs),
    })
}

/// Why rows of the moving stores may lack something: as for a candidate, or another link may have missed rows.
fn incomplete(op: &Operation, unit: &UnitName, lost: &UnitName, inputs: &Inputs) -> Option<String> {
    let gap = || {
        let status = inputs.reports.get(unit)?.status.as_ref()?;
        let moves = |store: &str| op.stores.iter().any(|moving| moving.store.as_str() == store);
        let gap = status.links.iter().find(|link| link.gap && moves(&link.store))?;
        let why = gap.message.as_deref().unwrap_or("rows may be missing");
        Some(format!("its link of {} from {} has a gap: {why}", gap.store, gap.from))
    };
    behind(unit, lost, inputs).or_else(gap)
}

/// Why the target has not taken over what it lacks, by its own word.
fn untaken(op: &Operation, inputs: &Inputs) -> Option<String> {
    let report = current_report(op, &op.target, inputs)?;
    let said = report.problems.iter();
    let said: Vec<_> = said.map(|said| format!("{}: {}", said.store, said.message)).collect();
    (!said.is_empty()).then(|| said.join("; "))
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

/// What people decided that still may count for a running operation.
pub fn decisions(op: &Operation, inputs: &Inputs) -> Vec<Decision> {
    let all = object(op, inputs)
        .into_iter()
        .flat_map(|failover| &failover.spec.decisions);
    all.filter_map(decision).collect()
}

/// A decision as the core knows it. `None` for an Abort, which is told apart, and for one that names nothing or whose end
/// makes no sense: that is in the past.
pub fn decision(decision: &multiactive_api::Decision) -> Option<Decision> {
    let kind = match decision.kind {
        DecisionType::Abort => return None,
        DecisionType::AcceptDataLoss => DecisionKind::AcceptDataLoss,
        DecisionType::ConfirmFenced => DecisionKind::ConfirmFenced,
        DecisionType::AcceptDivergence => DecisionKind::AcceptDivergence,
    };
    let not_after = decision.not_after.as_deref().map(str::parse).transpose().ok()?;
    Some(Decision {
        kind,
        target: decision.target.clone()?,
        by: decision.by.clone(),
        reason: decision.reason.clone(),
        not_after,
    })
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

/// Why rows of a unit may lack something: it was behind when an operation committed and has not said since that it has all
/// of that, or its link from the lost unit may have missed rows.
fn behind(unit: &UnitName, lost: &UnitName, inputs: &Inputs) -> Option<String> {
    let status = inputs.reports.get(unit).and_then(|report| report.status.as_ref());
    let caught_up = |uid: &OperationUid| {
        let mut said = status.into_iter().flat_map(|status| &status.caught_up);
        said.any(|said| said == uid.as_str())
    };
    let mut operations = inputs.were_behind.get(unit).into_iter().flatten();
    if let Some((_, name)) = operations.find(|(uid, _)| !caught_up(uid)) {
        return Some(format!(
            "it had not applied all when {name} committed, and has not said since that it has"
        ));
    }
    let links = status.into_iter().flat_map(|status| &status.links);
    // What several units write may have a gap: no slot of it is taken over.
    let moving = inputs.stores_in_force();
    let is_moving = |name: &str| moving.iter().any(|store| store.store.as_str() == name);
    let mut gaps = links.filter(|link| link.gap && link.from == lost.as_str() && is_moving(&link.store));
    let gap = gaps.next()?;
    let why = gap.message.as_deref().unwrap_or("rows may be missing");
    Some(format!("its link of {} from {lost} has a gap: {why}", gap.store))
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
