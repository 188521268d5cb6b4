//! Processes of pods of this process's fleet, found by what they were started with, and ended by their id.

use anyhow::{Context, Result};
use multiactive_fleet::process::parent_of;
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
fn is_ours(mut pid: i32) -> bool {
    while pid > 1 {
        if u32::try_from(pid) == Ok(std::process::id()) {
            return true;
        }
        pid = parent_of(pid).unwrap_or(0);
    }
    false
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
