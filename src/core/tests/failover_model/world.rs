//! The state of the modelled world: a ledger with one table and a lease for each unit, three units with logs that the others
//! apply in order, and what agents reported last.
//!
//! The table is the real `RoutingTable`; time is what passes between two actions, so a lease is valid, may still be written
//! under, or over, and a write counts for a second of its unit's writing.

pub use crate::common::shared::Table;

use multiactive_core::epoch::Epoch;
use multiactive_core::ids::OperationUid;
use multiactive_core::promotion::Step;

pub const EAST: usize = 0;
pub const NORTH: usize = 1;
pub const SOUTH: usize = 2;
pub const UNITS: [&str; 3] = ["east", "north", "south"];

/// The number of a unit.
pub fn place(name: &str) -> usize {
    UNITS.iter().position(|unit| *unit == name).unwrap()
}

/// A write of the ledger that was decided on and has not arrived: it counts only where it finds what it was decided on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Write {
    Table { base: Epoch, table: Table },
    Lease { unit: usize, read: Lease, lease: Lease },
}

/// A unit's write lease, an object of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// The table that sealed it, or granted it.
    pub at: Epoch,
    pub sealed: bool,
    /// How often it was renewed, and how long the unit's log was then.
    pub renewed: u8,
    pub position: u8,
    /// How long it was at the renewal before that, where there was one.
    pub earlier: Option<u8>,
}

/// What a unit's databases hold: the same for all their slots but for who may write them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// The table to which it was brought.
    pub table: Epoch,
    /// By slot: since which epoch it is open or fenced.
    pub epochs: [Epoch; 2],
    pub open: [bool; 2],
    /// The operations whose positions it is known to have applied.
    pub reached: Vec<OperationUid>,
}

/// What an agent found out for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// It fenced its own databases, its log is so long, and it did or did not open the slots before.
    Fenced(u8, bool),
    /// It has cut off the lost unit, and applied so much of it.
    Cut(u8),
    /// It has applied what it has to.
    Reached,
    /// Its databases take writes.
    Opened,
}

/// A unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// Whether it does anything; a pause is that none of its actions comes.
    pub up: bool,
    pub projection: Table,
    pub store: Store,
    /// Whether the deadline of its databases has not passed.
    pub window: bool,
    /// Whether its agent renewed the lease and has not extended the deadline yet.
    pub extending: bool,
    /// The length of its log.
    pub log: u8,
    /// How much of each unit's log it has applied.
    pub applied: [u8; 3],
    /// Whose log it receives no more.
    pub cut: [bool; 3],
    /// By operation: the epoch that it answers, and the fact.
    pub reports: Vec<(OperationUid, Epoch, Fact)>,
}

impl Unit {
    /// Whether a write of the slot can be committed here at this instant.
    pub fn writes(&self, slot: usize) -> bool {
        self.up && self.window && self.store.open[slot]
    }

    pub fn report(&mut self, uid: &OperationUid, epoch: Epoch, fact: Fact) {
        self.reports.retain(|(of, _, _)| of != uid);
        self.reports.push((uid.clone(), epoch, fact));
        self.reports.sort_by(|a, b| a.0.cmp(&b.0));
    }
}

impl World {
    /// The first operation at Fence, and the epoch at which it asks.
    pub fn fencing(&self) -> Option<(OperationUid, Epoch)> {
        let mut operations = self.ledger.get().operations.iter();
        let op = operations.find(|op| op.step == Step::Fence)?;
        Some((op.uid.clone(), op.epoch))
    }
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub ledger: Table,
    pub leases: [Lease; 3],
    /// Whether the end of the sealed lease has been waited for.
    pub ended: [bool; 3],
    pub writes: Vec<Write>,
    pub units: [Unit; 3],
    /// How many failovers were asked for.
    pub asked: u8,
    pub confirmed: bool,
    /// What east's fencing hook said last: that it is fenced, for this operation, at this epoch. It stays in operators' hands.
    pub hooked: Option<(OperationUid, Epoch)>,
    pub accepted: bool,
    pub writes_left: u8,
    pub renewals_left: u8,
    pub kills_left: u8,
    /// Whether an epoch ever went back.
    pub regressed: bool,
    /// Whether something of a lost unit arrived after the commit at a survivor that was taken for cut off.
    pub leaked: bool,
}
