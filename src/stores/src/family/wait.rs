//! Waiting until this member has applied a position vector, and the record of it. It asks again every few milliseconds.

use super::connect::Session;
use super::gtid::Gtid;
use super::position::parse;
use super::{MySqlFamily, cut, links};
use crate::driver::{LinkState, Waited};
use crate::error::Error;
use crate::waiting::{self, ASK_AGAIN, LOOK_AT_LINKS, Trouble, not_come};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::StorePosition;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// For how long others that run are given time to pass on what a broken link does not bring.
const PASSED_ON: Duration = Duration::from_secs(2);

pub(crate) async fn follow(
    db: &MySqlFamily,
    op: &OperationUid,
    epoch: Epoch,
    sources: &[UnitName],
    timeout: Duration,
) -> Result<Waited, Error> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    let mut session = db.server.session().await?;
    let mut positions = Vec::new();
    for unit in sources {
        let sql = "SELECT vector FROM multiactive.fenced WHERE op = ? AND unit = ? AND term = ? AND epoch = ?";
        let params = (op.as_str(), unit.as_str(), epoch.term, epoch.epoch);
        let text = loop {
            let rows: Vec<String> = session.rows("looking for fences", sql, params).await?;
            if let Some(text) = rows.into_iter().next() {
                break text;
            }
            if started.elapsed() >= timeout {
                session.keep();
                return Ok(Waited::TimedOut(not_come(unit.as_str())));
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(ASK_AGAIN);
        };
        positions.push(StorePosition {
            store: db.spec.store.clone(),
            source: unit.clone(),
            vector: parse(&text)?,
        });
    }
    session.keep();
    let left = timeout.saturating_sub(started.elapsed());
    wait_for(db, op, epoch, &positions, left).await
}

pub(crate) async fn wait_for(
    db: &MySqlFamily,
    op: &OperationUid,
    epoch: Epoch,
    positions: &[StorePosition],
    timeout: Duration,
) -> Result<Waited, Error> {
    let wanted = waiting::wanted(&db.spec.unit, positions, Gtid::parse, |at| at.seq)?;
    let mut session = db.server.session().await?;
    let mut sources: Vec<_> = positions.iter().map(|position| &position.source).collect();
    let lost = cut::lost(&mut session, op, epoch, &sources).await?;
    sources.retain(|source| !lost.contains(source));
    let started = Instant::now();
    // What is on its way arrives before the first look.
    let mut looked = started;
    let mut why = String::new();
    let mut pause = Duration::from_millis(2);
    loop {
        let behind = behind(&wanted, &cut::reached(&mut session).await?);
        let not_yet = match behind.first() {
            Some((.., words)) => words.clone(),
            // A position alone is a number: what the fence wrote behind it says that it is this log's.
            None => match first_missing(&mut session, op, &sources).await? {
                Some(unit) => not_come(unit.as_str()),
                None => break,
            },
        };
        if looked.elapsed() >= LOOK_AT_LINKS || started.elapsed() >= timeout {
            looked = Instant::now();
            match trouble(db, &behind).await? {
                Some(Trouble::Gap(why) | Trouble::Broken(why)) => return Ok(Waited::LinkBroken(why)),
                Some(Trouble::Starting(more)) => why = format!("; {more}"),
                None => why.clear(),
            }
        }
        if started.elapsed() >= timeout {
            return Ok(Waited::TimedOut(format!("{not_yet}{why}")));
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(ASK_AGAIN);
    }
    // Progress says nothing of rows that never came: a link that was made again may have missed some.
    if let Some(why) = gap(db, &wanted).await? {
        return Ok(Waited::LinkBroken(why));
    }
    record(&mut session, op, epoch, &wanted, &lost).await?;
    session.keep();
    Ok(Waited::Reached)
}

/// The units whose position is not reached, each with words for it. What is applied of another log does not count: it is
/// not the one.
fn behind(wanted: &BTreeMap<UnitName, Gtid>, reached: &[Gtid]) -> Vec<(UnitName, Gtid, String)> {
    let mut behind = Vec::new();
    for (unit, wanted) in wanted.iter().filter(|(_, wanted)| wanted.seq > 0) {
        let applied = Gtid::of(reached, wanted.log);
        if applied.is_none_or(|at| at.seq < wanted.seq) {
            let applied = applied.map_or("nothing".to_owned(), |at| at.to_string());
            behind.push((
                unit.clone(),
                *wanted,
                format!("{applied} of {unit} is applied, {wanted} is wanted"),
            ));
        }
    }
    behind
}

/// The first of the units whose fence for the operation, at whatever epoch, has not come.
async fn first_missing<'a>(
    session: &mut Session<'_>,
    op: &OperationUid,
    sources: &[&'a UnitName],
) -> Result<Option<&'a UnitName>, Error> {
    let sql = "SELECT unit FROM multiactive.fenced WHERE op = ?";
    let come: Vec<String> = session.rows("looking for fences", sql, (op.as_str(),)).await?;
    Ok(sources.iter().copied().find(|unit| !come.contains(&unit.0)))
}

/// What is wrong with the links that are behind: what is broken first. While another link runs, it may bring the rows: each
/// member passes on what it has applied. Where it has not within a moment, it has not got them either, and may never.
async fn trouble(db: &MySqlFamily, behind: &[(UnitName, Gtid, String)]) -> Result<Option<Trouble>, Error> {
    let known = links::links(db).await?;
    let mut starting = None;
    for (unit, wanted, words) in behind {
        let (why, relayed) = match Trouble::of(&known, unit, words) {
            None => continue,
            Some(Trouble::Gap(why)) => return Ok(Some(Trouble::Gap(why))),
            Some(Trouble::Starting(why)) => (why, true),
            Some(Trouble::Broken(why)) => {
                let mut others = known.iter().filter(|link| link.from != *unit);
                let runs = others.any(|link| link.state == LinkState::Running);
                let passes_on = runs && db.watch.missed(unit, *wanted) < PASSED_ON;
                let more = match (runs, passes_on) {
                    (true, true) => "; another member may pass it on",
                    (true, false) => "; no other member passes it on",
                    (false, _) => "",
                };
                (format!("{why}{more}"), passes_on)
            }
        };
        if !relayed {
            return Ok(Some(Trouble::Broken(why)));
        }
        starting.get_or_insert(Trouble::Starting(why));
    }
    Ok(starting)
}

/// Rows that will never come by a link from one of the units.
async fn gap(db: &MySqlFamily, wanted: &BTreeMap<UnitName, Gtid>) -> Result<Option<String>, Error> {
    let links = links::links(db).await?;
    let gap = links
        .iter()
        .filter(|link| wanted.contains_key(&link.from))
        .find_map(|link| {
            let gap = link.gap.as_ref()?;
            Some(format!("link from {}: {gap}", link.from))
        });
    Ok(gap)
}

async fn record(
    session: &mut Session<'_>,
    op: &OperationUid,
    epoch: Epoch,
    wanted: &BTreeMap<UnitName, Gtid>,
    lost: &[UnitName],
) -> Result<(), Error> {
    let vector: Vec<_> = wanted.iter().map(|(unit, at)| (&unit.0, at.to_string())).collect();
    let vector = serde_json::json!(vector).to_string();
    let lost = serde_json::json!(lost.iter().map(UnitName::as_str).collect::<Vec<_>>()).to_string();
    let sql = "REPLACE INTO multiactive.reached (op, term, epoch, lost, vector, at) VALUES (?, ?, ?, ?, ?, SYSDATE(6))";
    let params = (op.as_str(), epoch.term, epoch.epoch, lost, vector);
    session
        .change("recording that the position is reached", sql, params)
        .await?;
    for table in ["reached", "opening", "brought"] {
        let sql = format!("DELETE FROM multiactive.{table} WHERE at < SYSDATE(6) - INTERVAL 30 DAY");
        session.change("forgetting old operations", &sql, ()).await?;
    }
    Ok(())
}
