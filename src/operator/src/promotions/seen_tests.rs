//! Tests of what the step machine is shown.

use super::*;
use multiactive_api::{DataStore, Unit, UnitAssignment};
use multiactive_core::promotion::{Budgets, SlotMove, Step, Verify};
use serde_json::{Value, json};
use std::sync::Arc;

fn from<T: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value) -> T {
    serde_json::from_value(json!({"apiVersion": "multiactive.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1}, "spec": spec}))
    .unwrap()
}

fn operation() -> Operation {
    Operation {
        uid: "move".into(),
        name: "move".into(),
        target: "b".into(),
        moves: vec![SlotMove {
            keyspace: "users".into(),
            source: "a".into(),
            slots: SlotSet::range(0, 1),
        }],
        verify: Verify::Full,
        budgets: Budgets {
            fence: SignedDuration::from_secs(10),
            drain: SignedDuration::from_secs(30),
        },
        step: Step::Hold,
        epoch: Epoch::new(1, 7),
        round: 2,
        remaining: Vec::new(),
        positions: Vec::new(),
        behind: Vec::new(),
        history: Vec::new(),
    }
}

fn report(unit: &str, status: Value) -> (UnitName, Arc<UnitAssignment>) {
    let mut assignment: UnitAssignment = from("UnitAssignment", unit, json!({"unit": unit, "cluster": "c"}));
    assignment.status = Some(serde_json::from_value(status).unwrap());
    (unit.into(), Arc::new(assignment))
}

/// Units a and b with a store in both; `a` and `b` are the reports of their agents.
fn inputs(a: Value, b: Value) -> Inputs {
    let unit = |name: &str| {
        let spec = json!({"cluster": "c", "role": "Sharded", "router": "https://r:1"});
        Arc::new(from::<Unit>("Unit", name, spec))
    };
    let member = |unit: &str| json!({"unit": unit, "address": "h:1", "credentials": "s"});
    let store: DataStore = from(
        "DataStore",
        "orders",
        json!({"topology": "Sharded", "keyspace": "users", "engine": {"type": "PostgreSQL"}, "tables": [],
            "members": [member("a"), member("b")]}),
    );
    Inputs {
        namespace: "shop".to_owned(),
        units: vec![unit("a"), unit("b")],
        stores: vec![Arc::new(store)],
        promotions: vec![Arc::new(from(
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
fn reach_is_read_strictly() {
    for (text, want) in [
        ("Reached", Some(Reach::Reached)),
        ("Waiting", Some(Reach::Waiting(String::new()))),
        ("Waiting: b: 0/1", Some(Reach::Waiting("b: 0/1".to_owned()))),
        ("Broken: no slot", Some(Reach::Broken("no slot".to_owned()))),
        ("reached", None),
        ("", None),
    ] {
        assert_eq!(parse_reach(text), want, "{text}");
    }
}

#[test]
fn a_comparison_needs_both_sides_and_the_round() {
    let sums = |round: i32, sums: &[u64]| {
        let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_be_bytes()).collect();
        let sums = base64::engine::general_purpose::STANDARD.encode(bytes);
        let checksums = json!([{"store": "orders", "round": round, "rows": 5, "sums": sums}]);
        json!({"operations": [{"uid": "move", "term": 0, "epoch": 0, "checksums": checksums}]})
    };
    for (a, b, want) in [
        (sums(2, &[1, 2]), sums(2, &[1, 2]), Some("")),
        (sums(2, &[1, 2]), sums(2, &[1, 3]), Some("1")),
        (sums(2, &[1, 2]), sums(1, &[1, 2]), None),
        (sums(2, &[1]), sums(2, &[1, 2]), None),
        (sums(2, &[1, 2]), json!({}), None),
    ] {
        let seen = seen(&operation(), &inputs(a, b));
        let differing = seen.compared.map(|compared| compared[0].differing.to_string());
        assert_eq!(differing.as_deref(), want);
    }
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
    inputs.units.push(Arc::new(from("Unit", "c", spec)));
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
fn links_with_a_unit_that_is_away_do_not_count_and_it_is_said_to_be_away() {
    // C is gone: its last words are old, and nobody hears from it.
    let gone = || {
        let a = links_from(&[("b", "Running"), ("c", "Broken")]);
        let b = links_from(&[("a", "Running"), ("c", "Broken")]);
        with_third(inputs(a, b), links_from(&[("a", "Running"), ("b", "Running")]))
    };
    let unknown = gone();
    let mut away = gone();
    away.away.insert("c".into());
    for (inputs, reachable, links) in [
        (unknown, None, "Some(Err(\"link orders from c to b is broken\"))"),
        (away, Some(false), "Some(Ok(()))"),
    ] {
        let seen = seen(&operation(), &inputs);
        let of = |unit: &str| seen.members.iter().find(|member| member.unit.as_str() == unit).unwrap();
        assert_eq!((of("b").reachable, of("c").reachable), (Some(true), reachable));
        assert_eq!(format!("{:?}", of("b").links), links);
        let source = format!("{:?}", seen.sources[0].links);
        assert_eq!(source == "Some(Ok(()))", reachable.is_some(), "{source}");
    }
}

#[test]
fn a_member_that_was_away_when_writes_began_to_be_held_holds_up_no_link_either() {
    let a = links_from(&[("b", "Running"), ("c", "Running")]);
    let b = links_from(&[("a", "Running"), ("c", "Running")]);
    let mut inputs = with_third(inputs(a, b), links_from(&[("a", "Running"), ("b", "Starting")]));
    inputs.reachable.insert("c".into());
    let mut op = operation();
    let links = |op: &Operation| format!("{:?}", seen(op, &inputs).members[0].links);
    assert_eq!(links(&op), "Some(Err(\"link orders from b to c is starting\"))");
    op.behind = vec!["c".into()];
    assert_eq!(links(&op), "Some(Ok(()))");
}

#[test]
fn source_and_target_are_waited_for_though_they_are_away() {
    let (a, b) = (links_from(&[("b", "Running")]), links_from(&[("a", "Running")]));
    for away in ["a", "b"] {
        let mut inputs = inputs(a.clone(), b.clone());
        inputs.reachable.remove(&UnitName::from(away));
        inputs.away.insert(away.into());
        let seen = seen(&operation(), &inputs);
        let source = format!("{:?}", seen.sources[0].links);
        assert_eq!(source.contains("does not answer"), away == "a", "{source}");
        assert_eq!(seen.members[0].reachable, Some(away != "b"));
        assert_eq!(format!("{:?}", seen.members[0].links), "Some(Ok(()))");
    }
}

#[test]
fn it_is_aborted_by_a_decision_a_deletion_and_a_missing_object_but_not_by_an_unreadable_one() {
    let object = |change: &dyn Fn(&mut Promotion)| {
        let mut inputs = inputs(json!({}), json!({}));
        change(Arc::make_mut(&mut inputs.promotions[0]));
        inputs
    };
    let decision = multiactive_api::Decision {
        kind: DecisionType::Abort,
        by: "alice".to_owned(),
        reason: "no".to_owned(),
    };
    let mut gone = object(&|_| {});
    gone.promotions.clear();
    let mut unreadable = gone.clone();
    unreadable.unreadable_promotions.insert("move".to_owned());
    for (inputs, want) in [
        (object(&|_| {}), None),
        (
            object(&|p| p.spec.decisions.push(decision.clone())),
            Some("alice decided Abort: no"),
        ),
        (gone, Some("its Promotion was deleted")),
        (unreadable, None),
    ] {
        assert_eq!(seen(&operation(), &inputs).abort.as_deref(), want);
    }
}

#[test]
fn a_target_without_a_member_of_the_store_a_router_or_an_answer_is_not_ready() {
    let ready = json!({"observedGeneration": 1, "routers": [{"name": "r", "connected": true}]});
    let mut without = inputs(json!({}), ready.clone());
    Arc::make_mut(&mut without.stores[0]).spec.members.pop();
    let mut silent = inputs(json!({}), ready.clone());
    silent.reachable.remove(&UnitName::from("b"));
    for (inputs, want) in [
        (inputs(json!({}), ready), "Some(Ready)"),
        (
            inputs(json!({}), json!({"observedGeneration": 1})),
            "Some(NotReady(\"no router is connected to its agent\"))",
        ),
        (inputs(json!({}), json!({"observedGeneration": 0})), "None"),
        (without, "Some(NotReady(\"DataStore orders has no member in it\"))"),
        (silent, "None"),
    ] {
        assert_eq!(format!("{:?}", seen(&operation(), &inputs).target.unwrap().ready), want);
    }
}
