//! What each unit's agent is told: the spec of its UnitAssignment. Pure.

use super::Inputs;
use super::in_force::held_keyspace;
use super::leases::is_recorded;
use super::routes::{Claim, lost};
use crate::verifications;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{AssignedKeyspace, AssignedLease, AssignedStore, LeaseMode, Unit, UnitAssignmentSpec};
use multiactive_core::lease::{LedgerKind, Mode, OnLoss};
use multiactive_core::table::{KeyspaceTable, RoutingTable};

/// The assignment of one unit. Agents and routers must agree with the table: what it holds is published, as declared
/// where that fits, else as it was; what it does not hold is left out.
pub fn assignment(unit: &Unit, inputs: &Inputs, table: &RoutingTable) -> UnitAssignmentSpec {
    let name = unit.name_any();
    let published = table
        .keyspaces
        .iter()
        .filter_map(|known| published(known, &name, inputs));
    let mut published: Vec<_> = published.collect();
    let claims: Vec<_> = published
        .iter()
        .map(|(created, keyspace)| Claim {
            created: *created,
            name: &keyspace.name,
            routes: &keyspace.spec.routes,
        })
        .collect();
    let lost = lost(&claims);
    for (_, keyspace) in &mut published {
        let mut index = 0..;
        keyspace.spec.routes.retain(|_| {
            !index
                .next()
                .is_some_and(|index| lost.contains_key(&(keyspace.name.clone(), index)))
        });
    }
    let stores = inputs.stores.iter().filter_map(|store| {
        let local = store.spec.members.iter().find(|member| member.unit == name)?;
        let peers = store.spec.members.iter().filter(|member| member.unit != name);
        let mut peers: Vec<_> = peers.cloned().collect();
        // Another order says nothing else, and would be a write.
        peers.sort_by(|a, b| a.unit.cmp(&b.unit));
        Some(AssignedStore {
            name: store.name_any(),
            keyspace: store.spec.keyspace.clone(),
            engine: store.spec.engine.clone(),
            tables: store.spec.tables.clone(),
            local: local.clone(),
            peers,
        })
    });
    UnitAssignmentSpec {
        unit: name.clone(),
        cluster: unit.spec.cluster.clone(),
        backends: unit.spec.backends.clone(),
        keyspaces: published.into_iter().map(|(_, keyspace)| keyspace).collect(),
        stores: stores.collect(),
        lease: Some(AssignedLease {
            // A failover counts on what its unit was told before: it is told nothing else meanwhile.
            mode: match is_recorded(table, &name.as_str().into()) {
                true => LeaseMode::Fence,
                false => mode(unit).into(),
            },
            duration: unit.spec.lease_duration.clone(),
        }),
        verification: verifications::assigned(&name, inputs, table),
    }
}

/// What applies to a unit that cannot renew its write lease: the ledger is the hub.
pub fn mode(unit: &Unit) -> Mode {
    OnLoss::from(unit.spec.on_lease_loss).mode(LedgerKind::Kubernetes)
}

/// What is published of a keyspace to a unit, and when it was created, where it is as declared.
fn published(known: &KeyspaceTable, unit: &str, inputs: &Inputs) -> Option<(Option<Timestamp>, AssignedKeyspace)> {
    let mut declared = inputs.keyspaces.iter();
    let declared = declared.find(|keyspace| keyspace.name_any() == known.name.as_str());
    if let Some(keyspace) = declared.filter(|keyspace| inputs.may_publish(keyspace, known)) {
        let assigned = AssignedKeyspace {
            name: keyspace.name_any(),
            spec: keyspace.spec.clone(),
        };
        return Some((keyspace.creation_timestamp().map(|time| time.0), assigned));
    }
    let held = held_keyspace(known, unit, &inputs.reports)?;
    Some((None, held.clone()))
}
