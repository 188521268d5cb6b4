//! The step machine: what to do next, from the record, what was seen, and the time. Pure and total.

use super::drain;
use super::failover::{self, FenceProof, Loss, Tail};
use super::fit::{self, Unfit, unfit};
use super::operation::{Operation, Outcome, Step, StorePosition, Verify};
use super::seen::{RouterBehind, Seen};
use super::timers::{BROKEN, FOLLOWING, SETTLE, overdue};
use super::verify::verify;
use super::wait::WaitFor;
use crate::ids::UnitName;
use jiff::Timestamp;

/// What one pass does about an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Record that this step is entered, after those that have nothing to do.
    Enter {
        /// The step; [`Step::Commit`] changes the owner and leaves the record at [`Step::Open`].
        step: Step,
        /// Steps on the way that are `NotNeeded`, each with its reason.
        not_needed: Vec<(Step, String)>,
        /// Steps on the way whose work was seen done already: Fence, or Fence and Drain. They are recorded with this one,
        /// so that nobody waits for a record that says only that.
        passed: Vec<Step>,
        /// Where Drain is entered or passed: the final positions of the sources.
        positions: Vec<StorePosition>,
        /// For [`Step::Hold`]: the units that are away. For [`Step::Commit`]: those that were, and have not applied the
        /// positions.
        behind: Vec<UnitName>,
        /// What a failover has found out, to be measured by later and to be kept.
        evidence: Evidence,
    },
    /// Record that another unit shall own the slots of a failover: the present target cannot, or has received less. The
    /// step stays.
    Retarget {
        /// The other unit.
        target: UnitName,
        /// Why.
        why: String,
    },
    /// Record that the target of a failover takes over what this survivor has received more. The step stays.
    HandOn(Tail),
    /// Nothing to record: wait until something changes.
    Wait(WaitFor),
    /// Record that it ended.
    End(Outcome),
    /// Record that it succeeded, although of bystanders this is not as it shall be: patience with them is over.
    EndWithout(Vec<String>),
}

/// What goes into the record of a failover with a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing.
    None,
    /// With Cut: by what the fence is proven.
    Fence(Box<FenceProof>),
    /// With Drain: what may be lost.
    Loss(Box<Loss>),
}

pub(super) fn enter(step: Step) -> Move {
    enter_with(step, Evidence::None)
}

pub(super) fn enter_with(step: Step, evidence: Evidence) -> Move {
    Move::Enter {
        step,
        not_needed: Vec::new(),
        passed: Vec::new(),
        positions: Vec::new(),
        behind: Vec::new(),
        evidence,
    }
}

pub(super) fn refused(reason: &str, message: String) -> Move {
    Move::End(Outcome::Refused {
        reason: reason.to_owned(),
        message,
    })
}

pub(super) fn aborted(reason: &str, message: String) -> Move {
    Move::End(Outcome::Aborted {
        reason: reason.to_owned(),
        message,
    })
}

/// The next move of `op`. Before the commit point every way out is an end; after it there is only forward.
pub fn next(op: &Operation, seen: &Seen, now: Timestamp) -> Move {
    if let Some(failover) = &op.failover {
        return failover::next(op, failover, seen, now);
    }
    if let Some(cause) = seen.abort.as_ref().filter(|_| op.step.may_abort()) {
        return aborted("AbortRequested", cause.clone());
    }
    if let Some(change) = fit::stores_changed(op, seen).filter(|_| op.step.may_abort()) {
        return given_up(op, "StoresChanged", format!("{change}: plan anew"));
    }
    match op.step {
        Step::Check => check(op, seen, now),
        Step::Prepare => prepare(op, seen, now),
        Step::Verify => verify(op, seen, now),
        Step::Hold => unless_unready(op, seen, now, hold(op, seen, now)),
        // No promotion enters Cut; a record that says so has its fences.
        Step::Fence | Step::Cut => unless_unready(op, seen, now, fence(op, seen, now)),
        Step::Drain => unless_unready(op, seen, now, drain(op, seen, now)),
        // A record never stays at Commit: entering it enters Open. A record that says so is taken forward.
        Step::Commit | Step::Open => open(op, seen),
        Step::Settle => settle(op, seen, now),
    }
}

fn check(op: &Operation, seen: &Seen, now: Timestamp) -> Move {
    if let Some((reason, message)) = fit::no_member(op) {
        return refused(reason, message);
    }
    not_fit(op, seen, now).unwrap_or_else(|| enter(Step::Prepare))
}

/// While writes are held: a target that has been unready for so long gets nothing, neither more time nor the slots, which
/// nobody could take back from it.
fn unless_unready(op: &Operation, seen: &Seen, now: Timestamp, movement: Move) -> Move {
    let unready = fit::unready(op, seen).filter(|_| overdue(seen.since.unready, fit::UNREADY, now));
    match (movement, unready) {
        (Move::Wait(wait), Some(why)) => aborted("TargetNotReady", format!("{why}; waited for {wait}")),
        (Move::Enter { .. } | Move::Retarget { .. } | Move::HandOn(_), Some(why)) => aborted("TargetNotReady", why),
        (movement @ (Move::End(_) | Move::EndWithout(_)), Some(_)) => movement,
        (movement, None) => movement,
    }
}

/// Before Hold: the wait, or the end once patience is over, where something keeps the operation from holding writes.
pub(super) fn not_fit(op: &Operation, seen: &Seen, now: Timestamp) -> Option<Move> {
    let unfit = unfit(op, seen)?;
    let over = fit::patience_ends(op, seen, &unfit).is_some_and(|end| end <= now);
    Some(match unfit {
        Unfit::For(reason, message) => given_up(op, reason, message),
        Unfit::Unready(why) if over => given_up(op, "TargetNotReady", why),
        Unfit::Unready(why) => Move::Wait(WaitFor::Target(why)),
        Unfit::Still(wait, reason) if over => {
            given_up(op, reason, format!("gave up after {:#}: {wait}", fit::PATIENCE))
        }
        Unfit::Still(wait, _) => Move::Wait(wait),
    })
}

/// In Check nothing has begun, so it is a refusal; later it is an abort.
fn given_up(op: &Operation, reason: &str, message: String) -> Move {
    match op.step {
        Step::Check => refused(reason, message),
        Step::Prepare
        | Step::Verify
        | Step::Hold
        | Step::Fence
        | Step::Cut
        | Step::Drain
        | Step::Commit
        | Step::Open
        | Step::Settle => aborted(reason, message),
    }
}

fn prepare(op: &Operation, seen: &Seen, now: Timestamp) -> Move {
    // Fit a moment ago is not fit now: a target that died meanwhile must not hold anybody's writes.
    if let Some(movement) = not_fit(op, seen, now) {
        return movement;
    }
    match op.verify {
        Verify::None => enter_hold(op, seen, vec![(Step::Verify, "spec.verify is None".to_owned())]),
        Verify::Changed | Verify::Full => enter(Step::Verify),
    }
}

/// Who is away now is not waited for later: a member that comes back while writes are held would stretch the pause by
/// all that it has missed.
pub(super) fn enter_hold(op: &Operation, seen: &Seen, not_needed: Vec<(Step, String)>) -> Move {
    let away = seen.members.iter().filter(|member| drain::excused(op, seen, member));
    Move::Enter {
        step: Step::Hold,
        not_needed,
        passed: Vec::new(),
        positions: Vec::new(),
        behind: away.map(|member| member.unit.clone()).collect(),
        evidence: Evidence::None,
    }
}

/// Each source fences by itself once its routers hold and have no write under way. That shows in its report, and where it
/// takes its time the record says that Fence is what is waited for.
fn hold(op: &Operation, seen: &Seen, now: Timestamp) -> Move {
    if let Ok(positions) = fences(op, seen) {
        return fenced(op, seen, now, positions);
    }
    match hold_problem(op, seen) {
        None => enter(Step::Fence),
        Some(wait) => within_fence_budget(op, seen, wait, now),
    }
}

/// What keeps a source from having no write under way; a source that was not seen is a problem too.
fn hold_problem(op: &Operation, seen: &Seen) -> Option<WaitFor> {
    for unit in op.sources() {
        let source = seen.sources.iter().find(|source| source.unit == *unit);
        let Some(routers) = source.and_then(|source| source.routers.as_ref()) else {
            return Some(WaitFor::Routers(format!("{unit} has not reported")));
        };
        if routers.count == 0 {
            return Some(WaitFor::Routers(fit::without_routers(unit)));
        }
        if let Some(name) = routers.behind.first() {
            return Some(WaitFor::Routers(format!("{unit}/{name} does not hold yet")));
        }
        match routers.in_flight {
            Some(0) => {}
            Some(writes) => return Some(WaitFor::InFlight(format!("{writes} at {unit}"))),
            None => return Some(WaitFor::InFlight(format!("unknown at {unit}"))),
        }
    }
    None
}

fn fence(op: &Operation, seen: &Seen, now: Timestamp) -> Move {
    match fences(op, seen) {
        Ok(positions) => fenced(op, seen, now, positions),
        Err(wait) => within_fence_budget(op, seen, wait, now),
    }
}

fn within_fence_budget(op: &Operation, seen: &Seen, wait: WaitFor, now: Timestamp) -> Move {
    if overdue(seen.entered(op, Step::Hold), op.budgets.fence, now) {
        let message = format!(
            "budgets.fence of {:#} ran out, still waiting for {wait}",
            op.budgets.fence
        );
        return aborted("FenceBudget", message);
    }
    Move::Wait(wait)
}

/// The final positions of all sources; else the first whose fence is not known to stand.
fn fences(op: &Operation, seen: &Seen) -> Result<Vec<StorePosition>, WaitFor> {
    let mut positions = Vec::new();
    for unit in op.sources() {
        let source = seen.sources.iter().find(|source| source.unit == *unit);
        // A fence of another epoch belongs to another attempt: its position says nothing about this one.
        let fence = source.and_then(|source| source.fence.as_ref());
        let fence = fence.filter(|fence| fence.epoch == op.epoch);
        let why = source.and_then(|source| source.problem.as_deref());
        let fence = fence.ok_or_else(|| WaitFor::Fence(because(unit, why)))?;
        positions.extend(fence.positions.iter().map(|at| drain::awaited(op, seen, at)));
    }
    Ok(positions)
}

/// Every source is fenced. What each fence wrote travels in the source's own stream, so the members may have followed it
/// by now, without a record of the positions: then the owner changes at once. Where a member is away they are published
/// for the others, for what only it had is not waited for.
fn fenced(op: &Operation, seen: &Seen, now: Timestamp, positions: Vec<StorePosition>) -> Move {
    let excused = seen.members.iter().any(|member| drain::excused(op, seen, member));
    let (behind, problem) = drain::arrivals(op, seen);
    let late = overdue(seen.entered(op, Step::Hold), FOLLOWING, now);
    let step = match problem {
        None if !excused => Step::Commit,
        Some(problem) if !excused && !late => return Move::Wait(WaitFor::Reach(problem)),
        None | Some(_) => Step::Drain,
    };
    let passed = [Step::Fence, Step::Drain].into_iter();
    Move::Enter {
        step,
        not_needed: Vec::new(),
        passed: passed.filter(|passed| op.step < *passed && *passed < step).collect(),
        positions,
        behind: if step == Step::Commit { behind } else { Vec::new() },
        evidence: Evidence::None,
    }
}

fn drain(op: &Operation, seen: &Seen, now: Timestamp) -> Move {
    let (behind, problem) = drain::arrivals(op, seen);
    if let Some(broken) = drain::broken(op, seen, BROKEN, now) {
        // What is broken for so long stays broken, and writes are held.
        return aborted("LinkBroken", format!("not waiting for budgets.drain: {broken}"));
    }
    let Some(problem) = problem else {
        return Move::Enter {
            step: Step::Commit,
            not_needed: Vec::new(),
            passed: Vec::new(),
            positions: Vec::new(),
            behind,
            evidence: Evidence::None,
        };
    };
    if overdue(seen.entered(op, Step::Drain), op.budgets.drain, now) {
        return aborted(
            "DrainBudget",
            format!(
                "budgets.drain of {:#} ran out, last writes at {problem}",
                op.budgets.drain
            ),
        );
    }
    Move::Wait(WaitFor::Reach(problem))
}

pub(super) fn open(op: &Operation, seen: &Seen) -> Move {
    let applied = seen.target.as_ref().and_then(|target| target.applied);
    if applied.is_some_and(|applied| applied >= op.epoch) {
        return enter(Step::Settle);
    }
    let why = seen.target.as_ref().and_then(|target| target.problem.as_deref());
    Move::Wait(WaitFor::Opened(because(&op.target, why)))
}

/// A unit, and what keeps its stores, where its agent says it.
pub(super) fn because(unit: &UnitName, problem: Option<&str>) -> String {
    problem.map_or_else(|| unit.to_string(), |problem| format!("{unit}: {problem}"))
}

/// Source and target are waited for without end; others only for a while: whom they send to the old owner, it refuses.
fn settle(op: &Operation, seen: &Seen, now: Timestamp) -> Move {
    if let Some(problem) = fit::own_links_problem(op, seen) {
        return Move::Wait(WaitFor::Links(problem));
    }
    let Some(behind) = &seen.routers_behind else {
        return Move::Wait(WaitFor::Routers("what the units report is not known".to_owned()));
    };
    let sources = op.sources();
    let own = |unit: &UnitName| *unit == op.target || sources.contains(&unit);
    // Whoever is lost by now is waited for by nobody.
    let behind: Vec<&RouterBehind> = behind
        .iter()
        .filter(|router| !seen.lost.contains(&router.unit))
        .collect();
    if let Some(router) = behind.iter().find(|router| own(&router.unit)) {
        return Move::Wait(WaitFor::Routers(router.to_string()));
    }
    let links = fit::bystanders_links(op, seen);
    let routers: Vec<_> = behind.iter().map(ToString::to_string).collect();
    let wait = match (links.first(), routers.first()) {
        (Some(link), _) => WaitFor::Links(link.clone()),
        (None, Some(router)) => WaitFor::Routers(router.clone()),
        (None, None) => return Move::End(Outcome::Succeeded),
    };
    if overdue(seen.entered(op, Step::Settle), SETTLE, now) {
        return Move::EndWithout(links.into_iter().chain(routers).collect());
    }
    Move::Wait(wait)
}
