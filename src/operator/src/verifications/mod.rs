//! Verifications: which one runs, what units are asked for it, and what its status says. Pure.
//!
//! It moves nothing and needs no record: agents compare, the status collects what they report. One runs at a time in a
//! namespace, the oldest first.

mod status;

pub use status::status;

use crate::status::is_paused;
use crate::tables::Inputs;
use kube::ResourceExt;
use multiactive_api::{AssignedVerification, DataStore, PairReport, RepairMode, Verification};
use multiactive_core::ids::UnitName;
use multiactive_core::slots::SlotSet;
use multiactive_core::table::RoutingTable;
use std::sync::Arc;

/// The Verification that runs: the oldest that has not ended and can. One that only waits for who is away lets others pass.
pub fn running<'a>(inputs: &'a Inputs, table: &RoutingTable) -> Option<&'a Verification> {
    let mut pending: Vec<&Verification> = inputs.verifications.iter().map(|object| &**object).collect();
    pending.retain(|object| is_pending(object, inputs));
    pending.sort_by_key(|object| (object.creation_timestamp(), object.name_any()));
    let held_up = |object: &&Verification| {
        let mut left = wanted(object, inputs, table)
            .into_iter()
            .filter(|wanted| told(object, wanted).is_none());
        let mut left = left.by_ref().peekable();
        left.peek().is_some() && left.all(|wanted| away(&wanted, inputs).is_some())
    };
    let first = pending.first().copied();
    pending.into_iter().find(|object| !held_up(object)).or(first)
}

/// Why a unit cannot answer, as far as that is seen from here.
fn away(wanted: &Wanted, inputs: &Inputs) -> Option<String> {
    let (unit, owner) = (&wanted.unit, &wanted.owner);
    if let Some(lost) = [unit, owner].into_iter().find(|unit| inputs.lost.contains(unit)) {
        return Some(format!(
            "{lost} is in quarantine: nothing is compared with it before it has rejoined"
        ));
    }
    let answers = inputs.answers(unit) == Some(false);
    answers.then(|| format!("the member cluster of {unit} does not answer"))
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
    let chosen_by_name = |name: &&String| object.spec.stores.as_ref().is_none_or(|stores| stores.contains(*name));
    if let Some(name) = inputs.unreadable_stores.iter().find(chosen_by_name) {
        return Some(format!("DataStore {name} cannot be read: its rows would be left out"));
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

/// What a unit is asked for the Verification that runs. One that repairs asks one unit after the other: who is being repaired
/// cannot take anything over.
pub fn assigned(unit: &str, inputs: &Inputs, table: &RoutingTable) -> Option<AssignedVerification> {
    let object = running(inputs, table).filter(|object| concerns(object, unit))?;
    let turn = match object.spec.repair {
        RepairMode::None => true,
        RepairMode::FromOwner => turn(object, inputs, table).is_some_and(|turn| turn.as_str() == unit),
    };
    if !turn {
        return None;
    }
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

/// The first unit that has not answered all by what the status says: what only a report says is gone once it is not asked for.
fn turn(object: &Verification, inputs: &Inputs, table: &RoutingTable) -> Option<UnitName> {
    let mut wanted = wanted(object, inputs, table).into_iter();
    wanted
        .find(|wanted| told(object, wanted).is_none())
        .map(|wanted| wanted.unit)
}

/// What the status says of a comparison, where it has ended and the owner has the same slots.
fn told(object: &Verification, wanted: &Wanted) -> Option<PairReport> {
    let mut pairs = object.status.iter().flat_map(|status| &status.pairs);
    let found =
        pairs.find(|pair| pair.store == wanted.store && pair.unit == wanted.unit.as_str() && wanted.is_of(&pair.found));
    found
        .map(|pair| pair.found.clone())
        .filter(|found| found.state.has_ended())
}

/// A comparison that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    store: String,
    unit: UnitName,
    owner: UnitName,
    slots: SlotSet,
}

impl Wanted {
    /// Whether that was found of the same owner's same slots.
    fn is_of(&self, found: &PairReport) -> bool {
        let slots = found.slots.as_ref().map(|slots| slots.parse::<SlotSet>());
        found.owner == self.owner.as_str() && slots.is_none_or(|slots| slots.as_ref() == Ok(&self.slots))
    }
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
