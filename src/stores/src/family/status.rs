//! How a link is, as its own server tells it, and what that says.

use super::connect::Session;
use super::dialect::Kind;
use super::gtid::Gtid;
use super::names;
use super::{MySqlFamily, cut, links, locks, lost};
use crate::driver::LinkState;
use crate::error::Error;
use crate::{mariadb, mysql};
use futures::future::join_all;
use multiactive_core::ids::UnitName;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a link may be without a stream, or without a word of a server that says something at least every half second
/// (the heartbeat that each link is made with), before it counts as broken.
const SILENT: Duration = Duration::from_secs(8);

/// How long the server may take to say how a link is.
const ANSWERS: Duration = Duration::from_secs(1);

/// A connection that exists.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    /// Whether it goes on where the server's own note of positions says.
    pub(crate) by_position: bool,
    /// Whether it brings all of the log, at once: what a filter leaves out counts as applied.
    pub(crate) whole: bool,
    /// Where it demands a certificate of the peer: the file with the CA certificates.
    pub(crate) ca_file: Option<String>,
    /// `Yes`, `No`, or what it does to connect.
    pub(crate) io: String,
    pub(crate) sql: bool,
    pub(crate) io_errno: u32,
    pub(crate) io_error: String,
    pub(crate) sql_errno: u32,
    pub(crate) sql_error: String,
    /// Whether all that was received is applied, as far as it is whole.
    pub(crate) is_drained: bool,
    /// What it does while it waits for another link to apply what both have.
    pub(crate) waits: Option<String>,
    /// Whether it stands before what a lost unit wrote last, which it has to pass over: whoever starts it sees to that.
    pub(crate) passes_over: bool,
    /// How many transactions it skips.
    pub(crate) skips: u64,
    /// Whether it waits for what its server says next: one that is busy with what came hears nothing meanwhile.
    pub(crate) listens: bool,
    /// What it has received so far: a place in the peer's log,
    pub(crate) received: String,
    /// and how many heartbeats, where that was asked for.
    pub(crate) heartbeats: Option<u64>,
}

impl Status {
    /// One of which the server says nothing now: it waits for another one.
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
            is_drained: false,
            waits: Some("Waiting for another link".to_owned()),
            passes_over: false,
            skips: 0,
            listens: false,
            received: String::new(),
            heartbeats: None,
        }
    }

    /// It receives and applies.
    pub(crate) fn runs(&self) -> bool {
        self.io != "No" && self.sql
    }

    /// It neither receives nor applies.
    pub(crate) fn is_stopped(&self) -> bool {
        self.io == "No" && !self.sql
    }

    /// Whether it receives, or tries to.
    pub(crate) fn receives(&self) -> bool {
        self.io != "No"
    }

    /// Whether all that was received is applied, as far as it is whole.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Whether it was started up to a place, and is there: of MySQL it goes on to receive.
    pub(crate) fn is_at_its_place(&self, kind: Kind) -> bool {
        match kind {
            Kind::MariaDb => self.is_stopped(),
            Kind::MySql => !self.sql,
        }
    }

    /// Whether it cannot apply what comes.
    pub(crate) fn is_stuck(&self) -> bool {
        !self.sql && self.sql_errno != 0
    }
}

/// All links that our store may have, by name. Each is asked for by itself, all at once and for a moment: while one waits for
/// another to apply a row that both have, the server says nothing of it, and of all together nothing either.
pub(crate) async fn all(db: &MySqlFamily) -> Result<BTreeMap<String, Status>, Error> {
    let asked = names(db).await?.into_iter().map(async |name| {
        let look = async {
            let mut session = db.server.session().await?;
            let status = heard(&mut session, &name).await?;
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
pub(crate) async fn names(db: &MySqlFamily) -> Result<BTreeSet<String>, Error> {
    let mut session = db.server.session().await?;
    let known = links::known(&mut session).await?;
    session.keep();
    let all = known.iter().map(|link| &link.from).chain(&db.spec.peers);
    Ok(all.map(names::link).collect())
}

/// One link; `None` where there is no such link.
pub(crate) async fn one(session: &mut Session<'_>, name: &str) -> Result<Option<Status>, Error> {
    match session.kind() {
        Kind::MariaDb => mariadb::channel::status(session, name).await,
        Kind::MySql => mysql::channel::status(session, name).await,
    }
}

/// As [`one`], with what tells a later look whether its server has said anything since.
pub(crate) async fn heard(session: &mut Session<'_>, name: &str) -> Result<Option<Status>, Error> {
    let Some(mut status) = one(session, name).await? else {
        return Ok(None);
    };
    status.heartbeats = match session.kind() {
        Kind::MariaDb => mariadb::channel::heartbeats(session, name).await?,
        Kind::MySql => mysql::channel::heartbeats(session, name).await?,
    };
    Ok(Some(status))
}

/// Who holds up what links bring, in words; `None` where nobody does for longer than a second.
pub(crate) async fn locked<'a>(
    session: &mut Session<'_>,
    mut links: impl Iterator<Item = &'a Status>,
) -> Result<Option<String>, Error> {
    if links.all(|link| !link.sql || link.is_drained()) {
        return Ok(None);
    }
    let rows: Vec<String> = locks::look(session, session.dialect().locked, ()).await?;
    Ok(rows.into_iter().next())
}

/// Lets a link receive and apply.
pub(crate) async fn start(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    match session.kind() {
        Kind::MariaDb => mariadb::channel::start(session, name, "").await,
        Kind::MySql => mysql::channel::start(session, name, "").await,
    }
}

/// Starts what applies a link's rows, where that stands still.
pub(crate) async fn start_applying(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    match session.kind() {
        Kind::MariaDb => mariadb::channel::start(session, name, "SQL_THREAD").await,
        Kind::MySql => mysql::channel::start(session, name, "SQL_THREAD").await,
    }
}

/// Lets a link go on up to a place in the peer's log, in every log that it has, where it stops by itself.
pub(crate) async fn start_until(session: &mut Session<'_>, name: &str, place: &[Gtid]) -> Result<(), Error> {
    match session.kind() {
        Kind::MariaDb => mariadb::channel::start_until(session, name, place).await,
        Kind::MySql => mysql::channel::start_until(session, name, place).await,
    }
}

/// Returns when it receives nothing more.
pub(crate) async fn stop_receiving(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    match session.kind() {
        Kind::MariaDb => mariadb::channel::stop(session, name, "IO_THREAD").await,
        Kind::MySql => mysql::channel::stop(session, name, "IO_THREAD").await,
    }
}

/// Returns when it neither receives nor applies.
pub(crate) async fn stop(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    match session.kind() {
        Kind::MariaDb => mariadb::channel::stop(session, name, "").await,
        Kind::MySql => mysql::channel::stop(session, name, "").await,
    }
}

/// Has a link that was started up to a place stand still, with nothing more applied where it has come there.
pub(crate) async fn stay_there(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    match session.kind() {
        // Who stops one throws away what it received.
        Kind::MariaDb => cut::stand_still(session, name).await.map(drop),
        Kind::MySql => mysql::channel::halt(session, name).await.map(drop),
    }
}

/// Removes a link that stands still.
pub(crate) async fn remove(session: &mut Session<'_>, name: &str) -> Result<(), Error> {
    match session.kind() {
        Kind::MariaDb => mariadb::channel::remove(session, name).await,
        Kind::MySql => mysql::channel::remove(session, name).await,
    }
}

/// What earlier looks showed, in this process.
#[derive(Default)]
pub(crate) struct Watch {
    heard: Mutex<HashMap<String, Heard>>,
    missed: Mutex<HashMap<UnitName, (Gtid, Instant)>>,
}

/// When a link was last known to hear of its server, and what it had received by then.
struct Heard {
    at: Instant,
    received: Option<(u64, String)>,
}

impl Watch {
    pub(crate) fn forget(&self, name: &str) {
        if let Ok(mut heard) = self.heard.lock() {
            heard.remove(name);
        }
    }

    /// For how long nothing has come by a link.
    fn silent(&self, status: &Status) -> Duration {
        let Ok(mut links) = self.heard.lock() else {
            return Duration::ZERO;
        };
        let at = Instant::now();
        let first = Heard { at, received: None };
        let heard = links.entry(status.name.clone()).or_insert(first);
        let received = status.heartbeats.map(|beats| (beats, status.received.clone()));
        let nothing_new = status.listens && received.is_some() && received == heard.received;
        if status.io == "Yes" && !nothing_new {
            *heard = Heard { at, received };
        }
        heard.at.elapsed()
    }

    /// For how long a position of a unit has been missing whose own link is broken.
    pub(crate) fn missed(&self, unit: &UnitName, wanted: Gtid) -> Duration {
        let Ok(mut missed) = self.missed.lock() else {
            return Duration::ZERO;
        };
        let since = missed.entry(unit.clone()).or_insert((wanted, Instant::now()));
        if since.0 != wanted {
            *since = (wanted, Instant::now());
        }
        since.1.elapsed()
    }

    /// How a link is; `why` is what was just learned about it.
    /// `held`: somebody keeps links standing for a while.
    pub(crate) fn state(
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
        if let Some(waits) = &status.waits {
            return LinkState::Starting(format!("{waits}: the other one has to go on first"));
        }
        if status.passes_over {
            return LinkState::Starting("it is about to pass over what a lost unit wrote last".to_owned());
        }
        if status.io == "Yes" && silent > SILENT {
            return LinkState::Broken(format!(
                "nothing has come from its server for {silent:.0?}: it stands still, or the network between the databases loses \
                 what it sends"
            ));
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
            true if silent > SILENT => LinkState::Broken(format!(
                "it has not streamed for {silent:.0?}: {}",
                io_error("it connects")
            )),
            true => LinkState::Starting(io_error("it connects")),
        }
    }
}
