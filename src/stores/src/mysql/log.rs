//! Reading MySQL's log as a link would.

use crate::family::MySqlFamily;
use crate::family::binlog::Begins;
use crate::family::gtid::{Gtid, Log};
use mysql_async::{BinlogStream, BinlogStreamRequest, Sid};

/// The number of the event with which a transaction begins.
const GTID: u8 = 33;
/// The same of one with a tag, which none of ours has.
const TAGGED: u8 = 42;

/// Whose transaction begins with this event, if one does.
pub(crate) fn begins(kind: u8, data: &[u8], own: Log) -> Option<Begins> {
    match kind {
        GTID => {
            let log = data.get(1..17)?.try_into().ok().map(u128::from_be_bytes)?;
            let seq = data.get(17..25)?.try_into().ok().map(u64::from_le_bytes)?;
            Some(match Log::Server(log) == own {
                true => Begins::Own(seq),
                false => Begins::Other,
            })
        }
        TAGGED => Some(Begins::Other),
        _ => None,
    }
}

/// What this server wrote itself behind `after`. Of the logs of others nothing is asked for that is whole.
pub(crate) async fn open(
    db: &MySqlFamily,
    own: Log,
    all: &[Gtid],
    after: Option<Gtid>,
) -> Result<BinlogStream, mysql_async::Error> {
    let conn = db.server.raw().await?;
    let others = all.iter().filter(|at| at.log != own).copied();
    let known = others.chain(after).filter(|at| at.seq > 0);
    let known: Vec<String> = known.map(|at| format!("{}:1-{}", at.log, at.seq)).collect();
    let sids: Vec<Sid<'_>> = known.iter().filter_map(|text| text.parse().ok()).collect();
    // A number that no server has: who reads with another one's ends its reading.
    let request = BinlogStreamRequest::new(u32::MAX - std::process::id() % 1_000_000)
        .with_gtid()
        .with_gtid_set(sids)
        .with_non_blocking();
    conn.get_binlog_stream(request).await
}
