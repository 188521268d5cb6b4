//! From what a Promotion selects to slots by keyspace.

use crate::ids::{KeyspaceName, StoreName, UnitName};
use crate::slots::{MAX_SLOTS, Slot, SlotSet};
use crate::table::RoutingTable;
use std::collections::BTreeMap;

/// What shall move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The slots of ShardRanges, by name.
    Ranges(Vec<String>),
    /// Slots by number.
    Slots {
        /// Their keyspace.
        keyspace: KeyspaceName,
        /// The slots.
        slots: SlotSet,
    },
    /// All that a unit owns now.
    Unit(UnitName),
    /// The writer of a store that has a single one.
    Writer(StoreName),
}

/// A ShardRange with its keyspace; its numbers are as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRange {
    /// The name of the object.
    pub name: String,
    /// Its keyspace.
    pub keyspace: KeyspaceName,
    /// The first slot.
    pub first: i64,
    /// The last slot, inclusive.
    pub last: i64,
}

/// A selection that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// There is no such ShardRange.
    #[error("there is no ShardRange {0}")]
    UnknownRange(String),
    /// A ShardRange has no valid slots.
    #[error("ShardRange {name} has slots {first}-{last}: correct it first")]
    InvalidRange {
        /// Its name.
        name: String,
        /// Its first slot.
        first: i64,
        /// Its last slot.
        last: i64,
    },
    /// The table has no such unit.
    #[error("unit {0} is not in the routing table: is there a Unit of that name?")]
    UnknownUnit(UnitName),
    /// The table knows no writer of this store.
    #[error(
        "the routing table has no writer of store {0}: is there a DataStore of that name with topology SingleWriter? What is \
         sharded is selected by Ranges or Slots"
    )]
    UnknownWriter(StoreName),
}

impl SelectError {
    /// One word, for conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownRange(_) => "UnknownRange",
            Self::InvalidRange { .. } => "InvalidRange",
            Self::UnknownUnit(_) => "UnknownUnit",
            Self::UnknownWriter(_) => "UnknownWriter",
        }
    }
}

/// The selected slots, one entry a keyspace, sorted by name. Whether the table has those slots is for
/// [`crate::promotion::admit`] to say; a unit that owns nothing selects nothing.
///
/// # Errors
///
/// [`SelectError`] for the first name that means nothing.
pub fn select(
    selection: &Selection,
    ranges: &[NamedRange],
    table: &RoutingTable,
) -> Result<Vec<(KeyspaceName, SlotSet)>, SelectError> {
    let mut selected: BTreeMap<KeyspaceName, SlotSet> = BTreeMap::new();
    match selection {
        Selection::Ranges(names) => {
            for name in names {
                let range = ranges.iter().find(|range| range.name == *name);
                let range = range.ok_or_else(|| SelectError::UnknownRange(name.clone()))?;
                let slots = slots_of(range)?;
                let known = selected.entry(range.keyspace.clone()).or_default();
                *known = known.union(&slots);
            }
        }
        Selection::Slots { keyspace, slots } => {
            selected.insert(keyspace.clone(), slots.clone());
        }
        Selection::Unit(unit) => {
            if !table.units.iter().any(|known| known.name == *unit) {
                return Err(SelectError::UnknownUnit(unit.clone()));
            }
            selected.extend(table.owned_by(unit));
        }
        Selection::Writer(store) => {
            let keyspace = KeyspaceName::of_writer(store);
            if table.keyspace(&keyspace).is_none() {
                return Err(SelectError::UnknownWriter(store.clone()));
            }
            selected.insert(keyspace, SlotSet::range(0, 0));
        }
    }
    Ok(selected.into_iter().collect())
}

fn slots_of(range: &NamedRange) -> Result<SlotSet, SelectError> {
    let slot = |slot: i64| Slot::try_from(slot).ok().filter(|slot| u32::from(*slot) < MAX_SLOTS);
    match (slot(range.first), slot(range.last)) {
        (Some(first), Some(last)) if first <= last => Ok(SlotSet::range(first, last)),
        (_, _) => Err(SelectError::InvalidRange {
            name: range.name.clone(),
            first: range.first,
            last: range.last,
        }),
    }
}
