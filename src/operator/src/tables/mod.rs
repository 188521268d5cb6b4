//! The record of each namespace: one task a namespace owns it, decides, commits and publishes.

mod after;
mod asking;
mod assign;
mod assignments;
pub mod decide;
mod gone;
mod homes;
mod hooks;
mod in_force;
mod inputs;
mod keeper;
mod lasting;
mod leases;
mod namespace;
mod projection;
mod record;
mod recover;
mod refusals;
pub(crate) mod returning;
mod routes;
mod settled;
mod show;
mod site;
mod sites;
mod sweep;
mod terminating;
mod trouble;
mod view;

pub use assign::mode;
pub use assignments::MANAGED_BY;
pub use in_force::{Checks, Kept, is_held};
pub use inputs::Inputs;
pub use routes::{Claim, canonical, lost};
pub use trouble::{SiteProblem, SiteProblems};
pub use view::{RecordProblem, Told, View};

use crate::Context;
use crate::hub::Change;
use crate::mirror::Extent;
use crate::supervise::supervise;
use after::After;
use kube::ResourceExt;
use namespace::{Mouth, Namespace};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Kinds whose changes matter to a record. RoutingTables only where somebody else writes them.
const KINDS: &[&str] = &[
    "Unit",
    "Keyspace",
    "ShardRange",
    "DataStore",
    "Promotion",
    "Failover",
    "Verification",
    "RoutingTable",
    "ReplicationLink",
    "UnitWorkload",
];

/// Wakes the task of a namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wake {
    /// Something that it decides by changed.
    pub(crate) now: Arc<Notify>,
    /// Something changed that can wait a little: it comes with the next look.
    pub(crate) later: Arc<Notify>,
}

impl Wake {
    fn notify(&self, change: &Change) {
        if can_wait(change) {
            self.later.notify_one();
        } else {
            self.now.notify_one();
        }
    }
}

/// Whether nothing is decided by what changed, or nothing in haste: the statuses that we write ourselves, of which there
/// may be thousands, and those of workloads.
fn can_wait(change: &Change) -> bool {
    match &*change.kind {
        "UnitWorkload" => true,
        "Unit" | "Keyspace" | "ShardRange" | "DataStore" | "ReplicationLink" => change.extent == Extent::Status,
        _ => false,
    }
}

/// Runs one task for each namespace that has a Unit, a Keyspace or a RoutingTable, until `token` is cancelled.
pub async fn run(ctx: Arc<Context>, token: CancellationToken) {
    let begin = || dispatch(Arc::clone(&ctx), token.clone());
    supervise(ctx.metrics.clone(), "namespaces", String::new(), begin).await;
}

async fn dispatch(ctx: Arc<Context>, token: CancellationToken) {
    // What was started ends with this: another dispatch would start it again.
    let token = token.child_token();
    let _end = token.clone().drop_guard();
    let mut changes = ctx.hub.changes();
    let mut tasks: BTreeMap<String, Wake> = BTreeMap::new();
    ensure(&ctx, namespaces(&ctx), &mut tasks, &token);
    while let Some(change) = token.run_until_cancelled(changes.recv()).await {
        match change {
            Ok(change) if change.namespace.is_empty() || !KINDS.contains(&&*change.kind) => {}
            Ok(change) => match tasks.get(&change.namespace) {
                Some(wake) => wake.notify(&change),
                None => ensure(&ctx, namespaces(&ctx), &mut tasks, &token),
            },
            Err(RecvError::Lagged(_)) => {
                ensure(&ctx, namespaces(&ctx), &mut tasks, &token);
                tasks.values().for_each(|wake| wake.now.notify_one());
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn namespaces(ctx: &Context) -> BTreeSet<String> {
    let units = ctx.hub.units.all().into_iter().filter_map(|unit| unit.namespace());
    let keyspaces = ctx
        .hub
        .keyspaces
        .all()
        .into_iter()
        .filter_map(|keyspace| keyspace.namespace());
    let tables = ctx.hub.tables.all().into_iter().filter_map(|table| table.namespace());
    units.chain(keyspaces).chain(tables).collect()
}

fn ensure(
    ctx: &Arc<Context>,
    namespaces: BTreeSet<String>,
    tasks: &mut BTreeMap<String, Wake>,
    token: &CancellationToken,
) {
    for name in namespaces {
        if tasks.contains_key(&name) {
            continue;
        }
        let wake = Wake::default();
        start(ctx, &name, &wake, token);
        tasks.insert(name, wake);
    }
}

/// The two tasks of a namespace: one that decides, and one that tells. Where one of them panics the other goes on.
fn start(ctx: &Arc<Context>, name: &str, wake: &Wake, token: &CancellationToken) {
    let (told, heard) = mpsc::unbounded_channel();
    let mouth = Mouth {
        view: watch::Sender::new(None),
        told,
    };
    let (views, heard) = (mouth.view.subscribe(), Arc::new(Mutex::new(heard)));
    let (shared, of, end) = (Arc::clone(ctx), name.to_owned(), token.clone());
    let tell = move || {
        let after = After::new(Arc::clone(&shared), of.clone());
        let (mut views, heard, end) = (views.clone(), Arc::clone(&heard), end.clone());
        // The latest view is told, also where the one who should have done it panicked.
        views.mark_changed();
        async move { after.run(views, &mut *heard.lock().await, end).await }
    };
    let tell = supervise(ctx.metrics.clone(), "statuses of a namespace", name.to_owned(), tell);
    ctx.tasks.spawn(tell);
    let (shared, of, wake, end) = (Arc::clone(ctx), name.to_owned(), wake.clone(), token.clone());
    let decide = move || {
        let (ctx, wake) = (Arc::clone(&shared), wake.clone());
        Namespace::new(ctx, of.clone(), wake, end.clone(), mouth.clone()).run()
    };
    let decide = supervise(ctx.metrics.clone(), "record of a namespace", name.to_owned(), decide);
    ctx.tasks.spawn(decide);
}
