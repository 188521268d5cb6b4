//! A demo that is stopped while its fleet starts leaves nothing; what is up is not ended by somebody else's demo.
#![allow(clippy::unwrap_used)] // helpers of tests, too

use multiactive_e2e::world::programs;
use multiactive_fleet::process::start_time;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Far more than the first seconds of a demo take, or its end.
const LIMIT: Duration = Duration::from_secs(90);

/// A demo of its own folder, temporary folder and network.
struct Demo {
    scratch: tempfile::TempDir,
    up: Child,
}

/// A process for good: its id with its start time.
type Process = (i32, u64);

impl Demo {
    /// Starts it and waits until parts of its fleet run; also gives the processes that there are then.
    fn starting() -> (Self, BTreeSet<Process>) {
        let demo = Self::new();
        let found = demo.until("etcd and PostgreSQL run", || {
            let all = demo.processes();
            let runs = |name: &str| {
                let comm =
                    |(pid, _): &Process| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                all.iter().any(|process| comm(process).trim() == name)
            };
            (runs("etcd") && (runs("postgres") || runs("initdb"))).then_some(all.clone())
        });
        (demo, found)
    }

    fn new() -> Self {
        programs().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("tmp")).unwrap();
        // The user of PostgreSQL enters it, too.
        for open in [scratch.path(), &scratch.path().join("tmp")] {
            std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let said = std::fs::File::create(scratch.path().join("stderr")).unwrap();
        let up = demo(scratch.path(), &["up", "--own-network"])
            .stdout(Stdio::piped())
            .stderr(said)
            .spawn()
            .unwrap();
        Self { scratch, up }
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("stderr")).unwrap()
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir().join("fleet.log")).unwrap_or_default();
        format!("{}{log}", self.stderr())
    }

    /// The supervisor that the folder names.
    fn supervisor(&self) -> Option<Process> {
        let text = std::fs::read_to_string(self.dir().join("pid")).ok()?;
        let (pid, started) = text.split_once(' ')?;
        Some((pid.parse().ok()?, started.parse().ok()?))
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join("demo")
    }

    /// The supervisor, and all that descends from it.
    fn processes(&self) -> BTreeSet<Process> {
        let mut found: BTreeSet<i32> = self.supervisor().into_iter().map(|(pid, _)| pid).collect();
        let parents: Vec<(i32, i32)> = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                Some((pid, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
            })
            .collect();
        loop {
            let more: Vec<i32> = parents
                .iter()
                .filter(|(_, up)| found.contains(up))
                .map(|(pid, _)| *pid)
                .collect();
            let before = found.len();
            found.extend(more);
            if found.len() == before {
                return found
                    .into_iter()
                    .filter_map(|pid| Some((pid, start_time(pid)?)))
                    .collect();
            }
        }
    }

    /// Asks until there is an answer.
    fn until<T>(&self, what: &str, fact: impl Fn() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = fact() {
                return found;
            }
            assert!(began.elapsed() < LIMIT, "{what}: not within {LIMIT:?}; {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(i32::try_from(self.up.id()).unwrap()), signal).unwrap();
        self.up.wait().unwrap()
    }

    /// None of these processes runs, and none that came after them, and no file is left but those `kept`.
    fn assert_gone(&self, processes: &BTreeSet<Process>, kept: &[&str]) {
        self.until("every process is gone", || {
            let left = processes.iter().chain(&self.processes()).any(runs);
            (!left).then_some(())
        });
        self.until("temporary folders are gone", || {
            let left = std::fs::read_dir(self.scratch.path().join("tmp")).unwrap().count();
            (left == 0).then_some(())
        });
        let files = std::fs::read_dir(self.dir()).into_iter().flatten().flatten();
        let left: BTreeSet<String> = files.map(|file| file.file_name().into_string().unwrap()).collect();
        assert_eq!(left, kept.iter().map(|name| (*name).to_owned()).collect());
    }
}

impl Drop for Demo {
    /// Where the test failed: what it started ends all the same.
    fn drop(&mut self) {
        let left = self.processes();
        let _ = self.up.kill();
        let _ = self.up.wait();
        for (pid, at) in left {
            if start_time(pid) == Some(at) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

fn runs((pid, started): &Process) -> bool {
    start_time(*pid) == Some(*started)
}

fn demo(scratch: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.arg("--dir").arg(scratch.join("demo")).args(args);
    command.env("TMPDIR", scratch.join("tmp")).stdin(Stdio::null());
    command
}

#[test]
fn ctrl_c_while_the_fleet_starts_leaves_nothing() {
    let (mut demo, processes) = Demo::starting();
    let mode = std::fs::metadata(demo.dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "passwords will be there");
    let supervisor = demo.supervisor().unwrap();
    assert_eq!(demo.signal(Signal::SIGINT).code(), Some(130));
    assert!(!runs(&supervisor), "nobody waited for its end");
    demo.assert_gone(&processes, &[]);
    assert!(!demo.dir().exists());
}

#[test]
fn a_demo_that_is_killed_while_its_fleet_starts_takes_it_along() {
    let (mut demo, processes) = Demo::starting();
    assert_eq!(demo.signal(Signal::SIGKILL).code(), None);
    demo.assert_gone(&processes, &["fleet.log", "pid"]);
}

#[test]
fn what_is_up_stays_up_until_it_is_taken_down() {
    let mut first = Demo::new();
    // The line that follows the fleet's being let go. The pipe stays open: what is printed later has a reader.
    let mut lines = BufReader::new(first.up.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("2. ")), "{}", first.log());
    for name in ["kubeconfig", "regions.json", "pid"] {
        let mode = std::fs::metadata(first.dir().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let supervisor = first.supervisor().unwrap();
    let second = demo(first.scratch.path(), &["up", "--own-network", "--then-down"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        !second.status.success() && said.contains("a demo is up already"),
        "{said}"
    );
    // A fleet that had been told to end would not come this far.
    assert!(lines.any(|line| line.starts_with("  ✓ ")), "{}", first.log());

    let processes = first.processes();
    assert_eq!(first.signal(Signal::SIGINT).code(), Some(130));
    let said = first.stderr();
    assert!(
        said.contains("the fleet stays up") && said.contains(" down` removes it"),
        "{said}"
    );
    let down = demo(first.scratch.path(), &["down"]).output().unwrap();
    let said = String::from_utf8_lossy(&down.stdout);
    // Neither the second demo nor the signal had ended it.
    assert!(
        down.status.success() && said.contains("the demo's fleet is gone"),
        "{said}"
    );
    assert!(!runs(&supervisor));
    first.assert_gone(&processes, &[]);
}
