//! The words of a store's fence: what shall be open, what fencing found in its way, and where the log stood.

use multiactive_core::epoch::Epoch;
use multiactive_core::ids::OperationUid;
use multiactive_core::promotion::StorePosition;
use multiactive_core::slots::SlotSet;
use std::fmt;
use std::time::Duration;

/// What the table says of some slots, seen from this member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The slots.
    pub slots: SlotSet,
    /// Whether this unit may write them.
    pub open: bool,
    /// The epoch of their span.
    pub epoch: Epoch,
    /// The running operation that brings them here: they open only where its position was reached.
    pub brought_by: Option<OperationUid>,
}

/// How long a fence may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceLimits {
    /// When to give up.
    pub deadline: Duration,
    /// How old a transaction that holds up the fence may become before its session is ended.
    pub grace: Duration,
}

/// What bringing a store to a table changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// How many slots were closed.
    pub closed: u64,
    /// How many slots were opened.
    pub opened: u64,
    /// Sessions that were ended to close them.
    pub ended: Vec<Blocker>,
}

/// A fence that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// The store's position after it.
    pub position: StorePosition,
    /// Sessions that were ended for it, where this call made it.
    pub ended: Vec<Blocker>,
}

/// A session that holds up a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Its process.
    pub pid: i32,
    /// Its user.
    pub user: String,
    /// What it does: `active`, `idle in transaction`.
    pub state: String,
    /// The age of its transaction.
    pub age: Duration,
    /// Its last statement, shortened.
    pub query: String,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            user,
            state,
            age,
            query,
        } = self;
        write!(f, "process {pid} of {user}, {state}, {age:.1?} old: {query}")
    }
}

/// The answer of [`Driver::wait_for`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited {
    /// All was applied, durably, and that is recorded here.
    Reached,
    /// The time is over; what was not there yet.
    TimedOut(String),
    /// It will not come by itself; why.
    LinkBroken(String),
}
