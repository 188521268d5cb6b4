//! The world of three units: each has a log, which the two others apply in its order, and in the log of a new owner
//! stands an opening before its first write.

use crate::world::Table;
use multiactive_core::epoch::Epoch;

pub const EAST: usize = 0;
pub const NORTH: usize = 1;
pub const SOUTH: usize = 2;
pub const UNITS: [&str; 3] = ["east", "north", "south"];

/// What the others apply of a unit's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// A write of the moving slot, in the reign of this number: each owner has its own, and they grow.
    Write(u8),
    /// The unit opened the slot: how far each unit's log must have been applied by who passes it.
    Opening([u8; 3]),
}

/// What an agent published for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// The source is fenced: how far its own log had come, and what it had applied of the others'.
    Fenced([u8; 3]),
    /// The positions are applied.
    Reached,
    /// The target has opened.
    Opened,
}

/// A unit: its store, and what its agent published last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// Whether the operator's thresholds say that its member cluster is away. What the unit does is another matter.
    pub away: bool,
    pub epoch: Epoch,
    /// The reign in which it takes writes; `None` while it is fenced.
    pub open: Option<u8>,
    pub log: Vec<Entry>,
    /// How many entries of each unit's log it has applied.
    pub applied: [u8; 3],
    /// The operation whose positions it is known to have applied.
    pub reached: Option<u8>,
    /// The operation, its epoch, and the fact.
    pub report: Option<(u8, Epoch, Fact)>,
}

impl Unit {
    /// Whether it has applied the positions, its own log apart.
    pub fn has_applied(&self, own: usize, positions: &[u8; 3]) -> bool {
        (0..3).all(|unit| unit == own || self.applied[unit] >= positions[unit])
    }
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub ledger: Table,
    pub units: [Unit; 3],
    /// How many promotions were asked for, those that were not admitted included.
    pub asked: u8,
    pub writes_left: u8,
    pub turns_left: u8,
    /// Whether a write was applied or made anywhere before all writes of earlier reigns.
    pub disordered: bool,
}

impl World {
    /// Whether `unit` holds every write of the reigns before `reign`.
    pub fn holds_before(&self, unit: usize, reign: u8) -> bool {
        let log = |from: usize| self.units[from].log.iter().skip(self.units[unit].applied[from].into());
        let earlier = |entry: &Entry| matches!(entry, Entry::Write(other) if *other < reign);
        (0..3).all(|from| from == unit || !log(from).any(earlier))
    }

    /// Whether everyone has applied everything.
    pub fn even(&self) -> bool {
        let length = |unit: usize| self.units[unit].log.len();
        let all = |unit: usize| {
            (0..3).all(|from| from == unit || usize::from(self.units[unit].applied[from]) == length(from))
        };
        (0..3).all(all)
    }
}
