//! The router's program: a thread for each core serves requests, the main thread talks to the API server, the agent
//! and whoever probes.

use anyhow::Context;
use clap::Parser;
use futures::future::join_all;
use multiactive_router::args::Args;
use multiactive_router::metrics::Metrics;
use multiactive_router::proxy::Worker;
use multiactive_router::saved::{self, StateDir};
use multiactive_router::state::State;
use multiactive_router::{admin, agent_link::Link, feed, home, peers, server};
use multiactive_runtime::certs::TlsFiles;
use multiactive_runtime::kube_client::{Patience, own_cluster};
use multiactive_runtime::probes::{self, Readiness};
use multiactive_runtime::{logs, pod_path, shutdown};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::thread;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    logs::init_with(vec![("namespace", args.namespace.clone()), ("unit", args.unit.clone())]);
    runtime()?.block_on(run(args))
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn run(args: Args) -> anyhow::Result<()> {
    let token = shutdown::token()?;
    let tls = TlsFiles::open(pod_path(&args.tls_dir)).context("opening the certificates")?;
    let client = own_cluster(Patience::WATCHES).await?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let readiness = Readiness::not_ready("no UnitAssignment and no RoutingTable yet");
    let unit = args.unit.as_str().into();
    let state = State::new(unit, args.namespace.clone(), args.limits(), metrics, readiness.clone());

    let (stop, goodbye, end) = (
        CancellationToken::new(),
        CancellationToken::new(),
        CancellationToken::new(),
    );
    let extra = admin::routes(state.clone());
    let probes = probes::serve(
        args.admin_listen,
        Arc::new(registry),
        readiness.clone(),
        Some(extra),
        end.clone(),
    );
    let mut probes = tokio::spawn(probes);
    let saving = args.state_dir.as_ref().map(|dir| {
        let dir = StateDir::new(pod_path(dir));
        recall(&state, &dir);
        tokio::spawn(saved::keep(state.clone(), dir))
    });
    let feed = tokio::spawn(feed::run(client, state.clone()));
    let link = Link {
        state: state.clone(),
        tls: tls.clone(),
        agent: args.agent.clone(),
        router: args.name.clone(),
    };
    let link = tokio::spawn(link.run(goodbye.clone()));
    let tasks = TaskTracker::new();
    let workers = start_workers(&args, &state, &tls, &stop, &end, &tasks).await?;
    tracing::info!(listen = %args.listen, peers = %args.peer_listen, workers = workers.len(), "serving");

    tokio::select! {
        () = token.cancelled() => {}
        ended = &mut probes => ended?.context("serving probes")?,
    }
    // Whoever is held until then has half of the drain's time left to be answered.
    state.begin_drain(args.drain_delay + args.drain_time / 2);
    tokio::time::sleep(args.drain_delay).await;
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(args.drain_time, tasks.wait()).await.is_ok() {
        goodbye.cancel();
        // The agent may be gone already: it is told, not waited for.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), link).await;
    } else {
        // No goodbye: what was cut off may still be under way in a backend.
        tracing::warn!(requests = tasks.len(), "ending with requests under way");
    }
    end.cancel();
    feed.abort();
    if let Some(saving) = saving {
        saving.abort();
    }
    for worker in workers {
        let _ = worker.join();
    }
    Ok(())
}

/// Reads what was in force before the start.
fn recall(state: &State, dir: &StateDir) {
    match dir.load(state.unit.as_str(), &state.namespace) {
        Ok(Some(saved)) => {
            tracing::info!(epoch = %saved.table.epoch, "found what was in force before the start");
            state.remember(saved);
        }
        Ok(None) => {}
        Err(error) => {
            state.metrics.count_unusable("StateDir");
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "what was saved before the start is not usable");
        }
    }
}

/// Starts a thread for each core, each with a runtime, listeners and connections of its own.
async fn start_workers(
    args: &Args,
    state: &Arc<State>,
    tls: &TlsFiles,
    stop: &CancellationToken,
    end: &CancellationToken,
    tasks: &TaskTracker,
) -> anyhow::Result<Vec<thread::JoinHandle<()>>> {
    let count = match args.workers {
        0 => thread::available_parallelism().map_or(1, std::num::NonZero::get),
        count => count,
    };
    let (mut threads, mut bound) = (Vec::new(), Vec::new());
    for index in 0..count {
        let (tell, told) = oneshot::channel();
        let (args, state, tls) = (args.clone(), state.clone(), tls.clone());
        let (stop, end, tasks) = (stop.clone(), end.clone(), tasks.clone());
        let body = move || work(&args, state, tls, stop, end, tasks, tell);
        threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(body)?);
        bound.push(told);
    }
    for result in join_all(bound).await {
        result
            .context("a worker ended at its start")?
            .context("binding an address")?;
    }
    Ok(threads)
}

fn work(
    args: &Args,
    state: Arc<State>,
    tls: TlsFiles,
    stop: CancellationToken,
    end: CancellationToken,
    tasks: TaskTracker,
    tell: oneshot::Sender<std::io::Result<()>>,
) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return drop(tell.send(Err(error))),
    };
    runtime.block_on(async {
        let listeners = server::bind(args.listen).and_then(|clients| Ok((clients, server::bind(args.peer_listen)?)));
        let (clients, routers) = match listeners {
            Ok(listeners) => listeners,
            Err(error) => return drop(tell.send(Err(error))),
        };
        let _ = tell.send(Ok(()));
        let worker = Arc::new(Worker {
            home: home::client(&state.limits),
            peers: peers::client(state.clone(), tls.clone()),
            state,
        });
        tokio::spawn(server::clients(worker.clone(), clients, stop.clone(), tasks.clone()));
        tokio::spawn(server::routers(worker, tls, routers, stop, tasks));
        end.cancelled().await;
    });
}
