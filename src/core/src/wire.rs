//! What a router and its agent say to each other: one JSON object a line, both ways, on one connection.
//!
//! The router opens the connection and says [`RouterHello`] first; the agent answers with [`AgentToRouter`] at once
//! and after each table that it has brought the stores to.

use crate::epoch::Epoch;
use crate::ids::OperationUid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of this protocol.
pub const PROTOCOL: u32 = 1;

/// The longest line that either side accepts, in bytes.
pub const MAX_LINE: usize = 64 * 1024;

/// The router's first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterHello {
    /// [`PROTOCOL`] of the router.
    pub protocol: u32,
    /// The namespace of its unit.
    pub namespace: String,
    /// The unit that it serves.
    pub unit: String,
    /// The router's own name, its pod's, unique in the unit.
    pub router: String,
}

/// Every later line of the router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum RouterToAgent {
    /// Sent when the router took a table, and when the number of writes in flight for a held operation changed to or
    /// from zero.
    Report(RouterReport),
    /// The router ends on purpose: it takes no more requests and has none in flight.
    Goodbye,
}

/// What a router says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterReport {
    /// The epoch of the table that it routes by.
    pub epoch: Epoch,
    /// For each operation that has spans of this unit held or fenced: writes admitted for those slots and not
    /// answered yet, counted after the table of `epoch` was in force.
    pub in_flight: Vec<InFlight>,
}

/// Writes under way for an operation's slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// The operation.
    pub operation: OperationUid,
    /// How many writes.
    pub writes: u64,
}

/// Every line of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum AgentToRouter {
    /// The unit's stores stand at the table of this epoch: what the unit owns in it is open, the rest is fenced.
    Applied {
        /// That table's epoch.
        epoch: Epoch,
    },
}

/// A line that is not one of ours.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is longer than [`MAX_LINE`].
    #[error("a line of {0} bytes: at most {MAX_LINE} are accepted")]
    TooLong(usize),
    /// It is not the JSON that was expected.
    #[error("not a line of this protocol")]
    Json(#[from] serde_json::Error),
}

/// Reads one line, with or without its line feed.
///
/// # Errors
///
/// [`LineError`] where it is too long or not the JSON of a `T`.
pub fn read_line<T: DeserializeOwned>(line: &[u8]) -> Result<T, LineError> {
    if line.len() > MAX_LINE {
        return Err(LineError::TooLong(line.len()));
    }
    Ok(serde_json::from_slice(line)?)
}

/// Writes one line, its line feed included.
///
/// # Errors
///
/// [`LineError::TooLong`] where the other side would refuse it.
pub fn write_line<T: Serialize>(message: &T) -> Result<Vec<u8>, LineError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(LineError::TooLong(line.len()));
    }
    Ok(line)
}
