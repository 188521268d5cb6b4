//! Units that are gone from the hub while what the UnitWorkload made for them is there: whose objects stay.
//!
//! A Unit that owns slots is held by its finalizer; without it, it can still be taken away by hand, for a moment or by
//! mistake. What serves its slots is not deleted for that. Unknown is no permission.

use super::actor::{Actor, Place};
use super::render::Desired;
use crate::apply::read;
use crate::units::is_needed;
use kube::{Api, ResourceExt};
use multiactive_api::{ROUTING_TABLE, RoutingTable, UnitWorkloadStatus};
use multiactive_core::ids::UnitName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Actor {
    /// The recorded units that are not there, and whose objects stay all the same: those that cannot be parsed, and those
    /// that may own slots or take part in a Promotion.
    pub(super) async fn staying(
        &self,
        wanted: &BTreeMap<Place, Arc<Vec<Desired>>>,
        old: &UnitWorkloadStatus,
    ) -> BTreeSet<String> {
        let all = self.shared.ctx.hub.units.of(&self.namespace);
        let known: BTreeSet<String> = all.iter().map(|unit| unit.name_any()).collect();
        let placed = |unit: &str| known.contains(unit) || wanted.keys().any(|(name, _)| name == unit);
        let recorded = old.units.iter().map(|unit| &unit.unit);
        let mut missing: BTreeSet<String> = recorded.filter(|unit| !placed(unit)).cloned().collect();
        if missing.is_empty() {
            return missing;
        }
        let unread: BTreeSet<String> = self
            .shared
            .ctx
            .hub
            .units
            .invalid(&self.namespace)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let copy = self.shared.ctx.hub.tables.get(&self.namespace, ROUTING_TABLE);
        let (mut stays, rest) = missing
            .into_iter()
            .partition(|unit| unread.contains(unit) || may_be_needed(unit, copy.as_deref()));
        missing = rest;
        if !missing.is_empty() {
            // The copy may be old: what is deleted is deleted by the server's word.
            let tables: Api<RoutingTable> = Api::namespaced(self.shared.ctx.client.clone(), &self.namespace);
            let table = read(&tables, ROUTING_TABLE).await.ok().flatten();
            stays.extend(missing.into_iter().filter(|unit| may_be_needed(unit, table.as_ref())));
        }
        stays
    }
}

/// Whether slots may depend on a unit; also where there is no table, which there is as soon as there is a Unit.
fn may_be_needed(unit: &str, table: Option<&RoutingTable>) -> bool {
    let table = table.map(|object| multiactive_core::table::RoutingTable::try_from(&object.spec));
    match table {
        Some(Ok(table)) => is_needed(&UnitName(unit.to_owned()), &table),
        Some(Err(_)) | None => true,
    }
}
