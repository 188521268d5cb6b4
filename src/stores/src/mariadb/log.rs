//! Reading MariaDB's log as a link would.

use crate::family::MySqlFamily;
use crate::family::binlog::Begins;
use crate::family::gtid::{Gtid, Log};
use crate::family::names::literal;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest};

/// The number of the event with which a transaction begins.
const GTID: u8 = 162;

/// Whose transaction begins with this event, if one does. Only our own are asked for.
pub(crate) fn begins(kind: u8, data: &[u8]) -> Option<Begins> {
    let seq = || data.get(..8)?.try_into().ok().map(u64::from_le_bytes);
    (kind == GTID).then(seq).flatten().map(Begins::Own)
}

/// What this server wrote itself behind `after`; of the logs of others nothing is asked for.
pub(crate) async fn open(
    db: &MySqlFamily,
    own: Log,
    all: &[Gtid],
    after: Option<Gtid>,
) -> Result<BinlogStream, mysql_async::Error> {
    let mut conn = db.server.raw().await?;
    let others = all.iter().filter(|at| at.log != own).copied();
    let from: Vec<_> = others.chain(after).map(|at| at.to_string()).collect();
    let set = format!(
        "SET @mariadb_slave_capability = 4, @slave_connect_state = {}, @slave_gtid_strict_mode = 0, \
         @slave_gtid_ignore_duplicates = 0",
        literal(&from.join(","))
    );
    conn.query_drop(set).await?;
    let number = match own {
        Log::Domain(domain) => domain,
        Log::Server(_) => 0,
    };
    // A number that no server has: who reads with another one's ends its reading.
    let request = BinlogStreamRequest::new(u32::MAX - number).with_non_blocking();
    conn.get_binlog_stream(request).await
}
