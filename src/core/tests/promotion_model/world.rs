//! The state of the modelled world: a ledger, two operators, two units with their agents and stores, one router.
//!
//! The record is the real `RoutingTable`, so the operators run the real `admit`, `next` and `record` on it.

pub use crate::common::shared::Table;

use multiactive_core::epoch::Epoch;

/// The unit that owns the slots at first.
pub const EAST: usize = 0;
/// The unit that shall own the moving slot.
pub const NORTH: usize = 1;
/// Their names, by number.
pub const UNITS: [&str; 2] = ["east", "north"];
/// The slot that moves.
pub const MOVED: usize = 0;

/// A table that an operator has made and not committed yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proposal {
    /// The epoch of the table that it was made from.
    pub base: Epoch,
    pub table: Table,
}

/// What a store has recorded about the moving slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Open,
    Fenced,
}

/// A unit's database. All but `granted` and `transactions` survives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    pub epoch: Epoch,
    pub kind: Kind,
    /// Whether the running server was told that it may take writes: it starts without.
    pub granted: bool,
    /// Writes that passed the trigger and may commit any time, as bits.
    pub transactions: u8,
    /// Committed writes, own and replicated, as bits.
    pub rows: u8,
    /// The operation (by its number) whose position this store is known to have applied.
    pub reached: Option<u8>,
}

impl Store {
    pub fn is_open(&self) -> bool {
        self.kind == Kind::Open && self.granted
    }

    /// Whether a write may still be committed here.
    pub fn may_commit(&self) -> bool {
        self.is_open() || self.transactions != 0
    }

    /// `open` in the database: a lower epoch is refused, and so is a change at the same one. Also what a lost reply
    /// and its retry do, any time later.
    pub fn open(&mut self, epoch: Epoch, ignore_epoch: bool) -> bool {
        if ignore_epoch || epoch > self.epoch || (epoch == self.epoch && self.kind == Kind::Open) {
            (self.epoch, self.kind, self.granted) = (epoch, Kind::Open, true);
            return true;
        }
        false
    }

    /// `fence` in the database: it ends the transactions under way, and so returns when none can commit any more.
    pub fn fence(&mut self, epoch: Epoch, ignore_epoch: bool, leave_transactions: bool) -> bool {
        if ignore_epoch || epoch > self.epoch || (epoch == self.epoch && self.kind == Kind::Fenced) {
            (self.epoch, self.kind) = (epoch, Kind::Fenced);
            if !leave_transactions {
                self.transactions = 0;
            }
            return true;
        }
        false
    }
}

/// What an agent found out for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// The source's router holds, and how many writes it still has under way.
    Holds(u8),
    /// The source's store is fenced, and these rows are its final position.
    Fenced(u8),
    /// The source's router routes by the table of the commit.
    Routes,
    /// The target has applied the position.
    Reached,
    /// The target's store stands at the table of the commit.
    Opened,
}

/// What an agent published last; the operators read nothing else of a unit, and it may be old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// The operation's number.
    pub operation: u8,
    /// The epoch of the operation that the agent acted on.
    pub epoch: Epoch,
    pub fact: Fact,
}

/// A unit: its copy of the record, its agent's memory, its store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    pub projection: Table,
    /// A final position that was read too early: only a planted fault does that.
    pub early_position: Option<u8>,
    pub report: Option<Report>,
    /// The last report of a fence; it stays readable beside later ones.
    pub fence_report: Option<Report>,
    /// The highest epochs of the commands to open and to fence: a retry of either may arrive at any time.
    pub sent: [Option<Epoch>; 2],
    pub store: Store,
}

impl Unit {
    /// Whether the store stands at the agent's table: what the unit owns is open, the rest fenced.
    pub fn applied(&self, number: usize) -> bool {
        let span = self.projection.span(MOVED);
        let owns = span.is_owned_by(&UNITS[number].into()) && span.state.is_open();
        self.store.epoch == span.epoch
            && if owns {
                self.store.is_open()
            } else {
                self.store.kind == Kind::Fenced
            }
    }
}

/// A client's write of the moving slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    New,
    /// Admitted by the router of east, which waits for the answer.
    Admitted,
    /// In a transaction at this unit.
    Begun(usize),
    /// Committed, and so perhaps acknowledged.
    Committed,
    /// Refused or ended: the client knows that it is not there.
    Failed,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub ledger: Table,
    /// What the operators hold in their hands, sorted: they have no names.
    pub proposals: Vec<Proposal>,
    pub units: [Unit; 2],
    /// The table by which the router of east routes.
    pub router: Table,
    /// Whether it is connected to its agent; it routes and admits writes all the same where it is not.
    pub connected: bool,
    pub leaves_left: u8,
    /// The first goes through the router, the second straight to a database.
    pub writes: [Write; 2],
    /// Whether the target died for good.
    pub dead: bool,
    pub restarts_left: u8,
    /// Whether an epoch ever went back.
    pub regressed: bool,
}

impl World {
    /// Whether this unit still does anything.
    pub fn alive(&self, unit: usize) -> bool {
        unit != NORTH || !self.dead
    }
}
