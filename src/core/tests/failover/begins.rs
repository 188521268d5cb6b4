//! How a failover begins, and what it ends.

use crate::common::{self, admitted, at, orders, slots, table, unit};
use crate::{aborted, begun, brought_to, range, ranges, request, spans, usable};
use multiactive_core::promotion::{
    Choosing, Evidence, Move, Outcome, Refusal, Step, UnitReady, admit, begin, choose, record,
};
use multiactive_core::table::RoutingTable;

#[test]
fn one_failover_is_one_operation_for_each_target_in_one_write() {
    let table = table();
    let begun = begin(&table, &request(&table, "east", &ranges()), at(0)).unwrap();
    assert_eq!(begun.epoch, table.epoch.next());
    let ops: Vec<_> = begun
        .operations
        .iter()
        .map(|op| {
            (
                op.uid.as_str(),
                op.name.as_str(),
                op.target.as_str(),
                op.moves[0].slots.to_string(),
            )
        })
        .collect();
    let part = |uid, target, slots: &str| (uid, "lost-east", target, slots.to_owned());
    assert_eq!(
        ops,
        [part("uid-east.1", "north", "0-3"), part("uid-east.2", "south", "4-7")]
    );
    assert_eq!(begun.operations[0].object(), "uid-east".into());
    assert_eq!(begun.keyspaces, table.keyspaces, "nothing is fenced yet");
}

#[test]
fn a_failover_is_refused_with_what_to_do() {
    let plain = table();
    let ok = request(&plain, "east", &ranges());
    let mut nobody = ok.clone();
    let mut north = usable("north");
    north.reachable = Some(false);
    let mut south = usable("south");
    south.ready = Some(UnitReady::NotReady("no database answers".into()));
    nobody.placement = crate::placement(&plain, "east", &ranges(), &[north, south]);
    let mut stale = ok.clone();
    stale.expected_epoch = 3;
    let mut again = ok.clone();
    (again.uid, again.name) = ("uid-9".into(), "other".to_owned());
    let mut done = brought_to(begun(), Step::Fence);
    done = aborted(&done);
    let idle = request(&plain, "south", &ranges());
    for (table, request, reason, says) in [
        (
            &plain,
            &nobody,
            "NoTarget",
            "range users-0 (slots 0-3 of users): north: does not answer; south: not ready: no database answers",
        ),
        (
            &plain,
            &stale,
            "Stale",
            "changed at epoch 1.4, after the expected epoch 3",
        ),
        (&plain, &idle, "NothingOwned", "unit south owns no slots"),
        (&begun(), &ok, "AlreadyRunning", "lost-east runs already, at Check"),
        (&begun(), &again, "UnitLost", "the Failover lost-east runs, at Check"),
        (&done, &ok, "AlreadyDone", "give it another name"),
    ] {
        let refusal: Refusal = begin(table, request, at(0)).unwrap_err();
        assert_eq!(refusal.reason(), reason);
        assert!(refusal.to_string().contains(says), "{refusal}");
    }
}

/// A promotion of slots 0-3 from east to north that stands at `step`.
fn promoting(step: Step) -> RoutingTable {
    let mut table = admitted();
    let step_to = |table: &RoutingTable, step, skipped: &[Step]| {
        let movement = Move::Enter {
            step,
            not_needed: skipped.iter().map(|step| (*step, "none".to_owned())).collect(),
            passed: Vec::new(),
            positions: Vec::new(),
            behind: Vec::new(),
            evidence: Evidence::None,
        };
        record(table, &"uid-1".into(), &movement, at(0)).unwrap().unwrap()
    };
    for (next, skipped) in [
        (Step::Prepare, &[][..]),
        (Step::Hold, &[Step::Verify]),
        (Step::Fence, &[]),
        (Step::Drain, &[]),
        (Step::Commit, &[]),
        (Step::Settle, &[]),
    ] {
        if table.operations[0].step < step {
            table = step_to(&table, next, skipped);
        }
    }
    table
}

#[test]
fn a_promotion_that_waits_for_the_lost_unit_holds_up_no_failover() {
    for step in [Step::Check, Step::Prepare, Step::Hold, Step::Fence, Step::Drain] {
        // Its source is lost.
        let table = promoting(step);
        let after = begin(&table, &request(&table, "east", &ranges()), at(0)).unwrap();
        assert!(after.operations.iter().all(|op| op.name == "lost-east"), "{step}");
        let done = &after.finished[0];
        assert!(
            matches!(&done.outcome, Outcome::Aborted { reason, .. } if reason == "Superseded"),
            "{step}"
        );
        assert!(spans(&after).contains("s0@"), "{step}: {}", spans(&after));
        // Its target is lost: its source has its slots back, and only what the target owned moves.
        let after = begin(
            &table,
            &request(&table, "north", &[range("r", "8-11", &["south"])]),
            at(0),
        )
        .unwrap();
        assert_eq!(after.finished.len(), 1, "{step}");
        assert_eq!(after.operations[0].moves[0].slots, slots("8-11"), "{step}");
        assert!(
            after.keyspaces[0].span_of(0).unwrap().is_owned_by(&unit("east")),
            "{step}"
        );
    }
}

#[test]
fn a_target_that_is_lost_between_commit_and_open_is_superseded_and_fenced_at_once() {
    let all = || [range("all", "0-11", &["south"])];
    let table = promoting(Step::Open);
    let after = begin(&table, &request(&table, "north", &all()), at(0)).unwrap();
    let done = &after.finished[0];
    assert!(matches!(&done.outcome, Outcome::Failed { reason, .. } if reason == "Superseded"));
    // What it never opened and what it served are two operations: the first cannot be given back open.
    let epoch = after.epoch.epoch;
    assert_eq!(spans(&after), format!("4f1@1.{epoch},4s0@1.4,4s1@1.9,4u@0.0"));
    let moved: Vec<_> = after
        .operations
        .iter()
        .map(|op| op.moves[0].slots.to_string())
        .collect();
    assert_eq!(moved, ["8-11", "0-3"]);
    assert!(after.operations[1].failover.as_ref().unwrap().superseded.is_some());
    // One that serves already has succeeded, and its slots move on.
    let table = promoting(Step::Settle);
    let after = begin(&table, &request(&table, "north", &all()), at(0)).unwrap();
    assert_eq!(after.finished[0].outcome, Outcome::Succeeded);
    assert_eq!(after.operations.len(), 1);
}

#[test]
fn slots_go_back_to_the_unit_that_handed_them_on_only_if_they_were_provably_never_opened() {
    let table = promoting(Step::Open);
    let east = unit("east");
    for (named, target) in [(None, "south"), (Some(&east), "east")] {
        let choice = choose(Choosing {
            table: &table,
            lost: &unit("north"),
            target: named,
            ranges: &[range("all", "0-11", &["east", "south"])],
            candidates: &[usable("east"), usable("south")],
            stores: &[orders()],
        });
        let opening = choice.placed.iter().find(|placed| placed.superseded.is_some()).unwrap();
        assert_eq!(opening.target, unit(target), "{named:?}");
    }
    // Who had not applied all before the first commit may not take them either.
    let mut behind = promoting(Step::Open);
    behind.operations[0].behind = vec![unit("south")];
    let choice = crate::placement(
        &behind,
        "north",
        &[range("all", "0-11", &["south"])],
        &[usable("south")],
    );
    assert!(
        choice.unplaced[0]
            .to_string()
            .contains("south: behind: it had not applied all when move committed")
    );
}

#[test]
fn a_lost_unit_takes_part_in_no_promotion() {
    let lost = begun();
    for target in ["north", "east"] {
        let mut wanted = common::request();
        wanted.target = unit(target);
        if target == "east" {
            wanted.select = vec![("users".into(), slots("8-11"))];
        }
        wanted.name = "another".to_owned();
        let refusal = admit(&lost, &wanted, at(0)).unwrap_err();
        assert!(["UnitLost", "SlotsBusy"].contains(&refusal.reason()), "{refusal}");
    }
    let gone = brought_to(begun(), Step::Settle);
    let mut wanted = common::request();
    (wanted.name, wanted.uid, wanted.target) = ("home".to_owned(), "uid-7".into(), unit("east"));
    wanted.select = vec![("users".into(), slots("8-11"))];
    let refusal = admit(&gone, &wanted, at(0)).unwrap_err();
    assert_eq!(refusal.reason(), "UnitLost");
    assert!(refusal.to_string().contains("in quarantine since epoch"), "{refusal}");
}
