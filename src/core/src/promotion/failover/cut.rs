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
use super::types::{Accepted, Failover, FenceProof, Progress, Tail};
use crate::ids::{StoreName, UnitName};
use crate::promotion::StorePosition;
use crate::promotion::decision::{DecisionKind, find};
use crate::promotion::drain::excused;
use crate::promotion::next::{Evidence, Move, aborted};
use crate::promotion::operation::{Operation, Step};
use crate::promotion::seen::Seen;
use crate::promotion::timers::{overdue, told};
use crate::promotion::wait::WaitFor;
use jiff::{SignedDuration, Timestamp};

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

/// What a survivor that hands its tail on has said, as though it said it now.
fn as_cut(op: &Operation, failover: &Failover, tail: &Tail) -> CutSeen {
    let received = |(store, progress): &(StoreName, Progress)| Received {
        position: StorePosition {
            store: store.clone(),
            source: failover.lost.clone(),
            vector: Vec::new(),
        },
        progress: progress.clone(),
    };
    CutSeen {
        unit: tail.from.clone(),
        epoch: op.epoch,
        stores: tail.stores.iter().map(received).collect(),
        incomplete: None,
    }
}

/// The former targets that something was handed on to: what they said before may be less than they have.
fn may_have_taken(op: &Operation, failover: &Failover) -> impl Iterator<Item = UnitName> {
    let former = failover.retargeted.iter().filter(|former| former.tail);
    former
        .map(|former| former.from.clone())
        .filter(|unit| *unit != op.target)
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

/// How long survivors have to hand on what they have more, from Cut on: some of that time is theirs who cut first.
pub(super) fn patience(op: &Operation) -> SignedDuration {
    op.budgets.drain.saturating_mul(2)
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
fn covers(one: &CutSeen, other: &CutSeen, stores: &[&StoreName]) -> bool {
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

/// Whether the target gets what others have received more.
enum Handing {
    /// It does not, and why; without a reason where there is nothing to hand on.
    Not(String),
    /// Who hands it on is to be recorded, or is waited for.
    Moves(Box<Move>),
}

/// Has one of those that have received more hand that on. Its rows are taken as the lost unit's log: so they must be all of it, and
/// nothing else.
fn handed_on(
    op: &Operation,
    failover: &Failover,
    seen: &Seen,
    mine: &CutSeen,
    ahead: &[&CutSeen],
    at_risk: &[&StoreName],
    now: Timestamp,
) -> Handing {
    let Some(first) = ahead.first() else {
        return Handing::Not(String::new());
    };
    let unfit = |cut: &CutSeen| unfit_to_hand_on(failover, seen, (mine, cut), at_risk);
    // Who does it goes on; else who has most is asked, then whoever still has more in a store of its own.
    let does = |cut: &&CutSeen| failover.tail.as_ref().is_some_and(|tail| tail.from == cut.unit);
    let most = |cut: &&CutSeen| ahead.iter().all(|other| covers(cut, other, at_risk));
    let fit: Vec<&CutSeen> = ahead.iter().copied().filter(|cut| unfit(cut).is_none()).collect();
    let mut found = [
        fit.iter().find(|cut| does(cut)),
        fit.iter().find(|cut| most(cut)),
        fit.first(),
    ]
    .into_iter();
    let Some(best) = found.find_map(|found| found) else {
        let why = unfit(first).unwrap_or_default();
        return Handing::Not(format!("it cannot hand that on: {why}"));
    };
    if !does(best) {
        let said = |received: &Received| (received.position.store.clone(), received.progress.clone());
        return Handing::Moves(Box::new(Move::HandOn(Tail {
            from: best.unit.clone(),
            stores: best.stores.iter().map(said).collect(),
        })));
    }
    let (from, target, lost) = (&best.unit, &op.target, &failover.lost);
    let failed = seen.failover.untaken.as_ref();
    if overdue(seen.stood(op, Step::Cut), patience(op), now) {
        let how = failed.map_or_else(|| "which goes on".to_owned(), |why| format!("which failed: {why}"));
        return Handing::Not(format!(
            "{target} takes it over from {from}, {how}; once it is there, this goes on by itself"
        ));
    }
    let failed = failed.map(|why| format!(" ({why})")).unwrap_or_default();
    let what = format!("what {from} has received more of {lost} than {target}{failed}");
    Handing::Moves(Box::new(Move::Wait(WaitFor::Tail(what))))
}

/// Why what a survivor has received more cannot be handed on.
fn unfit_to_hand_on(
    failover: &Failover,
    seen: &Seen,
    (mine, cut): (&CutSeen, &CutSeen),
    at_risk: &[&StoreName],
) -> Option<String> {
    let comparable = |store: &&StoreName| match (mine.of(store), cut.of(store)) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(one), Some(other)) => one.progress.covers(&other.progress).is_some(),
    };
    let lost = &failover.lost;
    if failover.superseded.is_some() {
        return Some(format!(
            "slots came to {lost} a moment ago, by an operation that did not end"
        ));
    }
    if seen.failover.divided {
        return Some(format!("slots of {lost} go to several units, or stay with it"));
    }
    if seen.lost.contains(&cut.unit) {
        return Some(format!("{} is lost or in quarantine itself", cut.unit));
    }
    // Of the target, too: its log would count as here, also for slots that left the lost unit before.
    for one in [cut, mine] {
        if let Some(why) = &one.incomplete {
            return Some(format!("{} may lack other rows: {why}", one.unit));
        }
    }
    let unlike = at_risk.iter().find(|store| !comparable(store))?;
    Some(format!(
        "it cannot be told which of the two has more of {lost} in store {unlike}"
    ))
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
