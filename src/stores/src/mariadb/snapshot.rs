//! A snapshot of all rows, and the place in the server's log at which it stands: of these, the snapshot is the log up to the
//! place, no more and no less. The server takes both in one moment, in which no commit is between its log and its rows; so
//! nobody who writes has to wait for it. And the tables that are read from a snapshot.

use super::MariaDb;
use super::checksum::{self, Column};
use super::connect::Session;
use super::gtid::Gtid;
use crate::driver::{Checksums, KeyRange, TableSpec};
use crate::error::Error;
use crate::until::Until;
use multiactive_core::slots::SlotSet;
use std::time::Duration;
use tokio::time::sleep;

/// Where the snapshot of this session stands; asked in its transaction.
const PLACE: &str = "
    SELECT BINLOG_GTID_POS(f.VARIABLE_VALUE, CAST(p.VARIABLE_VALUE AS UNSIGNED))
    FROM information_schema.SESSION_STATUS f, information_schema.SESSION_STATUS p
    WHERE f.VARIABLE_NAME = 'BINLOG_SNAPSHOT_FILE' AND p.VARIABLE_NAME = 'BINLOG_SNAPSHOT_POSITION'";

/// Takes a snapshot that is read for at most `limit`.
pub(super) async fn take(session: &mut Session<'_>, limit: Duration) -> Result<(), Error> {
    session.limit(limit);
    let begin = format!(
        "SET SESSION max_statement_time = {}, idle_transaction_timeout = {}; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
         START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        limit.as_secs_f64().max(0.001),
        limit.as_secs() + 1
    );
    session.batch("taking a snapshot", &begin).await
}

/// Lets the statements that read a snapshot take so long.
pub(super) async fn lasts(session: &mut Session<'_>, limit: Duration) -> Result<(), Error> {
    session.limit(limit);
    let sql = format!("SET SESSION max_statement_time = {}", limit.as_secs_f64().max(0.001));
    session.batch("taking a snapshot", &sql).await
}

/// Takes a snapshot that stands at `here` in the server's log, or behind it, and says where: what a commit wrote is in the log,
/// and with who reads it, before a snapshot sees it. So where the snapshot stands before `here`, it is taken again.
pub(super) async fn take_behind(
    session: &mut Session<'_>,
    here: Option<Gtid>,
    until: &Until,
) -> Result<Vec<Gtid>, Error> {
    loop {
        take(session, until.left()?).await?;
        let place: Option<String> = session.row("reading a place in the log", PLACE, ()).await?;
        let place = Gtid::list(&place.unwrap_or_default())?;
        let stands = |here: Gtid| Gtid::of(&place, here.domain).is_some_and(|at| at.seq >= here.seq);
        if here.is_none_or(stands) {
            return Ok(place);
        }
        session.batch("giving a snapshot up", "ROLLBACK").await?;
        sleep(Duration::from_millis(1)).await;
    }
}

/// A table, and its columns that both ends have.
pub(super) struct Table<'a> {
    pub(super) sharded: &'a TableSpec,
    pub(super) columns: Vec<Column>,
    /// Those that only the peer has.
    pub(super) missing: Vec<String>,
}

/// The sharded tables here and at a peer; in words, where the peer does not let us read one.
pub(super) async fn tables<'a>(
    db: &'a MariaDb,
    here: &mut Session<'_>,
    there: &mut Session<'_>,
) -> Result<Result<Vec<Table<'a>>, String>, Error> {
    let mut tables = Vec::new();
    for sharded in &db.spec.tables {
        let (ours, theirs) = (
            checksum::columns(db, here, sharded).await?,
            checksum::columns(db, there, sharded).await?,
        );
        if theirs.is_empty() {
            return Ok(Err(format!(
                "there is no table {} there, or its replication user may not read it: run the statements about the \
                 replication user in roles.sql there",
                sharded.name
            )));
        }
        let (columns, missing): (Vec<_>, Vec<_>) = theirs
            .into_iter()
            .partition(|column| ours.iter().any(|known| known.name == column.name));
        tables.push(Table {
            sharded,
            columns,
            missing: missing.into_iter().map(|column| column.name).collect(),
        });
    }
    Ok(Ok(tables))
}

/// The sums of one table, here and there.
pub(super) async fn sums(
    db: &MariaDb,
    (here, there): (&mut Session<'_>, &mut Session<'_>),
    Table { sharded, columns, .. }: &Table<'_>,
    slots: &SlotSet,
    until: &Until,
) -> Result<(Checksums, Checksums), Error> {
    let (mut ours, mut theirs) = (checksum::nothing(slots), checksum::nothing(slots));
    let everything = KeyRange::default();
    here.limit(until.left()?);
    there.limit(until.left()?);
    tokio::try_join!(
        checksum::of_table(db, here, sharded, columns, slots, &everything, &mut ours),
        checksum::of_table(db, there, sharded, columns, slots, &everything, &mut theirs),
    )?;
    Ok((ours, theirs))
}

/// The columns of a table's primary key, in its order.
pub(super) async fn key(db: &MariaDb, session: &mut Session<'_>, sharded: &TableSpec) -> Result<Vec<String>, Error> {
    let sql = "SELECT COLUMN_NAME FROM information_schema.STATISTICS
               WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX";
    let names = super::names::table(&sharded.name, &db.access.database);
    session.rows("reading a primary key", sql, names).await
}
