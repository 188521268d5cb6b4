//! Reading MariaDB's log as a link would.

use super::snapshot::take_and_place;
use crate::error::Error;
use crate::family::connect::{Server, Session};
use crate::family::gtid::{Gtid, Log};
use crate::family::names::literal;
use crate::family::reading::Begins;
use crate::until::Until;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest};

/// The number of the event with which a transaction begins.
const GTID: u8 = 162;

/// Whose transaction begins with this event, if one does.
pub(crate) fn begins(kind: u8, data: &[u8], own: Log) -> Option<Begins> {
    if kind != GTID {
        return None;
    }
    let seq = data.get(..8)?.try_into().ok().map(u64::from_le_bytes)?;
    let domain = data.get(8..12)?.try_into().ok().map(u32::from_le_bytes)?;
    Some(match Log::Domain(domain) == own {
        true => Begins::Own(seq),
        false => Begins::Other,
    })
}

/// How far all logs have come of which a snapshot that is taken now sees all. What stands in the log may not be seen yet.
pub(crate) async fn committed(session: &mut Session<'_>, until: &Until) -> Result<String, Error> {
    let place = take_and_place(session, until).await?;
    session.batch("giving a snapshot up", "ROLLBACK").await?;
    Ok(behind(&place))
}

/// Where reading begins, behind these places.
pub(crate) fn behind(list: &[Gtid]) -> String {
    let list: Vec<_> = list.iter().map(Gtid::to_string).collect();
    list.join(",")
}

/// The same, but that of the log of `last` that transaction comes once more.
pub(crate) fn before(last: Gtid, list: &[Gtid]) -> String {
    let others = list.iter().filter(|at| at.log != last.log).copied();
    let own = (last.seq > 1).then_some(Gtid {
        seq: last.seq.saturating_sub(1),
        ..last
    });
    behind(&others.chain(own).collect::<Vec<_>>())
}

/// What stands in a server's log behind `from`.
pub(crate) async fn open(server: &Server, number: u32, from: &str) -> Result<BinlogStream, mysql_async::Error> {
    let mut conn = server.raw().await?;
    let set = format!(
        "SET @mariadb_slave_capability = 4, @slave_connect_state = {}, @slave_gtid_strict_mode = 0, \
         @slave_gtid_ignore_duplicates = 0",
        literal(from)
    );
    conn.query_drop(set).await?;
    let request = BinlogStreamRequest::new(number).with_non_blocking();
    conn.get_binlog_stream(request).await
}
