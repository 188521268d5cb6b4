//! Verifications: which one runs, what units are asked for it, and what its status says. Pure.
//!
//! It moves nothing and needs no record: agents compare, the status collects what they report. One runs at a time in a
//! namespace, the oldest first, so that databases are read once and not by several at once.

mod status;

pub use status::status;

use crate::status::is_paused;
use crate::tables::Inputs;
use kube::ResourceExt;
use multiactive_api::{AssignedVerification, DataStore, Verification};
use multiactive_core::ids::UnitName;
use multiactive_core::slots::SlotSet;
use multiactive_core::table::RoutingTable;
use std::sync::Arc;

/// The Verification that runs: the oldest that has not ended and can.
pub fn running(inputs: &Inputs) -> Option<&Verification> {
    let pending = inputs.verifications.iter().filter(|object| is_pending(object, inputs));
    let age = |object: &&Arc<Verification>| (object.creation_timestamp(), object.name_any());
    pending.min_by_key(age).map(|object| &**object)
}

fn is_pending(object: &Verification, inputs: &Inputs) -> bool {
    let ended = object.status.as_ref().is_some_and(|status| status.outcome.is_some());
    let leaving = object.metadata.deletion_timestamp.is_some();
    !ended && !leaving && !is_paused(object) && unknown(object, inputs).is_none()
}

/// What the spec names and nobody knows, in words.
fn unknown(object: &Verification, inputs: &Inputs) -> Option<String> {
    let is_store = |name: &String| inputs.stores.iter().any(|store| store.name_any() == *name);
    let stores = object.spec.stores.iter().flatten();
    if let Some(name) = stores.into_iter().find(|name| !is_store(name)) {
        return Some(format!(
            "spec.stores names {name}, but there is no DataStore of that name"
        ));
    }
    let chosen = || inputs.stores.iter().filter(|store| selects(object, store));
    let is_member = |unit: &String| chosen().any(|store| store.spec.members.iter().any(|member| member.unit == *unit));
    let units = object.spec.units.iter().flatten();
    units
        .into_iter()
        .find(|unit| !is_member(unit))
        .map(|unit| format!("spec.units names {unit}, which has no database of these DataStores"))
}

fn selects(object: &Verification, store: &DataStore) -> bool {
    let name = store.name_any();
    object.spec.stores.as_ref().is_none_or(|stores| stores.contains(&name))
}

fn concerns(object: &Verification, unit: &str) -> bool {
    object
        .spec
        .units
        .as_ref()
        .is_none_or(|units| units.iter().any(|named| named == unit))
}

/// What a unit is asked for the Verification that runs.
pub fn assigned(unit: &str, inputs: &Inputs) -> Option<AssignedVerification> {
    let object = running(inputs).filter(|object| concerns(object, unit))?;
    let has = |store: &&Arc<DataStore>| store.spec.members.iter().any(|member| member.unit == unit);
    let stores = inputs.stores.iter().filter(has).filter(|store| selects(object, store));
    let mut stores: Vec<_> = stores.map(|store| store.name_any()).collect();
    stores.sort();
    (!stores.is_empty()).then(|| AssignedVerification {
        uid: object.uid().unwrap_or_default(),
        stores,
        repair: object.spec.repair,
    })
}

/// A comparison that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    store: String,
    unit: UnitName,
    owner: UnitName,
    slots: SlotSet,
}

/// All comparisons that are wanted by now, in order: of each store, each unit with each owner of other slots.
fn wanted(object: &Verification, inputs: &Inputs, table: &RoutingTable) -> Vec<Wanted> {
    let mut all = Vec::new();
    for store in inputs.stores.iter().filter(|store| selects(object, store)) {
        let members = || store.spec.members.iter().map(|member| member.unit.as_str());
        let owners = table.owners_of(&store.spec.keyspace.as_str().into());
        for unit in members().filter(|unit| concerns(object, unit)) {
            let others = owners.iter().filter(|(owner, _)| owner.as_str() != unit);
            let held = others.filter(|(owner, _)| members().any(|member| member == owner.as_str()));
            all.extend(held.map(|(owner, slots)| Wanted {
                store: store.name_any(),
                unit: unit.into(),
                owner: (*owner).clone(),
                slots: slots.clone(),
            }));
        }
    }
    all.sort_by(|a, b| (&a.store, &a.unit, &a.owner).cmp(&(&b.store, &b.unit, &b.owner)));
    all
}

#[cfg(test)]
mod tests;
