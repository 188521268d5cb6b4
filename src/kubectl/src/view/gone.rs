//! What is in force though its object was deleted: slots go on with their owners, and whoever looks hears that nothing of it can
//! be changed.

use super::object;
use super::problems::Problem;
use crate::fetch::World;
use kube::ResourceExt;
use multiactive_core::table::{KeyspaceTable, RoutingTable};
use std::collections::BTreeSet;

/// The Keyspaces, and the DataStores with a single writer, that a table knows owners of and nobody declares. Where something may
/// not be read, none: what is not seen is not taken for gone.
pub fn gone(world: &World) -> Vec<Problem> {
    if !world.unknown.is_empty() {
        return Vec::new();
    }
    let declared = declared(world);
    let mut found = Vec::new();
    for stored in &world.tables {
        let Ok(table) = RoutingTable::try_from(&stored.spec) else {
            continue;
        };
        let all = table.keyspaces.iter();
        let in_force = all.filter_map(|known| in_force(stored.namespace().as_deref(), &table, known));
        found.extend(in_force.filter(|problem| !declared.contains(&problem.object)));
    }
    found
}

/// What is to be said of it where it was deleted; `None` where nobody owns a slot.
fn in_force(namespace: Option<&str>, table: &RoutingTable, known: &KeyspaceTable) -> Option<Problem> {
    let owners = table.owners_of(&known.name);
    let owners: Vec<_> = owners.keys().map(|unit| unit.as_str()).collect();
    let (object, stays) = match known.name.writer_of() {
        Some(store) => (
            object("DataStore", namespace, store.as_str()),
            "it is written as before, by",
        ),
        None => (
            object("Keyspace", namespace, known.name.as_str()),
            "its slots stay with",
        ),
    };
    (!owners.is_empty()).then(|| Problem {
        object,
        reason: "Deleted".to_owned(),
        message: format!(
            "it was deleted while slots have owners, so {stays} {}; create it again as it was",
            owners.join(", ")
        ),
        because: None,
    })
}

/// What is there, though nobody may be able to read it.
fn declared(world: &World) -> BTreeSet<String> {
    let unreadable = world.unreadable.iter();
    let unreadable = unreadable.map(|lost| object(&lost.kind, lost.namespace.as_deref(), &lost.name));
    let keyspaces = world.keyspaces.iter();
    let keyspaces = keyspaces.map(|known| object("Keyspace", known.namespace().as_deref(), &known.name_any()));
    let stores = world.stores.iter();
    let stores = stores.map(|known| object("DataStore", known.namespace().as_deref(), &known.name_any()));
    unreadable.chain(keyspaces).chain(stores).collect()
}
