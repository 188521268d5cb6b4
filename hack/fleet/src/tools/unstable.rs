//! A package of Debian's unstable release with all that it depends on, the C library too, unpacked into the cache. apt works
//! on a state of our own, as if nothing were installed; the machine's is not touched, and nobody needs to be root.

use std::path::Path;
use std::process::{Command, Stdio};

use super::build::run;
use super::debian::{candidate, is_of, names, package};
use super::{MYSQL_PACKAGES, Progress, Tool};
use crate::server::as_root;
use crate::{Error, Result, mysql};

/// The suite of the unstable release.
const SUITE: &str = "sid";

/// By which keys Debian signs.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Packages that the others want, and nothing that we run: they are many files.
const NOT_RUN: [&str; 4] = ["perl", "libperl", "gcc-", "perl-"];

/// Downloads MySQL and all that it depends on, unpacks it into one tree with `usr` at its top, and makes a data folder in it
/// that every server starts with a copy of.
pub(super) fn unpack(tool: Tool, root: &Path, prefix: &str, progress: Progress<'_>) -> Result<()> {
    let work = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(root)
        .map_err(Error::io("writing to", root))?;
    let options = own_state(work.path())?;
    progress(tool, "fetching the lists of packages");
    let mut update = Command::new("apt-get");
    update.arg("update").args(&options);
    run(tool, update, progress)?;
    need(&options)?;
    progress(tool, "downloading");
    let mut download = Command::new("apt-get");
    download.args(["install", "--yes", "--download-only", "--no-install-recommends"]);
    download.args(&options).args(names(MYSQL_PACKAGES).map(package));
    run(tool, download, progress)?;
    progress(tool, "unpacking");
    let (archives, tree) = (work.path().join("cache/archives"), work.path().join("tree"));
    for entry in std::fs::read_dir(&archives)
        .map_err(Error::io("reading", &archives))?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".deb") && !NOT_RUN.iter().any(|prefix| name.starts_with(prefix)) {
            let mut unpack = Command::new("dpkg");
            unpack.arg("-x").arg(entry.path()).arg(&tree);
            run(tool, unpack, progress)?;
        }
    }
    progress(tool, "making a data folder");
    initialise(tool, &tree.join("usr"), progress)?;
    let target = root.join(format!("{}-{}", tool.family().name, tool.version()?));
    std::fs::rename(&tree, &target).map_err(Error::io("renaming to", &target))
}

/// Options by which apt keeps all that it knows in a folder of ours.
fn own_state(work: &Path) -> Result<Vec<String>> {
    for dir in ["lists/partial", "cache/archives/partial", "etc"] {
        let dir = work.join(dir);
        std::fs::create_dir_all(&dir).map_err(Error::io("making", &dir))?;
    }
    let write = |name: &str, text: String| {
        let path = work.join(name);
        std::fs::write(&path, text).map_err(Error::io("writing", &path))
    };
    write("status", String::new())?;
    let keys = match Path::new(KEYS).exists() {
        true => format!("[signed-by={KEYS}] "),
        false => String::new(),
    };
    write("etc/sources.list", format!("deb {keys}{} {SUITE} main\n", mirror()?))?;
    let at = |name: &str| work.join(name).display().to_string();
    let options = [
        ("Dir::State", at("")),
        ("Dir::State::Lists", at("lists")),
        ("Dir::State::status", at("status")),
        ("Dir::Cache", at("cache")),
        ("Dir::Etc::SourceList", at("etc/sources.list")),
        ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
        // As root it would hand the download to a user of its own, who cannot write here.
        ("APT::Sandbox::User", "root".to_owned()),
    ];
    let option = |(name, value): (&str, String)| ["-o".to_owned(), format!("{name}={value}")];
    Ok(options.into_iter().flat_map(option).collect())
}

/// Where this machine gets Debian from.
fn mirror() -> Result<String> {
    let asked = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output();
    let text = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let found = text
        .lines()
        .find(|line| line.trim_end_matches('/').ends_with("/debian"));
    found.map(str::to_owned).ok_or_else(|| Error::Prerequisite {
        what: "apt-get with a source of Debian".into(),
        install: "MySQL is unpacked from Debian's packages: run its tests on Debian".into(),
    })
}

/// Fails where the package cannot be had, or only of another release.
fn need(options: &[String]) -> Result<()> {
    for line in names(MYSQL_PACKAGES) {
        let release = line.split_once('=').map(|(_, release)| release);
        let asked = Command::new("apt-cache")
            .args(["policy", package(line)])
            .args(options)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output();
        let text = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_default();
        let found = candidate(&text).unwrap_or("none");
        if found == "none" || release.is_some_and(|release| !is_of(found, release)) {
            return Err(Error::Prerequisite {
                what: format!("a source that has {line} (found in {SUITE}: {found})"),
                install: "Debian's unstable release has moved on: see hack/tools/mysql/packages.txt".into(),
            });
        }
    }
    Ok(())
}

/// Makes a data folder, `root` without a password. Without what names the server: each copy gets a name of its own.
fn initialise(tool: Tool, base: &Path, progress: Progress<'_>) -> Result<()> {
    let (libraries, data) = (mysql::libraries(base), mysql::template(base));
    let mut command = Command::new(mysql::loader(&libraries));
    command
        .arg("--library-path")
        .arg(&libraries)
        .arg(base.join("sbin/mysqld"));
    command.args(["--no-defaults", "--initialize-insecure"]).args(as_root());
    command.args(mysql::arguments(base)).args([
        format!("--basedir={}", base.display()),
        format!("--lc-messages-dir={}", base.join("share/mysql").display()),
        format!("--datadir={}", data.display()),
        "--innodb-redo-log-capacity=16M".to_owned(),
        "--secure-file-priv=NULL".to_owned(),
    ]);
    run(tool, command, progress)?;
    let name = data.join("auto.cnf");
    std::fs::remove_file(&name).map_err(Error::io("removing", &name))
}
