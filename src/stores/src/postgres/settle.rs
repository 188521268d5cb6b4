//! Settling what two units wrote at the same time, in a store that several write.
//!
//! 1. The rows that are not the same here and there are looked at, with plain reads.
//! 2. Each side waits until it has all that the other had written by then. What is still the same two versions differs for good:
//!    neither is on its way to the other.
//! 3. What becomes of each is decided, and done, in one transaction (`decide`).
//!
//! What a third unit wrote comes to each of the two by a link of its own. It is waited for too, for a while: where it is away,
//! what only one of the two has got of it may be listed.

use super::connect::Session;
use super::decide::{Job, is_in_the_way};
use super::names;
use super::reseed::Table;
use super::source::{self, Until};
use super::wait::lsn;
use super::{Postgres, checksum, compare, copy, differing, noted, peer, placed};
use crate::compared::{refused, too_far_behind, unlike};
use crate::conflict::{Batches, Candidate, Conflicts, Settled, Winner, candidates, passes};
use crate::driver::Peer;
use crate::error::Error;
use multiactive_core::slots::SlotSet;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::ToSql;

/// How long each side may take to get what the other has written, and what third units have.
const EXCHANGE: Duration = Duration::from_secs(30);
const THIRD: Duration = Duration::from_secs(10);

/// How long writers of some rows at the peer may wait while it is seen whether all is seen, in milliseconds.
const SHOWN: u32 = 400;

/// The longest pause between two looks whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// How far the log is, before a row that is written now.
const BEAT: &str = "SELECT place FROM multiactive.beat()";

/// What is listed of slots $1, tables and keys $2 and $3 apart, differs no more.
const CLOSE: &str = "
    UPDATE multiactive.conflict c SET settled = clock_timestamp()
    WHERE settled IS NULL AND slot <@ $1::text::int4multirange
      AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS k(tab, key) WHERE k.tab = c.tab AND k.key::jsonb = c.key)";

const FORGET: &str = "DELETE FROM multiactive.conflict WHERE settled < clock_timestamp() - interval '30 days'";

/// How many there are.
pub(super) async fn conflicts(session: &Session<'_>) -> Result<Conflicts, Error> {
    let sql = "SELECT count(*) FILTER (WHERE settled IS NULL), count(settled) FROM multiactive.conflict";
    let row = session.row("counting conflicts", sql, &[]).await?;
    let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
    Ok(Conflicts {
        open: count(0),
        settled: count(1),
    })
}

pub(super) async fn settle(
    pg: &Postgres,
    from: &Peer,
    winner: &Winner,
    (slots, of): (&SlotSet, &SlotSet),
    timeout: Duration,
) -> Result<Settled, Error> {
    let until = Until::new(&pg.server.at, "settling conflicts", timeout);
    let mut session = pg.server.session().await?;
    placed::demand(&session).await?;
    let mut settled = Settled::default();
    let mut differ: (Vec<String>, Vec<String>) = Default::default();
    let server = peer::server(pg, from);
    if !slots.is_empty() {
        let (mut there, mut writer) = (server.session().await?, pg.server.session().await?);
        source::demand_rights(pg, &there, from).await?;
        let tables = compare::common(pg, &session, &there, from).await?;
        for session in [&mut session, &mut there, &mut writer] {
            lasts(session, &until).await?;
        }
        copy::as_a_link(pg, &writer).await?;
        for table in &tables {
            let job = Job::new(pg, from, winner, table, &session).await?;
            let (done, keys) = through(&job, (&session, &there, &writer), slots, &until).await?;
            settled.join(done);
            let tabs = std::iter::repeat_n(table.sharded.name.clone(), keys.len());
            differ.0.extend(tabs);
            differ.1.extend(keys);
        }
    }
    let params: [&(dyn ToSql + Sync); 3] = [&names::slots(of), &differ.0, &differ.1];
    session.change("closing conflicts", CLOSE, &params).await?;
    session.change("forgetting conflicts", FORGET, &[]).await?;
    pg.counted.note(None);
    Ok(settled)
}

/// Lets the session's statements take so long: it is not kept afterwards.
async fn lasts(session: &mut Session<'_>, until: &Until) -> Result<(), Error> {
    let left = until.left()?;
    session.limit(left);
    let sql = format!(
        "SET statement_timeout = {}",
        left.as_millis().clamp(1, i32::MAX as u128)
    );
    session.batch("settling conflicts", &sql).await
}

/// What came of one table's rows of these slots, and the keys of those that may differ still.
async fn through(
    job: &Job<'_>,
    (session, there, writer): (&Session<'_>, &Session<'_>, &Session<'_>),
    slots: &SlotSet,
    until: &Until,
) -> Result<(Settled, Vec<String>), Error> {
    let Table { sharded, columns, .. } = job.table;
    let named = job.named();
    let named = (job.key.as_slice(), named.as_str());
    let rows = differing::rows(job.pg, sharded, columns, named, checksum::EVERYTHING);
    let (ours, theirs) = tokio::try_join!(
        differing::groups(session, &rows, slots),
        differing::groups(there, &rows, slots)
    )?;
    let rows_of = |group: Option<&(i64, String)>| group.map_or(0, |(rows, _)| rows.unsigned_abs());
    let groups = unlike(&ours, &theirs).map(|(group, ours, theirs)| (*group, rows_of(ours) + rows_of(theirs)));
    let (mut settled, mut still) = (Settled::default(), Vec::new());
    for groups in passes(groups) {
        let (ours, theirs) = tokio::try_join!(
            differing::keys(session, &rows, slots, &groups),
            differing::keys(there, &rows, slots, &groups)
        )?;
        let found = candidates(&ours, &theirs);
        if found.is_empty() {
            continue;
        }
        let whole = exchange(job, session, there, until).await?;
        let hidden = hidden(there, &found).await?;
        let (found, hidden): (Vec<_>, Vec<_>) = found.into_iter().partition(|row| !hidden.contains(&bucket(row)));
        settled.moving += u64::try_from(hidden.len()).unwrap_or_default();
        still.extend(hidden.into_iter().map(|row| row.key));
        let mut batches = Batches::of(&found);
        while let Some(batch) = batches.next() {
            until.left()?;
            if let Some((done, noted)) = job.decide(writer, there, batch, whole).await? {
                settled.join(done);
                still.extend(noted);
            } else if let Some(key) = batches.again(batch) {
                settled.moving += 1;
                still.push(key.to_owned());
            }
        }
    }
    Ok((settled, still))
}

/// Waits until each side has all that the other has written by now, and for a while what third units have; whether both have got
/// the same of these.
async fn exchange(job: &Job<'_>, session: &Session<'_>, there: &Session<'_>, until: &Until) -> Result<bool, Error> {
    let (spec, theirs) = (&job.pg.spec, &job.from.unit);
    let place = |session| async move {
        let row = Session::row(session, "asking how far a log is", BEAT, &[]).await?;
        lsn(row.get(0))
    };
    let (own, peers) = tokio::try_join!(place(session), place(there))?;
    let limit = Instant::now() + EXCHANGE.min(until.left()?);
    if !comes(session, &names::link(spec, theirs, &spec.unit), peers, limit).await? {
        return Err(too_far_behind(job.from));
    }
    if !comes(there, &names::link(spec, &spec.unit, theirs), own, limit).await? {
        let why = "what was written here has not come there yet: see its link from here; it is tried again";
        return Err(refused(job.from, why.to_owned()));
    }
    let limit = Instant::now() + THIRD.min(until.left()?);
    let mut whole = true;
    for third in spec.peers.iter().filter(|third| *third != theirs) {
        let to_us = names::link(spec, third, &spec.unit);
        let to_them = names::link(spec, third, theirs);
        let (here, at_peer) = (progress(session, &to_us).await?, progress(there, &to_them).await?);
        whole &= comes(session, &to_us, at_peer.unwrap_or_default(), limit).await?;
        whole &= comes(there, &to_them, here.unwrap_or_default(), limit).await?;
    }
    Ok(whole)
}

/// The lock that whoever writes the row holds until others see what he wrote, see `compare`.
fn bucket(row: &Candidate<i64>) -> u16 {
    row.slot % 64
}

/// Waits until all is seen at the peer that it had sent of these rows when they were looked at: a commit that waits for a standby
/// is not, and may be applied here. The buckets of those that may not be.
async fn hidden(there: &Session<'_>, rows: &[Candidate<i64>]) -> Result<BTreeSet<u16>, Error> {
    let mut hidden = BTreeSet::new();
    let buckets: BTreeSet<u16> = rows.iter().map(bucket).collect();
    for bucket in buckets {
        let hold = format!(
            "BEGIN; SET LOCAL lock_timeout = '{SHOWN}ms'; SELECT pg_advisory_xact_lock(27969, {bucket}); COMMIT"
        );
        match there.batch("waiting for commits", &hold).await {
            Ok(()) => {}
            Err(error) if is_in_the_way(&error) => {
                there.batch("waiting for commits", "ROLLBACK").await?;
                hidden.insert(bucket);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(hidden)
}

async fn progress(session: &Session<'_>, link: &str) -> Result<Option<u64>, Error> {
    noted::applied(session, link).await?.as_deref().map(lsn).transpose()
}

/// Waits until a link has brought what stands before a place; whether it has in time.
async fn comes(session: &Session<'_>, link: &str, place: u64, limit: Instant) -> Result<bool, Error> {
    let mut pause = Duration::from_millis(2);
    while progress(session, link).await?.unwrap_or_default() < place {
        if Instant::now() > limit {
            return Ok(false);
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LOOK_AGAIN);
    }
    Ok(true)
}
