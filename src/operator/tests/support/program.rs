//! The operator's program as a process of its own: killed, frozen and thawed by its id, ended with the test.

use super::SYSTEM;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_multiactive-operator");

/// How it is started.
pub struct Start<'a> {
    pub kubeconfig: &'a Path,
    pub identity: &'a str,
    /// Where it dies, as in `MULTIACTIVE_FAILPOINT`.
    pub failpoint: Option<&'a str>,
    /// Where its stderr goes, and what it logs; else nothing is kept.
    pub log: Option<(PathBuf, &'a str)>,
}

impl<'a> Start<'a> {
    pub fn new(kubeconfig: &'a Path, identity: &'a str) -> Self {
        Self {
            kubeconfig,
            identity,
            failpoint: None,
            log: None,
        }
    }

    pub fn run(self) -> Program {
        let mut command = Command::new(PROGRAM);
        command
            .args(["--namespace", SYSTEM, "--listen", "127.0.0.1:0"])
            .args(["--identity", self.identity])
            .env("KUBECONFIG", self.kubeconfig)
            .stdin(Stdio::null());
        match self.log {
            Some((path, filter)) => {
                let file = std::fs::File::create(path).unwrap();
                command.env("RUST_LOG", filter).stderr(file);
            }
            None => {
                command.env("RUST_LOG", "warn").stderr(Stdio::null());
            }
        }
        if let Some(name) = self.failpoint {
            command.env("MULTIACTIVE_FAILPOINT", name);
        }
        Program(command.spawn().unwrap())
    }
}

/// A process that runs the program.
pub struct Program(Child);

impl Program {
    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Freezes it between two instructions: nothing of it runs, its connections stay.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success(), "kill {signal} {pid}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
