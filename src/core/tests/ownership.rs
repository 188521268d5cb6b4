//! The table outside of promotions: who becomes a first owner, and what stays.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

mod common;

use common::{slots, unit};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_core::ownership::{Declared, DeclaredKeyspace, DeclaredUnit, OwnershipProblem, UnitSeen, manage};
use multiactive_core::promotion::Step;
use multiactive_core::ranges::{ShardRange, homes};
use multiactive_core::slots::SlotSet;
use multiactive_core::span::{SpanState, encode};
use multiactive_core::table::{KeyspaceTable, RoutingTable};
use std::collections::{BTreeMap, BTreeSet};

/// A table that has noted by what its slots were given out.
fn noted(mut table: RoutingTable) -> RoutingTable {
    table.keyspaces[0].definition = Some("Crc32".to_owned());
    table
}

fn table() -> RoutingTable {
    noted(common::table())
}

fn admitted() -> RoutingTable {
    noted(common::admitted())
}

/// Units east, north, south; keyspace `users` of 16 slots at home in east (0-7), north (8-11) and south (12-15).
fn declared() -> Declared {
    let units = ["east", "north", "south"];
    let known: BTreeSet<UnitName> = units.map(unit).into();
    let ranges = [("a", 0, 7, "east"), ("b", 8, 11, "north"), ("c", 12, 15, "south")];
    let ranges = ranges.map(|(name, first, last, home)| ShardRange {
        name: name.to_owned(),
        first,
        last,
        home: unit(home),
    });
    Declared {
        units: units
            .map(|name| DeclaredUnit {
                name: unit(name),
                router: format!("https://{name}.example:8443"),
                fences: false,
            })
            .into(),
        keyspaces: vec![DeclaredKeyspace {
            name: "users".into(),
            slots: 16,
            definition: "Crc32".to_owned(),
            homes: Some(homes(16, &ranges, &known).unwrap()),
            given_up: false,
            members: Vec::new(),
        }],
    }
}

/// Every unit stands at `applied` and may open or not.
fn seen(applied: Option<Epoch>, may_open: Option<bool>) -> BTreeMap<UnitName, UnitSeen> {
    let unit_seen = UnitSeen {
        applied,
        may_open,
        stands: BTreeMap::new(),
        fences: None,
    };
    ["east", "north", "south"]
        .map(|name| (unit(name), unit_seen.clone()))
        .into()
}

fn ready() -> BTreeMap<UnitName, UnitSeen> {
    seen(None, Some(true))
}

fn spans(table: &RoutingTable) -> String {
    let units: Vec<_> = table.units.iter().map(|unit| unit.name.clone()).collect();
    encode(&table.keyspaces[0].spans, &units).unwrap()
}

#[test]
fn slots_that_were_never_owned_open_at_home_once_that_is_known_to_be_ready() {
    for (may_open, want) in [
        (None, None),
        (Some(false), None),
        (Some(true), Some("8s0@1.4,4s1@1.9,4o2@1.11")),
    ] {
        let managed = manage(Some(&table()), &declared(), &seen(None, may_open));
        assert_eq!(managed.table.as_ref().map(spans).as_deref(), want, "{may_open:?}");
    }
    let mut some = ready();
    some.remove(&unit("east"));
    let first = manage(None, &declared(), &some).table.unwrap();
    assert_eq!(first.epoch, Epoch::new(1, 1));
    assert_eq!(
        spans(&first),
        "8u@1.1,4o1@1.1,4o2@1.1",
        "a unit that was not seen gets nothing"
    );
}

#[test]
fn opening_becomes_serving_once_the_owner_stands_at_its_epoch() {
    let opening = manage(Some(&table()), &declared(), &ready()).table.unwrap();
    for (applied, want) in [
        (None, None),
        (Some(Epoch::new(1, 10)), None),
        (Some(Epoch::new(1, 11)), Some("8s0@1.4,4s1@1.9,4s2@1.12")),
        (Some(Epoch::new(2, 1)), Some("8s0@1.4,4s1@1.9,4s2@1.12")),
    ] {
        let managed = manage(Some(&opening), &declared(), &seen(applied, None));
        assert_eq!(managed.table.as_ref().map(spans).as_deref(), want, "{applied:?}");
    }
}

#[test]
fn slots_of_a_running_operation_are_left_to_it() {
    let mut table = admitted();
    let epoch = table.epoch;
    table.keyspaces[0].set(&slots("0-3"), Some(&unit("north")), SpanState::Opening, epoch);
    table.operations[0].step = Step::Open;
    let managed = manage(Some(&table), &declared(), &seen(Some(Epoch::new(9, 9)), Some(false)));
    assert_eq!(managed.table, None);
}

#[test]
fn all_changes_go_into_one_write() {
    let mut table = manage(Some(&table()), &declared(), &ready()).table.unwrap();
    table.keyspaces[0].set(&slots("0-3"), None, SpanState::Unowned, Epoch::NEVER);
    let mut declared = declared();
    declared.units[1].router = "https://elsewhere:1".to_owned();
    declared.keyspaces.push(DeclaredKeyspace {
        name: "carts".into(),
        slots: 4,
        definition: "Crc32".to_owned(),
        homes: None,
        given_up: false,
        members: Vec::new(),
    });
    let next = manage(Some(&table), &declared, &seen(Some(table.epoch), Some(true)))
        .table
        .unwrap();
    assert_eq!(next.epoch, table.epoch.next());
    assert_eq!(next.units[1].router, "https://elsewhere:1");
    let names: Vec<_> = next.keyspaces.iter().map(|keyspace| keyspace.name.as_str()).collect();
    assert_eq!(names, ["carts", "users"], "sorted");
    let users = next.keyspace(&"users".into()).unwrap();
    assert_eq!(users.span_of(0).unwrap().state, SpanState::Opening);
    assert_eq!(users.span_of(12).unwrap().state, SpanState::Serving);
}

#[test]
fn an_edit_of_homes_moves_no_slot() {
    let mut declared = declared();
    let all_south = [ShardRange {
        name: "all".to_owned(),
        first: 0,
        last: 15,
        home: unit("south"),
    }];
    declared.keyspaces[0].homes = Some(homes(16, &all_south, &[unit("south")].into()).unwrap());
    let next = manage(Some(&table()), &declared, &ready()).table.unwrap();
    assert_eq!(spans(&next), "8s0@1.4,4s1@1.9,4o2@1.11");
}

#[test]
fn nothing_to_do_writes_nothing() {
    assert_eq!(manage(None, &Declared::default(), &ready()).table, None);
    let opened = manage(Some(&table()), &declared(), &ready()).table.unwrap();
    let served = manage(Some(&opened), &declared(), &seen(Some(opened.epoch), Some(true)))
        .table
        .unwrap();
    assert_eq!(
        manage(Some(&served), &declared(), &seen(Some(served.epoch), Some(true))).table,
        None
    );
}

#[test]
fn a_unit_that_is_gone_stays_while_it_owns_slots_or_an_operation_names_it() {
    let gone = Declared {
        units: Vec::new(),
        ..declared()
    };
    let names = |table: Option<RoutingTable>| {
        let units = table.unwrap().units;
        units.into_iter().map(|unit| unit.name.0).collect::<Vec<_>>()
    };
    assert_eq!(names(manage(Some(&table()), &gone, &ready()).table), ["east", "north"]);
    let mut moving = admitted();
    moving.operations[0].target = unit("south");
    moving.keyspaces[0].set(&slots("8-11"), Some(&unit("east")), SpanState::Serving, moving.epoch);
    assert_eq!(names(manage(Some(&moving), &gone, &ready()).table), ["east", "south"]);
}

#[test]
fn a_keyspace_that_is_gone_stays_while_slots_are_owned() {
    let gone = Declared {
        keyspaces: Vec::new(),
        ..declared()
    };
    assert_eq!(manage(Some(&table()), &gone, &ready()).table, None);
    let mut unowned = table();
    unowned.keyspaces[0].set(&slots("0-15"), None, SpanState::Unowned, Epoch::NEVER);
    assert!(
        manage(Some(&unowned), &gone, &ready())
            .table
            .unwrap()
            .keyspaces
            .is_empty()
    );
}

#[test]
fn declarations_that_cannot_be_followed_are_told_and_the_rest_goes_on() {
    let mut declared = declared();
    declared.keyspaces[0].slots = 32;
    declared.keyspaces.push(DeclaredKeyspace {
        name: "none".into(),
        slots: 0,
        definition: "Crc32".to_owned(),
        homes: None,
        given_up: false,
        members: Vec::new(),
    });
    declared.keyspaces.push(DeclaredKeyspace {
        name: "misfit".into(),
        slots: 8,
        definition: "Crc32".to_owned(),
        homes: declared.keyspaces[0].homes.clone(),
        given_up: false,
        members: Vec::new(),
    });
    declared.keyspaces.push(DeclaredKeyspace {
        name: "carts".into(),
        slots: 4,
        definition: "Crc32".to_owned(),
        homes: None,
        given_up: false,
        members: Vec::new(),
    });
    let managed = manage(Some(&table()), &declared, &ready());
    let reasons: Vec<_> = managed.problems.iter().map(OwnershipProblem::reason).collect();
    assert_eq!(reasons, ["SlotsChanged", "SlotsOutOfBounds", "RangesMisfit"]);
    let next = managed.table.unwrap();
    let users = next.keyspace(&"users".into()).unwrap();
    assert_eq!(*users, table().keyspaces[0], "the last good one stays");
    assert!(next.keyspace(&"carts".into()).is_some());
    assert!(next.keyspace(&"none".into()).is_none());
}

#[test]
fn a_keyspace_that_comes_again_as_another_is_not_followed_while_slots_of_the_first_are_owned() {
    let mut first = table();
    first.keyspaces[0].definition = Some("Crc32+2:00".to_owned());
    let again = |slots: u32, definition: &str| {
        let mut declared = declared();
        declared.keyspaces[0].slots = slots;
        declared.keyspaces[0].definition = definition.to_owned();
        if slots != 16 {
            declared.keyspaces[0].homes = None;
        }
        declared
    };
    for (slots, definition, want) in [
        (16, "Crc32+2:00", None),
        (16, "Crc32", Some("DefinitionChanged")),
        (16, "Crc32+2:01", Some("DefinitionChanged")),
        (32, "Crc32+2:00", Some("SlotsChanged")),
        (32, "Crc32", Some("SlotsChanged")),
    ] {
        let managed = manage(Some(&first), &again(slots, definition), &ready());
        let reasons: Vec<_> = managed.problems.iter().map(OwnershipProblem::reason).collect();
        assert_eq!(reasons, Vec::from_iter(want), "{slots} {definition}");
        if want.is_some() {
            assert_eq!(managed.table, None, "nothing of it is followed: {slots} {definition}");
        }
    }
    // Once nobody owns a slot of the first, the second is a new one.
    first.keyspaces[0].set(&slots("0-15"), None, SpanState::Unowned, Epoch::NEVER);
    let next = manage(Some(&first), &again(32, "Crc32"), &ready());
    assert_eq!(next.problems, []);
    let users = next.table.unwrap().keyspaces[0].clone();
    assert_eq!((users.slots, users.definition.as_deref()), (32, Some("Crc32")));
}

#[test]
fn a_table_from_before_definitions_were_noted_takes_the_declared_one() {
    let old = common::table();
    assert_eq!(old.keyspaces[0].definition, None);
    let next = manage(Some(&old), &declared(), &seen(None, None)).table.unwrap();
    assert_eq!(next.keyspaces[0].definition.as_deref(), Some("Crc32"));
    assert_eq!(spans(&next), spans(&old));
    assert_eq!(manage(Some(&next), &declared(), &seen(None, None)).table, None);
}

#[test]
fn a_keyspace_that_a_person_gave_up_leaves_the_table_once_no_operation_moves_its_slots() {
    let mut declared = declared();
    declared.keyspaces[0].given_up = true;
    let next = manage(Some(&table()), &declared, &ready()).table.unwrap();
    assert_eq!(next.keyspaces, []);
    assert_eq!(next.epoch, table().epoch.next(), "what comes later stands above it");
    assert_eq!(manage(Some(&admitted()), &declared, &seen(None, None)).table, None);
}

/// Given up and applied again, over databases that hold slots open since 1.4.
#[test]
fn a_keyspace_that_comes_new_closes_what_is_open_and_has_owners_once_all_its_members_have() {
    let mut without = table();
    without.keyspaces.clear();
    let mut declared = declared();
    declared.keyspaces[0].members = ["east", "north", "south"].map(unit).into();
    let came = manage(Some(&without), &declared, &ready()).table.unwrap();
    assert_eq!(came.epoch, Epoch::new(1, 11));
    assert_eq!(spans(&came), "16u@1.11", "closing is no step back");
    let stand = |places: [Option<u64>; 3]| {
        let mut seen = ready();
        for (name, place) in ["east", "north", "south"].into_iter().zip(places) {
            let stands = place.map(|epoch| ("users".into(), Epoch::new(1, epoch)));
            seen.get_mut(&unit(name)).unwrap().stands = stands.into_iter().collect();
        }
        seen
    };
    for places in [
        [None; 3],
        [Some(11), Some(11), None],
        [Some(10), Some(11), Some(12)],
        [Some(11), Some(11), Some(10)],
    ] {
        assert_eq!(manage(Some(&came), &declared, &stand(places)).table, None, "{places:?}");
    }
    let owned = manage(Some(&came), &declared, &stand([Some(11), Some(12), Some(11)]));
    assert_eq!(spans(&owned.table.unwrap()), "8o0@1.12,4o1@1.12,4o2@1.12");
}

#[test]
fn who_stops_without_his_lease_is_noted_and_kept_until_he_shall_go_on_instead() {
    let stores = |names: &[&str]| -> BTreeSet<_> { names.iter().map(|name| (*name).into()).collect() };
    let mut declared = declared();
    for unit in &mut declared.units {
        unit.fences = unit.name.as_str() != "south";
    }
    let told = |east: Option<&[&str]>| {
        let mut seen = seen(None, None);
        for name in ["east", "south"] {
            seen.get_mut(&unit(name)).unwrap().fences = east.map(stores);
        }
        seen
    };
    let next = |table: &RoutingTable, declared: &Declared, seen| manage(Some(table), declared, &seen).table;
    let first = table();
    assert_eq!(next(&first, &declared, told(None)), None, "nothing is known of anybody");
    let noted = next(&first, &declared, told(Some(&["orders"]))).unwrap();
    assert_eq!(noted.epoch, first.epoch.next());
    assert_eq!(noted.fences(&unit("east")), Some(&stores(&["orders"])));
    assert_eq!(noted.fences(&unit("south")), None, "it shall go on serving");
    // Nothing is seen any more, such as by an operator that begins after the loss.
    assert_eq!(next(&noted, &declared, told(None)), None);
    assert_eq!(next(&noted, &declared, told(Some(&["orders"]))), None);
    let more = next(&noted, &declared, told(Some(&["carts", "orders"]))).unwrap();
    assert_eq!(more.fences(&unit("east")), Some(&stores(&["carts", "orders"])));
    for change in [
        (|declared: &mut Declared| declared.units[0].fences = false) as fn(&mut Declared),
        |declared| drop(declared.units.remove(0)),
    ] {
        let mut declared = declared.clone();
        change(&mut declared);
        let gone = next(&noted, &declared, told(None)).unwrap();
        assert_eq!(gone.fencing, []);
    }
}

#[test]
fn a_writer_that_is_given_up_is_nobodys_before_it_leaves_the_table() {
    let mut first = table();
    let mut catalog = KeyspaceTable::unowned("catalog.writer".into(), 1);
    let all = SlotSet::range(0, 0);
    catalog.set(&all, Some(&unit("east")), SpanState::Serving, Epoch::new(1, 4));
    first.keyspaces.insert(0, catalog);
    let mut declared = declared();
    declared.keyspaces.push(DeclaredKeyspace {
        name: "catalog.writer".into(),
        slots: 1,
        definition: "SingleWriter".to_owned(),
        homes: None,
        given_up: true,
        members: Vec::new(),
    });
    let next = |table: &RoutingTable| manage(Some(table), &declared, &seen(None, None)).table;
    let nobodys = next(&first).unwrap();
    assert_eq!(spans_of(&nobodys, "catalog.writer"), "1u@1.11");
    let gone = next(&nobodys).unwrap();
    assert_eq!(gone.keyspaces.len(), 1);
    assert_eq!(next(&gone), None);
}

fn spans_of(table: &RoutingTable, keyspace: &str) -> String {
    let names: Vec<_> = table.units.iter().map(|unit| unit.name.clone()).collect();
    let known = table.keyspace(&keyspace.into()).unwrap();
    multiactive_core::span::encode(&known.spans, &names).unwrap()
}
