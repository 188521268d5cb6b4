//! Reading what is there. An object that cannot be read does not hide the others, and what may not be read is said to be
//! unknown.

use crate::client::Session;
use crate::fail::{Failure, Result};
use crate::operations::{KINDS, Kind, Operation};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Resource};
use multiactive_api::{
    DataStore, Keyspace, MemberCluster, ROUTING_TABLE, Region, ReplicationLink, RoutingTable, ShardRange, Unit,
    UnitWorkload,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How many objects one answer holds.
const PAGE: u32 = 500;

/// An object that cannot be read as its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Which field, and why.
    pub error: String,
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The Regions.
    pub regions: Vec<Region>,
    /// The MemberClusters.
    pub clusters: Vec<MemberCluster>,
    /// The Units.
    pub units: Vec<Unit>,
    /// The Keyspaces.
    pub keyspaces: Vec<Keyspace>,
    /// The ShardRanges.
    pub ranges: Vec<ShardRange>,
    /// The RoutingTables.
    pub tables: Vec<RoutingTable>,
    /// The DataStores.
    pub stores: Vec<DataStore>,
    /// The ReplicationLinks.
    pub links: Vec<ReplicationLink>,
    /// The UnitWorkloads.
    pub workloads: Vec<UnitWorkload>,
    /// Operations of every kind.
    pub operations: Vec<Operation>,
    /// What cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// What may not be read, and why.
    pub unknown: Vec<String>,
}

impl World {
    /// What may not or cannot be read, a line each.
    pub fn doubts(&self) -> Vec<String> {
        let unknown = self.unknown.iter().map(|unknown| format!("unknown: {unknown}"));
        let lost = self.unreadable.iter();
        let lost = lost.map(|lost| format!("unreadable: {} {}: {}", lost.kind, lost.name, lost.error));
        unknown.chain(lost).collect()
    }

    /// Whether nothing of a namespace is there.
    pub fn has_no_deployment(&self) -> bool {
        self.units.is_empty() && self.ranges.is_empty() && self.tables.is_empty() && self.keyspaces.is_empty()
    }
}

/// Reads all that `status`, `plan` and `failback` look at; `None` for all namespaces.
///
/// # Errors
///
/// Where Units may not be read or the server does not answer. Of the rest, what may not be read is unknown.
pub async fn world(session: &Session, namespace: Option<&str>) -> Result<World> {
    let mut world = World::default();
    // First and alone: where the kinds are missing or the server is silent, one error says so.
    let units = objects::<Unit>(session, namespace).await?;
    world.units = sort(units, &mut world.unreadable);
    let (regions, clusters, keyspaces, ranges, tables, stores, links, workloads) = tokio::join!(
        objects::<Region>(session, None),
        objects::<MemberCluster>(session, None),
        objects::<Keyspace>(session, namespace),
        objects::<ShardRange>(session, namespace),
        objects::<RoutingTable>(session, namespace),
        objects::<DataStore>(session, namespace),
        objects::<ReplicationLink>(session, namespace),
        objects::<UnitWorkload>(session, namespace),
    );
    let (unknown, unreadable) = (&mut world.unknown, &mut world.unreadable);
    world.regions = sort(allowed(regions, unknown)?, unreadable);
    world.clusters = sort(allowed(clusters, unknown)?, unreadable);
    world.keyspaces = sort(allowed(keyspaces, unknown)?, unreadable);
    world.ranges = sort(allowed(ranges, unknown)?, unreadable);
    world.tables = sort(allowed(tables, unknown)?, unreadable);
    world.stores = sort(allowed(stores, unknown)?, unreadable);
    world.links = sort(allowed(links, unknown)?, unreadable);
    world.workloads = sort(allowed(workloads, unknown)?, unreadable);
    for kind in KINDS {
        let found = allowed(dynamic(session, &kind.resource(), namespace).await, unknown)?;
        world.operations.extend(read_operations(*kind, found, unreadable));
    }
    Ok(world)
}

/// All objects of a kind, as they are.
///
/// # Errors
///
/// As [`Session::ask`].
pub async fn objects<K>(session: &Session, namespace: Option<&str>) -> Result<Vec<DynamicObject>>
where
    K: Resource<DynamicType = ()>,
{
    dynamic(session, &ApiResource::erase::<K>(&()), namespace).await
}

/// The same, for a kind at hand.
///
/// # Errors
///
/// As [`Session::ask`].
pub async fn dynamic(session: &Session, resource: &ApiResource, namespace: Option<&str>) -> Result<Vec<DynamicObject>> {
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(session.client.clone(), namespace, resource),
        None => Api::all_with(session.client.clone(), resource),
    };
    let doing = format!("listing {}", resource.plural);
    let mut params = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = session.ask(&doing, api.list(&params)).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// Reads each; those that cannot be read are put aside. Sorted by namespace and name.
pub fn sort<K: DeserializeOwned>(objects: Vec<DynamicObject>, unreadable: &mut Vec<Unreadable>) -> Vec<K> {
    let mut objects = objects;
    objects.sort_by(|a, b| {
        let key = |object: &DynamicObject| (object.metadata.namespace.clone(), object.metadata.name.clone());
        key(a).cmp(&key(b))
    });
    let mut read = Vec::with_capacity(objects.len());
    for object in objects {
        let (kind, metadata) = (object.types.clone(), object.metadata.clone());
        let value = serde_json::to_value(object);
        match value.and_then(serde_json::from_value) {
            Ok(object) => read.push(object),
            Err(error) => unreadable.push(Unreadable {
                kind: kind.map(|types| types.kind).unwrap_or_default(),
                namespace: metadata.namespace,
                name: metadata.name.unwrap_or_default(),
                error: error.to_string(),
            }),
        }
    }
    read
}

/// Operations of a kind, oldest first; those that cannot be read are put aside.
pub fn read_operations(kind: Kind, objects: Vec<DynamicObject>, unreadable: &mut Vec<Unreadable>) -> Vec<Operation> {
    let mut read = Vec::new();
    for object in objects {
        let metadata = object.metadata.clone();
        match Operation::read(kind, object) {
            Ok(operation) => read.push(operation),
            Err(error) => unreadable.push(Unreadable {
                kind: kind.name.to_owned(),
                namespace: metadata.namespace,
                name: metadata.name.unwrap_or_default(),
                error,
            }),
        }
    }
    read.sort_by_key(Operation::created);
    read
}

fn allowed(answer: Result<Vec<DynamicObject>>, unknown: &mut Vec<String>) -> Result<Vec<DynamicObject>> {
    match answer {
        Err(Failure::Forbidden(why)) => {
            unknown.push(why);
            Ok(Vec::new())
        }
        answer => answer,
    }
}

/// The RoutingTable of a namespace.
///
/// # Errors
///
/// Where there is none, with what to do; where it cannot be read, with the field.
pub async fn table(session: &Session, namespace: &str) -> Result<RoutingTable> {
    let resource = ApiResource::erase::<RoutingTable>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(session.client.clone(), namespace, &resource);
    let doing = format!("reading RoutingTable {namespace}/{ROUTING_TABLE}");
    let Some(object) = session.ask_opt(&doing, api.get(ROUTING_TABLE)).await? else {
        return Err(nothing_here(session, namespace, "has no RoutingTable: nothing is owned in it").await);
    };
    let value = serde_json::to_value(object).map_err(Failure::error)?;
    serde_json::from_value(value).map_err(|error| {
        Failure::error(format!(
            "RoutingTable {namespace}/{ROUTING_TABLE} cannot be read: {error}"
        ))
    })
}

/// Why nothing is found in a namespace: it does not exist, or is another one than was meant.
pub async fn nothing_here(session: &Session, namespace: &str, what: &str) -> Failure {
    let namespaces: Api<Namespace> = Api::all(session.client.clone());
    let exists = session
        .ask_opt("reading the namespace", namespaces.get(namespace))
        .await;
    if let Ok(None) = exists {
        return Failure::not_found(format!("there is no namespace {namespace} in {}", session.place()));
    }
    let elsewhere = objects::<RoutingTable>(session, None).await.unwrap_or_default();
    let elsewhere: Vec<_> = elsewhere
        .into_iter()
        .filter_map(|table| table.metadata.namespace)
        .collect();
    let hint = match elsewhere.is_empty() {
        true => "choose another one with -n".to_owned(),
        false => format!("choose one with -n; there are deployments in {}", elsewhere.join(", ")),
    };
    Failure::not_found(format!("namespace {namespace} {what}; {hint}"))
}
