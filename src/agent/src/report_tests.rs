//! What is said, and what is not said before it is known.

use super::*;
use crate::facts::{CutFact, LinkFact, Problem};
use crate::plan::Ask;
use jiff::SignedDuration;
use multiactive_core::promotion::{Progress, StorePosition};
use multiactive_core::slots::SlotSet;
use multiactive_core::wire::{InFlight, RouterReport};
use std::time::Duration;

const TABLE: Epoch = Epoch::new(1, 9);
const OP: Epoch = Epoch::new(1, 7);

fn duty(step: Step, role: Role, stores: &[&str]) -> Duty {
    let stores = stores.iter().map(|store| StoreDuty {
        store: (*store).into(),
        ask: Ask::Nothing,
        besides: Vec::new(),
    });
    Duty {
        operation: "op".into(),
        epoch: OP,
        step,
        role,
        quiet: true,
        stores: stores.collect(),
        missing: Vec::new(),
    }
}

fn store(applied: Option<Epoch>, answer: Answer) -> StoreFacts {
    StoreFacts {
        applied,
        answers: [("op".into(), answer)].into(),
        ..StoreFacts::default()
    }
}

fn said(duty: Duty, stores: &Stores) -> OperationReport {
    let mut registry = Registry::default();
    registry.connect("r", 1);
    let (operation, writes) = ("op".into(), 0);
    let in_flight = vec![InFlight { operation, writes }];
    registry.report("r", 1, RouterReport { epoch: OP, in_flight });
    registry.pods_running(&Default::default());
    let known = Known {
        generation: Some(1),
        table: Some(TABLE),
        stores,
        duties: &[duty],
        routers: &registry,
        lease: None,
        quarantined: None,
        verification: None,
        behind: &[],
    };
    status(known, &[], Timestamp::UNIX_EPOCH).operations.remove(0)
}

fn fenced_at(epoch: Epoch, store: &str) -> Answer {
    let position = StorePosition {
        store: store.into(),
        source: "east".into(),
        vector: Vec::new(),
    };
    Answer {
        fenced: Some((epoch, position)),
        ..Answer::default()
    }
}

#[test]
fn a_fence_is_reported_only_when_it_stands_in_every_store_at_the_operations_epoch() {
    let other = Epoch::new(1, 6);
    for (a, b, want) in [
        (fenced_at(OP, "a"), fenced_at(OP, "b"), Some(2)),
        (fenced_at(OP, "a"), Answer::default(), None),
        (fenced_at(OP, "a"), fenced_at(other, "b"), None),
    ] {
        let stores = Stores::from([("a".into(), store(None, a)), ("b".into(), store(None, b.clone()))]);
        let report = said(duty(Step::Fence, Role::Source, &["a", "b"]), &stores);
        assert_eq!(report.fenced.map(|fenced| fenced.len()), want, "b: {b:?}");
    }
    let report = said(duty(Step::Fence, Role::Source, &[]), &Stores::new());
    assert_eq!(
        report.fenced,
        Some(vec![]),
        "a unit without stores is fenced with its table"
    );
    for step in [Step::Hold, Step::Fence] {
        let loud = Duty {
            quiet: false,
            ..duty(step, Role::Source, &[])
        };
        assert_eq!(
            said(loud, &Stores::new()).fenced,
            None,
            "its routers have writes under way"
        );
    }
}

#[test]
fn reach_is_known_when_every_store_has_answered_and_reached_when_all_have() {
    let broken = || Reach::Broken("no stream".into());
    let waiting = || Reach::Waiting("0/1 of east is applied".into());
    for (a, b, want) in [
        (
            Some(Reach::Reached),
            Some(Reach::Reached),
            Some((ReachState::Reached, None)),
        ),
        (
            Some(Reach::Reached),
            Some(waiting()),
            Some((ReachState::Waiting, Some("b: 0/1 of east is applied"))),
        ),
        (Some(Reach::Reached), None, None),
        (
            Some(waiting()),
            Some(broken()),
            Some((ReachState::Broken, Some("b: no stream"))),
        ),
    ] {
        let answer = |reach: Option<Reach>| Answer {
            reach: reach.map(|reach| (OP, reach)),
            ..Answer::default()
        };
        let stores = Stores::from([
            ("a".into(), store(None, answer(a))),
            ("b".into(), store(None, answer(b.clone()))),
        ]);
        let report = said(duty(Step::Drain, Role::Target, &["a", "b"]), &stores);
        let said = report
            .reach
            .as_ref()
            .map(|reach| (reach.state, reach.message.as_deref()));
        assert_eq!(said, want, "b: {b:?}");
    }
    let followed = Answer {
        reach: Some((Epoch::new(1, 6), Reach::Reached)),
        ..Answer::default()
    };
    let stores = Stores::from([("a".into(), store(None, followed))]);
    let report = said(duty(Step::Drain, Role::Target, &["a"]), &stores);
    assert_eq!(report.reach, None, "as it was asked at another epoch");
    let missing = Duty {
        missing: vec!["c".into()],
        ..duty(Step::Drain, Role::Target, &[])
    };
    let said = said(missing, &Stores::new()).reach.map(|reach| reach.state);
    assert_eq!(said, Some(ReachState::Broken), "a store that it has no member of");
}

/// What a store has of east's log, up to `at`.
fn cut_at(epoch: Epoch, store: &str, at: u64) -> Answer {
    let progress = Progress {
        log: "east/a".to_owned(),
        at,
    };
    let position = StorePosition {
        store: store.into(),
        source: "east".into(),
        vector: Vec::new(),
    };
    Answer {
        cut: Some((epoch, CutFact { progress, position })),
        ..Answer::default()
    }
}

#[test]
fn a_cut_is_reported_once_every_store_has_made_it_at_the_operations_epoch() {
    for (b, want) in [
        (cut_at(OP, "b", u64::MAX), true),
        (Answer::default(), false),
        (cut_at(Epoch::new(1, 6), "b", 9), false),
    ] {
        let stores = Stores::from([
            ("a".into(), store(None, cut_at(OP, "a", 0))),
            ("b".into(), store(None, b.clone())),
        ]);
        for role in [Role::Target, Role::Member] {
            let report = said(duty(Step::Cut, role, &["a", "b"]), &stores);
            let cut = report.cut.map(|cut| {
                let each = cut
                    .into_iter()
                    .map(|cut| format!("{} {} {}", cut.store, cut.log, cut.at));
                each.collect::<Vec<_>>()
            });
            let both = || vec!["a east/a 0".to_owned(), format!("b east/a {}", u64::MAX)];
            assert_eq!(cut, want.then(both), "b: {b:?}");
        }
    }
    let stores = Stores::from([("a".into(), store(None, cut_at(OP, "a", 7)))]);
    let missing = Duty {
        missing: vec!["c".into()],
        ..duty(Step::Cut, Role::Target, &["a"])
    };
    assert_eq!(
        said(missing, &stores).cut,
        None,
        "of a store that it has no member of it cannot say"
    );
    for (step, role) in [(Step::Cut, Role::Source), (Step::Drain, Role::Target)] {
        assert_eq!(said(duty(step, role, &["a"]), &stores).cut, None, "{step} {role:?}");
    }
}

#[test]
fn that_slots_were_never_opened_is_said_with_the_fence_and_by_every_store() {
    let answer = |epoch, opened| Answer {
        opened,
        ..fenced_at(epoch, "a")
    };
    for (a, b, want) in [
        (answer(OP, Some(false)), answer(OP, Some(false)), Some(false)),
        (answer(OP, Some(false)), answer(OP, Some(true)), Some(true)),
        (answer(OP, Some(false)), answer(OP, None), None),
        (answer(OP, Some(false)), answer(Epoch::new(1, 6), Some(false)), None),
    ] {
        let mut asked = duty(Step::Fence, Role::Source, &["a", "b"]);
        for store in &mut asked.stores {
            store.ask = Ask::Fence {
                slots: Default::default(),
                budget: SignedDuration::ZERO,
                superseded: Some("moved".into()),
            };
        }
        let stores = Stores::from([("a".into(), store(None, a)), ("b".into(), store(None, b.clone()))]);
        assert_eq!(said(asked, &stores).opened, want, "b: {b:?}");
    }
    let stores = Stores::from([("a".into(), store(None, answer(OP, None)))]);
    let plain = said(duty(Step::Fence, Role::Source, &["a"]), &stores);
    assert_eq!((plain.fenced.is_some(), plain.opened), (true, None), "nobody asked");
}

#[test]
fn one_unknown_lag_makes_the_whole_unknown() {
    let millis = |ms| Some(SignedDuration::from_millis(ms));
    for (a, b, want) in [(millis(5), millis(40), Some(40)), (millis(5), None, None)] {
        let answer = |lag| Answer {
            lag,
            ..Answer::default()
        };
        let stores = Stores::from([
            ("a".into(), store(None, answer(a))),
            ("b".into(), store(None, answer(b))),
        ]);
        assert_eq!(
            said(duty(Step::Check, Role::Member, &["a", "b"]), &stores).lag_ms,
            want,
            "b: {b:?}"
        );
        // Right before writes are held it matters again; whole seconds are a write each second.
        assert_eq!(
            said(duty(Step::Verify, Role::Target, &["a", "b"]), &stores).lag_ms,
            want.map(|_| 1000),
            "b: {b:?}"
        );
    }
}

#[test]
fn writes_in_flight_are_said_in_hold_by_the_source_alone() {
    for (step, role, want) in [
        (Step::Hold, Role::Source, Some(0)),
        (Step::Fence, Role::Source, Some(0)),
        (Step::Hold, Role::Target, None),
        (Step::Check, Role::Source, None),
        (Step::Drain, Role::Source, None),
    ] {
        assert_eq!(
            said(duty(step, role, &[]), &Stores::new()).in_flight,
            want,
            "{step} {role:?}"
        );
    }
}

/// A target that is asked to compare, and for more.
fn verifying() -> Duty {
    let mut verify = duty(Step::Verify, Role::Target, &["a"]);
    let slots = SlotSet::range(0, 1);
    verify.stores[0].ask = Ask::Compare {
        owners: vec![("east".into(), slots)],
        changed: false,
    };
    verify.stores[0].besides = vec![Ask::Beat];
    verify
}

#[test]
fn what_was_compared_is_told_with_the_rows_that_differ() {
    for (differing, examples, want) in [
        (SlotSet::default(), vec![], None),
        (
            SlotSet::range(0, 1),
            vec!["orders id=1 only in east".to_owned()],
            Some("0-1"),
        ),
    ] {
        let compared = facts::Comparison {
            rows: 3,
            differing,
            examples: examples.clone(),
        };
        let answer = Answer {
            compared: Some(compared),
            ..Answer::default()
        };
        let stores = Stores::from([("a".into(), store(None, answer))]);
        let report = said(verifying(), &stores);
        let told = &report.compared[0];
        assert_eq!((told.store.as_str(), told.rows), ("a", 3));
        assert_eq!((told.differing.as_deref(), &told.examples), (want, &examples));
        assert_eq!((report.compared.len(), report.problems.len()), (1, 0));
    }
}

#[test]
fn how_far_a_comparison_is_is_told_in_verify_and_remembered_by_who_comes_next() {
    let found = PairReport {
        slots: Some("0-1".to_owned()),
        compared: Some("0".to_owned()),
        ..PairReport::begun("east", None)
    };
    let answer = Answer {
        comparing: vec![found.clone()],
        ..Answer::default()
    };
    let stores = Stores::from([("a".into(), store(None, answer))]);
    let report = said(verifying(), &stores);
    let told: Vec<_> = report
        .comparing
        .iter()
        .map(|pair| (pair.store.as_str(), &pair.found))
        .collect();
    assert_eq!(told, [("a", &found)]);
    assert_eq!((report.compared.len(), report.problems.len()), (0, 0));
    assert_eq!(said(duty(Step::Hold, Role::Target, &["a"]), &stores).comparing, []);
}

#[test]
fn a_store_whose_comparison_fails_says_why_once() {
    let answer = Answer {
        problem: Some("permission denied".to_owned()),
        ..Answer::default()
    };
    let stores = Stores::from([("a".into(), store(None, answer))]);
    let report = said(verifying(), &stores);
    let told: Vec<_> = report
        .problems
        .iter()
        .map(|p| (p.store.as_str(), p.message.as_str()))
        .collect();
    assert_eq!(told, [("a", "permission denied")]);
    assert_eq!(report.compared, []);
    // In the next step nobody asks any more.
    assert_eq!(said(duty(Step::Hold, Role::Source, &["a"]), &stores).problems, []);
}

#[test]
fn applied_is_what_every_store_stands_at_and_conditions_name_the_first_cause() {
    let apart = quarantined(false);
    let broken = StoreFacts {
        problem: Some(Problem::new("Unreachable", "no answer")),
        ..StoreFacts::default()
    };
    let linked = |state| StoreFacts {
        applied: Some(TABLE),
        links: [(
            "north".into(),
            LinkFact {
                state,
                gap: false,
                message: Some("no slot".into()),
            },
        )]
        .into(),
        ..StoreFacts::default()
    };
    let at = |epoch| StoreFacts {
        applied: Some(epoch),
        ..StoreFacts::default()
    };
    let (serving, lost) = (None, Some("lost-east"));
    for (stores, quarantined, applied, reason, ready) in [
        (vec![], serving, Some(9), "InHand", "True"),
        (vec![at(TABLE), at(OP)], serving, Some(7), "InHand", "True"),
        (
            vec![at(TABLE), StoreFacts::default()],
            serving,
            None,
            "Starting",
            "False",
        ),
        (vec![at(TABLE), broken.clone()], serving, None, "Unreachable", "False"),
        (vec![linked(LinkState::Broken)], serving, Some(9), "LinkBroken", "False"),
        // A survivor is well without the unit that it is cut off from.
        (vec![linked(LinkState::Cut)], serving, Some(9), "InHand", "True"),
        (
            vec![linked(LinkState::Quarantined)],
            lost,
            Some(9),
            "Quarantined",
            "False",
        ),
        (vec![broken], lost, None, "Unreachable", "False"),
    ] {
        let stores: Stores = stores
            .into_iter()
            .enumerate()
            .map(|(index, facts)| (format!("s{index}").into(), facts))
            .collect();
        let registry = Registry::default();
        let known = Known {
            generation: Some(1),
            table: Some(TABLE),
            stores: &stores,
            duties: &[],
            routers: &registry,
            lease: None,
            quarantined: quarantined.map(|_| &apart),
            verification: None,
            behind: &[],
        };
        let status = status(known, &[], Timestamp::UNIX_EPOCH);
        assert_eq!(status.applied.map(|table| table.epoch), applied, "{reason}");
        let condition = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == READY)
            .unwrap();
        assert_eq!((condition.reason.as_str(), condition.status.as_str()), (reason, ready));
    }
}

#[test]
fn a_conditions_time_moves_only_when_its_status_does() {
    let registry = Registry::default();
    let told = |stores: &Stores, before: &[Condition], second| {
        let known = Known {
            generation: Some(1),
            table: Some(TABLE),
            stores,
            duties: &[],
            routers: &registry,
            lease: None,
            quarantined: None,
            verification: None,
            behind: &[],
        };
        let status = status(known, before, Timestamp::from_second(second).unwrap());
        status.conditions
    };
    let ready = |conditions: &[Condition]| conditions[0].last_transition_time.0.as_second();
    let first = told(&Stores::new(), &[], 1);
    let same = told(&Stores::new(), &first, 2);
    let starting = told(&[("a".into(), StoreFacts::default())].into(), &same, 3);
    assert_eq!((ready(&first), ready(&same), ready(&starting)), (1, 1, 3));
}

fn quarantined(accepted: bool) -> Quarantined {
    Quarantined {
        unit: "east".into(),
        since: TABLE,
        by: "lost".into(),
        name: "lost-east".to_owned(),
        accepted: accepted.then(|| multiactive_core::promotion::Accepted {
            by: "alice".to_owned(),
            reason: "INC-7".to_owned(),
        }),
    }
}

#[test]
fn a_unit_in_quarantine_is_as_far_as_its_slowest_store_and_what_one_does_not_know_nobody_does() {
    use QuarantineState::{Compared, Comparing, Rejoined};
    let fact = |state, rows, by: &str| StoreFacts {
        quarantine: Some(QuarantineFact {
            state,
            rows,
            span: Some(Duration::from_millis(40)),
            first: vec![("orders".to_owned(), r#"{"id": "a"}"#.to_owned())],
            ..QuarantineFact::begun(by.into())
        }),
        ..StoreFacts::default()
    };
    for (a, b, state, rows) in [
        (
            fact(Compared, Some(2), "lost"),
            fact(Compared, Some(3), "lost"),
            Compared,
            Some(5),
        ),
        (
            fact(Compared, Some(2), "lost"),
            fact(Compared, None, "lost"),
            Compared,
            None,
        ),
        (
            fact(Rejoined, Some(2), "lost"),
            fact(Compared, Some(0), "lost"),
            Compared,
            Some(2),
        ),
        // What a store said of an earlier quarantine.
        (
            fact(Rejoined, Some(2), "lost"),
            fact(Rejoined, Some(2), "before"),
            Comparing,
            None,
        ),
        (fact(Rejoined, Some(2), "lost"), StoreFacts::default(), Comparing, None),
        // What several units write is neither fenced nor accepted.
        (
            fact(Rejoined, Some(2), "lost"),
            StoreFacts {
                shared: true,
                ..StoreFacts::default()
            },
            Rejoined,
            Some(2),
        ),
    ] {
        let stores = Stores::from([("a".into(), a), ("b".into(), b)]);
        let report = quarantine(&quarantined(true), &stores);
        assert_eq!((report.state, report.rows), (state, rows));
        assert_eq!((report.by.as_str(), report.span_ms), ("lost", Some(40)));
        assert_eq!(
            (report.first[0].store.as_str(), report.first[0].key.as_str()),
            ("a", r#"{"id": "a"}"#)
        );
    }
    for (accepted, state) in [(false, Compared), (true, Rejoined)] {
        let report = quarantine(&quarantined(accepted), &Stores::new());
        assert_eq!(
            (report.state, report.rows),
            (state, Some(0)),
            "without a store nothing differs"
        );
    }
}

#[test]
fn a_unit_has_caught_up_with_an_operation_once_all_its_stores_have() {
    let passed = |ops: &[&str]| StoreFacts {
        passed: ops.iter().map(|op| OperationUid::from(*op)).collect(),
        ..StoreFacts::default()
    };
    let behind = ["one", "two"].map(|uid| (OperationUid::from(uid), Vec::new()));
    for (a, b, want) in [
        (
            passed(&["one", "two", "other"]),
            passed(&["two", "one"]),
            vec!["one", "two"],
        ),
        (passed(&["one", "two"]), passed(&["two"]), vec!["two"]),
        (passed(&["one"]), StoreFacts::default(), vec![]),
    ] {
        let stores = Stores::from([("a".into(), a), ("b".into(), b)]);
        let known = Known {
            generation: None,
            table: Some(TABLE),
            stores: &stores,
            duties: &[],
            routers: &Registry::default(),
            lease: None,
            quarantined: None,
            verification: None,
            behind: &behind,
        };
        assert_eq!(status(known, &[], Timestamp::UNIX_EPOCH).caught_up, want);
    }
}
