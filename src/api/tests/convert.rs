//! The core's types survive the way through the stored shapes; what does not fit names its field.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use jiff::{SignedDuration, Timestamp};
use multiactive_api::convert;
use multiactive_api::{FailoverSpec, KeyspaceSpec, PromotionSpec, RoutingTableSpec, ShardRange};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, UnitName};
use multiactive_core::key::Given;
use multiactive_core::keyspace::Keyspace;
use multiactive_core::promotion::{
    Accepted, Budgets, Failover, FenceProof, FencedBy, Finished, Found, Heard, Landmark, Loss, MovingStore, Operation,
    OperationKind, Outcome, Placement, Progress, Retargeted, SlotMove, Step, StepRecord, StoreLoss, StorePosition,
    Superseded, Tail, UnitPosition, Verify,
};
use multiactive_core::quarantine::{LeaseGrant, Quarantined};
use multiactive_core::select::{NamedRange, Selection};
use multiactive_core::slots::SlotSet;
use multiactive_core::span::SpanState;
use multiactive_core::table::{Fencing, KeyspaceTable, RoutingTable, TableUnit};
use serde_json::{Value, json};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A table in which every field has a value that its default does not have.
fn table() -> RoutingTable {
    let mut users = KeyspaceTable::unowned("users".into(), 1024);
    users.definition = Some("Crc32+2:00".to_owned());
    let (east, north): (UnitName, UnitName) = ("east-1".into(), "north-1".into());
    users.set(
        &SlotSet::range(0, 511),
        Some(&east),
        SpanState::Fenced,
        Epoch::new(2, 41),
    );
    users.set(
        &SlotSet::range(512, 1000),
        Some(&north),
        SpanState::Serving,
        Epoch::new(1, 12),
    );
    let mut catalog = KeyspaceTable::unowned(KeyspaceName::of_writer(&"catalog".into()), 1);
    catalog.definition = Some(Keyspace::single_writer().definition());
    let mut prices = KeyspaceTable {
        name: KeyspaceName::of_writer(&"prices".into()),
        ..catalog.clone()
    };
    let only = SlotSet::range(0, 0);
    prices.set(&only, Some(&north), SpanState::Opening, Epoch::new(2, 40));
    let history = vec![
        StepRecord {
            step: Step::Check,
            at: at("2026-11-22T12:00:00.123456Z"),
            not_needed: None,
        },
        StepRecord {
            step: Step::Verify,
            at: at("2026-11-22T12:00:01Z"),
            not_needed: Some("spec.verify is None".into()),
        },
    ];
    let finished = |name: &str, outcome| Finished {
        kind: OperationKind::Promotion,
        uid: format!("uid-{name}").into(),
        name: name.into(),
        outcome,
        at: at("2026-11-22T11:00:00.5Z"),
        epoch: Epoch::new(1, 30),
        behind: vec!["south".into()],
        keyspaces: Vec::new(),
        unsettled: vec!["west/r1 routes by an older table".into()],
        loss: None,
        history: history.clone(),
    };
    let why = || ("Stale".to_owned(), "look again".to_owned());
    let router = |name: &str| format!("https://router.{name}.example:8443");
    RoutingTable {
        epoch: Epoch::new(2, 43),
        units: vec![
            TableUnit {
                name: east.clone(),
                router: router("east"),
            },
            TableUnit {
                name: north.clone(),
                router: router("north"),
            },
        ],
        // By name, as the table keeps them.
        keyspaces: vec![catalog, prices, users],
        operations: vec![Operation {
            kind: OperationKind::Promotion,
            uid: "uid-1".into(),
            name: "move".into(),
            target: north.clone(),
            moves: vec![SlotMove {
                keyspace: "users".into(),
                source: east.clone(),
                slots: "0-511,600".parse().unwrap(),
            }],
            stores: vec![MovingStore {
                store: "orders".into(),
                keyspace: "users".into(),
                members: vec!["east".into(), "north".into()],
            }],
            verify: Verify::Full,
            budgets: Budgets {
                fence: SignedDuration::from_secs(10),
                drain: SignedDuration::from_millis(1500),
            },
            step: Step::Drain,
            epoch: Epoch::new(2, 41),
            positions: vec![StorePosition {
                store: "orders".into(),
                source: east.clone(),
                vector: vec![UnitPosition {
                    unit: east,
                    position: "0/1A2B".into(),
                }],
            }],
            behind: vec!["south".into(), "west".into()],
            failover: None,
            history: history.clone(),
        }],
        quarantined: vec![Quarantined {
            unit: "west".into(),
            since: Epoch::new(2, 30),
            by: "uid-9".into(),
            name: "lost-west".into(),
            accepted: Some(Accepted {
                by: "alice".into(),
                reason: "INC-7".into(),
            }),
        }],
        leases: vec![LeaseGrant {
            unit: "north".into(),
            at: Epoch::new(1, 12),
        }],
        finished: vec![
            finished("a", Outcome::Succeeded),
            finished("b", {
                let (reason, message) = why();
                Outcome::Refused { reason, message }
            }),
            finished("c", {
                let (reason, message) = why();
                Outcome::Aborted { reason, message }
            }),
        ],
        fencing: vec![Fencing {
            unit: "east-1".into(),
            stores: ["catalog".into(), "orders".into()].into(),
        }],
    }
}

/// The table with a failover in it that has all that one can have, and one that ended with what was found.
fn with_failover() -> RoutingTable {
    let mut table = table();
    let at: Timestamp = "2026-11-26T08:00:00.123456789Z".parse().unwrap();
    let confirmed = || FencedBy::Confirmed {
        by: "alice".into(),
        reason: "INC-7".into(),
    };
    let hooked = || FencedBy::Hook {
        by: "pdu.example:443".into(),
        reason: "outlet 7 is off".into(),
    };
    let loss = Loss {
        fenced_by: confirmed(),
        stores: vec![
            StoreLoss {
                store: "orders".into(),
                bound: Some(SignedDuration::from_millis(1500)),
            },
            StoreLoss {
                store: "carts".into(),
                bound: None,
            },
        ],
        bound: None,
        given_up: vec!["west".into()],
        accepted: Some(Accepted {
            by: "bob".into(),
            reason: "INC-8".into(),
        }),
        found: Some(Found {
            rows: 7,
            span: Some(SignedDuration::from_millis(900)),
            at,
        }),
    };
    let op = &mut table.operations[0];
    op.kind = OperationKind::Failover;
    op.uid = "uid-1.2".into();
    op.verify = Verify::None;
    op.failover = Some(Box::new(Failover {
        lost: "east".into(),
        ranges: vec!["users-0".into()],
        max_data_loss: SignedDuration::from_secs(5),
        named: true,
        fences: false,
        superseded: Some(Superseded {
            uid: "uid-0".into(),
            sources: vec!["west".into()],
            behind: vec!["south".into()],
        }),
        fence: Epoch::new(2, 40),
        proof: Some(FenceProof {
            by: hooked(),
            at,
            landmarks: vec![Landmark {
                store: "orders".into(),
                progress: Progress {
                    log: "7213".into(),
                    at: u64::MAX,
                },
                until_end: SignedDuration::from_millis(2500),
            }],
            heard: vec![Heard {
                unit: "north".into(),
                until_end: SignedDuration::ZERO,
            }],
        }),
        loss: Some(loss.clone()),
        retargeted: vec![Retargeted {
            from: "south".into(),
            to: "north".into(),
            why: "it had received more".into(),
            at,
            tail: true,
        }],
        tail: Some(Tail {
            from: "south-1".into(),
            stores: vec![(
                "orders".into(),
                Progress {
                    log: "pg-7".to_owned(),
                    at: 12,
                },
            )],
        }),
    }));
    for (done, by) in table
        .finished
        .iter_mut()
        .zip([FencedBy::Lease, FencedBy::Report, confirmed()])
    {
        done.kind = OperationKind::Failover;
        done.loss = Some(Loss {
            fenced_by: by,
            ..loss.clone()
        });
    }
    let (reason, message) = ("Superseded".to_owned(), "by lost-north".to_owned());
    table.finished[2].outcome = Outcome::Failed { reason, message };
    table
}

#[test]
fn a_failover_reads_back_as_it_was_written_and_a_bound_is_never_rounded_down() {
    let mut table = with_failover();
    let stored = RoutingTableSpec::try_from(&table).unwrap();
    let json = serde_json::to_value(&stored).unwrap();
    let stored: RoutingTableSpec = serde_json::from_value(json).unwrap();
    assert_eq!(RoutingTable::try_from(&stored).unwrap(), table);
    let failover = table.operations[0].failover.as_mut().unwrap();
    failover.loss.as_mut().unwrap().bound = Some(SignedDuration::new(1, 1));
    let stored = RoutingTableSpec::try_from(&table).unwrap();
    let loss = stored.operations[0].failover.as_ref().unwrap().loss.clone().unwrap();
    assert_eq!(loss.bound_ms, Some(1001));
}

#[test]
fn a_table_of_an_older_version_has_no_failover_and_nobody_in_quarantine() {
    let mut json = serde_json::to_value(RoutingTableSpec::try_from(&table()).unwrap()).unwrap();
    for field in ["quarantined", "leases", "fencing", "writers"] {
        assert!(json.as_object_mut().unwrap().remove(field).is_some());
    }
    let stored: RoutingTableSpec = serde_json::from_value(json).unwrap();
    let read = RoutingTable::try_from(&stored).unwrap();
    assert!(read.quarantined.is_empty() && read.leases.is_empty() && read.fencing.is_empty());
    assert_eq!(read.keyspaces.len(), 1);
    assert_eq!(read.operations, table().operations);
    // A failover without its part is damaged, not a promotion.
    let mut json = serde_json::to_value(RoutingTableSpec::try_from(&with_failover()).unwrap()).unwrap();
    json["operations"][0].as_object_mut().unwrap().remove("failover");
    let stored: RoutingTableSpec = serde_json::from_value(json).unwrap();
    assert_eq!(
        RoutingTable::try_from(&stored).unwrap_err().field,
        "spec.operations[0].failover"
    );
}

#[test]
fn a_table_reads_back_as_it_was_written() {
    let stored = RoutingTableSpec::try_from(&table()).unwrap();
    let json = serde_json::to_value(&stored).unwrap();
    let stored: RoutingTableSpec = serde_json::from_value(json).unwrap();
    assert_eq!(RoutingTable::try_from(&stored).unwrap(), table());
}

/// Who does not know that only what changed is to be compared finds a word that it knows, and compares all.
#[test]
fn how_rows_are_compared_is_stored_in_words_of_all_versions() {
    for (verify, word, changed_only) in [
        (Verify::None, "None", false),
        (Verify::Changed, "Full", true),
        (Verify::Full, "Full", false),
    ] {
        let mut table = table();
        table.operations[0].verify = verify;
        let stored = RoutingTableSpec::try_from(&table).unwrap();
        let op = &stored.operations[0];
        assert_eq!((op.verify.as_str(), op.changed_only), (word, changed_only));
        assert_eq!(RoutingTable::try_from(&stored).unwrap(), table);
    }
}

#[test]
fn a_stored_table_that_does_not_fit_is_an_error_that_names_the_field() {
    let good = serde_json::to_value(RoutingTableSpec::try_from(&table()).unwrap()).unwrap();
    for (pointer, bad, field) in [
        ("/term", json!(-1), "spec.term"),
        ("/epoch", json!(-1), "spec.epoch"),
        ("/keyspaces/0/slots", json!(-1), "spec.keyspaces[0].slots"),
        ("/writers/0/owner", json!("north-1"), "spec.writers[0].owner"),
        ("/writers/1/owner", Value::Null, "spec.writers[1].owner"),
        ("/writers/1/owner", json!("nobody-1"), "spec.writers[1].owner"),
        ("/writers/1/epoch", json!(-1), "spec.writers[1].epoch"),
        ("/keyspaces/0/spans", json!("1024x"), "spec.keyspaces[0].spans"),
        (
            "/operations/0/moves/0/slots",
            json!("a-b"),
            "spec.operations[0].moves[0].slots",
        ),
        ("/operations/0/verify", json!("Some"), "spec.operations[0].verify"),
        ("/operations/0/step", json!("Leap"), "spec.operations[0].step"),
        ("/operations/0/epoch", json!(-4), "spec.operations[0].epoch"),
        (
            "/operations/0/history/1/at",
            json!("noon"),
            "spec.operations[0].history[1].at",
        ),
        ("/finished/2/outcome", json!("Lost"), "spec.finished[2].outcome"),
        ("/finished/1/reason", Value::Null, "spec.finished[1].reason"),
        ("/finished/0/at", json!(""), "spec.finished[0].at"),
    ] {
        let mut json = good.clone();
        // The last name may be one that is left out where there is nothing to say.
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[name] = bad;
        let stored: RoutingTableSpec = serde_json::from_value(json).unwrap();
        let error = RoutingTable::try_from(&stored).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
}

#[test]
fn the_writer_of_a_store_is_stored_by_name_and_not_as_slots() {
    let stored = RoutingTableSpec::try_from(&table()).unwrap();
    assert_eq!(stored.keyspaces.len(), 1);
    assert_eq!(
        serde_json::to_value(&stored.writers).unwrap(),
        json!([
            {"store": "catalog", "state": "Unowned", "term": 0, "epoch": 0},
            {"store": "prices", "owner": "north-1", "state": "Opening", "term": 2, "epoch": 40},
        ])
    );
}

#[test]
fn a_table_whose_owner_is_not_listed_is_never_written() {
    let mut table = table();
    table.units.remove(0);
    assert_eq!(
        RoutingTableSpec::try_from(&table).unwrap_err().field,
        "spec.keyspaces[0].spans"
    );
}

#[test]
fn a_promotion_becomes_a_request() {
    let spec = |mode: &str, epoch: Value, fence: &str| -> PromotionSpec {
        serde_json::from_value(json!({
            "targetUnit": "north-1", "mode": mode, "verify": "Full", "expectedEpoch": epoch,
            "select": {"type": "Slots", "slots": {"keyspace": "users", "slots": "0-511,600"}},
            "budgets": {"fence": fence},
        }))
        .unwrap()
    };
    let mut good = spec("Execute", json!(41), "1m30s");
    let Ok(Selection::Slots { keyspace, slots }) = convert::selection(&good.select) else {
        panic!("{:?}", good.select);
    };
    let select = vec![(keyspace, slots)];
    let request = convert::request(&good, "uid".into(), "move", select.clone(), Vec::new()).unwrap();
    assert_eq!(request.select[0].1.len(), 513);
    assert_eq!((request.expected_epoch, request.verify), (41, Verify::Full));
    for (mode, verify) in [("None", Verify::None), ("Changed", Verify::Changed)] {
        good.verify = serde_json::from_value(json!(mode)).unwrap();
        let request = convert::request(&good, "uid".into(), "move", Vec::new(), Vec::new()).unwrap();
        assert_eq!(request.verify, verify);
    }
    assert_eq!(request.budgets.fence, SignedDuration::from_secs(90));
    assert_eq!(request.budgets.drain, SignedDuration::from_secs(30), "the default");
    for (bad, field) in [
        (spec("Execute", Value::Null, "10s"), "spec.expectedEpoch"),
        (spec("Execute", json!(-1), "10s"), "spec.expectedEpoch"),
        (spec("Execute", json!(1), "soon"), "spec.budgets.fence"),
    ] {
        assert_eq!(
            convert::request(&bad, "uid".into(), "move", select.clone(), Vec::new())
                .unwrap_err()
                .field,
            field
        );
    }
}

#[test]
fn a_selection_lacks_nothing_that_its_type_names() {
    for (select, want) in [
        (
            json!({"type": "Unit", "unit": "east-1"}),
            Ok(Selection::Unit("east-1".into())),
        ),
        (
            json!({"type": "Ranges", "ranges": ["a", "b"]}),
            Ok(Selection::Ranges(vec!["a".into(), "b".into()])),
        ),
        (json!({"type": "Unit"}), Err("spec.select.unit")),
        (json!({"type": "Ranges", "unit": "a"}), Err("spec.select.ranges")),
        (json!({"type": "Slots"}), Err("spec.select.slots")),
        (
            json!({"type": "Slots", "slots": {"keyspace": "users", "slots": "9-3"}}),
            Err("spec.select.slots.slots"),
        ),
    ] {
        let stored = serde_json::from_value(select.clone()).unwrap();
        let got = convert::selection(&stored).map_err(|error| error.field);
        assert_eq!(got, want.map_err(str::to_owned), "{select}");
    }
}

#[test]
fn a_failover_becomes_a_request() {
    let spec = |epoch: i64, loss: &str| -> FailoverSpec {
        let spec = json!({"lostUnit": "east-1", "targetUnit": "north-1", "expectedEpoch": epoch, "maxDataLoss": loss});
        serde_json::from_value(spec).unwrap()
    };
    let request = |spec: &FailoverSpec| {
        convert::failover_request(spec, "uid".into(), "lost-east", Placement::default(), Vec::new(), true)
    };
    let good = request(&spec(41, "5s")).unwrap();
    assert_eq!(
        (good.lost, good.named, good.expected_epoch),
        ("east-1".into(), true, 41)
    );
    assert_eq!(good.max_data_loss, SignedDuration::from_secs(5));
    assert_eq!(request(&spec(-1, "5s")).unwrap_err().field, "spec.expectedEpoch");
    assert_eq!(request(&spec(1, "soon")).unwrap_err().field, "spec.maxDataLoss");
}

#[test]
fn a_keyspace_becomes_a_function_and_an_extractor() {
    let spec = |sources: Value, slots: i32| -> KeyspaceSpec {
        serde_json::from_value(json!({
            "slots": slots, "key": {"sources": sources}, "function": {"type": "Crc32"},
            "overrides": [{"keys": ["vip-1", "vip-2"], "slot": 7}],
        }))
        .unwrap()
    };
    let sources = json!([
        {"type": "Path", "path": {"pattern": "^/orders/([a-z]+)$"}},
        {"type": "Header", "header": {"name": "X-User-Id"}},
    ]);
    let good = spec(sources, 1024);
    let keyspace = Keyspace::try_from(&good).unwrap();
    assert_eq!((keyspace.slot_of("vip-2"), keyspace.slots()), (7, 1024));
    let extractor = convert::extractor(&good).unwrap();
    assert_eq!(
        extractor.extract("/orders/bob", |_| Given::Absent).unwrap(),
        Some("bob")
    );
    let header = extractor.extract("/", |name| match name {
        "x-user-id" => Given::Once(b"eve"),
        _ => Given::Absent,
    });
    assert_eq!(header.unwrap(), Some("eve"));
    assert_eq!(Keyspace::try_from(&spec(json!([]), 7)).unwrap_err().field, "spec");
    for (sources, field) in [
        (json!([{"type": "Path"}]), "spec.key.sources[0].path"),
        (json!([{"type": "Header"}]), "spec.key.sources[0].header"),
        (json!([]), "spec.key.sources"),
        (
            json!([{"type": "Header", "header": {"name": "a"}}, {"type": "Path", "path": {"pattern": "no group"}}]),
            "spec.key.sources[1].path.pattern",
        ),
        (
            json!([{"type": "Path", "path": {"pattern": "("}}]),
            "spec.key.sources[0].path.pattern",
        ),
        (
            json!([{"type": "Header", "header": {"name": "a b"}}]),
            "spec.key.sources[0].header.name",
        ),
    ] {
        assert_eq!(convert::extractor(&spec(sources, 8)).unwrap_err().field, field);
    }
}

fn shard_range(first: i32, last: i32) -> ShardRange {
    let spec = json!({"keyspace": "users", "firstSlot": first, "lastSlot": last, "homeUnit": "a",
        "failoverUnits": ["c", "b"]});
    let object = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": "ShardRange",
        "metadata": {"name": "users-0"}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_range_names_its_home_first_then_its_failover_units_in_their_order() {
    let known = convert::failover_range(&shard_range(0, 511)).unwrap();
    assert_eq!(known.units, ["a".into(), "c".into(), "b".into()]);
    assert_eq!(known.slots, SlotSet::range(0, 511));
}

#[test]
fn a_range_whose_slots_are_none_is_left_out_of_a_failover_and_named_in_a_selection() {
    let range = shard_range(-1, 70_000);
    assert_eq!(convert::failover_range(&range), None);
    let named = NamedRange::from(&range);
    assert_eq!((named.first, named.last), (-1, 70_000));
}
