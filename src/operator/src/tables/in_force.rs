//! What is in force of Keyspaces and DataStores: what is declared, where that can be followed. Where it cannot, what the
//! units hold in their assignments stays, because rows were placed and fenced by it. Pure.

use crate::status::is_given_up;
use kube::ResourceExt;
use multiactive_api::convert::{self, ConvertError};
use multiactive_api::{
    AssignedKeyspace, AssignedStore, DataStore, DataStoreSpec, Keyspace, KeyspaceSpec, StoreMember, StoreTls, Topology,
    UnitAssignment,
};
use multiactive_core::ids::{KeyspaceName, UnitName};
use multiactive_core::slots::SlotSet;
use multiactive_core::table::{KeyspaceTable, RoutingTable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// What agents report and hold, by unit.
pub type Reports = BTreeMap<UnitName, Arc<UnitAssignment>>;

/// What a Keyspace sends where, if agents and routers can use it at all.
pub type Checked = Result<String, ConvertError>;

/// Checks of Keyspaces, each made once a spec: compiling patterns in every pass would cost the pause of promotions.
/// By namespace and name.
#[derive(Debug, Default)]
pub struct Checks(Mutex<BTreeMap<(String, String), (KeyspaceSpec, Checked)>>);

impl Checks {
    /// The checks of the Keyspaces of a namespace, by name. Those of others that are gone are forgotten.
    pub fn of(&self, namespace: &str, keyspaces: &[Arc<Keyspace>]) -> BTreeMap<String, Checked> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |name: &str| keyspaces.iter().any(|keyspace| keyspace.name_any() == name);
        known.retain(|(other, name), _| other != namespace || here(name));
        let checked = keyspaces.iter().map(|keyspace| {
            let name = keyspace.name_any();
            let key = (namespace.to_owned(), name.clone());
            let (spec, checked) = known
                .entry(key)
                .or_insert_with(|| (keyspace.spec.clone(), check(&keyspace.spec)));
            if *spec != keyspace.spec {
                (*spec, *checked) = (keyspace.spec.clone(), check(&keyspace.spec));
            }
            (name, checked.clone())
        });
        checked.collect()
    }
}

/// By the same code with which routers and agents will read it.
fn check(spec: &KeyspaceSpec) -> Checked {
    let keyspace = multiactive_core::keyspace::Keyspace::try_from(spec)?;
    convert::extractor(spec)?;
    Ok(keyspace.definition())
}

/// The keyspace as a unit holds it, else as any other does, as long as slots were given out by it.
pub fn held_keyspace<'a>(known: &KeyspaceTable, unit: &str, reports: &'a Reports) -> Option<&'a AssignedKeyspace> {
    let fits = |held: &&AssignedKeyspace| {
        let keyspace = multiactive_core::keyspace::Keyspace::try_from(&held.spec);
        let definition = keyspace.map(|keyspace| keyspace.definition()).ok();
        let same = known.definition.is_none() || known.definition == definition;
        held.name == known.name.as_str() && i64::from(held.spec.slots) == i64::from(known.slots) && same
    };
    let own = reports.get(&UnitName(unit.to_owned())).into_iter();
    let all = own.chain(reports.values());
    all.flat_map(|report| &report.spec.keyspaces).find(fits)
}

/// A member that its DataStore names no more, and that slots depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The DataStore.
    pub store: String,
    /// The unit.
    pub unit: UnitName,
    /// What it owns; empty where an operation is about to give it slots.
    pub slots: SlotSet,
}

/// The DataStores that are in force, and where they are not as declared.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    /// Each as it is in force. One without a uid is not there any more, or cannot be read, and is as the units hold it.
    pub all: Vec<Arc<DataStore>>,
    /// Those that a person gave up.
    pub given_up: Vec<Arc<DataStore>>,
    /// Members that are kept.
    pub kept: Vec<Kept>,
    /// Stores that were created again as another: what differs, by name.
    pub altered: BTreeMap<String, String>,
}

/// The stores in force. One that a person gave up is not, but for operations that move its slots right now; one that is
/// only gone is, while slots depend on it.
pub fn stores(
    declared: &[Arc<DataStore>],
    unreadable: &BTreeSet<String>,
    reports: &Reports,
    table: Option<&RoutingTable>,
) -> Stores {
    let mut stores = Stores::default();
    let Some(table) = table else {
        stores.all = declared.to_vec();
        return stores;
    };
    let moving = |store: &DataStore| {
        let keyspace = store.keyspace_name();
        !table.moved_between(&keyspace).is_empty()
    };
    let (given_up, followed): (Vec<_>, Vec<_>) = declared
        .iter()
        .cloned()
        .partition(|store| is_given_up(&**store) && !moving(store));
    stores.given_up = given_up;
    let known = |name: &str| declared.iter().any(|store| store.name_any() == name);
    // Nobody owns what several units write: it is in force as long as there is an object, be it one that cannot be read.
    let stays =
        |store: &AssignedStore| is_owned(store, table) || (store.is_shared() && unreadable.contains(&store.name));
    let lost = held(reports).filter(|(_, store)| !known(&store.name) && stays(store));
    let lost: BTreeMap<_, _> = lost.map(|(_, store)| (&store.name, store)).collect();
    let lost = lost.into_values().map(|held| restored(held, reports));
    for store in followed.into_iter().chain(lost) {
        let (store, altered) = as_in_force(store, reports, table);
        if let Some(what) = altered {
            stores.altered.insert(store.name_any(), what);
        }
        let (store, kept) = with_needed_members(store, reports, table);
        stores.kept.extend(kept);
        stores.all.push(store);
    }
    stores
}

/// Whether a unit still holds the store.
pub fn is_held(name: &str, reports: &Reports) -> bool {
    held_as(name, reports).next().is_some()
}

/// Every store that a unit holds.
fn held(reports: &Reports) -> impl Iterator<Item = (&UnitName, &AssignedStore)> {
    reports
        .iter()
        .flat_map(|(unit, report)| report.spec.stores.iter().map(move |store| (unit, store)))
}

fn held_as<'a>(name: &'a str, reports: &'a Reports) -> impl Iterator<Item = (&'a UnitName, &'a AssignedStore)> {
    held(reports).filter(move |(_, store)| store.name == name)
}

fn is_owned(store: &AssignedStore, table: &RoutingTable) -> bool {
    !table.owners_of(&KeyspaceName(store.keyspace.clone())).is_empty()
}

/// A store that is not declared, as a unit holds it.
fn restored(held: &AssignedStore, reports: &Reports) -> Arc<DataStore> {
    let mut members: Vec<_> = [&held.local].into_iter().chain(&held.peers).cloned().collect();
    members.sort_by(|a, b| a.unit.cmp(&b.unit));
    let spec = DataStoreSpec {
        topology: match held.single_writer {
            Some(_) => Topology::SingleWriter,
            None => Topology::Sharded,
        },
        keyspace: match (&held.single_writer, &held.conflict) {
            (Some(_), _) => None,
            (None, Some(conflict)) => Some(conflict.keyspace.clone()),
            (None, None) => Some(held.keyspace.clone()),
        },
        single_writer: held.single_writer.clone(),
        conflict: held.conflict.as_ref().map(|conflict| conflict.rule),
        engine: held.engine.clone(),
        tls: tls_held(&held.name, reports),
        tables: held.tables.clone(),
        members,
        verification: None,
    };
    Arc::new(DataStore::new(&held.name, spec))
}

/// How a store is encrypted whose own object does not say it: as any unit holds it, for one that was away may not have heard of it,
/// and nothing goes back into the open by that.
fn tls_held(name: &str, reports: &Reports) -> Option<StoreTls> {
    held_as(name, reports).find_map(|(_, store)| store.tls.clone())
}

/// The store as declared, or, where it was created again as another while slots are owned, with what was in force.
fn as_in_force(store: Arc<DataStore>, reports: &Reports, table: &RoutingTable) -> (Arc<DataStore>, Option<String>) {
    let name = store.name_any();
    let Some((_, first)) = held_as(&name, reports).next() else {
        return (store, None);
    };
    let Some(what) = difference(&store, first).filter(|_| is_owned(first, table)) else {
        return (store, None);
    };
    let mut kept = DataStore::clone(&store);
    let was = restored(first, reports);
    kept.spec.topology = was.spec.topology;
    kept.spec.keyspace = was.spec.keyspace.clone();
    kept.spec.single_writer = was.spec.single_writer.clone();
    kept.spec.conflict = was.spec.conflict;
    kept.spec.engine = first.engine.clone();
    kept.spec.tls = kept.spec.tls.or(was.spec.tls.clone());
    kept.spec.tables = first.tables.clone();
    (Arc::new(kept), Some(what))
}

/// What of a declared store contradicts what is in force, which no edit of one object can do.
fn difference(store: &DataStore, held: &AssignedStore) -> Option<String> {
    let spec = &store.spec;
    if store.keyspace_name().as_str() != held.keyspace {
        let kind = |single: bool, keyspace: &str| match single {
            true => "topology SingleWriter".to_owned(),
            false => format!("keyspace {keyspace}"),
        };
        let is = kind(spec.single_writer.is_some(), store.keyspace_name().as_str());
        let was = kind(held.single_writer.is_some(), &held.keyspace);
        return Some(format!("spec has {is}, not {was}"));
    }
    if spec.engine != held.engine {
        return Some("spec.engine is another".to_owned());
    }
    let lost = held.tables.iter().find(|table| !spec.tables.contains(table))?;
    let key = lost.shard_key.iter().map(|key| format!(" with shardKey {key}"));
    Some(format!(
        "spec.tables has no table {}{}",
        lost.name,
        key.collect::<String>()
    ))
}

/// The store with the members that own slots of its keyspace, or are about to, and that it does not name any more.
fn with_needed_members(store: Arc<DataStore>, reports: &Reports, table: &RoutingTable) -> (Arc<DataStore>, Vec<Kept>) {
    let keyspace = store.keyspace_name();
    let mut needed = table.owners_of(&keyspace);
    for unit in table.moved_between(&keyspace) {
        needed.entry(unit).or_default();
    }
    needed.retain(|unit, _| !store.spec.members.iter().any(|member| member.unit == unit.as_str()));
    let name = store.name_any();
    let mut store = store;
    let mut kept = Vec::new();
    for (unit, slots) in needed {
        if let Some(member) = held_member(&name, unit, reports) {
            Arc::make_mut(&mut store).spec.members.push(member.clone());
            kept.push(Kept {
                store: name.clone(),
                unit: unit.clone(),
                slots,
            });
        }
    }
    (store, kept)
}

/// The member as its own unit holds it, else as another does.
fn held_member<'a>(store: &'a str, unit: &'a UnitName, reports: &'a Reports) -> Option<&'a StoreMember> {
    let own = held_as(store, reports).filter(|(holder, _)| *holder == unit);
    let own = own.map(|(_, held)| &held.local);
    let others = held_as(store, reports).flat_map(|(_, held)| &held.peers);
    own.chain(others.filter(|peer| peer.unit == unit.as_str())).next()
}

#[cfg(test)]
#[path = "in_force_tests.rs"]
mod tests;
