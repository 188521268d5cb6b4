//! Processes of pods of this process's fleet, found by what they were started with, and ended or stopped by their id.

use anyhow::{Context, Result};
use multiactive_fleet::process::{is_stopped, parent_of, start_time};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;
use tokio::time::interval;

/// The processes of `program` one of whose arguments contains `argument`, of those that this process has started: another
/// fleet on this machine has the same.
pub fn find(program: &str, argument: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let matches = |pid: &i32| {
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
            return false;
        };
        let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        words.next().is_some_and(|first| first.ends_with(program)) && words.any(|word| word.contains(argument))
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| matches(pid) && is_ours(*pid))
        .collect()
}

/// Whether a process descends from this one.
fn is_ours(pid: i32) -> bool {
    i32::try_from(std::process::id()).is_ok_and(|this| descends_from(pid, &[this]))
}

/// Kills the one process that [`find`] finds, as `kill -9` does; gives its id.
///
/// # Errors
///
/// Where there is none, or more than one.
pub fn kill_9(program: &str, argument: &str) -> Result<i32> {
    let found = find(program, argument);
    let [pid] = found[..] else {
        anyhow::bail!("{program} with {argument}: expected one process, found {found:?}")
    };
    kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("killing {program} ({pid})"))?;
    Ok(pid)
}

/// Waits until [`find`] finds one process that is not `old`.
///
/// # Errors
///
/// Where that does not happen within a minute.
pub async fn back(program: &str, argument: &str, old: i32) -> Result<()> {
    let mut tick = interval(Duration::from_millis(50));
    let search = async {
        while !find(program, argument).iter().any(|pid| *pid != old) {
            tick.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), search)
        .await
        .with_context(|| format!("{program} did not come back"))
}

/// Processes that stand still in the midst of what they do. They go on when it is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<Stopped>);

/// A process, named for good: its id alone may be another's by the time it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stopped {
    pid: i32,
    started: u64,
}

impl Frozen {
    /// Stops these processes and all that descend from them. Returns when none of them runs any more.
    ///
    /// # Errors
    ///
    /// Where one cannot be stopped, or runs on for half a minute.
    pub async fn all_below(roots: impl IntoIterator<Item = i32>) -> Result<Self> {
        let roots: Vec<i32> = roots.into_iter().collect();
        let mut frozen = Self(Vec::new());
        let stop = async {
            let mut tick = interval(Duration::from_millis(1));
            // Whoever ran while the others were stopped may have started another one.
            while frozen.stop_new(&roots)? || !frozen.stand_still() {
                tick.tick().await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(30), stop)
            .await
            .context("processes run on that were stopped")??;
        Ok(frozen)
    }

    /// Stops those that are not stopped yet; whether there were any.
    fn stop_new(&mut self, roots: &[i32]) -> Result<bool> {
        let found = below(roots);
        let new: Vec<_> = found.into_iter().filter(|process| !self.0.contains(process)).collect();
        for process in &new {
            match kill(Pid::from_raw(process.pid), Signal::SIGSTOP) {
                // It has ended meanwhile.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).with_context(|| format!("stopping {}", process.pid)),
            }
        }
        let any = !new.is_empty();
        self.0.extend(new);
        Ok(any)
    }

    fn stand_still(&self) -> bool {
        let alive = |process: &&Stopped| start_time(process.pid) == Some(process.started);
        self.0.iter().filter(alive).all(|process| is_stopped(process.pid))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            if start_time(process.pid) == Some(process.started) {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGCONT);
            }
        }
    }
}

/// Processes and all that descend from them.
fn below(roots: &[i32]) -> Vec<Stopped> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_these = pids.filter(|pid| descends_from(*pid, roots));
    of_these
        .filter_map(|pid| {
            let started = start_time(pid)?;
            Some(Stopped { pid, started })
        })
        .collect()
}

fn descends_from(mut pid: i32, roots: &[i32]) -> bool {
    while pid > 1 {
        if roots.contains(&pid) {
            return true;
        }
        pid = parent_of(pid).unwrap_or(0);
    }
    false
}
