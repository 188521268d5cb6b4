//! What each unit's agent is told: the spec of its UnitAssignment. Pure.

use super::Inputs;
use super::in_force::held_keyspace;
use super::leases::is_counted_on;
use super::routes::{Claim, lost};
use crate::verifications;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{
    AssignedConflict, AssignedKeyspace, AssignedLease, AssignedStore, AssignedWriter, DataStore, LeaseMode, Reads,
    Route, Unit, UnitAssignmentSpec, UnitRole,
};
use multiactive_core::ids::KeyspaceName;
use multiactive_core::lease::{LedgerKind, Mode, OnLoss};
use multiactive_core::quarantine;
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
    let mut writers: Vec<_> = writers(unit, inputs, table).collect();
    let claims = published.iter().map(|(created, keyspace)| Claim {
        created: *created,
        name: &keyspace.name,
        routes: &keyspace.spec.routes,
    });
    let claims = claims.chain(writers.iter().map(|(created, keyspace, writer)| Claim {
        created: *created,
        name: keyspace.as_str(),
        routes: &writer.routes,
    }));
    let lost = lost(&claims.collect::<Vec<_>>());
    let keep = |name: &str, routes: &mut Vec<Route>| {
        let mut index = 0..;
        let mut is_lost = || {
            index
                .next()
                .is_some_and(|index| lost.contains_key(&(name.to_owned(), index)))
        };
        routes.retain(|_| !is_lost());
    };
    for (_, keyspace) in &mut published {
        keep(&keyspace.name, &mut keyspace.spec.routes);
    }
    for (_, keyspace, writer) in &mut writers {
        keep(keyspace.as_str(), &mut writer.routes);
    }
    let stores = inputs.stores.iter().filter_map(|store| {
        let local = store.spec.members.iter().find(|member| member.unit == name)?;
        let peers = store.spec.members.iter().filter(|member| member.unit != name);
        let mut peers: Vec<_> = peers.cloned().collect();
        // Another order says nothing else, and would be a write.
        peers.sort_by(|a, b| a.unit.cmp(&b.unit));
        Some(AssignedStore {
            name: store.name_any(),
            keyspace: store.keyspace_name().to_string(),
            single_writer: store.spec.single_writer.clone(),
            conflict: store.spec.conflict.map(|rule| AssignedConflict {
                rule,
                keyspace: store.spec.keyspace.clone().unwrap_or_default(),
            }),
            engine: store.spec.engine.clone(),
            tls: store.spec.tls.clone(),
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
        writers: writers.into_iter().map(|(_, _, writer)| writer).collect(),
        stores: stores.collect(),
        lease: Some(AssignedLease {
            // What the record counts on is what the unit was told before: it is told nothing else meanwhile.
            mode: match is_counted_on(table, &name.as_str().into()) {
                true => LeaseMode::Fence,
                false => mode(unit).into(),
            },
            duration: unit.spec.lease_duration.clone(),
        }),
        verification: verifications::assigned(&name, inputs, table),
    }
}

/// The stores with a single writer that the table knows, with their keyspaces and when they were created: reads are local
/// where the unit has a member with all rows, does not only stand by, and is not lost.
fn writers<'a>(
    unit: &'a Unit,
    inputs: &'a Inputs,
    table: &'a RoutingTable,
) -> impl Iterator<Item = (Option<Timestamp>, KeyspaceName, AssignedWriter)> + 'a {
    let name = unit.name_any();
    // What came back after it was lost serves nothing before it has rejoined.
    let silent = unit.spec.role == UnitRole::Standby || quarantine::lost(table).contains(&name.as_str().into());
    let held = inputs
        .reports
        .get(&name.as_str().into())
        .map(|report| &report.spec.writers);
    let held = held.into_iter().flatten();
    let held_of = move |store: &str| held.clone().find(|writer| writer.store == store);
    let held_of_gone = held_of.clone();
    let declared = inputs.stores.iter().filter_map(move |store| {
        let declared = store.spec.single_writer.as_ref()?;
        let keyspace = store.keyspace_name();
        table.keyspace(&keyspace)?;
        let here = match has_rows(unit, store, table, inputs) {
            Some(has) => has,
            // Until it is known, as it was.
            None => held_of(&store.name_any()).is_some_and(|held| held.reads == Reads::Local),
        };
        let writer = AssignedWriter {
            store: store.name_any(),
            routes: declared.routes.clone(),
            reads: match declared.reads {
                Reads::Local if here && !silent => Reads::Local,
                Reads::Local | Reads::Writer => Reads::Writer,
            },
            places: declared.reads == Reads::Local,
            max_lag: declared.max_lag.clone(),
        };
        Some((store.creation_timestamp().map(|time| time.0), keyspace, writer))
    });
    // One that nobody declares any more, or that no unit which answers holds, is served as this unit knows it.
    let gone = table.keyspaces.iter().filter_map(move |known| {
        let store = known.name.writer_of()?;
        let known_here = inputs
            .stores
            .iter()
            .any(|declared| declared.name_any() == store.as_str());
        let held = held_of_gone(store.as_str()).filter(|_| !known_here)?;
        Some((None, known.name.clone(), held.clone()))
    });
    declared.chain(gone)
}

/// Whether the unit has a member with the rows of its writer, as far as is known: its agent has the database in hand, and no link
/// from the writer lacks any. `None` where the agent has not said.
fn has_rows(unit: &Unit, store: &DataStore, table: &RoutingTable, inputs: &Inputs) -> Option<bool> {
    let name = unit.name_any();
    if !store.spec.members.iter().any(|member| member.unit == name) {
        return Some(false);
    }
    let status = inputs.reports.get(&name.as_str().into())?.status.as_ref()?;
    let ready = status.stores.iter().find(|known| known.name == store.name_any())?.ready;
    let owner = table
        .keyspace(&store.keyspace_name())
        .and_then(|known| known.spans.first()?.owner.clone());
    let mut links = status.links.iter().filter(|link| link.store == store.name_any());
    let lacks = links.any(|link| link.gap && owner.as_ref().is_some_and(|owner| owner.as_str() == link.from));
    Some(ready && !lacks)
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
