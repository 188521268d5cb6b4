//! Waiting until this member has applied a position vector, and the record of it.
//!
//! It asks again every few milliseconds: PostgreSQL has nothing that wakes a session when a subscription's progress
//! passes a position, and each question reads shared memory only.

use super::connect::Session;
use super::inspect::numbers;
use super::position::progress;
use super::{Postgres, links, names};
use crate::driver::{LinkState, Waited};
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::StorePosition;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the links themselves are looked at, which costs more than their progress.
const LOOK_AT_LINKS: Duration = Duration::from_millis(250);

pub(super) async fn wait_for(
    pg: &Postgres,
    op: &OperationUid,
    epoch: Epoch,
    positions: &[StorePosition],
    timeout: Duration,
) -> Result<Waited, Error> {
    let wanted = wanted(&pg.spec.unit, positions)?;
    let started = Instant::now();
    // What is on its way arrives before the first look.
    let mut looked = started;
    let mut pause = Duration::from_millis(2);
    let session = pg.server.session().await?;
    loop {
        let behind = behind(&wanted, &progress(pg, &session).await?)?;
        let Some(first) = behind.first() else { break };
        if looked.elapsed() >= LOOK_AT_LINKS || started.elapsed() >= timeout {
            looked = Instant::now();
            if let Some(why) = broken(pg, &behind).await? {
                return Ok(Waited::LinkBroken(why));
            }
        }
        if started.elapsed() >= timeout {
            return Ok(Waited::TimedOut(first.1.clone()));
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(20));
    }
    // Progress says nothing of rows that never came: a link that was made again may have missed some.
    if let Some(why) = gaps(pg, &session, wanted.keys()).await? {
        return Ok(Waited::LinkBroken(why));
    }
    record(&session, op, epoch).await?;
    session.keep();
    Ok(Waited::Reached)
}

/// The furthest position of each unit but this one, as numbers.
fn wanted(own: &UnitName, positions: &[StorePosition]) -> Result<BTreeMap<UnitName, u64>, Error> {
    let mut wanted = BTreeMap::new();
    for at in positions
        .iter()
        .flat_map(|position| &position.vector)
        .filter(|at| at.unit != *own)
    {
        let number = lsn(&at.position)?;
        let furthest = wanted.entry(at.unit.clone()).or_insert(number);
        *furthest = number.max(*furthest);
    }
    Ok(wanted)
}

/// A position in the log as a number.
pub(super) fn lsn(text: &str) -> Result<u64, Error> {
    let malformed = || Error::Malformed {
        what: "position",
        value: text.to_owned(),
    };
    let (high, low) = text.split_once('/').ok_or_else(malformed)?;
    let half = |text| u32::from_str_radix(text, 16).map(u64::from).map_err(|_| malformed());
    Ok(half(high)? << 32 | half(low)?)
}

/// The units whose position is not reached, each with words for it.
fn behind(
    wanted: &BTreeMap<UnitName, u64>,
    links: &[(UnitName, Option<String>)],
) -> Result<Vec<(UnitName, String)>, Error> {
    let mut behind = Vec::new();
    for (unit, position) in wanted {
        let applied = links
            .iter()
            .find(|(from, _)| from == unit)
            .and_then(|(_, at)| at.as_deref());
        let number = applied.map(lsn).transpose()?;
        if number.is_none_or(|number| number < *position) {
            let applied = applied.unwrap_or("nothing");
            let words = format!(
                "{applied} of {unit} is applied, {:X}/{:X} is wanted",
                position >> 32,
                position & 0xffff_ffff
            );
            behind.push((unit.clone(), words));
        }
    }
    Ok(behind)
}

/// Why a unit's position will not be reached by waiting.
async fn broken(pg: &Postgres, behind: &[(UnitName, String)]) -> Result<Option<String>, Error> {
    let known = links::links(pg).await?;
    for (unit, words) in behind {
        let Some(link) = known.iter().find(|link| link.from == *unit) else {
            return Ok(Some(format!("there is no link from {unit}: {words}")));
        };
        if let LinkState::Broken(why) = &link.state {
            return Ok(Some(format!("link from {unit}: {why}")));
        }
        if let Some(gap) = &link.gap {
            return Ok(Some(format!("link from {unit}: {gap}")));
        }
    }
    Ok(None)
}

async fn gaps(
    pg: &Postgres,
    session: &Session<'_>,
    units: impl Iterator<Item = &UnitName>,
) -> Result<Option<String>, Error> {
    let units: Vec<_> = units.collect();
    let names: Vec<_> = units
        .iter()
        .map(|unit| names::link(&pg.spec, unit, &pg.spec.unit))
        .collect();
    let sql = "SELECT from_unit, gap FROM multiactive.link WHERE name = ANY ($1::text[]) AND gap IS NOT NULL LIMIT 1";
    let rows = session.rows("looking for gaps of links", sql, &[&names]).await?;
    let why = |row: &tokio_postgres::Row| format!("link from {}: {}", row.get::<_, &str>(0), row.get::<_, &str>(1));
    Ok(rows.first().map(why))
}

async fn record(session: &Session<'_>, op: &OperationUid, epoch: Epoch) -> Result<(), Error> {
    let (term, number) = numbers(epoch);
    let sql = "INSERT INTO multiactive.reached (op, term, epoch) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    session
        .change(
            "recording that the position is reached",
            sql,
            &[&op.as_str(), &term, &number],
        )
        .await?;
    let sql = "DELETE FROM multiactive.reached WHERE at < clock_timestamp() - interval '30 days'";
    session.change("forgetting old operations", sql, &[]).await?;
    Ok(())
}
