//! What becomes of rows that differ for good (`settle`), some of them in one transaction.
//!
//! Where the peer's is right, our row is locked, seen to be the version that was looked at, and made what the peer's is. Before that
//! is committed the peer's is looked at once more: what it writes to the row from then on comes by its link, behind our commit.
//! It is written as a link does, so nobody gets it from here. Where ours is right nothing is done: the peer takes it, asked the
//! same question. Nobody waits for a row that somebody writes: it is looked at the next time.

use super::Postgres;
use super::connect::Session;
use super::names::{ident, literal};
use super::reseed::Table;
use super::{copy, differing, names};
use crate::conflict::{self, Candidate, Settled, Winner};
use crate::driver::Peer;
use crate::error::Error;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

/// Where the peer's versions wait.
const COPIED: &str = "multiactive.copied";

const DOING: &str = "settling conflicts";

/// A key that is here already, a lock that was not given in time, and who had to give way.
const IN_THE_WAY: [SqlState; 3] = [
    SqlState::UNIQUE_VIOLATION,
    SqlState::LOCK_NOT_AVAILABLE,
    SqlState::T_R_DEADLOCK_DETECTED,
];

/// One table of one peer.
pub(super) struct Job<'a> {
    pub(super) pg: &'a Postgres,
    pub(super) from: &'a Peer,
    winner: &'a Winner,
    pub(super) table: &'a Table<'a>,
    name: String,
    /// The columns of its primary key.
    pub(super) key: Vec<String>,
    /// Whether a column of it can only be written with the row.
    by_insert: bool,
}

type Versions = conflict::Versions<i64>;

/// What came of some rows, and the keys of those that may differ still.
type Decided = (Settled, Vec<String>);

impl<'a> Job<'a> {
    pub(super) async fn new(
        pg: &'a Postgres,
        from: &'a Peer,
        winner: &'a Winner,
        table: &'a Table<'a>,
        session: &Session<'_>,
    ) -> Result<Self, Error> {
        let name = names::qualified(&table.sharded.name);
        let sql = "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attidentity = 'a')";
        let row = session.row("looking at a table's columns", sql, &[&name]).await?;
        Ok(Self {
            pg,
            from,
            winner,
            table,
            key: copy::key(session, &name).await?,
            name,
            by_insert: row.get(0),
        })
    }

    /// Decides about some rows. `None` where somebody writes one of them: nothing is decided then. `whole`: whether both sides have
    /// got the same of third units.
    pub(super) async fn decide(
        &self,
        writer: &Session<'_>,
        there: &Session<'_>,
        rows: &[Candidate<i64>],
        whole: bool,
    ) -> Result<Option<Decided>, Error> {
        match self.decided(writer, there, rows, whole).await {
            Ok(Some(decided)) => {
                let end = format!("DROP TABLE {COPIED}; COMMIT");
                writer.batch(DOING, &end).await?;
                Ok(Some(decided))
            }
            Ok(None) => writer.batch(DOING, "ROLLBACK").await.map(|()| None),
            Err(error) if is_in_the_way(&error) => writer.batch(DOING, "ROLLBACK").await.map(|()| None),
            Err(error) => Err(error),
        }
    }

    async fn decided(
        &self,
        writer: &Session<'_>,
        there: &Session<'_>,
        rows: &[Candidate<i64>],
        whole: bool,
    ) -> Result<Option<Decided>, Error> {
        let begin = format!(
            "BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL lock_timeout = '10s';
             CREATE UNLOGGED TABLE {COPIED} AS SELECT {} FROM {} t WITH NO DATA",
            self.columns("t."),
            self.name
        );
        writer.batch(DOING, &begin).await?;
        let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        let locked = match self.winner {
            Winner::LastWrite | Winner::Peer => "FOR UPDATE OF t SKIP LOCKED",
            Winner::Nobody => "",
        };
        let ours = self.versions(writer, &self.found("$1"), &keys, locked).await?;
        self.copy(writer, there, &keys).await?;
        let theirs = self.versions(writer, &self.copied(), &keys, "").await?;
        let order = self.order(writer).await?;
        let table = (self.table.sharded.name.as_str(), self.winner);
        let units = (&self.pg.spec.unit, &self.from.unit);
        let decided = conflict::decide(table, rows, (&ours, &theirs, &order), units, whole);
        for (row, taken) in &decided.listed {
            let json = |versions: &Versions| versions.get(&row.key).map(|(_, json)| json.clone());
            self.list(writer, row, (json(&ours), json(&theirs)), *taken).await?;
        }
        let taken = decided.takes.is_empty() || self.take(writer, there, &decided.takes).await?;
        Ok(taken.then_some((decided.settled, decided.still)))
    }

    /// Brings the peer's versions here.
    async fn copy(&self, writer: &Session<'_>, there: &Session<'_>, keys: &[&str]) -> Result<(), Error> {
        let listed: Vec<_> = keys.iter().map(|key| literal(key)).collect();
        let out = format!(
            "COPY (SELECT {} FROM {}) TO STDOUT",
            self.columns("t."),
            self.found(&format!("ARRAY[{}]", listed.join(", ")))
        );
        let into = format!("COPY {COPIED} ({}) FROM STDIN", self.columns(""));
        writer.copy(DOING, &into, there, &out).await.map(drop)
    }

    /// Makes rows what they are at the peer; whether nobody has written to any of them meanwhile.
    async fn take(&self, writer: &Session<'_>, there: &Session<'_>, rows: &[&Candidate<i64>]) -> Result<bool, Error> {
        writer.batch(DOING, "SET LOCAL lock_timeout = '400ms'").await?;
        let of = |is: fn(&Candidate<i64>) -> bool| -> Vec<&str> {
            let those = rows.iter().filter(|row| is(row));
            those.map(|row| row.key.as_str()).collect()
        };
        let (gone, new) = (of(|row| row.there.is_none()), of(|row| row.here.is_none()));
        let changed = of(|row| row.here.is_some() && row.there.is_some());
        let (deleted, inserted) = match self.by_insert {
            true => (
                [gone.as_slice(), &changed].concat(),
                [new.as_slice(), &changed].concat(),
            ),
            false => (gone, new),
        };
        let delete = format!(
            "DELETE FROM {} d USING {} WHERE {}",
            self.name,
            self.found("$1"),
            self.same("d", "t")
        );
        writer.change(DOING, &delete, &[&deleted]).await?;
        if !self.by_insert {
            // Who waits for the row goes on with it then: one that was deleted and put back would be gone to him.
            let update = format!(
                "UPDATE {} d SET ({}) = ROW({}) FROM {} WHERE {}",
                self.name,
                self.columns(""),
                self.columns("t."),
                self.copied(),
                self.same("d", "t")
            );
            writer.change(DOING, &update, &[&changed]).await?;
        }
        let insert = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
            self.name,
            self.columns(""),
            self.columns("t."),
            self.copied()
        );
        let written = writer.change(DOING, &insert, &[&inserted]).await?;
        if u64::try_from(inserted.len()) != Ok(written) {
            return Ok(false);
        }
        let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        let theirs = self.versions(there, &self.found("$1"), &keys, "").await?;
        let same = |row: &&Candidate<i64>| theirs.get(&row.key).map(|(hash, _)| *hash) == row.there;
        Ok(rows.iter().all(same))
    }

    /// Notes both versions of a row.
    async fn list(
        &self,
        writer: &Session<'_>,
        row: &Candidate<i64>,
        (mine, theirs): (Option<String>, Option<String>),
        taken: bool,
    ) -> Result<(), Error> {
        let tab = self.table.sharded.name.as_str();
        let again = "DELETE FROM multiactive.conflict WHERE settled IS NULL AND tab = $1 AND key = $2::text::jsonb";
        writer.change("listing a conflict", again, &[&tab, &row.key]).await?;
        let sql = "INSERT INTO multiactive.conflict (tab, key, slot, peer, mine, theirs, rule, taken, settled)
                   VALUES ($1, $2::text::jsonb, $3, $4, $5::text::jsonb, $6::text::jsonb, $7, $8,
                           CASE WHEN $8 THEN clock_timestamp() END)";
        let (slot, peer, rule) = (i32::from(row.slot), self.from.unit.as_str(), self.winner.word());
        let params: [&(dyn ToSql + Sync); 8] = [&tab, &row.key, &slot, &peer, &mine, &theirs, &rule, &taken];
        writer.change("listing a conflict", sql, &params).await.map(drop)
    }

    /// The key of the row `t`, as JSON.
    pub(super) fn named(&self) -> String {
        let each = self
            .key
            .iter()
            .map(|column| format!("{}, t.{}", literal(column), ident(column)));
        format!("jsonb_build_object({})::text", each.collect::<Vec<_>>().join(", "))
    }

    /// The rows `t` of these keys, found by the index of the primary key, each with its `k.key`.
    fn found(&self, keys: &str) -> String {
        format!(
            "unnest({keys}::text[]) k(key) CROSS JOIN LATERAL jsonb_populate_record(NULL::{0}, k.key::jsonb) r JOIN {0} t ON {1}",
            self.name,
            self.same("t", "r")
        )
    }

    /// The peer's versions `t` of the keys $1.
    fn copied(&self) -> String {
        format!("unnest($1::text[]) k(key) JOIN {COPIED} t ON {} = k.key", self.named())
    }

    /// Whether two rows have the same key.
    fn same(&self, one: &str, other: &str) -> String {
        let each = self
            .key
            .iter()
            .map(|column| format!("{one}.{0} = {other}.{0}", ident(column)));
        each.collect::<Vec<_>>().join(" AND ")
    }

    /// The rows `t` of these tables, by `k.key`.
    async fn versions(
        &self,
        session: &Session<'_>,
        tables: &str,
        keys: &[&str],
        locked: &str,
    ) -> Result<Versions, Error> {
        let Table { sharded, columns, .. } = self.table;
        let sql = format!(
            "SELECT k.key, {}, to_jsonb(t)::text FROM {tables} {locked}",
            differing::hash(sharded, columns)
        );
        let found = session.rows("reading rows that differ", &sql, &[&keys]).await?;
        let version = |row: &tokio_postgres::Row| (row.get(0), (row.get(1), row.get(2)));
        Ok(found.iter().map(version).collect())
    }

    /// How the peer's version of each row that both have compares with ours, by when it was written.
    async fn order(&self, writer: &Session<'_>) -> Result<BTreeMap<String, Ordering>, Error> {
        let Some(column) = conflict::last_write(self.winner, self.table.sharded).map(ident) else {
            return Ok(BTreeMap::new());
        };
        // Who does not say when is older than who does.
        let sql = format!(
            "SELECT {}, CASE WHEN t.{column} > m.{column} OR m.{column} IS NULL AND t.{column} IS NOT NULL THEN 1
                             WHEN t.{column} IS NOT DISTINCT FROM m.{column} THEN 0 ELSE -1 END
             FROM {COPIED} t JOIN {} m ON {}",
            self.named(),
            self.name,
            self.same("m", "t")
        );
        let found = writer.rows("comparing when rows were written", &sql, &[]).await?;
        let order = |row: &tokio_postgres::Row| (row.get(0), row.get::<_, i32>(1).cmp(&0));
        Ok(found.iter().map(order).collect())
    }

    fn columns(&self, alias: &str) -> String {
        let columns = self.table.columns.iter();
        let each = columns.map(|column| format!("{alias}{}", ident(column)));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// Whether somebody else writes what we would.
pub(super) fn is_in_the_way(error: &Error) -> bool {
    let source = error
        .said_by_server()
        .and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    let state = source.and_then(tokio_postgres::Error::code);
    state.is_some_and(|state| IN_THE_WAY.contains(state))
}
