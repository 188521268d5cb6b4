//! The routing table: the committed owner of every slot of a namespace, and the operations that are changing it.
//!
//! Every write of the table takes the next epoch, so the epoch is also its version. Functions here return a new table
//! and never touch the old one: the caller commits it by compare-and-swap.

use crate::epoch::Epoch;
use crate::ids::{KeyspaceName, StoreName, UnitName};
use crate::promotion::{Finished, Operation};
use crate::quarantine::{LeaseGrant, Quarantined};
use crate::slots::{Slot, SlotSet};
use crate::span::{Span, SpanState};
use std::collections::{BTreeMap, BTreeSet};

/// How many finished operations the table remembers.
pub const FINISHED_REMEMBERED: usize = 256;

/// The ownership record of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RoutingTable {
    /// The epoch of its last write.
    pub epoch: Epoch,
    /// The units, sorted by name.
    pub units: Vec<TableUnit>,
    /// The keyspaces, sorted by name.
    pub keyspaces: Vec<KeyspaceTable>,
    /// Operations that run, oldest first: enough to finish or abort each one without its object.
    pub operations: Vec<Operation>,
    /// The last operations that ended, oldest first, at most [`FINISHED_REMEMBERED`].
    pub finished: Vec<Finished>,
    /// Units whose slots were given to others without their word, sorted by name: they serve nothing before they have
    /// rejoined.
    pub quarantined: Vec<Quarantined>,
    /// Leases that were granted anew after they had been sealed, sorted by unit.
    pub leases: Vec<LeaseGrant>,
    /// Units that are known to stop writing without their lease, sorted by unit: whoever begins only after such a unit was lost
    /// goes by this. None is told otherwise before it is taken away here.
    pub fencing: Vec<Fencing>,
}

/// A unit that stops writing without its lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fencing {
    /// Its name.
    pub unit: UnitName,
    /// Its stores whose databases were known to keep the deadline; of another one that is not known.
    pub stores: BTreeSet<StoreName>,
}

/// A unit as routers need it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableUnit {
    /// Its name.
    pub name: UnitName,
    /// Where the other units' routers reach it, an `https` URL.
    pub router: String,
}

/// The spans of one keyspace; they cover slots `0..slots` in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyspaceTable {
    /// Its name.
    pub name: KeyspaceName,
    /// Its number of slots.
    pub slots: u32,
    /// [`crate::keyspace::Keyspace::definition`] of the Keyspace by which its slots were given out; `None` in a table
    /// that was written before this was noted.
    pub definition: Option<String>,
    /// Its spans.
    pub spans: Vec<Span>,
}

impl KeyspaceTable {
    /// All of its slots.
    pub fn all(&self) -> SlotSet {
        SlotSet::range(0, Slot::try_from(self.slots.saturating_sub(1)).unwrap_or(Slot::MAX))
    }

    /// A keyspace that nobody owns yet; `slots` is at least 1 and at most [`crate::slots::MAX_SLOTS`].
    pub fn unowned(name: KeyspaceName, slots: u32) -> Self {
        let last = Slot::try_from(slots.saturating_sub(1)).unwrap_or(Slot::MAX);
        let span = Span {
            first: 0,
            last,
            owner: None,
            state: SpanState::Unowned,
            epoch: Epoch::NEVER,
        };
        Self {
            name,
            slots,
            definition: None,
            spans: vec![span],
        }
    }

    /// The span that holds `slot`; `None` where the keyspace has no such slot.
    pub fn span_of(&self, slot: Slot) -> Option<&Span> {
        let after = self.spans.partition_point(|span| span.first <= slot);
        self.spans[..after].last().filter(|span| slot <= span.last)
    }

    /// The slots of the spans that `wanted` accepts.
    pub fn slots_where(&self, wanted: impl Fn(&Span) -> bool) -> SlotSet {
        self.spans
            .iter()
            .filter(|span| wanted(span))
            .map(|span| (span.first, span.last))
            .collect()
    }

    /// Gives `slots` this owner, state and epoch; spans split where they must and join where they may.
    pub fn set(&mut self, slots: &SlotSet, owner: Option<&UnitName>, state: SpanState, epoch: Epoch) {
        let old = std::mem::take(&mut self.spans);
        for span in old {
            let mut next = u32::from(span.first);
            for (first, last) in slots.within(span.first, span.last).ranges() {
                if u32::from(*first) > next {
                    self.push(Span {
                        first: next as Slot,
                        last: first - 1,
                        ..span.clone()
                    });
                }
                self.push(Span {
                    first: *first,
                    last: *last,
                    owner: owner.cloned(),
                    state,
                    epoch,
                });
                next = u32::from(*last) + 1;
            }
            if next <= u32::from(span.last) {
                self.push(Span {
                    first: next as Slot,
                    ..span
                });
            }
        }
    }

    fn push(&mut self, span: Span) {
        match self.spans.last_mut() {
            Some(before) if before.owner == span.owner && before.state == span.state && before.epoch == span.epoch => {
                before.last = span.last;
            }
            Some(_) | None => self.spans.push(span),
        }
    }
}

impl RoutingTable {
    /// The keyspace of this name.
    pub fn keyspace(&self, name: &KeyspaceName) -> Option<&KeyspaceTable> {
        self.keyspaces.iter().find(|keyspace| keyspace.name == *name)
    }

    /// The running operation of this uid.
    pub fn operation(&self, uid: &crate::ids::OperationUid) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.uid == *uid)
    }

    /// The stores of a unit that is known to stop writing without its lease; `None` where that is not known.
    pub fn fences(&self, unit: &UnitName) -> Option<&BTreeSet<StoreName>> {
        let known = self.fencing.iter().find(|known| known.unit == *unit);
        known.map(|known| &known.stores)
    }

    /// The operations that it remembers and at whose commit a unit was behind, oldest first.
    pub fn behind_of(&self, unit: &UnitName) -> impl Iterator<Item = &Finished> {
        self.finished.iter().filter(|done| done.behind.contains(unit))
    }

    /// The owners of a keyspace's slots, with what each owns; empty where nobody owns one.
    pub fn owners_of(&self, keyspace: &KeyspaceName) -> BTreeMap<&UnitName, SlotSet> {
        let mut owners: BTreeMap<&UnitName, Vec<(Slot, Slot)>> = BTreeMap::new();
        for span in self.keyspace(keyspace).into_iter().flat_map(|known| &known.spans) {
            if let Some(owner) = &span.owner {
                owners.entry(owner).or_default().push((span.first, span.last));
            }
        }
        let sets = owners.into_iter();
        sets.map(|(owner, spans)| (owner, spans.into_iter().collect()))
            .collect()
    }

    /// The units that a running operation moves slots of the keyspace from or to; from only before its commit point, for
    /// afterwards a source has none of them to lose.
    pub fn moved_between(&self, keyspace: &KeyspaceName) -> BTreeSet<&UnitName> {
        let moves = |op: &&Operation| op.moves.iter().any(|slot_move| slot_move.keyspace == *keyspace);
        let operations = self.operations.iter().filter(moves);
        operations
            .flat_map(|op| {
                let sources = op.sources().into_iter().filter(|_| op.step.may_abort());
                sources.chain([&op.target])
            })
            .collect()
    }

    /// Every keyspace in which `unit` owns slots, with those slots.
    pub fn owned_by(&self, unit: &UnitName) -> Vec<(KeyspaceName, SlotSet)> {
        let owned = self
            .keyspaces
            .iter()
            .map(|k| (k.name.clone(), k.slots_where(|span| span.is_owned_by(unit))));
        owned.filter(|(_, slots)| !slots.is_empty()).collect()
    }
}
