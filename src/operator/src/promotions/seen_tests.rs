//! Tests of what the step machine is shown.

use super::*;
use crate::fixtures::{self, object};
use multiactive_api::{DataStore, Unit, UnitAssignment};
use multiactive_core::promotion::Step;
use serde_json::{Value, json};
use std::sync::Arc;

#[path = "seen_tests_away.rs"]
mod away;
#[path = "seen_tests_compared.rs"]
mod compared;

fn operation() -> Operation {
    Operation {
        stores: vec![orders(&["a", "b"])],
        ..fixtures::operation(Step::Hold, Epoch::new(1, 7))
    }
}

fn orders(members: &[&str]) -> MovingStore {
    MovingStore {
        store: "orders".into(),
        keyspace: "users".into(),
        members: members.iter().map(|unit| (*unit).into()).collect(),
    }
}

/// The operation, admitted with a member in c too.
fn three() -> Operation {
    Operation {
        stores: vec![orders(&["a", "b", "c"])],
        ..operation()
    }
}

fn report(unit: &str, status: Value) -> (UnitName, Arc<UnitAssignment>) {
    let mut assignment: UnitAssignment = object("UnitAssignment", unit, json!({"unit": unit, "cluster": "c"}));
    assignment.status = Some(serde_json::from_value(status).unwrap());
    (unit.into(), Arc::new(assignment))
}

/// Units a and b with a store in both; `a` and `b` are the reports of their agents.
fn inputs(a: Value, b: Value) -> Inputs {
    let unit = |name: &str| {
        let spec = json!({"cluster": "c", "role": "Sharded", "router": "https://r:1"});
        Arc::new(object::<Unit>("Unit", name, spec))
    };
    let member = |unit: &str| json!({"unit": unit, "address": "h:1", "credentials": "s"});
    let store: DataStore = object(
        "DataStore",
        "orders",
        json!({"topology": "Sharded", "keyspace": "users", "engine": {"type": "PostgreSQL"}, "tables": [],
            "members": [member("a"), member("b")]}),
    );
    Inputs {
        namespace: "shop".to_owned(),
        units: vec![unit("a"), unit("b")],
        stores: vec![Arc::new(store)],
        promotions: vec![Arc::new(object(
            "Promotion",
            "move",
            json!({"targetUnit": "b", "mode": "Execute", "select": {"type": "Unit", "unit": "a"}}),
        ))],
        reports: [report("a", a), report("b", b)].into(),
        reachable: ["a".into(), "b".into()].into(),
        ..Inputs::default()
    }
}

#[test]
fn writes_in_flight_count_only_for_the_operations_own_epoch() {
    for (epoch, want) in [(6, None), (7, Some(0)), (8, None)] {
        let said = json!({"operations": [{"uid": "move", "term": 1, "epoch": epoch, "inFlight": 0}]});
        let seen = seen(&operation(), &inputs(said, json!({})));
        let routers = seen.sources[0].routers.as_ref().expect("the agent has reported");
        assert_eq!(routers.in_flight, want, "epoch {epoch}");
    }
}

#[test]
fn a_router_that_is_away_or_behind_keeps_the_hold_from_passing() {
    for (router, behind) in [
        (
            json!({"name": "r", "connected": true, "table": {"term": 1, "epoch": 7}}),
            false,
        ),
        (
            json!({"name": "r", "connected": true, "table": {"term": 1, "epoch": 6}}),
            true,
        ),
        (json!({"name": "r", "connected": true}), true),
        (
            json!({"name": "r", "connected": false, "table": {"term": 1, "epoch": 7}}),
            true,
        ),
    ] {
        let said = json!({"routers": [router], "operations": [{"uid": "move", "term": 1, "epoch": 7}]});
        let seen = seen(&operation(), &inputs(said, json!({})));
        let routers = seen.sources[0].routers.clone().unwrap();
        assert_eq!(!routers.behind.is_empty(), behind, "{routers:?}");
    }
}

#[test]
fn a_fence_counts_only_with_the_position_of_every_moving_store() {
    let position = json!({"store": "orders", "source": "a", "vector": []});
    for (fenced, want) in [(Value::Null, false), (json!([]), false), (json!([position]), true)] {
        let said = json!({"operations": [{"uid": "move", "term": 1, "epoch": 7, "fenced": fenced}]});
        let seen = seen(&operation(), &inputs(said, json!({})));
        assert_eq!(seen.sources[0].fence.is_some(), want, "{fenced}");
    }
}

#[test]
fn a_reach_is_taken_as_it_is_reported_and_only_for_the_operations_own_epoch() {
    for (epoch, reach, want) in [
        (7, json!({"state": "Reached"}), Some(Reach::Reached)),
        (
            7,
            json!({"state": "Waiting", "message": "b: 0/1"}),
            Some(Reach::Waiting("b: 0/1".to_owned())),
        ),
        (
            7,
            json!({"state": "Broken", "message": "no slot"}),
            Some(Reach::Broken("no slot".to_owned())),
        ),
        (6, json!({"state": "Reached"}), None),
        (7, Value::Null, None),
    ] {
        let said = json!({"operations": [{"uid": "move", "term": 1, "epoch": epoch, "reach": reach}]});
        assert_eq!(
            seen(&operation(), &inputs(json!({}), said)).members[0].reach,
            want,
            "{epoch} {reach}"
        );
    }
}

/// A fourth cell in a cluster that answers, whose agent was never installed or cannot start.
#[test]
fn a_unit_that_never_reported_is_named_and_makes_nothing_of_the_others_unknown() {
    let router = |epoch: u64| {
        json!({"routers": [{"name": "r", "connected": true,
        "table": {"term": 1, "epoch": epoch}}]})
    };
    let mut inputs = inputs(router(7), router(6));
    inputs.reachable.extend(["c".into(), "d".into()]);
    let assignment: UnitAssignment = object("UnitAssignment", "d", json!({"unit": "d", "cluster": "d"}));
    inputs.reports.insert("d".into(), Arc::new(assignment));
    let behind = seen(&operation(), &inputs).routers_behind.unwrap();
    let behind: Vec<_> = behind.iter().map(|b| (b.unit.as_str(), b.router.as_deref())).collect();
    assert_eq!(behind, [("b", Some("r")), ("c", None), ("d", None)]);
}

#[test]
fn a_link_that_nobody_reported_is_unknown_and_a_broken_one_is_named() {
    let running = |from: &str| json!({"links": [{"store": "orders", "from": from, "state": "Running"}]});
    let broken = json!({"links": [{"store": "orders", "from": "a", "state": "Broken", "message": "no slot"}]});
    for (a, b, want) in [
        (running("b"), running("a"), "Some(Ok(()))"),
        (running("b"), json!({}), "None"),
        (
            running("b"),
            broken,
            "Some(Err(\"link orders from a to b is broken: no slot\"))",
        ),
    ] {
        let seen = seen(&operation(), &inputs(a, b));
        assert_eq!(format!("{:?}", seen.members[0].links), want);
    }
}

/// A third unit c with a member of the store, and what its agent said last.
fn with_third(mut inputs: Inputs, c: Value) -> Inputs {
    let spec = json!({"cluster": "c", "role": "Sharded", "router": "https://r:1"});
    inputs.units.push(Arc::new(object("Unit", "c", spec)));
    let member = serde_json::from_value(json!({"unit": "c", "address": "h:1", "credentials": "s"}));
    Arc::make_mut(&mut inputs.stores[0]).spec.members.push(member.unwrap());
    inputs.reports.extend([report("c", c)]);
    inputs
}

/// What an agent says of its links, by the unit that they come from.
fn links_from(units: &[(&str, &str)]) -> Value {
    let link = |(from, state): &(&str, &str)| json!({"store": "orders", "from": from, "state": state});
    json!({"links": units.iter().map(link).collect::<Vec<_>>()})
}

#[test]
fn it_is_aborted_by_a_decision_and_a_deletion_that_the_server_confirms_but_not_because_a_copy_lacks_it() {
    let object = |change: &dyn Fn(&mut Promotion)| {
        let mut inputs = inputs(json!({}), json!({}));
        change(Arc::make_mut(&mut inputs.promotions[0]));
        inputs
    };
    let decision = multiactive_api::Decision {
        kind: DecisionType::Abort,
        target: None,
        not_after: None,
        by: "alice".to_owned(),
        reason: "no".to_owned(),
    };
    let mut unseen = object(&|_| {});
    unseen.promotions.clear();
    let mut gone = unseen.clone();
    gone.gone.insert("move".into());
    for (inputs, want) in [
        (object(&|_| {}), None),
        (
            object(&|p| p.spec.decisions.push(decision.clone())),
            Some("alice decided Abort: no"),
        ),
        (gone, Some("its Promotion was deleted")),
        (unseen, None),
    ] {
        assert_eq!(seen(&operation(), &inputs).abort.as_deref(), want);
    }
}

#[test]
fn a_target_without_a_member_of_the_store_a_router_or_an_answer_is_not_ready() {
    let ready = json!({"observedGeneration": 1, "routers": [{"name": "r", "connected": true}]});
    let mut op = operation();
    let mut silent = inputs(json!({}), ready.clone());
    silent.reachable.remove(&UnitName::from("b"));
    for (inputs, want) in [
        (inputs(json!({}), ready.clone()), "Some(Ready)"),
        (
            inputs(json!({}), json!({"observedGeneration": 1})),
            "Some(NotReady(\"no router is connected to its agent\"))",
        ),
        (inputs(json!({}), json!({"observedGeneration": 0})), "None"),
        (silent, "None"),
    ] {
        assert_eq!(format!("{:?}", seen(&operation(), &inputs).target.unwrap().ready), want);
    }
    op.stores = vec![orders(&["a"])];
    let ready = seen(&op, &inputs(json!({}), ready)).target.unwrap().ready;
    assert_eq!(
        format!("{ready:?}"),
        "Some(NotReady(\"DataStore orders has no member in it\"))"
    );
}

#[test]
fn an_edit_of_a_store_changes_nothing_of_what_is_fenced_before_the_commit_and_is_told() {
    let (a, b) = (links_from(&[("b", "Running")]), links_from(&[("a", "Running")]));
    let mut edited = inputs(a, b);
    Arc::make_mut(&mut edited.stores[0]).spec.members.pop();
    let seen_then = seen(&operation(), &edited);
    assert_eq!(seen_then.stores, Some(vec![orders(&["a"])]));
    let units: Vec<_> = seen_then.members.iter().map(|member| member.unit.as_str()).collect();
    assert_eq!(units, ["b"]);
    assert_eq!(seen_then.members[0].reach, None, "it still has to reach the positions");
    // After the commit what is gone is not waited for.
    let mut op = three();
    op.step = Step::Settle;
    let seen_then = seen(&op, &edited);
    assert!(
        !seen_then.members.iter().any(|member| member.unit.as_str() == "c"),
        "{seen_then:?}"
    );
    // So a source that was lost right after it holds up the end only as long as the store has a member there.
    op.step = Step::Settle;
    let settle = |members: &[&str]| {
        let mut lost = edited.clone();
        let all = serde_json::to_value(&lost.stores[0].spec.members).unwrap();
        let all = all
            .as_array()
            .unwrap()
            .iter()
            .filter(|m| members.contains(&m["unit"].as_str().unwrap()));
        let mut kept: Vec<Value> = all.cloned().collect();
        if members.contains(&"b") {
            kept.push(json!({"unit": "b", "address": "h:1", "credentials": "s"}));
        }
        Arc::make_mut(&mut lost.stores[0]).spec.members = serde_json::from_value(kept.into()).unwrap();
        lost.reachable.remove(&UnitName::from("a"));
        lost.away.insert("a".into());
        format!("{:?}", seen(&op, &lost).sources[0].links)
    };
    assert_eq!(settle(&["a", "b"]), "Some(Err(\"its member cluster does not answer\"))");
    assert_eq!(settle(&["b"]), "Some(Ok(()))");
    // One that cannot be read is not gone.
    let mut unreadable = edited;
    unreadable.stores.clear();
    assert_eq!(seen(&operation(), &unreadable).stores, Some(Vec::new()));
    unreadable.unreadable_stores.insert("orders".to_owned());
    assert_eq!(seen(&operation(), &unreadable).stores, None);
}

#[test]
fn what_the_agent_says_of_its_stores_reaches_those_who_wait() {
    let held_up = json!({"stores": [{"name": "orders", "ready": false, "reason": "FenceBlocked",
        "message": "held up by 4711"}]});
    let seen = seen(&operation(), &inputs(held_up.clone(), held_up));
    assert_eq!(
        seen.sources[0].problem.as_deref(),
        Some("store orders: held up by 4711")
    );
    assert_eq!(
        seen.target.unwrap().problem.as_deref(),
        Some("store orders: held up by 4711")
    );
}
