//! Doubles of the units' databases: which slots each holds open, by the rules of the real ones. A slot that two hold open
//! at any moment is remembered.

use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::Step;
use multiactive_core::table::RoutingTable;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A keyspace and a slot of it.
type Slot = (String, u16);

/// The databases of all units; they outlive their agents and the operator.
#[derive(Clone, Default)]
pub struct Databases(Arc<Mutex<Rows>>);

#[derive(Default)]
struct Rows {
    /// For each unit and slot of a keyspace: whether it is open, and the epoch of its last change.
    slots: BTreeMap<(String, Slot), (bool, Epoch)>,
    /// Slots that two units held open at once.
    twice: Vec<String>,
}

impl Databases {
    /// Brings the database of a unit to a table, all of it or nothing; whether it took it. What closes does so first.
    pub fn apply(&self, unit: &str, table: &RoutingTable) -> bool {
        let mut rows = self.0.lock().unwrap();
        let wanted = wanted(unit, table);
        let row = |rows: &Rows, slot: &Slot| rows.slots.get(&(unit.to_owned(), slot.clone())).copied();
        let forbidden = wanted.iter().any(|(slot, open, epoch)| {
            let (is_open, at) = row(&rows, slot).unwrap_or_default();
            match open {
                true => !is_open && at >= *epoch,
                false => is_open && at > *epoch,
            }
        });
        if forbidden {
            return false;
        }
        for (slot, open, epoch) in wanted {
            let is_open = row(&rows, &slot).unwrap_or_default().0;
            if is_open == open {
                continue;
            }
            rows.slots.insert((unit.to_owned(), slot.clone()), (open, epoch));
            let others = rows
                .slots
                .iter()
                .filter(|((_, other), (open, _))| *other == slot && *open);
            let holders: Vec<_> = others.map(|((unit, _), _)| unit.clone()).collect();
            if holders.len() > 1 {
                rows.twice.push(format!(
                    "slot {} of {} at {epoch}: {}",
                    slot.1,
                    slot.0,
                    holders.join(" and ")
                ));
            }
        }
        true
    }

    /// The deadline of a unit's database has passed, or somebody pulled its plug: nothing is open there any more.
    pub fn close(&self, unit: &str) {
        let mut rows = self.0.lock().unwrap();
        for ((of, _), (open, _)) in &mut rows.slots {
            if of == unit {
                *open = false;
            }
        }
    }

    /// How many slots a unit's database holds open.
    pub fn open(&self, unit: &str) -> usize {
        let rows = self.0.lock().unwrap();
        let mine = rows.slots.iter().filter(|((of, _), (open, _))| of == unit && *open);
        mine.count()
    }

    /// Slots that were ever open in two databases at once.
    pub fn twice(&self) -> Vec<String> {
        self.0.lock().unwrap().twice.clone()
    }
}

/// For each slot: whether it is to be open, and at what epoch; those that close first. At Hold a source fences at once.
fn wanted(unit: &str, table: &RoutingTable) -> Vec<(Slot, bool, Epoch)> {
    let mut all = Vec::new();
    for keyspace in &table.keyspaces {
        for span in &keyspace.spans {
            let owned = span.owner.as_ref().is_some_and(|owner| owner.as_str() == unit);
            for slot in span.first..=span.last {
                let leaves = table.operations.iter().any(|op| {
                    let mut moves = op.moves.iter();
                    op.step == Step::Hold && moves.any(|m| m.keyspace == keyspace.name && m.slots.contains(slot))
                });
                all.push((
                    (keyspace.name.to_string(), slot),
                    owned && span.state.is_open() && !leaves,
                    span.epoch,
                ));
            }
        }
    }
    all.sort_by_key(|(_, open, _)| *open);
    all
}
