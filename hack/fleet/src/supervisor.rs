//! Fleets in the background: a process of its own session runs one, and its state file says what to know of it.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::chain;
use crate::files::write_private;
use crate::fleet::{Fleet, Ready};
use crate::state::{ClusterRecord, Phase, PostgresRecord, ProcessRecord, Spec, State, check_name, folder, root};
use crate::{Error, Result, kubeconfig, postgres, process};

const ASK: Duration = Duration::from_millis(100);
const START_LIMIT: Duration = Duration::from_secs(300);
/// How long a supervisor may take to end its parts.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Starts a fleet in the background: `program` is the `fleet` binary. Returns at once; see [`ready`].
///
/// # Errors
///
/// [`Error::Refused`] when there is a fleet of this name, or the programs' folder is missing.
pub fn up(program: &Path, spec: &Spec) -> Result<()> {
    for name in [&spec.name].into_iter().chain(&spec.clusters).chain(&spec.postgres) {
        check_name(name)?;
    }
    if spec.clusters.is_empty() && spec.postgres.is_empty() {
        return Err(Error::Refused(
            "nothing to start: name clusters, PostgreSQL servers or both".into(),
        ));
    }
    if let Some(programs) = spec.programs.as_ref().filter(|programs| !programs.is_dir()) {
        return Err(Error::Refused(format!(
            "{} is no folder of programs",
            programs.display()
        )));
    }
    std::fs::create_dir_all(root()).map_err(Error::io("creating", &root()))?;
    let dir = folder(&spec.name);
    // Making the folder is the lock: only one caller succeeds.
    match std::fs::create_dir(&dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(exists(&spec.name)),
        Err(error) => return Err(Error::io("creating", &dir)(error)),
    }
    let state = State::new(spec.clone());
    let started = state.save().and_then(|()| spawn(program, &state));
    if started.is_err() {
        let _ = std::fs::remove_dir_all(&dir);
    }
    started
}

fn exists(name: &str) -> Error {
    let alive = State::load(name).ok().flatten().is_some_and(|state| state.alive());
    let what = if alive { "runs" } else { "was left behind by a crash" };
    Error::Refused(format!(
        "a fleet named {name} exists and {what}: see `fleet status --name {name}`, remove it with \
         `fleet down --name {name}`, or choose another --name"
    ))
}

fn spawn(program: &Path, state: &State) -> Result<()> {
    let path = state.log();
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Error::io("opening", &path))?;
    let mut command = Command::new(program);
    command
        .args(["run", "--name", &state.spec.name])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(Error::io("opening", &path))?)
        .stderr(log);
    command.spawn().map(drop).map_err(Error::io("starting", program))
}

/// Waits until a fleet that was started is ready; `progress` sees its state meanwhile.
///
/// # Errors
///
/// Why it failed.
pub async fn ready(name: &str, progress: impl Fn(&State)) -> Result<State> {
    let started = Instant::now();
    loop {
        let state = find(name)?;
        progress(&state);
        let waited = started.elapsed();
        // It writes itself down as the first thing it does.
        let begun = state.supervisor.is_some() || waited > Duration::from_secs(10);
        match state.phase {
            Phase::Running => return Ok(state),
            Phase::Failed => return Err(Error::Refused(state.message.unwrap_or_default())),
            Phase::Starting if begun && !state.alive() => {
                let tail = process::log_tail(&state.log(), 15);
                let part = format!("the supervisor of fleet {name}");
                return Err(Error::Exited {
                    part,
                    status: "no status".into(),
                    log: state.log(),
                    tail,
                });
            }
            Phase::Starting if waited > START_LIMIT => {
                let last = process::log_tail(&state.log(), 5);
                return Err(Error::NotReady {
                    what: format!("fleet {name}"),
                    waited,
                    last,
                });
            }
            Phase::Starting => tokio::time::sleep(ASK).await,
        }
    }
}

/// A fleet's state.
///
/// # Errors
///
/// [`Error::Refused`] when there is none of this name.
pub fn find(name: &str) -> Result<State> {
    State::load(name)?.ok_or_else(|| Error::Refused(format!("there is no fleet named {name}; see `fleet status`")))
}

/// Ends a fleet and removes every trace of it, whatever state it is in. `false` when there was none.
///
/// # Errors
///
/// [`Error::Io`] when its folder cannot be removed.
pub async fn down(name: &str) -> Result<bool> {
    check_name(name)?;
    let dir = folder(name);
    if !dir.exists() {
        return Ok(false);
    }
    // A state that cannot be read must not keep us from cleaning up.
    if let Some(supervisor) = State::load(name).ok().flatten().and_then(|state| state.supervisor) {
        end(supervisor).await;
    }
    process::kill_recorded(&dir);
    for server in std::fs::read_dir(dir.join("postgres")).into_iter().flatten().flatten() {
        postgres::free_shared_memory(&server.path().join("data"));
    }
    remove(&dir).await?;
    let _ = std::fs::remove_dir(root()); // where it was the last one
    Ok(true)
}

async fn end(supervisor: ProcessRecord) {
    for (signal, limit) in [(Signal::SIGTERM, STOP_LIMIT), (Signal::SIGKILL, STOP_LIMIT)] {
        let until = Instant::now() + limit;
        if supervisor.runs() {
            let _ = kill(Pid::from_raw(supervisor.pid), signal);
        }
        while supervisor.runs() && Instant::now() < until {
            tokio::time::sleep(ASK).await;
        }
    }
}

/// Removes a folder in which a dying process may still write.
async fn remove(dir: &Path) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match std::fs::remove_dir_all(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > until => return Err(Error::io("removing", dir)(error)),
            Err(_) => tokio::time::sleep(ASK).await,
        }
    }
}

/// Runs a fleet until it is told to end: the whole life of the supervisor's process.
///
/// # Errors
///
/// Why the fleet could not be started; the state says it, too.
pub async fn run(name: &str) -> Result<()> {
    // Out of the caller's session: its terminal's signals and its end are not ours. Fails where we lead one already.
    let _ = nix::unistd::setsid();
    let io = |source| Error::Io {
        doing: "listening for signals".into(),
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    let mut state = find(name)?;
    state.supervisor = ProcessRecord::of(i32::try_from(std::process::id()).unwrap_or(0));
    state.save()?;
    let (spec, dir) = (state.spec.clone(), folder(name));
    let state = Mutex::new(state);
    let progress = |ready: Ready<'_>| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        note(&mut state, &ready);
        if let Err(error) = state.save() {
            tracing::error!(%error, "writing the state");
        }
    };
    let started = tokio::select! {
        started = Fleet::start(&spec, Some(&dir), &progress) => started,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let mut state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let fleet = match started {
        Ok(fleet) => fleet,
        Err(error) => {
            (state.phase, state.message) = (Phase::Failed, Some(chain(&error)));
            state.save()?;
            return Err(error);
        }
    };
    let path = state.kubeconfig();
    write_private(&path, kubeconfig::to_yaml(&fleet.kubeconfig())?)?;
    state.phase = Phase::Running;
    state.save()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    fleet.stop().await;
    Ok(())
}

fn note(state: &mut State, ready: &Ready<'_>) {
    match ready {
        Ready::Cluster(cluster) => {
            let parts = cluster.running().into_iter();
            let parts = parts.filter_map(|(part, pid)| Some((part.name().to_owned(), ProcessRecord::of(pid)?)));
            let record = ClusterRecord {
                server: cluster.server(),
                kubeconfig: cluster.kubeconfig_path(),
                dir: cluster.dir().to_path_buf(),
                parts: parts.collect(),
            };
            state.clusters.insert(cluster.name().to_owned(), record);
        }
        Ready::Postgres(name, server) => {
            let record = PostgresRecord {
                port: server.port(),
                password: server.password().to_owned(),
                url: server.url("postgres", "postgres"),
                bin: server.bin().to_path_buf(),
                dir: server.log().parent().map(PathBuf::from).unwrap_or_default(),
                process: server.pid().and_then(ProcessRecord::of),
            };
            state.postgres.insert((*name).to_owned(), record);
        }
    }
}
