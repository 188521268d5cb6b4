//! One pod, from its binding to this node to its removal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::container::{self, Policy};
use super::status::{self, Transitions};
use super::views::Views;
use super::volumes::Volumes;
use super::{Ctx, Waiting};

/// The pod as the API server shows it; `None` when its object is gone.
pub(super) type Seen = watch::Receiver<Option<Arc<Pod>>>;

/// How soon something that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Changes of Secrets and ConfigMaps that follow each other are one.
const SETTLE: Duration = Duration::from_millis(100);
/// The longest that a volume goes without a look, as the last resort.
const LOOK: Duration = Duration::from_secs(60);

/// Runs a pod. Returns when its processes, its files and its object are gone.
pub(super) async fn run(ctx: Arc<Ctx>, pod: Arc<Pod>, mut seen: Seen) {
    let views = Arc::new(views(&pod));
    let (stop, stopping) = watch::channel(None);
    let mut volumes = Volumes::new(ctx.places(&pod).volumes());
    {
        let reports = report(&ctx, &pod, &views, seen.clone());
        let work = work(&ctx, &pod, &views, &mut volumes, &stopping, seen.clone());
        let end = pass_on_the_end(&mut seen, &stop);
        tokio::select! {
            () = work => {}
            // Neither of these ends by itself.
            () = reports => {}
            () = end => {}
        }
    }
    drop(volumes);
    remove(&ctx, &pod, seen).await;
}

fn views(pod: &Pod) -> Views {
    let spec = pod.spec.as_ref();
    let init = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let main = spec.iter().flat_map(|spec| spec.containers.iter());
    let names: Vec<&str> = init.chain(main).map(|container| container.name.as_str()).collect();
    // A node that started anew starts its pods anew: one restart more.
    let before = |name: &str| {
        let statuses = pod
            .status
            .iter()
            .flat_map(|status| status.container_statuses.iter().flatten());
        let known = statuses
            .into_iter()
            .find(|status| status.name == name && status.container_id.is_some());
        known.map_or(0, |status| status.restart_count + 1)
    };
    Views::new(names.into_iter(), before)
}

/// Says until when the processes may run, once the object is deleted. Never returns.
async fn pass_on_the_end(seen: &mut Seen, stop: &watch::Sender<Option<Instant>>) {
    loop {
        let grace = match seen.borrow_and_update().as_ref() {
            None => Some(Duration::ZERO),
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
                Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
            }
            Some(_) => None,
        };
        if let Some(grace) = grace {
            let until = Instant::now() + grace;
            // Only ever earlier.
            stop.send_if_modified(|known| match known {
                Some(known) if *known <= until => false,
                _ => {
                    *known = Some(until);
                    true
                }
            });
        }
        if seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Brings the pod up, keeps its volumes fresh, and returns when all its processes are gone for good.
async fn work(
    ctx: &Arc<Ctx>,
    pod: &Arc<Pod>,
    views: &Arc<Views>,
    volumes: &mut Volumes,
    stopping: &container::Stop,
    mut seen: Seen,
) {
    let mut stop = stopping.clone();
    let ended = async {
        let _ = stop.wait_for(Option::is_some).await;
    };
    tokio::select! {
        () = first_volumes(ctx, pod, views, volumes) => {}
        () = ended => return,
    }
    let containers = run_containers(ctx, pod, views, stopping);
    let refresh = async {
        let mut changes = ctx.sources.changes();
        loop {
            let renew = volumes
                .renew_at()
                .map_or(LOOK, |at| at.saturating_duration_since(Instant::now()).min(LOOK));
            tokio::select! {
                _ = changes.changed() => tokio::time::sleep(SETTLE).await,
                Ok(()) = seen.changed() => {} // labels and annotations may be in a volume
                () = tokio::time::sleep(renew) => {}
            }
            changes.mark_unchanged();
            let newest = seen.borrow_and_update().clone();
            if let Err(waiting) = volumes.refresh(ctx, newest.as_ref().unwrap_or(pod)).await {
                // Running containers keep what they have, as with the kubelet.
                ctx.event(pod, true, "FailedMount", waiting.message);
            }
        }
    };
    tokio::select! {
        () = containers => {}
        () = refresh => {}
    }
}

async fn first_volumes(ctx: &Ctx, pod: &Pod, views: &Views, volumes: &mut Volumes) {
    let mut changes = ctx.sources.changes();
    let mut said = None;
    while let Err(waiting) = volumes.refresh(ctx, pod).await {
        if said.as_ref() != Some(&waiting) {
            ctx.event(pod, true, "FailedMount", waiting.message.clone());
            views.all_wait(&waiting);
            said = Some(waiting);
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn run_containers(ctx: &Arc<Ctx>, pod: &Arc<Pod>, views: &Arc<Views>, stopping: &container::Stop) {
    let spec = pod.spec.as_ref();
    let policy = Policy::of(pod);
    let start = |container: &Container, policy| {
        container::run(
            ctx.clone(),
            pod.clone(),
            container.clone(),
            policy,
            views.clone(),
            stopping.clone(),
        )
    };
    let mut running = JoinSet::new();
    views.all_wait(&Waiting {
        reason: "PodInitializing",
        message: String::new(),
    });
    for container in spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()) {
        if status::is_sidecar(container) {
            running.spawn(start(container, Policy::Always));
            continue;
        }
        // One after the other, until each has succeeded.
        start(
            container,
            if policy == Policy::Never {
                Policy::Never
            } else {
                Policy::OnFailure
            },
        )
        .await;
        if stopping.borrow().is_some() {
            break;
        }
    }
    for container in spec.iter().flat_map(|spec| spec.containers.iter()) {
        running.spawn(start(container, policy));
    }
    while running.join_next().await.is_some() {}
    // All over by themselves: the object stays until somebody deletes it.
    let _ = stopping.clone().wait_for(Option::is_some).await;
}

/// Writes the pod's status whenever it changed. Never returns.
async fn report(ctx: &Ctx, pod: &Pod, views: &Views, mut seen: Seen) {
    let mut known: Transitions = status::transitions(pod);
    let mut changes = views.changes();
    let mut written = None;
    loop {
        changes.mark_unchanged();
        let newest = seen.borrow_and_update().clone();
        let status = status::of(
            newest.as_deref().unwrap_or(pod),
            &views.now(),
            &mut known,
            Timestamp::now(),
        );
        if written.as_ref() != Some(&status) {
            if write_status(ctx, pod, &status).await.is_err() {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            written = Some(status);
        }
        tokio::select! {
            _ = changes.changed() => {}
            // A readiness gate may have moved.
            Ok(()) = seen.changed() => {}
        }
    }
}

async fn write_status(ctx: &Ctx, pod: &Pod, status: &serde_json::Value) -> kube::Result<()> {
    let pods: Api<Pod> = Api::namespaced(ctx.client.clone(), &pod.namespace().unwrap_or_default());
    // With the uid: the status of this pod, not of a later one of the same name.
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
    match pods
        .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => Ok(()), // it is gone
        Err(error) => {
            tracing::debug!(%error, pod = pod.name_any(), "status");
            Err(error)
        }
    }
}

/// Removes the files, then the object: who sees it gone finds nothing left.
async fn remove(ctx: &Ctx, pod: &Pod, mut seen: Seen) {
    let dir = ctx.places(pod).dir;
    if let Err(error) = std::fs::remove_dir_all(&dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, dir = %dir.display(), "removing a pod's files");
    }
    let pods: Api<Pod> = Api::namespaced(ctx.client.clone(), &pod.namespace().unwrap_or_default());
    let now = Preconditions {
        uid: pod.uid(),
        resource_version: None,
    };
    let params = DeleteParams::default().grace_period(0).preconditions(now);
    while seen.borrow_and_update().is_some() {
        match pods.delete(&pod.name_any(), &params).await {
            Ok(_) => return,
            Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => return,
            Err(error) => tracing::debug!(%error, pod = pod.name_any(), "removing"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = seen.changed() => {}
        }
    }
}
