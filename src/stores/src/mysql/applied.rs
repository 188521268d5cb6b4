//! What MySQL notes as applied of each log. It is a set of transactions, to which some can be added that never were applied:
//! the server then passes them over, and cannot hand them on (see `passed`). A log of which nothing more is taken cannot be a set
//! without an end: a unit whose transactions count as applied before it has written them could never be received from again.
//! So such a log is noted in a table, and each link stops before what it has of it: see `channel`.

use crate::error::Error;
use crate::family::applied::{CLOSED, Passed, is_closed};
use crate::family::connect::Session;
use crate::family::gtid::{Gtid, Log};
use crate::mysql::passed;

/// All logs; of one that is closed, that it is.
pub(crate) async fn read(session: &mut Session<'_>) -> Result<Vec<Gtid>, Error> {
    let sql = "SELECT @@global.gtid_executed, (SELECT GROUP_CONCAT(c.log) FROM multiactive.closed c)";
    let row = session.row("reading how far links have come", sql, ()).await?;
    let (executed, closed): (String, Option<String>) = row;
    let mut list = Gtid::list(&executed)?;
    for log in closed.unwrap_or_default().split(',').filter(|log| !log.is_empty()) {
        let log = Log::parse(log)?;
        list.retain(|at| at.log != log);
        list.push(Gtid {
            seq: CLOSED,
            ..Gtid::nothing(log)
        });
    }
    Ok(list)
}

/// Notes this list in place of another; no link runs.
pub(crate) async fn note(session: &mut Session<'_>, was: &[Gtid], list: &[Gtid], why: Passed) -> Result<(), Error> {
    for old in was.iter().filter(|old| is_closed(old)) {
        if Gtid::of(list, old.log).is_none_or(|new| !is_closed(&new)) {
            let sql = "DELETE FROM multiactive.closed WHERE log = ?";
            session
                .change("opening a log again", sql, (old.log.to_string(),))
                .await?;
        }
    }
    for new in list {
        let old = Gtid::of(was, new.log);
        if !is_closed(new) {
            if old.is_none_or(|old| old.seq != new.seq) && new.seq > 0 {
                let set = format!("{}:1-{}", new.log, new.seq);
                passed::pass_over(session, &set, why).await?;
            }
        } else if old.is_none_or(|old| !is_closed(&old)) {
            let sql = "INSERT IGNORE INTO multiactive.closed (log, upto) VALUES (?, ?)";
            let params = (new.log.to_string(), old.map_or(0, |old| old.seq));
            session.change("closing a log", sql, params).await?;
        }
    }
    Ok(())
}
