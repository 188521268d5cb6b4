//! Tests of what is committed next, and of what the server refuses.

use super::*;
use multiactive_api::{Unit, UnitAssignment};
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::Outcome;
use multiactive_core::slots::SlotSet;
use multiactive_core::span::SpanState;
use multiactive_core::table::{KeyspaceTable, TableUnit};
use serde_json::{Value, json};
use std::sync::Arc;

fn from<T: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value) -> T {
    serde_json::from_value(
        json!({"apiVersion": "multiactive.io/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {"name": name, "namespace": "shop", "uid": name, "finalizers": [OPERATION_FINALIZER]}}),
    )
    .unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1000 + second).unwrap()
}

fn unit(name: &str) -> Arc<Unit> {
    let spec = json!({"cluster": "c", "role": "Sharded", "router": "https://r:1"});
    Arc::new(from("Unit", name, spec))
}

fn promotion(name: &str, slot: u16, epoch: u64) -> Promotion {
    let slots = json!({"keyspace": "users", "slots": slot.to_string()});
    let spec = json!({"targetUnit": "b", "mode": "Execute", "expectedEpoch": epoch, "verify": "None",
        "select": {"type": "Slots", "slots": slots}});
    from("Promotion", name, spec)
}

/// Slots 0 to 3, all of unit a.
fn table() -> RoutingTable {
    let mut users = KeyspaceTable::unowned("users".into(), 4);
    users.set(
        &SlotSet::range(0, 3),
        Some(&"a".into()),
        SpanState::Serving,
        Epoch::new(1, 2),
    );
    let unit = |name: &str| TableUnit {
        name: name.into(),
        router: "https://r:1".to_owned(),
    };
    RoutingTable {
        epoch: Epoch::new(1, 9),
        units: vec![unit("a"), unit("b")],
        keyspaces: vec![users],
        ..RoutingTable::default()
    }
}

fn inputs() -> Inputs {
    Inputs {
        namespace: "shop".to_owned(),
        units: vec![unit("a"), unit("b")],
        ..Inputs::default()
    }
}

/// The table with the operation of a Promotion that began at second 0.
fn running(table: &RoutingTable, promotion: &Promotion) -> RoutingTable {
    let operation = request::operation(promotion, table, &inputs(), at(0)).unwrap();
    admitted(table, operation).unwrap()
}

fn names(proposal: &Option<Proposal>) -> String {
    match proposal.as_ref().map(|proposal| &proposal.subject) {
        None => "nothing".to_owned(),
        Some(Subject::Ownership) => "ownership".to_owned(),
        Some(Subject::Operation(uid)) => uid.as_str().to_owned(),
        Some(Subject::Unit(unit)) => unit.to_string(),
    }
}

#[test]
fn what_the_server_refuses_holds_up_nothing_else_and_is_tried_again() {
    // Two operations whose Promotions are gone, and so end; a unit that is new; a Promotion that may begin.
    let table = running(&running(&table(), &promotion("one", 0, 9)), &promotion("two", 1, 9));
    let mut inputs = inputs();
    inputs.units.push(unit("c"));
    inputs.gone = ["one".into(), "two".into()].into();
    inputs.promotions = vec![Arc::new(promotion("three", 2, 9))];
    let (refused, mut refusals) = (BTreeMap::new(), Refusals::default());
    let look = |refusals: &Refusals, now| {
        let memory = Memory {
            refused: &refused,
            refusals,
            lasting: &Lasting::default(),
        };
        decide(Some(&table), &inputs, memory, now)
    };
    for want in ["one", "two", "ownership", "three"] {
        let decided = look(&refusals, at(5));
        assert_eq!(names(&decided.proposal), want);
        let proposal = decided.proposal.unwrap();
        refusals.refused(proposal.subject, proposal.attempt, "too long", at(5));
    }
    let decided = look(&refusals, at(5));
    assert_eq!(names(&decided.proposal), "nothing");
    let shown: Vec<_> = decided.misfits.keys().map(|uid| uid.as_str()).collect();
    assert_eq!(shown, ["one", "three", "two"]);
    assert!(
        decided.misfits.values().all(|why| why.contains("too long")),
        "{decided:?}"
    );
    assert_eq!(decided.ownership_refused.as_deref(), Some("too long"));
    let again = decided.wake_at.unwrap();
    assert!(again > at(5) && again < at(10), "{again}");
    assert_eq!(names(&look(&refusals, again).proposal), "one");
    refusals.committed(&Subject::Operation("one".into()));
    assert_eq!(
        names(&look(&refusals, at(5)).proposal),
        "one",
        "what counted is not set aside"
    );
}

/// An operation at Hold since second 1, by its record.
fn held() -> (RoutingTable, Inputs) {
    let mut table = table();
    let held = json!({"targetUnit": "b", "mode": "Execute", "expectedEpoch": 9, "verify": "None",
        "budgets": {"fence": "10s", "drain": "30s"}, "select": {"type": "Slots", "slots": {"keyspace": "users", "slots": "0"}}});
    let object: Promotion = from("Promotion", "one", held);
    table = running(&table, &object);
    let operation = &mut table.operations[0];
    operation.step = Step::Hold;
    operation.history.push(multiactive_core::promotion::StepRecord {
        step: Step::Hold,
        at: at(1),
        not_needed: None,
    });
    operation.epoch = table.epoch;
    table.keyspaces[0].set(&SlotSet::range(0, 0), Some(&"a".into()), SpanState::Held, table.epoch);
    let (term, epoch) = (table.epoch.term, table.epoch.epoch);
    let said = json!({"operations": [{"uid": "one", "term": term, "epoch": epoch, "inFlight": 0}],
        "routers": [{"name": "r", "connected": true, "table": {"term": term, "epoch": epoch}}]});
    let mut report: UnitAssignment = from("UnitAssignment", "a", json!({"unit": "a", "cluster": "c"}));
    report.status = Some(serde_json::from_value(said).unwrap());
    let mut inputs = inputs();
    inputs.promotions = vec![Arc::new(object)];
    inputs.reports = [("a".into(), Arc::new(report))].into();
    inputs.reachable = ["a".into(), "b".into()].into();
    (table, inputs)
}

#[test]
fn what_cannot_be_recorded_within_its_budget_is_given_up() {
    // Its source has no write under way: it enters Fence, which the server does not take.
    let (table, inputs) = held();
    let (refused, mut refusals) = (BTreeMap::new(), Refusals::default());
    let subject = Subject::Operation("one".into());
    let fence = Some(Attempt::Enter(Step::Fence));
    for (second, attempt) in [
        (2, fence),
        (3, None),
        (11, fence),
        (11, Some(Attempt::GiveUp)),
        (11, None),
    ] {
        let memory = Memory {
            refused: &refused,
            refusals: &refusals,
            lasting: &Lasting::default(),
        };
        let decided = decide(Some(&table), &inputs, memory, at(second));
        assert_eq!(
            decided.proposal.as_ref().map(|p| p.attempt),
            attempt,
            "at {second}: {decided:?}"
        );
        if attempt == Some(Attempt::GiveUp) {
            let ended = decided.proposal.unwrap().table.finished;
            let told = matches!(&ended[0].outcome, Outcome::Aborted { message, .. } if message.contains("too long"));
            assert!(told, "{ended:?}");
        }
        if let Some(attempt) = attempt {
            refusals.refused(subject.clone(), attempt, "too long", at(second));
        }
    }
}

#[test]
fn a_clock_that_went_back_holds_writes_no_longer_than_their_budget() {
    let (table, mut inputs) = held();
    // A write is under way for ever.
    let mut report = (*inputs.reports[&"a".into()]).clone();
    report.status.as_mut().unwrap().operations[0].in_flight = Some(1);
    inputs.reports.insert("a".into(), Arc::new(report));
    let (refused, refusals, mut lasting) = (BTreeMap::new(), Refusals::default(), Lasting::default());
    // What passes, and what the clock of the day says then.
    for (passed, day, ends) in [
        (0, 2, false),
        (4, 6, false),
        (5, -593, false),
        (9, -589, false),
        (10, -588, true),
    ] {
        lasting.look(Some(&table), &mut inputs, at(passed));
        let memory = Memory {
            refused: &refused,
            refusals: &refusals,
            lasting: &lasting,
        };
        let decided = decide(Some(&table), &inputs, memory, at(day));
        let attempt = decided.proposal.as_ref().map(|proposal| proposal.attempt);
        assert_eq!(
            attempt,
            ends.then_some(Attempt::GiveUp),
            "after {passed} s: {decided:?}"
        );
        if !ends {
            let left = decided.wake_at.unwrap().duration_since(at(day));
            assert!(left <= SignedDuration::from_secs(10 - passed), "{left:#}");
        }
    }
}

#[test]
fn a_failover_is_not_given_up_once_its_slots_are_fenced() {
    let (table, inputs) = held();
    let mut op = table.operations[0].clone();
    let ends = |op: &Operation| deadline(op, &seen(op, &inputs)).is_some();
    assert!(ends(&op), "a promotion that holds writes");
    op.failover = Some(Box::new(multiactive_core::promotion::Failover {
        lost: "a".into(),
        ranges: Vec::new(),
        max_data_loss: SignedDuration::ZERO,
        named: false,
        fences: false,
        superseded: None,
        fence: table.epoch,
        proof: None,
        loss: None,
        retargeted: Vec::new(),
        tail: None,
    }));
    for (step, given_up) in [
        (Step::Prepare, true),
        (Step::Fence, false),
        (Step::Cut, false),
        (Step::Drain, false),
        (Step::Open, false),
    ] {
        op.step = step;
        op.history.push(multiactive_core::promotion::StepRecord {
            step,
            at: at(2),
            not_needed: None,
        });
        assert_eq!(ends(&op), given_up, "{step}");
    }
}
