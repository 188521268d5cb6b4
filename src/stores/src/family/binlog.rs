//! A server's own log, read as a link would, which the server ends where the log does. Nothing of it is used up. What it says is in
//! `reading`.

use super::connect::{Server, Session};
use super::dialect::Kind;
use super::gtid::Gtid;
use super::logs::Logs;
use super::names::table;
use super::reading::{Begins, Changed, Goes, Most, Reading, Tables, What, begins, mark_of};
use super::{MySqlFamily, snapshot, stand};
use crate::error::Error;
use crate::until::Until;
use crate::{mariadb, mysql};
use futures::StreamExt;
use mysql_async::BinlogStream;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Why a log is not known whose last transaction has not come, how often it is read then, and after how long again.
const EARLY: &str = "it ends before its end";
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_millis(50);

/// What the log says.
pub(crate) enum Log {
    Has(Changed),
    /// It does not say all of it any more; why.
    Gone(String),
}

/// The sharded tables, as this server has them.
pub(crate) async fn tables(db: &MySqlFamily, session: &mut Session<'_>) -> Result<Tables, Error> {
    let mut tables = Tables::new();
    for sharded in &db.spec.tables {
        let (database, name) = table(&sharded.name, &db.access.database);
        // Those too that are computed and stored nowhere: the log numbers all of them.
        let sql = "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?
                   ORDER BY ORDINAL_POSITION";
        let columns: Vec<String> = session.rows("reading the columns", sql, (database, name)).await?;
        let key = snapshot::key(db, session, sharded).await?;
        let place = |column: &String| columns.iter().position(|known| known == column);
        let key: Vec<usize> = key.iter().filter_map(place).collect();
        tables.insert((database.to_owned(), name.to_owned()), (sharded.name.clone(), key));
    }
    Ok(tables)
}

/// What of these tables stands in a server's log, as far as that goes now.
pub(crate) async fn read(
    server: &Server,
    session: &mut Session<'_>,
    tables: &Tables,
    (what, most): (What<'_>, Most),
    until: &Until,
) -> Result<Log, Error> {
    let logs = Logs::read(session).await?;
    let (kind, end) = (session.kind(), logs.written());
    let from = match &what {
        What::Own(after) if after.map_or(0, |at| at.seq) >= end.seq => return Ok(Log::Has(Changed::new())),
        What::Own(after) => {
            let others = logs.all.iter().filter(|at| at.log != end.log).copied();
            let list: Vec<_> = others.chain(*after).collect();
            match kind {
                Kind::MariaDb => mariadb::log::behind(&list),
                Kind::MySql => mysql::log::behind(&list),
            }
        }
        What::All(stand) => stand::from(kind, end.log, stand)?,
    };
    for _ in 1..TRIES {
        let reading = Reading::new(tables, (what, most), end);
        match pass(server, (kind, &from), reading, until).await? {
            // What is being written has a number before others can read it.
            Log::Gone(why) if why == EARLY => sleep(AGAIN).await,
            log @ (Log::Gone(_) | Log::Has(_)) => return Ok(log),
        }
    }
    let reading = Reading::new(tables, (what, most), end);
    pass(server, (kind, &from), reading, until).await
}

/// Reads it once.
async fn pass(
    server: &Server,
    (kind, from): (Kind, &str),
    mut reading: Reading<'_>,
    until: &Until,
) -> Result<Log, Error> {
    let mut stream = match timeout(until.left()?, open(server, kind, from)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Ok(Log::Gone(error.to_string())),
        Err(_) => return until.left().map(|_| Log::Gone("it does not answer".to_owned())),
    };
    loop {
        let event = match timeout(until.left()?, stream.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => return Ok(Log::Gone(error.to_string())),
            Err(_) => continue,
        };
        match reading.take(kind, &event) {
            Ok(Goes::On) => {}
            Ok(Goes::Behind) => break,
            Err(why) => return Ok(Log::Gone(why)),
        }
    }
    let _ = stream.close().await;
    Ok(match reading.is_whole() {
        true => Log::Has(reading.changed),
        false => Log::Gone(EARLY.to_owned()),
    })
}

/// What tells the transaction `last`, the first one of the server's own behind `from`, from every other that may have its number once
/// the log has begun anew; `None` where it is not in the log any more.
pub(crate) async fn mark(
    server: &Server,
    kind: Kind,
    last: Gtid,
    from: &str,
    until: &Until,
) -> Result<Option<String>, Error> {
    let find = async {
        let mut stream = open(server, kind, from).await?;
        while let Some(event) = stream.next().await {
            let event = event?;
            match begins(kind, &event, last.log) {
                Some(Begins::Own(seq)) => return Ok((seq == last.seq).then(|| mark_of(&event))),
                Some(Begins::Other) | None => {}
            }
        }
        Ok::<_, mysql_async::Error>(None)
    };
    match timeout(until.left()?, find).await {
        Ok(Ok(mark)) => Ok(mark),
        Ok(Err(error)) => {
            tracing::info!(at = server.at, %error, "a log cannot be read");
            Ok(None)
        }
        Err(_) => until.left().map(|_| None),
    }
}

async fn open(server: &Server, kind: Kind, from: &str) -> Result<BinlogStream, mysql_async::Error> {
    // Who reads with the number of another one, a link or a server, ends its reading.
    let number = u32::try_from(RandomState::new().build_hasher().finish() >> 33).unwrap_or_default() | 1 << 31;
    match kind {
        Kind::MariaDb => mariadb::log::open(server, number, from).await,
        Kind::MySql => mysql::log::open(server, number, from).await,
    }
}
