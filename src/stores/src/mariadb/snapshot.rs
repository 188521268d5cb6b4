//! Where a snapshot stands in MariaDB's log. The server takes both in one moment, in which no commit is between its log and its
//! rows; so nobody who writes has to wait for it.

use crate::error::Error;
use crate::family::connect::Session;
use crate::family::gtid::Gtid;
use crate::family::snapshot::take;
use crate::until::Until;

/// Where the snapshot of this session stands; asked in its transaction.
const PLACE: &str = "
    SELECT BINLOG_GTID_POS(f.VARIABLE_VALUE, CAST(p.VARIABLE_VALUE AS UNSIGNED))
    FROM information_schema.SESSION_STATUS f, information_schema.SESSION_STATUS p
    WHERE f.VARIABLE_NAME = 'BINLOG_SNAPSHOT_FILE' AND p.VARIABLE_NAME = 'BINLOG_SNAPSHOT_POSITION'";

/// Takes a snapshot and says where it stands.
pub(crate) async fn take_and_place(session: &mut Session<'_>, until: &Until) -> Result<Vec<Gtid>, Error> {
    take(session, until.left()?).await?;
    let place: Option<String> = session.row("reading a place in the log", PLACE, ()).await?;
    Gtid::list(&place.unwrap_or_default())
}
