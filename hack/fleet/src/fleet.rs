//! Several clusters and PostgreSQL servers, started side by side and ended together.

use std::collections::BTreeMap;
use std::path::Path;

use futures::future::try_join_all;
use serde_json::Value;

use crate::cluster::{self, Cluster};
use crate::postgres::{self, Postgres};
use crate::state::{Spec, check_name};
use crate::{Error, Result, kubeconfig};

/// A fleet in this process. Dropping it ends all of it.
#[derive(Debug)]
pub struct Fleet {
    clusters: BTreeMap<String, Cluster>,
    postgres: BTreeMap<String, Postgres>,
}

/// One part of a fleet that became ready.
#[derive(Debug)]
pub enum Ready<'a> {
    /// A cluster.
    Cluster(&'a Cluster),
    /// A PostgreSQL server, with its name.
    Postgres(&'a str, &'a Postgres),
}

impl Fleet {
    /// Starts all parts at once, and tells `progress` of each that is ready. Files go below `dir`, or to temporary
    /// folders.
    ///
    /// # Errors
    ///
    /// The first part's that could not be started; the others are ended then.
    pub async fn start(spec: &Spec, dir: Option<&Path>, progress: &(dyn Fn(Ready<'_>) + Sync)) -> Result<Fleet> {
        for name in spec.clusters.iter().chain(&spec.postgres) {
            check_name(name)?;
        }
        for names in [&spec.clusters, &spec.postgres] {
            if let Some(twice) = names
                .iter()
                .find(|name| names.iter().filter(|other| other == name).count() > 1)
            {
                return Err(Error::Refused(format!("{twice} is named twice")));
            }
        }
        let clusters = try_join_all(spec.clusters.iter().map(async |name| {
            let options = cluster::Options {
                dir: dir.map(|dir| dir.join("clusters").join(name)),
                programs: spec.programs.clone(),
                simulated_nodes: spec.simulated_nodes,
                ..cluster::Options::new(name)
            };
            let started = Cluster::start(options).await?;
            progress(Ready::Cluster(&started));
            Ok::<_, Error>((name.clone(), started))
        }));
        let servers = try_join_all(spec.postgres.iter().map(async |name| {
            let options = postgres::Options {
                dir: dir.map(|dir| dir.join("postgres").join(name)),
                fsync: spec.fsync,
                ..postgres::Options::default()
            };
            let started = Postgres::start(options).await?;
            progress(Ready::Postgres(name, &started));
            Ok::<_, Error>((name.clone(), started))
        }));
        let (clusters, postgres) = futures::try_join!(clusters, servers)?;
        Ok(Fleet {
            clusters: clusters.into_iter().collect(),
            postgres: postgres.into_iter().collect(),
        })
    }

    /// A cluster by name.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.get(name)
    }

    /// A PostgreSQL server by name.
    pub fn postgres(&self, name: &str) -> Option<&Postgres> {
        self.postgres.get(name)
    }

    /// All clusters, by name.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.values()
    }

    /// One kubeconfig with a context for each cluster.
    pub fn kubeconfig(&self) -> Value {
        let all: Vec<Value> = self
            .clusters
            .values()
            .map(|cluster| cluster.kubeconfig().clone())
            .collect();
        kubeconfig::merge(&all)
    }

    /// Ends all of it, side by side.
    pub async fn stop(&self) {
        let clusters = futures::future::join_all(self.clusters.values().map(Cluster::stop));
        let servers = futures::future::join_all(self.postgres.values().map(Postgres::stop));
        futures::join!(clusters, servers);
    }
}
