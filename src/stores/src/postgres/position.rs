//! Positions: how far this member's log has come and what it has applied of the others; and the fence of an operation,
//! which is a fence and then a position.
//!
//! Why the position is right: it is read after the fence has been committed, so every write that the fence let pass
//! was committed before it in the log. The marker is committed after it. A replica applies transactions in the order
//! of their commits and notes the end of each as its progress. So a progress beyond the position means that all those
//! writes are applied, and the marker sees to it that the progress gets there though nobody writes any more. The position
//! itself is written with the marker, and travels with it: who has that row needs nobody to tell the position.

use super::connect::Session;
use super::grants::{Wanted, params, raise, wanted};
use super::inspect::{epoch as pair, numbers};
use super::{Postgres, fence as closing, names, placed};
use crate::driver::{FenceLimits, Fenced, Grant};
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{StorePosition, UnitPosition};
use multiactive_core::slots::SlotSet;

/// How far each of the links $1, from the units $2, has come; flushed, so that it is true after a crash too. One that is cut
/// counts though it may not exist any more, and what was repaired behind it.
const PROGRESS: &str = "
    SELECT n.name, greatest(pg_replication_origin_progress('pg_' || s.oid, true), c.applied, c.repaired)::text
    FROM unnest($1::text[], $2::text[]) AS n(name, unit)
    LEFT JOIN pg_subscription s ON s.subname = n.name::name
         AND s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    LEFT JOIN multiactive.cut c ON c.from_unit = n.unit AND c.stands
    WHERE s.oid IS NOT NULL OR c.stands";

/// Slots of the operation: how many there are, the buckets of the open ones, the newest epoch beyond ours.
const LOOK: &str = wanted!(
    "SELECT count(*), coalesce(array_agg(DISTINCT slot % 64 ORDER BY slot % 64) FILTER (WHERE is_open), '{}'),
            (array_agg(is_term ORDER BY is_term DESC, is_epoch DESC) FILTER (WHERE (is_term, is_epoch) > (term, epoch)))[1],
            (array_agg(is_epoch ORDER BY is_term DESC, is_epoch DESC) FILTER (WHERE (is_term, is_epoch) > (term, epoch)))[1]
     FROM pair"
);

/// Slots that were closed already take the operation's epoch, so that only a higher one opens them.
const STAMP: &str = wanted!(
    "UPDATE multiactive.slot s SET term = p.term, epoch = p.epoch
     FROM pair p
     WHERE s.keyspace = $1 AND s.slot = p.slot AND NOT s.open AND (s.term, s.epoch) < (p.term, p.epoch)"
);

pub(super) async fn fence(
    pg: &Postgres,
    op: &OperationUid,
    epoch: Epoch,
    slots: &SlotSet,
    limits: FenceLimits,
) -> Result<Fenced, Error> {
    let wanted = Wanted::new(&[Grant {
        slots: slots.clone(),
        open: false,
        epoch,
        brought_by: None,
    }]);
    let keyspace = pg.spec.keyspace.name.as_str();
    let session = pg.server.session().await?;
    // The table may be newer by now, for other slots: only what these slots were brought to counts.
    raise(&session, epoch, false).await?;
    let buckets = look(pg, &session, epoch, slots, &wanted).await?;
    session.keep();
    let mut ended = Vec::new();
    if !buckets.is_empty() {
        ended = closing::close(pg, &wanted, &buckets, None, limits).await?.ended;
    }
    let session = pg.server.session().await?;
    session
        .change("stamping slots", STAMP, params!(keyspace, wanted))
        .await?;
    // A newer call may have opened them since.
    let open = look(pg, &session, epoch, slots, &wanted).await?;
    session.keep();
    if !open.is_empty() {
        return Err(Error::FenceBlocked {
            after: limits.deadline,
            blockers: Vec::new(),
        });
    }
    let vector = mark(pg, op, epoch).await?;
    let position = StorePosition {
        store: pg.spec.store.clone(),
        source: pg.spec.unit.clone(),
        vector,
    };
    Ok(Fenced { position, ended })
}

/// The buckets of those slots that are still open.
async fn look(
    pg: &Postgres,
    session: &Session<'_>,
    asked: Epoch,
    slots: &SlotSet,
    wanted: &Wanted,
) -> Result<Vec<i32>, Error> {
    let row = session
        .row("comparing slots", LOOK, params!(pg.spec.keyspace.name.as_str(), wanted))
        .await?;
    if usize::try_from(row.get::<_, i64>(0)) != Ok(slots.len()) {
        return Err(Error::NotInstalled {
            at: pg.server.at.clone(),
        });
    }
    if let (Some(term), Some(number)) = (row.get(2), row.get(3)) {
        return Err(Error::Overtaken {
            held: pair(term, number),
            asked,
        });
    }
    Ok(row.get(1))
}

/// The position of this operation's fence: the one that was taken before, or one taken now. Writes the marker.
async fn mark(pg: &Postgres, op: &OperationUid, epoch: Epoch) -> Result<Vec<UnitPosition>, Error> {
    let (term, number) = numbers(epoch);
    let session = pg.server.session().await?;
    session.batch("marking the fence", "BEGIN").await?;
    placed::demand(&session).await?;
    let sql = "INSERT INTO multiactive.marker (unit, op, term, epoch, at) VALUES ($1, $2, $3, $4, clock_timestamp())
               ON CONFLICT (unit) DO UPDATE SET op = $2, term = $3, epoch = $4, at = clock_timestamp()";
    session
        .change(
            "writing the marker",
            sql,
            &[&pg.spec.unit.as_str(), &op.as_str(), &term, &number],
        )
        .await?;
    let vector = read(pg, &session).await?;
    let (units, positions): (Vec<_>, Vec<_>) = vector.iter().map(|at| (at.unit.as_str(), at.position.as_str())).unzip();
    // The first answer stays: other members may have recorded that they reached it.
    let own = pg.spec.unit.as_str();
    let sql = "INSERT INTO multiactive.fenced (unit, op, term, epoch, units, positions) VALUES ($1, $2, $3, $4, $5, $6)
               ON CONFLICT DO NOTHING";
    session
        .change(
            "noting the position",
            sql,
            &[&own, &op.as_str(), &term, &number, &units, &positions],
        )
        .await?;
    let sql =
        "SELECT units, positions FROM multiactive.fenced WHERE unit = $1 AND op = $2 AND term = $3 AND epoch = $4";
    let row = session
        .row("reading the position", sql, &[&own, &op.as_str(), &term, &number])
        .await?;
    session.batch("marking the fence", "COMMIT").await?;
    let sql = "DELETE FROM multiactive.fenced WHERE unit = $1 AND at < clock_timestamp() - interval '30 days'";
    session.change("forgetting old fences", sql, &[&own]).await?;
    session.keep();
    let (units, positions): (Vec<String>, Vec<String>) = (row.get(0), row.get(1));
    let entries = units.into_iter().zip(positions);
    Ok(entries
        .map(|(unit, position)| UnitPosition {
            unit: UnitName(unit),
            position,
        })
        .collect())
}

pub(super) async fn position(pg: &Postgres) -> Result<Vec<UnitPosition>, Error> {
    let session = pg.server.session().await?;
    let vector = read(pg, &session).await?;
    session.keep();
    Ok(vector)
}

/// Our own position first. A link that has not brought anything yet has none.
async fn read(pg: &Postgres, session: &Session<'_>) -> Result<Vec<UnitPosition>, Error> {
    let sql = "SELECT pg_current_wal_insert_lsn()::text";
    let own: String = session.row("reading the position", sql, &[]).await?.get(0);
    let mut vector = vec![UnitPosition {
        unit: pg.spec.unit.clone(),
        position: own,
    }];
    for (unit, progress) in progress(pg, session).await? {
        vector.extend(progress.map(|position| UnitPosition { unit, position }));
    }
    Ok(vector)
}

/// Each link that exists or is cut, with how far it has come; `None` before its first transaction.
pub(super) async fn progress(pg: &Postgres, session: &Session<'_>) -> Result<Vec<(UnitName, Option<String>)>, Error> {
    let spec = &pg.spec;
    let links: Vec<_> = spec
        .peers
        .iter()
        .map(|peer| (peer, names::link(spec, peer, &spec.unit)))
        .collect();
    let subscriptions: Vec<_> = links.iter().map(|(_, name)| name.as_str()).collect();
    let units: Vec<_> = links.iter().map(|(peer, _)| peer.as_str()).collect();
    let rows = session
        .rows("reading how far links have come", PROGRESS, &[&subscriptions, &units])
        .await?;
    let found = links.iter().filter_map(|(peer, name)| {
        let row = rows.iter().find(|row| row.get::<_, &str>(0) == name)?;
        let progress: Option<String> = row.get(1);
        Some(((*peer).clone(), progress.filter(|lsn| lsn != "0/0")))
    });
    Ok(found.collect())
}
