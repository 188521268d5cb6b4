//! A table of 10,000 ranges: how long until all of them are served, and how long from the commit of one changed range to
//! the last router, each against a client without an operator on the same API servers in the same run.
//!
//! `cargo bench --workspace --bench ranges -- [rounds=60] [logs=FOLDER]`
//!
//! The ranges are those of a Keyspace without a DataStore, beside the shop's own: what is measured is the way of the
//! table, not a database.

mod bare;
mod change;
mod many;

use anyhow::{Context, Result, ensure};
use kube::{Api, Client};
use multiactive_api::{ROUTING_TABLE, RoutingTable};
use multiactive_e2e::bench::{Arguments, audit::Audit, run, usage};
use multiactive_e2e::processes::find;
use multiactive_e2e::region::{NAMESPACE, Region};
use multiactive_e2e::stage::{Options, Stage};
use multiactive_fleet::cluster::Part;
use multiactive_runtime::kube_client::{Patience, from_file};
use std::process::ExitCode;

/// Requests under way to a cluster at a time, of whoever creates objects here.
pub const AT_ONCE: usize = 16;
/// How many ranges there are,
pub const RANGES: usize = 10_000;
/// of a keyspace with as many slots as one may have.
pub const SLOTS: usize = 16_384;
/// The keyspace, which is also the prefix of its paths.
pub const KEYSPACE: &str = "places";
/// How many changes are measured.
const CHANGES: usize = 60;

fn main() -> ExitCode {
    run(measure)
}

/// The shop on its fleet, with clients that send small messages at once, as the operator's do.
pub struct Scene {
    stage: Stage,
    /// Of each cluster, the hub first.
    clients: Vec<Client>,
}

impl Scene {
    async fn up(arguments: &Arguments) -> Result<Self> {
        let options = Options {
            logs: arguments.filter(),
            audit: true,
            fsync: true,
            ..Options::default()
        };
        let stage = Stage::up_with(options).await?;
        let mut clients = Vec::new();
        for region in &stage.world.regions {
            clients.push(from_file(&region.kubeconfig, Patience::WATCHES).await?);
        }
        Ok(Self { stage, clients })
    }

    fn hub(&self) -> Result<&Client> {
        self.clients.first().context("no hub")
    }

    fn regions(&self) -> &[Region] {
        &self.stage.world.regions
    }

    fn audit(&self) -> Result<&Audit> {
        self.stage.audit.as_ref().context("nothing is audited")
    }

    /// The units, in the order of the regions.
    fn units(&self) -> Vec<String> {
        self.regions().iter().map(Region::unit).collect()
    }

    async fn table(&self) -> Result<RoutingTable> {
        let api: Api<RoutingTable> = Api::namespaced(self.hub()?.clone(), NAMESPACE);
        api.get(ROUTING_TABLE).await.context("reading the routing table")
    }

    /// The operator's process.
    fn operator(&self) -> Result<i32> {
        let hub = self.regions().first().context("no hub")?;
        let found = find("multiactive-operator", &hub.address.to_string());
        ensure!(found.len() == 1, "expected one operator, found {found:?}");
        Ok(found[0])
    }

    /// CPU seconds of all API servers and their stores so far.
    fn servers(&self) -> Result<f64> {
        let mut sum = 0.0;
        for cluster in &self.stage.world.clusters {
            for part in [Part::ApiServer, Part::Etcd] {
                let pid = cluster.pid(part);
                let pid = pid.with_context(|| format!("{} does not run", part.name()))?;
                sum += usage::cpu_seconds(pid)?;
            }
        }
        Ok(sum)
    }
}

async fn measure(arguments: Arguments) -> Result<()> {
    let scene = Scene::up(&arguments).await?;
    let measured = all(&scene, arguments.rounds.unwrap_or(CHANGES)).await;
    arguments.keep_logs(&scene.stage)?;
    measured
}

async fn all(scene: &Scene, changes: usize) -> Result<()> {
    bare::define(scene).await?;
    many::measure(scene).await?;
    change::measure(scene, changes).await
}
