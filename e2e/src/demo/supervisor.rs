//! The process that keeps the demo's fleet up after `make demo` has ended, and its end.

use crate::region::Region;
use crate::stage::REGIONS;
use crate::world::{Network, World};
use anyhow::{Context, Result, bail, ensure};
use multiactive_fleet::{kubeconfig, process::start_time};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long the fleet may take to come up on a slow machine, its tools being built.
const START_LIMIT: Duration = Duration::from_secs(300);

/// Where the demo keeps its state, unless told otherwise.
pub fn state_dir() -> PathBuf {
    multiactive_fleet::tools::cache_root().join("demo")
}

/// Starts the supervisor in a process group of its own, so that Ctrl-C of the demo does not reach it, and waits for
/// the regions.
pub async fn start(dir: &Path) -> Result<Vec<Region>> {
    if let Some(pid) = running(dir) {
        bail!("a demo is up already (process {pid}): `make demo-down` removes it");
    }
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let log = std::fs::File::create(dir.join("fleet.log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve").arg("--dir").arg(dir).process_group(0);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tick.tick().await;
        if let Ok(regions) = regions(dir) {
            return Ok(regions);
        }
        let log = || std::fs::read_to_string(dir.join("fleet.log")).unwrap_or_default();
        if let Some(status) = child.try_wait()? {
            bail!("the fleet did not start ({status}):\n{}", log());
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "the fleet did not start within {START_LIMIT:?}:\n{}",
            log()
        );
    }
}

/// The regions of a demo that is up.
pub fn regions(dir: &Path) -> Result<Vec<Region>> {
    Ok(serde_json::from_str(&std::fs::read_to_string(
        dir.join("regions.json"),
    )?)?)
}

/// Runs the fleet until SIGTERM; what `start` starts.
///
/// # Errors
///
/// Where a part does not start.
pub async fn serve(dir: &Path) -> Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let pid = std::process::id();
    let started = start_time(i32::try_from(pid)?).unwrap_or_default();
    std::fs::write(dir.join("pid"), format!("{pid} {started}"))?;
    let world = tokio::select! {
        world = World::start(&REGIONS, Network::EXAMPLES, None) => world?,
        _ = term.recv() => return Ok(()),
    };
    let all: Vec<_> = world
        .clusters
        .iter()
        .map(|cluster| cluster.kubeconfig().clone())
        .collect();
    std::fs::write(dir.join("kubeconfig"), kubeconfig::to_yaml(&kubeconfig::merge(&all))?)?;
    let ready = dir.join("regions.json.new");
    std::fs::write(&ready, serde_json::to_string_pretty(&world.regions)?)?;
    std::fs::rename(&ready, dir.join("regions.json"))?;
    term.recv().await;
    futures::future::join_all(world.clusters.iter().map(|cluster| cluster.stop())).await;
    Ok(())
}

/// The supervisor of a demo that is up; a process that merely has its number does not count.
fn running(dir: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(dir.join("pid")).ok()?;
    let (pid, started) = text.split_once(' ')?;
    let (pid, started) = (pid.parse().ok()?, started.parse::<u64>().ok()?);
    (start_time(pid) == Some(started)).then_some(pid)
}

/// Ends the fleet and removes its state.
///
/// # Errors
///
/// Where it does not end.
pub async fn down(dir: &Path) -> Result<()> {
    let Some(pid) = running(dir) else {
        println!("no demo is up");
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        return Ok(());
    };
    kill(Pid::from_raw(pid), Signal::SIGTERM).context("ending the fleet")?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    while running(dir).is_some() {
        tick.tick().await;
        ensure!(
            tokio::time::Instant::now() < deadline,
            "the fleet (process {pid}) did not end within a minute"
        );
    }
    std::fs::remove_dir_all(dir)?;
    println!("the demo's fleet is gone");
    Ok(())
}
