//! Waiting until this member has applied a position vector, and the record of it.
//!
//! It asks again every few milliseconds: PostgreSQL has nothing that wakes a session when a subscription's progress
//! passes a position, and each question reads shared memory only.

use super::connect::Session;
use super::inspect::numbers;
use super::position::progress;
use super::{Postgres, links, names};
use crate::driver::Waited;
use crate::error::Error;
use crate::waiting::{self, ASK_AGAIN, LOOK_AT_LINKS, Trouble, not_come};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{StorePosition, UnitPosition};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;

/// The positions that fences for an operation wrote: $1 the operation, $2 and $3 the epoch, $4 the units.
const FENCES: &str = "SELECT unit, units, positions FROM multiactive.fenced
                      WHERE op = $1 AND (term, epoch) = ($2, $3) AND unit = ANY ($4::text[])";

/// The first of the units $2 whose fence for operation $1, at whatever epoch, has not come.
const NOT_COME: &str = "SELECT min(u) FROM unnest($2::text[]) u
                        WHERE NOT EXISTS (SELECT FROM multiactive.fenced f WHERE f.op = $1 AND f.unit = u)";

/// Those of the units $2 that are cut here by operation $1, or at ($3, $4) or later: they write no fence any more.
const LOST: &str = "SELECT from_unit FROM multiactive.cut
                    WHERE from_unit = ANY ($2::text[]) AND stands AND (op = $1 OR (term, epoch) >= ($3, $4))
                    ORDER BY from_unit";

pub(super) async fn follow(
    pg: &Postgres,
    op: &OperationUid,
    epoch: Epoch,
    sources: &[UnitName],
    takes_over: bool,
    timeout: Duration,
) -> Result<Waited, Error> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    let ((term, number), units) = (numbers(epoch), names_of(sources));
    let session = pg.server.session().await?;
    let fences = loop {
        let fences = session
            .rows("looking for fences", FENCES, &[&op.as_str(), &term, &number, &units])
            .await?;
        if fences.len() == units.len() {
            break fences;
        }
        if started.elapsed() >= timeout {
            let come = |unit: &&&str| !fences.iter().any(|fence| fence.get::<_, &str>(0) == **unit);
            let first = units.iter().find(come).copied().unwrap_or_default();
            return Ok(Waited::TimedOut(not_come(first)));
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(ASK_AGAIN);
    };
    session.keep();
    let position = |row: &Row| {
        let entries = row
            .get::<_, Vec<String>>(1)
            .into_iter()
            .zip(row.get::<_, Vec<String>>(2));
        StorePosition {
            store: pg.spec.store.clone(),
            source: UnitName(row.get(0)),
            vector: entries
                .map(|(unit, position)| UnitPosition {
                    unit: UnitName(unit),
                    position,
                })
                .collect(),
        }
    };
    let positions: Vec<_> = fences.iter().map(position).collect();
    let left = timeout.saturating_sub(started.elapsed());
    wait_for(pg, op, epoch, &positions, takes_over, left).await
}

fn names_of(units: &[UnitName]) -> Vec<&str> {
    units.iter().map(UnitName::as_str).collect()
}

pub(super) async fn wait_for(
    pg: &Postgres,
    op: &OperationUid,
    epoch: Epoch,
    positions: &[StorePosition],
    takes_over: bool,
    timeout: Duration,
) -> Result<Waited, Error> {
    let wanted = waiting::wanted(&pg.spec.unit, positions, lsn, |at| *at)?;
    let (term, number) = numbers(epoch);
    let mut sources: Vec<_> = positions.iter().map(|position| position.source.as_str()).collect();
    let mut why = String::new();
    let started = Instant::now();
    // What is on its way arrives before the first look.
    let mut looked = started;
    let mut pause = Duration::from_millis(2);
    let session = pg.server.session().await?;
    let lost: Vec<String> = session
        .rows("looking for cuts", LOST, &[&op.as_str(), &sources, &term, &number])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    sources.retain(|source| !lost.iter().any(|lost| lost == source));
    loop {
        let behind = behind(&wanted, &progress(pg, &session).await?)?;
        let not_yet = match behind.first() {
            Some((_, words)) => words.clone(),
            // A position alone is a number: what the fence wrote behind it says that it is this log's.
            None => {
                let row = session
                    .row("looking for fences", NOT_COME, &[&op.as_str(), &sources])
                    .await?;
                let Some(unit) = row.get::<_, Option<&str>>(0) else {
                    break;
                };
                not_come(unit)
            }
        };
        if looked.elapsed() >= LOOK_AT_LINKS || started.elapsed() >= timeout {
            looked = Instant::now();
            match trouble(pg, &behind).await? {
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
    if let Some(why) = gaps(pg, &session, wanted.keys(), takes_over).await? {
        return Ok(Waited::LinkBroken(why));
    }
    record(&session, op, epoch, &wanted, &lost).await?;
    session.keep();
    Ok(Waited::Reached)
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

/// A position as the server writes it.
fn words(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff)
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
            let words = format!("{applied} of {unit} is applied, {} is wanted", words(*position));
            behind.push((unit.clone(), words));
        }
    }
    Ok(behind)
}

/// What is wrong with the links that are behind: what is broken first.
async fn trouble(pg: &Postgres, behind: &[(UnitName, String)]) -> Result<Option<Trouble>, Error> {
    let known = links::links(pg).await?;
    let mut starting = None;
    for (unit, words) in behind {
        match Trouble::of(&known, unit, words) {
            None => {}
            Some(Trouble::Starting(why)) => {
                starting.get_or_insert(Trouble::Starting(why));
            }
            Some(Trouble::Gap(why) | Trouble::Broken(why)) => return Ok(Some(Trouble::Broken(why))),
        }
    }
    Ok(starting)
}

/// Rows that will never come by a link from one of `units`; for who takes over, also those that would never reach a
/// peer: what is written before its slot exists it does not get, and where it is away nobody else would notice.
async fn gaps(
    pg: &Postgres,
    session: &Session<'_>,
    units: impl Iterator<Item = &UnitName>,
    takes_over: bool,
) -> Result<Option<String>, Error> {
    let own = &pg.spec.unit;
    let inward: Vec<_> = units.map(|unit| names::link(&pg.spec, unit, own)).collect();
    let peers = pg.spec.peers.iter().filter(|_| takes_over);
    let (readers, slots): (Vec<_>, Vec<_>) = peers
        .map(|peer| (peer.as_str(), names::link(&pg.spec, own, peer)))
        .unzip();
    let sql = "SELECT format('link from %s: %s', from_unit, gap) FROM multiactive.link
               WHERE name = ANY ($1::text[]) AND gap IS NOT NULL
               UNION ALL
               SELECT format('there is no slot for the link to %s, which would never get what is written here: let its '
                             'agent make the link, or take it out of the store''s members', p.unit)
               FROM unnest($2::text[], $3::text[]) AS p(unit, slot)
               WHERE NOT EXISTS (SELECT FROM pg_replication_slots s
                                 WHERE s.slot_name = p.slot::name AND s.database = current_database())
               LIMIT 1";
    let rows = session
        .rows("looking for gaps of links", sql, &[&inward, &readers, &slots])
        .await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// Whoever takes over a lost unit's tail holds the cut until its end, and does not begin once this is recorded: what has come before
/// that counts, for the others have to have it, too, before they take what is written here. Begins a transaction, which keeps the
/// cuts as they are.
async fn with_tails(
    session: &Session<'_>,
    reached: &mut BTreeMap<UnitName, u64>,
    lost: &[String],
) -> Result<(), Error> {
    session.batch("recording that the position is reached", "BEGIN").await?;
    let sql = "SELECT from_unit, coalesce(greatest(applied, repaired), '0/0')::text FROM multiactive.cut
               WHERE from_unit = ANY ($1::text[]) AND stands ORDER BY from_unit FOR SHARE";
    for row in session.rows("looking at cuts", sql, &[&lost]).await? {
        let at = reached.entry(UnitName(row.get(0))).or_default();
        *at = lsn(row.get(1))?.max(*at);
    }
    Ok(())
}

async fn record(
    session: &Session<'_>,
    op: &OperationUid,
    epoch: Epoch,
    reached: &BTreeMap<UnitName, u64>,
    lost: &[String],
) -> Result<(), Error> {
    let (term, number) = numbers(epoch);
    let mut reached = reached.clone();
    if !lost.is_empty() {
        with_tails(session, &mut reached, lost).await?;
    }
    let (units, positions): (Vec<_>, Vec<_>) = reached.iter().map(|(unit, at)| (unit.as_str(), words(*at))).unzip();
    let sql =
        "INSERT INTO multiactive.reached (op, term, epoch, units, positions, lost) VALUES ($1, $2, $3, $4, $5, $6)
               ON CONFLICT (op, term, epoch) DO UPDATE
               SET units = excluded.units, positions = excluded.positions, lost = excluded.lost";
    session
        .change(
            "recording that the position is reached",
            sql,
            &[&op.as_str(), &term, &number, &units, &positions, &lost],
        )
        .await?;
    if !lost.is_empty() {
        let commit = "COMMIT";
        session.batch("recording that the position is reached", commit).await?;
    }
    // Of openings receivers have no row to delete: what is replicated of this changes nothing there.
    let sql = "WITH openings AS (DELETE FROM multiactive.opening WHERE at < clock_timestamp() - interval '30 days'),
                    losses AS (DELETE FROM multiactive.lost WHERE at < clock_timestamp() - interval '30 days')
               DELETE FROM multiactive.reached WHERE at < clock_timestamp() - interval '30 days'";
    session.change("forgetting old operations", sql, &[]).await?;
    Ok(())
}
