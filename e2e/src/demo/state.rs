//! The folder of a demo: what is kept there, and which process it belongs to.

use crate::region::Region;
use anyhow::{Context, Result, ensure};
use multiactive_fleet::files::write_private;
use multiactive_fleet::process::start_time;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The supervisor's log. It is made first and removed last: a folder without it is not ours.
pub const LOG: &str = "fleet.log";
/// The picture of the latencies.
pub const PICTURE: &str = "latency.svg";
/// The picture of the lost region.
pub const PICTURE_OF_LOSS: &str = "lost.svg";
/// Where the fleet is told what to do to its regions.
pub const SOCKET: &str = "control";
/// Every attempt of the load.
pub const ORDERS: &str = "orders.jsonl";
/// Logs that were saved before a fleet ended which had failed.
pub const LOGS: &str = "logs";

/// Where the demo keeps its state, unless told otherwise.
pub fn state_dir() -> PathBuf {
    multiactive_fleet::tools::cache_root().join("demo")
}

/// Makes the folder anew, for this user alone: it will hold keys and passwords.
///
/// # Errors
///
/// Where there is a folder that is not a demo's.
pub fn create(dir: &Path) -> Result<()> {
    clear(dir)?;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(dir)
        .with_context(|| format!("creating {}", dir.display()))?;
    Ok(write_private(&dir.join(LOG), "")?)
}

/// Removes the folder, unless it is somebody else's.
///
/// # Errors
///
/// Where it holds something, and nothing of a demo.
pub fn clear(dir: &Path) -> Result<()> {
    ensure_ours(dir)?;
    gone(fs::remove_dir_all(dir), dir)
}

/// Removes all but what was found out: picture, orders, logs.
///
/// # Errors
///
/// As [`clear`].
pub fn clear_but_results(dir: &Path) -> Result<()> {
    ensure_ours(dir)?;
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        if [LOG, PICTURE, PICTURE_OF_LOSS, ORDERS, LOGS]
            .iter()
            .any(|kept| entry.file_name() == *kept)
        {
            continue;
        }
        let path = entry.path();
        let folder = entry.file_type()?.is_dir();
        gone(
            if folder {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            },
            &path,
        )?;
    }
    Ok(())
}

fn gone(removed: std::io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn ensure_ours(dir: &Path) -> Result<()> {
    let mut entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.with_context(|| format!("reading {}", dir.display()))?,
    };
    ensure!(
        dir.join(LOG).exists() || entries.next().is_none(),
        "{} holds something else than a demo: choose another --dir",
        dir.display()
    );
    Ok(())
}

/// Writes down which process runs the fleet.
///
/// # Errors
///
/// Where it is gone already, or the folder is.
pub fn record(dir: &Path, pid: u32) -> Result<()> {
    let started = start_time(i32::try_from(pid)?).context("the fleet's process ended at once")?;
    Ok(write_private(&dir.join("pid"), format!("{pid} {started}"))?)
}

/// The process that runs the fleet; one that merely has its number does not count.
pub fn running(dir: &Path) -> Option<i32> {
    let text = fs::read_to_string(dir.join("pid")).ok()?;
    let (pid, started) = text.split_once(' ')?;
    let (pid, started) = (pid.parse().ok()?, started.parse::<u64>().ok()?);
    (start_time(pid) == Some(started)).then_some(pid)
}

/// Says that the fleet is up, and where.
///
/// # Errors
///
/// Where the folder cannot be written.
pub fn publish(dir: &Path, regions: &[Region]) -> Result<()> {
    let ready = dir.join("regions.json.new");
    write_private(&ready, serde_json::to_string_pretty(regions)?)?;
    Ok(fs::rename(&ready, dir.join("regions.json"))?)
}

/// The regions of a demo that is up.
///
/// # Errors
///
/// Where it is not.
pub fn regions(dir: &Path) -> Result<Vec<Region>> {
    let text = fs::read_to_string(dir.join("regions.json"))?;
    Ok(serde_json::from_str(&text)?)
}

/// Copies the logs of clusters and pods to the demo's folder: with the fleet go the folders in which they lie.
pub fn save_logs(dir: &Path, regions: &[Region]) {
    for region in regions {
        if let Some(cluster) = region.kubeconfig.parent() {
            copy_logs(cluster, &dir.join(LOGS).join(&region.name));
        }
    }
}

/// As far as that is possible: a log that is missing must not hide why it was wanted.
fn copy_logs(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            copy_logs(&path, &target);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            let _ = fs::create_dir_all(to).and_then(|()| fs::copy(&path, &target));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_of_something_else_is_neither_used_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mine = dir.path().join("thesis.txt");
        fs::write(&mine, "years of work").unwrap();
        for refused in [create(dir.path()), clear(dir.path()), clear_but_results(dir.path())] {
            assert!(refused.unwrap_err().to_string().contains("choose another --dir"));
        }
        assert!(mine.exists());
    }

    #[test]
    fn a_folder_is_the_users_alone_and_keeps_only_results() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("a/demo");
        create(&dir).unwrap();
        let mode = fs::metadata(&dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        record(&dir, std::process::id()).unwrap();
        assert_eq!(running(&dir), i32::try_from(std::process::id()).ok());
        for name in [PICTURE, ORDERS, "kubeconfig"] {
            fs::write(dir.join(name), "").unwrap();
        }
        fs::create_dir(dir.join("hub")).unwrap();
        clear_but_results(&dir).unwrap();
        let mut left: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, [LOG, PICTURE, ORDERS]);
        create(&dir).unwrap();
        assert!(!dir.join(PICTURE).exists(), "of an earlier demo");
        clear(&dir).unwrap();
        assert!(!dir.exists());
        clear(&dir).unwrap();
    }
}
