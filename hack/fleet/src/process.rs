//! One child process: started so that it ends with us, watched, signalled without ever hitting another process.
//!
//! - `setpriv` (util-linux) gives the child a parent-death signal and, where asked, an unprivileged user. The signal
//!   follows the *thread* that forked, so all children are forked by one thread that lives as long as we do.
//! - Each child leads a process group: Ctrl-C at a terminal reaches us and not them, and a kill reaches their children.
//! - A thread waits for each child, and reaps it under the lock that signals take: a reused pid is never signalled.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, User};
use tokio::sync::watch;

use crate::{Error, Result};

/// What to start.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment; `None` passes ours on.
    pub env: Option<Vec<(String, String)>>,
    /// Its working folder.
    pub dir: PathBuf,
    /// Where its output goes (appended).
    pub log: PathBuf,
    /// Another user to run as.
    pub run_as: Option<RunAs>,
    /// The signal it gets when we end.
    pub death_signal: Signal,
}

/// An unprivileged user for programs that refuse to run as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunAs {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl RunAs {
    /// Who runs databases when we are root: `postgres`, else `nobody`. `None` when we are not root.
    pub fn unprivileged() -> Option<RunAs> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let user = ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten());
        user.map(|user| RunAs {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }
}

/// A running or ended child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    log: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The exit status, once reaped.
    ended: Mutex<Option<ExitStatus>>,
    changed: Condvar,
    seen: watch::Sender<Option<ExitStatus>>,
}

impl Shared {
    fn ended(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Starts a program.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the program or its log cannot be opened or the process cannot be made.
    pub fn start(spec: &Spec) -> Result<Process> {
        // Through setpriv a missing program would be an exit status; say it here instead.
        std::fs::metadata(&spec.program).map_err(Error::io("starting", &spec.program))?;
        let log = open_log(&spec.log)?;
        let mut command = command(spec);
        command
            .current_dir(&spec.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(Error::io("opening", &spec.log))?)
            .stderr(log)
            .process_group(0);
        if let Some(env) = &spec.env {
            command.env_clear().envs(env.iter().map(|(name, value)| (name, value)));
        }
        let child = fork(command).map_err(Error::io("starting", &spec.program))?;
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        let record = record(&spec.log, pid);
        let shared = Arc::new(Shared {
            ended: Mutex::default(),
            changed: Condvar::new(),
            seen: watch::channel(None).0,
        });
        let theirs = shared.clone();
        std::thread::Builder::new()
            .name(format!("wait-{pid}"))
            .stack_size(128 * 1024)
            .spawn(move || {
                reap(child, pid, &theirs);
                let _ = std::fs::remove_file(record);
            })
            .map_err(Error::io("waiting for", &spec.program))?;
        Ok(Process {
            pid,
            log: spec.log.clone(),
            shared,
        })
    }

    /// Its process id; also the id of its process group.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.shared.ended()
    }

    /// Waits for its end. Safe to cancel.
    pub async fn wait(&self) -> ExitStatus {
        let mut seen = self.shared.seen.subscribe();
        match seen.wait_for(Option::is_some).await.map(|status| *status) {
            Ok(Some(status)) => status,
            // The sender lives in `self`, so this cannot be; an end without a status is the honest answer.
            Ok(None) | Err(_) => self.ended().unwrap_or_default(),
        }
    }

    /// Signals the process and what it started, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let ended = self.shared.ended();
        if ended.is_none() {
            // Not reaped yet, so the group is still ours. The group may be empty of live processes: no error to us.
            let _ = killpg(Pid::from_raw(self.pid), signal);
        }
    }

    /// Asks it to end with `signal`, kills it after `grace`, and waits until it is gone.
    pub async fn stop(&self, signal: Signal, grace: Duration) -> ExitStatus {
        self.signal(signal);
        if let Ok(status) = tokio::time::timeout(grace, self.wait()).await {
            return status;
        }
        self.signal(Signal::SIGKILL);
        self.wait().await
    }

    /// As [`Process::stop`], for destructors.
    pub fn stop_blocking(&self, signal: Signal, grace: Duration) {
        self.signal(signal);
        if !self.wait_blocking(grace) {
            self.signal(Signal::SIGKILL);
            self.wait_blocking(Duration::from_secs(5));
        }
    }

    fn wait_blocking(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut ended = self.shared.ended();
        while ended.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            ended = self
                .shared
                .changed
                .wait_timeout(ended, left)
                .map_or_else(|e| e.into_inner().0, |(guard, _)| guard);
        }
        true
    }

    /// The error that says that it ended although it should run.
    pub fn exited(&self, part: &str) -> Option<Error> {
        let status = self.ended()?;
        let tail = log_tail(&self.log, 15);
        Some(Error::Exited {
            part: part.to_owned(),
            status: status.to_string(),
            log: self.log.clone(),
            tail,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.stop_blocking(Signal::SIGKILL, Duration::from_secs(5));
        }
    }
}

/// The last `lines` lines of a log, or a word on why there are none.
pub fn log_tail(path: &Path, lines: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("(no log: {error})"),
    }
}

/// When the process with this id started, in the kernel's ticks since boot; `None` when there is none.
///
/// Together with the pid it names a process for good: pids are used again, start times with them are not.
pub fn start_time(pid: i32) -> Option<u64> {
    let fields = stat(pid)?;
    if fields.first().map(String::as_str) == Some("Z") {
        return None; // ended, only not reaped by its parent yet
    }
    fields.get(19)?.parse().ok()
}

/// The id of a process's parent; `None` when there is no such process.
pub fn parent_of(pid: i32) -> Option<i32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Whether every thread of a process is stopped by a signal: it takes effect in one after the other.
pub fn is_stopped(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')')
            .is_none_or(|(_, after)| after.trim_start().starts_with('T'))
    })
}

/// What the kernel says of a process, from its state on, which is field 3: the name in parentheses before that may hold
/// anything.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some(fields.map(str::to_owned).collect())
}

/// Writes down which process this is, beside its log: whoever finds the folder after a crash can end it.
fn record(log: &Path, pid: i32) -> PathBuf {
    let path = log.with_extension(format!("{pid}.{RECORD}"));
    if let Some(started) = start_time(pid) {
        // Without it, only a cleanup after a crash misses this process.
        let _ = std::fs::write(&path, format!("{pid} {started}\n"));
    }
    path
}

/// The extension of the records of processes.
const RECORD: &str = "process";

/// Kills every process that was recorded below `dir` and still is that process.
pub(crate) fn kill_recorded(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kill_recorded(&path);
        } else if path.extension().is_some_and(|extension| extension == RECORD) {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let mut words = text.split_whitespace();
            let pid = words.next().and_then(|word| word.parse::<i32>().ok());
            let started = words.next().and_then(|word| word.parse::<u64>().ok());
            if let (Some(pid), Some(started)) = (pid, started)
                && start_time(pid) == Some(started)
            {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

fn command(spec: &Spec) -> Command {
    if !*SETPRIV {
        let mut command = Command::new(&spec.program);
        command.args(&spec.args);
        if let Some(user) = spec.run_as {
            command.uid(user.uid).gid(user.gid);
        }
        return command;
    }
    let mut command = Command::new("setpriv");
    let signal = spec.death_signal.as_str().trim_start_matches("SIG");
    command.arg("--pdeathsig").arg(signal);
    if let Some(user) = spec.run_as {
        command.args([
            format!("--reuid={}", user.uid),
            format!("--regid={}", user.gid),
            "--clear-groups".into(),
        ]);
    }
    command.arg("--").arg(&spec.program).args(&spec.args);
    command
}

/// Whether `setpriv` can set a parent-death signal here. Without it, what we started outlives our SIGKILL, and
/// `fleet down` cleans up.
static SETPRIV: LazyLock<bool> = LazyLock::new(|| {
    let tried = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
});

fn open_log(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io("creating", parent))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(Error::io("opening", path))
}

type Job = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The thread that forks: its end would be the children's end.
static FORKER: LazyLock<std::io::Result<Mutex<mpsc::Sender<Job>>>> = LazyLock::new(|| {
    let (jobs, todo) = mpsc::channel::<Job>();
    std::thread::Builder::new().name("forker".into()).spawn(move || {
        for (mut command, answer) in todo {
            // Nobody waits for the answer any more: the child is dropped, and its group would be left.
            if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    })?;
    Ok(Mutex::new(jobs))
});

fn fork(command: Command) -> std::io::Result<Child> {
    let gone = || std::io::Error::other("the thread that starts processes is gone");
    let (answer, result) = mpsc::channel();
    let jobs = FORKER
        .as_ref()
        .map_err(|error| std::io::Error::new(error.kind(), error.to_string()))?;
    jobs.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

fn reap(mut child: Child, pid: i32, shared: &Shared) {
    // Wait without reaping first, so that the pid stays ours until the lock is held.
    while let Err(nix::errno::Errno::EINTR) =
        waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
    {}
    let mut ended = shared.ended();
    // What it started and left behind goes with it, as with a container.
    let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    let status = child.wait().unwrap_or_default();
    *ended = Some(status);
    shared.changed.notify_all();
    drop(ended);
    shared.seen.send_replace(Some(status));
}
