//! Which Verification runs, what units are asked, and how it ends.

use super::*;
use crate::fixtures::object;
use crate::tables::View;
use jiff::Timestamp;
use multiactive_api::{RepairMode, UnitAssignment, VerificationStatus};
use multiactive_core::epoch::Epoch;
use multiactive_core::span::SpanState;
use multiactive_core::table::KeyspaceTable;
use serde_json::{Value, json};

fn store(name: &str, members: &[&str]) -> Arc<DataStore> {
    let member = |unit: &&str| json!({"unit": unit, "address": "db:5432", "credentials": "db"});
    let spec = json!({
        "topology": "Sharded", "keyspace": "users",
        "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "shop"}},
        "tables": [{"name": "orders", "shardKey": "user_id"}],
        "members": members.iter().map(member).collect::<Vec<_>>(),
    });
    Arc::new(object("DataStore", name, spec))
}

fn verification(name: &str, second: i64, spec: Value) -> Arc<Verification> {
    let mut object: Verification = object("Verification", name, spec);
    let at = Timestamp::from_second(second).unwrap();
    object.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
    Arc::new(object)
}

/// East owns slots 0 to 7, north the others; south only follows.
fn table() -> RoutingTable {
    let mut keyspace = KeyspaceTable::unowned("users".into(), 16);
    for (unit, first, last) in [("east", 0, 7), ("north", 8, 15)] {
        let slots = SlotSet::range(first, last);
        keyspace.set(&slots, Some(&unit.into()), SpanState::Serving, Epoch::new(1, 1));
    }
    RoutingTable {
        keyspaces: vec![keyspace],
        ..RoutingTable::default()
    }
}

fn inputs(verifications: Vec<Arc<Verification>>) -> Inputs {
    Inputs {
        namespace: "shop".to_owned(),
        stores: vec![store("orders", &["east", "north", "south"])],
        reachable: ["east", "north", "south"].map(UnitName::from).into(),
        verifications,
        ..Inputs::default()
    }
}

/// What a unit reports of Verification `v`: owner, state and what else.
fn reports(inputs: &mut Inputs, unit: &str, pairs: &[(&str, &str, Value)]) {
    let pair = |(owner, state, more): &(&str, &str, Value)| {
        let slots = if *owner == "east" { "0-7" } else { "8-15" };
        let mut pair = json!({"store": "orders", "owner": owner, "state": state, "slots": slots, "rows": 5});
        pair.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pair
    };
    let mut assignment: UnitAssignment = object("UnitAssignment", unit, json!({"unit": unit, "cluster": "c"}));
    let pairs: Vec<_> = pairs.iter().map(pair).collect();
    let status = json!({"verification": {"uid": "v", "pairs": pairs}});
    assignment.status = Some(serde_json::from_value(status).unwrap());
    inputs.reports.insert(unit.into(), Arc::new(assignment));
}

fn said(inputs: &Inputs, name: &str) -> VerificationStatus {
    let object = inputs
        .verifications
        .iter()
        .find(|object| object.name_any() == name)
        .unwrap();
    let view = View {
        inputs: inputs.clone(),
        table: Some(Arc::new(table())),
        ..View::default()
    };
    status(object, &view, Timestamp::UNIX_EPOCH)
}

#[test]
fn the_oldest_that_can_runs_and_units_are_asked_for_what_it_selects() {
    let all = || json!({});
    let of_nobody = || json!({"stores": ["carts"]});
    for (first, second, want) in [
        (all(), all(), Some("v")),
        (of_nobody(), all(), Some("w")),
        (json!({"units": ["west"]}), all(), Some("w")),
        (of_nobody(), of_nobody(), None),
    ] {
        let inputs = inputs(vec![verification("w", 2, second), verification("v", 1, first)]);
        assert_eq!(running(&inputs, &table()).map(ResourceExt::name_any).as_deref(), want);
        let uid = assigned("south", &inputs, &table()).map(|asked| asked.uid);
        assert_eq!(uid.as_deref(), want);
    }
    let one = inputs(vec![verification(
        "v",
        1,
        json!({"units": ["north"], "repair": "FromOwner"}),
    )]);
    assert_eq!(assigned("south", &one, &table()), None);
    assert_eq!(assigned("west", &one, &table()), None);
    let asked = assigned("north", &one, &table()).unwrap();
    assert_eq!(
        (asked.stores, asked.repair),
        (vec!["orders".to_owned()], RepairMode::FromOwner)
    );
    // Paused, or ended, it does not run.
    for change in [
        |object: &mut Verification| {
            object
                .annotations_mut()
                .insert(crate::status::PAUSED.to_owned(), "true".to_owned());
        },
        |object: &mut Verification| {
            object.status = Some(VerificationStatus {
                outcome: Some("Succeeded".to_owned()),
                ..VerificationStatus::default()
            });
        },
    ] {
        let mut object = (*verification("v", 1, json!({}))).clone();
        change(&mut object);
        assert!(running(&inputs(vec![Arc::new(object)]), &table()).is_none());
    }
}

#[test]
fn it_waits_for_each_unit_with_each_owner_and_says_what_stands_in_the_way() {
    let mut inputs = inputs(vec![verification("v", 1, json!({})), verification("w", 2, json!({}))]);
    let status = said(&inputs, "v");
    let pairs: Vec<_> = status
        .pairs
        .iter()
        .map(|pair| (pair.unit.as_str(), pair.found.owner.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [
            ("east", "north"),
            ("north", "east"),
            ("south", "east"),
            ("south", "north")
        ]
    );
    assert_eq!((status.done.as_deref(), status.outcome), (Some("0/4"), None));
    assert_eq!(said(&inputs, "w").waiting_for.as_deref(), Some("Verification v to end"));

    let denied = json!({"message": "permission denied", "slots": null, "rows": null});
    reports(
        &mut inputs,
        "south",
        &[("east", "Equal", json!({})), ("north", "Comparing", denied)],
    );
    inputs.reachable.remove(&UnitName::from("east"));
    inputs.away.insert("east".into());
    let status = said(&inputs, "v");
    assert_eq!((status.done.as_deref(), status.rows), (Some("1/4"), Some(5)));
    let waits = "orders at east with north: the member cluster of east does not answer; \
                 orders at south with north: permission denied; orders at north with east";
    assert_eq!(status.waiting_for.as_deref(), Some(waits));
    inputs.lost.insert("north".into());
    let waits = said(&inputs, "v").waiting_for.unwrap();
    assert!(waits.contains("north is in quarantine"), "{waits}");
}

#[test]
fn how_far_it_is_is_told_in_slots_and_rows_before_a_pair_has_ended() {
    let mut inputs = inputs(vec![verification("v", 1, json!({"maxRowsPerSecond": 900}))]);
    assert_eq!(said(&inputs, "v").compared_slots.as_deref(), Some("0/32"));
    let part = json!({"compared": "8-10", "rows": 7});
    reports(
        &mut inputs,
        "south",
        &[("east", "Equal", json!({})), ("north", "Comparing", part)],
    );
    let status = said(&inputs, "v");
    assert_eq!(
        (status.done.as_deref(), status.compared_slots.as_deref(), status.rows),
        (Some("1/4"), Some("11/32"), Some(12))
    );
    let waits = "orders at east with north; orders at north with east; orders at south with north, \
                 at most 900 rows a second of a database";
    assert_eq!(status.waiting_for.as_deref(), Some(waits));
    // Of a slot that is large its rows are told, and the slot is not before all of it was compared.
    let within = json!({"slot": 11, "table": "orders", "order": "o", "key": ["k"], "rows": 100, "differs": true});
    let part = json!({"compared": "8-10", "rows": 7, "within": within});
    reports(&mut inputs, "south", &[("north", "Comparing", part)]);
    let status = said(&inputs, "v");
    let told = (status.compared_slots.as_deref(), status.rows, status.differing_slots);
    assert_eq!(told, (Some("3/32"), Some(107), Some(0)));
    assert!(status.pairs[3].found.within.is_some(), "{status:?}");
    // What was compared with what the owner had then counts no more.
    let other = json!({"compared": "8-10", "slots": "8-12"});
    reports(&mut inputs, "south", &[("north", "Comparing", other)]);
    assert_eq!(said(&inputs, "v").compared_slots.as_deref(), Some("0/32"));
}

#[test]
fn units_that_compare_side_by_side_share_the_pace_and_one_alone_has_all_of_it() {
    for (spec, want) in [
        (json!({}), None),
        (json!({"maxRowsPerSecond": 900}), Some(300)),
        (json!({"maxRowsPerSecond": 900, "units": ["south", "north"]}), Some(450)),
        (json!({"maxRowsPerSecond": 900, "units": ["south"]}), Some(900)),
    ] {
        let inputs = inputs(vec![verification("v", 1, spec.clone())]);
        let asked = assigned("south", &inputs, &table()).unwrap();
        assert_eq!(asked.max_rows_per_second, want, "{spec}");
    }
    // One after the other is repaired.
    let spec = json!({"maxRowsPerSecond": 900, "repair": "FromOwner"});
    let inputs = inputs(vec![verification("v", 1, spec)]);
    let asked = assigned("east", &inputs, &table()).unwrap();
    assert_eq!(asked.max_rows_per_second, Some(900));
}

#[test]
fn one_that_only_waits_for_who_is_away_lets_others_pass() {
    let of = |name, second, unit: &str| verification(name, second, json!({"units": [unit]}));
    let mut inputs = inputs(vec![of("v", 1, "north"), of("w", 2, "south")]);
    let runs = |inputs: &Inputs| running(inputs, &table()).map(ResourceExt::name_any);
    assert_eq!(runs(&inputs).as_deref(), Some("v"));
    inputs.lost.insert("north".into());
    assert_eq!(runs(&inputs).as_deref(), Some("w"));
    // Where all of them wait it is the oldest.
    inputs.lost.insert("south".into());
    assert_eq!(runs(&inputs).as_deref(), Some("v"));
}

#[test]
fn it_ends_by_what_was_found() {
    let differs = || json!({"differing": "1,3", "examples": ["orders id=7 (slot 3): only at north"]});
    let settled = || json!({"differing": "3", "message": "2 taken from east"});
    let repaired = || json!({"differing": "1,3", "message": "2 rows of 2 slots were copied, and 1 removed"});
    for (state, more, outcome, reason, words, slots) in [
        ("Equal", json!({}), Some("Succeeded"), "Equal", "all 20 rows", 0),
        ("Differs", differs(), Some("Failed"), "RowsDiffer", "only at north", 2),
        ("Repaired", repaired(), Some("Succeeded"), "Repaired", "1 removed", 2),
        (
            "Settled",
            settled(),
            Some("Succeeded"),
            "Settled",
            "2 taken from east",
            1,
        ),
        ("Repairing", differs(), None, "", "", 2),
        // It was compared with what the owner had then.
        ("Equal", json!({"slots": "0-3"}), None, "", "", 0),
    ] {
        let mut inputs = inputs(vec![verification("v", 1, json!({}))]);
        reports(&mut inputs, "east", &[("north", "Equal", json!({}))]);
        reports(&mut inputs, "north", &[("east", state, more)]);
        let both = [("east", "Equal", json!({})), ("north", "Equal", json!({}))];
        reports(&mut inputs, "south", &both);
        let status = said(&inputs, "v");
        assert_eq!(status.outcome.as_deref(), outcome, "{state}: {status:?}");
        assert_eq!(status.reason.as_deref().unwrap_or_default(), reason);
        assert!(
            status.message.as_deref().unwrap_or_default().contains(words),
            "{status:?}"
        );
        assert_eq!(status.differing_slots, Some(slots), "{state}");
        assert_eq!(status.ended_at.is_some(), outcome.is_some());
    }
    // Where nobody follows there is nothing to compare.
    let mut alone = inputs(vec![verification("v", 1, json!({}))]);
    alone.stores = vec![store("orders", &["east"])];
    assert_eq!(said(&alone, "v").reason.as_deref(), Some("NothingToCompare"));
}

#[test]
fn of_a_store_that_several_write_each_is_compared_with_each_other_or_with_the_owners() {
    let pairs = |conflict: Option<Conflict>| {
        let mut inputs = inputs(vec![verification("v", 1, json!({}))]);
        Arc::make_mut(&mut inputs.stores[0]).spec.conflict = conflict;
        // It takes part though a Failover took slots from it.
        inputs.lost.insert("south".into());
        let told = wanted(&inputs.verifications[0], &inputs, &table()).into_iter();
        let told = told.map(|pair| format!("{} {} {}", pair.unit, pair.owner, pair.slots));
        let waits = said(&inputs, "v").waiting_for.unwrap_or_default();
        (told.collect::<Vec<_>>(), waits.contains("quarantine"))
    };
    let owners = [
        "east north 8-15",
        "north east 0-7",
        "south east 0-7",
        "south north 8-15",
    ];
    let owners = owners.map(str::to_owned).to_vec();
    assert_eq!(pairs(None), (owners.clone(), true));
    assert_eq!(pairs(Some(Conflict::OwnerWins)), (owners.clone(), false));
    assert_eq!(pairs(Some(Conflict::Report)), (owners, false));
    let (all, waits) = pairs(Some(Conflict::LastWriterWins));
    assert_eq!((all.len(), waits), (6, false));
    assert!(all.iter().all(|pair| pair.ends_with(" 0-15")), "{all:?}");
}

#[test]
fn who_is_away_of_those_that_write_is_left_out_and_named() {
    let mut inputs = inputs(vec![verification("v", 1, json!({}))]);
    Arc::make_mut(&mut inputs.stores[0]).spec.conflict = Some(Conflict::LastWriterWins);
    inputs.reachable.remove(&UnitName::from("south"));
    inputs.away.insert("south".into());
    let pairs = wanted(&inputs.verifications[0], &inputs, &table());
    let told: Vec<_> = pairs
        .iter()
        .map(|pair| format!("{} {}", pair.unit, pair.owner))
        .collect();
    assert_eq!(told, ["east north", "north east"]);
    let all = json!({"slots": "0-15"});
    reports(&mut inputs, "east", &[("north", "Equal", all.clone())]);
    reports(&mut inputs, "north", &[("east", "Equal", all)]);
    let status = said(&inputs, "v");
    assert_eq!(status.reason.as_deref(), Some("Equal"), "{status:?}");
    assert!(status.message.unwrap().contains("not with south"));
}

#[test]
fn a_store_that_several_write_has_no_part_in_operations_and_holds_none_up() {
    let mut inputs = inputs(Vec::new());
    reports(&mut inputs, "east", &[]);
    let broken = json!([{"name": "orders", "ready": false, "message": "no answer"}]);
    let report = Arc::make_mut(inputs.reports.get_mut(&UnitName::from("east")).unwrap());
    let generation = report.metadata.generation;
    let status = report.status.as_mut().unwrap();
    status.stores = serde_json::from_value(broken).unwrap();
    status.observed_generation = generation;
    for (conflict, moving, problem) in [(None, 1, true), (Some(Conflict::OwnerWins), 0, false)] {
        Arc::make_mut(&mut inputs.stores[0]).spec.conflict = conflict;
        let spec = &inputs.stores[0].spec;
        let keyspace = inputs.stores[0].keyspace_name().to_string();
        let assigned = json!([{"name": "orders", "keyspace": keyspace, "engine": spec.engine,
            "tables": spec.tables, "local": spec.members[0]}]);
        let report = Arc::make_mut(inputs.reports.get_mut(&UnitName::from("east")).unwrap());
        report.spec.stores = serde_json::from_value(assigned).unwrap();
        assert_eq!(inputs.stores_in_force().len(), moving);
        assert_eq!(inputs.store_problem(&"east".into()).is_some(), problem, "{conflict:?}");
        let ready = inputs.stores_ready(&"east".into());
        assert_eq!(ready.map(|ready| ready.is_err()), Some(problem), "{conflict:?}");
        assert_eq!(inputs.members_of(&"users".into()).is_empty(), !problem);
    }
}

#[test]
fn one_unit_after_the_other_is_repaired_and_what_was_told_of_it_stays() {
    let mut inputs = inputs(vec![verification("v", 1, json!({"repair": "FromOwner"}))]);
    let mut asked = Vec::new();
    for turn in ["east", "north", "south"] {
        let all = ["east", "north", "south"].map(|unit| assigned(unit, &inputs, &table()).is_some());
        asked.push(all.iter().filter(|asked| **asked).count());
        assert!(assigned(turn, &inputs, &table()).is_some(), "{turn}: {asked:?}");
        let others = [
            ("east", "Repaired", json!({"differing": "3"})),
            ("north", "Equal", json!({})),
        ];
        let others: Vec<_> = others.into_iter().filter(|(owner, ..)| *owner != turn).collect();
        reports(&mut inputs, turn, &others);
        // It goes on once the status says so, and not before: then the report may go.
        let status = said(&inputs, "v");
        assert!(assigned(turn, &inputs, &table()).is_some(), "{turn}");
        let mut object = (*inputs.verifications[0]).clone();
        object.status = Some(status);
        inputs.verifications = vec![Arc::new(object)];
        inputs.reports.clear();
    }
    assert_eq!(asked, [1, 1, 1]);
    let status = said(&inputs, "v");
    assert_eq!(status.reason.as_deref(), Some("Repaired"), "{status:?}");
    assert_eq!((status.done.as_deref(), status.differing_slots), (Some("4/4"), Some(2)));
}
