//! One container: its process started, watched, and started again as the pod's restart policy says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use nix::sys::signal::Signal;
use tokio::sync::watch;

use super::views::{Ended, State, Views};
use super::{Ctx, Waiting, env, probe, volumes};
use crate::error::chain;
use crate::process::{Process, Spec, log_tail};

/// When the pod's processes must be gone; `None` while they may run.
pub(super) type Stop = watch::Receiver<Option<Instant>>;

/// A container that runs this long has recovered: the next restart waits as little as the first.
const RECOVERED: Duration = Duration::from_secs(10);

/// What a container's process is started from.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) spec: Spec,
    pub(super) programs: PathBuf,
}

/// What is done after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    /// A pod's policy.
    pub(super) fn of(pod: &Pod) -> Policy {
        match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
            Some("Never") => Policy::Never,
            Some("OnFailure") => Policy::OnFailure,
            Some(_) | None => Policy::Always,
        }
    }

    fn again(self, code: i32) -> bool {
        match self {
            Policy::Always => true,
            Policy::OnFailure => code != 0,
            Policy::Never => false,
        }
    }
}

/// Runs a container until it is over or `stop` says so. Its process is gone then.
pub(super) async fn run(
    ctx: Arc<Ctx>,
    pod: Arc<Pod>,
    container: Container,
    policy: Policy,
    views: Arc<Views>,
    mut stop: Stop,
) {
    let name = container.name.clone();
    let mut back_off = Duration::ZERO;
    while stop.borrow_and_update().is_none() {
        let Some((prepared, process)) = start(&ctx, &pod, &container, &views, &mut stop).await else {
            break;
        };
        let since = Timestamp::now();
        let started = Instant::now();
        views.update(&name, |view| {
            view.state = State::Running {
                pid: process.pid(),
                since,
            }
        });
        ctx.event(
            &pod,
            false,
            "Started",
            format!("Started container {name} as process {}", process.pid()),
        );
        let status = tokio::select! {
            status = process.wait() => status,
            why = probe::watch(&container, &prepared, &views) => {
                ctx.event(&pod, true, "Unhealthy", format!("Container {name}: {why}"));
                let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
                let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
                process.stop(Signal::SIGTERM, grace).await
            }
            () = asked_to_end(&mut stop) => end(&container, &prepared, &process, &mut stop).await,
        };
        let message = if status.success() {
            String::new()
        } else {
            log_tail(process.log(), 5)
        };
        let ended = Ended::new(process.pid(), status, since, message);
        let over = stop.borrow().is_some() || !policy.again(ended.code);
        views.update(&name, |view| {
            (view.ready, view.started, view.over) = (false, false, over);
            view.state = State::Ended(ended.clone());
        });
        if over {
            break;
        }
        if started.elapsed() >= RECOVERED {
            back_off = Duration::ZERO;
        }
        if !back_off.is_zero() {
            let message = format!(
                "back-off {} ms restarting failed container {name}",
                back_off.as_millis()
            );
            ctx.event(&pod, true, "BackOff", message.clone());
            views.update(&name, |view| {
                view.last = Some(ended.clone());
                view.state = State::Waiting(Waiting {
                    reason: "CrashLoopBackOff",
                    message,
                });
            });
            tokio::select! {
                () = tokio::time::sleep(back_off) => {}
                () = asked_to_end(&mut stop) => break,
            }
        }
        back_off = (back_off * 2).clamp(ctx.options.first_back_off, ctx.options.longest_back_off);
        views.update(&name, |view| {
            view.last = Some(ended);
            view.restarts += 1;
        });
    }
    views.update(&name, |view| view.over = true);
}

/// Starts the process; waits for what it needs. `None` when the pod is to end before that.
async fn start(
    ctx: &Ctx,
    pod: &Pod,
    container: &Container,
    views: &Views,
    stop: &mut Stop,
) -> Option<(Prepared, Process)> {
    let mut changes = ctx.sources.changes();
    let mut said = None;
    loop {
        let started = prepare(ctx, pod, container).and_then(|prepared| match Process::start(&prepared.spec) {
            Ok(process) => Ok((prepared, process)),
            Err(error) => Err(Waiting {
                reason: "RunContainerError",
                message: chain(&error),
            }),
        });
        let waiting = match started {
            Ok(started) => return Some(started),
            Err(waiting) => waiting,
        };
        if said.as_ref() != Some(&waiting) {
            ctx.event(
                pod,
                true,
                "Failed",
                format!("Container {}: {}", container.name, waiting.message),
            );
            views.update(&container.name, |view| view.state = State::Waiting(waiting.clone()));
            said = Some(waiting);
        }
        tokio::select! {
            // A program may be built at any time, and nobody tells.
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = changes.changed() => {}
            () = asked_to_end(stop) => return None,
        }
    }
}

async fn end(
    container: &Container,
    prepared: &Prepared,
    process: &Process,
    stop: &mut Stop,
) -> std::process::ExitStatus {
    let until = |stop: &mut Stop| stop.borrow_and_update().unwrap_or_else(Instant::now);
    let hook = async {
        probe::before_stop(container, prepared).await;
        process.signal(Signal::SIGTERM);
        process.wait().await
    };
    let mut hook = std::pin::pin!(hook);
    loop {
        let left = until(stop).saturating_duration_since(Instant::now());
        tokio::select! {
            status = &mut hook => return status,
            () = tokio::time::sleep(left) => return process.stop(Signal::SIGKILL, Duration::ZERO).await,
            Ok(()) = stop.changed() => {} // a shorter grace period
        }
    }
}

/// Returns once the pod is to end.
async fn asked_to_end(stop: &mut Stop) {
    if stop.wait_for(Option::is_some).await.is_err() {
        std::future::pending().await // the pod's task is gone, and this one with it
    }
}

fn prepare(ctx: &Ctx, pod: &Pod, container: &Container) -> Result<Prepared, Waiting> {
    let mut env = env::declared(pod, container, &ctx.sources)?;
    let (program, args) = env::command(container, &env, &ctx.options.programs)?;
    let places = ctx.places(pod);
    let root = places.root(&container.name);
    let io = |error: crate::Error| Waiting {
        reason: "CreateContainerError",
        message: chain(&error),
    };
    volumes::mount_all(pod, container, &places.volumes(), &root).map_err(io)?;
    let (host, port) = ctx.api_address();
    let mut ours = vec![
        (
            "PATH".to_owned(),
            format!("{}:/usr/local/bin:/usr/bin:/bin", ctx.options.programs.display()),
        ),
        ("HOSTNAME".to_owned(), pod.name_any()),
        ("HOME".to_owned(), root.display().to_string()),
        ("POD_ROOT".to_owned(), root.display().to_string()),
        ("KUBERNETES_SERVICE_HOST".to_owned(), host),
        ("KUBERNETES_SERVICE_PORT".to_owned(), port),
    ];
    if let Some(path) = kubeconfig(ctx, pod, container).map_err(io)? {
        ours.push(("KUBECONFIG".to_owned(), path.display().to_string()));
    }
    ours.append(&mut env); // what the pod declares wins
    let dir = container
        .working_dir
        .as_ref()
        .map_or_else(|| root.clone(), |dir| root.join(dir.trim_start_matches('/')));
    std::fs::create_dir_all(&dir)
        .map_err(crate::Error::io("creating", &dir))
        .map_err(io)?;
    let spec = Spec {
        program,
        args,
        env: Some(ours),
        dir,
        log: ctx.log(pod, &container.name),
        run_as: None,
        death_signal: Signal::SIGKILL,
    };
    Ok(Prepared {
        spec,
        programs: ctx.options.programs.clone(),
    })
}

/// Writes the kubeconfig of a container that has its ServiceAccount's token. Token and authority are the files of its
/// volume, which are renewed there.
fn kubeconfig(ctx: &Ctx, pod: &Pod, container: &Container) -> crate::Result<Option<PathBuf>> {
    let Some(mount) = container
        .volume_mounts
        .iter()
        .flatten()
        .find(|mount| mount.mount_path == volumes::ACCOUNT)
    else {
        return Ok(None);
    };
    let places = ctx.places(pod);
    let volume = places.volumes().join(&mount.name);
    let file = |name: &str| volume.join(name).display().to_string();
    let namespace = pod.namespace().unwrap_or_default();
    let value = crate::kubeconfig::for_files(&ctx.server, &file("ca.crt"), &file("token"), &namespace);
    let path = places.dir.join("kubeconfig");
    let fresh = places.dir.join(format!("kubeconfig.{}", container.name));
    std::fs::write(&fresh, crate::kubeconfig::to_yaml(&value)?).map_err(crate::Error::io("writing", &fresh))?;
    std::fs::rename(&fresh, &path).map_err(crate::Error::io("writing", &path))?;
    Ok(Some(path))
}
