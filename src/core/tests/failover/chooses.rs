//! Who takes over which range, and why the others do not.

use crate::common::{orders, slots, table, unit};
use crate::{placement, range, ranges, usable};
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Candidate, Choosing, UnitReady, Unusable, choose};
use multiactive_core::quarantine::Quarantined;

#[test]
fn each_range_goes_to_its_first_usable_unit_and_says_why_others_were_passed_over() {
    let table = table();
    let choice = placement(&table, "east", &ranges(), &[usable("south"), usable("north")]);
    let targets: Vec<_> = choice
        .placed
        .iter()
        .map(|placed| (placed.range.as_deref(), placed.target.as_str()))
        .collect();
    assert_eq!(targets, [(Some("users-0"), "north"), (Some("users-1"), "south")]);
    assert!(choice.unplaced.is_empty());
    let rows: [(&str, fn(&mut Candidate), Unusable); 7] = [
        ("cordoned", |north| north.cordoned = true, Unusable::Cordoned),
        ("away", |north| north.reachable = Some(false), Unusable::Unreachable),
        (
            "unknown is not there",
            |north| north.reachable = None,
            Unusable::ReachUnknown,
        ),
        (
            "not ready",
            |north| north.ready = Some(UnitReady::NotReady("1 of 2 pods".into())),
            Unusable::NotReady("1 of 2 pods".into()),
        ),
        (
            "unknown is not ready",
            |north| north.ready = None,
            Unusable::ReadyUnknown,
        ),
        (
            "behind",
            |north| north.behind = Some("a gap".into()),
            Unusable::Behind("a gap".into()),
        ),
        ("another name", |north| north.unit = unit("west"), Unusable::Unknown),
    ];
    for (what, change, why) in rows {
        let mut north = usable("north");
        change(&mut north);
        let choice = placement(&table, "east", &ranges(), &[north, usable("south")]);
        assert!(
            choice.placed.iter().all(|placed| placed.target == unit("south")),
            "{what}"
        );
        assert_eq!(choice.placed[0].skipped[0].why, why, "{what}");
        assert!(choice.placed[1].skipped.is_empty(), "{what}: it came first");
    }
}

#[test]
fn a_unit_in_quarantine_or_without_a_member_takes_nothing() {
    let mut table = table();
    table.quarantined.push(Quarantined {
        unit: unit("north"),
        since: Epoch::new(1, 8),
        by: "uid".into(),
        name: "lost-north".into(),
        accepted: None,
    });
    let mut store = orders();
    store.members.retain(|member| *member != unit("south"));
    let choice = choose(Choosing {
        table: &table,
        lost: &unit("east"),
        target: None,
        ranges: &ranges(),
        candidates: &[usable("north"), usable("south")],
        stores: &[store],
    });
    assert!(choice.placed.is_empty());
    let whys: Vec<_> = choice.unplaced[0].skipped.iter().map(|skip| skip.why.clone()).collect();
    assert_eq!(whys, [Unusable::Lost, Unusable::NoMember("orders".into())]);
    assert_eq!(
        choice.unplaced[0].to_string(),
        "range users-0 (slots 0-3 of users): north: lost or in quarantine; south: DataStore orders has no member in it"
    );
}

#[test]
fn a_named_target_changes_the_order_and_not_the_rules_and_takes_slots_of_no_range() {
    let table = table();
    let mut choosing = Choosing {
        table: &table,
        lost: &unit("east"),
        target: Some(&unit("south")),
        ranges: &[range("users-0", "0-3", &["north"])],
        candidates: &[usable("north"), usable("south")],
        stores: &[orders()],
    };
    let choice = choose(choosing);
    assert!(choice.placed.iter().all(|placed| placed.target == unit("south")));
    assert_eq!(choice.placed[1].slots, slots("4-7"));
    let mut south = usable("south");
    south.cordoned = true;
    let candidates = [usable("north"), south];
    choosing.candidates = &candidates;
    let choice = choose(choosing);
    assert!(choice.placed.is_empty());
    assert_eq!(
        choice.unplaced[1].to_string(),
        "slots 4-7 of users, which no ShardRange holds: south: cordoned"
    );
}
