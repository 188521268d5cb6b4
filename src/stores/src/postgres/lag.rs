//! Heartbeats: each unit writes its own row of the marker table with each renewal of its write lease, more often while somebody
//! asks for the lag, and reads the others'.
//!
//! The age is the difference of two servers' clocks, so it is as good as they agree; nothing that keeps rows safe
//! depends on it.

use super::Postgres;
use super::position::progress;
use crate::driver::Lag;
use crate::error::Error;
use std::time::Duration;

pub(super) async fn beat(pg: &Postgres) -> Result<(), Error> {
    let session = pg.server.session().await?;
    session
        .rows("writing the heartbeat", "SELECT multiactive.beat()", &[])
        .await?;
    session.keep();
    Ok(())
}

pub(super) async fn lag(pg: &Postgres) -> Result<Vec<Lag>, Error> {
    let session = pg.server.session().await?;
    let sql = "SELECT unit, extract(epoch FROM clock_timestamp() - at)::float8 FROM multiactive.marker";
    let beats = session.rows("reading heartbeats", sql, &[]).await?;
    let links = progress(pg, &session).await?;
    session.keep();
    let lag = pg.spec.peers.iter().map(|peer| {
        let beat = beats.iter().find(|row| row.get::<_, &str>(0) == peer.as_str());
        // A clock that is ahead of ours makes an age below zero: as far as we can tell, none.
        let heartbeat = beat.map(|row| Duration::try_from_secs_f64(row.get::<_, f64>(1).max(0.0)).unwrap_or_default());
        let position = links
            .iter()
            .find(|(from, _)| from == peer)
            .and_then(|(_, at)| at.clone());
        Lag {
            from: peer.clone(),
            heartbeat,
            position,
        }
    });
    Ok(lag.collect())
}
