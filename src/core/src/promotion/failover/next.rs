//! The steps of a failover. Before the commit point it is given up only where nothing is fenced yet, or the lost unit turned
//! out to be alive; the rest waits, and says for what.

use super::choose::unusable;
use super::types::{Failover, FencedBy};
use super::{cut, fence, tail};
use crate::ids::UnitName;
use crate::promotion::decision::{DecisionKind, Needed};
use crate::promotion::drain::{excused, missing};
use crate::promotion::fit::{self, UNREADY};
use crate::promotion::next::{Evidence, Move, aborted, enter, open, refused};
use crate::promotion::operation::{Budgets, Operation, Outcome, Step};
use crate::promotion::seen::{Reach, Seen, UnitReady};
use crate::promotion::timers::{BROKEN, SETTLE, overdue};
use crate::promotion::wait::WaitFor;
use jiff::{SignedDuration, Timestamp};

/// What an operator gives a failover: nobody waits for a lost unit's routers, and a survivor that has not answered for so
/// long is behind.
pub const FAILOVER_BUDGETS: Budgets = Budgets {
    fence: SignedDuration::from_secs(10),
    drain: SignedDuration::from_secs(10),
};

/// How long Prepare waits for the target's links with the other survivors: slots are down meanwhile.
const LINKS: SignedDuration = SignedDuration::from_secs(3);

/// A wait that only a person ends.
pub(super) fn decision(kind: DecisionKind, target: &str, why: String) -> WaitFor {
    let needed = Needed {
        kind,
        target: target.to_owned(),
    };
    WaitFor::Decision { needed, why }
}

pub(in crate::promotion) fn next(op: &Operation, failover: &Failover, seen: &Seen, now: Timestamp) -> Move {
    if let Some(cause) = seen.abort.as_ref().filter(|_| op.step.may_abort()) {
        return aborted("AbortRequested", cause.clone());
    }
    // Later the stores are taken as they were noted: an edit must not give slots back to a unit that is dead.
    if let Some(change) = fit::stores_changed(op, seen).filter(|_| op.step < Step::Hold) {
        return given_up(op, failover, "StoresChanged", format!("{change}: begin anew"));
    }
    match op.step {
        Step::Check | Step::Prepare | Step::Verify | Step::Hold => prepare(op, failover, seen, now),
        Step::Fence => with_target(op, failover, seen, now, fence::fence),
        Step::Cut => with_target(op, failover, seen, now, cut::cut),
        Step::Drain => with_target(op, failover, seen, now, drain),
        Step::Commit | Step::Open => open(op, seen),
        Step::Settle => settle(op, seen, now),
    }
}

/// Nothing is fenced yet: it may still end without a trace.
fn given_up(op: &Operation, failover: &Failover, reason: &str, message: String) -> Move {
    // Where it superseded an operation it has changed something already.
    match op.step == Step::Check && failover.superseded.is_none() {
        true => refused(reason, message),
        false => aborted(reason, message),
    }
}

fn prepare(op: &Operation, failover: &Failover, seen: &Seen, now: Timestamp) -> Move {
    if let Some((reason, message)) = fit::target_has_no_member(op) {
        return given_up(op, failover, reason, message);
    }
    match trouble(op, seen, now) {
        Trouble::Over(reason, why) => return give_way(op, failover, seen, reason, why),
        Trouble::Lasts(wait) => return Move::Wait(wait),
        Trouble::None => {}
    }
    if op.step == Step::Check {
        return enter(Step::Prepare);
    }
    // What is written before a link exists is missed, so they are worth a moment; Drain asks for them again.
    let links = seen
        .members
        .iter()
        .find(|member| member.unit == op.target)
        .and_then(|member| member.links.as_ref());
    if links != Some(&Ok(())) && !overdue(seen.stood(op, Step::Prepare), LINKS, now) {
        let why = links
            .and_then(|links| links.as_ref().err())
            .map_or("has not reported", String::as_str);
        return Move::Wait(WaitFor::Links(format!("{}: {why}", op.target)));
    }
    let lost = &failover.lost;
    Move::Enter {
        step: Step::Fence,
        not_needed: vec![
            (Step::Verify, format!("{lost} is lost: its rows cannot be compared")),
            (Step::Hold, format!("{lost} is lost: its routers are not waited for")),
        ],
        passed: Vec::new(),
        positions: Vec::new(),
        behind: Vec::new(),
        evidence: Evidence::None,
    }
}

/// What is wrong with the target.
enum Trouble {
    None,
    /// For so short a time that it is waited for.
    Lasts(WaitFor),
    /// For good, or for too long: a word and why.
    Over(&'static str, String),
}

fn trouble(op: &Operation, seen: &Seen, now: Timestamp) -> Trouble {
    if seen.lost.contains(&op.target) {
        return Trouble::Over("TargetLost", format!("{} is lost or in quarantine itself", op.target));
    }
    let fenced = op.step >= Step::Fence;
    let unknown = || match overdue(seen.stood(op, op.step), UNREADY, now) {
        true => Trouble::Over("TargetUnknown", format!("nothing is heard from {}", op.target)),
        false => Trouble::Lasts(WaitFor::TargetReport),
    };
    let Some(target) = &seen.target else {
        return if fenced { Trouble::None } else { unknown() };
    };
    match &target.ready {
        _ if target.cordoned && !fenced => Trouble::Over("TargetCordoned", format!("{} is cordoned", op.target)),
        Some(UnitReady::Ready) => Trouble::None,
        Some(UnitReady::NotReady(why)) => {
            let why = format!("{} is not ready: {why}", op.target);
            match overdue(seen.since.unready, UNREADY, now) {
                true => Trouble::Over("TargetNotReady", why),
                false => Trouble::Lasts(WaitFor::Target(why)),
            }
        }
        // What is unknown for a moment takes no slots from a target that was ready when they were fenced.
        None if fenced => Trouble::None,
        None => unknown(),
    }
}

/// While slots are fenced: a target that is not ready gets nothing, and for a moment it is not given up either.
fn with_target(
    op: &Operation,
    failover: &Failover,
    seen: &Seen,
    now: Timestamp,
    step: fn(&Operation, &Failover, &Seen, Timestamp) -> Move,
) -> Move {
    match trouble(op, seen, now) {
        Trouble::None => step(op, failover, seen, now),
        Trouble::Lasts(wait) => match step(op, failover, seen, now) {
            movement @ (Move::End(_) | Move::Retarget { .. } | Move::HandOn(_) | Move::Wait(_)) => movement,
            Move::Enter { .. } | Move::EndWithout(_) => Move::Wait(wait),
        },
        Trouble::Over(reason, why) => give_way(op, failover, seen, reason, why),
    }
}

/// The target cannot take the slots: another one shall, or it ends where that does no harm, or a person decides.
pub(super) fn give_way(op: &Operation, failover: &Failover, seen: &Seen, reason: &str, why: String) -> Move {
    if let Some(other) = another(op, failover, seen) {
        return Move::Retarget {
            target: other.clone(),
            why,
        };
    }
    if op.step < Step::Fence {
        return given_up(op, failover, reason, why);
    }
    if is_alive(op, failover, seen) {
        let message = format!(
            "{why}; {} is alive and fenced, so it gets its slots back",
            failover.lost
        );
        return aborted(reason, message);
    }
    let (target, lost) = (&op.target, &failover.lost);
    let why = format!(
        "{why}, and by this Failover no other unit may take the slots: bring {target} back, and it goes on by itself; or \
         abort, which gives them back to {lost}, and name another unit by a new Failover"
    );
    Move::Wait(decision(DecisionKind::Abort, lost.as_str(), why))
}

/// Whether the lost unit has reported the fence of this operation.
fn is_alive(op: &Operation, failover: &Failover, seen: &Seen) -> bool {
    match &failover.proof {
        Some(proof) => proof.by == FencedBy::Report,
        None => {
            let mut sources = seen.sources.iter().filter_map(|source| source.fence.as_ref());
            sources.any(|fence| fence.epoch == op.epoch)
        }
    }
}

/// The next usable unit. Once positions are published they are the target's own, so it stays.
fn another<'a>(op: &'a Operation, failover: &'a Failover, seen: &'a Seen) -> Option<&'a UnitName> {
    if failover.named || op.step >= Step::Drain {
        return None;
    }
    others(op, failover, seen).next()
}

/// The units that may take the slots instead of the target, the best one first: usable, not tried before, not behind an
/// operation that this one superseded, and not who handed the slots on a moment ago.
pub(super) fn others<'a>(
    op: &'a Operation,
    failover: &'a Failover,
    seen: &'a Seen,
) -> impl Iterator<Item = &'a UnitName> {
    let tried = |unit: &UnitName| failover.retargeted.iter().any(|before| before.from == *unit);
    let others = seen.failover.candidates.iter().filter(move |candidate| {
        let unit = &candidate.unit;
        let usable = unusable(candidate, &op.stores, &seen.lost).is_none();
        let excluded = op.behind.contains(unit) || failover.returns_to(unit);
        *unit != op.target && *unit != failover.lost && usable && !excluded && !tried(unit)
    });
    others.map(|candidate| &candidate.unit)
}

/// The first that is waited for and has not applied what it has to: the target, or another survivor of which it is asked.
pub(super) fn pending(op: &Operation, seen: &Seen) -> Option<String> {
    target_pending(op, seen).or_else(|| {
        let mut others = seen.members.iter().filter(|member| member.unit != op.target);
        let other = others.find(|member| !excused(op, seen, member) && member.reach != Some(Reach::Reached))?;
        Some(format!("{}: {}", other.unit, missing(other, None)))
    })
}

/// What the target has not applied, or that it does not answer.
fn target_pending(op: &Operation, seen: &Seen) -> Option<String> {
    let Some(target) = seen.members.iter().find(|member| member.unit == op.target) else {
        return Some(format!("{}: has not reported", op.target));
    };
    let arrived = target.reach == Some(Reach::Reached) && target.reachable == Some(true);
    let problem = seen.target.as_ref().and_then(|target| target.problem.as_deref());
    (!arrived).then(|| format!("{}: {}", op.target, missing(target, problem)))
}

/// Whether the target's link from the lost unit has been broken for so long that nothing more will come.
pub(super) fn broken_follower(op: &Operation, seen: &Seen, now: Timestamp) -> bool {
    overdue(seen.since.broken.get(&op.target).copied(), BROKEN, now)
}

/// Only the target is waited for without end: who else has not applied its positions within the budget is behind.
fn drain(op: &Operation, failover: &Failover, seen: &Seen, now: Timestamp) -> Move {
    let late = overdue(seen.stood(op, Step::Drain), op.budgets.drain, now);
    match (target_pending(op, seen), pending(op, seen)) {
        (Some(why), _) if late => {
            return give_way(op, failover, seen, "DrainBudget", format!("last writes at {why}"));
        }
        (Some(why), _) | (None, Some(why)) if !late => return Move::Wait(WaitFor::Reach(why)),
        (None, _) | (Some(_), _) => {}
    }
    let unreached = seen
        .members
        .iter()
        .filter(|member| member.reach != Some(Reach::Reached));
    let unreached = unreached.map(|member| member.unit.clone());
    // Who differed at Cut has rows that the target lacks, and may well say that it has all of the target's.
    let mut behind: Vec<_> = op.behind.iter().cloned().chain(unreached).collect();
    behind.sort_unstable();
    behind.dedup();
    Move::Enter {
        step: Step::Commit,
        not_needed: Vec::new(),
        passed: Vec::new(),
        positions: Vec::new(),
        behind,
        evidence: Evidence::None,
    }
}

/// The lost unit is waited for by nobody; the target's own routers are, and all others for a while.
fn settle(op: &Operation, seen: &Seen, now: Timestamp) -> Move {
    let Some(behind) = &seen.routers_behind else {
        return Move::Wait(WaitFor::Routers("what the units report is not known".to_owned()));
    };
    let alive = |unit: &UnitName| !op.sources().contains(&unit) && !seen.lost.contains(unit);
    let behind: Vec<_> = behind.iter().filter(|router| alive(&router.unit)).collect();
    if let Some(router) = behind.iter().find(|router| router.unit == op.target) {
        return Move::Wait(WaitFor::Routers(router.to_string()));
    }
    let mut links = fit::bystanders_links(op, seen);
    links.extend(fit::target_links(op, seen));
    let routers: Vec<_> = behind.iter().map(ToString::to_string).collect();
    let wait = match (links.first(), routers.first()) {
        (Some(link), _) => WaitFor::Links(link.clone()),
        (None, Some(router)) => WaitFor::Routers(router.clone()),
        (None, None) => return Move::End(Outcome::Succeeded),
    };
    match overdue(seen.stood(op, Step::Settle), SETTLE, now) {
        true => Move::EndWithout(links.into_iter().chain(routers).collect()),
        false => Move::Wait(wait),
    }
}

/// When, after `now`, [`next`] may say something else although nothing changes but the time.
pub(in crate::promotion) fn wake_at(
    op: &Operation,
    failover: &Failover,
    seen: &Seen,
    now: Timestamp,
) -> Option<Timestamp> {
    let after = |since: Option<Timestamp>, patience| since.and_then(|since| since.checked_add(patience).ok());
    let entered = |step| seen.stood(op, step);
    let unready = after(seen.since.unready, UNREADY);
    let mut at = match op.step {
        Step::Check | Step::Prepare | Step::Verify | Step::Hold => {
            vec![
                unready,
                after(entered(op.step), UNREADY),
                after(entered(op.step), LINKS),
            ]
        }
        Step::Fence => fence::wakes(op, failover, seen, now),
        Step::Cut => {
            let handed_on = tail::patience(op);
            vec![
                after(entered(op.step), op.budgets.drain),
                after(entered(op.step), handed_on),
            ]
        }
        Step::Drain => vec![after(entered(op.step), op.budgets.drain)],
        Step::Settle => vec![after(entered(Step::Settle), SETTLE)],
        Step::Commit | Step::Open => Vec::new(),
    };
    if op.step.may_abort() {
        at.push(unready);
        at.push(after(seen.since.broken.values().min().copied(), BROKEN));
    }
    at.into_iter().flatten().filter(|at| *at > now).min()
}
