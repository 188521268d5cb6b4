//! Verification: what is compared with what, which one runs, whose turn it is where rows are repaired, and how it ends.

use crate::epoch::Epoch;
use crate::ids::{KeyspaceName, StoreName, UnitName};
use crate::promotion::MovingStore;
use crate::slots::SlotSet;
use crate::table::RoutingTable;

/// One comparison: the rows of a store that one unit owns, as another one holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The store.
    pub store: StoreName,
    /// The unit that is compared.
    pub unit: UnitName,
    /// Whose rows are right.
    pub owner: UnitName,
    /// The slots that it owns; of a store that several units write and where the last one wins, all.
    pub slots: SlotSet,
}

/// All comparisons of a store in which each member writes all of these slots: each takes from each other what is newer there.
pub fn between(store: &MovingStore, units: Option<&[UnitName]>, slots: &SlotSet) -> Vec<Pair> {
    let members = store.members.iter();
    let concerned = members.filter(|unit| units.is_none_or(|units| units.contains(unit)));
    let all = concerned.flat_map(|unit| {
        let others = store.members.iter().filter(move |other| *other != unit);
        others.map(|other| Pair {
            store: store.store.clone(),
            unit: unit.clone(),
            owner: other.clone(),
            slots: slots.clone(),
        })
    });
    sorted(all.collect())
}

fn sorted(mut pairs: Vec<Pair>) -> Vec<Pair> {
    pairs.sort_by(|a, b| (&a.store, &a.unit, &a.owner).cmp(&(&b.store, &b.unit, &b.owner)));
    pairs
}

/// With whom a member of a store is compared: the other members that own slots, each with them, in order.
pub fn owners(
    table: &RoutingTable,
    keyspace: &KeyspaceName,
    unit: &UnitName,
    members: &[UnitName],
) -> Vec<(UnitName, SlotSet)> {
    let owners = table.owners_of(keyspace).into_iter();
    let others = owners.filter(|(owner, _)| *owner != unit && members.contains(owner));
    others.map(|(owner, slots)| (owner.clone(), slots)).collect()
}

/// When what a unit owns of a keyspace changed last.
pub fn changed(table: &RoutingTable, keyspace: &KeyspaceName, owner: &UnitName) -> Epoch {
    let spans = table.keyspace(keyspace).into_iter().flat_map(|known| &known.spans);
    let owned = spans.filter(|span| span.is_owned_by(owner));
    owned.map(|span| span.epoch).max().unwrap_or(Epoch::NEVER)
}

/// All comparisons of these stores, at these units or at all members, in order of store, unit and owner.
pub fn pairs(table: &RoutingTable, stores: &[MovingStore], units: Option<&[UnitName]>) -> Vec<Pair> {
    let mut all = Vec::new();
    for store in stores {
        for unit in store
            .members
            .iter()
            .filter(|unit| units.is_none_or(|units| units.contains(unit)))
        {
            let owners = owners(table, &store.keyspace, unit, &store.members).into_iter();
            all.extend(owners.map(|(owner, slots)| Pair {
                store: store.store.clone(),
                unit: unit.clone(),
                owner,
                slots,
            }));
        }
    }
    sorted(all)
}

/// How a comparison stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has ended.
    Ended,
    /// It is awaited.
    Awaited,
    /// It waits for who is away, or in quarantine.
    Away,
}

/// Which of those runs that have not ended, the oldest first: one at a time, and one that only waits for who is away lets others
/// pass.
pub fn next(pending: &[Vec<Standing>]) -> Option<usize> {
    let waits_only = |pairs: &[Standing]| pairs.contains(&Standing::Away) && !pairs.contains(&Standing::Awaited);
    let first = pending.iter().position(|pairs| !waits_only(pairs));
    first.or((!pending.is_empty()).then_some(0))
}

/// Whose turn it is where rows are repaired: one unit after the other, for who is being repaired cannot take anything over.
pub fn turn(pairs: &[Pair], has_ended: impl Fn(&Pair) -> bool) -> Option<&UnitName> {
    pairs.iter().find(|pair| !has_ended(pair)).map(|pair| &pair.unit)
}

/// What a comparison that has ended found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// All rows are equal.
    Equal,
    /// Rows differed that two units had written, and it was decided whose are right.
    Settled,
    /// Rows differed, and are the owner's now.
    Repaired,
    /// Rows differ.
    Differs,
}

/// How a Verification ends whose comparisons all have: as the worst of them; `None` where there was nothing to compare.
pub fn end(found: impl IntoIterator<Item = Found>) -> Option<Found> {
    found.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::Epoch;
    use crate::span::SpanState;
    use crate::table::KeyspaceTable;

    fn units(names: &[&str]) -> Vec<UnitName> {
        names.iter().map(|name| (*name).into()).collect()
    }

    /// East owns slots 0 to 7, north 8 to 11, west the others.
    fn table() -> RoutingTable {
        let mut keyspace = KeyspaceTable::unowned("users".into(), 16);
        for (unit, first, last) in [("east", 0, 7), ("north", 8, 11), ("west", 12, 15)] {
            let slots = SlotSet::range(first, last);
            keyspace.set(&slots, Some(&unit.into()), SpanState::Serving, Epoch::new(1, 1));
        }
        RoutingTable {
            keyspaces: vec![keyspace],
            ..RoutingTable::default()
        }
    }

    #[test]
    fn each_member_is_compared_with_each_other_one_that_owns_slots() {
        let store = |name: &str, keyspace: &str, members: &[&str]| MovingStore {
            store: name.into(),
            keyspace: keyspace.into(),
            members: units(members),
        };
        let stores = [
            store("orders", "users", &["south", "east", "north"]),
            store("carts", "users", &["east", "west"]),
            store("bills", "places", &["east", "north"]),
        ];
        let told = |only: Option<&[UnitName]>| {
            let all = pairs(&table(), &stores, only).into_iter();
            all.map(|pair| format!("{} {} {} {}", pair.store, pair.unit, pair.owner, pair.slots))
                .collect::<Vec<_>>()
        };
        let all = [
            "carts east west 12-15",
            "carts west east 0-7",
            "orders east north 8-11",
            "orders north east 0-7",
            "orders south east 0-7",
            "orders south north 8-11",
        ];
        assert_eq!(told(None), all);
        assert_eq!(told(Some(&units(&["south", "west"]))), [all[1], all[4], all[5]]);
    }

    #[test]
    fn the_oldest_runs_unless_it_only_waits_for_who_is_away() {
        use Standing::{Awaited, Away, Ended};
        for (pending, want) in [
            (vec![], None),
            (vec![vec![Awaited], vec![Awaited]], Some(0)),
            (vec![vec![Ended, Away], vec![Awaited]], Some(1)),
            (vec![vec![Away, Awaited], vec![Awaited]], Some(0)),
            (vec![vec![Away], vec![Away]], Some(0)),
            // What has ended, or has nothing to compare, is about to say so.
            (vec![vec![Ended], vec![Awaited]], Some(0)),
            (vec![vec![], vec![Awaited]], Some(0)),
        ] {
            assert_eq!(next(&pending), want, "{pending:?}");
        }
    }

    #[test]
    fn one_unit_after_the_other_is_repaired() {
        let store = MovingStore {
            store: "orders".into(),
            keyspace: "users".into(),
            members: units(&["east", "north", "south"]),
        };
        let pairs = pairs(&table(), &[store], None);
        for (ended, want) in [
            (0, Some("east")),
            (1, Some("north")),
            (2, Some("south")),
            (3, Some("south")),
            (4, None),
        ] {
            let turn = turn(&pairs, |pair| pairs[..ended].contains(pair));
            assert_eq!(turn.map(UnitName::as_str), want, "{ended} of {}", pairs.len());
        }
    }

    #[test]
    fn it_ends_as_the_worst_of_its_comparisons() {
        use Found::{Differs, Equal, Repaired};
        for (found, want) in [
            (vec![], None),
            (vec![Equal, Equal], Some(Equal)),
            (vec![Repaired, Equal], Some(Repaired)),
            (vec![Equal, Differs, Repaired], Some(Differs)),
        ] {
            assert_eq!(end(found.clone()), want, "{found:?}");
        }
    }
}
