//! What MariaDB notes as applied of each log: one list, which can be set.

use crate::error::Error;
use crate::family::connect::Session;
use crate::family::gtid::{Gtid, covering};

pub(crate) async fn read(session: &mut Session<'_>) -> Result<Vec<Gtid>, Error> {
    let sql = "SELECT @@global.gtid_slave_pos";
    let log: String = session.row("reading how far links have come", sql, ()).await?;
    Gtid::list(&log)
}

/// Notes this list; no link runs.
pub(crate) async fn note(session: &mut Session<'_>, list: Vec<Gtid>) -> Result<(), Error> {
    let sql = "SELECT @@global.gtid_binlog_pos";
    let logged: String = session.row("reading the position", sql, ()).await?;
    // The server takes no list that knows less than its own log.
    let list: Vec<_> = covering(list, Gtid::list(&logged)?)
        .iter()
        .map(Gtid::to_string)
        .collect();
    let sql = format!("SET GLOBAL gtid_slave_pos = '{}'", list.join(","));
    session.batch("noting what is applied", &sql).await
}
