//! What is written down about a fleet that runs in the background: enough to use it, to look at it and to end it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::files::write_private;
use crate::process::start_time;
use crate::{Error, Result};

/// What a fleet consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The fleet's name.
    pub name: String,
    /// The clusters' names.
    pub clusters: Vec<String>,
    /// The PostgreSQL servers' names.
    pub postgres: Vec<String>,
    /// Where the programs lie that pods name as `process/<program>`.
    pub programs: Option<PathBuf>,
    /// Nodes simulated by kwok in each cluster.
    #[serde(default)]
    pub simulated_nodes: usize,
    /// Whether the PostgreSQL servers' commits are durable.
    #[serde(default)]
    pub fsync: bool,
}

/// One process, for good: a pid is used again, but not with this start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessRecord {
    /// Its id.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot.
    pub start_time: u64,
}

impl ProcessRecord {
    /// The process that has this id now.
    pub fn of(pid: i32) -> Option<ProcessRecord> {
        start_time(pid).map(|start_time| ProcessRecord { pid, start_time })
    }

    /// Whether that very process still runs.
    pub fn runs(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

/// How far a fleet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its parts are being started.
    Starting,
    /// All of them are ready.
    Running,
    /// One could not be started; all others were ended.
    Failed,
}

/// A cluster of a fleet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRecord {
    /// The API server's address.
    pub server: String,
    /// An administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Its folder.
    pub dir: PathBuf,
    /// Its processes by name.
    pub parts: BTreeMap<String, ProcessRecord>,
}

/// A PostgreSQL server of a fleet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostgresRecord {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The password of `postgres`.
    pub password: String,
    /// The URL of the database `postgres` for its superuser.
    pub url: String,
    /// The folder of `psql` and the others.
    pub bin: PathBuf,
    /// Its folder.
    pub dir: PathBuf,
    /// The server's process.
    pub process: Option<ProcessRecord>,
}

/// A fleet that runs in the background.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// What it consists of.
    pub spec: Spec,
    /// How far it is.
    pub phase: Phase,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The process that runs it; `None` until it has begun.
    pub supervisor: Option<ProcessRecord>,
    /// Its clusters, once ready.
    pub clusters: BTreeMap<String, ClusterRecord>,
    /// Its servers, once ready.
    pub postgres: BTreeMap<String, PostgresRecord>,
}

impl State {
    /// A fleet of which nothing runs yet.
    pub fn new(spec: Spec) -> State {
        State {
            spec,
            phase: Phase::Starting,
            message: None,
            supervisor: None,
            clusters: BTreeMap::new(),
            postgres: BTreeMap::new(),
        }
    }

    /// What is known of a fleet; `None` when there is none of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when its file cannot be understood.
    pub fn load(name: &str) -> Result<Option<State>> {
        let path = file(name);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("reading", &path)(error)),
        };
        let parsed = serde_json::from_slice(&text);
        parsed
            .map(Some)
            .map_err(|error| Error::Refused(format!("{} is not understood: {error}", path.display())))
    }

    /// Writes it down, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn save(&self) -> Result<()> {
        let path = file(&self.spec.name);
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Refused(error.to_string()))?;
        let fresh = path.with_extension("new");
        write_private(&fresh, text)?; // it holds passwords
        std::fs::rename(&fresh, &path).map_err(Error::io("writing", &path))
    }

    /// Whether its supervisor runs.
    pub fn alive(&self) -> bool {
        self.supervisor.is_some_and(|supervisor| supervisor.runs())
    }

    /// The kubeconfig with a context for each cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        folder(&self.spec.name).join("kubeconfig")
    }

    /// The supervisor's log.
    pub fn log(&self) -> PathBuf {
        folder(&self.spec.name).join("supervisor.log")
    }
}

/// Where fleets are kept: `$MULTIACTIVE_STATE`, else a place that the user of PostgreSQL can enter, too.
pub fn root() -> PathBuf {
    let from = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(set) = from("MULTIACTIVE_STATE") {
        return set;
    }
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/multiactive");
    }
    let home = || from("HOME").map(|home| home.join(".local/state"));
    from("XDG_STATE_HOME")
        .or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("multiactive")
}

/// A fleet's folder.
pub fn folder(name: &str) -> PathBuf {
    root().join(name)
}

fn file(name: &str) -> PathBuf {
    folder(name).join("state.json")
}

/// The names of all fleets, running or left over.
pub fn names() -> Vec<String> {
    let entries = std::fs::read_dir(root()).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Names become folders, contexts and nodes: lower-case letters, digits and dashes.
///
/// # Errors
///
/// [`Error::Refused`] for any other.
pub fn check_name(name: &str) -> Result<()> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let outer = |c: Option<char>| c.is_some_and(|c| c != '-');
    let valid = name.len() <= 40 && name.chars().all(inner) && outer(name.chars().next()) && outer(name.chars().last());
    if valid {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{name:?} is no name: use at most 40 lower-case letters, digits and inner dashes"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_label() {
        for (name, valid) in [
            ("demo", true),
            ("a-1", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("A", false),
            ("../a", false),
            ("a.b", false),
        ] {
            assert_eq!(check_name(name).is_ok(), valid, "{name:?}");
        }
    }

    #[test]
    fn a_record_is_one_process_and_not_its_pid() {
        let own = ProcessRecord::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.runs());
        assert!(
            !ProcessRecord {
                start_time: own.start_time + 1,
                ..own
            }
            .runs()
        );
    }
}
