//! What a Failover's status says: who takes over what, where each target stands, what may be lost, and which decision it
//! waits for. Pure.

use super::decision_type;
use super::request::uid_of;
use crate::conditions::{Readiness, set_readiness};
use crate::promotions::status::{held_up, reconciling, stalled};
use crate::status::is_paused;
use crate::tables::View;
use crate::tables::returning::report;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use multiactive_api::convert::{format_duration, write_units};
use multiactive_api::{
    DecisionType, Failover, FailoverLoss, FailoverOperation, FailoverStatus, HookAnswer, HookWord, NeededDecision,
    QuarantineState, StepHistory,
};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{FencedBy, Finished, HookSaid, Loss, Operation, Outcome, Step, StepRecord, WaitFor};
use multiactive_core::table::RoutingTable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A bound that nobody knows.
const UNKNOWN: &str = "unknown";

/// What this process saw of running operations, and the record does not remember of those that ended.
#[derive(Clone, Debug, Default)]
pub struct Witnessed(BTreeMap<OperationUid, Witness>);

#[derive(Clone, Debug)]
struct Witness {
    target: UnitName,
    slots: Option<i32>,
    /// The epoch of the commit point.
    epoch: Option<Epoch>,
}

impl Witnessed {
    /// Takes note of a table that was committed.
    pub fn see(&mut self, table: &RoutingTable) {
        for op in table.operations.iter().filter(|op| op.failover.is_some()) {
            let known = self.0.get(&op.uid).and_then(|known| known.epoch);
            let witness = Witness {
                target: op.target.clone(),
                slots: slots(op),
                epoch: known.or_else(|| (op.step == Step::Open).then_some(op.epoch)),
            };
            self.0.insert(op.uid.clone(), witness);
        }
    }

    /// Forgets those whose object is gone.
    pub fn keep(&mut self, failovers: &[Arc<Failover>]) {
        let known: BTreeSet<OperationUid> = failovers.iter().map(|failover| uid_of(failover)).collect();
        self.0.retain(|uid, _| known.contains(&uid.object()));
    }

    fn epoch(&self, of: &OperationUid) -> Option<Epoch> {
        let mine = self.0.iter().filter(|(uid, _)| uid.object() == *of);
        mine.filter_map(|(_, witness)| witness.epoch).max()
    }
}

/// How many slots move.
fn slots(op: &Operation) -> Option<i32> {
    let slots: usize = op.moves.iter().map(|slot_move| slot_move.slots.len()).sum();
    i32::try_from(slots).ok()
}

/// The status that the view asks for.
pub fn status(failover: &Failover, view: &View, witnessed: &Witnessed, now: Timestamp) -> FailoverStatus {
    let mut status = failover.status.clone().unwrap_or_default();
    let uid = uid_of(failover);
    let table = view.table.as_deref();
    let running: Vec<&Operation> = table
        .into_iter()
        .flat_map(|table| table.operations.iter().filter(|op| op.object() == uid))
        .collect();
    let finished: Vec<&Finished> = table
        .into_iter()
        .flat_map(|table| table.finished.iter().filter(|done| done.uid.object() == uid))
        .collect();
    if running.is_empty() && finished.is_empty() && status.outcome.is_some() {
        return status;
    }
    status.from = Some(failover.spec.lost_unit.clone());
    if let Some(placement) = view.placements.get(&uid) {
        status.placement = Some(placement.into());
    }
    let readiness = if !running.is_empty() || !finished.is_empty() {
        show_operations(&mut status, failover, view, (&running, &finished), witnessed);
        status.fencing_hook = hook_answer(status.fencing_hook.take(), view, &running, now);
        match running.is_empty() {
            false => is_running(&mut status, failover, view, &running),
            true => ended(&mut status, &finished),
        }
    } else if let Some(refused) = view.refused.get(&uid) {
        status.waiting_for = None;
        status.outcome = Some("Refused".to_owned());
        status.reason = Some(refused.reason.clone());
        status.message = Some(refused.message.clone());
        stalled("Refused", format!("{}: {}", refused.reason, refused.message))
    } else {
        waiting(&mut status, failover, view)
    };
    if running.is_empty() {
        show_return(&mut status, failover, view);
    }
    if let Some(epoch) = witnessed.epoch(&uid) {
        status.epoch = Some(epoch.to_string());
    }
    status.observed_generation = failover.metadata.generation;
    set_readiness(&mut status.conditions, &readiness, failover.metadata.generation, now);
    status
}

/// It has not begun.
fn waiting(status: &mut FailoverStatus, failover: &Failover, view: &View) -> Readiness {
    if is_paused(failover) {
        status.waiting_for = Some(format!("the annotation {} to be removed", crate::status::PAUSED));
        return reconciling("Paused", "it is paused".to_owned());
    }
    if let Some((waits, readiness)) = held_up(view) {
        status.waiting_for = Some(waits);
        return readiness;
    }
    if let Some(why) = view.misfits.get(&uid_of(failover)) {
        status.waiting_for = Some(why.clone());
        return reconciling("Pending", format!("it has not begun: {why}"));
    }
    status.waiting_for = Some("its admission".to_owned());
    reconciling("Pending", "it is about to begin".to_owned())
}

/// What holds of running operations and of those that ended.
fn show_operations(
    status: &mut FailoverStatus,
    failover: &Failover,
    view: &View,
    (running, finished): (&[&Operation], &[&Finished]),
    witnessed: &Witnessed,
) {
    let before = std::mem::take(&mut status.operations);
    let known = |uid: &str| before.iter().find(|known| known.uid == uid);
    let allowed = &failover.spec.max_data_loss;
    let mut all: Vec<FailoverOperation> = running
        .iter()
        .map(|op| {
            let loss = op.failover.as_ref().and_then(|failover| failover.loss.as_ref());
            let wait = view.misfits.get(&op.uid).map(|why| format!("the routing table: {why}"));
            FailoverOperation {
                uid: op.uid.to_string(),
                target: Some(op.target.to_string()),
                slots: slots(op),
                step: Some(op.step.to_string()),
                waiting_for: wait.or_else(|| view.waits.get(&op.uid).map(ToString::to_string)),
                outcome: None,
                reason: None,
                message: None,
                loss: loss.map(|loss| show_loss(loss, allowed)),
                history: op.history.iter().map(StepHistory::from).collect(),
            }
        })
        .collect();
    all.extend(finished.iter().map(|done| {
        let (known, witness) = (known(done.uid.as_str()), witnessed.0.get(&done.uid));
        let (outcome, reason, message) = parts(&done.outcome);
        FailoverOperation {
            uid: done.uid.to_string(),
            target: witness
                .map(|witness| witness.target.to_string())
                .or_else(|| known.and_then(|known| known.target.clone())),
            slots: witness
                .and_then(|witness| witness.slots)
                .or_else(|| known.and_then(|known| known.slots)),
            step: done.history.last().map(|record| record.step.to_string()),
            waiting_for: None,
            outcome: Some(outcome.to_owned()),
            reason: reason.map(str::to_owned),
            message: message.map(str::to_owned),
            loss: done.loss.as_ref().map(|loss| show_loss(loss, allowed)),
            history: done.history.iter().map(StepHistory::from).collect(),
        }
    }));
    all.sort_by(|a, b| a.uid.cmp(&b.uid));
    let targets: BTreeSet<&str> = all.iter().filter_map(|op| op.target.as_deref()).collect();
    status.to = (!targets.is_empty()).then(|| targets.into_iter().collect::<Vec<_>>().join(","));
    let slots: Option<i32> = all.iter().map(|op| op.slots).sum();
    status.slots = slots.or(status.slots);
    let behind = running
        .iter()
        .filter(|op| op.step >= Step::Commit)
        .flat_map(|op| &op.behind);
    let behind: BTreeSet<_> = behind
        .chain(finished.iter().flat_map(|done| &done.behind))
        .cloned()
        .collect();
    status.behind = write_units(&behind.into_iter().collect::<Vec<_>>());
    status.unsettled = finished
        .iter()
        .flat_map(|done| done.unsettled.clone())
        .take(64)
        .collect();
    let running_loss = running.iter().filter_map(|op| op.failover.as_ref()?.loss.as_ref());
    let losses: Vec<&Loss> = running_loss
        .chain(finished.iter().filter_map(|done| done.loss.as_ref()))
        .collect();
    // Unknown is the worst.
    let worst = losses.iter().max_by_key(|loss| (loss.bound.is_none(), loss.bound));
    status.loss = worst.map(|loss| show_loss(loss, allowed));
    status.operations = all;
    let histories = running
        .iter()
        .map(|op| &op.history)
        .chain(finished.iter().map(|done| &done.history));
    let histories: Vec<&Vec<StepRecord>> = histories.collect();
    let pauses: Option<Vec<SignedDuration>> = histories.iter().map(|history| pause(history)).collect();
    status.pause = pauses.and_then(|pauses| pauses.into_iter().max()).map(format_duration);
    let last_step = |history: &&Vec<StepRecord>| history.last().map(|record| record.step);
    let slowest = histories.into_iter().min_by_key(last_step);
    status.step = slowest
        .and_then(|history| history.last())
        .map(|record| record.step.to_string());
    status.history = slowest.into_iter().flatten().map(StepHistory::from).collect();
}

fn is_running(status: &mut FailoverStatus, failover: &Failover, view: &View, running: &[&Operation]) -> Readiness {
    status.outcome = None;
    status.reason = None;
    status.message = None;
    // The one whose step is shown.
    let mut steps: Vec<&&Operation> = running.iter().collect();
    steps.sort_by_key(|op| op.step);
    status.step = steps.first().map(|op| op.step.to_string());
    status.history = steps
        .first()
        .into_iter()
        .flat_map(|op| &op.history)
        .map(StepHistory::from)
        .collect();
    status.needed = needed(failover, view, running);
    let waits = running.iter().filter_map(|op| view.waits.get(&op.uid));
    let waits: BTreeSet<String> = waits.map(ToString::to_string).collect();
    status.waiting_for = (!waits.is_empty()).then(|| waits.into_iter().collect::<Vec<_>>().join("; "));
    if let Some(why) = running.iter().find_map(|op| view.misfits.get(&op.uid)) {
        status.message = Some(why.clone());
        status.waiting_for = Some(format!("the routing table: {why}"));
        return stalled(
            "RecordMisfit",
            format!("the record does not fit, nothing is done: {why}"),
        );
    }
    if let Some((waits, readiness)) = held_up(view) {
        status.waiting_for = Some(waits);
        return readiness;
    }
    if let Some(needed) = status.needed.first() {
        status.reason = Some("Blocked".to_owned());
        let message = format!("{}; decide with: {}", needed.why, needed.command);
        status.message = Some(message.clone());
        return stalled("Blocked", message);
    }
    let step = status.step.clone().unwrap_or_default();
    let waits = status
        .waiting_for
        .as_deref()
        .map(|wait| format!(", waiting for {wait}"));
    reconciling("Running", format!("at {step}{}", waits.unwrap_or_default()))
}

/// What the lost unit's hook said last, of that operation which has its yes least. It stays once it is asked no more.
fn hook_answer(before: Option<HookAnswer>, view: &View, running: &[&Operation], now: Timestamp) -> Option<HookAnswer> {
    let recorded = running
        .iter()
        .filter_map(|op| match &op.failover.as_ref()?.proof.as_ref()?.by {
            FencedBy::Hook { by, reason } => Some((by.clone(), HookWord::Fenced, Some(reason.clone()))),
            FencedBy::Report | FencedBy::Lease | FencedBy::Confirmed { .. } => None,
        });
    let asked = running.iter().filter_map(|op| {
        let seen = view.inputs.hooks.get(&op.uid)?;
        let (word, message) = match &seen.said {
            HookSaid::Asked => (HookWord::Asked, None),
            HookSaid::Fenced(said) => (HookWord::Fenced, Some(said.clone())),
            HookSaid::NotFenced(said) => (HookWord::NotFenced, Some(said.clone())),
            HookSaid::NoAnswer(why) => (HookWord::NoAnswer, Some(why.clone())),
        };
        // One that nobody waits for is not asked, though it is declared.
        let waits = view.waits.get(&op.uid).is_some_and(WaitFor::asks_hook);
        (waits || word != HookWord::Asked).then(|| (seen.by.clone(), word, message))
    });
    let (by, said, message) = recorded
        .chain(asked)
        .min_by_key(|(_, word, _)| *word == HookWord::Fenced)
        .or_else(|| {
            let before = before.clone()?;
            Some((before.by, before.said, before.message))
        })?;
    let same = before.filter(|before| before.by == by && before.said == said);
    let since = same.map_or_else(|| now.to_string(), |before| before.since);
    Some(HookAnswer {
        by,
        said,
        message,
        since,
    })
}

/// The decisions that running operations wait for, each once.
fn needed(failover: &Failover, view: &View, running: &[&Operation]) -> Vec<NeededDecision> {
    let mut all: Vec<NeededDecision> = Vec::new();
    for op in running {
        let Some(WaitFor::Decision { needed, why }) = view.waits.get(&op.uid) else {
            continue;
        };
        let Some(kind) = decision_type(needed.kind) else {
            continue;
        };
        let target = match kind {
            DecisionType::Abort => None,
            DecisionType::AcceptDataLoss | DecisionType::ConfirmFenced | DecisionType::AcceptDivergence => {
                Some(needed.target.clone())
            }
        };
        if all.iter().any(|known| known.kind == kind && known.target == target) {
            continue;
        }
        all.push(needed_decision(failover, kind, target, why.clone()));
    }
    all
}

fn needed_decision(failover: &Failover, kind: DecisionType, target: Option<String>, why: String) -> NeededDecision {
    let named = target
        .as_deref()
        .map(|target| format!(" --target {target}"))
        .unwrap_or_default();
    let command = format!(
        "kubectl multiactive decide failover/{} {kind:?}{named} -n {} --reason \"...\"",
        failover.name_any(),
        failover.namespace().unwrap_or_default()
    );
    NeededDecision {
        kind,
        target,
        why,
        command,
    }
}

/// The lost unit while it is in quarantine by this Failover, as its agent sees it, and the decision by which it gets out.
fn show_return(status: &mut FailoverStatus, failover: &Failover, view: &View) {
    let table = view.table.as_deref();
    let mut quarantined = table.into_iter().flat_map(|table| &table.quarantined);
    let known = quarantined.find(|known| known.by == uid_of(failover));
    let report = known.and_then(|known| report(known, &view.inputs));
    status.quarantine = report.cloned();
    let (Some(known), Some(report)) = (known, report) else {
        return;
    };
    if report.state != QuarantineState::Compared || known.accepted.is_some() {
        return;
    }
    let unit = known.unit.to_string();
    let why = match report.rows {
        Some(0) => format!("{unit} is back, and holds nothing that the owners do not hold: it may rejoin"),
        Some(rows) => format!(
            "{unit} is back; {rows} rows that only it holds, or holds otherwise, are listed in multiactive.divergence of its \
             databases: export what is needed; once accepted they are overwritten, and it rejoins"
        ),
        None => format!(
            "{unit} is back, and its log of the time is gone, so nobody can list what only it holds; once accepted, its rows \
             are made equal to those of the owners"
        ),
    };
    let needed = needed_decision(failover, DecisionType::AcceptDivergence, Some(unit), why);
    status.needed.push(needed);
}

fn ended(status: &mut FailoverStatus, finished: &[&Finished]) -> Readiness {
    status.waiting_for = None;
    status.needed = Vec::new();
    let rank = |done: &&&Finished| match done.outcome {
        Outcome::Succeeded => 0,
        Outcome::Refused { .. } => 1,
        Outcome::Aborted { .. } => 2,
        Outcome::Failed { .. } => 3,
    };
    let Some(worst) = finished.iter().max_by_key(rank) else {
        return reconciling("Pending", "nothing is known of it".to_owned());
    };
    let (outcome, reason, message) = parts(&worst.outcome);
    status.outcome = Some(outcome.to_owned());
    status.reason = reason.map(str::to_owned);
    if status.epoch.is_none() && worst.outcome == Outcome::Succeeded {
        // Who saw the commit point is gone; the end is the closest that the record remembers.
        status.epoch = finished
            .iter()
            .map(|done| done.epoch)
            .max()
            .map(|epoch| epoch.to_string());
    }
    let lost = status.loss.as_ref().and_then(what_may_be_lost);
    let behind = (!status.behind.is_empty()).then(|| format!("behind: {}", status.behind.join(", ")));
    match message {
        None => {
            let told: Vec<_> = lost.into_iter().chain(behind).collect();
            status.message = (!told.is_empty()).then(|| told.join("; "));
            let message = format!("the slots are served by {}", status.to.as_deref().unwrap_or("others"));
            Readiness::Ready {
                reason: "Succeeded",
                message: match &status.message {
                    None => message,
                    Some(told) => format!("{message}; {told}"),
                },
            }
        }
        Some(message) => {
            status.message = Some(message.to_owned());
            stalled(outcome, format!("{}: {message}", reason.unwrap_or_default()))
        }
    }
}

/// What the bound means, and upon whose word it rests.
fn what_may_be_lost(loss: &FailoverLoss) -> Option<String> {
    let told = match loss.bound.as_deref()? {
        UNKNOWN => "what the lost unit wrote last may be lost, nobody knows how much".to_owned(),
        bound => format!("what the lost unit wrote in its last {bound} may be lost"),
    };
    Some(match &loss.confirmed_by {
        None => told,
        Some(by) => format!("{told}, and all that it has written since if it was not fenced as {by} confirmed"),
    })
}

fn parts(outcome: &Outcome) -> (&'static str, Option<&str>, Option<&str>) {
    match outcome {
        Outcome::Succeeded => ("Succeeded", None, None),
        Outcome::Refused { reason, message } => ("Refused", Some(reason), Some(message)),
        Outcome::Aborted { reason, message } => ("Aborted", Some(reason), Some(message)),
        Outcome::Failed { reason, message } => ("Failed", Some(reason), Some(message)),
    }
}

/// From the entry of Fence until the target was seen to serve.
fn pause(history: &[StepRecord]) -> Option<SignedDuration> {
    let at = |step| {
        history
            .iter()
            .find(|r| r.step == step && r.not_needed.is_none())
            .map(|r| r.at)
    };
    Some(at(Step::Settle)?.duration_since(at(Step::Fence)?))
}

/// A bound is rounded up to the millisecond: what is told is never less than what was measured.
fn show_bound(bound: Option<SignedDuration>) -> String {
    let Some(bound) = bound else {
        return UNKNOWN.to_owned();
    };
    let whole = SignedDuration::from_millis(i64::try_from(bound.as_millis()).unwrap_or(i64::MAX));
    let rest = SignedDuration::from_millis(i64::from(bound > whole));
    match whole + rest {
        SignedDuration::ZERO => "0s".to_owned(),
        bound => format_duration(bound),
    }
}

fn show_loss(loss: &Loss, allowed: &str) -> FailoverLoss {
    let (fenced_by, confirmed_by) = match &loss.fenced_by {
        FencedBy::Report => ("Report", None),
        FencedBy::Lease => ("Lease", None),
        FencedBy::Confirmed { by, .. } => ("Confirmed", Some(by.clone())),
        FencedBy::Hook { by, .. } => ("Hook", Some(format!("fencing hook {by}"))),
    };
    let found = loss.found.as_ref().map(|found| match found.span {
        Some(span) => format!("{} rows, written within {}", found.rows, format_duration(span)),
        None => format!("{} rows", found.rows),
    });
    FailoverLoss {
        bound: Some(show_bound(loss.bound)),
        allowed: Some(allowed.to_owned()),
        fenced_by: Some(fenced_by.to_owned()),
        confirmed_by,
        accepted_by: loss.accepted.as_ref().map(|accepted| accepted.by.clone()),
        given_up: write_units(&loss.given_up),
        found,
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
