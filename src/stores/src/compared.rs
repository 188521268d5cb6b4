//! What a comparison of rows says: which slots differ, and in which rows.

use multiactive_core::slots::{Slot, SlotSet};

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
