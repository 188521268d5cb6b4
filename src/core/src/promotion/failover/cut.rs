//! Cut: every survivor that answers has cut off the lost unit, the target is one that received most, and what may be lost
//! is within what may be lost.
//!
//! A survivor that received more than the target becomes the target itself. Where it cannot (the user named the target, or
//! it is not usable), it hands that on: the target's agent makes the lost unit's rows those of the survivor. Where that is not
//! done in time, or cannot be, the tail is given up only on a person's word, never because the bound happens to allow it: those
//! rows are known to exist.

use super::loss::{Loss, LossInputs, largest, loss, stores_at_risk};
use super::next::{decision, give_way, others};
use super::seen::{CutSeen, Received};
use super::tail::{Handing, as_cut, handed_on, may_have_taken};
use super::types::{Accepted, Failover, FenceProof};
use crate::ids::{StoreName, UnitName};
use crate::promotion::StorePosition;
use crate::promotion::decision::{DecisionKind, find};
use crate::promotion::drain::excused;
use crate::promotion::next::{Evidence, Move, aborted};
use crate::promotion::operation::{Operation, Step};
use crate::promotion::seen::Seen;
use crate::promotion::timers::{overdue, told};
use crate::promotion::wait::WaitFor;
use jiff::Timestamp;

pub(super) fn cut(op: &Operation, failover: &Failover, seen: &Seen, now: Timestamp) -> Move {
    let Some(proof) = &failover.proof else {
        return aborted("ProofMissing", "the record of the fence's proof is damaged".to_owned());
    };
    let answers = match answers(op, seen, now) {
        Ok(answers) => answers,
        Err(wait) => return Move::Wait(wait),
    };
    let at_risk = stores_at_risk(op, &failover.lost);
    let Some(mine) = answers.cut.iter().find(|cut| cut.unit == op.target) else {
        let why = format!("{} does not answer to Cut", op.target);
        return match answers.late {
            true => give_way(op, failover, seen, "TargetSilent", why),
            false => Move::Wait(WaitFor::Cut(op.target.to_string())),
        };
    };
    // What is on record is known to exist, though who has it does not answer now.
    let silent = failover.tail.as_ref().filter(|tail| !answers.has(&tail.from));
    let silent = silent.map(|tail| as_cut(op, failover, tail));
    let known: Vec<&CutSeen> = answers.cut.iter().copied().chain(&silent).collect();
    let ahead: Vec<&CutSeen> = known
        .iter()
        .copied()
        .filter(|cut| !covers(mine, cut, &at_risk))
        .collect();
    if !ahead.is_empty()
        && let Some(movement) = to_the_best(op, failover, seen, (&answers.cut, &known), &at_risk)
    {
        return movement;
    }
    let why = match handed_on(op, failover, seen, mine, &ahead, &at_risk, now) {
        Handing::Not(why) => why,
        Handing::Moves(movement) => return *movement,
    };
    let loss = match gate(op, failover, seen, proof, mine, (&ahead, &why), now) {
        Ok(loss) => loss,
        Err(blocked) => return Move::Wait(blocked),
    };
    // Who has not the same of the lost unit's log is not linked to the new owner before it was compared.
    let differs = |cut: &&&CutSeen| !(covers(mine, cut, &at_risk) && covers(cut, mine, &at_risk));
    let differing = answers.cut.iter().filter(differs).map(|cut| cut.unit.clone());
    let mut behind: Vec<UnitName> = op
        .behind
        .iter()
        .cloned()
        .chain(answers.silent.iter().cloned())
        .chain(differing)
        .chain(may_have_taken(op, failover))
        .collect();
    behind.sort_unstable();
    behind.dedup();
    Move::Enter {
        step: Step::Drain,
        not_needed: Vec::new(),
        passed: Vec::new(),
        positions: positions(op, mine),
        behind,
        evidence: Evidence::Loss(Box::new(loss)),
    }
}

/// Who answered, and who is not waited for.
struct Answers<'a> {
    cut: Vec<&'a CutSeen>,
    silent: Vec<UnitName>,
    late: bool,
}

impl Answers<'_> {
    fn has(&self, unit: &UnitName) -> bool {
        self.cut.iter().any(|cut| cut.unit == *unit)
    }
}

fn answers<'a>(op: &Operation, seen: &'a Seen, now: Timestamp) -> Result<Answers<'a>, WaitFor> {
    let late = overdue(seen.stood(op, Step::Cut), op.budgets.drain, now);
    let (mut cut, mut silent) = (Vec::new(), Vec::new());
    for member in &seen.members {
        let answer = seen
            .failover
            .cuts
            .iter()
            .find(|cut| cut.unit == member.unit && answers_in_full(op, cut));
        match answer {
            Some(answer) => cut.push(answer),
            None if member.unit == op.target => {}
            None if late || excused(op, seen, member) => silent.push(member.unit.clone()),
            None => return Err(WaitFor::Cut(member.unit.to_string())),
        }
    }
    Ok(Answers { cut, silent, late })
}

/// Whether it speaks of this epoch and of each moving store that its unit holds.
fn answers_in_full(op: &Operation, cut: &CutSeen) -> bool {
    let mut held = op.stores.iter().filter(|store| store.has(&cut.unit));
    cut.epoch == op.epoch && held.all(|store| cut.of(&store.store).is_some())
}

/// Whether `one` is known to have all that `other` has of the lost unit's log, in every store that `other` holds. What
/// cannot be compared is not covered.
pub(super) fn covers(one: &CutSeen, other: &CutSeen, stores: &[&StoreName]) -> bool {
    let covered = |store: &&&StoreName| match (one.of(store), other.of(store)) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(one), Some(other)) => one.progress.covers(&other.progress) == Some(true),
    };
    stores.iter().all(|store| covered(&store))
}

/// The move to the first usable survivor that answers and has all that anybody is known to have.
fn to_the_best(
    op: &Operation,
    failover: &Failover,
    seen: &Seen,
    (answered, known): (&[&CutSeen], &[&CutSeen]),
    at_risk: &[&StoreName],
) -> Option<Move> {
    let best = |unit: &UnitName| {
        let mine = answered.iter().find(|cut| cut.unit == *unit);
        mine.is_some_and(|mine| known.iter().all(|other| covers(mine, other, at_risk)))
    };
    if failover.named {
        return None;
    }
    let other = others(op, failover, seen).find(|unit| best(unit))?;
    Some(Move::Retarget {
        target: other.clone(),
        why: format!("{other} has received more of {} than {}", failover.lost, op.target),
    })
}

/// The loss, where it may be; else the decision without which it may not.
fn gate(
    op: &Operation,
    failover: &Failover,
    seen: &Seen,
    proof: &FenceProof,
    mine: &CutSeen,
    (ahead, not_handed_on): (&[&CutSeen], &str),
    now: Timestamp,
) -> Result<Loss, WaitFor> {
    let at_risk = stores_at_risk(op, &failover.lost);
    let progress = mine
        .stores
        .iter()
        .map(|Received { position, progress }| (position.store.clone(), progress.clone()));
    let progress: Vec<_> = progress.collect();
    let stores = loss(LossInputs {
        proof,
        target: &op.target,
        stores: &at_risk,
        progress: &progress,
    });
    let bound = largest(&stores);
    let given_up: Vec<UnitName> = ahead.iter().map(|cut| cut.unit.clone()).collect();
    let within = bound.is_some_and(|bound| bound <= failover.max_data_loss) && given_up.is_empty();
    let accepted = accepted(failover, &op.target, seen, now).filter(|_| !within);
    if !within && accepted.is_none() {
        let known = bound.map_or_else(|| "unknown".to_owned(), |bound| format!("up to {:#}", told(bound)));
        let limit = failover.max_data_loss;
        let why = match given_up.first() {
            Some(unit) => format!(
                "{unit} has received more of {} than {}, and by this Failover it does not take over; {not_handed_on}. By this decision \
                 what it has beyond is given up (loss in all: {known}). It would be kept, too, by an abort and a new Failover \
                 that names {unit}",
                failover.lost, op.target
            ),
            None => format!(
                "writes of {} may be lost: {known}, maxDataLoss is {limit:#}",
                failover.lost
            ),
        };
        return Err(decision(DecisionKind::AcceptDataLoss, accept_target(failover), why));
    }
    Ok(Loss {
        fenced_by: proof.by.clone(),
        stores,
        bound,
        given_up,
        accepted,
        found: None,
    })
}

/// What a decision names best: the one range, or the lost unit for all of them.
fn accept_target(failover: &Failover) -> &str {
    match failover.ranges.as_slice() {
        [only] => only,
        [] | [_, _, ..] => failover.lost.as_str(),
    }
}

/// A decision that names the lost unit or the target, or one for each range.
fn accepted(failover: &Failover, target: &UnitName, seen: &Seen, now: Timestamp) -> Option<Accepted> {
    let of = |target: &str| find(&seen.decisions, DecisionKind::AcceptDataLoss, target, now);
    let whole = of(failover.lost.as_str()).or_else(|| of(target.as_str()));
    let each = || {
        let all: Option<Vec<_>> = failover.ranges.iter().map(|range| of(range)).collect();
        all?.into_iter().next()
    };
    whole.or_else(each).map(|decision| Accepted {
        by: decision.by.clone(),
        reason: decision.reason.clone(),
    })
}

/// What the others have to reach: all that the target has, as it says itself.
fn positions(op: &Operation, mine: &CutSeen) -> Vec<StorePosition> {
    let moving = |received: &&Received| op.stores.iter().any(|store| store.store == received.position.store);
    let mine = mine.stores.iter().filter(moving);
    mine.map(|received| received.position.clone()).collect()
}
