//! Copying a peer's rows where its link will not bring all of them, and letting that link go on exactly behind.
//!
//! 1. The link gets a gap, and goes: from here to 5, whoever makes it finds that gap. Its slot is made anew at the peer, which
//!    keeps the log from some place on.
//! 2. At the peer all that writes is held for a moment: writers of sharded rows by the exclusive locks of all buckets, whoever
//!    opens slots and installs by theirs. Each of them holds its lock until its transaction is seen by new snapshots, so none
//!    is in flight. In that moment a place in the log is taken, and a snapshot: of these, the snapshot is the log up to the
//!    place, no more and no less. Heartbeats and notes of fences are not held: the heartbeat is read before the place is
//!    taken, so that it does not come twice, and what the link would bring of fences before the place is not copied; an
//!    operation that asks for it is aborted in time.
//! 3. The slot moves to the place: what is in the snapshot does not come again.
//! 4. All that other units had written to these slots before they came to the peer must be here: else their links would bring
//!    it after the copy, and win. Of units that are cut off nothing will come.
//! 5. Slots whose sums differ are copied in one transaction, as a link would write: by an origin of its own, so that no other
//!    link takes it on, and past triggers. The same transaction says that the link begins at the place, and that its gap has
//!    ended. Nobody can make the link meanwhile. Before its commit nothing has changed but the gap; after it, a link that is
//!    made, by whomever, adopts the slot at the place.
//! 6. The link is made; its progress is the place from the beginning, so that a peer whose slot falls back in a crash is
//!    asked for nothing before it.
//!
//! Slots that the peer had closed by then are its own no more, and their rows are not taken from it: what it wrote to them
//! before that, behind where its link stood, may be missing. Each slot knows where in the log it was closed, so these are
//! known; those that differ are the gap that is left, until they are copied from who has them open.

use super::connect::Session;
use super::copy::{Job, copy};
use super::noted::{Noted, applied, note, noted, other, reborn, went_back};
use super::peer::PeerSeen;
use super::source::{self, Seen, Until};
use super::{Postgres, checksum, cut, links, names, peer};
use crate::driver::{Peer, Reseeded, TableSpec};
use crate::error::Error;
use multiactive_core::ids::UnitName;
use multiactive_core::slots::SlotSet;
use std::time::Duration;
use tokio::time::sleep;

/// What is still to come of the logs of the units $1, each up to the position of $2, but for those of this unit and of $3, and
/// of those that are cut off.
const STILL_TO_COME: &str = "
    SELECT format('%s of %s is applied here, and what it wrote up to %s goes before the rows of %s', coalesce(p.applied::text, 'nothing'),
                  w.unit, w.position, $3::text)
    FROM unnest($1::text[], $2::text[]) AS w(unit, position)
    JOIN multiactive.link l ON l.from_unit = w.unit
    LEFT JOIN multiactive.applied a ON a.name = l.name
    LEFT JOIN pg_subscription s ON s.subname = l.name::name
         AND s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    CROSS JOIN LATERAL (SELECT greatest(pg_replication_origin_progress('pg_' || s.oid, true), a.progress::pg_lsn) AS applied) p
    WHERE w.unit <> $3 AND w.unit <> (SELECT o.unit FROM multiactive.store o)
      AND NOT EXISTS (SELECT FROM multiactive.cut c WHERE c.from_unit = w.unit AND c.stands)
      AND (p.applied >= w.position::pg_lsn) IS NOT TRUE
    ORDER BY w.unit LIMIT 1";

/// Whether we may write as a link does.
const RIGHTS: &str = "
    SELECT has_parameter_privilege('session_replication_role', 'SET')
       AND has_function_privilege('pg_replication_origin_create(text)', 'EXECUTE')
       AND has_function_privilege('pg_replication_origin_session_setup(text)', 'EXECUTE')
       AND has_function_privilege('pg_replication_origin_advance(text, pg_lsn)', 'EXECUTE')";

/// Notes a gap of the link $1 from unit $2, before anything else is done, and where it begins. One that stands stays.
const LOSE: &str = "
    INSERT INTO multiactive.link AS l (name, from_unit, gap, sound)
    SELECT n.name, $2, $3, coalesce(greatest(
        (SELECT pg_replication_origin_progress('pg_' || s.oid, true) FROM pg_subscription s
         WHERE s.subname = n.name::name
           AND s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())),
        (SELECT a.progress::pg_lsn FROM multiactive.applied a WHERE a.name = n.name)), '0/0')
    FROM (SELECT $1::text AS name) n
    ON CONFLICT (name) DO UPDATE
    SET gap = coalesce(l.gap, excluded.gap), lacking = NULL,
        sound = CASE WHEN l.gap IS NULL THEN excluded.sound ELSE l.sound END";

/// A table, and its columns that both ends have, computed ones apart.
pub(super) struct Table<'a> {
    pub(super) sharded: &'a TableSpec,
    pub(super) columns: Vec<String>,
    /// Those that only the peer has.
    pub(super) missing: Vec<String>,
}

pub(super) async fn reseed(pg: &Postgres, from: &Peer, timeout: Duration) -> Result<Reseeded, Error> {
    let until = Until::new(&pg.server.at, "copying rows", timeout);
    let name = names::link(&pg.spec, &from.unit, &pg.spec.unit);
    let session = pg.server.session().await?;
    let there = peer::server(pg, from);
    let found = {
        let there = there.session().await?;
        let found = may_copy(pg, &session, &there, from, &name).await?;
        there.keep();
        found
    };
    let sound = give_up(pg, &session, from, &name, &found.seen).await?;
    peer::create_slot(pg, from, &name, until.left()?).await?;
    let mut snapshot = there.session().await?;
    snapshot.limit(until.left()?);
    let frozen = source::freeze(pg, &there, &snapshot, from, &found.cuts, sound.as_deref(), &until).await?;
    peer::advance_slot(pg, from, &name, &frozen.place, until.left()?).await?;
    fits(pg, &session, from, &frozen.seen).await?;
    while let Some(why) = still_to_come(&session, from, &frozen.seen).await? {
        if until.left().is_err() {
            return Err(refused(from, why));
        }
        sleep(Duration::from_millis(50)).await;
    }
    let job = Job {
        pg,
        from,
        name: &name,
        there: &snapshot,
        frozen: &frozen,
        tables: &found.tables,
        until: &until,
    };
    let reseeded = copy(&job).await?;
    make(pg, &session, from, &name, &frozen.place).await?;
    session.keep();
    tracing::warn!(at = %pg.server.at, from = %from.unit, slots = %reseeded.slots, written = reseeded.written,
                   removed = reseeded.removed, left = %reseeded.left, "rows were copied");
    Ok(reseeded)
}

/// What is known before anything is changed.
struct Found<'a> {
    tables: Vec<Table<'a>>,
    /// The units that are cut off here.
    cuts: Vec<UnitName>,
    seen: PeerSeen,
}

/// Refuses what can be refused before anything is changed.
async fn may_copy<'a>(
    pg: &'a Postgres,
    session: &Session<'_>,
    there: &Session<'_>,
    from: &Peer,
    name: &str,
) -> Result<Found<'a>, Error> {
    demand_rights(session, from).await?;
    let cuts = cut::standing(session).await?;
    if let Some(why) = cuts.get(&from.unit) {
        return Err(refused(from, why.clone()));
    }
    let (known, applied) = (noted(session, name).await?, applied(session, name).await?);
    let seen = peer::look(pg, from, name).await?;
    if let Some(why) = unlike(session, name, from, &known, applied.as_deref(), &seen).await? {
        return Err(refused(from, why));
    }
    source::demand_rights(pg, there, from).await?;
    let says = source::see(pg, there, from, None).await?;
    fits(pg, session, from, &says).await?;
    if let Some(why) = still_to_come(session, from, &says).await? {
        return Err(refused(from, why));
    }
    Ok(Found {
        tables: tables(pg, session, there).await?,
        cuts: cuts.into_keys().collect(),
        seen,
    })
}

/// Refuses where we may not write as a link does.
pub(super) async fn demand_rights(session: &Session<'_>, from: &Peer) -> Result<(), Error> {
    let row = session.row("looking at our rights", RIGHTS, &[]).await?;
    if row.get(0) {
        return Ok(());
    }
    let why = "the agent's user may not write rows as a link does: run the statements about session_replication_role and \
               pg_replication_origin in roles.sql in this database";
    Err(refused(from, why.to_owned()))
}

/// Why the peer's log is not the one whose rows are here.
async fn unlike(
    session: &Session<'_>,
    name: &str,
    from: &Peer,
    known: &Noted,
    applied: Option<&str>,
    seen: &PeerSeen,
) -> Result<Option<String>, Error> {
    if !seen.publishes || !seen.publishes_all {
        return Ok(Some(format!("{} does not publish the store yet", from.unit)));
    }
    if let Some(why) = other(from, seen, known) {
        return Ok(Some(why));
    }
    if reborn(seen, known) {
        let why = "it goes on as another database: its link has to be made anew first";
        return Ok(Some(why.to_owned()));
    }
    went_back(session, name, from, applied, seen).await
}

/// Refuses where the peer's rows may not come over those that are here.
async fn fits(pg: &Postgres, session: &Session<'_>, from: &Peer, seen: &Seen) -> Result<(), Error> {
    let sql = "SELECT min(o) FROM unnest($1::text[]) o
               WHERE NOT EXISTS (SELECT FROM multiactive.rejoined r WHERE r.op = o)";
    let row = session.row("looking for a quarantine", sql, &[&seen.bereaved]).await?;
    if let Some(op) = row.get::<_, Option<String>>(0) {
        let why = format!(
            "operation {op} took slots over there while this unit was lost: the rows are compared first, and what differs is \
             accepted"
        );
        return Err(refused(from, why));
    }
    let both = open_here(pg, session).await?.intersection(&seen.open);
    if !both.is_empty() {
        let why = format!("slots {both} are open here and there: only one of the two may be right");
        return Err(refused(from, why));
    }
    Ok(())
}

/// What other units wrote before the peer's rows, and has yet to come here; in words.
pub(super) async fn still_to_come(session: &Session<'_>, from: &Peer, seen: &Seen) -> Result<Option<String>, Error> {
    let (units, positions): (Vec<_>, Vec<_>) = seen.before.iter().map(|(unit, at)| (unit, at)).unzip();
    let rows = session
        .rows(
            "looking for what is still to come",
            STILL_TO_COME,
            &[&units, &positions, &from.unit.as_str()],
        )
        .await?;
    Ok(rows.first().map(|row| row.get(0)))
}

pub(super) fn refused(from: &Peer, why: String) -> Error {
    Error::NotCopied {
        from: from.unit.clone(),
        why,
    }
}

/// The slots that are open here.
pub(super) async fn open_here(pg: &Postgres, session: &Session<'_>) -> Result<SlotSet, Error> {
    let sql = "SELECT coalesce(range_agg(int4range(slot, slot, '[]')) FILTER (WHERE open), '{}')::text
               FROM multiactive.slot WHERE keyspace = $1";
    let keyspace = pg.spec.keyspace.name.as_str();
    let row = session.row("looking at slots", sql, &[&keyspace]).await?;
    names::parse_slots(row.get(0))
}

pub(super) async fn tables<'a>(
    pg: &'a Postgres,
    session: &Session<'_>,
    there: &Session<'_>,
) -> Result<Vec<Table<'a>>, Error> {
    let mut tables = Vec::new();
    for sharded in &pg.spec.tables {
        let theirs = checksum::columns(there, sharded, true).await?;
        let ours = checksum::columns(session, sharded, true).await?;
        let (columns, missing) = theirs.into_iter().partition(|column| ours.contains(column));
        tables.push(Table {
            sharded,
            columns,
            missing,
        });
    }
    Ok(tables)
}

/// Notes that rows may be missing from now on, and takes the link and its slot away; up to where nothing is missing, where that
/// is known.
async fn give_up(
    pg: &Postgres,
    session: &Session<'_>,
    from: &Peer,
    name: &str,
    seen: &PeerSeen,
) -> Result<Option<String>, Error> {
    let why = format!(
        "the rows of {from} are being copied, which has not come to its end: rows that {from} wrote before may be missing \
         here, until it has",
        from = from.unit
    );
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&name, &from.unit.as_str(), &why];
    session.change("noting a gap", LOSE, &params).await?;
    if links::exists(session, name).await? {
        links::remove(session, name).await?;
    }
    pg.watch.forget(name);
    peer::drop_slot(pg, from, name).await?;
    note(session, name, from, seen).await?;
    let sql = "SELECT sound::text FROM multiactive.link WHERE name = $1";
    Ok(session.row("looking at a gap", sql, &[&name]).await?.get(0))
}

/// Makes the link over its slot, which stands at `place`, and lets it go on.
async fn make(pg: &Postgres, session: &Session<'_>, from: &Peer, name: &str, place: &str) -> Result<(), Error> {
    let sql = format!(
        "BEGIN; SELECT pg_advisory_xact_lock_shared(27969, 1004); {};
         SELECT pg_replication_origin_advance('pg_' || s.oid, {}) FROM pg_subscription s
         WHERE s.subname = {} AND s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()); COMMIT",
        links::subscribe(pg, from, name),
        names::literal(place),
        names::literal(name),
    );
    session.batch(super::connect::MAKING, &sql).await?;
    links::enable(session, name, &from.unit).await
}
