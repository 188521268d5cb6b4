//! Cutting a lost unit off: nothing more is taken from it, durably, until it is joined again; `cut.sql` has the tables.
//!
//! There is no relay log: what was received was applied, and the rest is at the lost unit, where the slot keeps it.

use super::connect::Session;
use super::inspect::{epoch as pair, numbers};
use super::progress::progress;
use super::{Postgres, grants, links, names};
use crate::driver::{CutAt, Link, LinkState};
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::UnitPosition;
use std::collections::BTreeMap;
use tokio_postgres::types::ToSql;

const LOCK: &str = "BEGIN; SELECT pg_advisory_xact_lock(27969, 1002)";

/// Notes the cut, unless a newer call was here, or an uncut of the same epoch. What was applied and repaired stays as long as
/// nothing was taken since.
const NOTE: &str = "
    INSERT INTO multiactive.cut AS c (from_unit, op, term, epoch, stands) VALUES ($1, $2, $3, $4, true)
    ON CONFLICT (from_unit) DO UPDATE
    SET op = $2, term = $3, epoch = $4, stands = true,
        applied = CASE WHEN c.stands THEN c.applied END, repaired = CASE WHEN c.stands THEN c.repaired END
    WHERE (c.term, c.epoch) < ($3, $4) OR ((c.term, c.epoch, c.op) = ($3, $4, $2) AND c.stands)";

/// How far the link $1 from unit $2 has come, whether it still exists or not; nothing comes by it any more.
const APPLIED: &str = "
    UPDATE multiactive.cut c SET applied = greatest(c.applied,
        (SELECT pg_replication_origin_progress('pg_' || s.oid, true) FROM pg_subscription s
         WHERE s.subname = $1::text::name
           AND s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())),
        (SELECT a.progress::pg_lsn FROM multiactive.applied a WHERE a.name = $1))
    WHERE c.from_unit = $2 AND c.stands
    RETURNING nullif(greatest(c.applied, c.repaired), '0/0')::text,
              (SELECT l.born FROM multiactive.link l WHERE l.name = $1)";

pub(super) async fn cut(pg: &Postgres, from: &UnitName, op: &OperationUid, epoch: Epoch) -> Result<CutAt, Error> {
    let session = pg.server.session().await?;
    grants::raise(&session, epoch, false).await?;
    let (term, number) = numbers(epoch);
    session.batch("cutting a unit off", LOCK).await?;
    let noted = session
        .change(
            "cutting a unit off",
            NOTE,
            &[&from.as_str(), &op.as_str(), &term, &number],
        )
        .await?;
    if noted == 0 {
        return Err(overtaken(&session, from, epoch).await);
    }
    // In the same transaction: whoever sees the cut sees that it is disabled, or that somebody has enabled it since, whenever this
    // program dies.
    let name = names::link(&pg.spec, from, &pg.spec.unit);
    let exists = links::exists(&session, &name).await?;
    if exists {
        links::disable(&session, &name).await?;
    }
    session.batch("cutting a unit off", "COMMIT").await?;
    // From here on nobody enables it; what runs has to end.
    if exists {
        links::until_still(&session, &name).await?;
    }
    let row = session
        .row(
            "noting how far a unit's log is applied",
            APPLIED,
            &[&name, &from.as_str()],
        )
        .await?;
    session.keep();
    pg.watch.forget(&name);
    tracing::warn!(at = %pg.server.at, %from, %op, %epoch, "cut off: nothing is taken from it");
    let (position, born): (Option<String>, Option<String>) = (row.get(0), row.get(1));
    let number = position.as_deref().unwrap_or("0/0");
    let progress = progress(from, born.as_deref(), number).ok_or_else(|| Error::Malformed {
        what: "position",
        value: number.to_owned(),
    })?;
    Ok(CutAt {
        from: from.clone(),
        position,
        progress,
    })
}

pub(super) async fn uncut(pg: &Postgres, from: &UnitName, epoch: Epoch, compared: bool) -> Result<(), Error> {
    let session = pg.server.session().await?;
    grants::raise(&session, epoch, false).await?;
    let (term, number) = numbers(epoch);
    let name = names::link(&pg.spec, from, &pg.spec.unit);
    if !standing(&session).await?.contains_key(from) {
        // Never cut, or mended before.
        session.keep();
        return Ok(());
    }
    // In this order: from the first on, whoever makes the link begins anew; from the last on, he may.
    let refused = "SELECT FROM multiactive.cut WHERE from_unit = $1 AND stands AND (term, epoch) <= ($2, $3)";
    let params: [&(dyn ToSql + Sync); 3] = [&from.as_str(), &term, &number];
    if session.rows("looking at a cut", refused, &params).await?.is_empty() {
        return Err(overtaken(&session, from, epoch).await);
    }
    let sql = "INSERT INTO multiactive.link AS l (name, from_unit, anew) VALUES ($1, $2, $3)
               ON CONFLICT (name) DO UPDATE SET anew = $3";
    session
        .change("ending a cut", sql, &[&name, &from.as_str(), &compared])
        .await?;
    if links::exists(&session, &name).await? {
        links::remove(&session, &name).await?;
    }
    let sql = "UPDATE multiactive.cut SET stands = false, term = $2, epoch = $3
               WHERE from_unit = $1 AND stands AND (term, epoch) <= ($2, $3)";
    if session.change("ending a cut", sql, &params).await? == 0 {
        return Err(overtaken(&session, from, epoch).await);
    }
    session.keep();
    Ok(())
}

pub(super) async fn repaired(pg: &Postgres, epoch: Epoch, upto: &UnitPosition) -> Result<(), Error> {
    let session = pg.server.session().await?;
    let (term, number) = numbers(epoch);
    super::wait::lsn(&upto.position)?;
    let sql = "UPDATE multiactive.cut SET repaired = greatest(repaired, $2::text::pg_lsn)
               WHERE from_unit = $1 AND stands AND (term, epoch) <= ($3, $4)";
    let unit = upto.unit.as_str();
    let noted = session
        .change("noting a repair", sql, &[&unit, &upto.position, &term, &number])
        .await?;
    if noted == 0 {
        return Err(overtaken(&session, &upto.unit, epoch).await);
    }
    session.keep();
    Ok(())
}

pub(super) async fn rejoin(pg: &Postgres, op: &OperationUid) -> Result<(), Error> {
    let session = pg.server.session().await?;
    let sql = "INSERT INTO multiactive.rejoined (op) VALUES ($1) ON CONFLICT DO NOTHING";
    session.change("accepting what differs", sql, &[&op.as_str()]).await?;
    session.keep();
    Ok(())
}

/// Why a cut was not changed.
async fn overtaken(session: &Session<'_>, from: &UnitName, asked: Epoch) -> Error {
    let sql = "SELECT term, epoch, stands FROM multiactive.cut WHERE from_unit = $1";
    match session.rows("looking at a cut", sql, &[&from.as_str()]).await {
        Ok(rows) => match rows.first() {
            Some(row) if row.get::<_, bool>(2) || pair(row.get(0), row.get(1)) >= asked => Error::Overtaken {
                held: pair(row.get(0), row.get(1)),
                asked,
            },
            Some(_) | None => Error::NotCut { from: from.clone() },
        },
        Err(error) => error,
    }
}

/// The cuts that stand, each with words for it.
pub(super) async fn standing(session: &Session<'_>) -> Result<BTreeMap<UnitName, String>, Error> {
    let sql = "SELECT from_unit, format('operation %s took slots over while %s was lost, at %s.%s: nothing is taken from it '
                                        'before it joins again; %s of its log is applied here', op, from_unit, term, epoch,
                                        coalesce(greatest(applied, repaired)::text, 'nothing'))
               FROM multiactive.cut WHERE stands";
    let rows = session.rows("looking for cuts", sql, &[]).await?;
    Ok(rows.iter().map(|row| (UnitName(row.get(0)), row.get(1))).collect())
}

/// A link that is cut says so, whatever else it is. One that waits for another unit's writes lacks them where that one is cut;
/// else they come.
pub(super) fn told(mut link: Link, cuts: &BTreeMap<UnitName, String>) -> Link {
    if let Some(words) = cuts.get(&link.from) {
        link.state = LinkState::Cut(words.clone());
    } else if let LinkState::Lacks { of, upto } = &link.state
        && !cuts.contains_key(of)
    {
        link.state = LinkState::Starting(format!(
            "slots moved there while this member was away: it waits for the writes of {of} up to {upto}, which {of}'s link \
             has not brought yet"
        ));
    }
    link
}

/// Sees to it that a link that is cut stands still: somebody may have enabled it by hand. Then rows of the lost unit may
/// have come, which is its gap.
pub(super) async fn hold(pg: &Postgres, session: &Session<'_>, from: &UnitName, name: &str) -> Result<(), Error> {
    links::stop(session, name).await?;
    session
        .row(
            "noting how far a unit's log is applied",
            APPLIED,
            &[&name, &from.as_str()],
        )
        .await?;
    let why = format!(
        "it was cut, and somebody enabled it all the same: rows that {from} wrote while it was lost may have come over those \
         of the new owner; compare the rows and repair"
    );
    let sql = "SELECT multiactive.add_gap($1, $2)";
    session.rows("noting a gap", sql, &[&from.as_str(), &why]).await?;
    tracing::error!(at = %pg.server.at, %from, "a link that is cut was enabled by hand: disabled again");
    Ok(())
}
