//! What a router and its agent say to each other: one JSON object a line, both ways, on one connection.
//!
//! The router opens the connection and says [`RouterHello`] first; the agent answers with [`AgentToRouter`] at once
//! and after each table that it has brought the stores to.

use crate::epoch::Epoch;
use crate::ids::{KeyspaceName, OperationUid, StoreName, UnitName};
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
    /// A question, to an agent that has said [`AgentToRouter::Answers`].
    Ask {
        /// By which its answer is known.
        id: u64,
        /// The question.
        question: Question,
    },
}

/// What a router asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "about")]
pub enum Question {
    /// For how long the unit's write lease goes on.
    Lease,
    /// How far the log of a store with a single writer has come here.
    Place {
        /// The store.
        store: StoreName,
    },
    /// Whether all that a unit had committed can be read here.
    CaughtUp {
        /// The store.
        store: StoreName,
        /// The unit.
        from: UnitName,
        /// At which place of its log; absent for all that it has committed when this is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<String>,
        /// How long the answer may take, in milliseconds.
        within_ms: u64,
    },
    /// What a later router asks: it gets no answer.
    #[serde(other)]
    Unknown,
}

/// What an agent answers; whoever asked counts from before the question was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "about")]
pub enum Answer {
    /// For how long the unit's write lease goes on.
    Lease {
        /// In milliseconds from the moment of the answer, 0 where it is over; absent where the agent does not know yet: what it
        /// said before still counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left_ms: Option<u64>,
    },
    /// How far the log has come: everything that was committed before the question is within it.
    Place {
        /// [`crate::promotion::Progress`] as text; absent where it is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<String>,
    },
    /// Whether it can be read here.
    CaughtUp {
        /// Whether.
        caught: Caught,
    },
}

/// Whether all that a unit had committed can be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Caught {
    /// It can.
    Yes,
    /// It has not come in time, or nobody answered in time.
    Late,
    /// It cannot: there is no link, rows may be missing, it is of another history, or the unit may not write.
    No,
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
    /// Said first: this agent answers questions. An older one ends the connection of whoever asks.
    Answers,
    /// The answer to a question.
    Answer {
        /// The question's.
        id: u64,
        /// The answer.
        answer: Answer,
    },
    /// To which tables the unit's stores were brought: what the unit owns in such a table is open, the rest is fenced.
    Applied(Applied),
}

/// To which tables the stores of a unit were brought.
///
/// An older agent says only [`Self::epoch`], and an older router reads only that: both see less than there is, never
/// more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// All of them, by every store; [`Epoch::NEVER`] where one never was.
    pub epoch: Epoch,
    /// The keyspaces all of whose stores were brought further, so that a store that is broken holds up no other
    /// keyspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keyspaces: Vec<KeyspaceApplied>,
}

/// To which table the stores of a keyspace were brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyspaceApplied {
    /// The keyspace.
    pub keyspace: KeyspaceName,
    /// That table's epoch.
    pub epoch: Epoch,
}

impl Applied {
    /// The table to which the stores of this keyspace were brought.
    pub fn of(&self, keyspace: &KeyspaceName) -> Epoch {
        let own = self.keyspaces.iter().find(|known| known.keyspace == *keyspace);
        own.map_or(self.epoch, |own| own.epoch.max(self.epoch))
    }

    /// Takes over what is newer in `said`; whether anything was. Nothing ever goes back.
    pub fn raise(&mut self, said: &Self) -> bool {
        let mut newer = said.epoch > self.epoch;
        self.epoch = self.epoch.max(said.epoch);
        for word in &said.keyspaces {
            if word.epoch <= self.of(&word.keyspace) {
                continue;
            }
            newer = true;
            match self.keyspaces.iter_mut().find(|known| known.keyspace == word.keyspace) {
                Some(known) => known.epoch = word.epoch,
                None => self.keyspaces.push(word.clone()),
            }
        }
        self.keyspaces.retain(|known| known.epoch > self.epoch);
        newer
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(epoch: u64, keyspaces: &[(&str, u64)]) -> Applied {
        let keyspaces = keyspaces.iter().map(|(keyspace, epoch)| KeyspaceApplied {
            keyspace: (*keyspace).into(),
            epoch: Epoch::new(1, *epoch),
        });
        Applied {
            epoch: Epoch::new(1, epoch),
            keyspaces: keyspaces.collect(),
        }
    }

    #[test]
    fn an_older_agents_line_is_read_and_an_older_router_reads_ours() {
        let old = br#"{"type":"applied","epoch":{"term":1,"epoch":7}}"#;
        assert_eq!(
            read_line::<AgentToRouter>(old).unwrap(),
            AgentToRouter::Applied(applied(7, &[]))
        );
        assert_eq!(
            write_line(&AgentToRouter::Applied(applied(7, &[])))
                .unwrap()
                .trim_ascii(),
            old
        );

        /// As it was before keyspaces were told.
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(rename_all = "camelCase", tag = "type")]
        enum Older {
            Applied { epoch: Epoch },
        }
        let line = write_line(&AgentToRouter::Applied(applied(7, &[("users", 9)]))).unwrap();
        assert_eq!(
            read_line::<Older>(&line).unwrap(),
            Older::Applied {
                epoch: Epoch::new(1, 7)
            }
        );
    }

    #[test]
    fn each_keyspace_rises_by_itself_and_nothing_goes_back() {
        let mut known = Applied::default();
        for (said, newer, users, carts) in [
            (applied(0, &[("users", 5)]), true, 5, 0),
            (applied(0, &[("users", 5)]), false, 5, 0),
            (applied(0, &[("users", 4), ("carts", 2)]), true, 5, 2),
            (applied(4, &[]), true, 5, 4),
            (applied(3, &[("users", 5), ("carts", 4)]), false, 5, 4),
            (applied(6, &[]), true, 6, 6),
        ] {
            assert_eq!(known.raise(&said), newer, "{said:?}");
            let of = |keyspace: &str| known.of(&keyspace.into()).epoch;
            assert_eq!((of("users"), of("carts")), (users, carts), "after {said:?}");
        }
        assert!(known.keyspaces.is_empty(), "what all have reached is said once");
    }

    #[test]
    fn the_longest_names_of_as_many_keyspaces_as_there_may_be_fit_into_a_line() {
        let name = |number: u32| format!("{number:063}");
        let keyspaces = (0..256).map(|number| KeyspaceApplied {
            keyspace: name(number).as_str().into(),
            epoch: Epoch::new(u32::MAX, u64::MAX),
        });
        let applied = Applied {
            epoch: Epoch::NEVER,
            keyspaces: keyspaces.collect(),
        };
        write_line(&AgentToRouter::Applied(applied)).unwrap();
    }
}
