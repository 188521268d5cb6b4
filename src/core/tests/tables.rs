//! Diff, selection and recovery of tables.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

mod common;

use common::{admitted, at, slots, table, unit};
use multiactive_core::diff::diff;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::KeyspaceName;
use multiactive_core::promotion::{Move, Outcome, record};
use multiactive_core::recover::{Held, RecoverError, Recovered, recover};
use multiactive_core::select::{NamedRange, Selection, select};
use multiactive_core::span::SpanState;
use multiactive_core::table::{KeyspaceTable, RoutingTable};

fn texts(before: &RoutingTable, after: &RoutingTable) -> Vec<String> {
    diff(before, after).iter().map(ToString::to_string).collect()
}

#[test]
fn a_diff_tells_units_keyspaces_slots_and_operations() {
    let before = table();
    let mut after = admitted();
    after.units[0].router = "https://new:1".to_owned();
    after.units.remove(2);
    after.keyspaces.insert(0, KeyspaceTable::unowned("carts".into(), 4));
    let users = &mut after.keyspaces[1];
    users.set(&slots("0-1,6"), Some(&unit("east")), SpanState::Held, Epoch::new(1, 11));
    users.set(
        &slots("9,12-15"),
        Some(&unit("east")),
        SpanState::Opening,
        Epoch::new(1, 11),
    );
    let want = [
        "router of east: https://east.example:8443 -> https://new:1",
        "unit south removed",
        "keyspace carts added with 4 slots",
        "users slots 0-1,6: Serving at east -> Held at east at epoch 1.11",
        "users slots 9: Serving at north -> Opening at east at epoch 1.11",
        "users slots 12-15: Unowned -> Opening at east at epoch 1.11",
        "move began at Check",
    ];
    assert_eq!(texts(&before, &after), want);
    assert_eq!(texts(&before, &before), [""; 0]);
}

#[test]
fn a_diff_tells_how_an_operation_ended() {
    let before = admitted();
    let aborted = Move::End(Outcome::Aborted {
        reason: "AbortRequested".to_owned(),
        message: "INC-7".to_owned(),
    });
    let after = record(&before, &"uid-1".into(), &aborted, at(1)).unwrap().unwrap();
    assert_eq!(texts(&before, &after), ["move aborted (AbortRequested): INC-7"]);
    let mut gone = before.clone();
    gone.keyspaces.clear();
    gone.operations.clear();
    assert_eq!(texts(&before, &gone), ["keyspace users removed", "move ended"]);
}

fn named(name: &str, first: i64, last: i64) -> NamedRange {
    NamedRange {
        name: name.to_owned(),
        keyspace: "users".into(),
        first,
        last,
    }
}

#[test]
fn a_selection_becomes_slots_by_keyspace() {
    let ranges = [
        named("a", 0, 3),
        named("b", 4, 7),
        named("bad", 9, 8),
        named("far", 0, 70_000),
    ];
    let names = |names: &[&str]| Selection::Ranges(names.iter().map(|name| (*name).to_owned()).collect());
    let by_number = Selection::Slots {
        keyspace: "carts".into(),
        slots: slots("1,3"),
    };
    for (selection, want) in [
        (names(&["b", "a", "a"]), Ok("users 0-7")),
        (names(&[]), Ok("")),
        (names(&["a", "z"]), Err("UnknownRange")),
        (names(&["bad"]), Err("InvalidRange")),
        (names(&["far"]), Err("InvalidRange")),
        (by_number, Ok("carts 1,3")),
        (Selection::Unit(unit("north")), Ok("users 8-11")),
        (Selection::Unit(unit("south")), Ok("")),
        (Selection::Unit(unit("west")), Err("UnknownUnit")),
        (Selection::Writer("catalog".into()), Ok("catalog.writer 0")),
        (Selection::Writer("users".into()), Err("UnknownWriter")),
    ] {
        let mut table = table();
        let writer = KeyspaceName::of_writer(&"catalog".into());
        table.keyspaces.push(KeyspaceTable::unowned(writer, 1));
        let got = select(&selection, &ranges, &table).map_err(|error| error.reason());
        let got = got.map(|all| {
            all.iter()
                .map(|(name, slots)| format!("{name} {slots}"))
                .collect::<String>()
        });
        assert_eq!(got, want.map(str::to_owned), "{selection:?}");
    }
}

#[test]
fn a_lost_table_comes_back_only_where_nothing_newer_can_exist() {
    let held = |name: &str, projection: Option<Option<u64>>, applied: Option<u64>| Held {
        unit: unit(name),
        projection: projection.map(|held| {
            held.map(|epoch| RoutingTable {
                epoch: Epoch::new(1, epoch),
                ..table()
            })
        }),
        applied: applied.map(|epoch| Epoch::new(1, epoch)),
    };
    let never = [held("east", Some(None), None), held("north", Some(None), None)];
    assert_eq!(recover(&never), Ok(Recovered::Never));
    let both = [
        held("east", Some(Some(9)), Some(9)),
        held("north", Some(Some(12)), Some(9)),
    ];
    let Ok(Recovered::Table(table)) = recover(&both) else {
        panic!("{both:?}")
    };
    assert_eq!(table.epoch, Epoch::new(2, 13), "above all that was ever issued");
    let silent = [held("east", Some(Some(9)), None), held("north", None, None)];
    assert_eq!(recover(&silent), Err(RecoverError::Silent(unit("north"))));
    let newer = [held("east", Some(Some(9)), Some(10)), held("north", Some(None), None)];
    assert!(matches!(recover(&newer), Err(RecoverError::Newer { .. })));
}
