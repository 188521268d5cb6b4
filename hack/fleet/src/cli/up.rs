//! `fleet up`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use multiactive_fleet::state::{Spec, State};
use multiactive_fleet::supervisor;
use multiactive_fleet::tools::Tool;

use super::progress;

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The fleet's name.
    #[arg(long, default_value = "local")]
    name: String,
    /// The clusters, separated by commas; none where empty.
    #[arg(long, value_delimiter = ',', default_value = "east")]
    clusters: Vec<String>,
    /// PostgreSQL servers, separated by commas.
    #[arg(long, value_delimiter = ',')]
    postgres: Vec<String>,
    /// Where the programs lie that pods name as process/<program>; without it clusters have no such node.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Nodes simulated by kwok in each cluster, for pods that are only counted.
    #[arg(long, default_value_t = 0)]
    simulated_nodes: usize,
    /// Make the commits of the PostgreSQL servers durable.
    #[arg(long)]
    fsync: bool,
    /// Wait until everything is ready.
    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true")]
    wait: bool,
}

pub(crate) async fn run(up: Up) -> Result<ExitCode> {
    // Only the folder: a program may be built later, a wrong path is an error now.
    let programs = up
        .programs
        .map(|dir| std::path::absolute(&dir).context("looking for the programs"))
        .transpose()?;
    let spec = Spec {
        name: up.name,
        clusters: up.clusters.into_iter().filter(|name| !name.is_empty()).collect(),
        postgres: up.postgres,
        programs,
        simulated_nodes: up.simulated_nodes,
        fsync: up.fsync,
    };
    if !spec.clusters.is_empty() || !spec.postgres.is_empty() {
        progress::ensure(&needed(&spec)).await?;
    }
    supervisor::up(&std::env::current_exe().context("finding this program")?, &spec)?;
    if !up.wait {
        eprintln!(
            "fleet {} is starting; see: fleet status --name {}",
            spec.name, spec.name
        );
        return Ok(ExitCode::SUCCESS);
    }
    let lines = progress::Lines::new();
    let show = |state: &State| show(&lines, state);
    tokio::select! {
        ready = supervisor::ready(&spec.name, show) => match ready {
            Ok(state) => {
                show(&state);
                summary(&state);
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                supervisor::down(&spec.name).await?;
                Err(error.into())
            }
        },
        _ = tokio::signal::ctrl_c() => {
            eprintln!("interrupted: ending fleet {}", spec.name);
            supervisor::down(&spec.name).await?;
            Ok(ExitCode::from(130))
        }
    }
}

fn needed(spec: &Spec) -> Vec<Tool> {
    let clusters = [
        Tool::KubeApiserver,
        Tool::KubeControllerManager,
        Tool::KubeScheduler,
        Tool::Kubectl,
        Tool::Etcd,
    ];
    let mut tools = if spec.clusters.is_empty() {
        Vec::new()
    } else {
        clusters.to_vec()
    };
    if spec.simulated_nodes > 0 {
        tools.push(Tool::Kwok);
    }
    if !spec.postgres.is_empty() {
        tools.push(Tool::Postgres);
    }
    tools
}

fn show(lines: &progress::Lines, state: &State) {
    for name in &state.spec.clusters {
        let part = format!("cluster {name}");
        match state.clusters.get(name) {
            Some(cluster) => lines.done(&part, &format!("ready at {}", cluster.server)),
            None => lines.say(&part, "starting"),
        }
    }
    for name in &state.spec.postgres {
        let part = format!("postgres {name}");
        match state.postgres.get(name) {
            Some(server) => lines.done(&part, &format!("ready at 127.0.0.1:{}", server.port)),
            None => lines.say(&part, "starting"),
        }
    }
}

fn summary(state: &State) {
    let name = &state.spec.name;
    println!("fleet {name} is ready");
    let here = std::env::current_exe().ok();
    let kubectl = Tool::Kubectl.path().ok().filter(|_| !state.spec.clusters.is_empty());
    let folders = [kubectl, here].into_iter().flatten();
    let folders: Vec<String> = folders
        .filter_map(|program| Some(program.parent()?.display().to_string()))
        .collect();
    println!("  export PATH=\"{}:$PATH\"", folders.join(":"));
    if let Some(first) = state.spec.clusters.first() {
        println!("  export KUBECONFIG=\"{}\"", state.kubeconfig().display());
        println!("  kubectl --context {first} get nodes");
    }
    for (server, record) in &state.postgres {
        println!("  {server}: {}", record.url);
    }
    println!("  fleet status --name {name}, fleet logs --name {name} …, fleet down --name {name}");
}
