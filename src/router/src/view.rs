//! The table in memory: what the assignment declares and what the RoutingTable says, compiled and swapped whole.

use crate::flight::{Flight, Watch};
use crate::headers::value;
use http::HeaderValue;
use http::uri::{Authority, Uri};
use multiactive_api::convert::extractor;
use multiactive_api::{Backend, OnMissing, UnitAssignmentSpec};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, OperationUid, UnitName};
use multiactive_core::key::KeyExtractor;
use multiactive_core::keyspace::Keyspace;
use multiactive_core::lookup::{Entry, Lookup};
use multiactive_core::promotion::{Operation, Step};
use multiactive_core::route::AgentSeen;
use multiactive_core::slots::{Slot, SlotSet};
use multiactive_core::table::{KeyspaceTable, RoutingTable};
use multiactive_runtime::certs::router_name;
use std::collections::HashMap;
use std::sync::Arc;

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

/// What the UnitAssignment declares.
#[derive(Debug)]
pub struct Declared {
    /// The unit.
    pub unit: UnitName,
    /// The namespace.
    pub namespace: String,
    /// Its cluster, whose agent it talks to.
    pub cluster: String,
    unit_header: HeaderValue,
    routes: Vec<Route>,
    keyspaces: Vec<Arc<DeclaredKeyspace>>,
}

/// A route, compiled.
#[derive(Debug)]
pub struct Route {
    /// The beginning of the path, whole segments, without a slash at the end.
    pub prefix: String,
    /// The backend's name.
    pub backend: String,
    /// Where the backend is; `None` where the unit has no usable one of this name.
    pub address: Option<Authority>,
    keyspace: usize,
}

/// A keyspace, compiled.
#[derive(Debug)]
pub struct DeclaredKeyspace {
    /// Its name.
    pub name: KeyspaceName,
    /// From key to slot.
    pub keyspace: Keyspace,
    /// Where the key is.
    pub extractor: KeyExtractor,
    /// What to do without one.
    pub on_missing: OnMissing,
    /// Its writes in flight.
    pub flight: Arc<Flight>,
}

impl Declared {
    /// Compiles an assignment. Counters of writes in flight go over from `before`.
    ///
    /// # Errors
    ///
    /// [`ViewError`] for the first keyspace that cannot be compiled.
    pub fn new(
        spec: &UnitAssignmentSpec,
        unit: &UnitName,
        namespace: &str,
        before: Option<&Self>,
        watch: &Arc<Watch>,
    ) -> Result<Self, ViewError> {
        if spec.unit != unit.as_str() {
            return Err(ViewError::OtherUnit(spec.unit.clone()));
        }
        let (mut routes, mut keyspaces) = (Vec::new(), Vec::new());
        for (index, assigned) in spec.keyspaces.iter().enumerate() {
            let bad = |error: &dyn std::fmt::Display| ViewError::Keyspace {
                keyspace: assigned.name.clone(),
                message: error.to_string(),
            };
            let keyspace = Keyspace::try_from(&assigned.spec).map_err(|e| bad(&e))?;
            let name = KeyspaceName::from(assigned.name.as_str());
            let flight = before
                .and_then(|before| before.keyspaces.iter().find(|k| k.name == name))
                .filter(|k| k.flight.slots() == keyspace.slots())
                .map_or_else(|| Flight::new(keyspace.slots(), watch.clone()), |k| k.flight.clone());
            keyspaces.push(Arc::new(DeclaredKeyspace {
                name,
                extractor: extractor(&assigned.spec).map_err(|e| bad(&e))?,
                on_missing: assigned.spec.key.on_missing,
                keyspace,
                flight,
            }));
            routes.extend(assigned.spec.routes.iter().map(|route| Route {
                prefix: route.path_prefix.trim_end_matches('/').to_owned(),
                backend: route.backend.clone(),
                address: spec.backends.iter().find(|b| b.name == route.backend).and_then(address),
                keyspace: index,
            }));
        }
        // The first that matches is then the longest.
        routes.sort_by(|a, b| {
            b.prefix
                .len()
                .cmp(&a.prefix.len())
                .then_with(|| a.prefix.cmp(&b.prefix))
        });
        Ok(Self {
            unit: unit.clone(),
            namespace: namespace.to_owned(),
            cluster: spec.cluster.clone(),
            unit_header: value(unit.as_str()),
            routes,
            keyspaces,
        })
    }

    /// The unit, as a header's value.
    pub fn unit_header(&self) -> &HeaderValue {
        &self.unit_header
    }
}

fn address(backend: &Backend) -> Option<Authority> {
    let authority = backend.url.parse::<Uri>().ok().and_then(|url| {
        (url.scheme_str() == Some("http")).then_some(())?;
        url.into_parts().authority
    });
    if authority.is_none() {
        tracing::error!(
            backend = backend.name,
            url = backend.url,
            "not an http URL with host and port"
        );
    }
    authority
}

/// Assignment and table together.
#[derive(Debug)]
pub struct Compiled {
    /// The epoch of the table.
    pub epoch: Epoch,
    /// What the assignment declares.
    pub declared: Arc<Declared>,
    lookups: Vec<Owners>,
    peers: HashMap<UnitName, Peer>,
    held: Vec<HeldOperation>,
}

/// Another unit's routers.
#[derive(Debug)]
pub struct Peer {
    /// Where they are.
    pub address: Authority,
    /// The name in their certificate, which is also the host of the requests that they get.
    pub name: Authority,
}

/// The owners of one keyspace's slots.
#[derive(Debug)]
struct Owners {
    lookup: Lookup,
    /// The epochs of the lookup's entries, as headers' values.
    epochs: Vec<HeaderValue>,
}

/// An operation that has slots of this unit held or fenced.
#[derive(Debug)]
pub struct HeldOperation {
    /// Its uid.
    pub uid: OperationUid,
    /// Those slots.
    pub slots: Vec<(Arc<DeclaredKeyspace>, SlotSet)>,
}

impl Compiled {
    /// Compiles a table for a unit.
    ///
    /// # Errors
    ///
    /// [`ViewError`] where the table does not fit the assignment.
    pub fn new(declared: Arc<Declared>, table: &RoutingTable) -> Result<Self, ViewError> {
        let lookups = declared.keyspaces.iter().map(|declared| owners(declared, table));
        let peers = table.units.iter().filter_map(|unit| {
            let url: Uri = unit.router.parse().ok()?;
            let name = router_name(unit.name.as_str(), &declared.namespace).parse().ok()?;
            let address = url.into_parts().authority?;
            Some((unit.name.clone(), Peer { address, name }))
        });
        let held = table
            .operations
            .iter()
            .filter_map(|operation| held_of(&declared, operation));
        Ok(Self {
            epoch: table.epoch,
            lookups: lookups.collect::<Result<_, _>>()?,
            peers: peers.collect(),
            held: held.collect(),
            declared,
        })
    }

    /// The route of a path: the longest prefix of whole segments.
    pub fn route(&self, path: &str) -> Option<&Route> {
        self.declared.routes.iter().find(|route| {
            let rest = path.strip_prefix(route.prefix.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// The keyspace of a route.
    pub fn keyspace(&self, route: &Route) -> &Arc<DeclaredKeyspace> {
        &self.declared.keyspaces[route.keyspace]
    }

    /// The keyspace of this name, where it is declared.
    pub fn keyspace_named(&self, name: &KeyspaceName) -> Option<usize> {
        self.declared
            .keyspaces
            .iter()
            .position(|keyspace| keyspace.name == *name)
    }

    /// The entry of a slot of a keyspace by its place, and its epoch as a header's value.
    pub fn entry_at(&self, keyspace: usize, slot: Slot) -> Option<(&Entry, &HeaderValue)> {
        let owners = self.lookups.get(keyspace)?;
        let place = owners.lookup.place(slot)?;
        Some((owners.lookup.entries().get(place)?, owners.epochs.get(place)?))
    }

    /// The entry of a slot of a route's keyspace.
    pub fn entry(&self, route: &Route, slot: Slot) -> Option<(&Entry, &HeaderValue)> {
        self.entry_at(route.keyspace, slot)
    }

    /// Where another unit's routers are.
    pub fn peer(&self, unit: &UnitName) -> Option<&Peer> {
        self.peers.get(unit)
    }

    /// The operations that have slots of this unit held or fenced.
    pub fn held(&self) -> &[HeldOperation] {
        &self.held
    }
}

fn owners(declared: &DeclaredKeyspace, table: &RoutingTable) -> Result<Owners, ViewError> {
    let slots = declared.keyspace.slots();
    let lookup = match table.keyspace(&declared.name) {
        Some(found) if found.slots != slots => {
            return Err(ViewError::Slots {
                keyspace: declared.name.clone(),
                declared: slots,
                table: found.slots,
            });
        }
        Some(found) => Lookup::new(found),
        None => Lookup::new(&KeyspaceTable::unowned(declared.name.clone(), slots)),
    };
    let epochs = lookup.entries().iter().map(|entry| value(&entry.epoch.to_string()));
    Ok(Owners {
        epochs: epochs.collect(),
        lookup,
    })
}

fn held_of(declared: &Declared, operation: &Operation) -> Option<HeldOperation> {
    match operation.step {
        Step::Hold | Step::Fence | Step::Drain => {}
        Step::Check | Step::Prepare | Step::Verify | Step::Commit | Step::Open | Step::Settle => return None,
    }
    let ours = operation
        .moves
        .iter()
        .filter(|slot_move| slot_move.source == declared.unit);
    let slots: Vec<_> = ours
        .filter_map(|slot_move| {
            let keyspace = declared
                .keyspaces
                .iter()
                .find(|keyspace| keyspace.name == slot_move.keyspace)?;
            Some((keyspace.clone(), slot_move.slots.clone()))
        })
        .collect();
    let uid = operation.uid.clone();
    (!slots.is_empty()).then_some(HeldOperation { uid, slots })
}

/// What one decision is made by: swapped whole, so that all of it is of one moment.
#[derive(Debug, Default)]
pub struct View {
    /// Assignment and table; `None` until both are there.
    pub compiled: Option<Arc<Compiled>>,
    /// What the agent said.
    pub agent: AgentSeen,
}
