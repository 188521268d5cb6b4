//! The step machine, rule by rule: what each step waits for, and how it ends. Unknown never counts as yes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

mod common;

use common::{at, operation, position, slots, unit, well};
use jiff::SignedDuration;
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{
    Move, Operation, Outcome, Reach, RouterBehind, RoutersSeen, Seen, Step, StepRecord, StoreCompared, Uncompared,
    UnitPosition, UnitReady, Verify, WaitFor, looks_again_at, next, wake_at,
};

const EPOCH: Epoch = Epoch::new(1, 20);

/// The operation at `step`, entered at `at(0)`.
fn op(step: Step) -> Operation {
    let mut op = operation();
    op.step = step;
    op.epoch = if step < Step::Hold { Epoch::NEVER } else { EPOCH };
    let until = Step::ALL.iter().filter(|other| **other <= step);
    op.history = until
        .map(|step| StepRecord {
            step: *step,
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
        Move::CompareAgain(slots) => format!("again {}", slots[0].1),
        Move::Wait(wait) => format!("wait for {wait}"),
        Move::End(Outcome::Succeeded) => "Succeeded".to_owned(),
        Move::EndWithout(unsettled) => format!("Succeeded without {}", unsettled.join("; ")),
        Move::End(Outcome::Refused { reason, .. }) => format!("Refused/{reason}"),
        Move::End(Outcome::Aborted { reason, .. }) => format!("Aborted/{reason}"),
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
    for step in Step::ALL {
        for seconds in [0, 1_000_000] {
            match next(&op(step), &Seen::default(), at(seconds)) {
                Move::Wait(_) => {}
                Move::End(Outcome::Refused { .. } | Outcome::Aborted { .. }) => {
                    assert!(step.may_abort() && seconds > 0, "{step} after {seconds} s");
                }
                other @ (Move::Enter { .. }
                | Move::CompareAgain(_)
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
    for step in Step::ALL {
        let abort = |seen: &mut Seen| seen.abort = Some("INC-7".to_owned());
        let ended = short(&after(step, 1, abort)) == "Aborted/AbortRequested";
        assert_eq!(ended, step < Step::Commit, "{step}");
    }
}

#[test]
fn check_refuses_what_is_wrong_and_what_does_not_become_well_in_time() {
    let cordoned: fn(&mut Seen) = |seen| seen.target.as_mut().unwrap().cordoned = true;
    let unknown: fn(&mut Seen) = |seen| seen.target.as_mut().unwrap().ready = None;
    let source_link: fn(&mut Seen) = |seen| seen.sources[0].links = Some(Err("orders: slot is gone".to_owned()));
    let unlinked: fn(&mut Seen) = |seen| seen.members[1].links = None;
    let silent: fn(&mut Seen) = |seen| seen.sources[0].routers = None;
    let bare: fn(&mut Seen) = |seen| without_routers(seen);
    let one_away: fn(&mut Seen) = |seen| seen.sources[0].routers.as_mut().unwrap().behind = vec!["r1".to_owned()];
    let lag: fn(&mut Seen) = |seen| seen.members[0].lag = Some(SignedDuration::from_secs(31));
    let lag_at_limit: fn(&mut Seen) = |seen| seen.members[0].lag = Some(SignedDuration::from_secs(30));
    let lag_unknown: fn(&mut Seen) = |seen| seen.members[0].lag = None;
    let no_member: fn(&mut Seen) = |seen| seen.members.retain(|member| member.unit != unit("north"));
    check(
        Step::Check,
        &[
            ("target cordoned", 0, cordoned, "Refused/TargetCordoned"),
            ("target unknown", 29, unknown, "wait for the target's report"),
            ("target unknown", 30, unknown, "Refused/TargetUnknown"),
            (
                "target not seen",
                29,
                |seen| seen.target = None,
                "wait for the target's report",
            ),
            (
                "link broken",
                29,
                source_link,
                "wait for links: east: orders: slot is gone",
            ),
            ("link broken", 30, source_link, "Refused/LinksUnhealthy"),
            ("link unknown", 29, unlinked, "wait for links: south has not reported"),
            ("source silent", 29, silent, "wait for routers: east has not reported"),
            ("source silent", 30, silent, "Refused/SourceUnknown"),
            (
                "source without routers",
                29,
                bare,
                "wait for routers: no router of east is connected to its agent, so nobody counts its writes",
            ),
            ("source without routers", 30, bare, "Refused/RoutersMissing"),
            (
                "a source's router is away",
                29,
                one_away,
                "wait for routers: east/r1 is not connected to its agent, or has no table yet",
            ),
            ("a source's router is away", 30, one_away, "Refused/RoutersMissing"),
            ("lag too large", 29, lag, "wait for lag: north is 31s behind"),
            ("lag too large", 30, lag, "Refused/LagTooLarge"),
            ("lag at the limit", 0, lag_at_limit, "Prepare"),
            ("lag unknown", 29, lag_unknown, "wait for lag: north is unknown behind"),
            (
                "target is no member",
                29,
                no_member,
                "wait for links: north has not reported",
            ),
        ],
    );
}

/// The source's agent knows of no router.
fn without_routers(seen: &mut Seen) {
    seen.sources[0].routers = Some(RoutersSeen {
        count: 0,
        behind: Vec::new(),
        in_flight: Some(0),
    });
}

/// The target is not ready since `at(since)`.
fn unready(seen: &mut Seen, since: i64) {
    seen.target.as_mut().unwrap().ready = Some(UnitReady::NotReady("1 of 2 pods".to_owned()));
    seen.since.unready = Some(at(since));
}

#[test]
fn a_target_is_unready_only_once_that_has_lasted() {
    for (step, end) in [
        (Step::Check, "Refused/TargetNotReady"),
        (Step::Prepare, "Aborted/TargetNotReady"),
        (Step::Verify, "Aborted/TargetNotReady"),
    ] {
        for (now, want) in [(24, "wait for the target: north is not ready: 1 of 2 pods"), (25, end)] {
            let movement = after(step, now, |seen| unready(seen, 20));
            assert_eq!(short(&movement), want, "{step} after {now} s");
        }
        let mut seen = well(EPOCH);
        unready(&mut seen, 20);
        assert_eq!(wake_at(&op(step), &seen), Some(at(25)), "{step}");
    }
}

#[test]
fn whatever_check_asks_for_is_looked_at_again_right_before_writes_are_held() {
    let rows: [(fn(&mut Seen), &str); 6] = [
        (
            |seen| seen.target.as_mut().unwrap().cordoned = true,
            "Aborted/TargetCordoned",
        ),
        (
            |seen| seen.target.as_mut().unwrap().ready = None,
            "Aborted/TargetUnknown",
        ),
        (|seen| seen.members[1].links = None, "Aborted/LinksUnhealthy"),
        (|seen| seen.members[0].lag = None, "Aborted/LagTooLarge"),
        (|seen| seen.sources[0].routers = None, "Aborted/SourceUnknown"),
        (|seen| without_routers(seen), "Aborted/RoutersMissing"),
    ];
    for (change, want) in rows {
        // Prepare has been unfit since it was entered; Verify, which may take hours, since its rows were equal.
        for (step, since, late) in [(Step::Prepare, 0, 30), (Step::Verify, 7200, 7230)] {
            let say = |now: i64| {
                let movement = after(step, now, |seen| {
                    change(seen);
                    seen.since.unfit = Some(at(since));
                });
                short(&movement)
            };
            let early = say(late - 1);
            assert!(
                early.starts_with("wait for") || early == "Aborted/TargetCordoned",
                "{step}: {early}"
            );
            assert_eq!(say(late), want, "{step}");
        }
    }
}

#[test]
fn a_source_or_a_target_without_a_member_of_a_store_whose_rows_move_is_refused() {
    for (members, want) in [
        (vec!["north", "south"], "Refused/SourceHasNoMember"),
        (vec!["east", "south"], "Refused/TargetHasNoMember"),
        (vec!["east", "north"], "Prepare"),
    ] {
        let mut op = op(Step::Check);
        op.stores[0].members = members.into_iter().map(unit).collect();
        let mut seen = well(EPOCH);
        seen.stores = Some(op.stores.clone());
        assert_eq!(short(&next(&op, &seen, at(0))), want);
    }
}

#[test]
fn stores_that_change_end_it_before_the_commit_point_and_nothing_after() {
    let rows: [(&str, fn(&mut Seen)); 5] = [
        ("gone", |seen| seen.stores = Some(Vec::new())),
        ("another one", |seen| {
            let stores = seen.stores.as_mut().unwrap();
            let mut other = stores[0].clone();
            other.store = "bills".into();
            stores.push(other);
        }),
        ("one more member", |seen| {
            let stores = seen.stores.as_mut().unwrap();
            stores[0].members.push(unit("west"));
        }),
        ("one member less", |seen| {
            drop(seen.stores.as_mut().unwrap()[0].members.pop())
        }),
        ("of another keyspace", |seen| {
            seen.stores.as_mut().unwrap()[0].keyspace = "carts".into()
        }),
    ];
    for step in Step::ALL {
        let well = short(&after(step, 1, |_| {}));
        for (what, change) in rows {
            let want = match step {
                Step::Check => "Refused/StoresChanged",
                Step::Commit | Step::Open | Step::Settle => &well,
                Step::Prepare | Step::Verify | Step::Hold | Step::Fence | Step::Drain => "Aborted/StoresChanged",
            };
            assert_eq!(short(&after(step, 1, change)), want, "{step}, {what}");
        }
        // What cannot be read has not changed, and another order is no change.
        for change in [(|seen| seen.stores = None) as fn(&mut Seen), |seen| {
            seen.stores.as_mut().unwrap()[0].members.reverse()
        }] {
            assert_eq!(short(&after(step, 1, change)), well, "{step}");
        }
    }
}

#[test]
fn prepare_waits_for_links_and_gives_up() {
    let broken: fn(&mut Seen) = |seen| seen.members[0].links = Some(Err("orders: no slot".to_owned()));
    check(
        Step::Prepare,
        &[
            ("link broken", 29, broken, "wait for links: north: orders: no slot"),
            ("link broken", 30, broken, "Aborted/LinksUnhealthy"),
        ],
    );
    let mut full = op(Step::Prepare);
    full.verify = Verify::Full;
    assert_eq!(short(&next(&full, &well(EPOCH), at(1))), "Verify");
}

#[test]
fn verify_compares_again_what_differs_until_it_agrees_or_ten_rounds_are_over_which_give_rows_time_to_arrive() {
    let compared = |differing: &str| {
        vec![StoreCompared {
            store: "orders".into(),
            keyspace: "users".into(),
            rows: 9,
            differing: slots(differing),
        }]
    };
    for (round, differing, want) in [
        (0, None, "wait for the comparison of rows: no side has answered"),
        (0, Some(""), "Hold"),
        (0, Some("1,3"), "again 1,3"),
        (8, Some("3"), "again 3"),
        (9, Some("3"), "Aborted/RowsDiffer"),
        (9, Some(""), "Hold"),
    ] {
        let mut op = op(Step::Verify);
        op.round = round;
        let mut seen = well(EPOCH);
        seen.compared = differing.map(compared);
        assert_eq!(short(&next(&op, &seen, at(99))), want, "round {round}, {differing:?}");
    }
    // Rows in flight get ever more time to arrive.
    for (round, milliseconds, want) in [
        (0, 0, "again 3"),
        (
            1,
            99,
            "wait for the comparison of rows: round 3 of at most 10, of 1 slots that differ or whose rows are under way",
        ),
        (1, 100, "again 3"),
        (
            8,
            25_499,
            "wait for the comparison of rows: round 10 of at most 10, of 1 slots that differ or whose rows are under way",
        ),
        (8, 25_500, "again 3"),
    ] {
        let mut op = op(Step::Verify);
        op.round = round;
        let mut seen = well(EPOCH);
        seen.compared = Some(compared("3"));
        let now = at(0) + SignedDuration::from_millis(milliseconds);
        assert_eq!(
            short(&next(&op, &seen, now)),
            want,
            "round {round} after {milliseconds} ms"
        );
        assert_eq!(
            looks_again_at(&op, &seen).is_some_and(|at| at > now),
            want.starts_with("wait")
        );
    }
    let missing: fn(&mut Seen) = |seen| {
        let side = |unit: &str, why: Option<&str>| Uncompared {
            store: "orders".into(),
            unit: common::unit(unit),
            why: why.map(str::to_owned),
        };
        seen.compared = None;
        seen.uncompared = vec![side("east", None), side("north", Some("permission denied"))];
    };
    let who = "wait for the comparison of rows: orders at north: permission denied; orders at east";
    check(Step::Verify, &[("sides are missing", 99, missing, who)]);
    let cordoned: fn(&mut Seen) = |seen| seen.target.as_mut().unwrap().cordoned = true;
    check(
        Step::Verify,
        &[("target cordoned", 0, cordoned, "Aborted/TargetCordoned")],
    );
}

fn no_fence(seen: &mut Seen) {
    seen.sources[0].fence = None;
}

#[test]
fn hold_passes_only_when_every_router_holds_and_none_has_a_write_under_way() {
    fn routers(seen: &mut Seen) -> &mut RoutersSeen {
        no_fence(seen);
        seen.sources[0].routers.as_mut().unwrap()
    }
    let behind: fn(&mut Seen) = |seen| routers(seen).behind = vec!["r1".to_owned()];
    let unknown: fn(&mut Seen) = |seen| routers(seen).in_flight = None;
    let busy: fn(&mut Seen) = |seen| routers(seen).in_flight = Some(3);
    let unrouted: fn(&mut Seen) = |seen| {
        no_fence(seen);
        without_routers(seen);
    };
    check(
        Step::Hold,
        &[
            (
                "a router is behind",
                9,
                behind,
                "wait for routers: east/r1 does not hold yet",
            ),
            ("a router is behind", 10, behind, "Aborted/FenceBudget"),
            (
                "in flight unknown",
                9,
                unknown,
                "wait for writes in flight: unknown at east",
            ),
            ("three in flight", 9, busy, "wait for writes in flight: 3 at east"),
            ("three in flight", 10, busy, "Aborted/FenceBudget"),
            (
                "source not seen",
                9,
                |seen| seen.sources.clear(),
                "wait for routers: east has not reported",
            ),
            ("no fence yet, and late", 99, no_fence, "Fence"),
            (
                "no router",
                9,
                unrouted,
                "wait for routers: no router of east is connected to its agent, so nobody counts its writes",
            ),
            ("no router", 10, unrouted, "Aborted/FenceBudget"),
        ],
    );
}

#[test]
fn only_a_fence_of_this_epoch_passes_hold_and_fence() {
    let other: fn(&mut Seen) = |seen| seen.sources[0].fence.as_mut().unwrap().epoch = Epoch::new(1, 19);
    let newer: fn(&mut Seen) = |seen| seen.sources[0].fence.as_mut().unwrap().epoch = Epoch::new(1, 21);
    check(
        Step::Hold,
        &[
            ("fence of an older epoch", 1, other, "Fence"),
            ("fence of a newer epoch", 1, newer, "Fence"),
        ],
    );
    check(
        Step::Fence,
        &[
            ("fence of an older epoch", 9, other, "wait for the fence of east"),
            ("fence of a newer epoch", 9, newer, "wait for the fence of east"),
            ("no fence", 9, no_fence, "wait for the fence of east"),
            ("no fence", 10, no_fence, "Aborted/FenceBudget"),
        ],
    );
    for step in [Step::Hold, Step::Fence] {
        let entered = after(step, 1, |_| {});
        let Move::Enter { positions, .. } = entered else {
            panic!("{entered:?}")
        };
        assert_eq!(positions, vec![position()], "{step}");
    }
}

#[test]
fn members_may_follow_the_fence_by_themselves_for_a_moment_and_then_the_positions_are_published() {
    let unknown: fn(&mut Seen) = |seen| seen.members[0].reach = None;
    let waiting: fn(&mut Seen) = |seen| seen.members[1].reach = Some(Reach::Waiting("no fence of east".to_owned()));
    for (step, drain) in [(Step::Hold, "Drain with [Fence]"), (Step::Fence, "Drain")] {
        check(
            step,
            &[
                (
                    "unknown",
                    0,
                    unknown,
                    "wait for the last writes at north: has not reported",
                ),
                ("unknown", 1, unknown, drain),
                (
                    "waiting",
                    0,
                    waiting,
                    "wait for the last writes at south: no fence of east",
                ),
                ("waiting", 1, waiting, drain),
                // Whoever followed has waited for what only the source had of a member that is away.
                ("a member is away", 0, south_away, drain),
                (
                    "the target is not known to answer",
                    0,
                    |seen| seen.members[0].reachable = None,
                    "wait for the last writes at north: it is not known whether its member cluster answers",
                ),
            ],
        );
    }
    let until = looks_again_at(&op(Step::Hold), &well(EPOCH)).unwrap();
    assert!(at(0) < until && until < at(1));
}

#[test]
fn drain_waits_until_every_member_that_answers_is_known_to_have_reached_the_position() {
    let unknown: fn(&mut Seen) = |seen| seen.members[0].reach = None;
    let waiting: fn(&mut Seen) = |seen| seen.members[1].reach = Some(Reach::Waiting("not applied yet".to_owned()));
    let broken: fn(&mut Seen) = |seen| seen.members[1].reach = Some(Reach::Broken("link down".to_owned()));
    let no_target: fn(&mut Seen) = |seen| seen.members.retain(|member| member.unit == unit("south"));
    check(
        Step::Drain,
        &[
            (
                "reach unknown",
                29,
                unknown,
                "wait for the last writes at north: has not reported",
            ),
            ("reach unknown", 30, unknown, "Aborted/DrainBudget"),
            (
                "a third member waits",
                29,
                waiting,
                "wait for the last writes at south: not applied yet",
            ),
            (
                "a link is broken",
                29,
                broken,
                "wait for the last writes at south: link down",
            ),
            ("a link is broken", 30, broken, "Aborted/DrainBudget"),
            (
                "target not seen",
                29,
                no_target,
                "wait for the last writes at north: has not reported",
            ),
            ("reached, but late", 99, |_| {}, "Commit"),
        ],
    );
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
            let again = wake_at(&op(step), &seen)
                .into_iter()
                .chain(looks_again_at(&op(step), &seen));
            let left = SignedDuration::from_millis(patience - elapsed);
            assert!(again.min().unwrap() <= now + left, "{step}: it is looked at in time");
        }
    }
    // What this operator has seen for a moment only is over all the same where the record says so.
    let late = after(Step::Drain, 30, |seen| {
        follows(seen);
        seen.since.entered = [(Step::Drain, at(29))].into();
    });
    assert_eq!(short(&late), "Aborted/DrainBudget");
}

#[test]
fn while_writes_are_held_a_target_that_stays_unready_gets_neither_time_nor_slots() {
    let holds: fn(&mut Seen) = |seen| {
        seen.sources[0].fence = None;
        seen.sources[0].routers.as_mut().unwrap().in_flight = Some(1);
    };
    let fences: fn(&mut Seen) = |seen| seen.sources[0].fence = None;
    let drains: fn(&mut Seen) = |seen| seen.members[0].reach = None;
    for (step, waits) in [(Step::Hold, holds), (Step::Fence, fences), (Step::Drain, drains)] {
        for (now, over) in [(6, false), (7, true)] {
            let movement = after(step, now, |seen| {
                waits(seen);
                unready(seen, 2);
            });
            let got = short(&movement);
            assert_eq!(got == "Aborted/TargetNotReady", over, "{step} after {now} s: {got}");
            assert_eq!(got.starts_with("wait for"), !over, "{step} after {now} s: {got}");
        }
        let mut seen = well(EPOCH);
        waits(&mut seen);
        unready(&mut seen, 2);
        assert_eq!(wake_at(&op(step), &seen), Some(at(7)), "{step}");
        // Nor does it get the slots: it could not open them, and nobody could take them back.
        for (now, want) in [(6, "Commit"), (7, "Aborted/TargetNotReady")] {
            let got = short(&after(step, now, |seen| unready(seen, 2)));
            assert!(got.starts_with(want), "{step} after {now} s: {got}");
        }
    }
    let named = after(Step::Drain, 3, |seen| {
        drains(seen);
        seen.target.as_mut().unwrap().problem = Some("store orders: connection refused".to_owned());
    });
    assert_eq!(
        short(&named),
        "wait for the last writes at north: store orders: connection refused"
    );
}

#[test]
fn drain_gives_up_early_only_for_what_has_been_broken_for_long() {
    let broken = |seen: &mut Seen, since: Option<i64>| {
        seen.members[1].reach = Some(Reach::Broken("link down".to_owned()));
        seen.since.broken = since.map(|since| (unit("south"), at(since))).into_iter().collect();
    };
    for (since, now, want) in [
        (None, 8, "wait for the last writes at south: link down"),
        (Some(3), 7, "wait for the last writes at south: link down"),
        (Some(3), 8, "Aborted/LinkBroken"),
    ] {
        assert_eq!(
            short(&after(Step::Drain, now, |seen| broken(seen, since))),
            want,
            "{since:?} {now}"
        );
    }
    // Words of before count for nothing once it is not broken any more, or nobody waits for it.
    let mended = after(Step::Drain, 20, |seen| {
        broken(seen, Some(3));
        seen.members[1].reach = None;
    });
    assert_eq!(short(&mended), "wait for the last writes at south: has not reported");
    let away = after(Step::Drain, 20, |seen| {
        broken(seen, Some(3));
        seen.members[1].reachable = Some(false);
    });
    assert_eq!(short(&away), "Commit");
    let mut seen = well(EPOCH);
    broken(&mut seen, Some(3));
    assert_eq!(wake_at(&op(Step::Drain), &seen), Some(at(8)));
}

#[test]
fn what_an_agent_says_of_its_stores_is_said_of_the_fence_and_the_opening() {
    let why = || Some("store orders: held up by 4711".to_owned());
    let fence = after(Step::Fence, 9, |seen| {
        (seen.sources[0].fence, seen.sources[0].problem) = (None, why())
    });
    assert_eq!(
        short(&fence),
        "wait for the fence of east: store orders: held up by 4711"
    );
    let fence = after(Step::Fence, 10, |seen| {
        (seen.sources[0].fence, seen.sources[0].problem) = (None, why())
    });
    assert!(
        matches!(&fence, Move::End(Outcome::Aborted { message, .. }) if message.ends_with("held up by 4711")),
        "{fence:?}"
    );
    let open = after(Step::Open, 9, |seen| {
        let target = seen.target.as_mut().unwrap();
        (target.applied, target.problem) = (None, why());
    });
    assert_eq!(
        short(&open),
        "wait for the databases to open of north: store orders: held up by 4711"
    );
}

#[test]
fn open_waits_without_end_for_the_target_to_stand_at_the_commit() {
    fn applied(seen: &mut Seen, epoch: Option<Epoch>) {
        seen.target.as_mut().unwrap().applied = epoch;
    }
    check(
        Step::Open,
        &[
            (
                "unknown",
                1_000_000,
                |seen| applied(seen, None),
                "wait for the databases to open of north",
            ),
            (
                "older",
                1_000_000,
                |seen| applied(seen, Some(Epoch::new(1, 19))),
                "wait for the databases to open of north",
            ),
            (
                "target not seen",
                1_000_000,
                |seen| seen.target = None,
                "wait for the databases to open of north",
            ),
            ("newer", 0, |seen| applied(seen, Some(Epoch::new(1, 21))), "Settle"),
            (
                "a higher term",
                0,
                |seen| applied(seen, Some(Epoch::new(2, 1))),
                "Settle",
            ),
        ],
    );
}

#[test]
fn settle_waits_for_source_and_target_without_end_and_for_bystanders_a_while() {
    fn router(seen: &mut Seen, name: &str) {
        let (unit, router) = (unit(name), Some("r1".to_owned()));
        seen.routers_behind = Some(vec![RouterBehind { unit, router }]);
    }
    let behind: fn(&mut Seen) = |seen| router(seen, "south");
    let own: fn(&mut Seen) = |seen| router(seen, "east");
    fn silent(seen: &mut Seen, name: &str) {
        let (unit, router) = (unit(name), None);
        seen.routers_behind = Some(vec![RouterBehind { unit, router }]);
    }
    let new: fn(&mut Seen) = |seen| silent(seen, "west");
    let broken: fn(&mut Seen) = |seen| seen.sources[0].links = Some(Err("no slot".to_owned()));
    let bystander: fn(&mut Seen) = |seen| {
        router(seen, "west");
        seen.members[1].links = Some(Err("no stream".to_owned()));
    };
    check(
        Step::Settle,
        &[
            (
                "a bystander's router is behind",
                29,
                behind,
                "wait for routers: south/r1 routes by an older table",
            ),
            (
                "a bystander's router is behind",
                30,
                behind,
                "Succeeded without south/r1 routes by an older table",
            ),
            ("a bystander's link", 29, bystander, "wait for links: south: no stream"),
            (
                "a bystander's link and a router",
                30,
                bystander,
                "Succeeded without south: no stream; west/r1 routes by an older table",
            ),
            (
                "the source's router is behind",
                9999,
                own,
                "wait for routers: east/r1 routes by an older table",
            ),
            (
                "a unit that never reported",
                29,
                new,
                "wait for routers: west has not reported its routers",
            ),
            (
                "a unit that never reported",
                30,
                new,
                "Succeeded without west has not reported its routers",
            ),
            (
                "the target does not report",
                9999,
                |seen| silent(seen, "north"),
                "wait for routers: north has not reported its routers",
            ),
            (
                "the source does not report",
                9999,
                |seen| silent(seen, "east"),
                "wait for routers: east has not reported its routers",
            ),
            (
                "nobody looked",
                9999,
                |seen| seen.routers_behind = None,
                "wait for routers: what the units report is not known",
            ),
            ("reverse link broken", 9999, broken, "wait for links: east: no slot"),
        ],
    );
}

/// South's cluster does not answer, and what is known of it is as bad as can be.
fn south_away(seen: &mut Seen) {
    let south = &mut seen.members[1];
    assert_eq!(south.unit, unit("south"));
    (south.reachable, south.links, south.lag, south.reach) = (Some(false), None, None, None);
}

#[test]
fn a_member_that_is_away_is_waited_for_nowhere_and_is_behind_at_the_commit() {
    for (step, want, behind_then) in [
        (Step::Check, "Prepare", false),
        (Step::Prepare, "Hold past Verify", true),
        (Step::Drain, "Commit", true),
        (Step::Settle, "Succeeded", false),
    ] {
        let movement = after(step, 0, south_away);
        assert_eq!(short(&movement), want, "{step}");
        if let Move::Enter { behind, .. } = movement {
            let want: &[_] = if behind_then { &[unit("south")] } else { &[] };
            assert_eq!(behind, want, "{step}");
        }
    }
    // What it reported for this very operation before it went away counts.
    let reached = after(Step::Drain, 0, |seen| {
        south_away(seen);
        seen.members[1].reach = Some(Reach::Reached);
    });
    assert!(
        matches!(&reached, Move::Enter { behind, .. } if behind.is_empty()),
        "{reached:?}"
    );
}

#[test]
fn a_member_of_which_nothing_says_that_it_is_away_is_waited_for() {
    let unknown: fn(&mut Seen) = |seen| {
        south_away(seen);
        seen.members[1].reachable = None;
    };
    check(
        Step::Check,
        &[("south unknown", 0, unknown, "wait for links: south has not reported")],
    );
    check(
        Step::Drain,
        &[
            (
                "south unknown",
                29,
                unknown,
                "wait for the last writes at south: has not reported",
            ),
            ("south unknown", 30, unknown, "Aborted/DrainBudget"),
        ],
    );
}

#[test]
fn the_target_is_never_behind() {
    let away: fn(&mut Seen) = |seen| seen.members[0].reachable = Some(false);
    let away_and_missing: fn(&mut Seen) = |seen| {
        seen.members[0].reachable = Some(false);
        seen.members[0].reach = Some(Reach::Waiting("x".to_owned()));
    };
    let doubtful: fn(&mut Seen) = |seen| seen.members[0].reachable = None;
    check(
        Step::Drain,
        &[
            (
                "target away",
                29,
                away,
                "wait for the last writes at north: its member cluster does not answer",
            ),
            ("target away", 30, away, "Aborted/DrainBudget"),
            (
                "target away, rows missing",
                29,
                away_and_missing,
                "wait for the last writes at north: its member cluster does not answer",
            ),
            (
                "target not known to answer",
                29,
                doubtful,
                "wait for the last writes at north: it is not known whether its member cluster answers",
            ),
        ],
    );
    // Not even where it was away when writes began to be held.
    let mut op = op(Step::Drain);
    op.behind = vec![unit("north")];
    let mut seen = well(EPOCH);
    seen.members[0].reach = Some(Reach::Waiting("0/1 of east is applied".to_owned()));
    assert_eq!(
        short(&next(&op, &seen, at(1))),
        "wait for the last writes at north: 0/1 of east is applied"
    );
}

#[test]
fn who_comes_back_while_writes_are_held_does_not_stretch_the_pause() {
    let mut op = op(Step::Drain);
    op.behind = vec![unit("south")];
    let mut seen = well(EPOCH);
    seen.members[1].reach = Some(Reach::Waiting("hours of writes".to_owned()));
    let movement = next(&op, &seen, at(1));
    assert!(
        matches!(&movement, Move::Enter { step: Step::Commit, behind, .. } if *behind == [unit("south")]),
        "{movement:?}"
    );
    seen.members[1].reach = Some(Reach::Reached);
    let movement = next(&op, &seen, at(1));
    assert!(
        matches!(&movement, Move::Enter { step: Step::Commit, behind, .. } if behind.is_empty()),
        "{movement:?}"
    );
    // Nor is the end held up by the links of a member that is behind.
    op.step = Step::Settle;
    seen.members[1].links = Some(Err("it waits for the writes of east".to_owned()));
    assert_eq!(short(&next(&op, &seen, at(1))), "Succeeded");
}

#[test]
fn nobody_waits_for_rows_that_only_the_source_got_from_a_unit_that_is_away() {
    let full = |seen: &mut Seen| {
        let vector = &mut seen.sources[0].fence.as_mut().unwrap().positions[0].vector;
        for name in ["north", "south"] {
            vector.push(UnitPosition {
                unit: unit(name),
                position: "0/77".to_owned(),
            });
        }
    };
    for (away, want) in [
        (None, vec!["east", "north", "south"]),
        (Some("south"), vec!["east", "north"]),
        // The target's own rows in the source are a matter of the target's: they stay.
        (Some("north"), vec!["east", "north", "south"]),
    ] {
        let entered = after(Step::Fence, 1, |seen| {
            full(seen);
            for member in seen
                .members
                .iter_mut()
                .filter(|member| Some(member.unit.as_str()) == away)
            {
                member.reachable = Some(false);
            }
        });
        let Move::Enter { positions, .. } = entered else {
            panic!("{entered:?}")
        };
        let units: Vec<_> = positions[0].vector.iter().map(|at| at.unit.as_str()).collect();
        assert_eq!(units, want, "{away:?} away");
    }
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
