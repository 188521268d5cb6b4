//! What a recorded move makes of the table, and what is never recorded.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

mod common;

use common::{admitted, at, position, slots, unit};
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Evidence, Move, OperationKind, Outcome, RecordError, Step, WaitFor, record};
use multiactive_core::span::{SpanState, encode};
use multiactive_core::table::{FINISHED_REMEMBERED, RoutingTable};

fn enter(step: Step) -> Move {
    let positions = if step == Step::Drain {
        vec![position()]
    } else {
        Vec::new()
    };
    let not_needed = if step == Step::Hold {
        vec![(Step::Verify, "spec.verify is None".to_owned())]
    } else {
        Vec::new()
    };
    Move::Enter {
        step,
        not_needed,
        passed: Vec::new(),
        positions,
        behind: Vec::new(),
        evidence: Evidence::None,
    }
}

fn aborted() -> Move {
    Move::End(Outcome::Aborted {
        reason: "AbortRequested".to_owned(),
        message: "INC-7".to_owned(),
    })
}

fn recorded(table: &RoutingTable, movement: &Move) -> Result<Option<RoutingTable>, RecordError> {
    record(table, &"uid-1".into(), movement, at(5))
}

/// The admitted operation, brought to `step` by recording every step on the way.
fn brought_to(step: Step) -> RoutingTable {
    let mut table = admitted();
    for next in [
        Step::Prepare,
        Step::Hold,
        Step::Fence,
        Step::Drain,
        Step::Commit,
        Step::Settle,
    ] {
        if table.operations[0].step < step {
            table = recorded(&table, &enter(next)).unwrap().unwrap();
        }
    }
    assert_eq!(table.operations[0].step, step);
    table
}

fn spans(table: &RoutingTable) -> String {
    let units: Vec<_> = table.units.iter().map(|unit| unit.name.clone()).collect();
    encode(&table.keyspaces[0].spans, &units).unwrap()
}

#[test]
fn each_step_gives_the_slots_their_owner_state_and_epoch_and_leaves_the_rest() {
    for (step, want) in [
        (Step::Check, "8s0@1.4,4s1@1.9,4u@0.0"),
        (Step::Prepare, "8s0@1.4,4s1@1.9,4u@0.0"),
        (Step::Hold, "4h0@1.12,4s0@1.4,4s1@1.9,4u@0.0"),
        (Step::Fence, "4f0@1.13,4s0@1.4,4s1@1.9,4u@0.0"),
        (Step::Drain, "4f0@1.13,4s0@1.4,4s1@1.9,4u@0.0"),
        (Step::Open, "4o1@1.15,4s0@1.4,4s1@1.9,4u@0.0"),
        (Step::Settle, "4s1@1.16,4s0@1.4,4s1@1.9,4u@0.0"),
    ] {
        assert_eq!(spans(&brought_to(step)), want, "{step}");
    }
}

#[test]
fn every_record_takes_the_next_epoch_and_the_operation_keeps_that_at_which_it_asks() {
    for (step, table, operation) in [
        (Step::Prepare, 11, None),
        (Step::Hold, 12, Some(12)),
        (Step::Fence, 13, Some(12)),
        (Step::Drain, 14, Some(14)),
        (Step::Open, 15, Some(15)),
        (Step::Settle, 16, Some(16)),
    ] {
        let at_step = brought_to(step);
        assert_eq!(at_step.epoch, Epoch::new(1, table), "{step}");
        let want = operation.map_or(Epoch::NEVER, |epoch| Epoch::new(1, epoch));
        assert_eq!(at_step.operations[0].epoch, want, "{step}");
    }
}

#[test]
fn the_history_names_every_step_once_with_those_that_were_not_needed() {
    let table = recorded(&brought_to(Step::Settle), &Move::End(Outcome::Succeeded))
        .unwrap()
        .unwrap();
    let done = &table.finished[0];
    let steps: Vec<_> = done.history.iter().map(|entry| entry.step).collect();
    assert!(OperationKind::Promotion.steps().eq(steps));
    let not_needed: Vec<_> = done.history.iter().filter(|entry| entry.not_needed.is_some()).collect();
    assert_eq!(not_needed.len(), 1);
    assert_eq!(not_needed[0].step, Step::Verify);
    assert_eq!(done.epoch, table.epoch);
    assert!(table.operations.is_empty());
}

#[test]
fn an_abort_gives_the_slots_back_to_their_source_at_the_next_epoch() {
    for (step, want) in [
        (Step::Check, "8s0@1.4,4s1@1.9,4u@0.0"),
        (Step::Hold, "4s0@1.13,4s0@1.4,4s1@1.9,4u@0.0"),
        (Step::Fence, "4s0@1.14,4s0@1.4,4s1@1.9,4u@0.0"),
        (Step::Drain, "4s0@1.15,4s0@1.4,4s1@1.9,4u@0.0"),
    ] {
        let table = recorded(&brought_to(step), &aborted()).unwrap().unwrap();
        assert_eq!(spans(&table), want, "{step}");
        assert!(table.operations.is_empty() && table.finished.len() == 1, "{step}");
    }
}

#[test]
fn a_move_that_does_not_follow_is_never_recorded() {
    let not_needed = |step: Step, skipped: &[Step]| Move::Enter {
        step,
        not_needed: skipped.iter().map(|step| (*step, "made up".to_owned())).collect(),
        passed: Vec::new(),
        positions: Vec::new(),
        behind: Vec::new(),
        evidence: Evidence::None,
    };
    let passing = |step: Step, passed: &[Step]| Move::Enter {
        step,
        not_needed: Vec::new(),
        passed: passed.to_vec(),
        positions: Vec::new(),
        behind: Vec::new(),
        evidence: Evidence::None,
    };
    let refused = || {
        let (reason, message) = ("TargetNotReady".to_owned(), String::new());
        Move::End(Outcome::Refused { reason, message })
    };
    let rows = [
        (Step::Check, enter(Step::Hold)),
        (Step::Check, enter(Step::Check)),
        (Step::Check, enter(Step::Commit)),
        (Step::Check, Move::End(Outcome::Succeeded)),
        (Step::Prepare, not_needed(Step::Hold, &[])),
        (Step::Prepare, enter(Step::Prepare)),
        (Step::Hold, not_needed(Step::Drain, &[Step::Fence])),
        (Step::Prepare, passing(Step::Hold, &[Step::Verify])),
        (Step::Prepare, passing(Step::Fence, &[Step::Verify, Step::Hold])),
        (Step::Hold, passing(Step::Commit, &[Step::Fence])),
        (Step::Hold, passing(Step::Commit, &[Step::Drain, Step::Fence])),
        (
            Step::Hold,
            passing(Step::Settle, &[Step::Fence, Step::Drain, Step::Commit, Step::Open]),
        ),
        (Step::Hold, refused()),
        (Step::Fence, not_needed(Step::Commit, &[Step::Drain])),
        (Step::Drain, enter(Step::Drain)),
        (Step::Drain, enter(Step::Open)),
        (Step::Drain, enter(Step::Hold)),
        (Step::Drain, Move::End(Outcome::Succeeded)),
        (Step::Open, enter(Step::Commit)),
        (Step::Open, aborted()),
        (Step::Settle, aborted()),
        (Step::Settle, refused()),
    ];
    for (step, movement) in rows {
        let error = recorded(&brought_to(step), &movement).unwrap_err();
        assert!(
            matches!(error, RecordError::OutOfOrder { .. }),
            "{step}, {movement:?}: {error}"
        );
    }
}

#[test]
fn a_table_that_somebody_changed_meanwhile_is_refused() {
    for (step, next) in [
        (Step::Prepare, enter(Step::Hold)),
        (Step::Hold, enter(Step::Fence)),
        (Step::Fence, aborted()),
        (Step::Drain, enter(Step::Commit)),
        (Step::Open, enter(Step::Settle)),
        (Step::Settle, Move::End(Outcome::Succeeded)),
    ] {
        let mut table = brought_to(step);
        let epoch = table.epoch;
        table.keyspaces[0].set(&slots("2"), Some(&unit("south")), SpanState::Serving, epoch);
        let error = recorded(&table, &next).unwrap_err();
        assert!(matches!(error, RecordError::Misfit { slot: 2, .. }), "{step}: {error}");
        table.keyspaces.clear();
        assert!(recorded(&table, &next).is_err(), "{step} without its keyspace");
        table.operations.clear();
        let error = recorded(&table, &next).unwrap_err();
        assert!(matches!(error, RecordError::NoSuchOperation(_)), "{step}: {error}");
    }
}

#[test]
fn steps_that_were_passed_are_recorded_with_the_next_one_and_change_what_they_change() {
    for (from, passed, to) in [
        (Step::Hold, &[Step::Fence][..], Step::Drain),
        (Step::Hold, &[Step::Fence, Step::Drain], Step::Commit),
        (Step::Fence, &[Step::Drain], Step::Commit),
    ] {
        let mut movement = enter(to);
        if let Move::Enter {
            passed: with,
            positions,
            ..
        } = &mut movement
        {
            *with = passed.to_vec();
            *positions = vec![position()];
        }
        let table = recorded(&brought_to(from), &movement).unwrap().unwrap();
        let op = &table.operations[0];
        let steps: Vec<_> = op.history.iter().map(|entry| entry.step).collect();
        assert!(
            OperationKind::Promotion.steps().take(steps.len()).eq(steps),
            "{from} to {to}"
        );
        let (stands, epoch) = (op.step, table.epoch.epoch);
        let want = if to == Step::Commit {
            (Step::Open, format!("4o1@1.{epoch},4s0@1.4,4s1@1.9,4u@0.0"))
        } else {
            (Step::Drain, format!("4f0@1.{epoch},4s0@1.4,4s1@1.9,4u@0.0"))
        };
        assert_eq!((stands, spans(&table)), want, "{from} to {to}");
        assert_eq!(
            (op.epoch, &op.positions[..]),
            (table.epoch, &[position()][..]),
            "{from} to {to}"
        );
    }
}

#[test]
fn waiting_records_nothing() {
    let table = brought_to(Step::Hold);
    assert_eq!(
        recorded(&table, &Move::Wait(WaitFor::Comparison("x".to_owned()))),
        Ok(None)
    );
}

#[test]
fn the_table_remembers_the_last_256_ends() {
    let mut table = brought_to(Step::Check);
    let done = recorded(&table, &aborted()).unwrap().unwrap().finished.remove(0);
    for n in 0..FINISHED_REMEMBERED {
        let mut done = done.clone();
        done.name = format!("old-{n}");
        table.finished.push(done);
    }
    let table = recorded(&table, &aborted()).unwrap().unwrap();
    assert_eq!(table.finished.len(), FINISHED_REMEMBERED);
    assert_eq!(table.finished[0].name, "old-1", "the oldest is forgotten first");
    assert_eq!(table.finished.last().unwrap().name, "move");
}

#[test]
fn who_was_behind_at_the_commit_is_remembered_to_the_end() {
    let with = |step, names: &[&str]| {
        let mut movement = enter(step);
        if let Move::Enter { behind, .. } = &mut movement {
            *behind = names.iter().map(|name| unit(name)).collect();
        }
        movement
    };
    let held = recorded(&brought_to(Step::Prepare), &with(Step::Hold, &["south", "west"]));
    let mut table = held.unwrap().unwrap();
    assert_eq!(table.operations[0].behind, [unit("south"), unit("west")]);
    // West has reported in the meantime; the steps between say nothing about it.
    for movement in [
        enter(Step::Fence),
        enter(Step::Drain),
        with(Step::Commit, &["south"]),
        enter(Step::Settle),
        Move::End(Outcome::Succeeded),
    ] {
        let before = diff_of(&table, &movement);
        table = recorded(&table, &movement).unwrap().unwrap();
        let told = matches!(&movement, Move::Enter { step: Step::Commit, .. });
        assert_eq!(
            before.contains("behind, for their clusters or databases were away: south"),
            told,
            "{before}"
        );
    }
    assert_eq!(table.finished[0].behind, [unit("south")]);
}

/// What a person is told of a move.
fn diff_of(table: &RoutingTable, movement: &Move) -> String {
    let after = recorded(table, movement).unwrap().unwrap();
    let changes = multiactive_core::diff::diff(table, &after);
    changes.iter().map(|change| format!("{change}; ")).collect()
}

#[test]
fn what_did_not_settle_is_remembered_with_the_success() {
    let missing: Vec<String> = (0..99)
        .map(|n| format!("south/r{n} routes by an older table"))
        .collect();
    let table = recorded(&brought_to(Step::Settle), &Move::EndWithout(missing.clone()));
    let table = table.unwrap().unwrap();
    let done = &table.finished[0];
    assert_eq!(done.outcome, Outcome::Succeeded);
    assert!(
        !done.unsettled.is_empty() && missing.starts_with(&done.unsettled),
        "{done:?}"
    );
    assert!(done.unsettled.len() < 64, "the table is published often");
    for step in [Step::Check, Step::Hold, Step::Drain, Step::Open] {
        let early = recorded(&brought_to(step), &Move::EndWithout(Vec::new()));
        assert!(
            matches!(early, Err(RecordError::OutOfOrder { .. })),
            "{step}: {early:?}"
        );
    }
}

#[test]
fn the_stores_of_the_keyspaces_that_move_are_noted_and_no_others() {
    let mut request = common::request();
    let mut other = common::orders();
    (other.store, other.keyspace) = ("carts".into(), "carts".into());
    request.stores = vec![other, common::orders()];
    request.stores[1].members.reverse();
    let table = common::admitted_as(&request);
    assert_eq!(table.operations[0].stores, [common::orders()]);
}
