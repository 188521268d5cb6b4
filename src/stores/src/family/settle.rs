//! Settling what two units wrote at the same time, in a store that several write.
//!
//! 1. The rows that are not the same here and there are looked at, with plain reads.
//! 2. Each side waits until it has all that the other has in its log by then, its own and what it got of others. What is still the
//!    same two versions differs for good: neither is on its way to the other.
//! 3. What becomes of each is decided, and done, in one transaction (`decide`).

use super::checksum;
use super::compare::{lacks, may_come};
use super::connect::Session;
use super::decide::Job;
use super::gtid::{Gtid, Log};
use super::logs::Logs;
use super::{MySqlFamily, applied, differing, peer, placed, snapshot};
use crate::compared::{refused, too_far_behind, unlike};
use crate::conflict::{Batches, Conflicts, Settled, Winner, candidates, passes};
use crate::driver::Peer;
use crate::error::Error;
use crate::until::Until;
use multiactive_core::slots::{Slot, SlotSet};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long each side may take to get what the other has.
const EXCHANGE: Duration = Duration::from_secs(30);

/// How long the peer may take to show what it has sent.
const SHOWN: Duration = Duration::from_secs(4);

/// The longest pause between two looks whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// How many there are.
pub(crate) async fn conflicts(session: &mut Session<'_>) -> Result<Conflicts, Error> {
    let sql = "SELECT COUNT(*) - COUNT(settled), COUNT(settled) FROM multiactive.conflict";
    let (open, settled) = session.row("counting conflicts", sql, ()).await?;
    Ok(Conflicts { open, settled })
}

pub(crate) async fn settle(
    db: &MySqlFamily,
    from: &Peer,
    winner: &Winner,
    (slots, of): (&SlotSet, &SlotSet),
    timeout: Duration,
) -> Result<Settled, Error> {
    let until = Until::new(&db.server.at, "settling conflicts", timeout);
    let server = peer::server(db, from);
    let mut session = db.server.session().await?;
    placed::demand(&mut session).await?;
    let mut settled = Settled::default();
    let mut differ = BTreeSet::new();
    if !slots.is_empty() {
        may_come(db, from).await?;
        let (mut there, mut writer) = (server.foreign().await?, db.server.session().await?);
        let tables = snapshot::tables(db, &mut session, &mut there)
            .await?
            .map_err(|why| refused(from, why))?;
        // None of these is kept afterwards.
        for session in [&mut session, &mut there, &mut writer] {
            snapshot::lasts(session, until.left()?).await?;
        }
        for table in &tables {
            let job = Job::new(db, from, winner, table, &mut session).await?;
            job.begin(&mut writer).await?;
            let sessions = (&mut session, &mut there, &mut writer);
            let (done, keys) = through(&job, sessions, slots, &until).await?;
            settled.join(done);
            differ.extend(keys.into_iter().map(|key| (table.sharded.name.clone(), key)));
        }
    }
    close(&mut session, of, &differ).await?;
    db.counted.note(None);
    Ok(settled)
}

/// What is listed of these slots, and differs no more, counts as settled.
async fn close(session: &mut Session<'_>, of: &SlotSet, differ: &BTreeSet<(String, String)>) -> Result<(), Error> {
    let sql = "SELECT number, slot, tab, name FROM multiactive.conflict WHERE settled IS NULL";
    let open: Vec<(u64, Slot, String, String)> = session.rows("closing conflicts", sql, ()).await?;
    let over = open.into_iter().filter(|(_, slot, ..)| of.contains(*slot));
    let over = over.filter(|(_, _, tab, name)| !differ.contains(&(tab.clone(), name.clone())));
    for (number, ..) in over {
        let sql = "UPDATE multiactive.conflict SET settled = SYSDATE(6) WHERE number = ?";
        session.change("closing conflicts", sql, (number,)).await?;
    }
    let sql = "DELETE FROM multiactive.conflict WHERE settled < SYSDATE(6) - INTERVAL 30 DAY";
    session.change("forgetting conflicts", sql, ()).await.map(drop)
}

/// What came of one table's rows of these slots, and the keys of those that may differ still.
async fn through(
    job: &Job<'_>,
    (session, there, writer): (&mut Session<'_>, &mut Session<'_>, &mut Session<'_>),
    slots: &SlotSet,
    until: &Until,
) -> Result<(Settled, Vec<String>), Error> {
    let table = job.table;
    let rows = differing::rows(job.db, table.sharded, &table.columns, &job.key, checksum::EVERYTHING);
    let (ours, theirs) = tokio::try_join!(
        differing::groups(session, &rows, slots),
        differing::groups(there, &rows, slots)
    )?;
    let rows_of = |group: Option<&(u64, String)>| group.map_or(0, |(rows, _)| *rows);
    let groups = unlike(&ours, &theirs).map(|(group, ours, theirs)| (*group, rows_of(ours) + rows_of(theirs)));
    let (mut settled, mut still) = (Settled::default(), Vec::new());
    for groups in passes(groups) {
        let ((ours, mut by_key), (theirs, more)) =
            tokio::try_join!(job.keys(session, slots, &groups), job.keys(there, slots, &groups))?;
        by_key.extend(more);
        let found = candidates(&ours, &theirs);
        if found.is_empty() {
            continue;
        }
        let log = exchange(job.from, session, there, until).await?;
        if !shown(session, there, log, until).await? {
            settled.moving += u64::try_from(found.len()).unwrap_or_default();
            still.extend(found.into_iter().map(|row| row.key));
            continue;
        }
        let mut batches = Batches::of(&found);
        while let Some(batch) = batches.next() {
            if let Some((done, noted)) = job.decide(writer, there, &by_key, batch, until).await? {
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

/// Waits until each side has all that the other has in its log by now; the name of the peer's own log.
async fn exchange(
    from: &Peer,
    session: &mut Session<'_>,
    there: &mut Session<'_>,
    until: &Until,
) -> Result<Log, Error> {
    let (ours, theirs) = (Logs::read(session).await?, Logs::read(there).await?);
    let limit = Instant::now() + EXCHANGE.min(until.left()?);
    if !comes(session, &theirs.all, ours.own, limit).await? {
        return Err(too_far_behind(from));
    }
    if !comes(there, &ours.all, theirs.own, limit).await? {
        let why = "what was written here has not come there yet: see its link from here; it is tried again";
        return Err(refused(from, why.to_owned()));
    }
    Ok(theirs.own)
}

/// Waits until all is seen at the peer that has come of its log: a commit that waits for a standby is not. Whether it was in time.
async fn shown(session: &mut Session<'_>, there: &mut Session<'_>, log: Log, until: &Until) -> Result<bool, Error> {
    let come = Gtid::of(&applied::read(session).await?, log);
    let soon = Until::new("the peer", "waiting for commits", SHOWN.min(until.left()?));
    let seen = match snapshot::take_behind(there, come, &soon).await {
        Ok(_) => true,
        Err(Error::TimedOut { .. }) => false,
        Err(error) => return Err(error),
    };
    there.batch("waiting for commits", "ROLLBACK").await?;
    snapshot::lasts(there, until.left()?).await?;
    Ok(seen)
}

/// Waits until all of these logs have come, but for its own; whether they have in time.
async fn comes(session: &mut Session<'_>, places: &[Gtid], own: Log, limit: Instant) -> Result<bool, Error> {
    let mut pause = Duration::from_millis(2);
    while lacks(places, &applied::read(session).await?, own).is_some() {
        if Instant::now() > limit {
            return Ok(false);
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LOOK_AGAIN);
    }
    Ok(true)
}
