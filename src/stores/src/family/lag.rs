//! Heartbeats: each unit adds rows while somebody asks for the lag, and reads the others'. `Seconds_Behind_Master` stays 0
//! while a source is frozen.
//!
//! The age is the difference of two servers' clocks, so it is as good as they agree; nothing that keeps rows safe depends on
//! it.

use super::MySqlFamily;
use super::position::applied;
use crate::driver::Lag;
use crate::error::Error;
use std::time::Duration;

pub(crate) async fn beat(db: &MySqlFamily) -> Result<(), Error> {
    let mut session = db.server.logged().await?;
    // On a clock that was set back it is the newest one all the same.
    let sql = "INSERT IGNORE INTO multiactive.beat (unit, at)
               SELECT ?, GREATEST(multiactive.clock(), 1 + IFNULL(MAX(b.at), 0)) FROM multiactive.beat b WHERE b.unit = ?";
    let unit = db.spec.unit.as_str();
    session.change("writing the heartbeat", sql, (unit, unit)).await?;
    session.keep();
    let mut session = db.server.session().await?;
    // Never one that came since the newest was looked for.
    let sql = "DELETE FROM multiactive.beat WHERE at < (
                   SELECT n.newest FROM (SELECT unit AS whose, MAX(at) AS newest FROM multiactive.beat GROUP BY unit) n WHERE n.whose = unit)";
    session.change("forgetting old heartbeats", sql, ()).await?;
    session.keep();
    Ok(())
}

pub(crate) async fn lag(db: &MySqlFamily) -> Result<Vec<Lag>, Error> {
    let mut session = db.server.session().await?;
    let sql = "SELECT unit, multiactive.clock() - MAX(at) FROM multiactive.beat GROUP BY unit";
    let beats: Vec<(String, i64)> = session.rows("reading heartbeats", sql, ()).await?;
    let links = applied(&mut session).await?;
    session.keep();
    let lag = db.spec.peers.iter().map(|peer| {
        let beat = beats.iter().find(|(unit, _)| unit == peer.as_str());
        let position = links.iter().find(|(from, _)| from == peer).and_then(|(_, at)| *at);
        Lag {
            from: peer.clone(),
            // A clock that is ahead of ours makes an age below zero: as far as we can tell, none.
            heartbeat: beat.map(|(_, age)| Duration::from_micros(u64::try_from(*age).unwrap_or_default())),
            position: position.map(|at| at.to_string()),
        }
    });
    Ok(lag.collect())
}
