//! A namespace whose record is not in the hub: is it new, or was the record lost? Reads the servers, hub and members,
//! and none of the copies: they may be of before.

use super::inputs::applied;
use crate::Context;
use crate::apply::{read, within};
use crate::error::Error;
use crate::units::UNIT_FINALIZER;
use futures::future::join_all;
use kube::api::ListParams;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Resource, ResourceExt};
use multiactive_api::{
    DataStore, Keyspace, ROUTING_TABLE, RoutingTable as RoutingTableObject, ShardRange, Unit, UnitAssignment,
};
use multiactive_core::ids::UnitName;
use multiactive_core::recover::{Held, Recovered, recover};
use multiactive_core::table::RoutingTable;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// What is known of a record that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There never was one.
    New,
    /// The table to begin with: the newest that anybody can have acted on, above all that was ever issued.
    Table(Box<RoutingTable>),
    /// Nothing says that there was one, but some members have not answered yet, and they are given time.
    Asking(String),
    /// There was one, or nobody can tell: why, and what to do.
    Lost(String),
    /// The hub does not say what it declares.
    Unreachable(String),
}

/// What the hub declares.
#[derive(Debug, Default)]
struct Declared {
    /// Each unit and its member.
    units: Vec<(UnitName, String)>,
    /// What says that there once was a record.
    evidence: Option<String>,
}

/// What became of the record of `namespace`. `last` is the newest table that this process knew; another may have
/// committed later ones. `waited` says that members had the time to answer since the start.
pub async fn table(ctx: &Context, namespace: &str, last: Option<&RoutingTable>, waited: bool) -> Found {
    let declared = match declared(ctx, namespace).await {
        Ok(declared) => declared,
        Err(found) => return found,
    };
    let held = declared
        .units
        .iter()
        .map(|(unit, cluster)| held_by(ctx, namespace, unit, cluster));
    judge(join_all(held).await, declared.evidence.as_deref(), last, waited)
}

/// A namespace in which nothing says that there was a record waits for nobody for ever; any other does for all, also
/// where this process knew a table: it may have been overtaken.
fn judge(mut held: Vec<Held>, evidence: Option<&str>, last: Option<&RoutingTable>, waited: bool) -> Found {
    if evidence.is_none() && last.is_none() {
        let silent: Vec<_> = held.iter().filter(|held| held.projection.is_none()).collect();
        if !silent.is_empty() && !waited {
            let silent: Vec<_> = silent.iter().map(|held| held.unit.as_str()).collect();
            return Found::Asking(silent.join(", "));
        }
        held.retain(|held| held.projection.is_some());
    }
    if let Some(last) = last {
        held.push(Held {
            unit: "the-operator".into(),
            projection: Some(Some(last.clone())),
            applied: None,
        });
    }
    match (recover(&held), evidence) {
        (Ok(Recovered::Table(table)), _) => Found::Table(table),
        (Ok(Recovered::Never), None) => Found::New,
        // The hub remembers that there was one, and the members have none.
        (Ok(Recovered::Never), Some(evidence)) => Found::Lost(format!(
            "the routing table is gone from the hub, and no member holds a copy, but there was one: {evidence}; create \
             it by hand from a backup"
        )),
        (Err(error), _) => Found::Lost(error.to_string()),
    }
}

/// # Errors
///
/// What that means where it cannot be read.
async fn declared(ctx: &Context, namespace: &str) -> Result<Declared, Found> {
    let (units, keyspaces, ranges, stores) = tokio::try_join!(
        list::<Unit>(ctx, namespace),
        list::<Keyspace>(ctx, namespace),
        list::<ShardRange>(ctx, namespace),
        list::<DataStore>(ctx, namespace)
    )?;
    let evidence = evidence(&units, &keyspaces, &ranges, &stores);
    let units = units
        .into_iter()
        .map(|unit| (unit.name_any().into(), unit.spec.cluster));
    Ok(Declared {
        units: units.collect(),
        evidence,
    })
}

/// All objects of a kind, as the hub has them. One that cannot be read may say anything.
async fn list<K>(ctx: &Context, namespace: &str) -> Result<Vec<K>, Found>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let kind = K::kind(&());
    let error = |source| Error::Read {
        kind: kind.clone(),
        name: namespace.to_owned(),
        source: Box::new(source),
    };
    let api: Api<DeserializeGuard<K>> = Api::namespaced(ctx.client.clone(), namespace);
    let params = ListParams::default();
    let all = within(|| format!("listing {kind} of {namespace}"), api.list(&params), error).await;
    let all = all.map_err(|error| Found::Unreachable(error.chain()))?;
    let objects = all.items.into_iter().map(|object| {
        let name = object.name_any();
        let readable = object.0;
        readable.map_err(|invalid| {
            Found::Lost(format!(
                "the routing table is not in the hub, and whether there was one is not known, for {kind} {name} cannot be \
                 read: {}",
                invalid.error
            ))
        })
    });
    objects.collect()
}

/// What only a record can have left behind.
fn evidence(units: &[Unit], keyspaces: &[Keyspace], ranges: &[ShardRange], stores: &[DataStore]) -> Option<String> {
    let unit = units.iter().find_map(|unit| {
        let name = unit.name_any();
        if unit.finalizers().iter().any(|known| known == UNIT_FINALIZER) {
            return Some(format!("Unit {name} has the finalizer {UNIT_FINALIZER}"));
        }
        let status = unit.status.as_ref()?;
        let applied = status.applied.as_ref();
        let applied = applied.map(|epoch| format!("Unit {name} applied epoch {epoch}"));
        applied.or_else(|| (status.slots > 0).then(|| format!("Unit {name} owned slots")))
    });
    let keyspace = || {
        keyspaces.iter().find_map(|keyspace| {
            let epoch = keyspace.status.as_ref()?.epoch.as_ref()?;
            Some(format!("Keyspace {} was of epoch {epoch}", keyspace.name_any()))
        })
    };
    let range = || {
        ranges.iter().find_map(|range| {
            let epoch = range.status.as_ref()?.epoch?;
            Some(format!("ShardRange {} was of epoch {epoch}", range.name_any()))
        })
    };
    let store = || {
        stores.iter().find_map(|store| {
            let writer = store.status.as_ref()?.writer.as_ref()?;
            Some(format!(
                "the writer of DataStore {} was of epoch {}",
                store.name_any(),
                writer.epoch
            ))
        })
    };
    unit.or_else(keyspace).or_else(range).or_else(store)
}

/// What the member of a unit holds: the copy of the table, and what the unit's agent says. In the hub the record is its
/// own copy, and it is gone.
async fn held_by(ctx: &Context, namespace: &str, unit: &UnitName, cluster: &str) -> Held {
    let mut held = Held {
        unit: unit.clone(),
        projection: None,
        applied: None,
    };
    let member = ctx.members.get(cluster).filter(|member| member.allows(namespace));
    let Some(member) = member else { return held };
    let assignments: Api<UnitAssignment> = Api::namespaced(member.client.clone(), namespace);
    let copies: Api<RoutingTableObject> = Api::namespaced(member.client.clone(), namespace);
    let copy = async {
        match member.hub {
            true => Ok(None),
            false => read(&copies, ROUTING_TABLE).await,
        }
    };
    match tokio::join!(read(&assignments, unit.as_str()), copy) {
        (Ok(assignment), Ok(copy)) => {
            held.applied = assignment.and_then(|assignment| applied(assignment.status.as_ref()?));
            held.projection = match copy.map(|copy| RoutingTable::try_from(&copy.spec)).transpose() {
                Ok(copy) => Some(copy),
                Err(error) => {
                    tracing::error!(namespace, cluster, %error, "the member's copy cannot be understood");
                    None
                }
            };
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(
                namespace,
                cluster,
                error = error.chain(),
                "what the member holds is not known"
            );
        }
    }
    held
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
