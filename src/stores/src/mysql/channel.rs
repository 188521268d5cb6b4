//! One link, as MySQL calls it: a channel of a replica.
//!
//! Where logs are closed of which nothing more is taken, each link stops before what it has of them, by a condition that it is
//! started with. Whoever starts it again lets it pass over that first. So nobody but us starts one.

use crate::driver::Peer;
use crate::error::Error;
use crate::family::MySqlFamily;
use crate::family::connect::{Session, refusal};
use crate::family::gtid::Gtid;
use crate::family::names::literal;
use crate::family::status::Status;
use crate::mysql::passed;
use mysql_async::Row;

/// What a link does that waits for its server.
const LISTENS: &str = "Waiting for source to send event";

/// What the server reads in a row of `SHOW REPLICA STATUS`, of which each link has one.
pub(crate) async fn status(session: &mut Session<'_>, name: &str) -> Result<Option<Status>, Error> {
    let sql = format!("SHOW REPLICA STATUS FOR CHANNEL {}", literal(name));
    let rows = match session.told::<Row>("looking at links", &sql).await {
        Ok(rows) => rows,
        // 3074: it does not exist.
        Err(error) if refusal(&error) == Some(3074) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let text = |name: &str| {
        let value = row.get_opt::<Option<String>, _>(name);
        value.and_then(Result::ok).flatten().unwrap_or_default()
    };
    let number = |name: &str| text(name).parse().unwrap_or_default();
    let (sql_errno, received) = (number("Last_SQL_Errno"), text("Retrieved_Gtid_Set"));
    // What it says itself is only that one of its workers failed.
    let sql_error = match sql_errno {
        0 => String::new(),
        _ => worker_error(session, name)
            .await?
            .unwrap_or_else(|| text("Last_SQL_Error")),
    };
    let sql = "SELECT GTID_SUBSET(?, @@global.gtid_executed)";
    let is_applied: bool = session.row("looking at links", sql, (received,)).await?;
    let sql_runs = text("Replica_SQL_Running") == "Yes";
    let filters = [
        "Replicate_Do_DB",
        "Replicate_Ignore_DB",
        "Replicate_Do_Table",
        "Replicate_Ignore_Table",
        "Replicate_Wild_Do_Table",
        "Replicate_Wild_Ignore_Table",
        "Replicate_Rewrite_DB",
        "Replicate_Ignore_Server_Ids",
    ];
    Ok(Some(Status {
        name: name.to_owned(),
        host: text("Source_Host"),
        port: text("Source_Port").parse().unwrap_or_default(),
        user: text("Source_User"),
        by_position: text("Auto_Position") == "1",
        whole: filters.iter().all(|filter| text(filter).is_empty()) && number("SQL_Delay") == 0,
        ca_file: (text("Source_SSL_Allowed") == "Yes" && text("Source_SSL_Verify_Server_Cert") == "Yes")
            .then(|| text("Source_SSL_CA_File")),
        io: text("Replica_IO_Running"),
        sql: sql_runs,
        io_errno: number("Last_IO_Errno"),
        io_error: text("Last_IO_Error"),
        sql_errno,
        sql_error,
        received: format!("{} {}", text("Source_Log_File"), text("Read_Source_Log_Pos")),
        is_drained: is_applied,
        waits: None,
        passes_over: !sql_runs && sql_errno == 0 && text("Until_Condition") == "SQL_BEFORE_GTIDS" && !is_applied,
        skips: 0,
        listens: text("Replica_IO_State") == LISTENS,
        heartbeats: None,
    }))
}

/// How many heartbeats it has received.
pub(crate) async fn heartbeats(session: &mut Session<'_>, name: &str) -> Result<Option<u64>, Error> {
    let sql =
        "SELECT COUNT_RECEIVED_HEARTBEATS FROM performance_schema.replication_connection_status WHERE CHANNEL_NAME = ?";
    let found: Vec<u64> = session.rows("looking at links", sql, (name,)).await?;
    Ok(found.into_iter().next())
}

async fn worker_error(session: &mut Session<'_>, name: &str) -> Result<Option<String>, Error> {
    let sql = "SELECT LAST_ERROR_MESSAGE FROM performance_schema.replication_applier_status_by_worker
               WHERE CHANNEL_NAME = ? AND LAST_ERROR_NUMBER <> 0 LIMIT 1";
    let found: Vec<String> = session.rows("looking at links", sql, (name,)).await?;
    Ok(found.into_iter().next())
}

pub(crate) async fn make(db: &MySqlFamily, session: &mut Session<'_>, from: &Peer, name: &str) -> Result<(), Error> {
    let (demanded, ca_file) = match &db.access.tls {
        Some(tls) => (1, tls.ca_file.as_str()),
        None => (0, ""),
    };
    let sql = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = {}, SOURCE_PORT = {}, SOURCE_USER = {}, SOURCE_PASSWORD = {}, \
         SOURCE_AUTO_POSITION = 1, SOURCE_HEARTBEAT_PERIOD = 0.5, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 1000000, \
         SOURCE_DELAY = 0, SOURCE_SSL = {demanded}, SOURCE_SSL_VERIFY_SERVER_CERT = {demanded}, SOURCE_SSL_CA = {}, \
         GET_SOURCE_PUBLIC_KEY = {} FOR CHANNEL {}",
        literal(&from.host),
        from.port,
        literal(&from.user),
        literal(&from.password),
        literal(ca_file),
        1 - demanded,
        literal(name),
    );
    session.batch("making a link", &sql).await
}

/// Starts one of its two halves, or both.
pub(crate) async fn start(session: &mut Session<'_>, name: &str, half: &str) -> Result<(), Error> {
    let received = received(session, name).await?;
    passed::closed(session, &received).await?;
    let until = match passed::closed_logs(session).await? {
        Some(closed) => format!("UNTIL SQL_BEFORE_GTIDS = {}", literal(&closed)),
        None => String::new(),
    };
    let sql = format!("START REPLICA {half} {until} FOR CHANNEL {}", literal(name));
    session.batch("starting a link", &sql).await
}

/// All that it has received since it was made.
async fn received(session: &mut Session<'_>, name: &str) -> Result<String, Error> {
    let sql =
        "SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status WHERE CHANNEL_NAME = ?";
    let found: Vec<String> = session.rows("looking at links", sql, (name,)).await?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// Lets it go on up to a place in the peer's log, in every log of it, where it stops before what comes next.
pub(crate) async fn start_until(session: &mut Session<'_>, name: &str, place: &[Gtid]) -> Result<(), Error> {
    let set: Vec<_> = place
        .iter()
        .filter(|at| at.seq > 0)
        .map(|at| format!("{}:1-{}", at.log, at.seq))
        .collect();
    let set = set.join(",");
    // Then nothing of them is left before the place.
    passed::closed(session, &set).await?;
    // Behind the place comes something that is not in it, and stops it before it is applied. The other condition that there is,
    // to stop after some transactions, lets more pass: what is behind them is handed on before they are applied.
    let behind: Vec<_> = place
        .iter()
        .map(|at| format!("{}:{}-9223372036854775806", at.log, at.seq + 1))
        .collect();
    let sql = "SELECT GTID_SUBTRACT(?, @@global.gtid_executed)";
    let behind: String = session.row("starting a link", sql, (behind.join(","),)).await?;
    let sql = format!(
        "START REPLICA UNTIL SQL_BEFORE_GTIDS = {} FOR CHANNEL {}",
        literal(&behind),
        literal(name)
    );
    session.batch("starting a link", &sql).await
}

/// Has it apply nothing more, and whether it ran. It goes on to receive: who connects again has the peer look through its log.
pub(crate) async fn halt(session: &mut Session<'_>, name: &str) -> Result<bool, Error> {
    let ran = status(session, name).await?.is_some_and(|status| !status.is_stopped());
    if ran {
        stop(session, name, "SQL_THREAD").await?;
    }
    Ok(ran)
}

/// Stops one of its two halves, or both.
pub(crate) async fn stop(session: &mut Session<'_>, name: &str, half: &str) -> Result<(), Error> {
    let sql = format!("STOP REPLICA {half} FOR CHANNEL {}", literal(name));
    session.batch("stopping a link", &sql).await
}

pub(crate) async fn remove(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    let sql = format!("RESET REPLICA ALL FOR CHANNEL {}", literal(name));
    session.batch("removing a link", &sql).await
}
