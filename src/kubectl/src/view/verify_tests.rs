//! What `verify` chooses, says before a repair, tells while it is followed, and shows at its end.

use super::fixtures::{object, pair, verification, world};
use super::verify::{Asked, Chosen, choose, free_name};
use super::{status, status_text, steps, verify as plan, verify_text};
use crate::fail::Exit;
use crate::fetch::Unreadable;
use crate::operations::Operation;
use crate::print::Paint;
use jiff::Timestamp;
use multiactive_api::DataStore;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Orders in three units, carts in two of them.
fn stores() -> Vec<DataStore> {
    let member = |unit: &str| json!({"unit": unit, "address": "db:5432", "credentials": "db"});
    let spec = json!({"topology": "Sharded", "keyspace": "users", "tables": [{"name": "carts", "shardKey": "user_id"}],
        "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "shop"}}, "members": [member("east-1"), member("west-1")]});
    let mut stores = world().stores;
    stores.insert(0, object("DataStore", "carts", spec, Value::Null));
    stores
}

fn asked(stores: &[&str], units: &[&str]) -> Asked {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Asked {
        stores: owned(stores),
        units: owned(units),
        repair: false,
        max_rows_per_second: None,
    }
}

#[test]
fn what_is_named_is_compared_and_who_names_what_nobody_knows_hears_what_there_is() {
    type Row<'a> = (&'a [&'a str], &'a [&'a str], Result<&'a [(&'a str, &'a str)], &'a str>);
    let rows: &[Row] = &[
        (
            &[],
            &[],
            Ok(&[("carts", "east-1,west-1"), ("orders", "east-1,north-1,south-1")]),
        ),
        (&["orders"], &["south-1", "east-1"], Ok(&[("orders", "east-1,south-1")])),
        // Only the stores that have a database there.
        (&[], &["west-1"], Ok(&[("carts", "west-1")])),
        (
            &["order", "orders", "x"],
            &[],
            Err("there is no DataStore order, x in namespace shop; there are: carts, orders"),
        ),
        (
            &["carts"],
            &["south-1"],
            Err("south-1 has no database of DataStore carts in namespace shop; their members are: east-1, west-1"),
        ),
        (
            &[],
            &["far-1"],
            Err(
                "far-1 has no database of DataStore carts, orders in namespace shop; their members are: east-1, north-1, south-1, west-1",
            ),
        ),
    ];
    for (stores_named, units, want) in rows {
        let got = choose("shop", &stores(), &[], &asked(stores_named, units));
        match (got, want) {
            (Ok(got), Ok(want)) => {
                let got: Vec<_> = got.iter().map(|one| (one.store.clone(), one.units.join(","))).collect();
                let want: Vec<_> = want
                    .iter()
                    .map(|(store, units)| ((*store).to_owned(), (*units).to_owned()))
                    .collect();
                assert_eq!(got, want);
            }
            (Err(failure), Err(want)) => {
                assert_eq!((failure.to_string().as_str(), failure.exit()), (*want, Exit::NotFound));
            }
            (got, want) => panic!("{stores_named:?} {units:?}: {got:?}, not {want:?}"),
        }
    }
    let lost = Unreadable {
        kind: "DataStore".to_owned(),
        namespace: Some("shop".to_owned()),
        name: "new".to_owned(),
        error: "unknown variant".to_owned(),
    };
    let failure = choose("shop", &stores(), &[lost], &asked(&["new"], &[])).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "DataStore shop/new cannot be read: unknown variant"
    );
}

#[test]
fn its_name_is_of_the_present_epoch_and_was_never_used() {
    for (repair, used, want) in [
        (false, &[][..], "verify-6"),
        (true, &["verify-6"], "repair-6"),
        (false, &["verify-6", "verify-6-2", "verify-5"], "verify-6-3"),
    ] {
        let used: BTreeSet<String> = used.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(free_name(6, repair, &used), want, "{used:?}");
    }
    // The server takes no name twice.
    let object = plan::object("shop", "v", &asked(&["orders", "orders"], &[]));
    assert_eq!(
        (object.spec.stores, object.spec.units),
        (Some(vec!["orders".to_owned()]), None)
    );
}

#[test]
fn a_repair_says_which_databases_it_changes_and_how() {
    let chosen = |store: &str, units: &[&str]| Chosen {
        store: store.to_owned(),
        units: units.iter().map(|unit| (*unit).to_owned()).collect(),
    };
    let chosen = [chosen("carts", &["east-1"]), chosen("orders", &["east-1", "north-1"])];
    let look = verify_text::command(&["carts", "orders"], &["east-1", "north-1"], false, "shop");
    let text = verify_text::repair("shop", &chosen, &look, Paint::OFF);
    for said in [
        "DataStore shop/orders: the rows at east-1, north-1\n",
        "REPLACED by the owners'",
        "REMOVED. What stood there is kept nowhere.",
        "To look only: kubectl multiactive verify carts orders --unit east-1 --unit north-1 -n shop\n",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let question = "Replace and remove rows that differ from their owners' in 3 databases of carts, orders in shop";
    assert_eq!(verify_text::question("shop", &chosen), question);
}

/// All that a pair can be.
fn found() -> Operation {
    let row = json!(["orders id=7 (slot 1): only at north-1"]);
    let pairs = json!([
        pair("east-1", "north-1", "Equal", json!({"rows": 12, "slots": "8-15"})),
        pair(
            "north-1",
            "east-1",
            "Differs",
            json!({"rows": 5, "slots": "0-7", "differing": "1,3", "examples": row})
        ),
        pair(
            "south-1",
            "east-1",
            "Repaired",
            json!({"rows": 5, "slots": "0-7", "differing": "4-6", "examples": row, "message": "3 rows were copied"})
        ),
        pair(
            "south-1",
            "north-1",
            "Comparing",
            json!({"message": "permission denied"})
        ),
    ]);
    let status = json!({"done": "3/4", "rows": 22, "differingSlots": 5, "pairs": pairs});
    verification("nightly", json!({"repair": "None"}), status)
}

#[test]
fn each_pair_is_a_line_with_the_rows_that_differ_below_and_the_command_that_repairs() {
    let want = "\
STORE    UNIT      OWNER     STATE       ROWS   DIFFERING   WHAT
orders   east-1    north-1   Equal       12     0
orders   north-1   east-1    Differs     5      2           slots 1,3
orders   south-1   east-1    Repaired    5      3           slots 4-6: 3 rows were copied
orders   south-1   north-1   Comparing   ?      ?           permission denied

orders at north-1 with east-1: among the rows that differ
  orders id=7 (slot 1): only at north-1

orders at south-1 with east-1: among the rows that differed
  orders id=7 (slot 1): only at north-1

Rows differ: find out why, then make them as their owners' are (docs/verification.md):
  kubectl multiactive verify orders --unit north-1 --repair -n shop
";
    let view = found().view(Timestamp::UNIX_EPOCH);
    assert_eq!(verify_text::found(&view, Paint::OFF, false), want);
}

#[test]
fn of_many_pairs_those_are_shown_that_are_not_equal_and_long_lists_are_cut() {
    let slots: Vec<String> = (0..60).map(|slot| (2 * slot).to_string()).collect();
    let slots = slots.join(",");
    let mut pairs: Vec<Value> = (0..60)
        .map(|at| pair(&format!("u-{at}"), "east-1", "Equal", json!({})))
        .collect();
    pairs.push(pair("u-60", "east-1", "Differs", json!({"differing": slots})));
    let view = verification("v", json!({}), json!({"pairs": pairs})).view(Timestamp::UNIX_EPOCH);
    let text = verify_text::found(&view, Paint::OFF, false);
    assert!(
        text.contains("60 pairs compared and equal: -o wide lists them\n"),
        "{text}"
    );
    assert!(
        text.contains("u-60") && text.contains("60          slots 0,2,4") && text.contains("…\n"),
        "{text}"
    );
    assert!(!text.contains("u-7 ") && !text.contains(&slots), "{text}");
    let wide = verify_text::found(&view, Paint::OFF, true);
    assert!(wide.contains("u-7 ") && wide.contains(&slots), "{wide}");
}

#[test]
fn how_far_it_is_and_each_pair_that_differs_is_told_once() {
    let of = |status: Value| {
        let spec = json!({"stores": ["orders"], "units": ["north-1", "south-1"], "repair": "FromOwner"});
        verification("v", spec, status)
    };
    let differing = || json!({"differing": "1,3"});
    let equal = pair("south-1", "east-1", "Equal", json!({}));
    let states = |state: &str, more: Value| json!([pair("north-1", "east-1", state, more), equal]);
    let begun =
        of(json!({"done": "0/2", "waitingFor": "orders at north-1 with east-1", "startedAt": "2026-01-01T00:00:00Z"}));
    let repairing = of(json!({"done": "1/2", "pairs": states("Repairing", differing())}));
    let message = json!({"differing": "1,3", "message": "2 rows were copied"});
    let ended = of(
        json!({"done": "2/2", "pairs": states("Repaired", message), "outcome": "Succeeded", "reason": "Repaired",
        "message": "rows differed", "startedAt": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T00:00:12.5Z"}),
    );
    let texts = |before: Option<&Operation>, after: &Operation| -> Vec<String> {
        let changes = steps::operation(before, after, Timestamp::UNIX_EPOCH).into_iter();
        changes
            .map(|change| format!("{} {}", change.what, change.text))
            .collect()
    };
    assert_eq!(
        texts(None, &begun),
        [
            "Operation created, of orders, at north-1, south-1, rows that differ are replaced by the owners'",
            "Progress 0/2 compared",
            "Wait waiting for orders at north-1 with east-1",
        ]
    );
    let told = "Pair orders at north-1 with east-1: rows of 2 slots differ, and are being replaced";
    assert_eq!(texts(Some(&begun), &repairing), [told, "Progress 1/2 compared"]);
    assert!(texts(Some(&repairing), &repairing).is_empty());
    assert_eq!(
        texts(Some(&repairing), &ended),
        [
            "Pair orders at north-1 with east-1: rows of 2 slots differed, and are equal now: 2 rows were copied",
            "Progress 2/2 compared",
            "Outcome Succeeded/Repaired, 12.5s in all: rows differed",
        ]
    );
    let differs = of(json!({"pairs": states("Differs", differing())}));
    assert_eq!(
        texts(Some(&begun), &differs)[0],
        "Pair orders at north-1 with east-1: rows of 2 slots differ"
    );
}

#[test]
fn each_tenth_of_the_slots_is_told_and_a_pair_says_how_many_of_its_own_were_compared() {
    let of = |slots: &str| {
        let part = pair(
            "north-1",
            "east-1",
            "Comparing",
            json!({"slots": "0-7", "compared": "0-2,5", "rows": 5}),
        );
        let status = json!({"done": "0/1", "comparedSlots": slots, "rows": 5, "pairs": [part]});
        verification("nightly", json!({"repair": "None", "maxRowsPerSecond": 500}), status)
    };
    let told = |before: Option<&Operation>, after: &Operation| -> Vec<String> {
        let changes = steps::operation(before, after, Timestamp::UNIX_EPOCH).into_iter();
        changes.map(|change| change.text).collect()
    };
    assert_eq!(
        told(None, &of("3/100")),
        ["created, at most 500 rows a second", "0/1 compared, 3/100 slots"]
    );
    for (before, after, want) in [
        ("3/100", "9/100", None),
        ("9/100", "10/100", Some("0/1 compared, 10/100 slots")),
        ("10/100", "55/100", Some("0/1 compared, 55/100 slots")),
        ("0/0", "0/0", None),
    ] {
        let got = told(Some(&of(before)), &of(after));
        assert_eq!(got.first().map(String::as_str), want, "{before} {after}");
    }
    let text = verify_text::found(&of("4/8").view(Timestamp::UNIX_EPOCH), Paint::OFF, false);
    assert!(text.contains("5      ?           4/8 slots compared\n"), "{text}");
}

#[test]
fn of_a_large_slot_its_rows_tell_how_far_it_is() {
    let of = |rows: Option<i64>, differs: bool| {
        let within = rows.map(
            |rows| json!({"slot": 0, "table": "items", "order": "o", "key": ["k"], "rows": rows, "differs": differs}),
        );
        let more = json!({"slots": "0", "within": within});
        let status =
            json!({"done": "0/1", "comparedSlots": "0/1", "pairs": [pair("north-1", "east-1", "Comparing", more)]});
        verification("nightly", json!({}), status)
    };
    let told = |before: &Operation, after: &Operation| -> Vec<String> {
        let changes = steps::operation(Some(before), after, Timestamp::UNIX_EPOCH).into_iter();
        changes.map(|change| change.text).collect()
    };
    for (before, after, want) in [
        (
            None,
            Some(20_000),
            Some("0/1 compared, 0/1 slots, 20000 rows of large slots so far"),
        ),
        (Some(20_000), Some(29_999), None),
        (
            Some(20_000),
            Some(30_000),
            Some("0/1 compared, 0/1 slots, 30000 rows of large slots so far"),
        ),
        (
            Some(2),
            Some(200),
            Some("0/1 compared, 0/1 slots, 200 rows of large slots so far"),
        ),
    ] {
        let got = told(&of(before, false), &of(after, false));
        assert_eq!(got.first().map(String::as_str), want, "{before:?} {after:?}");
    }
    for (differs, want) in [
        (false, "200    ?           200 rows of slot 0 compared\n"),
        (
            true,
            "200    ?           200 rows of slot 0 compared, some of which differ\n",
        ),
    ] {
        let view = of(Some(200), differs).view(Timestamp::UNIX_EPOCH);
        let text = verify_text::found(&view, Paint::OFF, false);
        assert!(text.contains(want), "{text}");
    }
}

#[test]
fn the_status_shows_how_far_one_is_that_runs_and_takes_it_for_no_move() {
    let mut world = world();
    let waits = json!({"done": "1/4", "comparedSlots": "9/32", "waitingFor": "orders at east-1 with north-1"});
    world.operations = vec![verification("nightly", json!({}), waits)];
    // That slots move is no problem while something moves them.
    world.ranges[0] = super::fixtures::range_that("users-0", 0, 7, "east-1", "east-1", "False", "Moving");
    let view = status::status(&world, &[], Timestamp::UNIX_EPOCH);
    let text = status_text::text(&view, Paint::OFF, false);
    assert!(
        text.contains("1/4 compared, 9/32 slots") && text.contains("orders at east-1 with north-1\n"),
        "{text}"
    );
    assert!(
        text.contains("verification/nightly") && text.contains("ShardRange shop/users-0 Moving"),
        "{text}"
    );
}
