//! What is wrong, causes before what follows from them: a cluster that is gone makes a unit, its links, its ranges and its
//! region not ready, and one line is enough to say so.

use super::{Readiness, object};
use crate::fetch::World;
use kube::ResourceExt;
use multiactive_api::{DataStore, ReplicationLink, ShardRange, Unit};
use multiactive_core::table::RoutingTable;
use serde::Serialize;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The object, such as `Unit shop/east-1`.
    pub object: String,
    /// One word.
    pub reason: String,
    /// What is true and what to do.
    pub message: String,
    /// The object that it follows from; absent where it is a first cause.
    pub because: Option<String>,
}

impl Problem {
    fn new(object: String, readiness: Readiness) -> Self {
        Self {
            object,
            reason: readiness.reason,
            message: readiness.message,
            because: None,
        }
    }
}

/// Every problem, first causes first, else in the order in which one follows from the other.
pub fn problems(world: &World) -> Vec<Problem> {
    let mut found = Vec::new();
    unreadable(world, &mut found);
    found.extend(super::gone::gone(world));
    for cluster in &world.clusters {
        let readiness = of(cluster.status.as_ref().map(|status| &status.conditions));
        push(
            &mut found,
            object("MemberCluster", None, &cluster.name_any()),
            readiness,
            None,
        );
    }
    for store in &world.stores {
        let because = store_because(world, store);
        let readiness = of(store.status.as_ref().map(|status| &status.conditions));
        let moving = readiness.reason == "Opening" && works(world, store.namespace().as_deref()).is_some();
        if !moving {
            push(&mut found, name_of("DataStore", store), readiness, because);
        }
    }
    for unit in &world.units {
        let because = unit_because(world, unit);
        let readiness = of(unit.status.as_ref().map(|status| &status.conditions));
        push(&mut found, name_of("Unit", unit), readiness, because);
    }
    for link in &world.links {
        let because = link_because(world, link);
        let readiness = of(link.status.as_ref().map(|status| &status.conditions));
        push(&mut found, name_of("ReplicationLink", link), readiness, because);
    }
    for operation in world
        .operations
        .iter()
        .filter(|operation| operation.runs() && !operation.is_plan())
    {
        let readiness = Readiness::of(&operation.status.conditions);
        if readiness.stalled {
            let namespace = operation.metadata.namespace.as_deref();
            push(
                &mut found,
                object(operation.kind.name, namespace, operation.name()),
                readiness,
                None,
            );
        }
    }
    keyspaces_and_ranges(world, &mut found);
    for workload in &world.workloads {
        let readiness = of(workload.status.as_ref().map(|status| &status.conditions));
        push(&mut found, name_of("UnitWorkload", workload), readiness, None);
    }
    for region in &world.regions {
        let mut away = world.clusters.iter().filter(|cluster| {
            cluster.spec.region == region.name_any() && !of(cluster.status.as_ref().map(|s| &s.conditions)).is_ready()
        });
        let because = away
            .next()
            .map(|cluster| object("MemberCluster", None, &cluster.name_any()));
        let readiness = of(region.status.as_ref().map(|status| &status.conditions));
        push(
            &mut found,
            object("Region", None, &region.name_any()),
            readiness,
            because,
        );
    }
    // Stable: within each half the order stays.
    found.sort_by_key(|problem| problem.because.is_some());
    found
}

fn unreadable(world: &World, found: &mut Vec<Problem>) {
    for lost in &world.unreadable {
        found.push(Problem {
            object: object(&lost.kind, lost.namespace.as_deref(), &lost.name),
            reason: "Unreadable".to_owned(),
            message: format!("it cannot be read as this version's kind: {}", lost.error),
            because: None,
        });
    }
    for table in &world.tables {
        if let Err(error) = RoutingTable::try_from(&table.spec) {
            found.push(Problem {
                object: name_of("RoutingTable", table),
                reason: "Unreadable".to_owned(),
                message: format!("{error}; routers go on with the last one that they could read"),
                because: None,
            });
        }
    }
}

/// Ranges last, for they are many and follow from everything; a Keyspace says how many of them are served.
fn keyspaces_and_ranges(world: &World, found: &mut Vec<Problem>) {
    for keyspace in &world.keyspaces {
        let readiness = of(keyspace.status.as_ref().map(|status| &status.conditions));
        let moving = readiness.reason == "Opening" && works(world, keyspace.namespace().as_deref()).is_some();
        let unready = match readiness.reason.as_str() {
            "OwnerNotReady" => {
                let mut units = world
                    .units
                    .iter()
                    .filter(|unit| unit.namespace() == keyspace.namespace());
                units.find(|unit| !unit_ready(unit) && readiness.message.contains(&unit.name_any()))
            }
            _ => None,
        };
        let because = unready.map(|unit| name_of("Unit", unit));
        if !moving {
            push(found, name_of("Keyspace", keyspace), readiness, because);
        }
    }
    for range in &world.ranges {
        let readiness = of(range.status.as_ref().map(|status| &status.conditions));
        let moving = readiness.reason == "Moving" && works(world, range.namespace().as_deref()).is_some();
        let because = range_because(world, range, &readiness);
        if !moving {
            push(found, name_of("ShardRange", range), readiness, because);
        }
    }
}

fn push(found: &mut Vec<Problem>, object: String, readiness: Readiness, because: Option<String>) {
    if !readiness.is_ready() {
        let problem = Problem::new(object, readiness);
        found.push(Problem { because, ..problem });
    }
}

/// The readiness of an object whose status may be missing.
pub fn of(conditions: Option<&Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>>) -> Readiness {
    Readiness::of(conditions.map(Vec::as_slice).unwrap_or_default())
}

fn name_of(kind: &str, resource: &impl ResourceExt) -> String {
    object(kind, resource.namespace().as_deref(), &resource.name_any())
}

fn unit_ready(unit: &Unit) -> bool {
    of(unit.status.as_ref().map(|status| &status.conditions)).is_ready()
}

/// The operation that is at work in a namespace, and is not stuck.
fn works<'a>(world: &'a World, namespace: Option<&str>) -> Option<&'a crate::operations::Operation> {
    world.operations.iter().find(|operation| {
        let here = operation.metadata.namespace.as_deref() == namespace;
        let moves = operation.kind.moves && !operation.is_plan();
        here && moves && operation.runs() && !Readiness::of(&operation.status.conditions).stalled
    })
}

/// The cluster of a unit, where it is not ready.
fn unready_cluster(world: &World, unit: &Unit) -> Option<String> {
    let mut clusters = world
        .clusters
        .iter()
        .filter(|cluster| cluster.name_any() == unit.spec.cluster);
    let unready = clusters.find(|cluster| !of(cluster.status.as_ref().map(|status| &status.conditions)).is_ready());
    unready.map(|cluster| object("MemberCluster", None, &cluster.name_any()))
}

fn unit_named<'a>(world: &'a World, namespace: Option<&str>, name: &str) -> Option<&'a Unit> {
    let mut units = world.units.iter();
    units.find(|unit| unit.name_any() == name && unit.namespace().as_deref() == namespace)
}

/// A store is not ready because of clusters only where each of its members that is not ready is in one of them.
fn store_because(world: &World, store: &DataStore) -> Option<String> {
    let members = store.status.iter().flat_map(|status| &status.members);
    let unready: Vec<_> = members.filter(|member| member.state != "Ready").collect();
    let clusters = unready.iter().map(|member| {
        let unit = unit_named(world, store.namespace().as_deref(), &member.unit)?;
        unready_cluster(world, unit)
    });
    let clusters: Option<Vec<_>> = clusters.collect();
    clusters?.into_iter().next()
}

fn unit_because(world: &World, unit: &Unit) -> Option<String> {
    unready_cluster(world, unit).or_else(|| {
        let reason = of(unit.status.as_ref().map(|status| &status.conditions)).reason;
        let mut stores = world
            .stores
            .iter()
            .filter(|store| store.namespace() == unit.namespace());
        let store = stores.find(|store| {
            let members = store.status.iter().flat_map(|status| &status.members);
            let mut mine = members.filter(|member| member.unit == unit.name_any());
            let ready = of(store.status.as_ref().map(|status| &status.conditions)).is_ready();
            !ready && mine.any(|member| member.state != "Ready")
        });
        store
            .filter(|_| reason == "StoreNotReady")
            .map(|store| name_of("DataStore", store))
    })
}

fn link_because(world: &World, link: &ReplicationLink) -> Option<String> {
    let namespace = link.namespace();
    [&link.spec.to, &link.spec.from].into_iter().find_map(|name| {
        let unit = unit_named(world, namespace.as_deref(), name)?;
        unready_cluster(world, unit).or_else(|| (!unit_ready(unit)).then(|| name_of("Unit", unit)))
    })
}

fn range_because(world: &World, range: &ShardRange, readiness: &Readiness) -> Option<String> {
    let namespace = range.namespace();
    let keyspace = world.keyspaces.iter().find(|keyspace| {
        keyspace.name_any() == range.spec.keyspace
            && keyspace.namespace() == namespace
            && !of(keyspace.status.as_ref().map(|status| &status.conditions)).is_ready()
    });
    match readiness.reason.as_str() {
        "OwnerNotReady" => {
            let named = world
                .units
                .iter()
                .filter(|unit| unit.namespace() == namespace && !unit_ready(unit));
            let mut said = named.filter(|unit| readiness.message.contains(&unit.name_any()));
            said.next().map(|unit| name_of("Unit", unit))
        }
        "SlotsWithoutOwner" => keyspace.map(|keyspace| name_of("Keyspace", keyspace)),
        _ => None,
    }
}
