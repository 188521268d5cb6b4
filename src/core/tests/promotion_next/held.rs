//! Hold, Fence and Drain: writes are held.

use super::common::{at, position, unit, well};
use super::{EPOCH, after, check, op, short, south_away, unready, without_routers};
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Move, Outcome, Reach, RoutersSeen, Seen, Step, wake_at};

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
    let until = wake_at(&op(Step::Hold), &well(EPOCH), at(0)).unwrap();
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
        assert_eq!(wake_at(&op(step), &seen, at(6)), Some(at(7)), "{step}");
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
    assert_eq!(wake_at(&op(Step::Drain), &seen, at(3)), Some(at(8)));
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
