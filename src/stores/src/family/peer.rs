//! What a peer's server says of itself, asked with the rights of the replication user.

use super::connect::{Server, Session};
use super::dialect::Kind;
use super::gtid::{Gtid, Log};
use super::logs::Logs;
use super::{MySqlFamily, applied};
use crate::access::Access;
use crate::driver::Peer;
use crate::error::Error;
use crate::mysql;
use futures::future::join_all;
use multiactive_core::slots::{Slot, SlotSet};
use std::time::Duration;
use tokio::time::timeout;

/// How long a peer may take to say how far it has come: one that is away holds up nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// A peer as it is.
pub(crate) struct Seen {
    /// The unit that its database belongs to.
    pub(crate) unit: String,
    pub(crate) log: Log,
    /// How far its own log has come.
    pub(crate) written: Option<Gtid>,
    pub(crate) incarnation: String,
    pub(crate) born: String,
    /// Whether a slot was ever open there.
    pub(crate) opened: bool,
    /// What it cannot hand on, of MySQL.
    pub(crate) passed_over: Option<mysql::passed::AtPeer>,
}

pub(crate) fn server(db: &MySqlFamily, peer: &Peer) -> Server {
    let access = Access {
        host: peer.host.clone(),
        port: peer.port,
        database: db.access.database.clone(),
        user: peer.user.clone(),
        password: peer.password.clone(),
        tls: db.access.tls.clone(),
    };
    Server::new(db.server.dialect, &access)
}

pub(crate) async fn look(db: &MySqlFamily, peer: &Peer) -> Result<Seen, Error> {
    let server = server(db, peer);
    let mut session = server.foreign().await?;
    let sql = format!(
        "SELECT s.unit, s.incarnation, s.born, s.opened, {} FROM multiactive.store s",
        session.dialect().logs
    );
    type Row = (String, String, String, bool, String, u32, String, String);
    let row: Row = session.row("looking at the peer", &sql, ()).await?;
    let (unit, incarnation, born, opened, own, number, owned, logged) = row;
    let logs = Logs::parse((own, number, owned, logged))?;
    let passed_over = match session.kind() {
        Kind::MariaDb => None,
        Kind::MySql => Some(mysql::passed::at_peer(&mut session).await?),
    };
    Ok(Seen {
        unit,
        log: logs.own,
        written: Gtid::of(&logs.all, logs.own),
        incarnation,
        born,
        opened,
        passed_over,
    })
}

/// How far all of its logs have come.
pub(crate) async fn written(session: &mut Session<'_>) -> Result<Vec<Gtid>, Error> {
    Ok(Logs::read(session).await?.all)
}

/// The slots that are open there.
pub(crate) async fn open(session: &mut Session<'_>) -> Result<SlotSet, Error> {
    let sql = "SELECT slot FROM multiactive.slot WHERE open ORDER BY slot";
    let open: Vec<Slot> = session.rows("looking at the peer's slots", sql, ()).await?;
    Ok(open.into_iter().collect())
}

/// Which of the peers have applied more of this member's log than there is of it: in words. A peer that does not answer
/// proves nothing.
pub(crate) async fn went_back(db: &MySqlFamily, peers: &[Peer]) -> Result<Vec<String>, Error> {
    let each = peers.iter().map(|peer| async move {
        match timeout(PATIENCE, progress_of(db, peer)).await {
            Ok(Ok(applied)) => Some((peer, applied)),
            Ok(Err(error)) => {
                tracing::info!(peer = %peer.unit, error = error.explain(), "a peer does not say how far it has come");
                None
            }
            Err(_) => None,
        }
    });
    let known: Vec<_> = join_all(each).await.into_iter().flatten().collect();
    // Read last: what the peers have was in the log before.
    let mut session = db.server.session().await?;
    let own = super::position::written(&mut session).await?;
    session.keep();
    let beyond = known.into_iter().filter_map(|(peer, applied)| {
        let at = Gtid::of(&applied, own.log).filter(|at| at.seq > own.seq && !applied::is_closed(at))?;
        Some(format!(
            "{} has applied this database's log up to {at}, but it ends at {own}",
            peer.unit
        ))
    });
    Ok(beyond.collect())
}

async fn progress_of(db: &MySqlFamily, peer: &Peer) -> Result<Vec<Gtid>, Error> {
    let server = server(db, peer);
    let mut session = server.foreign().await?;
    applied::read(&mut session).await
}
