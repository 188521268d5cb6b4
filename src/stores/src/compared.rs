//! What a comparison of rows says: which slots differ, and in which rows.

use crate::error::Error;
use crate::link::Peer;
use multiactive_core::slots::{Slot, SlotSet};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// The rows of some slots, here and at a peer, as both were at one place in the peer's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// How many rows the peer has in them.
    pub rows: u64,
    /// The slots whose rows differ.
    pub differing: SlotSet,
    /// Some of the rows that differ, in the order of their keys.
    pub examples: Vec<Difference>,
    /// Where the part ends that was asked for; `None` where nothing is behind it.
    pub ends: Option<Place>,
    /// Where only rows that changed were compared whole.
    pub narrowed: Option<Narrowed>,
}

/// Which rows are compared whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All.
    All,
    /// Those that changed since they were found equal, here or there; of the others only that both sides have them. All, where that
    /// is not known of all slots.
    Changed,
}

/// Which rows were compared whole: those that changed since rows were found equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// When that was, by this server's clock, in RFC 3339.
    pub since: String,
    /// How many they are.
    pub rows: u64,
}

/// From when on rows count as changed in two databases: of each the name by which it keeps that, or where its log stood, and the shape
/// of its tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Horizon {
    pub(crate) here: (String, String),
    pub(crate) there: (String, String),
}

/// A part of the rows of some slots: one table after the other by their names, each by its primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where the last part has ended; `None` from the beginning.
    pub after: Option<Place>,
    /// It ends behind so many rows of the peer; at a table's end too, where its keys have no order that both sides share.
    pub rows: u64,
}

/// A place in the rows of some slots, behind a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The table, as declared. All rows of those before it stand before the place.
    pub table: String,
    /// By what its keys are ordered: upon another order the place means nothing.
    pub order: String,
    /// The row's primary key, each column as text by which the engine finds it again; none behind the whole table.
    pub key: Vec<String>,
}

/// Where a part begins in a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begins<'a> {
    /// All of the table stands before it.
    Behind,
    /// With the table's first row.
    First,
    /// Behind the row of this key.
    After(&'a [String]),
}

/// Where rows behind `after` begin in a table, whose keys are ordered by `order`; `None` where both sides have no order in common.
pub(crate) fn begins<'a>(after: Option<&'a Place>, table: &str, order: Option<&str>) -> Begins<'a> {
    let Some(after) = after else {
        return Begins::First;
    };
    match after.table.as_str().cmp(table) {
        Ordering::Less => Begins::First,
        Ordering::Greater => Begins::Behind,
        Ordering::Equal if after.key.is_empty() => Begins::Behind,
        Ordering::Equal if order == Some(after.order.as_str()) => Begins::After(&after.key),
        // Its keys are ordered by something else now: it is compared from its beginning.
        Ordering::Equal => Begins::First,
    }
}

/// A row that is not the same here and there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its table, as declared.
    pub table: String,
    /// Its primary key: `column=value, …`.
    pub key: String,
    /// Its slot.
    pub slot: Slot,
    /// How it differs.
    pub side: Side,
}

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Only this member has it.
    Here,
    /// Only the peer has it.
    There,
    /// Both have it, with other values.
    Both,
}

/// Why nothing can be compared with a peer's rows.
pub(crate) fn refused(from: &Peer, why: String) -> Error {
    Error::NotCompared {
        from: from.unit.clone(),
        why,
    }
}

/// Its link did not come in time to where both snapshots are to stand.
pub(crate) fn too_far_behind(from: &Peer) -> Error {
    let why = "its link is too far behind: it did not come to where the comparison begins in time; it is tried again";
    refused(from, why.to_owned())
}

/// Whatever is not the same here and there, in order, with what it is at each side.
pub(crate) fn unlike<'a, K: Ord, V: PartialEq>(
    ours: &'a BTreeMap<K, V>,
    theirs: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    let keys: BTreeSet<&K> = ours.keys().chain(theirs.keys()).collect();
    let both = keys.into_iter().map(|key| (key, ours.get(key), theirs.get(key)));
    both.filter(|(_, here, there)| here != there)
}

/// Rows by their keys: slot and hash.
pub(crate) type Rows<H> = BTreeMap<String, (Slot, H)>;

/// The rows of a table that differ.
pub(crate) fn differences<'a, H: PartialEq>(
    table: &'a str,
    ours: &'a Rows<H>,
    theirs: &'a Rows<H>,
) -> impl Iterator<Item = Difference> + 'a {
    unlike(ours, theirs).filter_map(move |(key, here, there)| {
        let ((slot, _), side) = match (here, there) {
            (Some(here), Some(_)) => (here, Side::Both),
            (Some(here), None) => (here, Side::Here),
            (None, Some(there)) => (there, Side::There),
            (None, None) => return None,
        };
        Some(Difference {
            table: table.to_owned(),
            key: key.clone(),
            slot: *slot,
            side,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_begins_behind_the_last_one_unless_its_place_means_nothing_any_more() {
        let place = |key: &[&str]| Place {
            table: "items".to_owned(),
            order: "1".to_owned(),
            key: key.iter().map(|key| (*key).to_owned()).collect(),
        };
        let (within, whole) = (place(&["a", "b"]), place(&[]));
        for (after, table, order, want) in [
            (None, "items", Some("1"), Begins::First),
            (Some(&within), "items", Some("1"), Begins::After(&within.key)),
            (Some(&within), "items", Some("2"), Begins::First),
            (Some(&within), "items", None, Begins::First),
            (Some(&within), "carts", Some("1"), Begins::Behind),
            (Some(&within), "orders", Some("1"), Begins::First),
            (Some(&whole), "items", Some("1"), Begins::Behind),
            (Some(&whole), "items", None, Begins::Behind),
            (Some(&whole), "orders", None, Begins::First),
        ] {
            assert_eq!(begins(after, table, order), want, "{after:?} {table} {order:?}");
        }
    }

    #[test]
    fn rows_differ_by_being_here_or_there_or_by_their_values() {
        let ours: Rows<i64> = [("id=1", 1), ("id=2", 1), ("id=4", 1)]
            .map(|(key, hash)| (key.to_owned(), (7, hash)))
            .into();
        let theirs: Rows<i64> = [("id=1", 1), ("id=2", 2), ("id=3", 1)]
            .map(|(key, hash)| (key.to_owned(), (7, hash)))
            .into();
        let told: Vec<_> = differences("orders", &ours, &theirs)
            .map(|found| (found.key, found.side))
            .collect();
        assert_eq!(
            told,
            [
                ("id=2".to_owned(), Side::Both),
                ("id=3".to_owned(), Side::There),
                ("id=4".to_owned(), Side::Here)
            ]
        );
    }
}
