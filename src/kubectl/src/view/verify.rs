//! What `verify` would do: the databases that it compares, by what the hub's objects say, and the Verification that asks for it.

use crate::fail::{Failure, Result};
use crate::fetch::Unreadable;
use kube::ResourceExt;
use multiactive_api::{DataStore, RepairMode, Verification, VerificationSpec};
use std::collections::BTreeSet;

/// What was typed.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The stores; all without one.
    pub stores: Vec<String>,
    /// The units; all members without one.
    pub units: Vec<String>,
    /// Whether what differs is replaced.
    pub repair: bool,
    /// How many rows a second are read, at most.
    pub max_rows_per_second: Option<i64>,
}

/// A store that is compared, and the units at which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The store.
    pub store: String,
    /// The units.
    pub units: Vec<String>,
}

/// The stores and units that are meant; none whose databases are none of theirs.
///
/// # Errors
///
/// Where a name is unknown, with those that are known; where a named store cannot be read.
pub fn choose(namespace: &str, stores: &[DataStore], lost: &[Unreadable], asked: &Asked) -> Result<Vec<Chosen>> {
    if let Some(lost) = lost.iter().find(|lost| asked.stores.contains(&lost.name)) {
        let (name, error) = (&lost.name, &lost.error);
        return Err(Failure::error(format!(
            "DataStore {namespace}/{name} cannot be read: {error}"
        )));
    }
    let known: BTreeSet<String> = stores.iter().map(ResourceExt::name_any).collect();
    let unknown = unknown(&asked.stores, &known);
    if !unknown.is_empty() {
        return Err(Failure::not_found(format!(
            "there is no DataStore {} in namespace {namespace}; there are: {}",
            unknown.join(", "),
            listed(&known)
        )));
    }
    let selected = stores.iter().filter(|store| selects(&asked.stores, &store.name_any()));
    let selected: Vec<&DataStore> = selected.collect();
    let members: BTreeSet<String> = selected.iter().flat_map(|store| members(store)).collect();
    let strangers = self::unknown(&asked.units, &members);
    if !strangers.is_empty() {
        let names: BTreeSet<String> = selected.iter().map(|store| store.name_any()).collect();
        return Err(Failure::not_found(format!(
            "{} has no database of DataStore {} in namespace {namespace}; their members are: {}",
            strangers.join(", "),
            listed(&names),
            listed(&members)
        )));
    }
    let chosen = selected.into_iter().map(|store| Chosen {
        store: store.name_any(),
        units: members_of(store, &asked.units),
    });
    Ok(chosen.filter(|chosen| !chosen.units.is_empty()).collect())
}

fn unknown(asked: &[String], known: &BTreeSet<String>) -> Vec<String> {
    asked.iter().filter(|name| !known.contains(*name)).cloned().collect()
}

fn listed(names: &BTreeSet<String>) -> String {
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.iter().cloned().collect::<Vec<_>>().join(", "),
    }
}

fn selects(asked: &[String], name: &String) -> bool {
    asked.is_empty() || asked.contains(name)
}

fn members(store: &DataStore) -> impl Iterator<Item = String> {
    store.spec.members.iter().map(|member| member.unit.clone())
}

fn members_of(store: &DataStore, asked: &[String]) -> Vec<String> {
    members(store).filter(|unit| selects(asked, unit)).collect()
}

/// A name that no Verification has.
pub fn free_name(epoch: i64, repair: bool, used: &BTreeSet<String>) -> String {
    let first = match repair {
        true => format!("repair-{epoch}"),
        false => format!("verify-{epoch}"),
    };
    let more = (2..).map(|number| format!("{first}-{number}"));
    let mut names = std::iter::once(first.clone()).chain(more);
    names.find(|name| !used.contains(name)).unwrap_or(first)
}

/// The Verification that asks for it.
pub fn object(namespace: &str, name: &str, asked: &Asked) -> Verification {
    let spec = VerificationSpec {
        stores: named(&asked.stores),
        units: named(&asked.units),
        repair: match asked.repair {
            true => RepairMode::FromOwner,
            false => RepairMode::None,
        },
        max_rows_per_second: asked.max_rows_per_second,
    };
    let mut object = Verification::new(name, spec);
    object.metadata.namespace = Some(namespace.to_owned());
    object
}

/// Each once, in the order in which they were typed; absent where all are meant.
fn named(names: &[String]) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let once: Vec<String> = names.iter().filter(|name| seen.insert(*name)).cloned().collect();
    (!once.is_empty()).then_some(once)
}
