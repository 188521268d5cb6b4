//! What `failback` would do: ranges that are away, by the home unit that they go back to.

use crate::fail::{Failure, Result};
use kube::ResourceExt;
use multiactive_api::{DataStore, ShardRange};
use multiactive_core::slots::{Slot, SlotSet};
use multiactive_core::table::RoutingTable;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many ranges one Promotion may name.
const RANGES_MAX: usize = 64;

/// Ranges that go to the same unit by one Promotion, or the writer of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The name of the Promotion.
    pub name: String,
    /// Their home unit.
    pub to: String,
    /// The ranges.
    pub ranges: Vec<String>,
    /// The store, where it is a writer that goes home.
    pub store: Option<String>,
    /// How many slots of them are away.
    pub slots: usize,
}

/// The groups, by home unit; and what of the named is at home already.
///
/// # Errors
///
/// Where what is named does not exist.
pub fn groups(
    ranges: &[ShardRange],
    stores: &[DataStore],
    table: &RoutingTable,
    named: &[String],
) -> Result<(Vec<Group>, Vec<String>)> {
    let stores = stores.iter().filter(|store| store.spec.single_writer.is_some());
    let known = ranges.iter().map(ResourceExt::name_any);
    let known: Vec<_> = known.chain(stores.clone().map(ResourceExt::name_any)).collect();
    if let Some(name) = named.iter().find(|name| !known.contains(name)) {
        return Err(Failure::not_found(format!(
            "there is no ShardRange, and no DataStore with a single writer, of the name {name}; there are: {}",
            known.join(", ")
        )));
    }
    let mut by_home: BTreeMap<&str, Vec<(String, usize)>> = BTreeMap::new();
    let mut at_home = Vec::new();
    for range in ranges
        .iter()
        .filter(|range| named.is_empty() || named.contains(&range.name_any()))
    {
        match away(range, table).len() {
            0 => at_home.push(range.name_any()),
            slots => by_home
                .entry(&range.spec.home_unit)
                .or_default()
                .push((range.name_any(), slots)),
        }
    }
    let mut groups = Vec::new();
    for (home, mut ranges) in by_home {
        ranges.sort();
        for (index, chunk) in ranges.chunks(RANGES_MAX).enumerate() {
            let part = if index == 0 {
                String::new()
            } else {
                format!("-{}", index + 1)
            };
            groups.push(Group {
                // The epoch grows with every operation, so the name was never used.
                name: format!("failback-{home}-{}{part}", table.epoch.epoch),
                to: home.to_owned(),
                ranges: chunk.iter().map(|(name, _)| name.clone()).collect(),
                store: None,
                slots: chunk.iter().map(|(_, slots)| slots).sum(),
            });
        }
    }
    for store in stores.filter(|store| named.is_empty() || named.contains(&store.name_any())) {
        let name = store.name_any();
        match home_of(store, table) {
            None => at_home.push(name),
            Some(home) => groups.push(Group {
                name: format!("failback-{name}-{}", table.epoch.epoch),
                to: home.to_owned(),
                ranges: Vec::new(),
                store: Some(name),
                slots: 1,
            }),
        }
    }
    Ok((groups, at_home))
}

/// Where the writer of a store belongs, if it is another one.
fn home_of<'a>(store: &'a DataStore, table: &RoutingTable) -> Option<&'a str> {
    let home = &store.spec.single_writer.as_ref()?.home_unit;
    let span = table.keyspace(&store.keyspace_name())?.spans.first()?;
    let owner = span.owner.as_ref()?;
    (owner.as_str() != home).then_some(home.as_str())
}

/// The slots of a range that another unit than its home owns.
fn away(range: &ShardRange, table: &RoutingTable) -> SlotSet {
    let slot = |slot: i32| Slot::try_from(slot).unwrap_or(Slot::MAX);
    let home = range.spec.home_unit.as_str().into();
    let keyspace = table.keyspace(&range.spec.keyspace.as_str().into());
    let elsewhere =
        keyspace.map(|keyspace| keyspace.slots_where(|span| span.owner.is_some() && !span.is_owned_by(&home)));
    elsewhere
        .unwrap_or_default()
        .within(slot(range.spec.first_slot), slot(range.spec.last_slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures::{range, single_writer, table};
    use multiactive_core::span::SpanState;
    use multiactive_core::table::KeyspaceTable;

    #[test]
    fn ranges_go_home_in_one_promotion_a_unit_and_those_at_home_stay() {
        let ranges = [
            range("users-0", 0, 3, "east-1"),
            range("users-1", 4, 7, "east-1"),
            range("users-2", 8, 11, "north-1"),
            range("users-3", 12, 15, "north-1"),
        ];
        // All of east's first eight slots are in the north, and one of the north's in the south.
        let table = table("8s1@1.4,1s2@1.6,7s1@1.2", None);
        let group = |to: &str, ranges: &[&str], slots| Group {
            name: format!("failback-{to}-6"),
            to: to.to_owned(),
            ranges: ranges.iter().map(|name| (*name).to_owned()).collect(),
            store: None,
            slots,
        };
        let (got, at_home) = groups(&ranges, &[], &table, &[]).unwrap();
        assert_eq!(
            got,
            [
                group("east-1", &["users-0", "users-1"], 8),
                group("north-1", &["users-2"], 1)
            ]
        );
        assert_eq!(at_home, ["users-3"]);
        let (got, _) = groups(&ranges, &[], &table, &["users-1".to_owned()]).unwrap();
        assert_eq!(got, [group("east-1", &["users-1"], 4)]);
        assert_eq!(
            groups(&ranges, &[], &table, &["nothing".to_owned()])
                .unwrap_err()
                .exit()
                .code(),
            5
        );
    }

    #[test]
    fn a_writer_goes_home_by_a_promotion_of_its_own() {
        let catalog = single_writer("catalog", "east-1");
        for (owner, want) in [(Some("north-1"), true), (Some("east-1"), false), (None, false)] {
            let mut table = table("8s0@1.4,8s1@1.6", None);
            let mut writer = KeyspaceTable::unowned(catalog.keyspace_name(), 1);
            if let Some(owner) = owner {
                let all = SlotSet::range(0, 0);
                writer.set(&all, Some(&owner.into()), SpanState::Serving, table.epoch);
            }
            table.keyspaces.push(writer);
            let (got, at_home) = groups(&[], std::slice::from_ref(&catalog), &table, &[]).unwrap();
            assert_eq!(at_home.is_empty(), want, "{owner:?}");
            let told = got
                .iter()
                .map(|group| (group.name.as_str(), group.to.as_str(), group.store.as_deref()));
            let home = [("failback-catalog-6", "east-1", Some("catalog"))];
            assert_eq!(told.collect::<Vec<_>>(), home[..usize::from(want)], "{owner:?}");
        }
    }

    #[test]
    fn a_promotion_names_no_more_ranges_than_it_may() {
        let ranges: Vec<_> = (0..100)
            .map(|at| range(&format!("r-{at:03}"), at, at, "east-1"))
            .collect();
        let table = crate::view::fixtures::table_of(100, "100s1@1.4", None);
        let (groups, _) = groups(&ranges, &[], &table, &[]).unwrap();
        let sizes: Vec<_> = groups
            .iter()
            .map(|group| (group.name.as_str(), group.ranges.len()))
            .collect();
        assert_eq!(sizes, [("failback-east-1-6", 64), ("failback-east-1-6-2", 36)]);
    }
}
