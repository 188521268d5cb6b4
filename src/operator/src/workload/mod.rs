//! UnitWorkloads: a team's Kubernetes objects, kept as declared in each selected unit's member cluster.
//!
//! Decisions are pure: `render` (with `merge`, `order`, `marks`) says what a unit shall have, `plan` (with `fields`,
//! `autoscale`) what to do with each object, `kstatus` and `status` what to tell about it. `pass` and `apply` act on
//! them; a `runner` does so for one unit of one UnitWorkload, an `actor` gathers what its runners tell.

mod actor;
mod apply;
mod autoscale;
mod conflict;
mod copy;
mod fields;
mod judged;
mod kinds;
mod kstatus;
mod leave;
mod marks;
mod merge;
mod missing;
mod news;
mod order;
mod pass;
mod plan;
mod refused;
mod render;
mod runner;
mod select;
mod shared;
mod status;
mod token;
mod trouble;
mod watches;
mod written;

pub use leave::FINALIZER;
pub use marks::{ADOPT, UNIT, WORKLOAD, WORKLOAD_UID};
pub use token::DEPLOYER;
pub use written::INTENT;

use crate::Context;
use crate::mirror::Extent;
use crate::supervise::supervise;
use actor::Actor;
use kube::ResourceExt;
use shared::Shared;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Namespace and name of a UnitWorkload.
type Key = (String, String);

/// Runs until `token` is cancelled.
pub async fn run(ctx: Arc<Context>, token: CancellationToken) {
    let begin = || dispatch(Arc::clone(&ctx));
    let work = supervise(ctx.metrics.clone(), "workloads", String::new(), begin);
    token.run_until_cancelled(work).await;
}

async fn dispatch(ctx: Arc<Context>) {
    // Listening begins before the first look, so that nothing is missed between the two.
    let mut changes = ctx.hub.changes();
    let mut members = ctx.members.subscribe();
    ctx.hub.wait_until_ready().await;
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut actors = Actors {
        shared: Arc::new(Shared::new(Arc::clone(&ctx))),
        running: HashMap::new(),
        ended,
    };
    actors.wake_all();
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(change) if change.name.is_empty() => actors.wake_all(),
                // What was written to a status by us is known, and by another no wish.
                Ok(change) if change.extent == Extent::Status => {}
                Ok(change) => match &*change.kind {
                    "UnitWorkload" => actors.wake((change.namespace, change.name)),
                    "Unit" => actors.wake_namespace(&change.namespace),
                    "MemberCluster" => actors.shared.runners().wake_all(),
                    _ => {}
                },
                Err(RecvError::Lagged(_)) => actors.wake_all(),
                Err(RecvError::Closed) => return,
            },
            changed = members.changed() => match changed {
                Ok(()) => actors.shared.runners().wake_all(),
                Err(_) => return,
            },
            Some(key) = ends.recv() => actors.ended(key),
        }
    }
}

/// The keepers of all UnitWorkloads.
struct Actors {
    shared: Arc<Shared>,
    running: HashMap<Key, (Arc<Notify>, AbortOnDropHandle<()>)>,
    ended: mpsc::UnboundedSender<Key>,
}

impl Actors {
    fn wake_all(&mut self) {
        for workload in self.shared.ctx.hub.workloads.all() {
            self.wake((workload.namespace().unwrap_or_default(), workload.name_any()));
        }
        for (told, _) in self.running.values() {
            told.notify_one();
        }
    }

    fn wake_namespace(&self, namespace: &str) {
        for (_, (told, _)) in self.running.iter().filter(|((of, _), _)| of == namespace) {
            told.notify_one();
        }
    }

    fn wake(&mut self, key: Key) {
        if let Some((told, _)) = self.running.get(&key) {
            told.notify_one();
            return;
        }
        if self.shared.ctx.hub.workloads.get(&key.0, &key.1).is_none() {
            return;
        }
        let told = Arc::new(Notify::new());
        let (shared, wake, of) = (Arc::clone(&self.shared), Arc::clone(&told), key.clone());
        let begin = move || {
            let (namespace, name) = of.clone();
            Actor::new(Arc::clone(&shared), namespace, name, Arc::clone(&wake)).run()
        };
        let name = format!("{}/{}", key.0, key.1);
        let work = supervise(self.shared.ctx.metrics.clone(), "workload", name, begin);
        let (ended, of) = (self.ended.clone(), key.clone());
        let task = tokio::spawn(async move {
            work.await;
            // Nobody listens where all ends.
            let _ = ended.send(of);
        });
        self.running.insert(key, (told, AbortOnDropHandle::new(task)));
    }

    /// A keeper saw its UnitWorkload gone; one of the same name may have come meanwhile.
    fn ended(&mut self, key: Key) {
        self.running.remove(&key);
        self.wake(key);
    }
}
