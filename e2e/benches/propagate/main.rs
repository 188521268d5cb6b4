//! Objects from the hub to three clusters, against a client without an operator on the same API servers in the same run:
//! 1,000 at once, one that is changed, and a restart with all of them in place.
//!
//! `cargo bench --workspace --bench propagate -- [rounds=3] [logs=FOLDER]`

mod bare;
mod change;
mod many;
mod restart;

use anyhow::{Context, Result, ensure};
use kube::Client;
use multiactive_e2e::bench::{Arguments, audit::Audit, run, usage};
use multiactive_e2e::processes::find;
use multiactive_e2e::region::Region;
use multiactive_e2e::stage::{Options, Stage};
use multiactive_fleet::cluster::Part;
use multiactive_runtime::kube_client::{Patience, from_file};
use std::process::ExitCode;

/// Requests under way to a cluster at a time: the operator's own limit, and that of the client without one.
pub const AT_ONCE: usize = 16;

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
                let pid = cluster
                    .pid(part)
                    .with_context(|| format!("{} does not run", part.name()))?;
                sum += usage::cpu_seconds(pid)?;
            }
        }
        Ok(sum)
    }
}

async fn measure(arguments: Arguments) -> Result<()> {
    let scene = Scene::up(&arguments).await?;
    let measured = all(&scene, arguments.rounds.unwrap_or(3)).await;
    arguments.keep_logs(&scene.stage)?;
    measured
}

async fn all(scene: &Scene, rounds: usize) -> Result<()> {
    let objects = many::measure(scene, rounds).await?;
    change::measure(scene).await?;
    restart::measure(scene, objects).await
}
