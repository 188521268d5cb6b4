//! Cut: who has received what, who is behind, and whether the loss may be.

use crate::common::{at, unit};
use crate::{accept, begun, brought_to, dead, pass, progress, recorded, seconds, short, usable};
use multiactive_core::diff::diff;
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Evidence, Loss, Move, RecordError, Seen, Step, Tail, is_divided, record, wake_at};
use multiactive_core::slots::SlotSet;
use multiactive_core::table::RoutingTable;

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
    let rows: [(fn(&mut Seen), &str); 5] = [
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
                seen.failover.candidates[1].cordoned = true;
                seen.failover.cuts[0].incomplete = Some("it was behind".to_owned());
            },
            "north may lack other rows: it was behind",
        ),
        (
            |seen| seen.lost.push("south".into()),
            "south is lost or in quarantine itself",
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
    assert_eq!(
        (&tail.from, &tail.stores[..]),
        (&unit("south"), &[("orders".into(), progress(60))][..])
    );
    assert!(
        record(&table, &table.operations[0].uid, &handed_on, at(1)).is_err(),
        "once"
    );
    let before = table_before(&table);
    let told: Vec<_> = diff(&before, &table).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["lost-east: north takes over the rows that south has received more"]
    );
    // A part of it is not enough, and a person's word counts only once there was time for it.
    let waits = "wait for rows that are handed on: what south has received more of east than north";
    for north in [50, 59] {
        assert_eq!(short(&pass(&table, 19, behind_south(north))), waits);
    }
    let all = pass(&table, 9, behind_south(60));
    assert_eq!((loss(&all).given_up.len(), behind(&all).len()), (0, 0));
    // Where it takes longer, a person may give it up; once it is there, nobody need.
    let late = |why: Option<&str>| {
        let late = pass(&table, 20, |seen| {
            behind_south(50)(seen);
            seen.decisions.clear();
            seen.failover.untaken = why.map(str::to_owned);
        });
        short(&late)
    };
    for (why, words) in [
        (None, "north takes it over from south, which goes on; once it is there"),
        (
            Some("no rights"),
            "north takes it over from south, which failed: no rights; once it is there",
        ),
    ] {
        assert!(late(why).contains(words), "{}", late(why));
    }
    assert_eq!(loss(&pass(&table, 20, behind_south(50))).given_up, [unit("south")]);
    assert!(loss(&pass(&table, 21, behind_south(60))).given_up.is_empty());
    let wakes = wake_at(&table.operations[0], &dead(&table, &table.operations[0]), at(10));
    assert_eq!(wakes, Some(at(20)));
    // Another target begins anew, and the first may have more than it had said.
    let moved = Move::Retarget {
        target: unit("south"),
        why: String::new(),
    };
    let moved = recorded(&table, &moved);
    assert_eq!(moved.operations[0].failover.as_ref().unwrap().tail, None);
    let passed = pass(&moved, 0, |seen| seen.decisions = vec![accept("east")]);
    assert_eq!(behind(&passed), ["north"]);
    // It is neither the target, nor the lost unit, and only in Cut.
    for from in ["north", "east"] {
        let (from, stores) = (unit(from), Vec::new());
        let movement = Move::HandOn(Tail { from, stores });
        assert!(record(&table, &table.operations[0].uid, &movement, at(0)).is_err());
    }
    for step in [Step::Fence, Step::Drain] {
        let table = brought_to(begun(), step);
        assert!(
            record(&table, &table.operations[0].uid, &handed_on, at(0)).is_err(),
            "{step}"
        );
    }
}

fn table_before(table: &RoutingTable) -> RoutingTable {
    let mut before = table.clone();
    before.operations[0].failover.as_mut().unwrap().tail = None;
    before
}

#[test]
fn who_falls_silent_while_it_hands_on_has_it_still_and_only_a_person_gives_that_up() {
    let mut table = brought_to(begun(), Step::Cut);
    table.operations[0].failover.as_mut().unwrap().named = true;
    let seen = |north: u64, decided: bool, silent: bool| {
        move |seen: &mut Seen| {
            seen.failover.cuts[0].stores[0].progress = progress(north);
            seen.failover.cuts[1].stores[0].progress = progress(60);
            seen.decisions = Vec::from_iter(decided.then(|| accept("east")));
            if silent {
                seen.failover.cuts.pop();
            }
        }
    };
    table = recorded(&table, &pass(&table, 0, seen(50, false, false)));
    let silent = |now, north, decided| pass(&table, now, seen(north, decided, true));
    assert_eq!(short(&silent(9, 50, true)), "wait for the cut at south");
    assert_eq!(
        short(&silent(19, 50, true)),
        "wait for rows that are handed on: what south has received more of east than north"
    );
    let blocked = short(&silent(20, 50, false));
    assert!(
        blocked.starts_with("wait for the decision AcceptDataLoss of users-0: south has received more"),
        "{blocked}"
    );
    assert_eq!(loss(&silent(20, 50, true)).given_up, [unit("south")]);
    let all = silent(10, 60, true);
    assert_eq!((loss(&all).given_up.len(), behind(&all)), (0, vec!["south".to_owned()]));
}

#[test]
fn what_a_silent_survivor_has_is_forgotten_by_no_change_of_the_target() {
    let table = brought_to(begun(), Step::Cut);
    // South has more and may not be the target; west has what north has.
    let with_west = |south: bool| {
        move |seen: &mut Seen| {
            seen.failover.candidates[1].cordoned = true;
            seen.failover.candidates.push(usable("west"));
            seen.failover.cuts[1].stores[0].progress = progress(60);
            let mut west = seen.failover.cuts[0].clone();
            west.unit = unit("west");
            if !south {
                seen.failover.cuts.pop();
            }
            seen.failover.cuts.push(west);
            let mut member = seen.members[1].clone();
            member.unit = unit("west");
            seen.members.push(member);
        }
    };
    let mut table = table;
    table.operations[0].stores[0].members.push(unit("west"));
    let handed_on = pass(&table, 0, with_west(true));
    assert_eq!(short(&handed_on), "handed on by south");
    let table = recorded(&table, &handed_on);
    let silent = short(&pass(&table, 20, with_west(false)));
    assert!(
        silent.starts_with("wait for the decision AcceptDataLoss of users-0: south has received more"),
        "{silent}"
    );
    // Nor where the target fails, and west takes its place.
    let moved = Move::Retarget {
        target: unit("west"),
        why: String::new(),
    };
    let moved = recorded(&table, &moved);
    let failover = moved.operations[0].failover.as_ref().unwrap();
    assert_eq!(failover.tail.as_ref().unwrap().from, unit("south"));
    assert!(failover.retargeted[0].tail);
    let silent = short(&pass(&moved, 20, with_west(false)));
    assert!(silent.contains("south has received more of east than west"), "{silent}");
}

#[test]
fn of_two_stores_each_survivor_hands_on_what_it_has_more_one_after_the_other() {
    let mut table = brought_to(begun(), Step::Cut);
    let op = &mut table.operations[0];
    op.failover.as_mut().unwrap().named = true;
    let mut carts = op.stores[0].clone();
    carts.store = "carts".into();
    carts.members.push(unit("west"));
    op.stores[0].members.push(unit("west"));
    op.stores.push(carts);
    // Of orders and of carts, in the order north, south, west.
    let has = |seen: &mut Seen, has: [(u64, u64); 3]| {
        let mut west = seen.failover.cuts[1].clone();
        west.unit = unit("west");
        seen.failover.cuts.push(west);
        let mut member = seen.members[1].clone();
        member.unit = unit("west");
        seen.members.push(member);
        for (cut, (orders, carts)) in seen.failover.cuts.iter_mut().zip(has) {
            let mut second = cut.stores[0].clone();
            second.position.store = "carts".into();
            (cut.stores[0].progress, second.progress) = (progress(orders), progress(carts));
            cut.stores.push(second);
        }
        seen.decisions = vec![accept("east")];
        seen.failover.untaken = Some("why".to_owned());
    };
    let first = pass(&table, 0, |seen| has(seen, [(50, 50), (60, 50), (50, 60)]));
    assert_eq!(short(&first), "handed on by south");
    let table = recorded(&table, &first);
    // Who does it goes on, though another one has more by now, too.
    let both = pass(&table, 0, |seen| has(seen, [(55, 50), (60, 50), (60, 60)]));
    assert!(
        short(&both).ends_with("what south has received more of east than north (why)"),
        "{both:?}"
    );
    let second = pass(&table, 0, |seen| has(seen, [(60, 50), (60, 50), (50, 60)]));
    assert_eq!(short(&second), "handed on by west");
    let table = recorded(&table, &second);
    let all = pass(&table, 0, |seen| has(seen, [(60, 60), (60, 50), (50, 60)]));
    assert!(loss(&all).given_up.is_empty());
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
