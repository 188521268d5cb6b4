//! What a DataStore's status says: each member's database as its agent reports it. Pure.

use crate::conditions::{Readiness, set_readiness};
use crate::tables::View;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{DataStore, DataStoreStatus, StoreMemberStatus};
use multiactive_core::ids::UnitName;

/// The status that the view asks for.
pub fn status(store: &DataStore, view: &View, now: Timestamp) -> DataStoreStatus {
    let mut status = store.status.clone().unwrap_or_default();
    let members = store
        .spec
        .members
        .iter()
        .map(|declared| member(store, &declared.unit, view));
    status.members = members.collect();
    status.observed_generation = store.metadata.generation;
    let readiness = readiness(store, &status.members, view);
    set_readiness(&mut status.conditions, &readiness, store.metadata.generation, now);
    status
}

fn member(store: &DataStore, unit: &str, view: &View) -> StoreMemberStatus {
    let name = UnitName(unit.to_owned());
    let report = view.inputs.reports.get(&name).and_then(|report| report.status.as_ref());
    let known = report.and_then(|report| report.stores.iter().find(|known| known.name == store.name_any()));
    let (state, message) = match (view.inputs.unit(&name), known) {
        (None, _) => ("Unknown", Some(format!("there is no Unit {unit}"))),
        (Some(_), _) if !view.inputs.reachable.contains(&name) => {
            ("Unknown", Some("its member cluster does not answer".to_owned()))
        }
        (Some(_), None) => ("Unknown", Some("its agent has not reported it yet".to_owned())),
        (Some(_), Some(known)) if known.ready => ("Ready", None),
        (Some(_), Some(known)) => ("NotReady", known.message.clone().or_else(|| known.reason.clone())),
    };
    StoreMemberStatus {
        unit: unit.to_owned(),
        state: state.to_owned(),
        message,
    }
}

fn readiness(store: &DataStore, members: &[StoreMemberStatus], view: &View) -> Readiness {
    let keyspace = &store.spec.keyspace;
    if !view.inputs.keyspaces.iter().any(|known| known.name_any() == *keyspace) {
        return Readiness::Stalled {
            reason: "NoKeyspace",
            message: format!("there is no Keyspace {keyspace}"),
        };
    }
    if let Some(unknown) = members
        .iter()
        .find(|m| view.inputs.unit(&m.unit.as_str().into()).is_none())
    {
        return Readiness::Stalled {
            reason: "UnknownUnit",
            message: format!(
                "spec.members names unit {}, but there is no Unit of that name",
                unknown.unit
            ),
        };
    }
    let ranges = view
        .inputs
        .ranges
        .iter()
        .filter(|range| range.spec.keyspace == *keyspace);
    for range in ranges {
        let named = range.spec.failover_units.iter().chain([&range.spec.home_unit]);
        for unit in named {
            if !members.iter().any(|member| member.unit == *unit) {
                return Readiness::Stalled {
                    reason: "NoMember",
                    message: format!(
                        "ShardRange {} names unit {unit}, but spec.members has no database in it",
                        range.name_any()
                    ),
                };
            }
        }
    }
    match members.iter().find(|member| member.state != "Ready") {
        None => Readiness::Ready {
            reason: "MembersReady",
            message: format!("{} databases are ready", members.len()),
        },
        Some(member) => Readiness::Reconciling {
            reason: if member.state == "Unknown" {
                "MemberUnknown"
            } else {
                "MemberNotReady"
            },
            message: format!("{}: {}", member.unit, member.message.as_deref().unwrap_or("not ready")),
        },
    }
}
