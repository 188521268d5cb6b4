//! The one error type of the fleet: what was being done, to what, and where to look.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// What can go wrong while programs are built, started, watched or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that we do not build ourselves is missing.
    #[error("missing on this machine: {what}: {install}")]
    Prerequisite {
        /// What is missing.
        what: String,
        /// The command that installs it.
        install: String,
    },
    /// A tool could not be built or unpacked.
    #[error("building {tool} failed: {detail}")]
    Build {
        /// The tool.
        tool: String,
        /// The end of the builder's output.
        detail: String,
    },
    /// A file or a process of the operating system.
    #[error("{doing}")]
    Io {
        /// What was being done, and to which path.
        doing: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program ended although it should run.
    #[error("{part} ended at once ({status}); the end of {}:\n{tail}", log.display())]
    Exited {
        /// The program.
        part: String,
        /// Its exit status.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// Something did not become ready in time.
    #[error("{what} is not ready after {} s: {last}", waited.as_secs())]
    NotReady {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// What was seen last.
        last: String,
    },
    /// A call of an API server.
    #[error("{doing}")]
    Kube {
        /// What was being done.
        doing: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// A key or a certificate.
    #[error("{doing}")]
    Certificate {
        /// What was being done.
        doing: String,
        /// The library's error.
        source: rcgen::Error,
    },
    /// What the caller asked for cannot be done; says what to do instead.
    #[error("{0}")]
    Refused(String),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An I/O error with the path it is about.
    pub fn io(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let doing = format!("{doing} {}", path.display());
        move |source| Error::Io { doing, source }
    }

    /// A kube error with what was being done.
    pub fn kube(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
        let doing = doing.into();
        move |source| Error::Kube {
            doing,
            source: Box::new(source),
        }
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
