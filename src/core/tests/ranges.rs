//! ShardRanges: a valid set gives every slot its home, an invalid one every problem at once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

use multiactive_core::ids::UnitName;
use multiactive_core::ranges::{ShardRange, homes};
use std::collections::BTreeSet;

fn range((name, first, last, home): (&str, i64, i64, &str)) -> ShardRange {
    ShardRange {
        name: name.to_owned(),
        first,
        last,
        home: home.into(),
    }
}

fn units() -> BTreeSet<UnitName> {
    ["east", "north"].map(UnitName::from).into()
}

#[test]
fn ranges_that_cover_every_slot_once_give_every_slot_its_home() {
    let ranges = [("b", 8, 15, "north"), ("a", 0, 3, "east"), ("a2", 4, 7, "east")].map(range);
    let homes = homes(16, &ranges, &units()).unwrap();
    assert_eq!(homes.runs().len(), 2, "runs of one unit are joined");
    assert_eq!(homes.slots(), 16);
    for slot in 0..16 {
        let want = if slot < 8 { "east" } else { "north" };
        assert_eq!(homes.home_of(slot), Some(&want.into()), "slot {slot}");
    }
    assert_eq!(homes.home_of(16), None);
    assert_eq!(homes.slots_of(&"north".into()).to_string(), "8-15");
}

#[test]
fn every_problem_is_told_at_once_with_its_slots_and_objects() {
    type Row = (
        &'static [(&'static str, i64, i64, &'static str)],
        &'static [&'static str],
    );
    let rows: [Row; 9] = [
        (&[], &["no ShardRange: create some that cover slots 0-15"]),
        (
            &[("a", 0, 7, "east"), ("b", 9, 15, "north")],
            &["slot 8 is in no range: between a and b"],
        ),
        (
            &[("a", 1, 7, "east")],
            &[
                "slot 0 is in no range: a is the first range after",
                "slots 8-15 are in no range: a is the last range before",
            ],
        ),
        (
            &[("a", 0, 8, "east"), ("b", 8, 15, "north")],
            &["slot 8 is in several ranges: a, b"],
        ),
        (
            &[("all", 0, 15, "east"), ("a", 2, 5, "east"), ("b", 4, 9, "north")],
            &[
                "slots 2-3 are in several ranges: a, all",
                "slots 4-5 are in several ranges: a, all, b",
                "slots 6-9 are in several ranges: all, b",
            ],
        ),
        (
            &[("a", 0, 16, "east")],
            &["a has slots 0-16, but the Keyspace has only slots 0-15"],
        ),
        (
            &[("a", 7, 0, "east"), ("b", 8, 15, "north")],
            &["a ends before it begins: firstSlot 7, lastSlot 0"],
        ),
        (
            &[("a", 0, 15, "west")],
            &["a names homeUnit west, but there is no Unit of that name"],
        ),
        (
            &[("a", -1, 3, "west"), ("b", 3, 9, "east"), ("c", 12, 20, "north")],
            &[
                "a has slots -1-3, but the Keyspace has only slots 0-15",
                "c has slots 12-20, but the Keyspace has only slots 0-15",
                "a names homeUnit west, but there is no Unit of that name",
                "slot 3 is in several ranges: a, b",
                "slots 10-11 are in no range: between b and c",
            ],
        ),
    ];
    for (ranges, want) in rows {
        let ranges: Vec<_> = ranges.iter().copied().map(range).collect();
        let problems = homes(16, &ranges, &units()).unwrap_err();
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts, want, "{ranges:?}");
        let all_named = problems.iter().all(|problem| !problem.reason().is_empty());
        assert!(all_named);
    }
}

#[test]
fn a_long_list_of_overlapping_ranges_is_cut_in_its_text() {
    let ranges: Vec<_> = (0..9).map(|n| range((&format!("r{n}"), 0, 0, "east"))).collect();
    let problems = homes(1, &ranges, &units()).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "slot 0 is in several ranges: r0, r1, r2, r3, r4 and 4 more"
    );
    assert_eq!(problems[0].ranges().len(), 9);
}

#[test]
fn numbers_beyond_every_bound_are_problems_and_not_crashes() {
    for (first, last) in [
        (i64::MIN, i64::MAX),
        (i64::MAX, i64::MIN),
        (i64::MAX, i64::MAX),
        (-5, -1),
    ] {
        let ranges = [range(("a", first, last, "east"))];
        assert!(homes(16, &ranges, &units()).is_err(), "{first} {last}");
    }
    for slots in [0, 16_385, u32::MAX] {
        let ranges = [range(("a", 0, 15, "east"))];
        assert!(homes(slots, &ranges, &units()).is_err(), "{slots} slots");
    }
}
