//! Debian's packages, unpacked into the cache: nothing is installed, no service is touched, and nobody needs to be root.

use std::path::Path;
use std::process::{Command, Stdio};

use super::build::run;
use super::{Progress, Tool};
use crate::{Error, Result};

/// The release at which a packages.txt pins its first package, for example `10.11`.
pub(super) fn release(packages: &str) -> Option<&str> {
    Some(names(packages).next()?.split_once('=')?.1)
}

/// The lines that name a package, with or without its release.
pub(super) fn names(packages: &str) -> impl Iterator<Item = &str> {
    packages
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Downloads the packages that a packages.txt names and unpacks them all into one tree, with `usr` at its top.
pub(super) fn unpack(tool: Tool, packages: &str, root: &Path, prefix: &str, progress: Progress<'_>) -> Result<()> {
    let work = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(root)
        .map_err(Error::io("writing to", root))?;
    let mut lists = Vec::new();
    if need_candidates(packages, &lists).is_err() {
        // A machine may be new, and only root may fetch its lists: these are our own.
        progress(tool, "fetching the lists of packages");
        lists = own_lists(work.path())?;
        let mut update = Command::new("apt-get");
        update.args(["update", "-o", "APT::Sandbox::User=root"]).args(&lists);
        run(tool, update, progress)?;
        need_candidates(packages, &lists)?;
    }
    progress(tool, "downloading");
    let mut download = Command::new("apt-get");
    // As root it would hand the download to a user of its own, who cannot write here.
    download.args(["download", "-o", "APT::Sandbox::User=root"]);
    download
        .args(&lists)
        .args(names(packages).map(package))
        .current_dir(work.path());
    run(tool, download, progress)?;
    progress(tool, "unpacking");
    let tree = work.path().join("tree");
    for entry in std::fs::read_dir(work.path())
        .map_err(Error::io("reading", work.path()))?
        .flatten()
    {
        let mut unpack = Command::new("dpkg");
        unpack.arg("-x").arg(entry.path()).arg(&tree);
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            run(tool, unpack, progress)?;
        }
    }
    let target = root.join(format!("{}-{}", tool.family().name, tool.version()?));
    std::fs::rename(&tree, &target).map_err(Error::io("renaming to", &target))
}

pub(super) fn package(line: &str) -> &str {
    line.split_once('=').map_or(line, |(name, _)| name)
}

/// Options by which apt keeps its lists in a folder of ours.
fn own_lists(work: &Path) -> Result<Vec<String>> {
    let (lists, cache) = (work.join("lists"), work.join("cache"));
    for dir in [lists.join("partial"), cache.join("archives/partial")] {
        std::fs::create_dir_all(&dir).map_err(Error::io("making", &dir))?;
    }
    let option = |name: &str, dir: &Path| ["-o".to_owned(), format!("{name}={}", dir.display())];
    let options = [option("Dir::State::Lists", &lists), option("Dir::Cache", &cache)];
    Ok(options.into_iter().flatten().collect())
}

/// Fails where a package cannot be had from these lists, or only of another release.
fn need_candidates(packages: &str, lists: &[String]) -> Result<()> {
    for line in names(packages) {
        let (name, release) = (package(line), line.split_once('=').map(|(_, release)| release));
        let asked = Command::new("apt-cache")
            .args(["policy", name])
            .args(lists)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output();
        let Ok(output) = asked else {
            return Err(Error::Prerequisite {
                what: "apt-get of Debian".into(),
                install: "MariaDB and libfaketime are unpacked from Debian's packages: run their tests on Debian 12"
                    .into(),
            });
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let found = candidate(&text).unwrap_or("none");
        if found == "none" || release.is_some_and(|release| !is_of(found, release)) {
            return Err(Error::Prerequisite {
                what: format!("a list that has {line} (found: {found}; Debian 12 has it)"),
                install: "sudo apt-get update".into(),
            });
        }
    }
    Ok(())
}

/// The version that would be downloaded, as `apt-cache policy` says it.
pub(super) fn candidate(policy: &str) -> Option<&str> {
    let found = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (found != "(none)").then_some(found)
}

/// Whether a version of Debian, `1:10.11.6-0+deb12u1`, is of a release.
pub(super) fn is_of(version: &str, release: &str) -> bool {
    let upstream = version.split_once(':').map_or(version, |(_, upstream)| upstream);
    upstream
        .strip_prefix(release)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_and_all_packages_are_read_and_no_comment() {
        let text = "# a comment\nserver=10.11\n\nlib1\n";
        assert_eq!(release(text), Some("10.11"));
        assert_eq!(names(text).map(package).collect::<Vec<_>>(), ["server", "lib1"]);
        assert_eq!(release("server\n"), None);
    }

    #[test]
    fn a_candidate_counts_only_where_it_is_of_the_release() {
        let policy = "p:\n  Installed: (none)\n  Candidate: 1:10.11.6-0+deb12u1\n";
        assert_eq!(candidate(policy), Some("1:10.11.6-0+deb12u1"));
        assert_eq!(candidate("p:\n  Candidate: (none)\n"), None);
        for (version, want) in [
            ("1:10.11.6-0+deb12u1", true),
            ("10.11.19", true),
            ("1:10.110.1", false),
            ("1:11.4.2-1", false),
            ("1:10.5.19", false),
        ] {
            assert_eq!(is_of(version, "10.11"), want, "{version}");
        }
    }
}
