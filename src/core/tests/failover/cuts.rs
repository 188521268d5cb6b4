//! Cut: who has received what, who is behind, and whether the loss may be.

use crate::common::{at, unit};
use crate::{accept, begun, brought_to, pass, progress, recorded, seconds, short, usable};
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Evidence, Loss, Move, RecordError, Seen, Step, is_divided, record};
use multiactive_core::slots::SlotSet;

fn loss(movement: &Move) -> &Loss {
    let Move::Enter {
        evidence: Evidence::Loss(loss),
        ..
    } = movement
    else {
        panic!("{movement:?}");
    };
    loss
}

fn behind(movement: &Move) -> Vec<String> {
    let Move::Enter { behind, .. } = movement else {
        panic!("{movement:?}");
    };
    behind.iter().map(ToString::to_string).collect()
}

#[test]
fn every_survivor_that_answers_has_cut_the_lost_unit_and_who_does_not_is_behind() {
    let table = brought_to(begun(), Step::Cut);
    let accepted = |change: fn(&mut Seen), now| {
        pass(&table, now, |seen| {
            seen.decisions = vec![accept("east")];
            change(seen);
        })
    };
    assert_eq!(behind(&accepted(|_| {}, 0)), [""; 0]);
    let silent: fn(&mut Seen) = |seen| seen.failover.cuts.retain(|cut| cut.unit != unit("south"));
    assert_eq!(short(&accepted(silent, 9)), "wait for the cut at south");
    assert_eq!(behind(&accepted(silent, 10)), ["south"]);
    let old: fn(&mut Seen) = |seen| seen.failover.cuts[1].epoch = Epoch::new(1, 2);
    assert_eq!(
        short(&accepted(old, 9)),
        "wait for the cut at south",
        "an answer of another epoch is none"
    );
    let away: fn(&mut Seen) = |seen| {
        seen.failover.cuts.pop();
        seen.members[1].reachable = Some(false);
    };
    assert_eq!(behind(&accepted(away, 0)), ["south"]);
    let without_store: fn(&mut Seen) = |seen| seen.failover.cuts[1].stores.clear();
    assert_eq!(
        short(&accepted(without_store, 9)),
        "wait for the cut at south",
        "one of its stores has not said"
    );
    let less: fn(&mut Seen) = |seen| seen.failover.cuts[1].stores[0].progress.at = 40;
    assert_eq!(
        behind(&accepted(less, 0)),
        ["south"],
        "what it lacks is compared before it is linked"
    );
    let silent_target: fn(&mut Seen) = |seen| seen.failover.cuts.retain(|cut| cut.unit != unit("north"));
    assert_eq!(short(&accepted(silent_target, 9)), "wait for the cut at north");
    assert_eq!(
        short(&accepted(silent_target, 10)),
        "to south: north does not answer to Cut"
    );
}

#[test]
fn who_received_most_becomes_the_target_and_a_known_tail_is_given_up_only_on_a_persons_word() {
    let table = brought_to(begun(), Step::Cut);
    let more = |seen: &mut Seen| seen.failover.cuts[1].stores[0].progress = progress(60);
    let moved = pass(&table, 0, more);
    assert_eq!(short(&moved), "to south: south has received more of east than north");
    let table_of_south = recorded(&table, &moved);
    let op = &table_of_south.operations[0];
    assert_eq!(
        (op.target.as_str(), op.step, op.epoch),
        ("south", Step::Cut, table.operations[0].epoch)
    );
    assert_eq!(op.failover.as_ref().unwrap().retargeted[0].from, unit("north"));
    // It can neither be the target nor hand its rows on: then a person decides, though the bound would allow it.
    let rows: [(fn(&mut Seen), &str); 3] = [
        (
            |seen| seen.failover.cuts[1].stores[0].progress.log = "another".to_owned(),
            "it cannot be told which of the two has more of east in store orders",
        ),
        (
            |seen| {
                seen.failover.candidates[1].cordoned = true;
                seen.failover.divided = true;
            },
            "slots of east go to several units, or stay",
        ),
        (
            |seen| {
                seen.failover.candidates = vec![usable("north")];
                seen.failover.cuts[1].incomplete = Some("it was away".to_owned());
            },
            "south may lack other rows: it was away",
        ),
    ];
    for (change, why) in rows {
        let blocked = pass(&table, 0, |seen| {
            more(seen);
            seen.failover.lease.as_mut().unwrap().renewals[0].age = seconds(2);
            change(seen);
        });
        assert!(
            short(&blocked).starts_with("wait for the decision AcceptDataLoss of users-0: south has received more"),
            "{blocked:?}"
        );
        assert!(short(&blocked).contains(why), "{blocked:?}");
        let given_up = pass(&table, 0, |seen| {
            more(seen);
            change(seen);
            seen.decisions = vec![accept("users-0")];
        });
        assert_eq!(loss(&given_up).given_up, [unit("south")]);
        assert_eq!(behind(&given_up), ["south"]);
    }
}

#[test]
fn who_cannot_be_the_target_hands_on_what_it_has_more_and_the_target_waits_for_all_of_it() {
    let mut table = brought_to(begun(), Step::Cut);
    table.operations[0].failover.as_mut().unwrap().named = true;
    let behind_south = |north: u64| {
        move |seen: &mut Seen| {
            seen.failover.cuts[0].stores[0].progress = progress(north);
            seen.failover.cuts[1].stores[0].progress = progress(60);
            seen.decisions = vec![accept("east")];
        }
    };
    let handed_on = pass(&table, 0, behind_south(50));
    assert_eq!(short(&handed_on), "handed on by south");
    let table = recorded(&table, &handed_on);
    let tail = table.operations[0].failover.as_ref().unwrap().tail.as_ref().unwrap();
    assert_eq!((tail.from.clone(), tail.since), (unit("south"), at(0)));
    assert!(
        record(&table, &table.operations[0].uid, &handed_on, at(1)).is_err(),
        "once"
    );
    // A part of it is not enough, and even a person's word is not asked for before there was time for it.
    for north in [50, 59] {
        assert_eq!(
            short(&pass(&table, 9, behind_south(north))),
            "wait for rows that are handed on: what south has received more of east than north"
        );
    }
    let all = pass(&table, 9, behind_south(60));
    assert_eq!((loss(&all).given_up.len(), behind(&all).len()), (0, 0));
    // Where it takes longer, a person may give it up; once it is there, nobody need.
    let late = pass(&table, 10, |seen| {
        behind_south(50)(seen);
        seen.decisions.clear();
    });
    assert!(
        short(&late).contains("its rows are being copied to north and are not all there after 10s"),
        "{late:?}"
    );
    assert_eq!(loss(&pass(&table, 10, behind_south(50))).given_up, [unit("south")]);
    assert!(loss(&pass(&table, 11, behind_south(60))).given_up.is_empty());
    // Who is silent hands nothing on, and holds nobody up for longer than all.
    let silent = |now| {
        pass(&table, now, |seen| {
            behind_south(50)(seen);
            seen.failover.cuts.pop();
        })
    };
    assert_eq!(short(&silent(9)), "wait for the cut at south");
    assert_eq!(behind(&silent(10)), ["south"]);
    // Another target begins anew.
    let moved = Move::Retarget {
        target: unit("south"),
        why: String::new(),
    };
    assert_eq!(
        recorded(&table, &moved).operations[0].failover.as_ref().unwrap().tail,
        None
    );
    // It is neither the target, nor the lost unit, and only in Cut.
    for from in ["north", "east"] {
        let movement = Move::HandOn { from: unit(from) };
        assert!(
            record(&table, &table.operations[0].uid, &movement, at(0)).is_err(),
            "{from}"
        );
    }
    for step in [Step::Fence, Step::Drain] {
        let table = brought_to(begun(), step);
        assert!(
            record(&table, &table.operations[0].uid, &handed_on, at(0)).is_err(),
            "{step}"
        );
    }
}

#[test]
fn the_rows_that_move_are_all_of_a_lost_units_log_unless_some_of_its_slots_go_another_way() {
    let table = brought_to(begun(), Step::Cut);
    let op = &table.operations[0];
    assert!(!is_divided(&table, op));
    let mut narrower = op.clone();
    let first = narrower.moves[0].slots.iter().next().unwrap();
    narrower.moves[0].slots = narrower.moves[0].slots.difference(&SlotSet::range(first, first));
    assert!(is_divided(&table, &narrower), "a slot stays");
    let mut two = table.clone();
    let mut other = op.clone();
    other.uid = op.object().part(2);
    two.operations.push(other.clone());
    assert!(is_divided(&two, op), "another operation of the same Failover");
    other.uid = "another".into();
    two.operations[1] = other;
    assert!(!is_divided(&two, op), "of another one");
}

#[test]
fn a_loss_above_the_limit_or_unknown_needs_a_word_that_counts_now_and_stands_in_the_record() {
    // 12 s, and 5 s are allowed.
    let table = brought_to(begun(), Step::Cut);
    let blocked = pass(&table, 0, |_| {});
    assert_eq!(
        short(&blocked),
        "wait for the decision AcceptDataLoss of users-0: writes of east may be lost: up to 12s, maxDataLoss is 5s"
    );
    let unknown = pass(&table, 0, |seen| {
        seen.failover
            .cuts
            .iter_mut()
            .for_each(|cut| cut.stores[0].progress.at = 49)
    });
    assert!(
        short(&unknown).ends_with("may be lost: unknown, maxDataLoss is 5s"),
        "{unknown:?}"
    );
    for (target, not_after, now, counts) in [
        ("east", None, 0, true),
        ("north", None, 0, true),
        ("users-0", None, 0, true),
        ("users-9", None, 0, false),
        ("east", Some(at(5)), 5, true),
        ("east", Some(at(5)), 6, false),
    ] {
        let movement = pass(&table, now, |seen| {
            let mut decision = accept(target);
            decision.not_after = not_after;
            seen.decisions = vec![decision];
        });
        assert_eq!(short(&movement) == "Drain", counts, "{target} at {now}");
        if counts {
            assert_eq!(loss(&movement).accepted.as_ref().unwrap().reason, "INC-7");
        }
    }
    let mut generous = table.clone();
    generous.operations[0].failover.as_mut().unwrap().max_data_loss = seconds(12);
    let within = pass(&generous, 0, |seen| seen.decisions = vec![accept("east")]);
    assert_eq!(loss(&within).accepted, None, "nobody's word was needed");
}

#[test]
fn no_step_is_recorded_without_its_evidence() {
    let enter = |step, evidence| Move::Enter {
        step,
        not_needed: Vec::new(),
        passed: Vec::new(),
        positions: Vec::new(),
        behind: Vec::new(),
        evidence,
    };
    for (at_step, to) in [
        (Step::Fence, Step::Cut),
        (Step::Cut, Step::Drain),
        (Step::Fence, Step::Commit),
        (Step::Cut, Step::Commit),
    ] {
        let table = brought_to(begun(), at_step);
        let error = record(&table, &table.operations[0].uid, &enter(to, Evidence::None), at(0)).unwrap_err();
        assert!(matches!(error, RecordError::OutOfOrder { .. }), "{at_step} to {to}");
    }
    let mut table = brought_to(begun(), Step::Drain);
    table.operations[0].failover.as_mut().unwrap().loss = None;
    let commit = enter(Step::Commit, Evidence::None);
    assert!(record(&table, &table.operations[0].uid, &commit, at(0)).is_err());
    // Once positions are published the target stays.
    let table = brought_to(begun(), Step::Drain);
    let retarget = Move::Retarget {
        target: unit("south"),
        why: String::new(),
    };
    assert!(record(&table, &table.operations[0].uid, &retarget, at(0)).is_err());
}
