//! What each unit's agent is told: the spec of its UnitAssignment. Pure.

use super::Inputs;
use kube::ResourceExt;
use multiactive_api::{AssignedKeyspace, AssignedStore, Unit, UnitAssignmentSpec};
use multiactive_core::table::RoutingTable;

/// The assignment of one unit. Keyspaces whose number of slots the table does not hold are left out: they are not
/// published, and agents and routers must agree with the table.
pub fn assignment(unit: &Unit, inputs: &Inputs, table: &RoutingTable) -> UnitAssignmentSpec {
    let name = unit.name_any();
    let published = |keyspace: &&std::sync::Arc<multiactive_api::Keyspace>| {
        let known = table.keyspace(&keyspace.name_any().into());
        known.is_some_and(|known| i64::from(known.slots) == i64::from(keyspace.spec.slots))
    };
    let keyspaces = inputs.keyspaces.iter().filter(published);
    let stores = inputs.stores.iter().filter_map(|store| {
        let local = store.spec.members.iter().find(|member| member.unit == name)?;
        let peers = store.spec.members.iter().filter(|member| member.unit != name);
        Some(AssignedStore {
            name: store.name_any(),
            keyspace: store.spec.keyspace.clone(),
            engine: store.spec.engine.clone(),
            tables: store.spec.tables.clone(),
            local: local.clone(),
            peers: peers.cloned().collect(),
        })
    });
    UnitAssignmentSpec {
        unit: name.clone(),
        cluster: unit.spec.cluster.clone(),
        backends: unit.spec.backends.clone(),
        keyspaces: keyspaces
            .map(|keyspace| AssignedKeyspace {
                name: keyspace.name_any(),
                spec: keyspace.spec.clone(),
            })
            .collect(),
        stores: stores.collect(),
    }
}
