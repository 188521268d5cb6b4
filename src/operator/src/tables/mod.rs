//! The record of each namespace: one task a namespace owns it, decides, commits and publishes.

mod after;
mod assign;
mod assignments;
pub mod decide;
mod inputs;
mod keeper;
mod namespace;
mod projection;
mod recover;
mod site;
mod view;

pub use inputs::Inputs;
pub use view::{RecordProblem, Told, View};

use crate::Context;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Kinds whose changes matter to a record. RoutingTables only where somebody else writes them.
const KINDS: &[&str] = &[
    "Unit",
    "Keyspace",
    "ShardRange",
    "DataStore",
    "Promotion",
    "RoutingTable",
    "ReplicationLink",
    "UnitWorkload",
];

/// Runs one task for each namespace that has a Unit, a Keyspace or a RoutingTable, until `token` is cancelled.
pub async fn run(ctx: Arc<Context>, token: CancellationToken) {
    let mut changes = ctx.hub.changes();
    let mut tasks: BTreeMap<String, Arc<Notify>> = BTreeMap::new();
    ensure(&ctx, namespaces(&ctx), &mut tasks, &token);
    while let Some(change) = token.run_until_cancelled(changes.recv()).await {
        match change {
            Ok(change) if change.namespace.is_empty() || !KINDS.contains(&&*change.kind) => {}
            Ok(change) => match tasks.get(&change.namespace) {
                Some(wake) => wake.notify_one(),
                None => ensure(&ctx, namespaces(&ctx), &mut tasks, &token),
            },
            Err(RecvError::Lagged(_)) => {
                ensure(&ctx, namespaces(&ctx), &mut tasks, &token);
                tasks.values().for_each(|wake| wake.notify_one());
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
    tasks: &mut BTreeMap<String, Arc<Notify>>,
    token: &CancellationToken,
) {
    for name in namespaces {
        if tasks.contains_key(&name) {
            continue;
        }
        let wake: Arc<Notify> = Arc::default();
        let view = watch::Sender::new(Arc::default());
        let (told, heard) = mpsc::unbounded_channel();
        let after = after::After::new(Arc::clone(ctx), name.clone());
        ctx.tasks.spawn(after.run(view.subscribe(), heard, token.clone()));
        let task = namespace::Namespace::new(
            Arc::clone(ctx),
            name.clone(),
            Arc::clone(&wake),
            token.clone(),
            view,
            told,
        );
        ctx.tasks.spawn(task.run());
        tasks.insert(name, wake);
    }
}
