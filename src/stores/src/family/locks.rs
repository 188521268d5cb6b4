//! Looking at the server's locks.
//!
//! The server answers from a copy that it makes anew only where nobody has read it for 100 ms: who asks more often than that,
//! or at the same time as others, is told for ever how it was at first. So we ask one after the other, each after a pause.

use super::connect::{PATIENCE, Session};
use crate::error::Error;
use mysql_async::Params;
use mysql_async::prelude::FromRow;

const LOCK: &str = "SELECT GET_LOCK('multiactive.looking', 4)";
const PAUSE: &str = "DO SLEEP(0.105)";
const UNLOCK: &str = "SELECT RELEASE_LOCK('multiactive.looking')";

/// The rows of a query of the tables `INNODB_TRX` and `INNODB_LOCK_WAITS`, as they are now.
pub(crate) async fn look<T: FromRow + Send + 'static>(
    session: &mut Session<'_>,
    sql: &str,
    params: impl Into<Params> + Send,
) -> Result<Vec<T>, Error> {
    const DOING: &str = "looking at locks";
    if session.row::<Option<bool>>(DOING, LOCK, ()).await? != Some(true) {
        return Err(session.late(DOING, PATIENCE));
    }
    session.batch(DOING, PAUSE).await?;
    let rows = session.rows(DOING, sql, params).await?;
    session.told::<Option<bool>>(DOING, UNLOCK).await?;
    Ok(rows)
}
