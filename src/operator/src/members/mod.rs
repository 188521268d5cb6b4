//! Member clusters: how each is reached, whether it answers, and the registry from which all others take its client.

mod access;
mod controller;
mod identity;
mod lifecycle;
mod probe;
mod regions;
mod registry;

pub use registry::{Health, Member, MemberMap, Members};

use crate::Context;
use crate::supervise::supervise;
use controller::Controller;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

struct Task {
    changed: Arc<Notify>,
    token: CancellationToken,
}

/// Runs one task for each MemberCluster until `token` is cancelled.
pub async fn run(ctx: Arc<Context>, token: CancellationToken) {
    let Some(hub_uid) = token.run_until_cancelled(hub_uid(&ctx)).await else {
        return;
    };
    let (here, own) = (Arc::clone(&ctx), token.clone());
    let regions = move || regions::run(Arc::clone(&here), own.clone());
    ctx.tasks
        .spawn(supervise(ctx.metrics.clone(), "regions", String::new(), regions));
    let mut changes = ctx.hub.changes();
    let mut tasks: BTreeMap<String, Task> = BTreeMap::new();
    loop {
        let names: Vec<String> = ctx
            .hub
            .members
            .all()
            .iter()
            .filter_map(|m| m.metadata.name.clone())
            .collect();
        tasks.retain(|name, task| {
            let there = names.contains(name);
            if !there {
                task.token.cancel();
                ctx.members.remove(name);
            }
            there
        });
        for name in names {
            tasks.entry(name.clone()).or_insert_with(|| {
                let task = Task {
                    changed: Arc::default(),
                    token: token.child_token(),
                };
                let (here, changed, own) = (Arc::clone(&ctx), Arc::clone(&task.changed), task.token.clone());
                let (hub_uid, member) = (hub_uid.clone(), name.clone());
                let probe = move || {
                    let controller = Controller {
                        ctx: Arc::clone(&here),
                        name: member.clone(),
                        changed: Arc::clone(&changed),
                        hub_uid: hub_uid.clone(),
                    };
                    controller.run(own.clone())
                };
                ctx.tasks.spawn(supervise(ctx.metrics.clone(), "member", name, probe));
                task
            });
        }
        loop {
            let Some(change) = token.run_until_cancelled(changes.recv()).await else {
                return;
            };
            match change {
                Ok(change) if &*change.kind != "MemberCluster" => continue,
                Ok(change) => {
                    if let Some(task) = tasks.get(&change.name) {
                        task.changed.notify_one();
                    }
                }
                Err(RecvError::Lagged(_)) => tasks.values().for_each(|task| task.changed.notify_one()),
                Err(RecvError::Closed) => return,
            }
            break;
        }
    }
}

/// The uid of the hub itself.
async fn hub_uid(ctx: &Context) -> String {
    loop {
        match controller::ask(&ctx.client).await {
            Ok(uid) => return uid,
            Err(error) => {
                tracing::warn!(error = error.chain(), "reading the hub's kube-system, trying again");
                tokio::time::sleep(error.retry()).await;
            }
        }
    }
}
