//! `fleet tools` into an empty cache: what was interrupted leaves no half tool, two at once wait for each other, and what
//! comes out runs. Two of the tools stand for all: one of Go's, and PostgreSQL, which is unpacked.
#![allow(clippy::unwrap_used)] // helpers of tests, too

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The smallest of Go's tools that has a lock of its own family, and the one that is unpacked.
const TOOLS: [&str; 2] = ["etcdctl", "postgres"];

/// `fleet tools`, in a process group of its own, as a shell starts it.
fn tools(cache: &Path, names: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
    command.arg("tools").args(names).env("MULTIACTIVE_CACHE", cache);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command.spawn().unwrap()
}

/// Reads what it says until a line contains `text`.
fn says(child: &mut Child, text: &str) {
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap());
    let mut said = String::new();
    while !said.contains(text) {
        assert!(
            lines.read_line(&mut said).unwrap() > 0,
            "it ended without {text:?}: {said}"
        );
    }
}

/// Its end, and the paths that it prints.
fn ended(child: Child) -> Vec<PathBuf> {
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| PathBuf::from(line.split_whitespace().nth(2).unwrap()))
        .collect()
}

/// Every file and folder of the cache but the locks and what is inside PostgreSQL's tree.
fn contents(cache: &Path) -> Vec<String> {
    let folders = [cache.to_path_buf()].into_iter();
    let bins = std::fs::read_dir(cache.join("bin")).into_iter().flatten().flatten();
    let entries = folders
        .chain(bins.map(|entry| entry.path()))
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_empty_cache_is_filled_once_whoever_is_interrupted_or_comes_second() {
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path();

    // Interrupted in the middle, its builder too: nothing has the name of a tool.
    for (tool, doing) in [("etcdctl", "downloading"), ("postgres", "downloading")] {
        let mut child = tools(cache, &[tool]);
        says(&mut child, doing);
        killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }
    let versions = contents(cache);
    let unfinished = |name: &String| name.ends_with(".new") || name.starts_with("unpacking-");
    let whole: Vec<_> = versions.iter().filter(|name| !unfinished(name)).collect();
    assert!(
        whole
            .iter()
            .all(|name| *name == "bin" || *name == "locks" || name.starts_with("etcd-v")),
        "{whole:?}"
    );
    // What a builder leaves that had no time to clean up.
    let folder = std::fs::read_dir(cache.join("bin"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::write(folder.join("etcdctl.1.new"), "half").unwrap();

    // One builds, the other one waits for it, and then finds it built.
    let lock = File::options().write(true).open(cache.join("locks/etcd")).unwrap();
    lock.lock().unwrap();
    let mut first = tools(cache, &TOOLS);
    let mut second = tools(cache, &TOOLS);
    says(&mut first, "waiting for another process that builds etcd");
    says(&mut second, "waiting for another process that builds etcd");
    drop(lock);
    let paths = ended(first);
    assert_eq!(ended(second), paths);
    let built = |path: &PathBuf| std::fs::metadata(path).unwrap().modified().unwrap();
    let before: Vec<_> = paths.iter().map(built).collect();

    // What came out runs, and nothing else is left.
    for (path, says) in paths.iter().zip(["etcdctl version: 3.", "postgres (PostgreSQL) 18"]) {
        let argument = if says.starts_with("etcdctl") {
            "version"
        } else {
            "--version"
        };
        let output = Command::new(path).arg(argument).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains(says),
            "{}: {text}",
            path.display()
        );
    }
    let names = contents(cache);
    assert!(!names.iter().any(unfinished), "{names:?}");
    // A third one has nothing to do.
    assert_eq!(ended(tools(cache, &TOOLS)), paths);
    assert_eq!(paths.iter().map(built).collect::<Vec<_>>(), before);
}

#[test]
fn a_program_that_is_none_of_them_is_refused_with_their_names() {
    let output = tools(Path::new("/nowhere"), &["etcdd"]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("kube-apiserver, "), "{said}");
}
