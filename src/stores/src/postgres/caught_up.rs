//! Whether this member shows all that was committed at a place in another one's log.
//!
//! A link's progress reaches the end of a transaction while that is still being committed, which takes as long as a disk: nobody
//! sees its rows yet. But what came before it is seen, for one follows the other. So progress must have passed the place, by
//! whatever was written behind it: a heartbeat, where nobody writes.

use super::connect::{Server, Session};
use super::progress::{own, progress};
use super::{Postgres, names, peer};
use crate::driver::Peer;
use crate::error::Error;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::Progress;
use multiactive_core::wire::Caught;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Whether this unit may write at all.
const WRITES: &str = "SELECT multiactive.writes()";

/// The longest pause between two looks: somebody waits for the answer.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// From which pause on a heartbeat is asked for: so long it is waited whether somebody writes behind the place anyway.
const ASK_AFTER: Duration = Duration::from_millis(4);

/// How far the link $1 has come, of which history of its peer, unless rows may be missing by it. That it is on the disk too is not
/// asked for.
const REACHED: &str = "
    SELECT l.born, pg_replication_origin_progress('pg_' || s.oid, false)::text
    FROM multiactive.link l JOIN pg_subscription s ON s.subname = l.name::name
         AND s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    WHERE l.name = $1 AND l.gap IS NULL
      AND NOT EXISTS (SELECT FROM multiactive.cut c WHERE c.from_unit = l.from_unit AND c.stands)";

pub(super) async fn caught_up(
    pg: &Postgres,
    from: &UnitName,
    peer: Option<&Peer>,
    place: Option<&Progress>,
    limit: Duration,
) -> Result<Caught, Error> {
    if *from == pg.spec.unit {
        return here(pg, place).await;
    }
    let until = Instant::now() + limit;
    let session = pg.server.session().await?;
    let mut asked = place.is_none();
    let place = match (place, peer) {
        (Some(place), _) => place.clone(),
        (None, Some(peer)) => match beat(pg, peer, limit).await? {
            Beaten { place, writes: true } => place,
            Beaten { writes: false, .. } => return Ok(Caught::No),
        },
        (None, None) => return Ok(Caught::No),
    };
    let name = names::link(&pg.spec, from, &pg.spec.unit);
    let mut pause = Duration::from_millis(2);
    let caught = loop {
        match reached(&session, &name, from).await? {
            Some(reached) if reached.log == place.log && reached.at > place.at => break Caught::Yes,
            Some(reached) if reached.log == place.log && Instant::now() < until => {}
            Some(reached) if reached.log == place.log => break Caught::Late,
            // There is no link, rows may be missing by it, or it comes from another history than the place.
            Some(_) | None => break Caught::No,
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LOOK_AGAIN);
        if let Some(peer) = peer.filter(|_| !asked && pause > ASK_AFTER) {
            asked = true;
            beat(pg, peer, limit).await?;
        }
    };
    session.keep();
    Ok(caught)
}

/// What was written here is seen here; what there is beyond that, only whoever may write can say.
async fn here(pg: &Postgres, place: Option<&Progress>) -> Result<Caught, Error> {
    let yes = match place {
        Some(place) => own(pg).await?.covers(place) == Some(true),
        None => {
            let session = pg.server.session().await?;
            let row = session.row("asking whether this unit may write", WRITES, &[]).await?;
            session.keep();
            row.get(0)
        }
    };
    Ok(if yes { Caught::Yes } else { Caught::No })
}

async fn reached(session: &Session<'_>, name: &str, from: &UnitName) -> Result<Option<Progress>, Error> {
    let rows = session
        .rows("looking how far a link has come", REACHED, &[&name])
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (born, position): (Option<String>, Option<String>) = (row.get(0), row.get(1));
    let position = position.unwrap_or_else(|| "0/0".to_owned());
    Ok(progress(from, born.as_deref(), &position))
}

/// How far a peer's log had come before its heartbeat.
struct Beaten {
    place: Progress,
    /// Whether it may write: else another unit may have written more.
    writes: bool,
}

async fn beat(pg: &Postgres, peer: &Peer, limit: Duration) -> Result<Beaten, Error> {
    let server = pg.beats.of(pg, peer);
    let mut session = server.session().await?;
    session.limit(limit);
    let sql = "SELECT born, place, writes FROM multiactive.beat()";
    let row = session.row("asking the peer for a heartbeat", sql, &[]).await?;
    let (born, position): (String, String) = (row.get(0), row.get(1));
    let place = progress(&peer.unit, Some(&born), &position).ok_or(Error::Malformed {
        what: "position",
        value: position,
    })?;
    let writes = row.get(2);
    session.keep();
    Ok(Beaten { place, writes })
}

/// The peers' servers as they are asked for heartbeats: a login for each question would be most of its cost.
#[derive(Default)]
pub(super) struct Beats(Mutex<BTreeMap<UnitName, (Peer, Arc<Server>)>>);

impl Beats {
    fn of(&self, pg: &Postgres, peer: &Peer) -> Arc<Server> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&peer.unit) {
            Some((at, server)) if at == peer => Arc::clone(server),
            Some(_) | None => {
                let server = Arc::new(peer::server(pg, peer));
                known.insert(peer.unit.clone(), (peer.clone(), Arc::clone(&server)));
                server
            }
        }
    }
}
