//! Tests of what only a failover is shown.

use super::*;
use crate::fixtures::{self, object as of};
use jiff::{SignedDuration, Timestamp};
use multiactive_api::{DataStore, ShardRange, Unit, UnitAssignment};
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Failover as Record, MovingStore, OperationKind, Step, UnitReady};
use serde_json::{Value, json};
use std::sync::Arc;

/// Unit a is lost, b takes over; c has the store too.
fn operation() -> Operation {
    let epoch = Epoch::new(1, 7);
    Operation {
        kind: OperationKind::Failover,
        uid: "lost.1".into(),
        name: "lost".into(),
        stores: vec![MovingStore {
            store: "orders".into(),
            keyspace: "users".into(),
            members: ["a", "b", "c"].map(UnitName::from).to_vec(),
        }],
        failover: Some(Box::new(Record {
            lost: "a".into(),
            ranges: vec!["users-0".to_owned()],
            max_data_loss: SignedDuration::ZERO,
            named: false,
            fences: false,
            superseded: None,
            fence: epoch,
            proof: None,
            loss: None,
            retargeted: Vec::new(),
            tail: None,
        })),
        ..fixtures::operation(Step::Cut, epoch)
    }
}

fn report(unit: &str, status: Value) -> (UnitName, Arc<UnitAssignment>) {
    let mut assignment: UnitAssignment = of("UnitAssignment", unit, json!({"unit": unit, "cluster": "c"}));
    assignment.status = Some(serde_json::from_value(status).unwrap());
    (unit.into(), Arc::new(assignment))
}

fn cut_at(epoch: i64, at: &str) -> Value {
    let position = json!({"store": "orders", "source": "a", "vector": [{"unit": "a", "position": "0/64"}]});
    let cut = json!([{"store": "orders", "log": "7", "at": at, "position": position}]);
    json!({"operations": [{"uid": "lost.1", "term": 1, "epoch": epoch, "cut": cut}]})
}

fn inputs(reports: Vec<(UnitName, Arc<UnitAssignment>)>, decisions: Value) -> Inputs {
    let unit = |name: &str| {
        let spec = json!({"cluster": "c", "role": "Sharded", "router": "https://r:1"});
        Arc::new(of::<Unit>("Unit", name, spec))
    };
    let member = |unit: &str| json!({"unit": unit, "address": "h:1", "credentials": "s"});
    let store: DataStore = of(
        "DataStore",
        "orders",
        json!({"topology": "Sharded", "keyspace": "users", "engine": {"type": "PostgreSQL"}, "tables": [],
            "members": [member("a"), member("b"), member("c")]}),
    );
    let range: ShardRange = of(
        "ShardRange",
        "users-0",
        json!({"keyspace": "users", "firstSlot": 0, "lastSlot": 1, "homeUnit": "a", "failoverUnits": ["c", "b"]}),
    );
    let failover = json!({"lostUnit": "a", "expectedEpoch": 3, "decisions": decisions});
    Inputs {
        units: ["a", "b", "c"].map(unit).to_vec(),
        stores: vec![Arc::new(store)],
        ranges: vec![Arc::new(range)],
        failovers: vec![Arc::new(of("Failover", "lost", failover))],
        reachable: ["b".into(), "c".into()].into(),
        reports: reports.into_iter().collect(),
        ..Inputs::default()
    }
}

#[test]
fn a_cut_counts_only_at_the_operations_own_epoch_and_with_a_number_that_makes_sense() {
    for (said, want) in [
        (cut_at(7, "100"), Some(vec![100])),
        (cut_at(6, "100"), None),
        (cut_at(8, "100"), None),
        (cut_at(7, "18446744073709551616"), Some(vec![])),
        (json!({"operations": [{"uid": "lost.2", "term": 1, "epoch": 7}]}), None),
    ] {
        let seen = failover_seen(&operation(), &inputs(vec![report("b", said.clone())], json!([])));
        let cut = seen.cuts.iter().find(|cut| cut.unit.as_str() == "b");
        let got = cut.map(|cut| cut.stores.iter().map(|store| store.progress.at).collect::<Vec<_>>());
        assert_eq!(got, want, "{said}");
        assert_eq!(seen.lease, None, "the ledger has said nothing");
    }
    // What the lost unit itself says is no cut.
    let seen = failover_seen(&operation(), &inputs(vec![report("a", cut_at(7, "100"))], json!([])));
    assert_eq!(seen.cuts, []);
}

#[test]
fn who_may_lack_rows_says_why_with_its_cut_and_the_target_why_it_has_not_taken_over_what_it_lacks() {
    let with = |extra: Value| {
        let mut said = cut_at(7, "100");
        for (field, value) in extra.as_object().unwrap() {
            said[field] = value.clone();
        }
        said
    };
    let gap =
        |from: &str, store: &str| json!({"links": [{"store": store, "from": from, "state": "Running", "gap": true}]});
    let untaken = json!([{"store": "orders", "message": "no rights"}]);
    for (unit, said, incomplete, why) in [
        ("c", with(json!({})), false, None),
        ("c", with(gap("a", "orders")), true, None),
        // Rows of a former owner are missing.
        ("c", with(gap("b", "orders")), true, None),
        ("c", with(gap("b", "another")), false, None),
        ("b", with(json!({})), false, None),
    ] {
        let seen = failover_seen(&operation(), &inputs(vec![report(unit, said.clone())], json!([])));
        let cut = seen.cuts.iter().find(|cut| cut.unit.as_str() == unit).unwrap();
        assert_eq!(cut.incomplete.is_some(), incomplete, "{said}");
        assert_eq!(seen.untaken, why, "{said}");
    }
    for (unit, want) in [("b", Some("orders: no rights".to_owned())), ("c", None)] {
        let mut said = cut_at(7, "100");
        said["operations"][0]["problems"] = untaken.clone();
        let seen = failover_seen(&operation(), &inputs(vec![report(unit, said)], json!([])));
        assert_eq!(seen.untaken, want, "{unit}: only the target's word counts");
    }
    let mut divided = inputs(Vec::new(), json!([]));
    assert!(!failover_seen(&operation(), &divided).divided);
    divided.divided = ["lost.1".into()].into();
    assert!(failover_seen(&operation(), &divided).divided);
}

#[test]
fn whether_the_lost_unit_opened_the_slots_counts_only_with_its_fence() {
    for (fenced, want) in [(json!([]), Some(false)), (Value::Null, None)] {
        let said = json!({"operations": [{"uid": "lost.1", "term": 1, "epoch": 7, "fenced": fenced, "opened": false}]});
        let seen = failover_seen(&operation(), &inputs(vec![report("a", said)], json!([])));
        assert_eq!(seen.opened, want);
    }
}

#[test]
fn decisions_are_shown_with_their_end_and_one_whose_end_makes_no_sense_is_not() {
    let entry = |kind: &str, target: Option<&str>, until: Option<&str>| json!({"type": kind, "target": target, "by": "alice", "reason": "r", "notAfter": until});
    let all = json!([
        entry("Abort", None, None),
        entry("ConfirmFenced", Some("a"), None),
        entry("AcceptDataLoss", Some("users-0"), Some("2026-11-22T13:00:00Z")),
        entry("ConfirmFenced", Some("a"), Some("soon")),
    ]);
    let inputs = inputs(vec![], all);
    let end: Timestamp = "2026-11-22T13:00:00Z".parse().unwrap();
    let got = decisions(&operation(), &inputs);
    let got: Vec<_> = got.iter().map(|d| (d.kind, d.target.as_str(), d.not_after)).collect();
    assert_eq!(
        got,
        [
            (DecisionKind::ConfirmFenced, "a", None),
            (DecisionKind::AcceptDataLoss, "users-0", Some(end))
        ]
    );
    let seen = crate::promotions::seen::seen(&operation(), &inputs);
    assert_eq!(seen.abort.as_deref(), Some("alice decided Abort: r"));
    assert_eq!(seen.decisions.len(), 2);
}

#[test]
fn candidates_are_those_of_the_range_in_its_order_and_who_was_behind_stays_so_until_it_says_that_it_is_not() {
    let link = |from: &str, gap: bool| json!({"store": "orders", "from": from, "state": "Running", "gap": gap});
    let ready = |caught_up: Value, links: Value| json!({"observedGeneration": 1, "routers": [{"name": "r", "connected": true}], "stores": [], "links": links, "caughtUp": caught_up});
    for (caught_up, links, behind) in [
        // That its links run says nothing: the row behind which it would wait may not have come yet.
        (json!([]), json!([link("b", false)]), true),
        (json!(["uid-1"]), json!([]), true),
        (json!(["uid-1", "uid-2"]), json!([link("b", true)]), false),
        (json!(["uid-1", "uid-2"]), json!([link("a", true)]), true),
    ] {
        let reports = vec![
            report("b", ready(json!([]), json!([]))),
            report("c", ready(caught_up.clone(), links.clone())),
        ];
        let mut inputs = inputs(reports, json!([]));
        let earlier = |uid: &str| (uid.into(), format!("earlier-{uid}"));
        inputs.were_behind = [("c".into(), vec![earlier("uid-1"), earlier("uid-2")])].into();
        let candidates = failover_seen(&operation(), &inputs).candidates;
        let names: Vec<_> = candidates.iter().map(|candidate| candidate.unit.as_str()).collect();
        assert_eq!(names, ["c", "b"]);
        assert_eq!(candidates[0].behind.is_some(), behind, "{caught_up} {links}");
        assert_eq!(candidates[0].ready, Some(UnitReady::Ready));
    }
}

#[test]
fn no_link_with_a_lost_unit_is_waited_for() {
    let link = |from: &str, state: &str| json!({"store": "orders", "from": from, "state": state});
    let b = json!({"links": [link("a", "Broken"), link("c", "Running")]});
    let c = json!({"links": [link("a", "Broken"), link("b", "Running")]});
    let seen = crate::promotions::seen::seen(&operation(), &inputs(vec![report("b", b), report("c", c)], json!([])));
    for member in &seen.members {
        assert_eq!(member.links, Some(Ok(())), "{}", member.unit);
    }
}
