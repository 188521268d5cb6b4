//! The operator's program: flags, logs, probes; everything else is in the library.

use anyhow::Context as _;
use clap::Parser;
use multiactive_ledger::Ended;
use multiactive_operator::failpoints::{FAILPOINTS, OF_FAILOVERS};
use multiactive_operator::leases::HubAddress;
use multiactive_operator::metrics::Metrics;
use multiactive_runtime::kube_client::{Patience, own_address, own_cluster};
use multiactive_runtime::probes::{self, Readiness};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

/// Observes the hub's objects, records ownership, runs promotions and writes to the member clusters.
///
/// The API server is that of $KUBECONFIG, else of the pod's ServiceAccount. RUST_LOG filters the logs,
/// MULTIACTIVE_LOG_FORMAT is text or json.
#[derive(Debug, Parser)]
#[command(name = "multiactive-operator", version)]
struct Arguments {
    /// The operator's own namespace in the hub: of its lease, its CA and the members' kubeconfig Secrets.
    #[arg(long, env = "MULTIACTIVE_NAMESPACE", default_value = "multiactive-system")]
    namespace: String,

    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "MULTIACTIVE_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// The URL at which the member clusters reach the hub's API server, such as https://hub.example:6443: their agents renew
    /// write leases there. That of $KUBECONFIG where there is one; without any there are no leases in the hub.
    #[arg(long, env = "MULTIACTIVE_HUB_SERVER")]
    hub_server: Option<String>,

    /// The name under which this process holds the lease, unique among those that run; its pod's name by default.
    #[arg(long, env = "MULTIACTIVE_IDENTITY")]
    identity: Option<String>,

    /// Print the places at which MULTIACTIVE_FAILPOINT can end the process.
    #[arg(long, hide = true)]
    list_failpoints: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list_failpoints {
        [FAILPOINTS, OF_FAILOVERS]
            .concat()
            .iter()
            .for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    multiactive_runtime::logs::init();
    multiactive_runtime::failpoint::check(&[FAILPOINTS, OF_FAILOVERS].concat())?;
    let shutdown = multiactive_runtime::shutdown::token().context("catching signals")?;

    let metrics = Metrics::default();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let readiness = Readiness::not_ready("reading the hub's objects");
    let listener = tokio::net::TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("listening on {}", arguments.listen))?;
    let served = probes::serve_on(
        listener,
        Arc::new(registry),
        readiness.clone(),
        None,
        shutdown.child_token(),
    );
    let server = tokio::spawn(served);

    let client = own_cluster(Patience::WATCHES).await.context("connecting to the hub")?;
    let identity = arguments.identity.unwrap_or_else(identity);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        identity,
        namespace = arguments.namespace,
        "starting"
    );
    let (config, known_outside) = own_address().await.context("finding the hub's address")?;
    let given = arguments.hub_server.filter(|server| !server.is_empty());
    let reached = given.or_else(|| known_outside.then(|| config.cluster_url.to_string()));
    if reached.is_none() {
        tracing::warn!("--hub-server is not given: agents of other clusters keep no write leases in this hub");
    }
    let address = reached.map(|server| HubAddress::new(server, &config));
    let context = multiactive_operator::Context::new(client, arguments.namespace, identity, metrics);
    let context = context.with_hub_address(address);
    let ended = multiactive_operator::run(Arc::new(context), readiness, shutdown.clone()).await;
    shutdown.cancel();
    server.await.context("serving probes")?;
    Ok(match ended {
        Ended::Released => ExitCode::SUCCESS,
        // Started again, it is a candidate like any other.
        Ended::Lost => ExitCode::FAILURE,
    })
}

/// The pod's name, which Kubernetes gives to its host; elsewhere with the process's number.
fn identity() -> String {
    let pod = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
    pod.unwrap_or_else(|_| format!("operator-{}", std::process::id()))
}
