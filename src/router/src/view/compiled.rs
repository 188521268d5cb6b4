//! Assignment and table, compiled into one thing that says of each slot who owns it.

use super::ViewError;
use super::declared::{Declared, DeclaredKeyspace, Route};
use crate::flight::Count;
use crate::headers::value;
use crate::hold::LineOf;
use http::HeaderValue;
use http::uri::{Authority, Uri};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, OperationUid, UnitName};
use multiactive_core::lookup::{Entry, Lookup};
use multiactive_core::promotion::{Operation, Step};
use multiactive_core::quarantine;
use multiactive_core::slots::{Slot, SlotSet};
use multiactive_core::table::{KeyspaceTable, RoutingTable};
use multiactive_runtime::certs::router_name;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::time::Instant;

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
    /// The units that were lost, by the table.
    lost: BTreeSet<UnitName>,
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
    /// Beside each entry of the lookup.
    beside: Vec<Beside>,
}

/// What is kept beside an entry.
#[derive(Debug)]
struct Beside {
    /// Its epoch, as a header's value.
    epoch: HeaderValue,
    /// Since when it is in force here.
    since: Instant,
}

/// What is known of a slot.
#[derive(Clone, Copy, Debug)]
pub struct Found<'v> {
    /// Its owner, state and epoch.
    pub entry: &'v Entry,
    /// The epoch, as a header's value.
    pub epoch: &'v HeaderValue,
    /// Since when this is in force here.
    pub since: Instant,
}

/// An operation that has slots of this unit held or fenced.
#[derive(Debug)]
pub struct HeldOperation {
    /// Its uid.
    pub uid: OperationUid,
    /// Those slots.
    pub slots: Vec<(Arc<DeclaredKeyspace>, SlotSet)>,
    /// Since when this router holds them.
    pub since: Instant,
}

impl HeldOperation {
    /// How many writes of its slots are in flight.
    pub fn count(&self) -> Count {
        let counts = self.slots.iter().map(|(keyspace, slots)| keyspace.flight.count(slots));
        counts.fold(Count::default(), |sum, count| Count {
            admitted: sum.admitted + count.admitted,
            answering: sum.answering + count.answering,
        })
    }
}

impl Compiled {
    /// Compiles a table for a unit, which comes into force `now`; what `before` says too has been in force since then.
    ///
    /// # Errors
    ///
    /// [`ViewError`] where the table does not fit the assignment.
    pub fn new(
        declared: Arc<Declared>,
        table: &RoutingTable,
        before: Option<&Self>,
        now: Instant,
    ) -> Result<Self, ViewError> {
        let lookups = declared.keyspaces.iter().map(|keyspace| {
            let known = before.and_then(|before| before.owners_of(&keyspace.name));
            owners(keyspace, table, known, now)
        });
        let peers = table.units.iter().filter_map(|unit| {
            let url: Uri = unit.router.parse().ok()?;
            let name = router_name(unit.name.as_str(), &declared.namespace).parse().ok()?;
            let address = url.into_parts().authority?;
            Some((unit.name.clone(), Peer { address, name }))
        });
        let held = table
            .operations
            .iter()
            .filter_map(|operation| held_of(&declared, operation, before, now));
        Ok(Self {
            epoch: table.epoch,
            lost: quarantine::lost(table).into_iter().collect(),
            lookups: lookups.collect::<Result<_, _>>()?,
            peers: peers.collect(),
            held: held.collect(),
            declared,
        })
    }

    /// Whether reads of a keyspace that come to this unit may be answered by it, whoever writes. One that was lost answers
    /// nothing by itself before it has rejoined.
    pub fn reads_locally(&self, keyspace: &DeclaredKeyspace) -> bool {
        keyspace.may_read_here() && !self.lost.contains(&self.declared.unit)
    }

    /// Whether a slot was taken from a unit that was lost: nothing that was asked of it is worth waiting for.
    pub fn was_taken_from(&self, unit: &UnitName, (keyspace, slot): &LineOf) -> bool {
        let found = self
            .keyspace_named(keyspace)
            .and_then(|keyspace| self.entry(keyspace, *slot));
        let owner = found.and_then(|found| found.entry.owner.as_ref());
        self.lost.contains(unit) && owner.is_some_and(|owner| owner != unit)
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

    /// What is known of a slot of a keyspace, which is named by its place.
    pub fn entry(&self, keyspace: usize, slot: Slot) -> Option<Found<'_>> {
        let owners = self.lookups.get(keyspace)?;
        owners.found(owners.lookup.place(slot)?)
    }

    /// The distinct entries of a keyspace, which is named by its place.
    pub fn entries(&self, keyspace: usize) -> impl Iterator<Item = Found<'_>> {
        let owners = self.lookups.get(keyspace);
        owners.into_iter().flat_map(|owners| {
            let places = 0..owners.beside.len();
            places.filter_map(|place| owners.found(place))
        })
    }

    fn owners_of(&self, keyspace: &KeyspaceName) -> Option<&Owners> {
        self.lookups.get(self.keyspace_named(keyspace)?)
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

impl Owners {
    fn found(&self, place: usize) -> Option<Found<'_>> {
        let (entry, beside) = (self.lookup.entries().get(place)?, self.beside.get(place)?);
        let (epoch, since) = (&beside.epoch, beside.since);
        Some(Found { entry, epoch, since })
    }
}

fn owners(
    declared: &DeclaredKeyspace,
    table: &RoutingTable,
    before: Option<&Owners>,
    now: Instant,
) -> Result<Owners, ViewError> {
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
    let known: HashMap<&Entry, Instant> = before
        .iter()
        .flat_map(|before| before.lookup.entries().iter().zip(&before.beside))
        .map(|(entry, beside)| (entry, beside.since))
        .collect();
    let beside = lookup.entries().iter().map(|entry| Beside {
        epoch: value(&entry.epoch.to_string()),
        since: known.get(entry).copied().unwrap_or(now),
    });
    Ok(Owners {
        beside: beside.collect(),
        lookup,
    })
}

fn held_of(
    declared: &Declared,
    operation: &Operation,
    before: Option<&Compiled>,
    now: Instant,
) -> Option<HeldOperation> {
    match operation.step {
        Step::Hold | Step::Fence | Step::Cut | Step::Drain => {}
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
    let known = before.and_then(|before| before.held.iter().find(|held| held.uid == operation.uid));
    let since = known.map_or(now, |known| known.since);
    let uid = operation.uid.clone();
    (!slots.is_empty()).then_some(HeldOperation { uid, slots, since })
}
