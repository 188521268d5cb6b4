//! Comparing rows with a peer's while both run, exactly: both as they were at one place in the peer's log.
//!
//! 1. We take a lock that nobody else asks for, by a name that is new.
//! 2. At the peer the writers of these slots are held for a moment, by the exclusive locks of their buckets, which each of them
//!    holds until new snapshots see its transaction. In that moment a snapshot is taken there, and a mark with the lock's name
//!    is written into the log. So of these slots the snapshot is the log up to the mark, no more and no less.
//! 3. The worker that applies the link meets the mark, and waits there for our lock (`stop_at_place` in the schema). All that
//!    stands before the mark is applied then, and nothing behind it. We take a snapshot here, and let the worker go on.
//! 4. All of the slots are open at the peer in its snapshot, so nobody else wrote to them since they came there. The two
//!    snapshots are compared at leisure: what differs does differ, and no row is under way. Of a part of the rows (`ranges`) it is
//!    the same: its bounds are keys, which are in it or not at both sides alike, whatever happens to rows elsewhere.
//!
//! All that other units had written to these slots before they came to the peer must be here first, for that comes by other
//! links. Whoever dies meanwhile leaves nothing behind: the locks go with the sessions, and a mark at which nobody waits is one row.

use super::connect::{Server, Session};
use super::ranges::{self, Range};
use super::reseed::{Table, still_to_come, tables};
use super::source::{self, Patience, Until};
use super::{Postgres, changed, checksum, differing, links, names, peer, placed};
use crate::compared::{Compared, Extent, Narrowed, refused, too_far_behind};
use crate::driver::{Part, Peer};
use crate::error::Error;
use crate::link::hindered;
use multiactive_core::slots::SlotSet;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A lock by a new name. It goes with the session, which the server ends where we vanish.
const ARM: &str = "
    WITH fresh AS MATERIALIZED (SELECT gen_random_uuid()::text AS id)
    SELECT id, pg_advisory_xact_lock(hashtextextended(id, 27969)) FROM fresh";

/// Whether somebody waits for a lock of this session.
const AWAITED: &str = "
    SELECT EXISTS (
        SELECT FROM pg_locks w JOIN pg_locks h USING (locktype, database, classid, objid, objsubid)
        WHERE h.pid = pg_backend_pid() AND h.granted AND h.locktype = 'advisory' AND NOT w.granted)";

/// How long both sides may take to come to one place. Reading the rows may take hours.
const MEETING: Duration = Duration::from_secs(30);

/// How often the link is looked at while its worker has not come to the mark.
const LOOK_AT_LINK: Duration = Duration::from_millis(250);

/// The longest pause between two questions whether it has: the worker waits meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(10);

pub(super) async fn compare(
    pg: &Postgres,
    from: &Peer,
    slots: &SlotSet,
    part: Option<&Part>,
    extent: Extent,
    timeout: Duration,
) -> Result<Compared, Error> {
    let until = Until::new(&pg.server.at, "comparing rows", timeout);
    let soon = Until::new(&pg.server.at, "comparing rows", timeout.min(MEETING));
    let session = pg.server.session().await?;
    placed::demand(&session).await?;
    let there = peer::server(pg, from);
    let (mut ours, mut theirs) = (pg.server.session().await?, there.session().await?);
    source::demand_rights(pg, &theirs, from).await?;
    let tables = common(pg, &session, &theirs, from).await?;
    let seen = source::see(pg, &theirs, from, None).await?;
    while let Some(why) = still_to_come(&session, from, &seen).await? {
        if soon.left().is_err() {
            return Err(refused(from, why));
        }
        sleep(ASK_AGAIN * 5).await;
    }
    may_come(pg, from).await?;
    at_one_place(pg, from, slots, (&ours, &there, &theirs), (&soon, &until)).await?;
    // In the snapshot: then all that others wrote to these slots stands before the mark, and was waited for here.
    let closed = slots.difference(&source::see(pg, &theirs, from, None).await?.open);
    if !closed.is_empty() {
        return Err(refused(
            from,
            format!("it does not have slots {closed} open, or not yet"),
        ));
    }
    for session in [&mut ours, &mut theirs] {
        session.limit(until.left()?);
    }
    let (ranges, ends) = ranges::of(pg, (&ours, &theirs), &tables, slots, part).await?;
    let since = match extent {
        Extent::All => None,
        Extent::Changed => changed::since(pg, (&ours, &theirs), &from.unit, slots).await?,
    };
    let (mut here, mut peers) = (checksum::nothing(slots), checksum::nothing(slots));
    let mut whole = 0;
    for range in &ranges {
        ours.limit(until.left()?);
        theirs.limit(until.left()?);
        if let Some(since) = &since {
            let sums = (&mut here, &mut peers);
            if let Some(rows) = changed::of_range(pg, (&ours, &theirs), range, slots, since, sums).await? {
                whole += rows;
                continue;
            }
        }
        let Range { table, within } = range;
        let Table { sharded, columns, .. } = table;
        let before = peers.rows;
        tokio::try_join!(
            checksum::of_table(pg, &ours, sharded, columns, slots, within, &mut here),
            checksum::of_table(pg, &theirs, sharded, columns, slots, within, &mut peers),
        )?;
        whole += peers.rows - before;
    }
    let mut compared = Compared {
        rows: peers.rows,
        differing: here.differing(&peers),
        examples: Vec::new(),
        ends,
        narrowed: since.map(|since| Narrowed {
            since: since.at,
            rows: whole,
        }),
    };
    if !compared.differing.is_empty() {
        compared.examples = differing::examples(pg, &ours, &theirs, &ranges, &compared.differing).await?;
    }
    for session in [ours, theirs] {
        session.batch("ending a comparison", "COMMIT").await?;
    }
    session.keep();
    Ok(compared)
}

/// The tables, with the columns that are compared: those that the peer writes. All of them must be here too.
pub(super) async fn common<'a>(
    pg: &'a Postgres,
    session: &Session<'_>,
    there: &Session<'_>,
    from: &Peer,
) -> Result<Vec<Table<'a>>, Error> {
    let tables = tables(pg, session, there).await?;
    if let Some(table) = tables.iter().find(|table| !table.missing.is_empty()) {
        let (name, missing) = (&table.sharded.name, table.missing.join(", "));
        let why = format!("table {name} has column {missing} there, and not here: add it here too");
        return Err(refused(from, why));
    }
    Ok(tables)
}

/// Takes the snapshots of `ours` and `theirs` at one place in the log of `from`.
async fn at_one_place(
    pg: &Postgres,
    from: &Peer,
    slots: &SlotSet,
    (ours, there, theirs): (&Session<'_>, &Server, &Session<'_>),
    (soon, until): (&Until, &Until),
) -> Result<(), Error> {
    source::prepare_snapshot(pg, ours, until).await?;
    let armed = pg.server.session().await?;
    let begin = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s'";
    armed.batch("beginning a comparison", begin).await?;
    let id: String = armed.row("beginning a comparison", ARM, &[]).await?.get(0);
    let mut patience = Patience::default();
    while let Err(error) = mark(pg, there, theirs, slots, &id, &patience, until).await {
        patience.after(error, soon).await.map_err(|error| unheld(from, error))?;
        awaited(&armed).await?;
    }
    comes_to(pg, from, &armed, soon).await?;
    source::take_snapshot(ours).await?;
    // Whoever waited for too long went on by himself, and the snapshot may have more.
    if !awaited(&armed).await? {
        return Err(armed.late("comparing rows", ASK_AGAIN));
    }
    armed.batch("letting a link go on", "ROLLBACK").await?;
    armed.keep();
    Ok(())
}

/// What it means that the writers of the slots could not be held.
fn unheld(from: &Peer, error: Error) -> Error {
    if !matches!(error, Error::TimedOut { .. }) {
        return error;
    }
    let why =
        "a transaction there that wrote to these slots does not end (pg_stat_activity, xact_start); it is tried again";
    refused(from, why.to_owned())
}

/// The snapshot of `theirs` and the mark in the peer's log, while nobody writes to these slots.
async fn mark(
    pg: &Postgres,
    there: &Server,
    theirs: &Session<'_>,
    slots: &SlotSet,
    id: &str,
    patience: &Patience,
    until: &Until,
) -> Result<(), Error> {
    let buckets: BTreeSet<_> = slots.iter().map(|slot| slot % 64).collect();
    let buckets: Vec<_> = buckets.iter().map(ToString::to_string).collect();
    let hold = format!(
        "SELECT pg_advisory_xact_lock(27969, b) FROM unnest('{{{}}}'::int[]) b",
        buckets.join(",")
    );
    let holder = there.session().await?;
    source::prepare_snapshot(pg, theirs, until).await?;
    patience.hold(&holder, &hold).await?;
    source::take_snapshot(theirs).await?;
    let write = format!(
        "SELECT multiactive.mark_place({}, {})",
        names::literal(pg.spec.unit.as_str()),
        names::literal(id)
    );
    holder.batch("marking a place in the log", &write).await?;
    // A snapshot that came too late was taken after the peer let its writers go on: then this fails.
    holder.batch("letting the peer's writers go on", "COMMIT").await?;
    holder.keep();
    Ok(())
}

/// Waits until the link's worker has come to the mark.
async fn comes_to(pg: &Postgres, from: &Peer, armed: &Session<'_>, until: &Until) -> Result<(), Error> {
    let mut looked = Instant::now();
    let mut pause = Duration::from_millis(1);
    while !awaited(armed).await? {
        if until.left().is_err() {
            return Err(too_far_behind(from));
        }
        if looked.elapsed() >= LOOK_AT_LINK {
            looked = Instant::now();
            may_come(pg, from).await?;
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(ASK_AGAIN);
    }
    Ok(())
}

async fn awaited(armed: &Session<'_>) -> Result<bool, Error> {
    Ok(armed.row("waiting for a link", AWAITED, &[]).await?.get(0))
}

/// Refuses where the peer's log does not come here, and will not by itself.
async fn may_come(pg: &Postgres, from: &Peer) -> Result<(), Error> {
    match hindered(&links::links(pg).await?, &from.unit) {
        Some(why) => Err(refused(from, why)),
        None => Ok(()),
    }
}
