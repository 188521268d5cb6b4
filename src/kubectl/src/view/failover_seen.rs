//! What the hub's objects say of lost units and of those that may take over. What they do not say is unknown.

use super::failover_shapes::{Fence, Life, Looks, Lost};
use super::plan::largest;
use super::problems::of;
use super::{Readiness, object};
use crate::fetch::World;
use crate::text;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::convert::{hook_name, lease_terms};
use multiactive_api::{FailoverPlacement, LeaseMode, MemberCluster, OnLeaseLoss, ReplicationLink, Unit, WorkloadState};
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::{Candidate, UnitReady};
use multiactive_core::quarantine;
use multiactive_core::table::RoutingTable;

/// The Unit of a lost unit.
pub fn unit<'a>(world: &'a World, lost: &Lost) -> Option<&'a Unit> {
    let mut units = world.units.iter();
    units.find(|unit| unit.namespace().as_deref() == Some(&lost.namespace) && unit.name_any() == lost.unit)
}

/// A MemberCluster.
pub fn cluster<'a>(world: &'a World, name: &str) -> Option<&'a MemberCluster> {
    world.clusters.iter().find(|cluster| cluster.name_any() == name)
}

fn readiness(unit: &Unit) -> Readiness {
    of(unit.status.as_ref().map(|status| &status.conditions))
}

/// Whether a unit looks alive.
pub fn life(unit: Option<&Unit>, cluster: Option<&MemberCluster>, now: Timestamp) -> Life {
    let Some(unit) = unit else {
        let why = "there is no Unit of that name any more: the record alone knows it".to_owned();
        return Life {
            looks: Looks::Unknown,
            why,
        };
    };
    let Readiness { reason, message, .. } = readiness(unit);
    let name = object("MemberCluster", None, &unit.spec.cluster);
    let seen = cluster.and_then(|cluster| cluster.status.as_ref()?.last_seen.as_ref());
    let seen = seen.map(|seen| format!(", seen last {} ago", text::ago(now, seen.0)));
    let (looks, why) = match (reachable(cluster, unit), readiness(unit).is_ready()) {
        (Some(true), true) => (
            Looks::Alive,
            format!("{name} answers, and the unit is Ready ({reason})"),
        ),
        (Some(true), false) => {
            let why = format!("{name} answers, and the unit is not Ready: {reason}: {message}");
            (Looks::Unwell, why)
        }
        (Some(false), _) => (
            Looks::Silent,
            format!("{name} does not answer{}", seen.unwrap_or_default()),
        ),
        (None, _) => (Looks::Unknown, format!("it is not known whether {name} answers")),
    };
    Life { looks, why }
}

/// How its fence will be proven.
pub fn fence(unit: Option<&Unit>) -> Fence {
    let said = unit.and_then(|unit| Some(unit.status.as_ref()?.lease.as_ref()?.mode));
    let mode = said.or_else(|| match unit?.spec.on_lease_loss {
        OnLeaseLoss::Fence => Some(LeaseMode::Fence),
        OnLeaseLoss::KeepServing => Some(LeaseMode::KeepServing),
        OnLeaseLoss::Auto => None,
    });
    let within = unit.filter(|_| mode == Some(LeaseMode::Fence)).and_then(|unit| {
        let terms = lease_terms("spec.leaseDuration", &unit.spec.lease_duration).ok()?;
        Some(text::span(terms.patience()))
    });
    let hook = unit.and_then(|unit| unit.spec.fencing_hook.as_ref()).map(hook_name);
    Fence { mode, within, hook }
}

/// What is known here of the units that may take over from `lost`.
pub fn candidates(world: &World, namespace: &str, table: &RoutingTable, lost: &UnitName) -> Vec<Candidate> {
    let here = world
        .units
        .iter()
        .filter(|unit| unit.namespace().as_deref() == Some(namespace));
    here.filter(|unit| unit.name_any() != lost.as_str())
        .map(|unit| Candidate {
            unit: unit.name_any().into(),
            cordoned: unit.spec.cordoned,
            reachable: reachable(cluster(world, &unit.spec.cluster), unit),
            ready: ready(world, namespace, unit),
            behind: behind(world, namespace, (table, lost), unit),
        })
        .collect()
}

/// Whether the link is of a store that several units write: nobody takes over anything of it.
fn is_shared(world: &World, link: &ReplicationLink) -> bool {
    let mut stores = world.stores.iter();
    stores.any(|store| {
        let same = store.namespace() == link.namespace() && store.name_any() == link.spec.store;
        same && store.spec.conflict.is_some()
    })
}

/// The largest lag of the links from `lost` to who takes over, of the stores of what each takes over.
pub fn lag(world: &World, namespace: &str, lost: &UnitName, placement: &FailoverPlacement) -> Option<String> {
    let takes = |unit: &str| {
        let mut placed = placement.placed.iter();
        placed.any(|part| part.target.as_deref() == Some(unit))
    };
    let concerned = world.links.iter().filter(|link| {
        let here = link.namespace().as_deref() == Some(namespace) && !is_shared(world, link);
        here && link.spec.from == lost.as_str() && takes(&link.spec.to)
    });
    let lags: Vec<_> = concerned
        .map(|link| link.status.as_ref().and_then(|status| status.lag.as_deref()))
        .collect();
    // Without a link nobody received anything, as far as is known here.
    (!lags.is_empty()).then(|| largest(lags.into_iter()))?
}

/// Whether its cluster answers; by the unit's own condition where the clusters may not be read.
fn reachable(cluster: Option<&MemberCluster>, unit: &Unit) -> Option<bool> {
    let readiness = match cluster {
        Some(cluster) => of(cluster.status.as_ref().map(|status| &status.conditions)),
        None => readiness(unit),
    };
    match (cluster, readiness.ready.as_str(), readiness.reason.as_str()) {
        (_, "True", _) => Some(true),
        (Some(_), "False", _) | (None, "False", "MemberNotReady" | "MemberUnusable") => Some(false),
        (Some(_) | None, _, _) => None,
    }
}

fn ready(world: &World, namespace: &str, unit: &Unit) -> Option<UnitReady> {
    if unit.metadata.deletion_timestamp.is_some() {
        return Some(UnitReady::NotReady("it is being deleted".to_owned()));
    }
    let Readiness {
        ready, reason, message, ..
    } = readiness(unit);
    match (ready.as_str(), reason.as_str()) {
        ("True", _) => workloads(world, namespace, &unit.name_any()),
        // Its agent says nothing now: whether it can is not known.
        ("False", "AgentNotReporting") => None,
        ("False", _) => Some(UnitReady::NotReady(format!("{reason}: {message}"))),
        _ => None,
    }
}

/// Whether what runs there is ready.
fn workloads(world: &World, namespace: &str, unit: &str) -> Option<UnitReady> {
    let here = world
        .workloads
        .iter()
        .filter(|workload| workload.namespace().as_deref() == Some(namespace));
    for workload in here {
        let units = workload.status.iter().flat_map(|status| &status.units);
        for entry in units.filter(|entry| entry.unit == unit) {
            match entry.state {
                WorkloadState::Ready => {}
                WorkloadState::Unknown => return None,
                WorkloadState::Progressing | WorkloadState::Failed => {
                    let state = text::word(&entry.state);
                    let why = entry.message.as_deref().unwrap_or(&state);
                    return Some(UnitReady::NotReady(format!(
                        "UnitWorkload {}: {why}",
                        workload.name_any()
                    )));
                }
            }
        }
    }
    Some(UnitReady::Ready)
}

/// Why rows of a unit may lack something: it was behind when an operation committed, and a link into it does not run.
fn behind(world: &World, namespace: &str, (table, lost): (&RoutingTable, &UnitName), unit: &Unit) -> Option<String> {
    let name = UnitName(unit.name_any());
    let operation = &table.behind_of(&name).last()?.name;
    let gone = quarantine::lost(table);
    let mut links = world.links.iter().filter(|link| {
        let from = UnitName(link.spec.from.clone());
        let here = link.namespace().as_deref() == Some(namespace) && !is_shared(world, link);
        here && link.spec.to == name.as_str() && from != *lost && !gone.contains(&from)
    });
    let state = |link: &ReplicationLink| link.status.as_ref().and_then(|status| status.state.clone());
    let broken = links.find(|link| state(link).as_deref() != Some("Running"))?;
    let state = state(broken).unwrap_or_else(|| "not known to run".to_owned());
    Some(format!(
        "it had not applied all when {operation} committed: ReplicationLink {} is {state}",
        broken.name_any()
    ))
}
