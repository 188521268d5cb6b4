//! What can go wrong with a store: what was being done, to what, and one word for a condition.

use crate::driver::{Blocker, StoreClock, StoreLease, TableFinding};
use multiactive_core::epoch::Epoch;
use multiactive_core::hash::Function;
use multiactive_core::ids::{KeyspaceName, OperationUid, StoreName, UnitName};
use multiactive_core::reasons;
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// A verb of a driver failed. Every verb may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server was not reached, or did not let us in.
    #[error("connecting to {at}")]
    Connect {
        /// Host, port and database.
        at: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server refused or broke off.
    #[error("{doing} at {at}")]
    Query {
        /// What was being done.
        doing: &'static str,
        /// Host, port and database.
        at: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time: the outcome is unknown.
    #[error("{doing} at {at}: no answer within {after:?}")]
    TimedOut {
        /// What was being done.
        doing: &'static str,
        /// Host, port and database.
        at: String,
        /// How long we waited.
        after: Duration,
    },
    /// The store has seen a newer epoch than the one that was asked for.
    #[error("epoch {asked} was overtaken: the store holds {held}")]
    Overtaken {
        /// The store's.
        held: Epoch,
        /// The caller's.
        asked: Epoch,
    },
    /// Slots that an operation brings may open only where its position was reached.
    #[error("operation {op} has not drained here before {epoch}: its slots stay fenced")]
    NotDrained {
        /// The operation.
        op: OperationUid,
        /// The epoch at which its slots were to open.
        epoch: Epoch,
    },
    /// Slots were never open anywhere before: what is written before the other members' links exist, they would miss.
    #[error("no slot opens for the first time before the links of {} exist", .missing.join(", "))]
    LinksMissing {
        /// The units whose link out of this one does not exist.
        missing: Vec<String>,
    },
    /// Sessions that had written still run at the deadline.
    #[error("the fence was not complete within {after:?}; held up by {}", listed(.blockers))]
    FenceBlocked {
        /// How long we waited.
        after: Duration,
        /// The sessions.
        blockers: Vec<Blocker>,
    },
    /// Tables that cannot be fenced or replicated.
    #[error("{}", findings(.0))]
    TablesRefused(Vec<TableFinding>),
    /// A setting of the server that does not fit.
    #[error("{name} is {is}, but must be {wanted}: {why}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it is.
        is: String,
        /// What it must be.
        wanted: &'static str,
        /// Why.
        why: &'static str,
    },
    /// The server cannot compute the keyspace's slots.
    #[error(
        "store {store} in unit {unit}: the slots of keyspace {keyspace} are computed by {function}, which {server} has not built in: \
         upgrade that server to {since} or newer, or, where nothing was written yet, declare the store with a keyspace of \
         function Md5, which every PostgreSQL has (no keyspace's function can be changed)"
    )]
    FunctionMissing {
        /// The store.
        store: StoreName,
        /// The unit whose member it is.
        unit: UnitName,
        /// The keyspace.
        keyspace: KeyspaceName,
        /// Its function.
        function: Function,
        /// The server: engine, version and where it is.
        server: String,
        /// The oldest one that has the function.
        since: String,
    },
    /// The database belongs to another store or another unit.
    #[error(
        "the database belongs to store {store} in unit {unit}: give each member its own database, or, if that store \
         is gone, DROP SCHEMA multiactive CASCADE there"
    )]
    DatabaseTaken {
        /// The store that it belongs to, with its namespace.
        store: String,
        /// The unit that it belongs to.
        unit: String,
    },
    /// Slots, function and overrides of a keyspace are fixed once rows were written by them.
    #[error("the fence was installed for keyspace {installed}, which differs from {declared}")]
    KeyspaceChanged {
        /// As installed.
        installed: String,
        /// As declared.
        declared: String,
    },
    /// The schema of multiactive is missing or incomplete.
    #[error("the fence is not installed at {at}")]
    NotInstalled {
        /// Host, port and database.
        at: String,
    },
    /// Someone changed the fence or the publication since they were installed.
    #[error("the fence is not whole: {}", .found.join(", "))]
    NotInPlace {
        /// What, in words.
        found: Vec<String>,
    },
    /// The write lease may be extended only where the slots are as the table says that it was granted with.
    #[error(
        "the store was not brought to table {granted} since its server started, but to {}",
        .held.map_or("none".to_owned(), |held| held.to_string())
    )]
    NotBrought {
        /// The newest table that it was brought to.
        held: Option<Epoch>,
        /// The lease's.
        granted: Epoch,
    },
    /// The database's clock was set back after it was read.
    #[error("the database's clock went back: it was {read} when it was read, and is {now}")]
    ClockWentBack {
        /// As it was read.
        read: StoreClock,
        /// As it is.
        now: StoreClock,
    },
    /// A lease that is too short or too long to keep.
    #[error(
        "a write lease of {asked:?} cannot be kept: it must be of 1 ms to {:?}",
        StoreLease::LONGEST
    )]
    LeaseLength {
        /// Its length.
        asked: Duration,
    },
    /// The unit is not cut off here.
    #[error("{from} is not cut off here")]
    NotCut {
        /// The unit.
        from: UnitName,
    },
    /// The peer's rows may not be copied here.
    #[error("no rows are copied from {from}: {why}")]
    NotCopied {
        /// The peer.
        from: UnitName,
        /// Why, and what to do.
        why: String,
    },
    /// The peer's rows cannot be compared with those here.
    #[error("no rows are compared with those of {from}: {why}")]
    NotCompared {
        /// The peer.
        from: UnitName,
        /// Why, and what to do.
        why: String,
    },
    /// A value that the driver cannot work with.
    #[error("{what} `{value}` is malformed")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// The text.
        value: String,
    },
}

impl Error {
    /// What the server said, in the words of its client; `None` where it was not asked, or did not answer.
    pub(crate) fn said_by_server(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        match self {
            Self::Query { source, .. } => Some(source.as_ref()),
            Self::Connect { .. }
            | Self::TimedOut { .. }
            | Self::Overtaken { .. }
            | Self::NotDrained { .. }
            | Self::LinksMissing { .. }
            | Self::FenceBlocked { .. }
            | Self::TablesRefused(_)
            | Self::Setting { .. }
            | Self::FunctionMissing { .. }
            | Self::DatabaseTaken { .. }
            | Self::KeyspaceChanged { .. }
            | Self::NotInstalled { .. }
            | Self::NotInPlace { .. }
            | Self::NotBrought { .. }
            | Self::ClockWentBack { .. }
            | Self::LeaseLength { .. }
            | Self::NotCut { .. }
            | Self::NotCopied { .. }
            | Self::NotCompared { .. }
            | Self::Malformed { .. } => None,
        }
    }

    /// Whether the server answered and did not take user and password: only a person changes that.
    pub fn is_login_refused(&self) -> bool {
        let Self::Connect { source, .. } = self else {
            return false;
        };
        // ER_ACCESS_DENIED_ERROR.
        const DENIED: u16 = 1045;
        let postgres = source.downcast_ref::<tokio_postgres::Error>();
        let code = postgres.and_then(tokio_postgres::Error::code);
        let refused = [
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        ];
        let mariadb = source.downcast_ref::<mysql_async::Error>();
        let denied = matches!(mariadb, Some(mysql_async::Error::Server(said)) if said.code == DENIED);
        denied || code.is_some_and(|code| refused.contains(code))
    }

    /// One word for a condition's reason or a metric's label; a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connect { .. } => reasons::UNREACHABLE,
            Self::Query { .. } => "QueryFailed",
            Self::TimedOut { .. } => reasons::TIMED_OUT,
            Self::Overtaken { .. } => "Overtaken",
            Self::NotDrained { .. } => "NotDrained",
            Self::LinksMissing { .. } => "LinksMissing",
            Self::FenceBlocked { .. } => "FenceBlocked",
            Self::TablesRefused(_) => "TablesRefused",
            Self::Setting { .. } => "SettingWrong",
            Self::FunctionMissing { .. } => "FunctionMissing",
            Self::DatabaseTaken { .. } => "DatabaseTaken",
            Self::KeyspaceChanged { .. } => "KeyspaceChanged",
            Self::NotInstalled { .. } => "NotInstalled",
            Self::NotInPlace { .. } => "NotInPlace",
            Self::NotBrought { .. } => "NotBrought",
            Self::ClockWentBack { .. } => "ClockWentBack",
            Self::LeaseLength { .. } => "LeaseLength",
            Self::NotCut { .. } => "NotCut",
            Self::NotCopied { .. } => "NotCopied",
            Self::NotCompared { .. } => "NotCompared",
            Self::Malformed { .. } => "Malformed",
        }
    }

    /// The message with all its causes, for the message of a condition.
    pub fn explain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        text
    }
}

fn listed(list: &[Blocker]) -> String {
    let each: Vec<_> = list.iter().map(ToString::to_string).collect();
    if each.is_empty() {
        "sessions that were gone when we looked".to_owned()
    } else {
        each.join("; ")
    }
}

fn findings(list: &[TableFinding]) -> String {
    let each: Vec<_> = list
        .iter()
        .map(|finding| format!("{}: {}", finding.table, finding.message))
        .collect();
    each.join("; ")
}
