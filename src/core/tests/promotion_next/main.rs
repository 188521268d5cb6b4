//! The step machine, rule by rule: what each step waits for, and how it ends. Unknown never counts as yes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

mod after_commit;
mod away;
mod before_hold;
#[path = "../common/mod.rs"]
mod common;
mod held;

use common::{at, operation, unit, well};
use jiff::SignedDuration;
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{
    Move, Operation, OperationKind, Outcome, RoutersSeen, Seen, Step, StepRecord, UnitReady, WaitFor, next, wake_at,
};

const EPOCH: Epoch = Epoch::new(1, 20);

/// The operation at `step`, entered at `at(0)`.
fn op(step: Step) -> Operation {
    let mut op = operation();
    op.step = step;
    op.epoch = if step < Step::Hold { Epoch::NEVER } else { EPOCH };
    let until = OperationKind::Promotion.steps().filter(|other| *other <= step);
    op.history = until
        .map(|step| StepRecord {
            step,
            at: at(0),
            not_needed: None,
        })
        .collect();
    op
}

/// What `next` says at `step`, `seconds` later, when everything is well but for `change`.
fn after(step: Step, seconds: i64, change: impl Fn(&mut Seen)) -> Move {
    let mut seen = well(EPOCH);
    change(&mut seen);
    next(&op(step), &seen, at(seconds))
}

/// A move in short: the step entered, or wait and end by reason.
fn short(movement: &Move) -> String {
    match movement {
        Move::Enter {
            step,
            not_needed,
            passed,
            ..
        } => match (&not_needed[..], &passed[..]) {
            ([], []) => step.to_string(),
            ([(skipped, _), ..], _) => format!("{step} past {skipped}"),
            ([], passed) => format!("{step} with {passed:?}"),
        },
        Move::Retarget { target, why } => format!("to {target}: {why}"),
        Move::HandOn(tail) => format!("handed on by {}", tail.from),
        Move::Wait(wait) => format!("wait for {wait}"),
        Move::End(Outcome::Succeeded) => "Succeeded".to_owned(),
        Move::EndWithout(unsettled) => format!("Succeeded without {}", unsettled.join("; ")),
        Move::End(Outcome::Refused { reason, .. }) => format!("Refused/{reason}"),
        Move::End(Outcome::Aborted { reason, .. }) => format!("Aborted/{reason}"),
        Move::End(Outcome::Failed { reason, .. }) => format!("Failed/{reason}"),
    }
}

fn check(step: Step, rows: &[(&str, i64, fn(&mut Seen), &str)]) {
    for (what, seconds, change, want) in rows {
        assert_eq!(
            short(&after(step, *seconds, change)),
            *want,
            "{step}, {what}, after {seconds} s"
        );
    }
}

#[test]
fn every_step_enters_the_following_one_when_all_is_well() {
    for (step, want) in [
        (Step::Check, "Prepare"),
        (Step::Prepare, "Hold past Verify"),
        (Step::Verify, "Hold"),
        (Step::Hold, "Commit with [Fence, Drain]"),
        (Step::Fence, "Commit with [Drain]"),
        (Step::Drain, "Commit"),
        (Step::Commit, "Settle"),
        (Step::Open, "Settle"),
        (Step::Settle, "Succeeded"),
    ] {
        assert_eq!(short(&after(step, 1, |_| {})), want, "{step}");
    }
}

#[test]
fn nothing_seen_never_enters_a_step_and_ends_only_before_the_commit_point() {
    for step in OperationKind::Promotion.steps() {
        for seconds in [0, 1_000_000] {
            match next(&op(step), &Seen::default(), at(seconds)) {
                Move::Wait(_) => {}
                Move::End(Outcome::Refused { .. } | Outcome::Aborted { .. }) => {
                    assert!(step.may_abort() && seconds > 0, "{step} after {seconds} s");
                }
                other @ (Move::Enter { .. }
                | Move::Retarget { .. }
                | Move::HandOn(_)
                | Move::End(Outcome::Failed { .. })
                | Move::EndWithout(_)
                | Move::End(Outcome::Succeeded)) => {
                    panic!("{step} after {seconds} s: {other:?}")
                }
            }
        }
    }
}

#[test]
fn a_decision_to_abort_ends_it_before_the_commit_point_and_does_nothing_after() {
    for step in OperationKind::Promotion.steps() {
        let abort = |seen: &mut Seen| seen.abort = Some("INC-7".to_owned());
        let ended = short(&after(step, 1, abort)) == "Aborted/AbortRequested";
        assert_eq!(ended, step < Step::Commit, "{step}");
    }
}

/// What the record says is ahead of our clock by minutes: ours was set back, or another's was wrong.
#[test]
fn a_clock_that_went_back_lengthens_no_budget() {
    let now = at(-300);
    let holds: fn(&mut Seen) = |seen| {
        seen.sources[0].fence = None;
        seen.sources[0].routers.as_mut().unwrap().in_flight = Some(1);
    };
    let fences: fn(&mut Seen) = |seen| seen.sources[0].fence = None;
    let follows: fn(&mut Seen) = |seen| seen.members[0].reach = None;
    let settles: fn(&mut Seen) = |seen| seen.members[1].links = Some(Err("no stream".to_owned()));
    let unfit: fn(&mut Seen) = |seen| seen.members[1].lag = None;
    let rows: [(_, fn(&mut Seen), _, _); 7] = [
        (Step::Hold, holds, 10_000, "Aborted/FenceBudget"),
        (Step::Fence, fences, 10_000, "Aborted/FenceBudget"),
        (Step::Hold, follows, 500, "Drain with [Fence]"),
        (Step::Drain, follows, 30_000, "Aborted/DrainBudget"),
        (Step::Settle, settles, 30_000, "Succeeded without south: no stream"),
        (Step::Check, unfit, 30_000, "Refused/LagTooLarge"),
        (Step::Prepare, unfit, 30_000, "Aborted/LagTooLarge"),
    ];
    for (step, change, patience, want) in rows {
        let started = if step == Step::Fence { Step::Hold } else { step };
        for (elapsed, over) in [(patience - 1, false), (patience, true)] {
            let mut seen = well(EPOCH);
            change(&mut seen);
            let since = now - SignedDuration::from_millis(elapsed);
            seen.since.entered = [(started, since)].into();
            let movement = next(&op(step), &seen, now);
            let wanted = if over { want } else { "wait" };
            assert!(
                short(&movement).starts_with(wanted),
                "{step} after {elapsed} ms: {}",
                short(&movement)
            );
            // Asked a moment before: what is over is not to be looked at any more.
            let again = wake_at(&op(step), &seen, now - SignedDuration::from_millis(1));
            let left = SignedDuration::from_millis(patience - elapsed);
            assert!(again.unwrap() <= now + left, "{step}: it is looked at in time");
        }
    }
    // What this operator has seen for a moment only is over all the same where the record says so.
    let late = after(Step::Drain, 30, |seen| {
        follows(seen);
        seen.since.entered = [(Step::Drain, at(29))].into();
    });
    assert_eq!(short(&late), "Aborted/DrainBudget");
}

/// The target is not ready since `at(since)`.
fn unready(seen: &mut Seen, since: i64) {
    seen.target.as_mut().unwrap().ready = Some(UnitReady::NotReady("1 of 2 pods".to_owned()));
    seen.since.unready = Some(at(since));
}

#[test]
fn several_sources_are_each_waited_for() {
    let mut op = op(Step::Fence);
    let mut second = op.moves[0].clone();
    second.source = unit("west");
    op.moves.push(second);
    assert_eq!(
        next(&op, &well(EPOCH), at(1)),
        Move::Wait(WaitFor::Fence("west".to_owned()))
    );
    op.step = Step::Hold;
    // East is fenced, and west is still asked.
    let want = WaitFor::Routers("west has not reported".to_owned());
    assert_eq!(next(&op, &well(EPOCH), at(1)), Move::Wait(want));
}

/// The source's agent knows of no router.
fn without_routers(seen: &mut Seen) {
    seen.sources[0].routers = Some(RoutersSeen {
        count: 0,
        behind: Vec::new(),
        in_flight: Some(0),
    });
}

/// South's cluster does not answer, and what is known of it is as bad as can be.
fn south_away(seen: &mut Seen) {
    let south = &mut seen.members[1];
    assert_eq!(south.unit, unit("south"));
    (south.reachable, south.links, south.lag, south.reach) = (Some(false), None, None, None);
}
