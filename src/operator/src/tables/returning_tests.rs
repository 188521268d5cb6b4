//! Tests of what is done for units in quarantine.

use super::*;
use crate::fixtures::{object, operation};
use multiactive_api::{Failover, UnitAssignment};
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Finished, Loss, Outcome, Step};
use serde_json::{Value, json};
use std::sync::Arc;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The failover of a has ended with a bound, and a is in quarantine.
fn table() -> RoutingTable {
    let op = operation(Step::Settle, Epoch::new(1, 7));
    RoutingTable {
        epoch: Epoch::new(1, 9),
        quarantined: vec![Quarantined {
            unit: "a".into(),
            since: Epoch::new(1, 8),
            by: "lost".into(),
            name: "lost".to_owned(),
            accepted: None,
        }],
        finished: vec![Finished {
            kind: multiactive_core::promotion::OperationKind::Failover,
            uid: multiactive_core::ids::OperationUid::from("lost").part(1),
            name: "lost".to_owned(),
            outcome: Outcome::Succeeded,
            at: at(0),
            epoch: Epoch::new(1, 9),
            behind: Vec::new(),
            keyspaces: Vec::new(),
            unsettled: Vec::new(),
            loss: Some(Loss {
                fenced_by: multiactive_core::promotion::FencedBy::Lease,
                stores: Vec::new(),
                bound: None,
                given_up: Vec::new(),
                accepted: None,
                found: None,
            }),
            history: op.history,
        }],
        ..RoutingTable::default()
    }
}

fn inputs(report: Value, decisions: Value) -> Inputs {
    let assignment: UnitAssignment = {
        let mut object: UnitAssignment = object(
            "UnitAssignment",
            "a",
            json!({"unit": "a", "cluster": "a", "backends": [], "keyspaces": [], "stores": []}),
        );
        object.status = Some(serde_json::from_value(json!({"protocol": 1, "quarantine": report})).unwrap());
        object
    };
    let mut failover: Failover = object(
        "Failover",
        "lost",
        json!({"lostUnit": "a", "expectedEpoch": 3, "decisions": decisions}),
    );
    failover.metadata.uid = Some("lost".to_owned());
    let mut inputs = Inputs {
        namespace: "shop".to_owned(),
        ..Inputs::default()
    };
    inputs.failovers = vec![Arc::new(failover)];
    inputs.reachable = ["a".into()].into();
    inputs.reports = [("a".into(), Arc::new(assignment))].into();
    inputs
}

fn said(state: &str) -> Value {
    json!({"by": "lost", "state": state, "rows": 3, "spanMs": 250})
}

fn word(not_after: Option<&str>) -> Value {
    let mut word = json!({"type": "AcceptDivergence", "target": "a", "by": "alice", "reason": "INC-7"});
    if let Some(end) = not_after {
        word["notAfter"] = json!(end);
    }
    json!([word])
}

/// Every change until nothing more is done.
fn changes(mut table: RoutingTable, inputs: &Inputs) -> (Vec<String>, RoutingTable) {
    let mut all = Vec::new();
    while let Some((unit, changed)) = returning(&table, inputs, at(9)) {
        assert_eq!((unit.as_str(), changed.epoch), ("a", table.epoch.next()));
        all.extend(
            multiactive_core::diff::diff(&table, &changed)
                .iter()
                .map(ToString::to_string),
        );
        table = changed;
        assert!(all.len() < 9, "{all:?}");
    }
    (all, table)
}

#[test]
fn what_was_found_is_noted_a_word_is_taken_and_only_a_unit_that_says_it_is_equal_rejoins() {
    let found = "lost: 3 rows were lost, written within 250ms";
    let accepted = "alice accepted what only unit a holds";
    let back = "unit a is in quarantine no more";
    for (report, decisions, want) in [
        (said("Comparing"), word(None), vec![]),
        (said("Compared"), json!([]), vec![found]),
        (said("Compared"), word(Some("1970-01-01T00:00:08Z")), vec![found]),
        (said("Compared"), word(None), vec![found, accepted]),
        (said("Rejoining"), word(None), vec![found, accepted]),
        (said("Rejoined"), json!([]), vec![found]),
        (said("Rejoined"), word(None), vec![found, accepted, back]),
        // Of another quarantine.
        (
            json!({"by": "other", "state": "Rejoined", "rows": 3}),
            word(None),
            vec![],
        ),
        // Nobody knows how much: nothing is noted, and a word may be given.
        (json!({"by": "lost", "state": "Compared"}), word(None), vec![accepted]),
    ] {
        let (got, after) = changes(table(), &inputs(report.clone(), decisions));
        assert_eq!(got, want, "{report}");
        let grants = after.leases.iter().filter(|grant| grant.unit.as_str() == "a").count();
        assert_eq!(grants, usize::from(want.contains(&back)), "it gets its lease with that");
    }
}

#[test]
fn a_unit_that_is_not_heard_now_does_not_rejoin_by_what_it_said() {
    let mut inputs = inputs(said("Rejoined"), word(None));
    inputs.reachable.clear();
    assert_eq!(changes(table(), &inputs).0, Vec::<String>::new());
}
