//! Fence: whether the lost unit provably commits nothing any more, and by what.

use super::next::{broken_follower, decision, pending};
use super::seen::{HookSaid, HookSeen, LeaseEnd, LeaseSeen};
use super::types::{Failover, FenceProof, FencedBy, Heard, Landmark};
use crate::ids::UnitName;
use crate::lease::Mode;
use crate::promotion::decision::{DecisionKind, find};
use crate::promotion::next::{Evidence, Move, aborted, enter_with};
use crate::promotion::operation::{Operation, Step};
use crate::promotion::seen::{MemberSeen, Reach, Seen, SourceSeen};
use crate::promotion::timers::{FOLLOWING, overdue, told};
use crate::promotion::wait::WaitFor;
use jiff::{SignedDuration, Timestamp};

/// How long after the entry of Fence the unit's own agent is waited for before a person is asked.
pub(super) const ANSWER: SignedDuration = FOLLOWING;

/// How long after the entry of Fence a fencing hook is asked: what it does may end a unit that lives, whose own fence loses
/// nothing. One whose agent has answered the operation is given the budget of Fence.
pub(super) const HOOK: SignedDuration = SignedDuration::from_secs(3);

/// How long a sealed lease whose end nobody can tell is waited for before a person is asked.
pub(super) const UNTOLD: SignedDuration = SignedDuration::from_secs(30);

pub(super) fn fence(op: &Operation, failover: &Failover, seen: &Seen, now: Timestamp) -> Move {
    let lost = &failover.lost;
    // The seal comes first, whatever proves the fence: a unit that returns must find that it may not write, and without
    // the seal it could renew between this look and the commit.
    let lease = seen.failover.lease.as_ref();
    let sealed = lease.and_then(|lease| Some((lease, seal_of(failover, lease)?)));
    let Some((lease, end)) = sealed else {
        let why = seen.failover.unsealed.as_ref().map(|why| format!(": {why}"));
        return Move::Wait(WaitFor::Lease(format!(
            "{lost} is not sealed yet{}",
            why.unwrap_or_default()
        )));
    };
    let reported = reported(op, failover, seen);
    let ended = match end {
        LeaseEnd::Ago(ago) if end_counts(lease).is_ok() => Some(ago),
        LeaseEnd::Ago(_) | LeaseEnd::In(_) | LeaseEnd::Unknown => None,
    };
    let hooked = hook_word(op, seen);
    let confirmed = find(&seen.decisions, DecisionKind::ConfirmFenced, lost.as_str(), now);
    let by = match (reported, ended, hooked, confirmed) {
        (true, _, _, _) => {
            if let Some(wait) = still_following(op, seen, now) {
                return wait;
            }
            FencedBy::Report
        }
        (false, Some(_), _, _) => FencedBy::Lease,
        (false, None, Some(word), _) => word,
        (false, None, None, Some(decision)) => FencedBy::Confirmed {
            by: decision.by.clone(),
            reason: decision.reason.clone(),
        },
        (false, None, None, None) => return unproven(op, failover, seen, (lease, end), now),
    };
    if failover.returns_to(&op.target) {
        // It handed the slots on a moment ago: what the lost unit took since then would be below its own rows.
        match (&by, seen.failover.opened) {
            (FencedBy::Report, Some(false)) => {}
            (FencedBy::Report, None) => return Move::Wait(WaitFor::Fence(format!("{lost}: has it opened the slots?"))),
            (FencedBy::Report, Some(true)) => {
                let message = format!(
                    "{lost} has opened the slots, so they cannot go back to {}: fail over to a third unit",
                    op.target
                );
                return aborted("TargetMayHaveOpened", message);
            }
            // Where there is no third unit, this is the only way on, so it is worth a wait.
            (FencedBy::Lease | FencedBy::Hook { .. } | FencedBy::Confirmed { .. }, _) => {
                return Move::Wait(WaitFor::Fence(format!(
                    "{lost}: only its own databases can say that they never opened the slots, so bring it back; or abort, and \
                     fail over to a third unit"
                )));
            }
        }
    }
    let proof = prove(seen, lease, by, ended, now);
    enter_with(Step::Cut, Evidence::Fence(Box::new(proof)))
}

/// Whether the lost unit's own agent says that its databases are fenced for this operation.
fn reported(op: &Operation, failover: &Failover, seen: &Seen) -> bool {
    let source = seen.sources.iter().find(|source| source.unit == failover.lost);
    // A fence of another epoch belongs to another attempt.
    let fence = source.and_then(|source| source.fence.as_ref());
    fence.is_some_and(|fence| fence.epoch == op.epoch)
}

/// What the lost unit's fencing hook said of this very operation, as it stands now; `None` where it was not asked about that.
fn hook_seen<'a>(op: &Operation, seen: &'a Seen) -> Option<&'a HookSeen> {
    let hook = seen.failover.hook.as_ref();
    hook.filter(|hook| hook.operation == op.uid && hook.epoch == op.epoch)
}

/// The proof, where the hook says for this very operation that the unit is fenced. Nothing else that it says is one, nor is
/// its silence.
fn hook_word(op: &Operation, seen: &Seen) -> Option<FencedBy> {
    let HookSeen { by, said, .. } = hook_seen(op, seen)?;
    match said {
        HookSaid::Fenced(reason) => Some(FencedBy::Hook {
            by: by.clone(),
            reason: reason.clone(),
        }),
        HookSaid::Asked | HookSaid::NotFenced(_) | HookSaid::NoAnswer(_) => None,
    }
}

/// The wait where nothing but the hook or a person proves the fence. A person is asked once the hook has answered, or has not in
/// its time.
fn ask(op: &Operation, lost: &UnitName, seen: &Seen, lease: &LeaseSeen, why: String, now: Timestamp) -> Move {
    let confirm = |why: String| Move::Wait(decision(DecisionKind::ConfirmFenced, lost.as_str(), why));
    let Some(declared) = &seen.failover.hook else {
        return confirm(why);
    };
    if lease.fences_soon {
        let wait = format!("it is not known for long enough yet that {lost} stops without it");
        return Move::Wait(WaitFor::Lease(wait));
    }
    let answered = |source: &SourceSeen| source.unit == *lost && source.routers.is_some();
    let patience = match seen.sources.iter().any(answered) {
        true => op.budgets.fence,
        false => HOOK,
    };
    if !overdue(seen.stood(op, Step::Fence), patience, now) {
        return Move::Wait(WaitFor::Fence(lost.to_string()));
    }
    let by = &declared.by;
    let said = match hook_seen(op, seen).map(|hook| &hook.said) {
        // What counts is no wait.
        None | Some(HookSaid::Asked | HookSaid::Fenced(_)) => {
            return Move::Wait(WaitFor::Hook(format!("{by} to fence {lost}: {why}")));
        }
        Some(HookSaid::NotFenced(said)) => format!("says that it is not fenced: {said}"),
        Some(HookSaid::NoAnswer(why)) => format!("gives no answer that counts: {why}"),
    };
    confirm(format!(
        "{why}; its fencing hook, {by}, {said}. It goes on as soon as that hook says that {lost} is fenced, which it is asked again \
         and again, or by your word"
    ))
}

/// What a seal says that was put on for this operation or later; an earlier one may have been taken off since.
fn seal_of(failover: &Failover, lease: &LeaseSeen) -> Option<LeaseEnd> {
    let (since, end) = lease.sealed?;
    (since >= failover.fence).then_some(end)
}

/// Whether the end of the lease is the end of writing, else why not.
fn end_counts(lease: &LeaseSeen) -> Result<(), String> {
    match (lease.mode, lease.unenforced.first()) {
        (Mode::Fence, None) => Ok(()),
        (Mode::KeepServing, _) => Err("its onLeaseLoss is KeepServing, so it may write without a lease".to_owned()),
        (Mode::Fence, Some(store)) => Err(format!("{store} there knows no deadline")),
    }
}

/// The unit is alive, so what it wrote last is worth a wait: nothing is lost then.
fn still_following(op: &Operation, seen: &Seen, now: Timestamp) -> Option<Move> {
    let problem = pending(op, seen)?;
    let since = seen.since.fenced.or_else(|| seen.stood(op, Step::Fence));
    let over = overdue(since, op.budgets.drain, now) || broken_follower(op, seen, now);
    (!over).then_some(Move::Wait(WaitFor::Reach(problem)))
}

/// Nothing proves it yet: time will, or a person must.
fn unproven(
    op: &Operation,
    failover: &Failover,
    seen: &Seen,
    (lease, end): (&LeaseSeen, LeaseEnd),
    now: Timestamp,
) -> Move {
    let lost = &failover.lost;
    let waited = |patience| overdue(seen.stood(op, Step::Fence), patience, now);
    let confirm = |why: String| ask(op, lost, seen, lease, why, now);
    match (end_counts(lease), end) {
        (Err(why), _) if waited(ANSWER) => confirm(format!("{lost} does not answer, and {why}")),
        (Err(_), _) => Move::Wait(WaitFor::Fence(lost.to_string())),
        (Ok(()), LeaseEnd::In(left)) => {
            Move::Wait(WaitFor::Lease(format!("{lost} is sealed and over in {:#}", told(left))))
        }
        (Ok(()), LeaseEnd::Unknown) if waited(UNTOLD) => {
            confirm(format!("nobody can tell when the write lease of {lost} is over"))
        }
        (Ok(()), LeaseEnd::Unknown | LeaseEnd::Ago(_)) => {
            Move::Wait(WaitFor::Lease(format!("{lost} is sealed, its end is not known yet")))
        }
    }
}

/// The proof, and what is known of the unit's log at this moment. What stands here is what the loss is measured by.
fn prove(seen: &Seen, lease: &LeaseSeen, by: FencedBy, ended: Option<SignedDuration>, now: Timestamp) -> FenceProof {
    // Until when it may have written: the lease's proven end, or now.
    let ago = match by {
        FencedBy::Lease => ended.unwrap_or_default(),
        FencedBy::Report | FencedBy::Hook { .. } | FencedBy::Confirmed { .. } => SignedDuration::ZERO,
    };
    let mut landmarks = Vec::new();
    for (place, renewal) in lease.renewals.iter().enumerate() {
        // The last renewal was sealed: the unit counted its lease from before it, so its window is no longer than ours.
        // Of any other it is only known that its position was read about when the one before it was written.
        let sharp = place == 0 && by == FencedBy::Lease;
        let counted = if sharp { Some(renewal.age) } else { renewal.since };
        let slack = if sharp { SignedDuration::ZERO } else { lease.length };
        let Some(counted) = counted else { continue };
        let until_end = (counted - ago).max(SignedDuration::ZERO) + slack;
        // Whoever has not received all up to it may have passed one before it: so much longer ago, and the unit's own clock says so.
        let told = renewal.earlier.iter().filter(|_| place == 0);
        let told = told.map(|(before, positions)| (until_end + *before, positions));
        for (until_end, positions) in std::iter::once((until_end, &renewal.positions)).chain(told) {
            landmarks.extend(positions.iter().map(|(store, progress)| Landmark {
                store: store.clone(),
                progress: progress.clone(),
                until_end,
            }));
        }
    }
    // The lag of a member compares the clocks of two machines, so no bound is made of it.
    let followed = |member: &&MemberSeen| by == FencedBy::Report && member.reach == Some(Reach::Reached);
    let heard = seen.members.iter().filter(followed).map(|member| Heard {
        unit: member.unit.clone(),
        until_end: SignedDuration::ZERO,
    });
    FenceProof {
        at: now,
        heard: heard.collect(),
        landmarks,
        by,
    }
}

/// When, after the entry of Fence, it may go on although nothing changes but the time.
pub(super) fn wakes(op: &Operation, failover: &Failover, seen: &Seen, now: Timestamp) -> Vec<Option<Timestamp>> {
    let entered = seen.stood(op, Step::Fence);
    let after = |since: Option<Timestamp>, patience| since.and_then(|since| since.checked_add(patience).ok());
    let lease = seen.failover.lease.as_ref();
    let ends = lease.and_then(|lease| match seal_of(failover, lease)? {
        LeaseEnd::In(left) => now.checked_add(left).ok(),
        LeaseEnd::Unknown | LeaseEnd::Ago(_) => None,
    });
    vec![
        ends,
        after(entered, ANSWER),
        after(entered, HOOK),
        after(entered, op.budgets.fence),
        after(entered, UNTOLD),
        after(seen.since.fenced.or(entered), op.budgets.drain),
    ]
}
