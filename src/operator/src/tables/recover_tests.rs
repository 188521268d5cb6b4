//! Tests of what a missing record is taken for.

use super::*;
use multiactive_core::epoch::Epoch;
use serde_json::{Value, json};

fn table(epoch: u64) -> RoutingTable {
    RoutingTable {
        epoch: Epoch::new(1, epoch),
        ..RoutingTable::default()
    }
}

/// What a unit's member answered: nothing, that it holds no table, or one of this epoch.
fn held(unit: &str, projection: Option<Option<u64>>, applied: Option<u64>) -> Held {
    Held {
        unit: unit.into(),
        projection: projection.map(|epoch| epoch.map(table)),
        applied: applied.map(|epoch| Epoch::new(1, epoch)),
    }
}

fn word(found: &Found) -> String {
    match found {
        Found::New => "new".to_owned(),
        Found::Table(table) => format!("table {}", table.epoch),
        Found::Asking(_) => "asking".to_owned(),
        Found::Lost(_) => "lost".to_owned(),
        Found::Unreachable(_) => "unreachable".to_owned(),
    }
}

#[test]
fn a_record_begins_anew_only_where_nothing_says_that_there_was_one() {
    let (silent, none, forty) = (None, Some(None), Some(Some(40)));
    for (why, a, b, evidence, last, waited, want) in [
        ("all answered", none, none, false, None, false, "new"),
        (
            "a silent member is given time",
            none,
            silent,
            false,
            None,
            false,
            "asking",
        ),
        ("but not for ever", none, silent, false, None, true, "new"),
        (
            "the hub was made anew, a member holds a table",
            none,
            forty,
            false,
            None,
            false,
            "table 2.41",
        ),
        (
            "the same, and the other member is silent",
            silent,
            forty,
            false,
            None,
            false,
            "asking",
        ),
        (
            "there was one, and a member is silent",
            forty,
            silent,
            true,
            None,
            true,
            "lost",
        ),
        (
            "there was one, and nobody holds it",
            none,
            none,
            true,
            None,
            true,
            "lost",
        ),
        (
            "there was one, and all answered",
            none,
            forty,
            true,
            None,
            false,
            "table 2.41",
        ),
        (
            "overtaken: a silent member may hold a later one",
            none,
            silent,
            false,
            Some(30),
            true,
            "lost",
        ),
        (
            "overtaken: a member holds a later one",
            none,
            forty,
            false,
            Some(30),
            true,
            "table 2.41",
        ),
        (
            "this process has the latest",
            none,
            forty,
            true,
            Some(42),
            true,
            "table 2.43",
        ),
    ] {
        let held = vec![held("a", a, None), held("b", b, None)];
        let last = last.map(table);
        let found = judge(
            held,
            evidence.then_some("Keyspace users was of epoch 1.40"),
            last.as_ref(),
            waited,
        );
        assert_eq!(word(&found), want, "{why}: {found:?}");
    }
}

#[test]
fn what_an_agent_acted_on_is_never_undercut() {
    let acted = vec![held("a", Some(None), Some(41)), held("b", Some(Some(40)), None)];
    for last in [None, Some(table(40))] {
        let found = judge(acted.clone(), None, last.as_ref(), true);
        assert_eq!(word(&found), "lost", "{found:?}");
    }
    assert_eq!(word(&judge(acted, None, Some(&table(41)), true)), "table 2.42");
}

fn from<T: DeserializeOwned>(kind: &str, spec: Value, status: Value, finalizers: Value) -> T {
    serde_json::from_value(
        json!({"apiVersion": "multiactive.io/v1alpha1", "kind": kind, "spec": spec, "status": status,
        "metadata": {"name": "x", "namespace": "shop", "finalizers": finalizers}}),
    )
    .unwrap()
}

#[test]
fn every_trace_of_a_record_is_evidence_and_nothing_else_is() {
    let unit = |status: Value, finalizers: Value| {
        let spec = json!({"cluster": "c", "role": "Sharded", "router": "https://r:1"});
        vec![from::<Unit>("Unit", spec, status, finalizers)]
    };
    let keyspace = |status: Value| {
        let spec = json!({"slots": 2, "function": {"type": "Crc32"}, "routes": [{"pathPrefix": "/", "backend": "b"}],
            "key": {"sources": [{"type": "Header", "header": {"name": "x"}}]}});
        vec![from::<Keyspace>("Keyspace", spec, status, json!([]))]
    };
    let range = |status: Value| {
        let spec = json!({"keyspace": "x", "firstSlot": 0, "lastSlot": 1, "homeUnit": "x"});
        vec![from::<ShardRange>("ShardRange", spec, status, json!([]))]
    };
    let store = |status: Value| {
        let spec = json!({"topology": "SingleWriter", "singleWriter": {"homeUnit": "x", "routes": []}, "tables": [],
            "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "d"}}, "members": []});
        vec![from::<DataStore>("DataStore", spec, status, json!([]))]
    };
    let none = || json!({});
    for (why, units, keyspaces, ranges, stores, want) in [
        (
            "declared only",
            unit(json!({"slots": 0}), json!(["other"])),
            none(),
            none(),
            none(),
            false,
        ),
        (
            "finalizer",
            unit(none(), json!([UNIT_FINALIZER])),
            none(),
            none(),
            none(),
            true,
        ),
        (
            "applied",
            unit(json!({"applied": "1.7"}), json!([])),
            none(),
            none(),
            none(),
            true,
        ),
        (
            "owned",
            unit(json!({"slots": 3}), json!([])),
            none(),
            none(),
            none(),
            true,
        ),
        ("keyspace", vec![], json!({"epoch": "1.7"}), none(), none(), true),
        ("range", vec![], none(), json!({"epoch": 7}), none(), true),
        (
            "writer",
            vec![],
            none(),
            none(),
            json!({"writer": {"state": "Serving", "epoch": "1.7"}}),
            true,
        ),
    ] {
        let (keyspaces, ranges, stores) = (keyspace(keyspaces), range(ranges), store(stores));
        let found = evidence(&units, &keyspaces, &ranges, &stores);
        assert_eq!(found.is_some(), want, "{why}");
    }
}
