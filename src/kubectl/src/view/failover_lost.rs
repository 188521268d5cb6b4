//! Which units are meant: by name, or all of a cluster or of a Region.

use super::failover_shapes::Lost;
use crate::fail::{Failure, Result};
use crate::fetch::World;
use kube::ResourceExt;
use multiactive_api::Unit;
use std::collections::BTreeSet;

/// Which units are lost.
#[derive(Clone, Debug)]
pub enum Which {
    /// These, of one namespace.
    Units(Vec<String>),
    /// All in the clusters of a Region.
    Region(String),
    /// All in a MemberCluster.
    Cluster(String),
}

/// The units that are meant, of a namespace or of all.
///
/// # Errors
///
/// Where there is none, with what there is.
pub fn lost(world: &World, which: &Which, namespace: Option<&str>) -> Result<Vec<Lost>> {
    let known = || known(world);
    let place = namespace.map_or_else(
        || "any namespace".to_owned(),
        |namespace| format!("namespace {namespace}"),
    );
    match which {
        Which::Units(names) => {
            let here = namespace.unwrap_or_default();
            let all: Vec<Lost> = known().filter(|lost| lost.namespace == here).collect();
            if let Some(missing) = names.iter().find(|name| !all.iter().any(|lost| lost.unit == **name)) {
                let there: Vec<_> = all.iter().map(|lost| lost.unit.as_str()).collect();
                return Err(Failure::not_found(format!(
                    "there is no Unit {missing} in {place}; there are: {}",
                    there.join(", ")
                )));
            }
            Ok(all.into_iter().filter(|lost| names.contains(&lost.unit)).collect())
        }
        Which::Region(region) => {
            let clusters = clusters_of(world, region)?;
            let lost = in_clusters(world, &clusters);
            some(lost, || {
                format!(
                    "no Unit of {place} is in Region {region} (MemberClusters: {})",
                    clusters.join(", ")
                )
            })
        }
        Which::Cluster(name) => {
            let lost = in_clusters(world, std::slice::from_ref(name));
            let there: Vec<_> = world.clusters.iter().map(ResourceExt::name_any).collect();
            some(lost, || match there.contains(name) {
                true => format!("no Unit of {place} is in MemberCluster {name}"),
                false => format!("there is no MemberCluster {name}; there are: {}", there.join(", ")),
            })
        }
    }
}

/// Every unit that is declared, and those that only the record still knows.
fn known(world: &World) -> impl Iterator<Item = Lost> {
    let declared = world.units.iter().map(lost_of);
    let recorded = world.tables.iter().flat_map(|table| {
        let namespace = table.namespace().unwrap_or_default();
        let units = table.spec.units.iter();
        units.map(move |unit| Lost {
            namespace: namespace.clone(),
            unit: unit.name.clone(),
        })
    });
    let all: BTreeSet<Lost> = declared.chain(recorded).collect();
    all.into_iter()
}

fn lost_of(unit: &Unit) -> Lost {
    Lost {
        namespace: unit.namespace().unwrap_or_default(),
        unit: unit.name_any(),
    }
}

fn in_clusters(world: &World, clusters: &[String]) -> Vec<Lost> {
    let units = world.units.iter().filter(|unit| clusters.contains(&unit.spec.cluster));
    units.map(lost_of).collect()
}

fn some(lost: Vec<Lost>, why: impl FnOnce() -> String) -> Result<Vec<Lost>> {
    match lost.is_empty() {
        true => Err(Failure::not_found(why())),
        false => Ok(lost),
    }
}

fn clusters_of(world: &World, region: &str) -> Result<Vec<String>> {
    let clusters = world.clusters.iter().filter(|cluster| cluster.spec.region == region);
    let clusters: Vec<_> = clusters.map(ResourceExt::name_any).collect();
    if !clusters.is_empty() {
        return Ok(clusters);
    }
    if world.clusters.is_empty() && !world.unknown.is_empty() {
        return Err(Failure::error(format!(
            "which clusters are in Region {region} is not known: {}. Name the units, or --cluster",
            world.unknown.join("; ")
        )));
    }
    let there: Vec<_> = world.regions.iter().map(ResourceExt::name_any).collect();
    Err(Failure::not_found(match there.iter().any(|name| name == region) {
        true => format!("no MemberCluster is in Region {region}"),
        false => format!("there is no Region {region}; there are: {}", there.join(", ")),
    }))
}
