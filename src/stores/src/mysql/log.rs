//! Reading MySQL's log as a link would.

use crate::error::Error;
use crate::family::connect::{Server, Session};
use crate::family::gtid::{Gtid, Log};
use crate::family::reading::Begins;
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

/// Which transactions have ended, so that everybody sees what they wrote: the server counts them behind that.
pub(crate) async fn committed(session: &mut Session<'_>) -> Result<String, Error> {
    let sql = "SELECT REPLACE(REPLACE(@@global.gtid_executed, '\n', ''), ' ', '')";
    session.row("reading how far logs have come", sql, ()).await
}

/// Whether a server's own transactions are not all that there are up to its last one: whoever reads its log to where the first ones end
/// would miss the others.
pub(crate) fn has_gaps(set: &str, own: Log) -> bool {
    let mut parts = set.split(',').map(|part| part.split(':'));
    parts.any(|mut part| part.next().and_then(|log| Log::parse(log).ok()) == Some(own) && part.count() > 1)
}

/// Where reading begins, behind these places.
pub(crate) fn behind(list: &[Gtid]) -> String {
    let known = list.iter().filter(|at| at.seq > 0);
    let known: Vec<String> = known.map(|at| format!("{}:1-{}", at.log, at.seq)).collect();
    known.join(",")
}

/// The same behind the transactions of a set, but that of the log of `last` that one and whatever follows it comes once more.
pub(crate) fn before(last: Gtid, set: &str) -> String {
    let is_own = |part: &&str| {
        part.split(':')
            .next()
            .is_some_and(|log| Log::parse(log).ok() == Some(last.log))
    };
    let others = set.split(',').filter(|part| !part.is_empty() && !is_own(part));
    let own = (last.seq > 1).then(|| format!("{}:1-{}", last.log, last.seq.saturating_sub(1)));
    let all: Vec<_> = others.map(str::to_owned).chain(own).collect();
    all.join(",")
}

/// What stands in a server's log but for the transactions of the set `from`. Of those that we cannot name, all comes.
pub(crate) async fn open(server: &Server, number: u32, from: &str) -> Result<BinlogStream, mysql_async::Error> {
    let conn = server.raw().await?;
    let sids = from.split(',').filter_map(|text| text.parse::<Sid<'_>>().ok());
    let request = BinlogStreamRequest::new(number)
        .with_gtid()
        .with_gtid_set(sids)
        .with_non_blocking();
    conn.get_binlog_stream(request).await
}
