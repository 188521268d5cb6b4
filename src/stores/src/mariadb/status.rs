//! How a link is, as its own server tells it, and what that says.

use super::connect::{Session, refusal};
use super::gtid::Gtid;
use super::names::{self, literal};
use super::{MariaDb, links, locks, lost};
use crate::driver::LinkState;
use crate::error::Error;
use futures::future::join_all;
use multiactive_core::ids::UnitName;
use mysql_async::Row;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a link may be without a stream before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(12);

/// How long the server may take to say how a link is.
const ANSWERS: Duration = Duration::from_secs(1);

/// What a link does that waits for another one.
const WAITS: &str = "Waiting for other master connection";

/// Who holds a row that a link's rows wait for, since when.
const LOCKED: &str = "
    SELECT CONCAT('its rows wait for a lock since ', r.trx_wait_started, ', held by process ', p.ID, ' of ', p.USER, ', ',
                  IF(p.COMMAND = 'Sleep', 'idle in transaction', 'active'), ', since ', b.trx_started, ': ',
                  LEFT(IFNULL(p.INFO, ''), 120))
    FROM information_schema.INNODB_LOCK_WAITS w
    JOIN information_schema.INNODB_TRX r ON r.trx_id = w.requesting_trx_id
    JOIN information_schema.PROCESSLIST a ON a.ID = r.trx_mysql_thread_id AND a.USER = 'system user'
    JOIN information_schema.INNODB_TRX b ON b.trx_id = w.blocking_trx_id AND (b.trx_id <> 0 OR b.trx_rows_locked > 0)
    JOIN information_schema.PROCESSLIST p ON p.ID = b.trx_mysql_thread_id
    WHERE r.trx_wait_started < CONVERT_TZ(SYSDATE(6), '+00:00', 'SYSTEM') - INTERVAL 1 SECOND
    ORDER BY r.trx_wait_started LIMIT 1";

/// A connection that exists.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) name: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    /// Whether it goes on where the server's own note of positions says.
    pub(super) by_position: bool,
    /// Whether it brings all of the log, at once: what a filter leaves out counts as applied.
    pub(super) whole: bool,
    /// Where it demands a certificate of the peer: the file with the CA certificates.
    pub(super) ca_file: Option<String>,
    io: String,
    sql: bool,
    pub(super) io_errno: u32,
    io_error: String,
    pub(super) sql_errno: u32,
    sql_error: String,
    /// Where it reads, and where it applies, in the peer's files.
    read: (String, String),
    applied: (String, String),
    doing: String,
    /// How many transactions it passes over.
    skips: u64,
}

impl Status {
    /// One of which the server says nothing now.
    fn waiting(name: String) -> Self {
        Self {
            name,
            host: String::new(),
            port: 0,
            user: String::new(),
            by_position: true,
            whole: true,
            ca_file: None,
            io: "Yes".to_owned(),
            sql: true,
            io_errno: 0,
            io_error: String::new(),
            sql_errno: 0,
            sql_error: String::new(),
            read: (String::new(), "0".to_owned()),
            applied: (String::new(), String::new()),
            doing: WAITS.to_owned(),
            skips: 0,
        }
    }

    fn of(name: &str, row: &Row) -> Self {
        let text = |name: &str| {
            let value = row.get_opt::<Option<String>, _>(name);
            value.and_then(Result::ok).flatten().unwrap_or_default()
        };
        let number = |name: &str| text(name).parse().unwrap_or_default();
        Self {
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
            read: (text("Master_Log_File"), text("Read_Master_Log_Pos")),
            applied: (text("Relay_Master_Log_File"), text("Exec_Master_Log_Pos")),
            doing: text("Slave_SQL_Running_State"),
            skips: text("Skip_Counter").parse().unwrap_or_default(),
        }
    }

    /// It receives and applies.
    pub(super) fn runs(&self) -> bool {
        self.io != "No" && self.sql
    }

    /// It neither receives nor applies.
    pub(super) fn is_stopped(&self) -> bool {
        self.io == "No" && !self.sql
    }

    /// Whether it receives, or tries to.
    pub(super) fn receives(&self) -> bool {
        self.io != "No"
    }

    /// Whether all that was received is applied, as far as it is whole.
    pub(super) fn is_drained(&self) -> bool {
        self.read == self.applied || self.doing.starts_with("Slave has read all relay log")
    }

    /// Whether it cannot apply what comes.
    pub(super) fn is_stuck(&self) -> bool {
        !self.sql && self.sql_errno != 0
    }
}

/// All links that our store may have, by name. Each is asked for by itself, all at once and for a moment: while one waits for
/// another to apply a row that both have, the server says nothing of it, and of all together nothing either.
pub(super) async fn all(db: &MariaDb) -> Result<BTreeMap<String, Status>, Error> {
    let asked = names(db).await?.into_iter().map(async |name| {
        let look = async {
            let mut session = db.server.session().await?;
            let status = one(&mut session, &name).await?;
            session.keep();
            Ok(status)
        };
        match timeout(ANSWERS, look).await {
            Ok(answer) => Ok(answer?.map(|status| (name, status))),
            Err(_) => Ok(Some((name.clone(), Status::waiting(name)))),
        }
    });
    let found: Vec<Option<_>> = join_all(asked).await.into_iter().collect::<Result<_, Error>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// The names of all links that our store may have.
pub(super) async fn names(db: &MariaDb) -> Result<BTreeSet<String>, Error> {
    let mut session = db.server.session().await?;
    let known = links::known(&mut session).await?;
    session.keep();
    let all = known.iter().map(|link| &link.from).chain(&db.spec.peers);
    Ok(all.map(names::link).collect())
}

/// One link; `None` where there is no such link.
pub(super) async fn one(session: &mut Session<'_>, name: &str) -> Result<Option<Status>, Error> {
    let sql = format!("SHOW SLAVE {} STATUS", literal(name));
    match session.told::<Row>("looking at links", &sql).await {
        Ok(rows) => Ok(rows.first().map(|row| Status::of(name, row))),
        // 1617: it does not exist.
        Err(error) if refusal(&error) == Some(1617) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Who holds up what links bring, in words; `None` where nobody does for longer than a second.
pub(super) async fn locked<'a>(
    session: &mut Session<'_>,
    mut links: impl Iterator<Item = &'a Status>,
) -> Result<Option<String>, Error> {
    if links.all(|link| !link.sql || link.is_drained()) {
        return Ok(None);
    }
    let rows: Vec<String> = locks::look(session, LOCKED, ()).await?;
    Ok(rows.into_iter().next())
}

pub(super) async fn start(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    skip_nothing(session, name).await?;
    let sql = format!("START SLAVE {}", literal(name));
    session.batch("starting a link", &sql).await
}

/// Starts what applies a link's rows, where that stands still.
pub(super) async fn start_applying(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    skip_nothing(session, name).await?;
    let sql = format!("START SLAVE {} SQL_THREAD", literal(name));
    session.batch("applying what was received", &sql).await
}

/// The server passes over a transaction that another link has brought by counting it as one to skip. Where the link is stopped
/// in the midst of it, the count stays, and when it starts again the next transaction is skipped, which nobody else has
/// brought: without an error, and it never comes.
async fn skip_nothing(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    let skips = |status: &Status| !status.sql && status.skips > 0;
    if !one(session, name).await?.is_some_and(|status| skips(&status)) {
        return Ok(());
    }
    tracing::warn!(
        link = name,
        "it would have skipped what it brings next: what it had received comes again"
    );
    stop(session, name).await?;
    let sql = format!("RESET SLAVE {}", literal(name));
    session.batch("starting a link", &sql).await
}

/// Lets a link go on up to a place in the peer's log, in every domain of it, where it stops by itself.
pub(super) async fn start_until(session: &mut Session<'_>, name: &str, place: &[Gtid]) -> Result<(), Error> {
    skip_nothing(session, name).await?;
    let place: Vec<_> = place.iter().map(Gtid::to_string).collect();
    let sql = format!(
        "START SLAVE {} UNTIL master_gtid_pos = {}",
        literal(name),
        literal(&place.join(","))
    );
    session.batch("starting a link", &sql).await
}

/// Returns when it neither receives nor applies.
pub(super) async fn stop(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    let sql = format!("STOP SLAVE {}", literal(name));
    session.batch("stopping a link", &sql).await
}

/// What earlier looks showed, in this process.
#[derive(Default)]
pub(super) struct Watch(Mutex<HashMap<String, Instant>>);

impl Watch {
    pub(super) fn forget(&self, name: &str) {
        if let Ok(mut silent) = self.0.lock() {
            silent.remove(name);
        }
    }

    /// For how long a link has not streamed.
    fn silent(&self, status: &Status) -> Duration {
        let Ok(mut silent) = self.0.lock() else {
            return Duration::ZERO;
        };
        if status.io == "Yes" {
            silent.remove(&status.name);
            return Duration::ZERO;
        }
        silent.entry(status.name.clone()).or_insert_with(Instant::now).elapsed()
    }

    /// How a link is; `why` is what was just learned about it.
    /// `held`: somebody keeps links standing for a while.
    pub(super) fn state(
        &self,
        own: &UnitName,
        status: &Status,
        locked: Option<&str>,
        held: bool,
        why: Option<&str>,
    ) -> LinkState {
        let silent = self.silent(status);
        if status.is_stuck() {
            return match lost::awaits(own, &status.sql_error) {
                Some(table) => LinkState::Quarantined(format!(
                    "slots were taken over there while this unit was lost ({table}): nothing of what is written there is \
                     applied before the rows are compared and what differs is accepted"
                )),
                None => LinkState::Broken(format!("what comes cannot be applied: {}", status.sql_error)),
            };
        }
        if status.doing.starts_with(WAITS) {
            return LinkState::Starting(format!("{}: the other one has to go on first", status.doing));
        }
        if status.io == "Yes" && status.sql {
            return match locked.filter(|_| !status.is_drained()) {
                Some(locked) => LinkState::Starting(locked.to_owned()),
                None => LinkState::Running,
            };
        }
        if let Some(why) = why {
            return LinkState::Broken(why.to_owned());
        }
        if held && status.io_errno == 0 {
            return LinkState::Starting("it stands still while rows are compared or copied".to_owned());
        }
        let io_error = |otherwise: &str| match status.io_error.as_str() {
            "" => otherwise.to_owned(),
            error => error.to_owned(),
        };
        match status.receives() && status.sql {
            false => LinkState::Broken(io_error("it is stopped")),
            true if silent > PATIENCE => LinkState::Broken(format!(
                "it has not streamed for {silent:.0?}: {}",
                io_error("it connects")
            )),
            true => LinkState::Starting(io_error("it connects")),
        }
    }
}
