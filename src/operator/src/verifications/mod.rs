//! Verifications: which one runs, what units are asked for it, and what its status says. Pure.
//!
//! It moves nothing and needs no record: agents compare, the status collects what they report. One runs at a time in a
//! namespace, the oldest first.

mod status;

pub use status::status;

use crate::status::is_paused;
use crate::tables::Inputs;
use kube::ResourceExt;
use multiactive_api::{AssignedVerification, Conflict, DataStore, PairReport, RepairMode, Verification};
use multiactive_core::chunks;
use multiactive_core::ids::{StoreName, UnitName};
use multiactive_core::promotion::MovingStore;
use multiactive_core::slots::SlotSet;
use multiactive_core::table::{KeyspaceTable, RoutingTable};
use multiactive_core::verification::{self, Pair, Standing};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The Verification that runs.
pub fn running<'a>(inputs: &'a Inputs, table: &RoutingTable) -> Option<&'a Verification> {
    let mut pending: Vec<&Verification> = inputs.verifications.iter().map(|object| &**object).collect();
    pending.retain(|object| is_pending(object, inputs));
    pending.sort_by_key(|object| (object.creation_timestamp(), object.name_any()));
    let standing = |object: &&Verification| {
        let pairs = wanted(object, inputs, table).into_iter();
        pairs.map(|pair| standing(object, &pair, inputs)).collect()
    };
    let next = verification::next(&pending.iter().map(standing).collect::<Vec<_>>())?;
    pending.get(next).copied()
}

fn standing(object: &Verification, pair: &Pair, inputs: &Inputs) -> Standing {
    match (told(object, pair), away(pair, inputs)) {
        (Some(_), _) => Standing::Ended,
        (None, Some(_)) => Standing::Away,
        (None, None) => Standing::Awaited,
    }
}

/// Why a unit cannot answer, as far as that is seen from here. Who is away of those that several units write is not asked at all, and
/// whether a Failover took slots from a unit is nothing to its rows of these.
fn away(pair: &Pair, inputs: &Inputs) -> Option<String> {
    if is_shared(&pair.store, inputs) {
        return None;
    }
    let (unit, owner) = (&pair.unit, &pair.owner);
    if let Some(lost) = [unit, owner].into_iter().find(|unit| inputs.lost.contains(unit)) {
        return Some(format!(
            "{lost} is in quarantine: nothing is compared with it before it has rejoined"
        ));
    }
    let answers = inputs.answers(unit) == Some(false);
    answers.then(|| format!("the member cluster of {unit} does not answer"))
}

fn is_shared(store: &StoreName, inputs: &Inputs) -> bool {
    let mut stores = inputs.stores.iter();
    stores.any(|known| known.name_any() == store.as_str() && known.spec.conflict.is_some())
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

/// What a unit is asked for the Verification that runs. Whose turn it is to be repaired is told by the status: what only a report
/// says is gone once it is not asked for.
pub fn assigned(unit: &str, inputs: &Inputs, table: &RoutingTable) -> Option<AssignedVerification> {
    let object = running(inputs, table).filter(|object| concerns(object, unit))?;
    let is_asked = match object.spec.repair {
        RepairMode::None => true,
        RepairMode::FromOwner => {
            let pairs = wanted(object, inputs, table);
            let turn = verification::turn(&pairs, |pair| told(object, pair).is_some());
            turn.is_some_and(|turn| turn.as_str() == unit)
        }
    };
    if !is_asked {
        return None;
    }
    let has = |store: &&Arc<DataStore>| store.spec.members.iter().any(|member| member.unit == unit);
    let stores = inputs.stores.iter().filter(has).filter(|store| selects(object, store));
    let mut stores: Vec<_> = stores.map(|store| store.name_any()).collect();
    stores.sort();
    (!stores.is_empty()).then(|| AssignedVerification {
        uid: object.uid().unwrap_or_default(),
        max_rows_per_second: pace(object, inputs),
        stores,
        repair: object.spec.repair,
    })
}

/// How many rows a second each unit may compare. It does not grow as units end: one that is asked for something else breaks off
/// the chunk that is under way.
fn pace(object: &Verification, inputs: &Inputs) -> Option<i64> {
    let pace = u64::try_from(object.spec.max_rows_per_second?).ok()?;
    let side_by_side = match object.spec.repair {
        RepairMode::FromOwner => 1,
        RepairMode::None => {
            let stores = inputs.stores.iter().filter(|store| selects(object, store));
            let units = |store: &Arc<DataStore>| {
                let units = store
                    .spec
                    .members
                    .iter()
                    .filter(|member| concerns(object, &member.unit));
                units.count()
            };
            stores.map(units).max().unwrap_or_default()
        }
    };
    i64::try_from(chunks::share(pace, side_by_side)).ok()
}

/// What the status says of a comparison, where it has ended and the owner has the same slots.
fn told(object: &Verification, wanted: &Pair) -> Option<PairReport> {
    let mut pairs = object.status.iter().flat_map(|status| &status.pairs);
    let found = pairs.find(|pair| {
        let named = pair.store == wanted.store.as_str() && pair.unit == wanted.unit.as_str();
        named && is_of(wanted, &pair.found)
    });
    let found = found.map(|pair| pair.found.clone());
    found.filter(|found| found.state.has_ended())
}

/// Whether that was found of the same owner's same slots.
fn is_of(wanted: &Pair, found: &PairReport) -> bool {
    let slots = found.slots.as_ref().map(|slots| slots.parse::<SlotSet>());
    found.owner == wanted.owner.as_str() && slots.is_none_or(|slots| slots.as_ref() == Ok(&wanted.slots))
}

/// All comparisons that are wanted by now.
fn wanted(object: &Verification, inputs: &Inputs, table: &RoutingTable) -> Vec<Pair> {
    let stores = inputs.stores.iter().filter(|store| selects(object, store));
    let units = object.spec.units.as_ref();
    let units: Option<Vec<UnitName>> = units.map(|units| units.iter().map(|unit| unit.as_str().into()).collect());
    let units = units.as_deref();
    let (mut owned, mut pairs) = (Vec::new(), Vec::new());
    for store in stores {
        let mut known = MovingStore::from(&**store);
        // Rows of a store that several units write are in the slots of a keyspace all the same.
        if let Some(declared) = &store.spec.keyspace {
            known.keyspace = declared.as_str().into();
        }
        match store.spec.conflict {
            Some(Conflict::LastWriterWins) => {
                let slots = table.keyspace(&known.keyspace).map(KeyspaceTable::all);
                pairs.extend(
                    slots
                        .into_iter()
                        .flat_map(|slots| verification::between(&known, units, &slots)),
                );
            }
            Some(Conflict::OwnerWins | Conflict::Report) | None => owned.push(known),
        }
    }
    pairs.extend(verification::pairs(table, &owned, units));
    pairs.retain(|pair| !is_left_out(pair, inputs));
    pairs
}

/// Whether a comparison is left to the next Verification: of a store that several units write, with one whose cluster does not answer.
/// The others settle what they wrote meanwhile.
fn is_left_out(pair: &Pair, inputs: &Inputs) -> bool {
    let is_away = |unit: &UnitName| inputs.answers(unit) == Some(false);
    is_shared(&pair.store, inputs) && (is_away(&pair.unit) || is_away(&pair.owner))
}

/// Which units are left out, of the stores that several units write.
fn left_out(object: &Verification, inputs: &Inputs) -> BTreeSet<UnitName> {
    let shared = inputs.stores.iter().filter(|store| store.spec.conflict.is_some());
    let chosen = shared.filter(|store| selects(object, store));
    let members = chosen.flat_map(|store| &store.spec.members);
    let units = members.map(|member| UnitName::from(member.unit.as_str()));
    units.filter(|unit| inputs.answers(unit) == Some(false)).collect()
}

#[cfg(test)]
mod tests;
