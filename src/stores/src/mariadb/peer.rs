//! What a peer's server says of itself, asked with the rights of the replication user.

use super::connect::{Server, Session};
use super::gtid::Gtid;
use super::{MariaDb, applied};
use crate::access::Access;
use crate::driver::Peer;
use crate::error::Error;
use futures::future::join_all;
use multiactive_core::slots::{Slot, SlotSet};
use std::time::Duration;
use tokio::time::timeout;

/// How long a peer may take to say how far it has come: one that is away holds up nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// A peer as it is.
pub(super) struct Seen {
    /// The unit that its database belongs to.
    pub(super) unit: String,
    pub(super) domain: u32,
    /// How far its own log has come.
    pub(super) written: Option<Gtid>,
    pub(super) incarnation: String,
    pub(super) born: String,
    /// Whether a slot was ever open there.
    pub(super) opened: bool,
}

pub(super) fn server(db: &MariaDb, peer: &Peer) -> Server {
    Server::new(&Access {
        host: peer.host.clone(),
        port: peer.port,
        database: db.access.database.clone(),
        user: peer.user.clone(),
        password: peer.password.clone(),
        tls: db.access.tls.clone(),
    })
}

pub(super) async fn look(db: &MariaDb, peer: &Peer) -> Result<Seen, Error> {
    let server = server(db, peer);
    let mut session = server.foreign().await?;
    let sql = "SELECT s.unit, @@global.gtid_domain_id, @@global.gtid_binlog_pos, s.incarnation, s.born, s.opened
               FROM multiactive.store s";
    let row = session.row("looking at the peer", sql, ()).await?;
    let (unit, domain, log, incarnation, born, opened): (String, u32, String, String, String, bool) = row;
    Ok(Seen {
        unit,
        domain,
        written: Gtid::of(&Gtid::list(&log)?, domain),
        incarnation,
        born,
        opened,
    })
}

/// How far all of its log has come, in every domain.
pub(super) async fn written(session: &mut Session<'_>) -> Result<Vec<Gtid>, Error> {
    let sql = "SELECT @@global.gtid_binlog_pos";
    let log: String = session.row("reading the peer's position", sql, ()).await?;
    Gtid::list(&log)
}

/// The slots that are open there.
pub(super) async fn open(session: &mut Session<'_>) -> Result<SlotSet, Error> {
    let sql = "SELECT slot FROM multiactive.slot WHERE open ORDER BY slot";
    let open: Vec<Slot> = session.rows("looking at the peer's slots", sql, ()).await?;
    Ok(open.into_iter().collect())
}

/// Which of the peers have applied more of this member's log than there is of it: in words. A peer that does not answer
/// proves nothing.
pub(super) async fn went_back(db: &MariaDb, peers: &[Peer]) -> Result<Vec<String>, Error> {
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
        let at = Gtid::of(&applied, own.domain).filter(|at| at.seq > own.seq && !applied::is_closed(at))?;
        Some(format!(
            "{} has applied this database's log up to {at}, but it ends at {own}",
            peer.unit
        ))
    });
    Ok(beyond.collect())
}

async fn progress_of(db: &MariaDb, peer: &Peer) -> Result<Vec<Gtid>, Error> {
    let server = server(db, peer);
    let mut session = server.foreign().await?;
    applied::read(&mut session).await
}
