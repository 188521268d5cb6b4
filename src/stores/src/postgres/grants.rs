//! Bringing a store to a table: what must close is closed first, then what may open opens.
//!
//! Two numbers keep late calls out. `store.seen` is the newest epoch that was asked for here, raised before anything
//! else; each slot has the epoch of its last change, or of the newest table that found it open and left it so, for fences
//! of operations, which may come before their table, or long after it.

use super::connect::Session;
use super::inspect::{epoch, numbers};
use super::{Postgres, fence, incarnation, lease, names, placed};
use crate::driver::{Applied, FenceLimits, Grant};
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::OperationUid;

/// Grants as arrays, one entry for each run of slots.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) firsts: Vec<i32>,
    pub(super) lasts: Vec<i32>,
    pub(super) opens: Vec<bool>,
    pub(super) terms: Vec<i32>,
    pub(super) epochs: Vec<i64>,
    pub(super) ops: Vec<Option<String>>,
}

impl Wanted {
    pub(super) fn new(grants: &[Grant]) -> Self {
        let mut wanted = Self::default();
        for grant in grants {
            let (term, number) = numbers(grant.epoch);
            for (first, last) in grant.slots.ranges() {
                wanted.firsts.push(i32::from(*first));
                wanted.lasts.push(i32::from(*last));
                wanted.opens.push(grant.open);
                wanted.terms.push(term);
                wanted.epochs.push(number);
                wanted.ops.push(grant.brought_by.as_ref().map(|op| op.0.clone()));
            }
        }
        wanted
    }
}

/// The wanted slots beside the store's: $1 the keyspace, $2 to $7 the arrays of [`Wanted`]. `is_term` and `is_epoch` are
/// the newest that the slot was brought to, whether that changed it or not.
macro_rules! wanted {
    ($rest:literal) => {
        concat!(
            "WITH wanted AS (
                 SELECT g.slot, w.open, w.term, w.epoch, w.op
                 FROM unnest($2::int[], $3::int[], $4::bool[], $5::int[], $6::bigint[], $7::text[])
                      AS w(first, last, open, term, epoch, op),
                      generate_series(w.first, w.last) AS g(slot)
             ), pair AS (
                 SELECT w.*, s.open AS is_open, coalesce(k.term, s.term) AS is_term, coalesce(k.epoch, s.epoch) AS is_epoch,
                        coalesce(s.open AND s.server_start = pg_postmaster_start_time(), false) AS serves
                 FROM wanted w JOIN multiactive.slot s ON s.keyspace = $1 AND s.slot = w.slot
                 LEFT JOIN multiactive.kept k ON k.keyspace = $1 AND k.slot = w.slot AND (k.term, k.epoch) > (s.term, s.epoch)
             ) ",
            $rest
        )
    };
}
pub(super) use wanted;

/// One row: how many slots are there; the buckets of those to close; how many to open; the newest epoch of a slot that
/// forbids it; how many to keep open at a newer epoch. A fence is changed by a higher epoch only; a grant to a server that has restarted, by the same one too.
const LOOK: &str = wanted!(
    ", judged AS (
         SELECT *, CASE WHEN open THEN NOT serves AND ((is_term, is_epoch) > (term, epoch)
                                   OR (NOT is_open AND (is_term, is_epoch) = (term, epoch)))
                        ELSE is_open AND (is_term, is_epoch) > (term, epoch) END AS forbids
         FROM pair
     )
     SELECT count(*),
            coalesce(array_agg(DISTINCT slot % 64 ORDER BY slot % 64) FILTER (WHERE is_open AND NOT open), '{}'),
            count(*) FILTER (WHERE open AND NOT serves),
            (array_agg(is_term ORDER BY is_term DESC, is_epoch DESC) FILTER (WHERE forbids))[1],
            (array_agg(is_epoch ORDER BY is_term DESC, is_epoch DESC) FILTER (WHERE forbids))[1],
            count(*) FILTER (WHERE open AND serves AND (is_term, is_epoch) < (term, epoch))
     FROM judged"
);

/// Slots that are open, and stay so, are of this table from now on: a fence of an operation that was aborted before it ran
/// comes too late for them.
const KEEP: &str = wanted!(
    "INSERT INTO multiactive.kept (keyspace, slot, term, epoch)
     SELECT $1, slot, term, epoch FROM pair WHERE open AND serves AND (is_term, is_epoch) < (term, epoch)
     ON CONFLICT (keyspace, slot) DO UPDATE SET term = excluded.term, epoch = excluded.epoch"
);

/// Why slots may not open: operations without a record of their drain, and whether any slot opens for the first time.
const MAY_OPEN: &str = wanted!(
    "SELECT min(op) FILTER (WHERE op IS NOT NULL AND NOT EXISTS (
                SELECT FROM multiactive.reached r WHERE r.op = pair.op AND (r.term, r.epoch) < (pair.term, pair.epoch))),
            coalesce(bool_or(op IS NULL AND is_term = 0 AND is_epoch = 0), false),
            (SELECT o.opened FROM multiactive.store o)
     FROM pair WHERE open AND NOT is_open"
);

/// Opens, and writes an opening for each operation that brings slots, and the units that were lost to it, in one
/// transaction: receivers meet them before any write that it lets in.
const OPEN: &str = wanted!(
    ", announced AS (
         INSERT INTO multiactive.opening (unit, op, term, epoch, units, positions)
         SELECT DISTINCT ON (r.op) o.unit, r.op, r.term, r.epoch, r.units, r.positions
         FROM pair p JOIN multiactive.reached r ON r.op = p.op AND (r.term, r.epoch) < (p.term, p.epoch), multiactive.store o
         WHERE p.open AND NOT p.is_open AND cardinality(r.units) > 0
         ORDER BY r.op, r.term DESC, r.epoch DESC
         ON CONFLICT DO NOTHING
     ), bereaved AS (
         INSERT INTO multiactive.lost (unit, op, term, epoch, lost_unit)
         SELECT DISTINCT o.unit, r.op, p.term, p.epoch, l.lost
         FROM pair p JOIN multiactive.reached r ON r.op = p.op AND (r.term, r.epoch) < (p.term, p.epoch), multiactive.store o,
              unnest(r.lost) AS l(lost)
         WHERE p.open AND NOT p.is_open
         ON CONFLICT DO NOTHING
     )
     UPDATE multiactive.slot s
     SET open = true, term = p.term, epoch = p.epoch, server_start = pg_postmaster_start_time()
     FROM pair p WHERE s.keyspace = $1 AND s.slot = p.slot AND p.open AND NOT p.serves"
);

/// Passes the arrays of a [`Wanted`] as $2 to $7.
macro_rules! params {
    ($keyspace:expr, $wanted:expr) => {
        &[
            &$keyspace,
            &$wanted.firsts,
            &$wanted.lasts,
            &$wanted.opens,
            &$wanted.terms,
            &$wanted.epochs,
            &$wanted.ops,
        ]
    };
}
pub(super) use params;

pub(super) async fn apply(
    pg: &Postgres,
    table: Epoch,
    grants: &[Grant],
    limits: FenceLimits,
) -> Result<Applied, Error> {
    let wanted = Wanted::new(grants);
    let session = pg.server.session().await?;
    raise(&session, table, true).await?;
    lease::begin(&session).await?;
    let mut found = look(pg, &session, table, &wanted).await?;
    session.keep();
    let mut applied = Applied::default();
    if !found.closing.is_empty() {
        let closed = fence::close(pg, &wanted, &found.closing, Some(table), limits).await?;
        (applied.closed, applied.ended) = (closed.slots, closed.ended);
    }
    if found.keeping > 0 {
        found = keep(pg, table, &wanted).await?;
    }
    if found.opening > 0 {
        applied.opened = open(pg, table, &wanted).await?;
    } else {
        let session = pg.server.session().await?;
        lease::brought(&session, table).await?;
        session.keep();
    }
    Ok(applied)
}

/// Raises the newest epoch that was asked for. A caller with a table of its own must hold the newest one.
pub(super) async fn raise(session: &Session<'_>, asked: Epoch, must_be_newest: bool) -> Result<(), Error> {
    let sql = "SELECT seen_term, seen_epoch FROM multiactive.store";
    let row = session.row("reading the newest epoch", sql, &[]).await?;
    let mut held = epoch(row.get(0), row.get(1));
    if asked > held {
        let (term, number) = numbers(asked);
        let sql = "UPDATE multiactive.store
                   SET seen_term = CASE WHEN (seen_term, seen_epoch) < ($1, $2) THEN $1 ELSE seen_term END,
                       seen_epoch = CASE WHEN (seen_term, seen_epoch) < ($1, $2) THEN $2 ELSE seen_epoch END
                   RETURNING seen_term, seen_epoch";
        let row = session.row("raising the newest epoch", sql, &[&term, &number]).await?;
        held = epoch(row.get(0), row.get(1));
    }
    if must_be_newest && asked < held {
        Err(Error::Overtaken { held, asked })
    } else {
        Ok(())
    }
}

/// What a table asks of the slots as they are.
struct Found {
    /// The buckets of those to close.
    closing: Vec<i32>,
    /// How many to open.
    opening: i64,
    /// How many are open, as it asks, but of an older table.
    keeping: i64,
}

async fn look(pg: &Postgres, session: &Session<'_>, table: Epoch, wanted: &Wanted) -> Result<Found, Error> {
    let keyspace = pg.spec.keyspace.name.as_str();
    let row = session.row("comparing slots", LOOK, params!(keyspace, wanted)).await?;
    let asked: i64 = wanted
        .firsts
        .iter()
        .zip(&wanted.lasts)
        .map(|(first, last)| i64::from(last - first) + 1)
        .sum();
    if row.get::<_, i64>(0) != asked {
        return Err(Error::NotInstalled {
            at: pg.server.at.clone(),
        });
    }
    if let (Some(term), Some(number)) = (row.get(3), row.get(4)) {
        return Err(Error::Overtaken {
            held: epoch(term, number),
            asked: table,
        });
    }
    Ok(Found {
        closing: row.get(1),
        opening: row.get(2),
        keeping: row.get(5),
    })
}

/// Keeps slots open at the table's epoch; tells what is left to do.
async fn keep(pg: &Postgres, table: Epoch, wanted: &Wanted) -> Result<Found, Error> {
    let session = pg.server.session().await?;
    // Whoever closes slots holds the same lock: a late fence closes them before this, and is seen, or meets what is kept.
    session
        .batch("keeping slots open", "BEGIN; SELECT FROM multiactive.store FOR UPDATE")
        .await?;
    raise(&session, table, true).await?;
    let keyspace = pg.spec.keyspace.name.as_str();
    session
        .change("keeping slots open", KEEP, params!(keyspace, wanted))
        .await?;
    let found = look(pg, &session, table, wanted).await?;
    session.batch("keeping slots open", "COMMIT").await?;
    session.keep();
    Ok(found)
}

async fn open(pg: &Postgres, table: Epoch, wanted: &Wanted) -> Result<u64, Error> {
    let keyspace = pg.spec.keyspace.name.as_str();
    let session = pg.server.session().await?;
    // The first lock: who copies rows from here sees each opening whole, or meets it in the log.
    let begin = "BEGIN; SELECT pg_advisory_xact_lock_shared(27969, 1003); SELECT FROM multiactive.store FOR UPDATE";
    session.batch("opening slots", begin).await?;
    // Under the lock again: a newer call may have come in between.
    raise(&session, table, true).await?;
    look(pg, &session, table, wanted).await?;
    let row = session
        .row("looking for records of drains", MAY_OPEN, params!(keyspace, wanted))
        .await?;
    if let Some(op) = row.get::<_, Option<String>>(0) {
        let at = wanted
            .ops
            .iter()
            .position(|wanted| wanted.as_deref() == Some(&op))
            .unwrap_or(0);
        return Err(Error::NotDrained {
            op: OperationUid(op),
            epoch: epoch(wanted.terms[at], wanted.epochs[at]),
        });
    }
    placed::demand(&session).await?;
    if row.get::<_, bool>(1) {
        let missing = missing_links(pg, &session).await?;
        if !missing.is_empty() {
            return Err(Error::LinksMissing { missing });
        }
    }
    if row.get::<_, Option<bool>>(2) != Some(true) {
        session
            .batch("noting the first opening", "UPDATE multiactive.store SET opened = true")
            .await?;
        incarnation::introduce(&session, &pg.spec).await?;
    }
    let opened = session.change("opening slots", OPEN, params!(keyspace, wanted)).await?;
    lease::brought(&session, table).await?;
    session.batch("opening slots", "COMMIT").await?;
    session.keep();
    Ok(opened)
}

/// The peers for whose link there is no slot here.
async fn missing_links(pg: &Postgres, session: &Session<'_>) -> Result<Vec<String>, Error> {
    let name = |to| names::link(&pg.spec, &pg.spec.unit, to);
    let wanted: Vec<String> = pg.spec.peers.iter().map(name).collect();
    let sql = "SELECT n FROM unnest($1::text[]) n WHERE NOT EXISTS (
                   SELECT FROM pg_replication_slots s WHERE s.slot_name = n AND s.database = current_database())";
    let rows = session.rows("looking for the slots of links", sql, &[&wanted]).await?;
    let missing: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let peers = pg.spec.peers.iter().filter(|peer| missing.contains(&name(peer)));
    Ok(peers.map(ToString::to_string).collect())
}
