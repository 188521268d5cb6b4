//! The last assignment and table that this router routed by, in a file: a router that starts while its API server is
//! away goes on with them.
//!
//! The file is written whole beside its place and then moved there, so it is never half of two; a checksum tells one that
//! was damaged. It is written after what it holds has come into force, so it is never ahead of that. Where it is on disk
//! and what the API server says are two sources of one thing: [`crate::state`] decides which counts, by the epoch.

use crate::state::State;
use multiactive_api::{RoutingTableSpec, UnitAssignmentSpec};
use multiactive_core::table::RoutingTable;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the file begins; the number is the version of what follows.
const MAGIC: &str = "multiactive-router 1";
/// Its name in the folder.
const NAME: &str = "in-force";

/// An assignment and a table that were in force together.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// The assignment.
    pub assignment: Arc<UnitAssignmentSpec>,
    /// The table.
    pub table: Arc<RoutingTable>,
}

/// The shape in the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    namespace: String,
    assignment: UnitAssignmentSpec,
    table: RoutingTableSpec,
}

/// A file that is not used.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It cannot be read or written.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is of another version, or no file of ours.
    #[error("it begins with {0:?}")]
    Version(String),
    /// It was damaged.
    #[error("its checksum is wrong")]
    Damaged,
    /// What it holds cannot be read.
    #[error("its content cannot be read: {0}")]
    Content(String),
    /// It is of another unit.
    #[error("it is of unit {unit} in namespace {namespace}")]
    Other {
        /// That unit.
        unit: String,
        /// Its namespace.
        namespace: String,
    },
}

/// The folder of the file.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The folder `dir`, which is made where it is missing.
    pub fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// What was last in force in this unit's router; `None` where nothing was saved.
    ///
    /// # Errors
    ///
    /// [`SavedError`] where there is a file that cannot be used.
    pub fn load(&self, unit: &str, namespace: &str) -> Result<Option<InForce>, SavedError> {
        let path = self.0.join(NAME);
        match fs::read(&path) {
            Ok(bytes) => decode(&bytes, unit, namespace).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("reading", &path)(source)),
        }
    }

    /// Replaces what was saved.
    ///
    /// # Errors
    ///
    /// [`SavedError`] where it cannot be written; what was saved before is still there.
    pub fn save(&self, namespace: &str, now: &InForce) -> Result<(), SavedError> {
        let bytes = encode(namespace, now)?;
        fs::create_dir_all(&self.0).map_err(io_error("making", &self.0))?;
        let (path, fresh) = (self.0.join(NAME), self.0.join(format!("{NAME}.new")));
        let written = File::create(&fresh).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.map_err(io_error("writing", &fresh))?;
        fs::rename(&fresh, &path).map_err(io_error("moving to", &path))?;
        let folder = File::open(&self.0).and_then(|folder| folder.sync_all());
        folder.map_err(io_error("writing", &self.0))
    }
}

/// Saves whatever comes into force, until it is dropped. A failure is told once, until it is over.
pub async fn keep(state: Arc<State>, dir: StateDir) {
    let mut in_force = state.in_force();
    let mut failing = false;
    loop {
        let now = in_force.borrow_and_update().clone();
        if let Some(now) = now {
            let (dir, namespace, epoch) = (dir.clone(), state.namespace.clone(), now.table.epoch);
            let saving = tokio::task::spawn_blocking(move || dir.save(&namespace, &now));
            match saving.await {
                Ok(Ok(())) => {
                    failing = false;
                    state.metrics.saved.set(epoch);
                }
                Ok(Err(error)) => {
                    state.metrics.count_unusable("StateDir");
                    if !std::mem::replace(&mut failing, true) {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(%epoch, error, "what is in force cannot be saved for a restart");
                    }
                }
                // The runtime ends.
                Err(_) => return,
            }
        }
        if in_force.changed().await.is_err() {
            return;
        }
    }
}

fn encode(namespace: &str, now: &InForce) -> Result<Vec<u8>, SavedError> {
    let table = RoutingTableSpec::try_from(&*now.table).map_err(|e| SavedError::Content(e.to_string()))?;
    let stored = Stored {
        namespace: namespace.to_owned(),
        assignment: (*now.assignment).clone(),
        table,
    };
    let content = serde_json::to_vec(&stored).map_err(|e| SavedError::Content(e.to_string()))?;
    let mut bytes = format!("{MAGIC} {:08x}\n", crc32fast::hash(&content)).into_bytes();
    bytes.extend_from_slice(&content);
    Ok(bytes)
}

fn decode(bytes: &[u8], unit: &str, namespace: &str) -> Result<InForce, SavedError> {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let head = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let checksum = head.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' '));
    let Some(checksum) = checksum else {
        return Err(SavedError::Version(head.chars().take(40).collect()));
    };
    let content = parts.next().unwrap_or_default();
    if checksum != format!("{:08x}", crc32fast::hash(content)) {
        return Err(SavedError::Damaged);
    }
    let stored: Stored = serde_json::from_slice(content).map_err(|e| SavedError::Content(e.to_string()))?;
    if stored.assignment.unit != unit || stored.namespace != namespace {
        let (unit, namespace) = (stored.assignment.unit, stored.namespace);
        return Err(SavedError::Other { unit, namespace });
    }
    let table = RoutingTable::try_from(&stored.table).map_err(|e| SavedError::Content(e.to_string()))?;
    Ok(InForce {
        assignment: Arc::new(stored.assignment),
        table: Arc::new(table),
    })
}

fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> SavedError {
    let path = path.to_owned();
    move |source| SavedError::Io {
        doing,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_core::epoch::Epoch;
    use multiactive_core::table::KeyspaceTable;

    fn in_force(epoch: u64) -> InForce {
        let spec = serde_json::json!({"unit": "east", "cluster": "e", "backends": [], "keyspaces": [], "stores": []});
        let keyspace = KeyspaceTable::unowned("users".into(), 16);
        InForce {
            assignment: Arc::new(serde_json::from_value(spec).unwrap()),
            table: Arc::new(RoutingTable {
                epoch: Epoch::new(1, epoch),
                keyspaces: vec![keyspace],
                ..RoutingTable::default()
            }),
        }
    }

    #[test]
    fn what_was_saved_last_is_what_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::new(folder.path().join("made"));
        assert_eq!(dir.load("east", "shop").unwrap(), None);
        for epoch in [7, 8] {
            dir.save("shop", &in_force(epoch)).unwrap();
            assert_eq!(dir.load("east", "shop").unwrap(), Some(in_force(epoch)));
        }
        // A router that was killed while it wrote.
        fs::write(folder.path().join("made/in-force.new"), "multiactive-rou").unwrap();
        assert_eq!(dir.load("east", "shop").unwrap(), Some(in_force(8)));
        for (unit, namespace) in [("north", "shop"), ("east", "other")] {
            let error = dir.load(unit, namespace).unwrap_err();
            assert!(matches!(error, SavedError::Other { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_with_any_byte_changed_or_missing_is_not_used() {
        let good = encode("shop", &in_force(7)).unwrap();
        assert!(decode(&good, "east", "shop").is_ok());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad, "east", "shop").is_err(), "byte {at} changed");
            assert!(decode(&good[..at], "east", "shop").is_err(), "cut at {at}");
        }
        let newer = String::from_utf8(good).unwrap().replacen("router 1", "router 2", 1);
        let error = decode(newer.as_bytes(), "east", "shop").unwrap_err();
        assert!(matches!(error, SavedError::Version(_)), "{error}");
    }
}
