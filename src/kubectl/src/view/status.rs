//! What `status` shows: a tree of what runs where, who owns what, what moves, and what is wrong.

use super::problems::{Problem, of, problems};
use super::shapes::{ClusterView, LinkView, RangeView, RegionView, StatusView, TableView, UnitView, WriterView};
use super::{Readiness, object};
use crate::fetch::World;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{DataStore, MemberCluster, ReplicationLink, ShardRange, Unit};
use multiactive_core::epoch::Epoch;
use std::collections::BTreeSet;

/// What is shown of a world; of units and ranges those that are named, all where nothing is.
pub fn status(world: &World, names: &[String], now: Timestamp) -> StatusView {
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let units: Vec<&Unit> = world.units.iter().filter(|unit| wanted(&unit.name_any())).collect();
    let ranges = world.ranges.iter().filter(|range| wanted(&range.name_any()));
    let ranges: Vec<_> = ranges.map(range_view).collect();
    let writers = world.stores.iter().filter_map(writer_view);
    let operations = world.operations.iter().filter(|op| op.runs() && !op.is_plan());
    let links = world
        .links
        .iter()
        .map(link_view)
        .filter(|link| !link.readiness.is_ready());
    let links = links.filter(|link| wanted(&link.from) || wanted(&link.to));
    let mut problems = problems(world);
    if !names.is_empty() {
        keep_about(&mut problems, names, world);
    }
    StatusView {
        healthy: problems.is_empty(),
        problems,
        unknown: world.unknown.clone(),
        regions: regions(world, &units, names.is_empty()),
        ranges,
        writers: writers.filter(|view| wanted(&view.store)).collect(),
        operations: operations.map(|operation| operation.view(now)).collect(),
        links: links.collect(),
        tables: world.tables.iter().map(table_view).collect(),
    }
}

/// The problems of what is named, and what those follow from.
fn keep_about(problems: &mut Vec<Problem>, names: &[String], world: &World) {
    let named = |problem: &Problem| names.iter().any(|name| problem.object.ends_with(&format!("/{name}")));
    let mut kept: BTreeSet<String> = problems
        .iter()
        .filter(|problem| named(problem))
        .map(|p| p.object.clone())
        .collect();
    let units = world.units.iter().filter(|unit| names.contains(&unit.name_any()));
    kept.extend(units.map(|unit| object("MemberCluster", None, &unit.spec.cluster)));
    loop {
        let causes = problems.iter().filter(|problem| kept.contains(&problem.object));
        let causes: Vec<_> = causes.filter_map(|problem| problem.because.clone()).collect();
        let before = kept.len();
        kept.extend(causes);
        if kept.len() == before {
            break;
        }
    }
    problems.retain(|problem| kept.contains(&problem.object));
}

/// The names that were asked for and are nothing.
pub fn missing(world: &World, names: &[String]) -> Vec<String> {
    let known: BTreeSet<_> = world.units.iter().map(ResourceExt::name_any).collect();
    let ranges: BTreeSet<_> = world.ranges.iter().map(ResourceExt::name_any).collect();
    let writers = world.stores.iter().filter(|store| store.spec.single_writer.is_some());
    let writers: BTreeSet<_> = writers.map(ResourceExt::name_any).collect();
    let all = [known, ranges, writers];
    let unknown = |name: &&String| !all.iter().any(|known| known.contains(*name));
    names.iter().filter(unknown).cloned().collect()
}

fn regions(world: &World, units: &[&Unit], all: bool) -> Vec<RegionView> {
    let mut views: Vec<_> = world
        .regions
        .iter()
        .map(|region| RegionView {
            name: Some(region.name_any()),
            display_name: region.spec.display_name.clone(),
            readiness: of(region.status.as_ref().map(|status| &status.conditions)),
            clusters: Vec::new(),
        })
        .collect();
    let mut clusters: Vec<_> = world
        .clusters
        .iter()
        .map(|cluster| (cluster.spec.region.clone(), cluster_view(cluster)))
        .collect();
    let known: BTreeSet<_> = world.clusters.iter().map(ResourceExt::name_any).collect();
    let lost: BTreeSet<_> = units
        .iter()
        .map(|unit| &unit.spec.cluster)
        .filter(|name| !known.contains(*name))
        .collect();
    for name in lost {
        clusters.push((String::new(), unknown_cluster(name)));
    }
    for (region, mut cluster) in clusters {
        let mine = units.iter().filter(|unit| unit.spec.cluster == cluster.name);
        cluster.units = mine.map(|unit| unit_view(world, unit)).collect();
        if !all && cluster.units.is_empty() {
            continue;
        }
        match views
            .iter_mut()
            .find(|view| view.name.as_deref() == Some(region.as_str()))
        {
            Some(view) => view.clusters.push(cluster),
            None => {
                let name = (!region.is_empty()).then_some(region);
                let readiness = Readiness::of(&[]);
                views.push(RegionView {
                    name,
                    display_name: None,
                    readiness,
                    clusters: vec![cluster],
                });
            }
        }
    }
    views.retain(|view| all || !view.clusters.is_empty());
    views
}

fn cluster_view(cluster: &MemberCluster) -> ClusterView {
    let status = cluster.status.as_ref();
    let time = |time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| time.0.to_string();
    ClusterView {
        name: cluster.name_any(),
        hub: status.is_some_and(|status| status.hub),
        version: status.and_then(|status| status.version.clone()),
        last_seen: status.and_then(|status| status.last_seen.as_ref()).map(time),
        credentials_until: status.and_then(|status| status.credentials_until.as_ref()).map(time),
        readiness: of(status.map(|status| &status.conditions)),
        units: Vec::new(),
    }
}

/// A cluster that units name and that may not be read, or does not exist.
fn unknown_cluster(name: &str) -> ClusterView {
    ClusterView {
        name: name.to_owned(),
        hub: false,
        version: None,
        last_seen: None,
        credentials_until: None,
        readiness: Readiness {
            ready: "Unknown".to_owned(),
            reason: "NotKnown".to_owned(),
            message: "there is no MemberCluster of this name, or you may not read it".to_owned(),
            stalled: false,
        },
        units: Vec::new(),
    }
}

fn unit_view(world: &World, unit: &Unit) -> UnitView {
    let status = unit.status.as_ref();
    let applied = status.and_then(|status| status.applied.clone());
    let table = world.tables.iter().find(|table| table.namespace() == unit.namespace());
    let behind = applied.as_ref().zip(table).and_then(|(applied, table)| {
        let applied: Epoch = applied.parse().ok()?;
        let term = u32::try_from(table.spec.term).ok()?;
        Some(applied < Epoch::new(term, u64::try_from(table.spec.epoch).ok()?))
    });
    UnitView {
        namespace: unit.namespace().unwrap_or_default(),
        name: unit.name_any(),
        role: crate::text::word(&unit.spec.role),
        slots: status.map(|status| status.slots),
        applied,
        behind,
        lease: status.and_then(|status| status.lease.as_ref()?.state),
        lease_mode: status.and_then(|status| Some(status.lease.as_ref()?.mode)),
        routers: status.map(|status| status.routers),
        cordoned: unit.spec.cordoned,
        readiness: of(status.map(|status| &status.conditions)),
    }
}

fn range_view(range: &ShardRange) -> RangeView {
    let status = range.status.as_ref();
    let declared = match (range.spec.first_slot, range.spec.last_slot) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    RangeView {
        namespace: range.namespace().unwrap_or_default(),
        name: range.name_any(),
        keyspace: range.spec.keyspace.clone(),
        slots: declared,
        home: range.spec.home_unit.clone(),
        active: status.and_then(|status| status.active.clone()),
        state: status.and_then(|status| status.state.clone()),
        epoch: status.and_then(|status| status.epoch),
        away: status.is_some_and(|status| status.away),
        readiness: of(status.map(|status| &status.conditions)),
    }
}

fn writer_view(store: &DataStore) -> Option<WriterView> {
    let declared = store.spec.single_writer.as_ref()?;
    let status = store.status.as_ref();
    let writer = status.and_then(|status| status.writer.as_ref());
    Some(WriterView {
        namespace: store.namespace().unwrap_or_default(),
        store: store.name_any(),
        home: declared.home_unit.clone(),
        active: writer.and_then(|writer| writer.unit.clone()),
        state: writer.map(|writer| writer.state.clone()),
        epoch: writer.map(|writer| writer.epoch.clone()),
        away: writer.is_some_and(|writer| writer.away),
        readiness: of(status.map(|status| &status.conditions)),
    })
}

fn link_view(link: &ReplicationLink) -> LinkView {
    let status = link.status.as_ref();
    LinkView {
        namespace: link.namespace().unwrap_or_default(),
        name: link.name_any(),
        store: link.spec.store.clone(),
        from: link.spec.from.clone(),
        to: link.spec.to.clone(),
        state: status.and_then(|status| status.state.clone()),
        lag: status.and_then(|status| status.lag.clone()),
        readiness: of(status.map(|status| &status.conditions)),
    }
}

fn table_view(table: &multiactive_api::RoutingTable) -> TableView {
    TableView {
        namespace: table.namespace().unwrap_or_default(),
        term: table.spec.term,
        epoch: table.spec.epoch,
    }
}
