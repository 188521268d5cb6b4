//! One link, as MariaDB calls it: a named connection of a slave.

use crate::driver::Peer;
use crate::error::Error;
use crate::family::MySqlFamily;
use crate::family::connect::{Session, refusal};
use crate::family::gtid::Gtid;
use crate::family::names::literal;
use crate::family::status::Status;
use mysql_async::Row;

/// What a link does that waits for another one,
const WAITS: &str = "Waiting for other master connection";

/// and one that waits for its server.
const LISTENS: &str = "Waiting for master to send event";

pub(crate) async fn status(session: &mut Session<'_>, name: &str) -> Result<Option<Status>, Error> {
    let sql = format!("SHOW SLAVE {} STATUS", literal(name));
    match session.told::<Row>("looking at links", &sql).await {
        Ok(rows) => Ok(rows.first().map(|row| read(name, row))),
        // 1617: it does not exist.
        Err(error) if refusal(&error) == Some(1617) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(name: &str, row: &Row) -> Status {
    let text = |name: &str| {
        let value = row.get_opt::<Option<String>, _>(name);
        value.and_then(Result::ok).flatten().unwrap_or_default()
    };
    let number = |name: &str| text(name).parse().unwrap_or_default();
    let received = (text("Master_Log_File"), text("Read_Master_Log_Pos"));
    let applied = (text("Relay_Master_Log_File"), text("Exec_Master_Log_Pos"));
    let doing = text("Slave_SQL_Running_State");
    Status {
        name: name.to_owned(),
        host: text("Master_Host"),
        port: text("Master_Port").parse().unwrap_or_default(),
        user: text("Master_User"),
        by_position: text("Using_Gtid") == "Slave_Pos",
        whole: text("Replicate_Do_Domain_Ids").is_empty()
            && text("Replicate_Ignore_Domain_Ids").is_empty()
            && number("SQL_Delay") == 0,
        ca_file: (text("Master_SSL_Allowed") == "Yes" && text("Master_SSL_Verify_Server_Cert") == "Yes")
            .then(|| text("Master_SSL_CA_File")),
        io: text("Slave_IO_Running"),
        sql: text("Slave_SQL_Running") == "Yes",
        io_errno: number("Last_IO_Errno"),
        io_error: text("Last_IO_Error"),
        sql_errno: number("Last_SQL_Errno"),
        sql_error: text("Last_SQL_Error"),
        received: format!("{} {}", received.0, received.1),
        is_drained: received == applied || doing.starts_with("Slave has read all relay log"),
        waits: doing.starts_with(WAITS).then_some(doing),
        passes_over: false,
        skips: text("Skip_Counter").parse().unwrap_or_default(),
        listens: text("Slave_IO_State") == LISTENS,
        heartbeats: None,
    }
}

/// How many heartbeats it has received. Only `SHOW ALL SLAVES STATUS` says so otherwise, which waits for every link.
pub(crate) async fn heartbeats(session: &mut Session<'_>, name: &str) -> Result<Option<u64>, Error> {
    let of = format!("SET SESSION default_master_connection = {}", literal(name));
    session.batch("looking at links", &of).await?;
    let sql = "SHOW STATUS LIKE 'Slave_received_heartbeats'";
    let rows: Vec<(String, String)> = session.told("looking at links", sql).await?;
    Ok(rows.first().and_then(|(_, count)| count.parse().ok()))
}

pub(crate) async fn make(db: &MySqlFamily, session: &mut Session<'_>, from: &Peer, name: &str) -> Result<(), Error> {
    let (demanded, ca_file) = match &db.access.tls {
        Some(tls) => (1, tls.ca_file.as_str()),
        None => (0, ""),
    };
    let sql = format!(
        "CHANGE MASTER {} TO MASTER_HOST = {}, MASTER_PORT = {}, MASTER_USER = {}, MASTER_PASSWORD = {}, \
         MASTER_USE_GTID = slave_pos, MASTER_HEARTBEAT_PERIOD = 0.5, MASTER_CONNECT_RETRY = 1, DO_DOMAIN_IDS = (), \
         IGNORE_DOMAIN_IDS = (), MASTER_DELAY = 0, \
         MASTER_SSL = {demanded}, MASTER_SSL_VERIFY_SERVER_CERT = {demanded}, MASTER_SSL_CA = {}",
        literal(name),
        literal(&from.host),
        from.port,
        literal(&from.user),
        literal(&from.password),
        literal(ca_file)
    );
    session.batch("making a link", &sql).await
}

/// Starts one of its two halves, or both.
pub(crate) async fn start(session: &mut Session<'_>, name: &str, half: &str) -> Result<(), Error> {
    skip_nothing(session, name).await?;
    let sql = format!("START SLAVE {} {half}", literal(name));
    session.batch("starting a link", &sql).await
}

/// The server passes over a transaction that another link has brought by counting it as one to skip. Where the link is stopped
/// in the midst of it, the count stays, and when it starts again the next transaction is skipped, which nobody else has
/// brought: without an error, and it never comes.
async fn skip_nothing(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    let skips = |status: &Status| !status.sql && status.skips > 0;
    if !status(session, name).await?.is_some_and(|status| skips(&status)) {
        return Ok(());
    }
    tracing::warn!(
        link = name,
        "it would have skipped what it brings next: what it had received comes again"
    );
    stop(session, name, "").await?;
    let sql = format!("RESET SLAVE {}", literal(name));
    session.batch("starting a link", &sql).await
}

/// Lets it go on up to a place in the peer's log, in every domain of it, where it stops by itself.
pub(crate) async fn start_until(session: &mut Session<'_>, name: &str, place: &[Gtid]) -> Result<(), Error> {
    skip_nothing(session, name).await?;
    let place: Vec<_> = place.iter().map(Gtid::to_string).collect();
    let sql = format!(
        "START SLAVE {} UNTIL master_gtid_pos = {}",
        literal(name),
        literal(&place.join(","))
    );
    session.batch("starting a link", &sql).await
}

/// Stops one of its two halves, or both.
pub(crate) async fn stop(session: &mut Session<'_>, name: &str, half: &str) -> Result<(), Error> {
    let sql = format!("STOP SLAVE {} {half}", literal(name));
    session.batch("stopping a link", &sql).await
}

pub(crate) async fn remove(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    let sql = format!("RESET SLAVE {} ALL", literal(name));
    session.batch("removing a link", &sql).await
}
