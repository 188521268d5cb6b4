//! Handing on: a survivor that received more of the lost unit than the target passes that on to it, before the slots are anybody's.

use super::cut::covers;
use super::seen::{CutSeen, Received};
use super::types::{Failover, Progress, Tail};
use crate::ids::{StoreName, UnitName};
use crate::promotion::StorePosition;
use crate::promotion::next::Move;
use crate::promotion::operation::{Operation, Step};
use crate::promotion::seen::Seen;
use crate::promotion::timers::overdue;
use crate::promotion::wait::WaitFor;
use jiff::{SignedDuration, Timestamp};

/// How long survivors have to hand on what they have more, from Cut on: some of that time is theirs who cut first.
pub(super) fn patience(op: &Operation) -> SignedDuration {
    op.budgets.drain.saturating_mul(2)
}

/// Whether the target gets what others have received more.
pub(super) enum Handing {
    /// It does not, and why; without a reason where there is nothing to hand on.
    Not(String),
    /// Who hands it on is to be recorded, or is waited for.
    Moves(Box<Move>),
}

/// Has one of those that have received more hand that on. Its rows are taken as the lost unit's log: so they must be all of it, and
/// nothing else.
pub(super) fn handed_on(
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

/// What a survivor that hands its tail on has said, as though it said it now.
pub(super) fn as_cut(op: &Operation, failover: &Failover, tail: &Tail) -> CutSeen {
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
pub(super) fn may_have_taken(op: &Operation, failover: &Failover) -> impl Iterator<Item = UnitName> {
    let former = failover.retargeted.iter().filter(|former| former.tail);
    former
        .map(|former| former.from.clone())
        .filter(|unit| *unit != op.target)
}
