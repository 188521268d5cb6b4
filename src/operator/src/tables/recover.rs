//! A namespace whose record is not in the hub: is it new, or was the record lost? Reads what the members hold.

use super::Inputs;
use super::site::Site;
use crate::apply::read;
use futures::future::join_all;
use kube::{Api, ResourceExt};
use multiactive_api::{ROUTING_TABLE, RoutingTable as RoutingTableObject};
use multiactive_core::ids::UnitName;
use multiactive_core::recover::{Held, Recovered, recover};
use multiactive_core::table::RoutingTable;
use std::collections::BTreeMap;

/// The table to begin with; `None` where the namespace never had one.
///
/// # Errors
///
/// Why that cannot be told now.
pub async fn table(
    namespace: &str,
    inputs: &Inputs,
    sites: &BTreeMap<String, Site>,
    last: Option<&RoutingTable>,
) -> Result<Option<RoutingTable>, String> {
    let units = inputs.units.iter().map(|unit| {
        let name = UnitName(unit.name_any());
        let site = sites.get(&unit.spec.cluster);
        async move {
            let projection = match site {
                Some(site) if site.member.hub => Some(None),
                Some(site) => held_by(site, namespace).await,
                None => None,
            };
            Held {
                applied: inputs.applied(&name),
                unit: name,
                projection,
            }
        }
    });
    let mut held = join_all(units).await;
    // A namespace that never had a table waits for nobody; one whose table this process knows has the newest here.
    if is_new(inputs) || last.is_some() {
        held.retain(|held| held.projection.is_some());
    }
    if let Some(last) = last {
        held.push(Held {
            unit: "the-operator".into(),
            projection: Some(Some(last.clone())),
            applied: None,
        });
    }
    match recover(&held) {
        Ok(Recovered::Never) if is_new(inputs) => Ok(None),
        // The hub remembers that there was one, and the members have none.
        Ok(Recovered::Never) => Err(
            "the routing table is gone from the hub, and no member holds a copy: create it by hand from a backup"
                .to_owned(),
        ),
        Ok(Recovered::Table(table)) => Ok(Some(*table)),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether no status in the hub says that there ever was a table.
fn is_new(inputs: &Inputs) -> bool {
    let mut keyspaces = inputs.keyspaces.iter().filter_map(|keyspace| keyspace.status.as_ref());
    !keyspaces.any(|status| status.epoch.is_some())
}

/// The copy of one member; `None` where that is not known.
async fn held_by(site: &Site, namespace: &str) -> Option<Option<RoutingTable>> {
    let api: Api<RoutingTableObject> = Api::namespaced(site.member.client.clone(), namespace);
    match read(&api, ROUTING_TABLE).await {
        Ok(None) => Some(None),
        Ok(Some(object)) => match RoutingTable::try_from(&object.spec) {
            Ok(table) => Some(Some(table)),
            Err(error) => {
                tracing::error!(namespace, member = site.member.name, %error, "the member's copy cannot be understood");
                None
            }
        },
        Err(error) => {
            tracing::warn!(
                namespace,
                member = site.member.name,
                error = error.chain(),
                "the member's copy is not known"
            );
            None
        }
    }
}
