//! What is known of a unit's stores at one moment. Unknown is `None`; nothing here is written anywhere.

use jiff::SignedDuration;
use multiactive_api::LinkState;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, StoreName};
use multiactive_core::promotion::{Reach, StorePosition};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// What is wrong with a store, for status and events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One word.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// A link into this unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFact {
    /// How it is.
    pub state: LinkState,
    /// Why, where it does not run.
    pub message: Option<String>,
}

/// Checksums of one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// The round.
    pub round: u32,
    /// How many rows were read.
    pub rows: u64,
    /// For each slot, in order.
    pub sums: Vec<u64>,
}

/// What a store answered to an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its final position, at the epoch of the fence that stands.
    pub fenced: Option<(Epoch, StorePosition)>,
    /// The largest age of the newest row from the sources.
    pub lag: Option<SignedDuration>,
    /// Whether the positions are applied and recorded.
    pub reach: Option<Reach>,
    /// Checksums of the newest round that was answered.
    pub checksums: Option<Checksums>,
}

/// What is known of one store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// The table that it stands at, since this agent brought it there.
    pub applied: Option<Epoch>,
    /// What keeps it from being in hand; `None` too while the first attempt runs.
    pub problem: Option<Problem>,
    /// Which server it is.
    pub server: Option<String>,
    /// What a person should know though it keeps nothing from working, and its reason.
    pub warnings: Vec<Problem>,
    /// Its links, by the unit that they come from.
    pub links: BTreeMap<String, LinkFact>,
    /// Its answers to the operations that run.
    pub answers: BTreeMap<OperationUid, Answer>,
}

impl StoreFacts {
    /// Whether the agent has it in hand.
    pub fn is_ready(&self) -> bool {
        self.problem.is_none() && self.applied.is_some()
    }

    /// Whether it is known how it is: in hand, or why not.
    pub fn is_settled(&self) -> bool {
        self.problem.is_some() || self.applied.is_some()
    }
}

/// The stores of a unit, by name.
pub type Stores = BTreeMap<StoreName, StoreFacts>;

/// Where the tasks of one store write what they know. Clones share it.
#[derive(Clone, Debug)]
pub struct Board {
    store: StoreName,
    stores: watch::Sender<Stores>,
}

impl Board {
    /// The place of one store among a unit's.
    pub fn new(store: StoreName, stores: watch::Sender<Stores>) -> Self {
        Self { store, stores }
    }

    /// Changes what is known; whoever waits for a change hears only of a real one. A store that the unit has no more
    /// stays forgotten.
    pub fn change(&self, with: impl FnOnce(&mut StoreFacts)) {
        self.stores.send_if_modified(|stores| {
            let Some(facts) = stores.get_mut(&self.store) else {
                return false;
            };
            let before = facts.clone();
            with(facts);
            *facts != before
        });
    }

    /// Changes an answer to an operation.
    pub fn answer(&self, operation: &OperationUid, with: impl FnOnce(&mut Answer)) {
        self.change(|facts| with(facts.answers.entry(operation.clone()).or_default()));
    }

    /// What is known.
    pub fn facts(&self) -> StoreFacts {
        self.stores.borrow().get(&self.store).cloned().unwrap_or_default()
    }
}

/// The table that every store stands at; a unit without stores stands at its table at once.
pub fn applied(stores: &Stores, table: Option<Epoch>) -> Option<Epoch> {
    let all: Option<Vec<Epoch>> = stores.values().map(|store| store.applied).collect();
    all?.into_iter().min().or(table)
}
