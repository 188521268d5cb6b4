//! The pods bound to this node: one task each, told what the API server shows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Ctx;
use super::pod;
use super::sources::Steady;

type Uid = String;

struct Pods {
    ctx: Arc<Ctx>,
    known: HashMap<Uid, watch::Sender<Option<Arc<Pod>>>>,
    tasks: JoinSet<()>,
    /// What the list under way has shown.
    listed: HashSet<Uid>,
}

/// Runs the pods of this node, for ever.
pub(super) async fn run(ctx: Arc<Ctx>) {
    let api: Api<Pod> = Api::all(ctx.client.clone());
    let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", ctx.options.name));
    let mut events = std::pin::pin!(watcher(api, mine).backoff(Steady));
    let mut pods = Pods {
        ctx,
        known: HashMap::new(),
        tasks: JoinSet::new(),
        listed: HashSet::new(),
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => pods.see(event),
            Err(error) => tracing::debug!(%error, "watching pods"),
        }
        while pods.tasks.try_join_next().is_some() {}
    }
}

impl Pods {
    fn see(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.extend(pod.uid());
                self.apply(pod);
            }
            watcher::Event::InitDone => {
                let gone: Vec<Uid> = self
                    .known
                    .keys()
                    .filter(|uid| !self.listed.contains(*uid))
                    .cloned()
                    .collect();
                gone.iter().for_each(|uid| self.gone(uid));
            }
            watcher::Event::Apply(pod) => self.apply(pod),
            watcher::Event::Delete(pod) => self.gone(&pod.uid().unwrap_or_default()),
        }
    }

    fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.uid() else { return };
        let pod = Arc::new(pod);
        if let Some(known) = self.known.get(&uid)
            && known.send(Some(pod.clone())).is_ok()
        {
            return;
        }
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") && pod.metadata.deletion_timestamp.is_none() {
            return; // over before this node started
        }
        let (tell, seen) = watch::channel(Some(pod.clone()));
        self.known.insert(uid, tell);
        self.tasks.spawn(pod::run(self.ctx.clone(), pod, seen));
    }

    fn gone(&mut self, uid: &str) {
        if let Some(tell) = self.known.remove(uid) {
            let _ = tell.send(None); // nobody listens when it is over already
        }
    }
}
