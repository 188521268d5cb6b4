//! What decisions are made by: what the assignment declares, what the RoutingTable says, and what the agent said, all
//! of one moment and swapped whole.

mod compiled;
mod declared;

pub use compiled::{Compiled, Found, HeldOperation, Peer};
pub use declared::{Declared, DeclaredKeyspace, KeyOf, Route};

use multiactive_core::epoch::Epoch;
use multiactive_core::ids::KeyspaceName;
use multiactive_core::route::AgentSeen;
use multiactive_core::span::SpanState;
use multiactive_core::wire::Applied;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An assignment or a table that cannot be used; the last good one stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// A keyspace is declared in a way that cannot be compiled.
    #[error("keyspace {keyspace}: {message}")]
    Keyspace {
        /// Its name.
        keyspace: String,
        /// What is wrong.
        message: String,
    },
    /// The assignment is another unit's.
    #[error("the assignment is for unit {0}")]
    OtherUnit(String),
    /// Table and assignment disagree on a keyspace's number of slots.
    #[error("keyspace {keyspace} has {declared} slots in the assignment and {table} in the table")]
    Slots {
        /// Its name.
        keyspace: KeyspaceName,
        /// In the assignment.
        declared: u32,
        /// In the table.
        table: u32,
    },
    /// The table is older than the one in force.
    #[error("a table of epoch {offered} was refused, epoch {held} is in force")]
    Older {
        /// The one that was offered.
        offered: Epoch,
        /// The one in force.
        held: Epoch,
    },
    /// The stored object does not convert.
    #[error("the table cannot be read: {0}")]
    Table(String),
}

/// What one decision is made by.
#[derive(Debug, Default)]
pub struct View {
    /// Assignment and table; `None` until both are there.
    pub compiled: Option<Arc<Compiled>>,
    /// What the agent said.
    pub applied: Applied,
    /// Since when the agent is connected; `None` while it is not.
    pub connected: Option<Instant>,
    /// What it said of each keyspace, by the keyspace's place.
    by_keyspace: Box<[Epoch]>,
    /// How long a write of a span that the unit serves waits for an agent that is behind.
    patience: Duration,
}

impl View {
    /// All of one moment.
    pub fn new(
        compiled: Option<Arc<Compiled>>,
        applied: Applied,
        connected: Option<Instant>,
        patience: Duration,
    ) -> Self {
        let keyspaces = compiled.iter().flat_map(|compiled| compiled.declared.keyspaces());
        Self {
            by_keyspace: keyspaces.map(|keyspace| applied.of(&keyspace.name)).collect(),
            compiled,
            applied,
            connected,
            patience,
        }
    }

    /// What the decision about an entry of a keyspace, named by its place, needs to know of the agent.
    pub fn agent(&self, keyspace: usize, found: Found<'_>) -> AgentSeen {
        let applied = self.applied_to(keyspace);
        AgentSeen {
            connected: self.connected.is_some(),
            applied,
            // Nearly always it is not behind, and the clock is not asked.
            late: applied < found.entry.epoch && self.late_from(found).is_some_and(|from| from <= Instant::now()),
        }
    }

    /// The next moment after `now` at which the agent becomes late for a span that the unit serves.
    pub fn next_late(&self, now: Instant) -> Option<Instant> {
        let compiled = self.compiled.as_ref()?;
        let unit = &compiled.declared.unit;
        let keyspaces = 0..self.by_keyspace.len();
        let behind = keyspaces.flat_map(|keyspace| {
            let applied = self.applied_to(keyspace);
            compiled.entries(keyspace).filter(move |found| {
                let entry = found.entry;
                entry.state == SpanState::Serving && entry.owner.as_ref() == Some(unit) && entry.epoch > applied
            })
        });
        let moments = behind.filter_map(|found| self.late_from(found));
        moments.filter(|from| *from > now).min()
    }

    fn applied_to(&self, keyspace: usize) -> Epoch {
        self.by_keyspace.get(keyspace).copied().unwrap_or(Epoch::NEVER)
    }

    /// From when on the agent is late for an entry to which it has not brought the stores: only time in which it was
    /// connected counts, and only since the entry is in force.
    fn late_from(&self, found: Found<'_>) -> Option<Instant> {
        Some(self.connected?.max(found.since) + self.patience)
    }
}
