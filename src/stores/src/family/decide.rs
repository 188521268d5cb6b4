//! What becomes of rows that differ for good (`settle`), some of them in one transaction.
//!
//! Where the peer's is right, our row is locked, seen to be the version that was looked at, and made what the peer's is. Before that
//! is committed the peer's is looked at once more: what it writes to the row from then on comes by its link, behind our commit.
//! It is not logged, so nobody gets it from here. Where ours is right nothing is done: the peer takes it, asked the same question.
//! Nobody waits for a row that somebody writes: it is looked at the next time.
//!
//! Rows are found by their primary keys: whoever searches for rows to lock would wait for every row that somebody writes, and
//! read through all of a table for each.

use super::checksum::{self, Column};
use super::connect::{Session, refusal};
use super::copy::{BACK_IN_THE_LOG, PAST_THE_LOG};
use super::names::{ident, literal, qualified, table as table_of};
use super::snapshot::{self, Table};
use super::{MySqlFamily, differing};
use crate::compared::{Rows, refused};
use crate::conflict::{self, Candidate, Settled, Winner};
use crate::driver::Peer;
use crate::error::Error;
use crate::until::Until;
use multiactive_core::slots::{Slot, SlotSet};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Where the peer's versions wait.
const COPIED: &str = "multiactive.copied";

const DOING: &str = "settling conflicts";

/// A lock that was not given in time, who had to give way, and a key that is here already.
const IN_THE_WAY: [u16; 3] = [1205, 1213, 1062];

/// One table of one peer.
pub(crate) struct Job<'a> {
    pub(crate) db: &'a MySqlFamily,
    pub(crate) from: &'a Peer,
    winner: &'a Winner,
    pub(crate) table: &'a Table<'a>,
    name: String,
    /// The columns of its primary key.
    pub(crate) key: Vec<String>,
}

type Versions = conflict::Versions<u64>;

/// The conditions by which the rows of these keys are found.
pub(crate) type Found = BTreeMap<String, String>;

/// What came of some rows, and the keys of those that may differ still.
type Decided = (Settled, Vec<String>);

impl<'a> Job<'a> {
    pub(crate) async fn new(
        db: &'a MySqlFamily,
        from: &'a Peer,
        winner: &'a Winner,
        table: &'a Table<'a>,
        session: &mut Session<'_>,
    ) -> Result<Self, Error> {
        Ok(Self {
            db,
            from,
            winner,
            table,
            name: qualified(&table.sharded.name, &db.access.database),
            key: snapshot::key(db, session, table.sharded).await?,
        })
    }

    /// Prepares the session that writes rows as they are, out of the log, and waits for no lock for long.
    pub(crate) async fn begin(&self, writer: &mut Session<'_>) -> Result<(), Error> {
        // Statements that delete by a join want a database that they are in.
        let database = ident(table_of(&self.table.sharded.name, &self.db.access.database).0);
        let begin = format!(
            "SET SESSION foreign_key_checks = 0, innodb_lock_wait_timeout = 1,
                         sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO');
             SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; USE {database};
             DROP TEMPORARY TABLE IF EXISTS {COPIED}; CREATE TEMPORARY TABLE {COPIED} LIKE {}",
            self.name
        );
        writer.batch(DOING, &begin).await
    }

    /// The rows of some groups, and how each is found.
    pub(crate) async fn keys(
        &self,
        session: &mut Session<'_>,
        slots: &SlotSet,
        groups: &[u32],
    ) -> Result<(Rows<u64>, Found), Error> {
        let Table { sharded, columns, .. } = self.table;
        let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
        let sql = format!(
            "SELECT r.words, r.slot, r.hash, r.found FROM
                 (SELECT {} AS slot, {} AS words, {} AS hash, {} AS found FROM {} t) r
             WHERE {} AND {} IN ({})",
            checksum::slot_of(self.db, "t", sharded),
            differing::words(columns, &self.key),
            checksum::hash(self.db, "t", sharded, columns),
            self.condition(),
            self.name,
            checksum::is_one_of("r.slot", slots),
            differing::group("r.words"),
            groups.join(", ")
        );
        let all: Vec<(String, Slot, u64, String)> = session.rows("reading rows that differ", &sql, ()).await?;
        let (mut rows, mut found) = (Rows::new(), Found::new());
        for (words, slot, hash, condition) in all {
            found.insert(words.clone(), condition);
            rows.insert(words, (slot, hash));
        }
        Ok((rows, found))
    }

    /// The condition that the row `t` has this very key, as text: by it the index of the primary key is used, whatever the characters
    /// of its columns are.
    fn condition(&self) -> String {
        let each = self.key.iter().map(|name| {
            let known = self.table.columns.iter().find(|column| column.name == *name);
            let value = match known.is_some_and(Column::is_binary) {
                true => format!("'X''', HEX(t.{}), ''''", ident(name)),
                false => format!("QUOTE(CONVERT(t.{} USING utf8mb4))", ident(name)),
            };
            format!("{}, {value}", literal(&format!("t.{} = ", ident(name))))
        });
        format!("CONCAT('(', {}, ')')", each.collect::<Vec<_>>().join(", ' AND ', "))
    }

    /// Decides about some rows. `None` where somebody writes one of them: nothing is decided then.
    pub(crate) async fn decide(
        &self,
        writer: &mut Session<'_>,
        there: &mut Session<'_>,
        found: &Found,
        rows: &[Candidate<u64>],
        until: &Until,
    ) -> Result<Option<Decided>, Error> {
        let keys = is_one_of(found, rows);
        let here = format!("{} t FORCE INDEX (PRIMARY) WHERE {keys}", self.name);
        writer.batch(DOING, &format!("DELETE FROM {COPIED}")).await?;
        let out = format!("SELECT {} FROM {here}", self.columns("t."));
        let into = format!("INSERT INTO {COPIED} ({}) VALUES ", self.columns(""));
        there.pour(DOING, &out, (), writer, &into).await?;
        writer.batch(DOING, PAST_THE_LOG).await?;
        let decided = match self.decided(writer, there, (found, &here), rows).await {
            Ok(Some(decided)) => {
                writer.batch(DOING, "COMMIT").await?;
                Some(decided)
            }
            Ok(None) => {
                writer.batch(DOING, "ROLLBACK").await?;
                None
            }
            Err(error) if refusal(&error).is_some_and(|code| IN_THE_WAY.contains(&code)) => {
                writer.batch(DOING, "ROLLBACK").await?;
                None
            }
            Err(error) => return Err(error),
        };
        writer.batch(DOING, BACK_IN_THE_LOG).await?;
        snapshot::lasts(writer, until.left()?).await?;
        Ok(decided)
    }

    async fn decided(
        &self,
        writer: &mut Session<'_>,
        there: &mut Session<'_>,
        (found, here): (&Found, &str),
        rows: &[Candidate<u64>],
    ) -> Result<Option<Decided>, Error> {
        // By this word it may rest for as long as before, while others are asked.
        writer.batch(DOING, "BEGIN").await?;
        let locked = match self.winner {
            Winner::LastWrite | Winner::Peer => " FOR UPDATE SKIP LOCKED",
            Winner::Nobody => "",
        };
        let ours = self.versions(writer, &format!("{here}{locked}")).await?;
        let theirs = self.versions(writer, &format!("{COPIED} t")).await?;
        let order = self.order(writer).await?;
        let table = (self.table.sharded.name.as_str(), self.winner);
        let units = (&self.db.spec.unit, &self.from.unit);
        let decided = conflict::decide(table, rows, (&ours, &theirs, &order), units, true);
        for (row, taken) in &decided.listed {
            let json = |versions: &Versions| versions.get(&row.key).map(|(_, json)| json.clone());
            self.list(writer, row, (json(&ours), json(&theirs)), *taken).await?;
        }
        let taken = decided.takes.is_empty() || self.take(writer, there, found, &decided.takes).await?;
        Ok(taken.then_some((decided.settled, decided.still)))
    }

    /// Makes rows what they are at the peer; whether nobody has written to any of them meanwhile.
    async fn take(
        &self,
        writer: &mut Session<'_>,
        there: &mut Session<'_>,
        found: &Found,
        rows: &[&Candidate<u64>],
    ) -> Result<bool, Error> {
        let of = |is: fn(&Candidate<u64>) -> bool| is_one_of(found, rows.iter().copied().filter(|row| is(row)));
        let gone = of(|row| row.there.is_none());
        let delete = format!("DELETE t FROM {} t FORCE INDEX (PRIMARY) WHERE {gone}", self.name);
        writer.change(DOING, &delete, ()).await?;
        // What only we have of a row's columns stays.
        let columns = self.table.columns.iter().filter(|column| column.is_written);
        let columns = columns.filter(|column| !self.key.contains(&column.name));
        let sets: Vec<_> = columns
            .map(|column| format!("m.{0} = t.{0}", ident(&column.name)))
            .collect();
        if !sets.is_empty() {
            let changed = of(|row| row.here.is_some() && row.there.is_some());
            let update = format!(
                "UPDATE {COPIED} t STRAIGHT_JOIN {} m FORCE INDEX (PRIMARY) ON {} SET {} WHERE {changed}",
                self.name,
                self.same("t", "m"),
                sets.join(", ")
            );
            writer.change(DOING, &update, ()).await?;
        }
        let insert = format!(
            "INSERT INTO {} ({}) SELECT {} FROM {COPIED} t WHERE {}",
            self.name,
            self.columns(""),
            self.columns("t."),
            of(|row| row.here.is_none())
        );
        writer.change(DOING, &insert, ()).await?;
        let here = format!(
            "{} t FORCE INDEX (PRIMARY) WHERE {}",
            self.name,
            is_one_of(found, rows.iter().copied())
        );
        let same = |versions: &Versions| {
            let mut rows = rows.iter();
            rows.all(|row| versions.get(&row.key).map(|(hash, _)| *hash) == row.there)
        };
        if !same(&self.versions(writer, &here).await?) {
            let why = format!(
                "rows of {} are others here than were written: a trigger of the table, or the type of a column, changes them",
                self.table.sharded.name
            );
            return Err(refused(self.from, why));
        }
        Ok(same(&self.versions(there, &here).await?))
    }

    /// Notes both versions of a row.
    async fn list(
        &self,
        writer: &mut Session<'_>,
        row: &Candidate<u64>,
        (mine, theirs): (Option<String>, Option<String>),
        taken: bool,
    ) -> Result<(), Error> {
        let tab = self.table.sharded.name.as_str();
        let again = "DELETE FROM multiactive.conflict
                     WHERE settled IS NULL AND tab = ? AND CAST(name AS BINARY) = CAST(? AS BINARY)";
        writer.change("listing a conflict", again, (tab, &row.key)).await?;
        let sql = "INSERT INTO multiactive.conflict (tab, name, slot, peer, mine, theirs, rule, taken, found, settled)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, SYSDATE(6), IF(?, SYSDATE(6), NULL))";
        let (peer, rule) = (self.from.unit.as_str(), self.winner.word());
        let params = (tab, &row.key, row.slot, peer, mine, theirs, rule, taken, taken);
        writer.change("listing a conflict", sql, params).await.map(drop)
    }

    /// The rows `t` of these tables.
    async fn versions(&self, session: &mut Session<'_>, tables: &str) -> Result<Versions, Error> {
        let Table { sharded, columns, .. } = self.table;
        let json = columns
            .iter()
            .map(|column| format!("{}, {}", literal(&column.name), column.text("t")));
        let sql = format!(
            "SELECT {}, {}, JSON_OBJECT({}) FROM {tables}",
            differing::words(columns, &self.key),
            checksum::hash(self.db, "t", sharded, columns),
            json.collect::<Vec<_>>().join(", ")
        );
        let found: Vec<(String, u64, String)> = session.rows("reading rows that differ", &sql, ()).await?;
        Ok(found.into_iter().map(|(key, hash, json)| (key, (hash, json))).collect())
    }

    /// How the peer's version of each row that both have compares with ours, by when it was written.
    async fn order(&self, writer: &mut Session<'_>) -> Result<BTreeMap<String, Ordering>, Error> {
        let Some(column) = conflict::last_write(self.winner, self.table.sharded).map(ident) else {
            return Ok(BTreeMap::new());
        };
        // Who does not say when is older than who does.
        let sql = format!(
            "SELECT {}, CASE WHEN t.{column} > m.{column} OR m.{column} IS NULL AND t.{column} IS NOT NULL THEN 1
                             WHEN t.{column} <=> m.{column} THEN 0 ELSE -1 END
             FROM {COPIED} t STRAIGHT_JOIN {} m FORCE INDEX (PRIMARY) ON {}",
            differing::words(&self.table.columns, &self.key),
            self.name,
            self.same("t", "m")
        );
        let found: Vec<(String, i32)> = writer.rows("comparing when rows were written", &sql, ()).await?;
        Ok(found.into_iter().map(|(key, order)| (key, order.cmp(&0))).collect())
    }

    /// Whether two rows have the same key.
    fn same(&self, one: &str, other: &str) -> String {
        let each = self
            .key
            .iter()
            .map(|column| format!("{one}.{0} = {other}.{0}", ident(column)));
        each.collect::<Vec<_>>().join(" AND ")
    }

    /// The columns that are written, and not computed.
    fn columns(&self, alias: &str) -> String {
        let written = self.table.columns.iter().filter(|column: &&Column| column.is_written);
        let each = written.map(|column| format!("{alias}{}", ident(&column.name)));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// Whether the row `t` is one of these.
fn is_one_of<'r>(found: &Found, rows: impl IntoIterator<Item = &'r Candidate<u64>>) -> String {
    let conditions = rows
        .into_iter()
        .filter_map(|row| found.get(&row.key).map(String::as_str));
    let conditions: Vec<_> = conditions.collect();
    match conditions.is_empty() {
        true => "FALSE".to_owned(),
        false => format!("({})", conditions.join(" OR ")),
    }
}
