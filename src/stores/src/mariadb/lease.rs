//! Where MariaDB keeps the write lease: in a sequence.

use crate::error::Error;
use crate::family::connect::Session;

/// Its round grows, or it would only go forward.
pub(crate) async fn set(session: &mut Session<'_>, value: i64) -> Result<(), Error> {
    let sql = "SELECT cycle_count + 1 FROM multiactive.lease";
    let round: i64 = session.row("reading the write lease", sql, ()).await?;
    let sql = format!("SELECT SETVAL(multiactive.lease, {value}, 0, {round})");
    session
        .told::<Option<i64>>("setting the write lease", &sql)
        .await
        .map(drop)
}
