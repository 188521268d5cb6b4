//! The command `fleet` as a user runs it: a fleet in the background, its end, and its end after a crash.
#![allow(clippy::unwrap_used)] // helpers of tests, too

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use multiactive_fleet::process::start_time;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A folder of states, whose fleets end with the test, also where it fails.
struct Root(tempfile::TempDir);

impl Root {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let fleets = std::fs::read_dir(self.path().join("fleets")).into_iter().flatten();
        for name in fleets
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
        {
            let _ = fleet(self.path(), &["down", "--name", &name]).output();
        }
    }
}

/// A folder for the states that other users may enter: PostgreSQL runs as one of them.
fn state_root() -> Root {
    let dir = tempfile::Builder::new()
        .prefix("multiactive-fleets-")
        .tempdir()
        .unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    Root(dir)
}

fn fleet(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
    command.args(args).env("MULTIACTIVE_STATE", root.join("fleets"));
    command
}

fn done(mut command: Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (
        status.success(),
        format!(
            "{}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        ),
    )
}

/// The ids of all processes that a status names.
fn pids(root: &Path) -> Vec<i32> {
    let (ok, text) = done(fleet(root, &["status", "-o", "json"]));
    assert!(ok, "{text}");
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["health"], "Running");
    let all = status["processes"].as_array().unwrap();
    all.iter()
        .map(|one| i32::try_from(one["pid"].as_i64().unwrap()).unwrap())
        .collect()
}

/// The lines that `up` prints to be copied, in a shell that knows neither kubectl nor fleet.
fn assert_what_is_printed_works(root: &Path, text: &str) {
    let lines = text.lines().map(str::trim);
    let copied: Vec<&str> = lines
        .filter(|line| line.starts_with("export ") || line.starts_with("kubectl "))
        .collect();
    assert_eq!(copied.len(), 3, "{text}");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-euc", &format!("{}\ncommand -v fleet", copied.join("\n"))]);
    let (ok, said) = done({
        shell.env_clear().env("PATH", root).env("HOME", root);
        shell
    });
    assert!(
        ok && said.contains(" Ready ") && said.trim().ends_with("/fleet"),
        "{said}"
    );
}

fn assert_all_gone(root: &Path, pids: &[i32]) {
    let until = Instant::now() + Duration::from_secs(20);
    while let Some(pid) = pids.iter().find(|pid| start_time(**pid).is_some()) {
        assert!(Instant::now() < until, "process {pid} is left");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!root.join("fleets").exists(), "files are left");
}

#[test]
fn a_fleet_runs_in_the_background_until_it_is_taken_down() {
    let dir = state_root();
    let root = dir.path();
    let programs = env!("CARGO_TARGET_TMPDIR");
    let up = [
        "up",
        "--name",
        "demo",
        "--clusters",
        "east,north",
        "--postgres",
        "east,north",
        "--programs",
        programs,
    ];
    let (ok, text) = done(fleet(root, &up));
    assert!(ok && text.contains("fleet demo is ready"), "{text}");
    assert_what_is_printed_works(root, &text);
    let first = pids(root);
    assert_eq!(first.len(), 1 + 2 * 4 + 2, "supervisor, parts and servers");

    let (ok, text) = done(fleet(root, &up));
    assert!(
        !ok && text.contains("exists and runs") && text.contains("fleet down --name demo"),
        "{text}"
    );
    let (ok, kubeconfig) = done(fleet(root, &["kubeconfig"]));
    assert!(
        ok && kubeconfig.contains("name: east") && kubeconfig.contains("name: north"),
        "{kubeconfig}"
    );
    let (_, path) = done(fleet(root, &["kubeconfig", "--path"]));
    let kubectl = multiactive_fleet::tools::ensure(multiactive_fleet::tools::Tool::Kubectl).unwrap();
    for context in ["east", "north"] {
        let mut nodes = Command::new(&kubectl);
        nodes.args([
            "--kubeconfig",
            path.trim(),
            "--context",
            context,
            "get",
            "nodes",
            "--no-headers",
        ]);
        let (ok, text) = done(nodes);
        assert!(ok && text.starts_with(context) && text.contains(" Ready "), "{text}");
    }
    let (ok, text) = done(fleet(root, &["logs", "postgres", "north"]));
    assert!(ok && text.contains("ready to accept connections"), "{text}");
    let (ok, text) = done(fleet(root, &["logs", "east", "nothing"]));
    assert!(!ok && text.contains("no part and no pod"), "{text}");

    let (ok, text) = done(fleet(root, &["down"]));
    assert!(ok, "{text}");
    assert_all_gone(root, &first);
    let (ok, text) = done(fleet(root, &["down", "--name", "demo"]));
    assert!(ok && text.contains("no fleet of this name"), "{text}");
}

#[test]
fn a_killed_supervisor_takes_its_parts_with_it_and_down_removes_the_rest() {
    let dir = state_root();
    let root = dir.path();
    let (ok, text) = done(fleet(
        root,
        &["up", "--name", "crash", "--clusters", "east", "--postgres", "east"],
    ));
    assert!(ok, "{text}");
    let all = pids(root);
    kill(Pid::from_raw(all[0]), Signal::SIGKILL).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while all.iter().any(|pid| start_time(*pid).is_some()) {
        assert!(Instant::now() < until, "a part outlived its supervisor");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (ok, text) = done(fleet(root, &["status"]));
    assert!(
        !ok && text.contains("Crashed") && text.contains("fleet down --name crash"),
        "{text}"
    );
    let (ok, text) = done(fleet(root, &["up", "--name", "crash", "--postgres", "east"]));
    assert!(!ok && text.contains("left behind by a crash"), "{text}");
    let (ok, text) = done(fleet(root, &["down"]));
    assert!(ok, "{text}");
    assert_all_gone(root, &all);
}

#[test]
fn an_interrupt_during_up_leaves_nothing() {
    let dir = state_root();
    let root = dir.path();
    let mut up = fleet(root, &["up", "--name", "stopped", "--clusters", "east"])
        .spawn()
        .unwrap();
    // Once a part of the cluster runs, and long before it is ready.
    let logs = root.join("fleets/stopped/clusters/east/logs");
    let until = Instant::now() + Duration::from_secs(60);
    while !logs.join("kube-apiserver.log").exists() {
        assert!(
            Instant::now() < until && up.try_wait().unwrap().is_none(),
            "nothing was started"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let records = std::fs::read_dir(&logs).unwrap().flatten().map(|entry| entry.path());
    let records = records.filter(|path| path.extension().is_some_and(|ext| ext == "process"));
    let texts = records.filter_map(|path| std::fs::read_to_string(path).ok());
    let pids: Vec<i32> = texts.filter_map(|text| text.split(' ').next()?.parse().ok()).collect();
    assert!(!pids.is_empty());
    kill(Pid::from_raw(i32::try_from(up.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(up.wait().unwrap().code(), Some(130));
    assert_all_gone(root, &pids);
}

#[test]
fn what_cannot_work_is_said_before_anything_starts() {
    let dir = state_root();
    let root = dir.path();
    for (args, want) in [
        (vec!["up", "--name", "Demo"], "is no name"),
        (vec!["up", "--clusters", "../x"], "is no name"),
        (vec!["up", "--programs", "/does/not/exist"], "no folder of programs"),
        (vec!["status", "--name", "none"], "there is no fleet named none"),
        (vec!["logs", "east", "etcd"], "there is no fleet"),
    ] {
        let (ok, text) = done(fleet(root, &args));
        assert!(!ok && text.contains(want), "{args:?}: {text}");
    }
    assert!(multiactive_fleet::state::check_name("demo").is_ok());
}
