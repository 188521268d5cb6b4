//! The agent's program: flags, leader election, probes.

use anyhow::Context;
use clap::Parser;
use multiactive_agent::failpoints::{FAILPOINTS, OF_FAILOVERS};
use multiactive_agent::metrics::Metrics;
use multiactive_agent::routers::RouterHub;
use multiactive_agent::{Agent, Events, Shared, lease};
use multiactive_ledger::Election;
use multiactive_runtime::certs::TlsFiles;
use multiactive_runtime::kube_client::{Patience, own_cluster};
use multiactive_runtime::probes::{self, Readiness};
use multiactive_runtime::{failpoint, logs, pod_path, shutdown};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The hands of the units in one member cluster.
#[derive(Debug, Parser)]
#[command(name = "multiactive-agent", version)]
struct Flags {
    /// The MemberCluster that it runs in.
    #[arg(long, env = "MULTIACTIVE_CLUSTER", required_unless_present = "list_failpoints")]
    cluster: Option<String>,
    /// Its own namespace: its Lease is there, and the way to the hub.
    #[arg(long, env = "MULTIACTIVE_NAMESPACE", default_value = "multiactive-system")]
    namespace: String,
    /// The namespaces of the units that it may see, comma-separated; all where empty.
    #[arg(long, env = "MULTIACTIVE_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// The folder of ca.crt, tls.crt and tls.key.
    #[arg(long, env = "MULTIACTIVE_TLS_DIR", default_value = "/etc/multiactive/tls")]
    tls_dir: PathBuf,
    /// Where routers connect.
    #[arg(long, env = "MULTIACTIVE_LISTEN_ROUTERS", default_value = "0.0.0.0:9443")]
    listen_routers: SocketAddr,
    /// Where probes and metrics are served.
    #[arg(long, env = "MULTIACTIVE_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Its name as holder of the Lease, the pod's: a container that starts again leads on at once.
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// Prints the failpoints for tests and ends.
    #[arg(long, hide = true)]
    list_failpoints: bool,
}

/// The name of the Lease.
const LEASE: &str = "multiactive-agent";

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    if flags.list_failpoints {
        for name in [FAILPOINTS, OF_FAILOVERS].concat() {
            println!("{name}");
        }
        return Ok(());
    }
    failpoint::check(&[FAILPOINTS, OF_FAILOVERS].concat())?;
    logs::init_with(
        flags
            .cluster
            .iter()
            .map(|cluster| ("member", cluster.clone()))
            .collect(),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Its verbs nest deep, and unoptimised their frames are large; what a stack does not use it does not take.
        .thread_stack_size(8 << 20)
        .enable_all()
        .build()?;
    runtime.block_on(run(flags))
}

async fn run(flags: Flags) -> anyhow::Result<()> {
    let stop = shutdown::token()?;
    let cluster = flags.cluster.context("--cluster is missing")?;
    let identity = flags.identity.unwrap_or_else(identity);
    let requests = own_cluster(Patience::REQUESTS).await?;
    let watches = own_cluster(Patience::WATCHES).await?;
    let tls_dir = pod_path(&flags.tls_dir);
    let tls = TlsFiles::open(&tls_dir).with_context(|| format!("certificates in {}", tls_dir.display()))?;

    let mut registry = Registry::default();
    let metrics = Metrics::registered(&mut registry);
    let readiness = Readiness::not_ready("waiting for the lease");
    let probes = TcpListener::bind(flags.listen)
        .await
        .with_context(|| format!("listening on {}", flags.listen))?;
    let probing = probes::serve_on(probes, Arc::new(registry), readiness.clone(), None, stop.clone());
    let probing = tokio::spawn(probing);

    let (hub, leading) = (watch::Sender::default(), watch::Sender::new(false));
    let leases = lease::Shared {
        watches: watches.clone(),
        hub: hub.subscribe(),
        leading: leading.subscribe(),
        boards: lease::Boards::default(),
        metrics: metrics.clone(),
    };
    let shared = Shared {
        leases: leases.boards.clone(),
        events: Events::new(requests.clone(), &identity),
        requests: requests.clone(),
        watches,
        routers: RouterHub::default(),
        metrics: metrics.clone(),
    };
    let agent = Agent {
        cluster,
        namespaces: flags.namespaces.into_iter().filter(|name| !name.is_empty()).collect(),
        tls,
        shared,
        leases,
        readiness: readiness.clone(),
    };
    // No election stands between a unit and its lease: whoever leads, every replica keeps it.
    let way = lease::watch_hub(agent.leases.watches.clone(), flags.namespace.clone(), hub);
    let way = AbortOnDropHandle::new(tokio::spawn(way));
    let leases = tokio::spawn({
        let (agent, stop) = (agent.clone(), stop.clone());
        // However it ends, the program must not go on without it.
        let ends = stop.clone().drop_guard();
        async move {
            agent.keep_leases(stop).await;
            drop(ends);
        }
    });
    // Units must go on while the API server is away: only another holder ends the lead.
    let election = Election::new(requests, &flags.namespace, LEASE, &identity).leading_on_when_silent();
    // A standby is ready: it does all that a standby has to do.
    readiness.set_ready();
    while !stop.is_cancelled() {
        // What is remembered of routers belongs to one lead.
        let agent = Agent {
            shared: Shared {
                routers: RouterHub::default(),
                ..agent.shared.clone()
            },
            ..agent.clone()
        };
        let bound = TcpListener::bind(flags.listen_routers);
        let ended = election.lead(&stop, async |token| {
            metrics.set_leading(true);
            leading.send_replace(true);
            match bound.await {
                Ok(listener) => agent.run(listener, token).await,
                Err(error) => {
                    tracing::error!(%error, listen = %flags.listen_routers, "cannot listen for routers");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        });
        let ended = ended.await;
        metrics.set_leading(false);
        leading.send_replace(false);
        tracing::info!(?ended, "not leading any more");
    }
    leases.await?;
    drop(way);
    probing.await?;
    Ok(())
}

/// The host's name and the process: unique among those that run.
fn identity() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}
