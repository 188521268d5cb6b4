//! From a slot to its owner by one array index: what a router asks for every request.

use crate::epoch::Epoch;
use crate::ids::UnitName;
use crate::slots::Slot;
use crate::span::SpanState;
use crate::table::KeyspaceTable;
use std::collections::HashMap;

/// What a router needs to know of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The unit that owns it; `None` exactly when `Unowned`.
    pub owner: Option<UnitName>,
    /// What the owner may do.
    pub state: SpanState,
    /// When owner or state changed last.
    pub epoch: Epoch,
}

/// The spans of one keyspace, compiled: swapped whole, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    index: Box<[u16]>,
    entries: Box<[Entry]>,
}

impl Lookup {
    /// Compiles a keyspace's spans. A slot that no span covers, which a valid table does not have, is unowned.
    pub fn new(keyspace: &KeyspaceTable) -> Self {
        let nobody = Entry {
            owner: None,
            state: SpanState::Unowned,
            epoch: Epoch::NEVER,
        };
        let mut entries = vec![nobody.clone()];
        let mut known = HashMap::from([(nobody, 0_u16)]);
        let mut index = vec![0_u16; keyspace.slots as usize];
        for span in &keyspace.spans {
            let entry = Entry {
                owner: span.owner.clone(),
                state: span.state,
                epoch: span.epoch,
            };
            let place = *known.entry(entry).or_insert_with_key(|entry| {
                entries.push(entry.clone());
                // At most one entry a slot, and the unowned one: far below 65,536.
                u16::try_from(entries.len() - 1).unwrap_or(0)
            });
            let slots = usize::from(span.first)..=usize::from(span.last);
            if let Some(run) = index.get_mut(slots) {
                run.fill(place);
            }
        }
        Self {
            index: index.into(),
            entries: entries.into(),
        }
    }

    /// The entry of a slot; `None` where the keyspace has no such slot.
    pub fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(self.place(slot)?)
    }

    /// The place of the slot's entry in [`Self::entries`], for a caller that keeps more beside each entry.
    pub fn place(&self, slot: Slot) -> Option<usize> {
        self.index.get(usize::from(slot)).copied().map(usize::from)
    }

    /// The distinct entries; the first is the unowned one, whether a slot has it or not.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The number of slots.
    pub fn slots(&self) -> u32 {
        u32::try_from(self.index.len()).unwrap_or(u32::MAX)
    }
}
