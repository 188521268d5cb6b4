//! The process that keeps the demo's fleet up after `make demo` has ended, and its end.

use super::{control, state};
use crate::region::Region;
use crate::stage::REGIONS;
use crate::world::{Network, World};
use anyhow::{Context, Result, bail, ensure};
use multiactive_fleet::files::write_private;
use multiactive_fleet::{kubeconfig, process::log_tail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval};

/// How long the fleet may take to come up on a slow machine.
const START_LIMIT: Duration = Duration::from_secs(300);
/// How long it may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(60);
const ASK: Duration = Duration::from_millis(100);

/// A fleet that this process started, in a process of its own. Until it is let go it ends with this process, however
/// this process ends: the supervisor holds the other end of `lifeline`.
pub struct Fleet {
    dir: PathBuf,
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Fleet {
    /// Starts the supervisor, in a process group of its own: Ctrl-C reaches us, who know what to do, and not it.
    ///
    /// # Errors
    ///
    /// Where a demo is up in `dir`, or the folder cannot be used.
    pub fn start(dir: &Path, network: Network) -> Result<Self> {
        if let Some(pid) = state::running(dir) {
            bail!(
                "a demo is up already (process {pid}, {}): `{}` removes it",
                dir.display(),
                super::down_command(dir)
            );
        }
        state::create(dir)?;
        let log = std::fs::OpenOptions::new().append(true).open(dir.join(state::LOG))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg("--dir").arg(dir);
        command.arg("--network").arg(network.to_string());
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.process_group(0).spawn()?;
        let lifeline = child.stdin.take();
        let recorded = state::record(dir, child.id());
        let fleet = Self {
            dir: dir.to_owned(),
            child,
            lifeline,
        };
        recorded.map(|()| fleet)
    }

    /// Waits for the regions.
    ///
    /// # Errors
    ///
    /// Where the fleet does not start, with the end of its log.
    pub async fn regions(&mut self) -> Result<Vec<Region>> {
        let deadline = Instant::now() + START_LIMIT;
        let mut tick = interval(ASK);
        loop {
            tick.tick().await;
            if let Ok(regions) = state::regions(&self.dir) {
                return Ok(regions);
            }
            let log = || log_tail(&self.dir.join(state::LOG), 30);
            if let Some(status) = self.child.try_wait()? {
                bail!("the fleet did not start ({status}):\n{}", log());
            }
            ensure!(
                Instant::now() < deadline,
                "the fleet did not start within {START_LIMIT:?}:\n{}",
                log()
            );
        }
    }

    /// Lets it go on without us.
    ///
    /// # Errors
    ///
    /// Where it has ended.
    pub fn let_go(&mut self) -> Result<()> {
        if let Some(mut lifeline) = self.lifeline.take() {
            lifeline.write_all(b"!").context("letting the fleet go on")?;
        }
        Ok(())
    }

    /// Whether it goes on without us.
    pub fn is_free(&self) -> bool {
        self.lifeline.is_none()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it and waits until it is gone. Its folder stays.
    ///
    /// # Errors
    ///
    /// Where it does not end.
    pub async fn end(&mut self) -> Result<()> {
        end(&self.dir).await?;
        // Only to reap it: `end` returned because it runs no more.
        self.child.wait()?;
        Ok(())
    }
}

/// Runs the fleet until SIGTERM, or until the process that started it is gone without having let it go.
///
/// # Errors
///
/// Where a part does not start.
pub async fn serve(dir: &Path, network: Network) -> Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut starter = pipe::Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned()?)
        .context("this is run by `demo up`")?;
    let world = tokio::select! {
        world = World::start(&REGIONS, network, None) => world?,
        _ = term.recv() => return Ok(()),
        () = lost(&mut starter) => return Ok(()),
    };
    let all: Vec<_> = world
        .clusters
        .iter()
        .map(|cluster| cluster.kubeconfig().clone())
        .collect();
    write_private(&dir.join("kubeconfig"), kubeconfig::to_yaml(&kubeconfig::merge(&all))?)?;
    state::publish(dir, &world.regions)?;
    tokio::select! {
        _ = term.recv() => {}
        () = lost(&mut starter) => {}
        failed = control::serve(dir, &world) => failed?,
    }
    futures::future::join_all(world.clusters.iter().map(|cluster| cluster.stop())).await;
    Ok(())
}

/// Returns when the starter is gone; never, once it has let us go.
async fn lost(starter: &mut pipe::Receiver) {
    let mut word = [0];
    if matches!(starter.read(&mut word).await, Ok(1)) {
        std::future::pending::<()>().await;
    }
}

/// Ends the fleet of a folder, if one runs there; whether one did.
///
/// # Errors
///
/// Where it does not end.
pub async fn end(dir: &Path) -> Result<bool> {
    let Some(pid) = state::running(dir) else {
        return Ok(false);
    };
    kill(Pid::from_raw(pid), Signal::SIGTERM).context("ending the fleet")?;
    let deadline = Instant::now() + STOP_LIMIT;
    let mut tick = interval(ASK);
    while state::running(dir).is_some() {
        tick.tick().await;
        ensure!(
            Instant::now() < deadline,
            "the fleet (process {pid}) did not end within {STOP_LIMIT:?}"
        );
    }
    Ok(true)
}
