//! The write leases of this cluster's units: renewed in the hub's ledger, and lengthened in each unit's databases.
//!
//! The holder is the unit, so every replica of the agent does this, whichever leads: no election stands between a healthy
//! unit and its lease. One that does not lead looks whether another one renews, and renews itself where none does.

mod hub;
mod keeper;
mod reached;
mod stores;

pub use hub::{Hub, watch_hub};
pub use keeper::keep;
pub use reached::Reached;

use crate::facts::{Problem, Stores};
use crate::metrics::Metrics;
use crate::routers::UnitKey;
use jiff::SignedDuration;
use kube::Client;
use multiactive_api::{LeaseReport, LeaseState};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::StoreName;
use multiactive_core::lease::Standing;
use multiactive_runtime::clock::boottime;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// What the leases of all units share. Clones share it.
#[derive(Clone)]
pub struct Shared {
    /// For watches of the own cluster.
    pub watches: Client,
    /// The way to the ledger, where there is one.
    pub hub: watch::Receiver<Hub>,
    /// Whether this replica leads.
    pub leading: watch::Receiver<bool>,
    /// Where it is said how each lease stands.
    pub boards: Boards,
    /// The agent's metrics.
    pub metrics: Metrics,
}

/// What is known of one unit's lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// How it stands; `None` before the first attempt.
    pub standing: Option<Standing>,
    /// The table at which it was granted, by the ledger.
    pub granted: Option<Epoch>,
    /// The stores that have taken it since this agent began. One that never did admits no write.
    pub taken: BTreeSet<StoreName>,
}

impl Known {
    /// The stores as far as they admit writes: one that has never taken the lease does not stand at its table yet.
    pub fn admitting(&self, stores: &Stores) -> Stores {
        let mut stores = stores.clone();
        let why = match &self.standing {
            Some(Standing::Over(_) | Standing::Sealed(_)) => self.report().and_then(|report| report.message),
            Some(Standing::Held | Standing::Alone(_) | Standing::Late(_)) | None => None,
        };
        for (_, facts) in stores.iter_mut().filter(|(name, _)| !self.taken.contains(*name)) {
            facts.applied = None;
            if facts.problem.is_none() {
                facts.problem = why.as_ref().map(|why| Problem::new("NoLease", why));
            }
        }
        stores
    }

    /// What the status says of it.
    pub fn report(&self) -> Option<LeaseReport> {
        let (state, message) = match self.standing.as_ref()? {
            Standing::Held => (LeaseState::Held, None),
            Standing::Alone(why) => (
                LeaseState::Alone,
                Some(format!("the unit goes on without the ledger: {why}")),
            ),
            Standing::Late(why) => (
                LeaseState::Late,
                Some(format!(
                    "not renewed, the databases refuse writes once it is over: {why}"
                )),
            ),
            Standing::Over(why) => (
                LeaseState::Over,
                Some(format!("not renewed and over, the databases refuse writes: {why}")),
            ),
            Standing::Sealed(by) => (
                LeaseState::Sealed,
                Some(format!(
                    "operation {by} sealed it, because the unit counts as lost: the databases refuse writes"
                )),
            ),
        };
        Some(LeaseReport { state, message })
    }
}

/// Where one unit's lease and its hand meet. Clones share it.
#[derive(Clone, Default)]
pub struct Board {
    known: watch::Sender<Known>,
    nudge: Arc<Notify>,
    admits_until: Arc<Mutex<Option<Option<SignedDuration>>>>,
    databases: Arc<Mutex<BTreeMap<StoreName, Arc<Reached>>>>,
}

impl Board {
    /// How the lease stands, and every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// Has the lease looked after at once: a database has come, which has none.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// For how long the lease goes on, from now; zero where it is over, `None` where this agent does not know yet.
    pub fn left(&self) -> Option<Duration> {
        let until = (*self.admits_until.lock().unwrap_or_else(PoisonError::into_inner))?;
        let left = until.zip(boottime()).map(|(until, now)| until - now);
        Some(left.and_then(|left| Duration::try_from(left).ok()).unwrap_or_default())
    }

    /// How a database of the unit is reached; `None` for one that it does not have.
    pub fn database(&self, store: &StoreName) -> Option<Arc<Reached>> {
        let databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        databases.get(store).cloned()
    }

    fn reach(&self, databases: BTreeMap<StoreName, Arc<Reached>>) {
        *self.databases.lock().unwrap_or_else(PoisonError::into_inner) = databases;
    }

    fn admit_until(&self, until: Option<Option<SignedDuration>>) {
        *self.admits_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn say(&self, known: Known) {
        self.known.send_if_modified(|now| {
            let changed = *now != known;
            *now = known;
            changed
        });
    }
}

/// The boards of all units. Clones share them.
#[derive(Clone, Default)]
pub struct Boards(Arc<Mutex<BTreeMap<UnitKey, Board>>>);

impl Boards {
    /// The board of a unit; the lease or the hand may come first.
    pub fn unit(&self, key: &UnitKey) -> Board {
        let mut boards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        boards.entry(key.clone()).or_default().clone()
    }
}
