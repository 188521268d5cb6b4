//! A keyspace as routers and stores use it: from a key's text to its slot.

use crate::hash::Function;
use crate::key::MAX_KEY;
use crate::slots::{MAX_SLOTS, Slot};
use std::collections::HashMap;

/// How a key becomes a slot: exact keys first, then the function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyspace {
    slots: u32,
    function: Function,
    overrides: HashMap<String, Slot>,
}

/// A keyspace that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyspaceError {
    /// No number of slots that a keyspace may have.
    #[error("{0} slots: a keyspace has at least 1 and at most {MAX_SLOTS}")]
    Slots(i64),
    /// An override names a slot that the keyspace does not have.
    #[error("override of key `{key}`: slot {slot} does not exist, the last slot is {last}")]
    NoSuchSlot {
        /// The key.
        key: String,
        /// The slot.
        slot: i64,
        /// The keyspace's last slot.
        last: u32,
    },
    /// A key has two overrides.
    #[error("key `{key}` is overridden twice, to slots {one} and {other}")]
    Twice {
        /// The key.
        key: String,
        /// One slot.
        one: Slot,
        /// The other slot.
        other: Slot,
    },
    /// An override for a key that no request can have.
    #[error("an override has a key of {0} bytes: a key has at least 1 and at most {MAX_KEY}")]
    KeyLength(usize),
}

impl Keyspace {
    /// A keyspace of `slots` slots; each override sends one key, exactly, to a slot. Numbers come as they were
    /// declared and are checked here.
    ///
    /// # Errors
    ///
    /// [`KeyspaceError`] for the first thing that is wrong. The same override given twice is not.
    pub fn new(
        slots: i64,
        function: Function,
        overrides: impl IntoIterator<Item = (String, i64)>,
    ) -> Result<Self, KeyspaceError> {
        let count = u32::try_from(slots)
            .ok()
            .filter(|count| (1..=MAX_SLOTS).contains(count));
        let count = count.ok_or(KeyspaceError::Slots(slots))?;
        let mut exact = HashMap::new();
        for (key, slot) in overrides {
            if !(1..=MAX_KEY).contains(&key.len()) {
                return Err(KeyspaceError::KeyLength(key.len()));
            }
            let last = count - 1;
            let Some(valid) = Slot::try_from(slot).ok().filter(|valid| u32::from(*valid) <= last) else {
                return Err(KeyspaceError::NoSuchSlot { key, slot, last });
            };
            match exact.get(&key) {
                Some(one) if *one != valid => {
                    let (one, other) = (*one, valid);
                    return Err(KeyspaceError::Twice { key, one, other });
                }
                Some(_) | None => exact.insert(key, valid),
            };
        }
        Ok(Self {
            slots: count,
            function,
            overrides: exact,
        })
    }

    /// That of a store with a single writer: one slot, for whatever key.
    pub fn single_writer() -> Self {
        Self {
            slots: 1,
            function: Function::SingleWriter,
            overrides: HashMap::new(),
        }
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &str) -> Slot {
        // Most keyspaces have no override: they pay for the function alone.
        if !self.overrides.is_empty()
            && let Some(slot) = self.overrides.get(key)
        {
            return *slot;
        }
        self.function.slot(key.as_bytes(), self.slots)
    }

    /// What it sends where, in a short text that is the same in every version of this program: `Crc32`, or with
    /// overrides `Crc32+2:9f31c2a7d04b5e68`, their number and a hash of them. Two keyspaces with the same number of
    /// slots and the same definition send every key to the same slot.
    pub fn definition(&self) -> String {
        if self.overrides.is_empty() {
            return self.function.to_string();
        }
        let mut exact: Vec<_> = self.overrides.iter().collect();
        exact.sort_unstable();
        // FNV-1a. No text holds the byte 0xff, so it ends a key.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let bytes = exact
            .iter()
            .flat_map(|(key, slot)| key.bytes().chain([0xff]).chain(slot.to_be_bytes()));
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, step);
        format!("{}+{}:{hash:016x}", self.function, exact.len())
    }

    /// The number of slots.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The function.
    pub fn function(&self) -> Function {
        self.function
    }
}
