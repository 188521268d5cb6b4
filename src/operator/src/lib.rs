//! The operator: observes the hub's objects and the members' reports, records decisions in the routing tables, and
//! performs them by writing to the members. One folder or file a kind; decisions are in `multiactive-core`.

pub mod apply;
pub mod certs;
pub mod conditions;
pub mod context;
pub mod datastores;
pub mod error;
pub mod failovers;
pub mod failpoints;
pub mod finalizers;
#[cfg(test)]
mod fixtures;
pub mod hooks;
pub mod hub;
pub mod keyspaces;
pub mod leases;
pub mod links;
pub mod members;
pub mod metrics;
pub mod mirror;
pub mod promotions;
pub mod protection;
mod route_claims;
pub mod schedules;
pub mod served;
pub mod shard_ranges;
pub mod status;
pub mod supervise;
pub mod tables;
pub mod units;
pub mod verifications;
pub mod workload;

pub use context::Context;
pub use error::Error;

use multiactive_ledger::{Election, Ended};
use multiactive_runtime::probes::Readiness;
use std::sync::Arc;
use std::time::Duration;
use supervise::supervise_with;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The name of the operator's Lease.
pub const LEASE: &str = "multiactive-operator";

/// How long the tasks may take to end after they were told to.
const ENDING: Duration = Duration::from_secs(5);

/// Watches the hub, waits for the lease, and runs all controllers until `shutdown` is cancelled or the lease is lost.
///
/// It is ready when it has seen all objects of the hub: a candidate that does not lead is ready too.
pub async fn run(ctx: Arc<Context>, readiness: Readiness, shutdown: CancellationToken) -> Ended {
    let watches = shutdown.child_token();
    ctx.hub.start(&ctx.client, &ctx.metrics, &TaskTracker::new(), &watches);
    if shutdown.run_until_cancelled(ctx.hub.wait_until_ready()).await.is_none() {
        return Ended::Released;
    }
    readiness.set_ready();
    let election = Election::new(ctx.client.clone(), &ctx.namespace, LEASE, &ctx.identity);
    let ended = election.lead(&shutdown, |token| lead(Arc::clone(&ctx), token)).await;
    ctx.metrics.leader.set(0);
    watches.cancel();
    ended
}

/// All controllers, until `token` is cancelled.
async fn lead(ctx: Arc<Context>, token: CancellationToken) {
    ctx.metrics.leader.set(1);
    let (metrics, here) = (ctx.metrics.clone(), Arc::clone(&ctx));
    let members = move |own| members::run(Arc::clone(&here), own);
    ctx.tasks.spawn(supervise_with(
        metrics,
        "members",
        String::new(),
        token.clone(),
        members,
    ));
    ctx.tasks.spawn(tables::run(Arc::clone(&ctx), token.clone()));
    ctx.tasks.spawn(workload::run(Arc::clone(&ctx), token.clone()));
    let (metrics, here) = (ctx.metrics.clone(), Arc::clone(&ctx));
    let certs = move |own| certs::run(Arc::clone(&here), own);
    ctx.tasks.spawn(supervise_with(
        metrics,
        "certificates",
        String::new(),
        token.clone(),
        certs,
    ));
    let (metrics, here) = (ctx.metrics.clone(), Arc::clone(&ctx));
    let leases = move |own| leases::run(Arc::clone(&here), own);
    ctx.tasks
        .spawn(supervise_with(metrics, "leases", String::new(), token.clone(), leases));
    let (metrics, here) = (ctx.metrics.clone(), Arc::clone(&ctx));
    let schedules = move |own| schedules::run(Arc::clone(&here), own);
    ctx.tasks.spawn(supervise_with(
        metrics,
        "schedules",
        String::new(),
        token.clone(),
        schedules,
    ));
    token.cancelled().await;
    // Writes under way end before the lease is released.
    ctx.tasks.close();
    if tokio::time::timeout(ENDING, ctx.tasks.wait()).await.is_err() {
        tracing::warn!(tasks = ctx.tasks.len(), "some tasks did not end in time");
    }
}
