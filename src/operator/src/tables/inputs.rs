//! One look at everything that the decisions about a namespace depend on. Reading it is all that is not pure.

use super::homes::{Compiled, HomesOf};
use super::in_force::{self, Checked, Kept};
use crate::Context;
use crate::datastores::DATA_STORE_FINALIZER;
use crate::keyspaces::KEYSPACE_FINALIZER;
use crate::status::{is_given_up, is_paused};
use kube::ResourceExt;
use multiactive_api::convert;
use multiactive_api::{
    DataStore, Failover, Keyspace, Promotion, ShardRange, Unit, UnitAssignment, UnitAssignmentStatus, UnitRole,
    UnitWorkload, Verification,
};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, OperationUid, StoreName, UnitName};
use multiactive_core::lease::Mode;
use multiactive_core::ownership::{Declared, DeclaredKeyspace, DeclaredUnit, UnitSeen};
use multiactive_core::promotion::{
    FailoverRange, HookSeen, LeaseSeen, MovingStore, Operation, OperationKind, Step, is_divided,
};
use multiactive_core::quarantine;
use multiactive_core::ranges::{self, Homes};
use multiactive_core::table::{KeyspaceTable, RoutingTable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A keyspace of the table, as far as a Keyspace must agree with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number of slots.
    pub slots: u32,
    /// By what its slots were given out, where that was noted.
    pub definition: Option<String>,
}

impl Published {
    fn of(known: &KeyspaceTable) -> (String, Self) {
        let published = Self {
            slots: known.slots,
            definition: known.definition.clone(),
        };
        (known.name.to_string(), published)
    }
}

/// Everything that is declared and reported in one namespace.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The namespace.
    pub namespace: String,
    /// Units, by name.
    pub units: Vec<Arc<Unit>>,
    /// Keyspaces.
    pub keyspaces: Vec<Arc<Keyspace>>,
    /// ShardRanges.
    pub ranges: Vec<Arc<ShardRange>>,
    /// What they come to for each Keyspace, where that was compiled.
    pub homes: HomesOf,
    /// What each Keyspace sends where, or why it cannot be used, by name.
    pub checked: BTreeMap<String, Checked>,
    /// The keyspaces of the table, by name: what is published follows them.
    pub published: BTreeMap<String, Published>,
    /// DataStores, as they are in force. One without a uid is not there any more, and is as the units hold it.
    pub stores: Vec<Arc<DataStore>>,
    /// DataStores that are being deleted and that a person gave up: they are not in force.
    pub given_up_stores: Vec<Arc<DataStore>>,
    /// Members that their DataStore names no more, and that slots depend on.
    pub kept: Vec<Kept>,
    /// DataStores that were created again as another: what differs, by name.
    pub altered: BTreeMap<String, String>,
    /// Promotions.
    pub promotions: Vec<Arc<Promotion>>,
    /// Failovers.
    pub failovers: Vec<Arc<Failover>>,
    /// Verifications.
    pub verifications: Vec<Arc<Verification>>,
    /// UnitWorkloads, for their status.
    pub workloads: Vec<Arc<UnitWorkload>>,
    /// Names of Promotions that exist and cannot be parsed: they are there, whatever they say.
    pub unreadable_promotions: BTreeSet<String>,
    /// Names of Failovers that exist and cannot be parsed.
    pub unreadable_failovers: BTreeSet<String>,
    /// What agents report, by unit.
    pub reports: BTreeMap<UnitName, Arc<UnitAssignment>>,
    /// Units whose member answers now.
    pub reachable: BTreeSet<UnitName>,
    /// Units whose member is known not to answer: it has not for several probes in a row.
    pub away: BTreeSet<UnitName>,
    /// Names of DataStores that exist and cannot be parsed.
    pub unreadable_stores: BTreeSet<String>,
    /// Operations whose object is gone, by the uid of that object: the server said so, not a copy.
    pub gone: BTreeSet<OperationUid>,
    /// Databases that have not answered their agent for some time, by unit and store.
    pub silent_stores: BTreeSet<(UnitName, StoreName)>,
    /// Units that are lost or in quarantine, by the table.
    pub lost: BTreeSet<UnitName>,
    /// The write leases of lost units, as the ledger said it last, and what this process has seen of their renewals.
    pub leases: BTreeMap<UnitName, LeaseSeen>,
    /// The units of which all that is known says that they stop writing without their lease, and has said so for long enough,
    /// with their stores.
    pub fencing: BTreeMap<UnitName, BTreeSet<StoreName>>,
    /// What is known of the fencing hook that an operation may ask.
    pub hooks: BTreeMap<OperationUid, HookSeen>,
    /// Why leases are not as the table wants them, where bringing them there did not succeed.
    pub lease_troubles: BTreeMap<UnitName, String>,
    /// The units that were behind at the commit of operations that the table remembers, or that have not settled yet, with uid and
    /// name of each of these.
    pub were_behind: BTreeMap<UnitName, Vec<(OperationUid, String)>>,
    /// The failovers that do not move all that their lost unit has.
    pub divided: BTreeSet<OperationUid>,
    /// Whether this process has begun a moment ago: what it does not know yet may be known in the next.
    pub settling: bool,
}

impl Inputs {
    /// What the copies show now, and what of it is in force by the record; reports and reachability come from the sites.
    pub fn look(
        ctx: &Context,
        namespace: &str,
        reports: BTreeMap<UnitName, Arc<UnitAssignment>>,
        (reachable, away): (BTreeSet<UnitName>, BTreeSet<UnitName>),
        table: Option<&RoutingTable>,
    ) -> Self {
        let hub = &ctx.hub;
        let keyspaces = hub.keyspaces.of(namespace);
        let unreadable_stores = hub.stores.invalid(namespace).into_iter().map(|(name, _)| name);
        let unreadable_stores: BTreeSet<String> = unreadable_stores.collect();
        let in_force = in_force::stores(&hub.stores.of(namespace), &unreadable_stores, &reports, table);
        let published = table.into_iter().flat_map(|table| &table.keyspaces);
        Self {
            namespace: namespace.to_owned(),
            units: hub.units.of(namespace),
            checked: ctx.checks.of(namespace, &keyspaces),
            published: published.map(Published::of).collect(),
            keyspaces,
            ranges: hub.ranges.of(namespace),
            homes: HomesOf::default(),
            given_up_stores: in_force.given_up,
            stores: in_force.all,
            kept: in_force.kept,
            altered: in_force.altered,
            promotions: hub.promotions.of(namespace),
            failovers: hub.failovers.of(namespace),
            verifications: hub.verifications.of(namespace),
            workloads: hub.workloads.of(namespace),
            unreadable_promotions: hub
                .promotions
                .invalid(namespace)
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
            unreadable_failovers: hub
                .failovers
                .invalid(namespace)
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
            reports,
            reachable,
            away,
            unreadable_stores,
            gone: BTreeSet::new(),
            silent_stores: BTreeSet::new(),
            lost: table
                .map(|table| quarantine::lost(table).into_iter().collect())
                .unwrap_or_default(),
            leases: BTreeMap::new(),
            fencing: BTreeMap::new(),
            hooks: BTreeMap::new(),
            lease_troubles: BTreeMap::new(),
            were_behind: table.map(were_behind).unwrap_or_default(),
            divided: table.map(divided).unwrap_or_default(),
            settling: false,
        }
    }

    /// The stores in force, as an operation notes them. Those that several units write have no part in any.
    pub fn stores_in_force(&self) -> Vec<MovingStore> {
        let owned = self.stores.iter().filter(|store| store.spec.conflict.is_none());
        owned.map(|store| MovingStore::from(&**store)).collect()
    }

    /// What a unit's agent says keeps its stores from their table; `None` also where it says nothing.
    pub fn store_problem(&self, unit: &UnitName) -> Option<String> {
        let assignment = self.reports.get(unit)?;
        let mut stores = assignment.status.as_ref()?.stores.iter();
        let is_shared = |name: &str| {
            let mut stores = assignment.spec.stores.iter();
            stores.any(|store| store.name == name && store.is_shared())
        };
        let store = stores.find(|store| !store.ready && !is_shared(&store.name))?;
        let why = store.message.as_deref().or(store.reason.as_deref())?;
        Some(format!("store {}: {why}", store.name))
    }

    /// Whether a unit's member answers; `None` while neither is known.
    pub fn answers(&self, unit: &UnitName) -> Option<bool> {
        match (self.reachable.contains(unit), self.away.contains(unit)) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }

    /// Whether the copies show the object of an operation, be it one that cannot be parsed.
    pub fn shows_object(&self, op: &Operation) -> bool {
        let object = op.object();
        let (shown, unreadable) = match op.kind {
            OperationKind::Promotion => {
                let mut uids = self.promotions.iter().map(|object| object.uid());
                let shown = uids.any(|uid| uid.as_deref() == Some(object.as_str()));
                (shown, &self.unreadable_promotions)
            }
            OperationKind::Failover => {
                let mut uids = self.failovers.iter().map(|object| object.uid());
                let shown = uids.any(|uid| uid.as_deref() == Some(object.as_str()));
                (shown, &self.unreadable_failovers)
            }
        };
        shown || unreadable.contains(&op.name)
    }

    /// The unit of this name.
    pub fn unit(&self, name: &UnitName) -> Option<&Unit> {
        let found = self
            .units
            .iter()
            .find(|unit| unit.metadata.name.as_deref() == Some(name.as_str()));
        found.map(|unit| &**unit)
    }

    /// The homes of a keyspace's slots, or everything that is wrong with its ranges.
    pub fn homes(&self, keyspace: &Keyspace) -> Arc<Compiled> {
        let name = keyspace.name_any();
        if let Some(known) = self.homes.get(&name) {
            return Arc::clone(known);
        }
        let one = [Arc::new(keyspace.clone())];
        let compiled = HomesOf::default().next(&one, &self.ranges, &self.units);
        compiled
            .get(&name)
            .map_or_else(|| Arc::new(Err(Vec::new())), Arc::clone)
    }

    /// What is declared, in the core's terms.
    pub fn declared(&self) -> Declared {
        let units = self.units.iter().map(|unit| DeclaredUnit {
            name: unit.name_any().into(),
            router: unit.spec.router.clone(),
            fences: super::mode(unit) == Mode::Fence,
        });
        Declared {
            units: units.collect(),
            keyspaces: self
                .keyspaces
                .iter()
                .filter_map(|k| self.declared_keyspace(k))
                .chain(self.declared_writers())
                .collect(),
        }
    }

    /// A Keyspace in the core's terms; `None` where it cannot be used and never was: it is not published. One that is
    /// paused, cannot be used, is being deleted, or is not held by its finalizer yet gives no slot an owner.
    fn declared_keyspace(&self, keyspace: &Keyspace) -> Option<DeclaredKeyspace> {
        let name = keyspace.name_any();
        let (slots, definition, usable) = match (self.checked.get(&name), self.published.get(&name)) {
            (Some(Ok(definition)), _) => {
                let slots = u32::try_from(keyspace.spec.slots).unwrap_or(0);
                (slots, definition.clone(), true)
            }
            (Some(Err(_)) | None, Some(known)) => (known.slots, known.definition.clone()?, false),
            (Some(Err(_)) | None, None) => return None,
        };
        let held = keyspace.finalizers().iter().any(|f| f == KEYSPACE_FINALIZER);
        let stays = held && keyspace.metadata.deletion_timestamp.is_none();
        let serves = usable && stays && !is_paused(keyspace);
        Some(DeclaredKeyspace {
            name: KeyspaceName(name),
            slots,
            definition,
            homes: serves.then(|| self.homes(keyspace).as_ref().clone().ok()).flatten(),
            given_up: self.is_given_up(keyspace),
            members: self.members_of(&keyspace.name_any().into()),
        })
    }

    /// The stores with a single writer, each as a keyspace of one slot. One that is paused, being deleted, gone, or not held
    /// by its finalizer yet gets no writer.
    fn declared_writers(&self) -> impl Iterator<Item = DeclaredKeyspace> {
        let given_up = self.given_up_stores.iter().map(|store| (store, true));
        let all = self.stores.iter().map(|store| (store, false)).chain(given_up);
        let writers = all.filter_map(|(store, given_up)| Some((store, store.spec.single_writer.as_ref()?, given_up)));
        writers.map(|(store, writer, given_up)| {
            let keyspace = multiactive_core::keyspace::Keyspace::single_writer();
            let held = store.finalizers().iter().any(|f| f == DATA_STORE_FINALIZER);
            let stays = held && store.metadata.deletion_timestamp.is_none();
            let serves = stays && !given_up && !is_paused(&**store);
            DeclaredKeyspace {
                name: store.keyspace_name(),
                slots: keyspace.slots(),
                definition: keyspace.definition(),
                homes: serves.then(|| self.home_of_writer(store, &writer.home_unit)).flatten(),
                given_up,
                members: self.members_of(&store.keyspace_name()),
            }
        })
    }

    /// `None` where there is no such unit.
    fn home_of_writer(&self, store: &DataStore, home: &str) -> Option<Homes> {
        let units: BTreeSet<UnitName> = self.units.iter().map(|unit| unit.name_any().into()).collect();
        let range = ranges::ShardRange {
            name: store.keyspace_name().to_string(),
            first: 0,
            last: 0,
            home: home.into(),
        };
        ranges::homes(1, &[range], &units).ok()
    }

    /// Everything of which it is declared who may own it: ShardRanges, and the writers of stores that have a single one.
    /// Those of the names that are wanted.
    pub fn failover_ranges(&self, wanted: impl Fn(&str) -> bool) -> Vec<FailoverRange> {
        // By name first: there may be thousands.
        let named = |range: &&Arc<ShardRange>| range.metadata.name.as_deref().is_some_and(&wanted);
        let ranges = self.ranges.iter().filter(named);
        let ranges = ranges.filter_map(|range| convert::failover_range(range));
        let writers = self.stores.iter().filter_map(|store| convert::writer_range(store));
        ranges.chain(writers.filter(|writer| wanted(&writer.name))).collect()
    }

    /// Whether a person gave the Keyspace up, and no DataStore depends on it.
    pub fn is_given_up(&self, keyspace: &Keyspace) -> bool {
        let mut stores = self.stores.iter();
        is_given_up(keyspace) && !stores.any(|store| store.spec.keyspace.as_ref() == Some(&keyspace.name_any()))
    }

    /// Whether what is declared is what slots were given out by, so that it may be published.
    pub fn may_publish(&self, keyspace: &Keyspace, known: &KeyspaceTable) -> bool {
        let checked = self.checked.get(&keyspace.name_any());
        let definition = checked.and_then(|checked| checked.as_ref().ok());
        let same = |definition: &String| known.definition.as_ref().is_none_or(|noted| noted == definition);
        definition.is_some_and(same) && i64::from(keyspace.spec.slots) == i64::from(known.slots)
    }

    /// What is seen of each unit, as far as ownership outside of promotions asks.
    pub fn units_seen(&self) -> BTreeMap<UnitName, UnitSeen> {
        let seen = self.units.iter().map(|unit| {
            let name = UnitName(unit.name_any());
            let known = UnitSeen {
                applied: self.applied(&name),
                may_open: self.may_open(unit),
                stands: self.stands(&name),
                fences: self.fencing.get(&name).cloned(),
            };
            (name, known)
        });
        seen.collect()
    }

    /// The units with a member of a store of the keyspace, each once.
    pub fn members_of(&self, keyspace: &KeyspaceName) -> Vec<UnitName> {
        let stores = self.stores.iter().filter(|store| store.keyspace_name() == *keyspace);
        let members = stores.flat_map(|store| &store.spec.members);
        let units: BTreeSet<UnitName> = members.map(|member| member.unit.as_str().into()).collect();
        units.into_iter().collect()
    }

    /// The table at which a unit's stores stand, for each keyspace of which it has every store in hand that is in force:
    /// what an agent says before it knows of a store says nothing of that. An old report is still true.
    fn stands(&self, unit: &UnitName) -> BTreeMap<KeyspaceName, Epoch> {
        let report = self.reports.get(unit);
        let status = report.and_then(|report| Some((report, report.status.as_ref()?)));
        let status = status.filter(|(report, status)| status.observed_generation == report.metadata.generation);
        let Some(((report, status), stands)) = status.and_then(|both| Some((both, applied(both.1)?))) else {
            return BTreeMap::new();
        };
        let in_hand = |name: &str| {
            let assigned = report.spec.stores.iter().any(|store| store.name == name);
            assigned && status.stores.iter().any(|store| store.name == name && store.ready)
        };
        let mut all: BTreeMap<KeyspaceName, bool> = BTreeMap::new();
        for store in &self.stores {
            if store.spec.members.iter().any(|member| member.unit == unit.as_str()) {
                let whole = all.entry(store.keyspace_name()).or_insert(true);
                *whole &= in_hand(&store.name_any());
            }
        }
        let known = all.into_iter().filter(|(_, whole)| *whole);
        known.map(|(keyspace, _)| (keyspace, stands)).collect()
    }

    /// The table to which a unit's agent says it brought its stores. It only grows, so an old report is still true.
    pub fn applied(&self, unit: &UnitName) -> Option<Epoch> {
        applied(self.reports.get(unit)?.status.as_ref()?)
    }

    /// Whether a unit may become a first owner; `None` where that is not known.
    fn may_open(&self, unit: &Unit) -> Option<bool> {
        if unit.metadata.deletion_timestamp.is_some() || unit.spec.role == UnitRole::Standby {
            return Some(false);
        }
        self.stores_ready(&unit.name_any().into()).map(|ready| ready.is_ok())
    }

    /// Whether the agent has every store of the unit in hand that has a part in operations, else the first problem; `None` where the agent has not
    /// said so about the present assignment, or its cluster does not answer.
    pub fn stores_ready(&self, unit: &UnitName) -> Option<Result<(), String>> {
        if !self.reachable.contains(unit) {
            return None;
        }
        let assignment = self.reports.get(unit)?;
        let status = assignment.status.as_ref()?;
        if status.observed_generation != assignment.metadata.generation {
            return None;
        }
        for store in assignment.spec.stores.iter().filter(|store| !store.is_shared()) {
            let known = status.stores.iter().find(|known| known.name == store.name)?;
            if !known.ready {
                let why = known
                    .message
                    .as_deref()
                    .or(known.reason.as_deref())
                    .unwrap_or("not ready");
                return Some(Err(format!("store {}: {why}", store.name)));
            }
        }
        Some(Ok(()))
    }
}

/// The failovers that do not move all that their lost unit has.
fn divided(table: &RoutingTable) -> BTreeSet<OperationUid> {
    let divided = table.operations.iter().filter(|op| is_divided(table, op));
    divided.map(|op| op.uid.clone()).collect()
}

/// The units that were behind at the commit of operations that the table remembers, or that have not settled yet, with uid and name
/// of each of these.
fn were_behind(table: &RoutingTable) -> BTreeMap<UnitName, Vec<(OperationUid, String)>> {
    let committed = table.operations.iter().filter(|op| op.step >= Step::Commit);
    let running = committed.map(|op| (&op.behind, &op.uid, &op.name));
    let finished = table.finished.iter().map(|done| (&done.behind, &done.uid, &done.name));
    let mut units = BTreeMap::<UnitName, Vec<_>>::new();
    for (behind, uid, name) in finished.chain(running) {
        for unit in behind {
            let of = units.entry(unit.clone()).or_default();
            of.push((uid.clone(), name.clone()));
        }
    }
    units
}

/// The table to which an agent says it brought its stores.
pub(super) fn applied(status: &UnitAssignmentStatus) -> Option<Epoch> {
    let applied = status.applied?;
    Some(Epoch::new(
        u32::try_from(applied.term).ok()?,
        u64::try_from(applied.epoch).ok()?,
    ))
}
