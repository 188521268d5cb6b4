//! Tests of what has lasted.

use super::*;
use crate::fixtures::{object, operation};
use multiactive_api::{Unit, UnitAssignment};
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Step, StepRecord};
use serde_json::{Value, json};
use std::sync::Arc;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1000 + second).unwrap()
}

/// Slots of a go to b; no store moves.
fn table(step: Step) -> RoutingTable {
    RoutingTable {
        operations: vec![operation(step, Epoch::new(1, 7))],
        ..RoutingTable::default()
    }
}

/// What the agent of b says; a says that it has a router.
fn inputs(b: Value) -> Inputs {
    let router = json!([{"name": "r", "connected": true, "table": {"term": 1, "epoch": 7}}]);
    let report = |unit: &str, status: Value| {
        let mut assignment: UnitAssignment = object("UnitAssignment", unit, json!({"unit": unit, "cluster": "c"}));
        assignment.status = Some(serde_json::from_value(status).unwrap());
        (UnitName::from(unit), Arc::new(assignment))
    };
    let a = json!({"observedGeneration": 1, "routers": router, "operations": [{"uid": "move", "term": 1, "epoch": 7}]});
    let mut b = b;
    b["observedGeneration"] = json!(1);
    let unit = |name: &str| {
        let spec = json!({"cluster": "c", "role": "Sharded", "router": "https://r:1"});
        Arc::new(object::<Unit>("Unit", name, spec))
    };
    Inputs {
        namespace: "shop".to_owned(),
        units: vec![unit("a"), unit("b")],
        reports: [report("a", a), report("b", b)].into(),
        reachable: ["a".into(), "b".into()].into(),
        ..Inputs::default()
    }
}

#[test]
fn an_unready_target_lasts_only_while_every_look_says_so() {
    let ready = json!({"routers": [{"name": "r", "connected": true}]});
    let mut lasting = Lasting::default();
    let table = table(Step::Check);
    for (second, said, want) in [
        (0, json!({}), Some(0)),
        (3, json!({}), Some(0)),
        (4, ready, None),
        (6, json!({}), Some(6)),
    ] {
        lasting.look(Some(&table), &mut inputs(said), at(second));
        let since = lasting.of(&table.operations[0], at(second)).unready;
        assert_eq!(since, want.map(at), "at {second}");
    }
    lasting.look(Some(&RoutingTable::default()), &mut inputs(json!({})), at(7));
    assert_eq!(
        lasting.of(&table.operations[0], at(7)),
        Since::default(),
        "it has ended"
    );
}

#[test]
fn how_long_it_lasts_is_not_asked_of_the_clock_of_the_day() {
    let mut lasting = Lasting::default();
    let mut table = table(Step::Hold);
    let entered = |step| StepRecord {
        step,
        at: at(3000),
        not_needed: None,
    };
    table.operations[0].history = vec![entered(Step::Check), entered(Step::Hold)];
    lasting.look(Some(&table), &mut inputs(json!({})), at(0));
    table.operations[0].history.push(entered(Step::Drain));
    table.operations[0].step = Step::Drain;
    lasting.look(Some(&table), &mut inputs(json!({})), at(4));
    lasting.look(Some(&table), &mut inputs(json!({})), at(11));
    for day in [at(11), at(-900), at(7000)] {
        let since = lasting.of(&table.operations[0], day);
        let ago = |since: Timestamp| day.duration_since(since).as_secs();
        let entered: Vec<_> = since.entered.iter().map(|(step, at)| (*step, ago(*at))).collect();
        assert_eq!(entered, [(Step::Check, 11), (Step::Hold, 11), (Step::Drain, 7)]);
        assert_eq!(since.unready.map(ago), Some(11));
    }
    // After the commit nothing is given up, and Settle has its time too.
    table.operations[0].history.push(entered(Step::Settle));
    table.operations[0].step = Step::Settle;
    lasting.look(Some(&table), &mut inputs(json!({})), at(12));
    let since = lasting.of(&table.operations[0], at(20));
    assert_eq!((since.unready, since.entered[&Step::Settle]), (None, at(20)));
}

#[test]
fn in_verify_it_is_unfit_since_the_rows_were_equal() {
    let mut lasting = Lasting::default();
    let table = table(Step::Verify);
    // Without a moving store there is nothing to compare, so that is over at once.
    lasting.look(Some(&table), &mut inputs(json!({})), at(5));
    lasting.look(Some(&table), &mut inputs(json!({})), at(9));
    assert_eq!(lasting.of(&table.operations[0], at(9)).unfit, Some(at(5)));
}

#[test]
fn a_database_is_silent_once_its_agent_has_said_so_for_long_and_an_agent_that_is_not_heard_says_nothing() {
    let says = |reason: &str| json!({"stores": [{"name": "orders", "ready": false, "reason": reason}]});
    let mut lasting = Lasting::default();
    let none = RoutingTable::default();
    for (second, said, heard, want) in [
        (0, says("Unreachable"), true, 0),
        (14, says("TimedOut"), true, 0),
        (15, says("Unreachable"), true, 1),
        (16, says("Starting"), true, 0),
        (17, says("Unreachable"), true, 0),
        (31, says("Unreachable"), false, 0),
        (33, says("Unreachable"), true, 0),
        (47, says("Unreachable"), true, 0),
        (48, says("Unreachable"), true, 1),
    ] {
        let mut inputs = inputs(said);
        if !heard {
            inputs.reachable.clear();
        }
        lasting.look(Some(&none), &mut inputs, at(second));
        assert_eq!(inputs.silent_stores.len(), want, "at {second}");
        if second == 0 {
            assert_eq!(lasting.wake_at(at(0)), Some(at(15)));
            assert_eq!(lasting.wake_at(at(-500)), Some(at(-485)), "by the clock of the day");
        }
    }
    assert_eq!(lasting.wake_at(at(48)), None);
}

#[test]
fn a_failover_has_waited_since_it_was_seen_first_whenever_it_was_made() {
    let failover = |name: &str| {
        let mut object: multiactive_api::Failover =
            crate::fixtures::object("Failover", name, json!({"lostUnit": "a", "expectedEpoch": 3}));
        object.metadata.uid = Some(name.to_owned());
        // By a clock that is a day ahead.
        let made = Timestamp::from_second(86_400).unwrap();
        object.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(made));
        std::sync::Arc::new(object)
    };
    let mut lasting = Lasting::default();
    let mut waited = |second, names: &[&str]| {
        let mut seen = inputs(json!({}));
        seen.failovers = names.iter().map(|name| failover(name)).collect();
        lasting.look(None, &mut seen, at(second));
        ["one", "two"].map(|name| lasting.waited(&name.into()).as_secs())
    };
    assert_eq!(waited(10, &["one"]), [0, 0]);
    assert_eq!(waited(13, &["one", "two"]), [3, 0]);
    assert_eq!(waited(20, &["two"]), [0, 7], "one is gone");
    assert_eq!(waited(21, &["one", "two"]), [0, 8]);
}
