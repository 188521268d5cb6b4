//! What a comparison of rows says: which slots differ, and in which rows.

use crate::error::Error;
use crate::link::Peer;
use multiactive_core::slots::{Slot, SlotSet};
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
