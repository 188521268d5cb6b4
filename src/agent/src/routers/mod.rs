//! The unit's routers: who is connected, what they said, and the word `Applied` to them.

mod answer;
mod pods;
mod registry;
mod server;

pub use pods::{watch_pods, watch_running};
pub use registry::{Registry, Router};
pub use server::serve;

use multiactive_core::epoch::Epoch;
use multiactive_core::wire::{Applied, RouterReport};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// A unit and its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitKey {
    /// The namespace.
    pub namespace: String,
    /// The unit.
    pub unit: String,
}

impl fmt::Display for UnitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.unit)
    }
}

/// The routers of every unit. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct RouterHub {
    units: Arc<Mutex<BTreeMap<UnitKey, UnitRouters>>>,
}

impl RouterHub {
    /// The routers of a unit; a router may come before the unit's assignment does.
    pub fn unit(&self, key: &UnitKey) -> UnitRouters {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        units.entry(key.clone()).or_default().clone()
    }
}

/// The routers of one unit. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct UnitRouters {
    registry: watch::Sender<Registry>,
    applied: watch::Sender<Applied>,
}

impl UnitRouters {
    /// Who is there, and every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<Registry> {
        self.registry.subscribe()
    }

    /// Tells every router, those that connect later too, at which tables the unit's stores stand; whether that is news.
    pub fn applied(&self, said: &Applied) -> bool {
        self.applied.send_if_modified(|told| told.raise(said))
    }

    /// Routers that an earlier agent reported: they count as away until they connect.
    pub fn restore(&self, routers: impl IntoIterator<Item = (String, Option<Epoch>)>) {
        self.change(|registry| {
            for (name, epoch) in routers {
                registry.restore(&name, epoch);
            }
        });
    }

    /// Which pods of the unit's routers run now, by name, with their uids.
    pub fn pods_running(&self, pods: &BTreeMap<String, String>) {
        self.change(|registry| registry.pods_running(pods));
    }

    fn change(&self, with: impl FnOnce(&mut Registry)) {
        self.registry.send_if_modified(|registry| {
            let before = registry.clone();
            with(registry);
            *registry != before
        });
    }

    fn enter(&self, name: &str) -> Session {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
        let id = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        self.change(|registry| registry.connect(name, id));
        Session {
            unit: self.clone(),
            name: name.to_owned(),
            id,
        }
    }
}

/// One connection of a router; dropped, the router counts as away.
struct Session {
    unit: UnitRouters,
    name: String,
    id: u64,
}

impl Session {
    fn report(&self, report: RouterReport) {
        self.unit.change(|registry| {
            registry.report(&self.name, self.id, report);
        });
    }

    fn goodbye(&self) {
        self.unit.change(|registry| registry.goodbye(&self.name, self.id));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.unit.change(|registry| registry.lost(&self.name, self.id));
    }
}
