//! Laws that hold for every input: sets of slots, span text, tables, ranges, lookups, ownership and promotions.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

mod common;

use common::{at, unit, well};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_core::lookup::Lookup;
use multiactive_core::ownership::{Declared, DeclaredKeyspace, DeclaredUnit, UnitSeen, manage};
use multiactive_core::promotion::{Request, Seen, Verify, admit, next, record};
use multiactive_core::ranges::{RangeProblem, ShardRange, homes};
use multiactive_core::slots::{Slot, SlotSet};
use multiactive_core::span::{Span, SpanState, decode, encode};
use multiactive_core::table::{KeyspaceTable, RoutingTable, TableUnit};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SLOTS: u32 = 64;
const STATES: [SpanState; 4] = [
    SpanState::Serving,
    SpanState::Held,
    SpanState::Fenced,
    SpanState::Opening,
];

fn units() -> Vec<UnitName> {
    ["east", "north", "south"].map(unit).into()
}

fn a_set() -> impl Strategy<Value = SlotSet> {
    vec((0..64_u16, 0..64_u16), 0..8).prop_map(|ranges| ranges.into_iter().collect())
}

fn plain(set: &SlotSet) -> BTreeSet<Slot> {
    set.iter().collect()
}

/// One change of a keyspace: slots, owner (3 is nobody), state, epoch.
fn a_change() -> impl Strategy<Value = (SlotSet, usize, usize, u64)> {
    (a_set(), 0..4_usize, 0..4_usize, 1..30_u64)
}

fn keyspace(changes: &[(SlotSet, usize, usize, u64)]) -> KeyspaceTable {
    let mut users = KeyspaceTable::unowned("users".into(), SLOTS);
    for (slots, owner, state, epoch) in changes {
        match units().get(*owner) {
            Some(owner) => users.set(slots, Some(owner), STATES[*state], Epoch::new(1, *epoch)),
            None => users.set(slots, None, SpanState::Unowned, Epoch::NEVER),
        }
    }
    users
}

fn a_keyspace() -> impl Strategy<Value = KeyspaceTable> {
    vec(a_change(), 0..8).prop_map(|changes| keyspace(&changes))
}

fn table(users: KeyspaceTable) -> RoutingTable {
    RoutingTable {
        epoch: Epoch::new(1, 40),
        units: units()
            .into_iter()
            .map(|name| TableUnit {
                router: format!("https://{name}"),
                name,
            })
            .collect(),
        keyspaces: vec![users],
        ..RoutingTable::default()
    }
}

/// Spans cover every slot once, in order, and none could be joined with the next.
fn covers(keyspace: &KeyspaceTable) -> bool {
    let spans = &keyspace.spans;
    let ends = spans.first().is_some_and(|span| span.first == 0)
        && spans
            .last()
            .is_some_and(|span| u32::from(span.last) + 1 == keyspace.slots);
    let kind = |span: &Span| (span.owner.clone(), span.state, span.epoch);
    let joined = spans
        .windows(2)
        .all(|pair| pair[0].last + 1 == pair[1].first && kind(&pair[0]) != kind(&pair[1]));
    let owned = spans
        .iter()
        .all(|span| (span.state == SpanState::Unowned) == span.owner.is_none());
    ends && joined && owned && spans.iter().all(|span| span.first <= span.last)
}

proptest! {
    #[test]
    fn sets_of_slots_are_sets(a in a_set(), b in a_set(), first in 0..64_u16, last in 0..64_u16) {
        let (x, y) = (plain(&a), plain(&b));
        prop_assert_eq!(plain(&a.union(&b)), x.union(&y).copied().collect());
        prop_assert_eq!(plain(&a.intersection(&b)), x.intersection(&y).copied().collect());
        prop_assert_eq!(plain(&a.difference(&b)), x.difference(&y).copied().collect());
        prop_assert_eq!(plain(&a.within(first, last)), x.iter().filter(|s| first <= **s && **s <= last).copied().collect());
        prop_assert_eq!(a.intersects(&b), !x.is_disjoint(&y));
        prop_assert_eq!(a.len(), x.len());
        prop_assert_eq!(a.is_empty(), x.is_empty());
        for slot in 0..70 {
            prop_assert_eq!(a.contains(slot), x.contains(&slot));
        }
        // One set has one form, so equal sets are equal values, and one text.
        for set in [a.union(&b), a.intersection(&b), a.difference(&b), a.within(first, last)] {
            prop_assert_eq!(&plain(&set).into_iter().collect::<SlotSet>(), &set);
            prop_assert_eq!(set.to_string().parse::<SlotSet>(), Ok(set));
        }
    }

    #[test]
    fn span_text_is_read_back(users in a_keyspace()) {
        let text = encode(&users.spans, &units()).unwrap();
        prop_assert_eq!(decode(&text, SLOTS, &units()), Ok(users.spans));
    }

    #[test]
    fn no_text_makes_decode_panic_and_what_it_takes_covers_all(text in "[0-9ushfo@.,+]{0,40}|\\PC{0,20}", slots in 0..70_000_u32) {
        if let Ok(spans) = decode(&text, slots, &units()) {
            let covered: u32 = spans.iter().map(|span| u32::from(span.last - span.first) + 1).sum();
            prop_assert_eq!(covered, slots);
            // What is taken is written again and read as the same.
            let again = encode(&spans, &units()).unwrap();
            prop_assert_eq!(decode(&again, slots, &units()), Ok(spans));
        }
        let _ = text.parse::<SlotSet>();
        let _ = text.parse::<Epoch>();
    }

    #[test]
    fn set_keeps_the_cover_and_changes_only_its_slots(before in a_keyspace(), (slots, owner, state, epoch) in a_change()) {
        prop_assert!(covers(&before));
        let mut after = before.clone();
        let owner = units().get(owner).cloned();
        let state = if owner.is_some() { STATES[state] } else { SpanState::Unowned };
        after.set(&slots, owner.as_ref(), state, Epoch::new(1, epoch));
        prop_assert!(covers(&after), "{after:?}");
        for slot in 0..64 {
            let (old, new) = (before.span_of(slot).unwrap(), after.span_of(slot).unwrap());
            if slots.contains(slot) {
                prop_assert_eq!((&new.owner, new.state, new.epoch), (&owner, state, Epoch::new(1, epoch)));
            } else {
                prop_assert_eq!((&new.owner, new.state, new.epoch), (&old.owner, old.state, old.epoch));
            }
        }
    }

    #[test]
    fn lookup_says_what_the_spans_say(users in a_keyspace()) {
        let lookup = Lookup::new(&users);
        for slot in 0..64 {
            let (entry, span) = (lookup.get(slot).unwrap(), users.span_of(slot).unwrap());
            prop_assert_eq!((&entry.owner, entry.state, entry.epoch), (&span.owner, span.state, span.epoch));
        }
        prop_assert_eq!(lookup.get(64), None);
        prop_assert!(lookup.entries().len() <= users.spans.len() + 1);
    }

    #[test]
    fn ranges_are_homes_or_every_slot_in_conflict_is_named(
        cuts in vec((-2..70_i64, -2..70_i64, 0..4_usize), 0..7),
    ) {
        let known: BTreeSet<UnitName> = units().into_iter().collect();
        let names = [unit("east"), unit("north"), unit("south"), unit("west")];
        let ranges: Vec<ShardRange> = cuts.iter().enumerate().map(|(n, (first, last, home))| ShardRange {
            name: format!("r{n}"),
            first: *first,
            last: *last,
            home: names[*home].clone(),
        }).collect();
        let holders = |slot: i64| ranges.iter().filter(|r| r.first.min(r.last) <= slot && slot <= r.first.max(r.last)).collect::<Vec<_>>();
        match homes(SLOTS, &ranges, &known) {
            Ok(homes) => for slot in 0..64_u16 {
                let held = holders(i64::from(slot));
                prop_assert_eq!(held.len(), 1);
                prop_assert_eq!(homes.home_of(slot), Some(&held[0].home));
            },
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                let named = |wanted: fn(&RangeProblem) -> Option<(Slot, Slot)>| -> SlotSet {
                    problems.iter().filter_map(wanted).collect()
                };
                let gaps = named(|p| if let RangeProblem::Gap { first, last, .. } = p { Some((*first, *last)) } else { None });
                let overlaps = named(|p| if let RangeProblem::Overlap { first, last, .. } = p { Some((*first, *last)) } else { None });
                for slot in (0..64_u16).filter(|_| !ranges.is_empty()) {
                    let held = holders(i64::from(slot)).len();
                    prop_assert_eq!(gaps.contains(slot), held == 0, "slot {}", slot);
                    prop_assert_eq!(overlaps.contains(slot), held > 1, "slot {}", slot);
                }
            }
        }
    }

    #[test]
    fn ownership_never_moves_an_owned_slot_and_takes_one_epoch(
        users in a_keyspace(),
        home in 0..3_usize,
        declared_units in 0..8_usize,
        applied in proptest::option::of(0..50_u64),
        may_open in any::<Option<bool>>(),
        declared_slots in prop_oneof![Just(SLOTS), Just(32_u32)],
    ) {
        let known: BTreeSet<UnitName> = units().into_iter().collect();
        let range = ShardRange { name: "all".to_owned(), first: 0, last: i64::from(declared_slots) - 1, home: units()[home].clone() };
        let declared = Declared {
            units: units().into_iter().enumerate().filter(|(n, _)| declared_units & (1 << n) != 0)
                .map(|(_, name)| DeclaredUnit { router: "https://new".to_owned(), name, fences: false }).collect(),
            keyspaces: vec![DeclaredKeyspace { name: "users".into(), slots: declared_slots, definition: "Crc32".to_owned(), homes: homes(declared_slots, &[range], &known).ok(), given_up: false, members: Vec::new() }],
        };
        let seen: BTreeMap<_, _> = units().into_iter()
            .map(|name| (name, UnitSeen { applied: applied.map(|epoch| Epoch::new(1, epoch)), may_open, stands: BTreeMap::new(), fences: None })).collect();
        let owned = users.spans.iter().any(|span| span.owner.is_some());
        let old = table(users);
        let managed = manage(Some(&old), &declared, &seen);
        prop_assert_eq!(managed.problems.is_empty(), declared_slots == SLOTS || !owned);
        let Some(new) = managed.table else { return Ok(()) };
        if declared_slots != SLOTS && !owned {
            // Nobody has a row of the first: the second is another keyspace.
            prop_assert_eq!(new.keyspaces[0].slots, declared_slots);
            return Ok(());
        }
        prop_assert_eq!(new.epoch, old.epoch.next());
        prop_assert!(covers(&new.keyspaces[0]));
        for slot in 0..64 {
            let (before, after) = (old.keyspaces[0].span_of(slot).unwrap(), new.keyspaces[0].span_of(slot).unwrap());
            match &before.owner {
                Some(_) => {
                    prop_assert_eq!(&after.owner, &before.owner);
                    let served = (before.state, after.state) == (SpanState::Opening, SpanState::Serving);
                    prop_assert!(after.state == before.state || served);
                }
                None => prop_assert!(after.owner.is_none() || after.state == SpanState::Opening),
            }
            prop_assert!(after.epoch == before.epoch || after.epoch == new.epoch);
        }
        // Every owner is in the list of units, or its spans could not be written.
        let names: Vec<_> = new.units.iter().map(|unit| unit.name.clone()).collect();
        prop_assert!(encode(&new.keyspaces[0].spans, &names).is_some());
        // Once written, there is nothing more to do with the same sight, but to serve what it just opened.
        let again = manage(Some(&new), &declared, &BTreeMap::new());
        prop_assert_eq!(again.table, None);
    }

    #[test]
    fn a_promotion_keeps_the_cover_grows_every_epoch_and_ends_serving(
        owners in vec((a_set(), 0..3_usize), 1..5),
        select in a_set(),
        target in 0..3_usize,
        full in any::<bool>(),
        steps in vec((0..8_u8, any::<bool>()), 0..40),
    ) {
        let mut users = KeyspaceTable::unowned("users".into(), SLOTS);
        users.set(&SlotSet::range(0, 63), Some(&unit("east")), SpanState::Serving, Epoch::new(1, 1));
        for (slots, owner) in &owners {
            users.set(slots, Some(&units()[*owner]), SpanState::Serving, Epoch::new(1, 2));
        }
        let mut table = table(users);
        let request = Request {
            target: units()[target].clone(),
            select: vec![("users".into(), select.clone())],
            expected_epoch: 99,
            verify: if full { Verify::Full } else { Verify::None },
            ..common::request()
        };
        let Ok(op) = admit(&table, &request, at(0)) else { return Ok(()) };
        table.operations.push(op);
        let before = table.clone();
        for (what, late) in steps.iter().copied().chain([(9, false); 12]) {
            let Some(op) = table.operations.first() else { break };
            let mut seen = well_for(&table, op.epoch);
            match what {
                0 => seen = Seen::default(),
                1 => seen.sources.clear(),
                2 => seen.members.clear(),
                3 => seen.target = None,
                4 => seen.abort = Some("INC-7".to_owned()),
                _ => {}
            }
            let movement = next(op, &seen, at(if late { 9999 } else { 0 }));
            let Some(after) = record(&table, &"uid-1".into(), &movement, at(0)).unwrap() else { continue };
            prop_assert_eq!(after.epoch, table.epoch.next());
            prop_assert!(covers(&after.keyspaces[0]));
            for slot in 0..64 {
                let (old, new) = (table.keyspaces[0].span_of(slot).unwrap(), after.keyspaces[0].span_of(slot).unwrap());
                prop_assert!(new.epoch == old.epoch || new.epoch == after.epoch);
                prop_assert!(select.contains(slot) || new == old || new.owner == old.owner && new.state == old.state);
            }
            table = after;
        }
        // Well and undisturbed, the last twelve passes end any promotion.
        prop_assert!(table.operations.is_empty(), "{:?}", table.operations[0].step);
        let moved = table.finished[0].outcome == multiactive_core::promotion::Outcome::Succeeded;
        for slot in 0..64 {
            let (old, new) = (before.keyspaces[0].span_of(slot).unwrap(), table.keyspaces[0].span_of(slot).unwrap());
            prop_assert_eq!(new.state, SpanState::Serving);
            let want = if moved && select.contains(slot) { Some(&request.target) } else { old.owner.as_ref() };
            prop_assert_eq!(new.owner.as_ref(), want, "slot {}", slot);
        }
    }
}

/// All is well for the operation of the table, whichever its sources and its target are.
fn well_for(table: &RoutingTable, epoch: Epoch) -> Seen {
    let op = &table.operations[0];
    let template = well(epoch);
    let mut seen = template.clone();
    seen.sources = op
        .sources()
        .into_iter()
        .map(|source| {
            let mut seen = template.sources[0].clone();
            seen.unit = source.clone();
            seen
        })
        .collect();
    seen.members = units()
        .into_iter()
        .filter(|name| !op.sources().contains(&name))
        .map(|name| {
            let mut seen = template.members[0].clone();
            seen.unit = name;
            seen
        })
        .collect();
    seen
}
