//! Members that are away: who is waited for, and who is behind.

use super::common::{at, unit, well};
use super::{EPOCH, after, check, op, short, south_away};
use multiactive_core::promotion::{Move, Reach, Seen, Step, UnitPosition, next};

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
