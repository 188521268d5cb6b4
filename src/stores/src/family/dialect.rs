//! Which of the two engines a server is, and what is said to it in other words for the same: statements and settings as data.
//! Where an engine does a thing in another way, there is a `match` on [`Kind`] and a file in its own folder.

use super::inspect::Setting;
use std::time::Duration;

/// An engine of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    MariaDb,
    MySql,
}

/// The words of one engine. `$…$` in a statement marks what is filled in.
pub(crate) struct Dialect {
    pub(crate) kind: Kind,
    /// What every session of ours begins with.
    pub(crate) setup: &'static str,
    /// The variable that ends a session which says nothing within a transaction, in seconds.
    pub(crate) idle: &'static str,
    /// For how long a session may say nothing, where no lock depends on it.
    pub(crate) wait_timeout: &'static str,
    /// What begins a transaction, and what follows its end: a session that says nothing within it ends soon.
    pub(crate) transaction: (&'static str, &'static str),
    /// The variable that ends a statement that takes too long, set to so long.
    pub(crate) statement_limit: fn(Duration) -> String,
    /// The type of a column with the name of a log.
    pub(crate) log_name: &'static str,
    /// The four files of the fence: tables that the other engine does not have, its routines, the triggers of a table, and what
    /// stands in each of them.
    pub(crate) schema: &'static str,
    pub(crate) fence: &'static str,
    pub(crate) guard: &'static str,
    pub(crate) admit: &'static str,
    /// Adds the slots from 0 to `$last$` to `$table$`.
    pub(crate) fill: &'static str,
    /// What must stay as `install` left it besides triggers: kind and name.
    pub(crate) parts: &'static [(&'static str, &'static str)],
    /// Before and after what is hashed: 128 bits or more, in hexadecimal.
    pub(crate) digest: (&'static str, &'static str),
    /// The server's own log, its number, what is being committed, and all logs: see `logs`.
    pub(crate) logs: &'static str,
    /// The column of `multiactive.lease` that holds the write lease.
    pub(crate) held: &'static str,
    /// Lets the server take writes, while the lease is valid.
    pub(crate) admit_writers: &'static str,
    /// Locks exactly the rows of the slots from `$first$` to `$last$` and no neighbour: a range alone asks for the lock of the
    /// row behind it too.
    pub(crate) lock_slots: &'static str,
    /// Lets those slots take writes, or not.
    pub(crate) set_slots: &'static str,
    /// Who holds a row that session ? waits for: his transaction's age is known to the second, rounded down.
    pub(crate) blockers: &'static str,
    /// The same of every session of ours that waits for a slot.
    pub(crate) all_blockers: &'static str,
    /// Who holds a row that a link's rows wait for, since when.
    pub(crate) locked: &'static str,
    /// Errors of a statement that waited for a lock in vain.
    pub(crate) lost_waits: &'static [u16],
    /// Facts about one table: see `tables.sql`.
    pub(crate) facts: &'static str,
    /// Accounts besides ours and those of administrators that may empty or change the table :schema.:name past its triggers, or
    /// write past the log.
    pub(crate) bypassers: &'static str,
    /// The columns of a table whose value is stored.
    pub(crate) columns: &'static str,
    /// The settings without which a server can be no member.
    pub(crate) settings: &'static [Setting],
    /// How settings named `$names$` are.
    pub(crate) read_settings: &'static str,
    /// How `read_only` was set, and what it is.
    pub(crate) read_only: (&'static str, &'static str),
    /// Whether a version is one that was tried, and which are.
    pub(crate) is_known: fn(&str) -> bool,
    pub(crate) known: (&'static str, &'static str),
    /// What tells one start of the server from another: the second in which it began, as it tells itself, and whether anybody
    /// has set `read_only` since. The second alone would not tell a server that ended in the second in which it began.
    pub(crate) start: &'static str,
    /// Notes that another start of the server was met.
    pub(crate) begin: &'static str,
}
