//! A snapshot of all rows, and the place in the server's log at which it stands: of these, the snapshot is the log up to the
//! place, no more and no less. And the tables that are read from a snapshot.

use super::MySqlFamily;
use super::checksum::{self, Column};
use super::connect::Session;
use super::dialect::Kind;
use super::gtid::Gtid;
use crate::driver::{Checksums, TableSpec};
use crate::error::Error;
use crate::until::Until;
use crate::{mariadb, mysql};
use multiactive_core::slots::SlotSet;
use std::time::Duration;
use tokio::time::sleep;

/// Takes a snapshot that is read for at most `limit`.
pub(crate) async fn take(session: &mut Session<'_>, limit: Duration) -> Result<(), Error> {
    session.limit(limit);
    let begin = format!(
        "SET SESSION {}, {} = {}; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
         START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        (session.dialect().statement_limit)(limit),
        session.dialect().idle,
        limit.as_secs() + 1
    );
    session.batch("taking a snapshot", &begin).await
}

/// Lets the statements that read a snapshot take so long, and whoever reads it do other things meanwhile.
pub(crate) async fn lasts(session: &mut Session<'_>, limit: Duration) -> Result<(), Error> {
    session.limit(limit);
    let sql = format!(
        "SET SESSION {}, {} = {}",
        (session.dialect().statement_limit)(limit),
        session.dialect().idle,
        limit.as_secs() + 1
    );
    session.batch("taking a snapshot", &sql).await
}

/// Takes a snapshot that stands at `here` in the server's log, or behind it, and says where: what a commit wrote is in the log,
/// and with who reads it, before a snapshot sees it. So where the snapshot stands before `here`, it is taken again.
pub(crate) async fn take_behind(
    session: &mut Session<'_>,
    here: Option<Gtid>,
    until: &Until,
) -> Result<Vec<Gtid>, Error> {
    loop {
        let place = match session.kind() {
            Kind::MariaDb => mariadb::snapshot::take_and_place(session, until).await?,
            Kind::MySql => mysql::snapshot::take_and_place(session, until).await?,
        };
        let stands = |here: Gtid| Gtid::of(&place, here.log).is_some_and(|at| at.seq >= here.seq);
        if here.is_none_or(stands) {
            return Ok(place);
        }
        session.batch("giving a snapshot up", "ROLLBACK").await?;
        sleep(Duration::from_millis(1)).await;
    }
}

/// A table, and its columns that both ends have.
pub(crate) struct Table<'a> {
    pub(crate) sharded: &'a TableSpec,
    pub(crate) columns: Vec<Column>,
    /// Those that only the peer has.
    pub(crate) missing: Vec<String>,
}

/// The sharded tables here and at a peer; in words, where the peer does not let us read one.
pub(crate) async fn tables<'a>(
    db: &'a MySqlFamily,
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

/// The sums of one table's rows within a condition, here and there.
pub(crate) async fn sums(
    db: &MySqlFamily,
    (here, there): (&mut Session<'_>, &mut Session<'_>),
    (table, within): (&Table<'_>, &str),
    slots: &SlotSet,
    until: &Until,
) -> Result<(Checksums, Checksums), Error> {
    let (mut ours, mut theirs) = (checksum::nothing(slots), checksum::nothing(slots));
    let table = (table.sharded, table.columns.as_slice());
    here.limit(until.left()?);
    there.limit(until.left()?);
    tokio::try_join!(
        checksum::of_table(db, here, table, slots, within, &mut ours),
        checksum::of_table(db, there, table, slots, within, &mut theirs),
    )?;
    Ok((ours, theirs))
}

/// The columns of a table's primary key, in its order.
pub(crate) async fn key(
    db: &MySqlFamily,
    session: &mut Session<'_>,
    sharded: &TableSpec,
) -> Result<Vec<String>, Error> {
    let sql = "SELECT COLUMN_NAME FROM information_schema.STATISTICS
               WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX";
    let names = super::names::table(&sharded.name, &db.access.database);
    session.rows("reading a primary key", sql, names).await
}
