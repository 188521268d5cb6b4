//! Taking over from a survivor what it has received more of a lost unit.
//!
//! Both are cut off from the lost unit, and nobody has its slots open: so the rows of these slots stand still at both, and are the
//! lost unit's log as far as each has it. Those that differ are copied from a snapshot of the survivor's, out of the log, in the
//! transaction that says how far the log is here now. It holds the cut: an operation that goes on without the tail waits for it or
//! comes first, and a unit that is joined again is not overwritten by what comes too late. The other links into this server stand
//! still meanwhile, as in every copy: they would wait for its locks, and it for theirs.

use super::connect::Session;
use super::copy::{Job, keep_closed, replace, writer};
use super::gtid::Gtid;
use super::reseed::{go_on, guard, refused, while_guarded};
use super::snapshot::{self, Table};
use super::{MySqlFamily, applied, checksum, cut, links, peer};
use crate::driver::{Peer, Tail, TailTaken};
use crate::error::Error;
use crate::until::Until;
use multiactive_core::slots::SlotSet;
use std::time::Duration;

pub(crate) async fn take_tail(
    db: &MySqlFamily,
    tail: &Tail,
    from: &Peer,
    timeout: Duration,
) -> Result<TailTaken, Error> {
    let until = Until::new(&db.server.at, "copying rows", timeout);
    let guard = guard(db, from).await?;
    let number = guard.id();
    let taken = while_guarded(guard, guarded(db, tail, from, number, &until)).await?;
    if let Some(upto) = &taken.upto {
        tracing::warn!(at = %db.server.at, from = %from.unit, lost = %tail.lost, slots = %taken.slots, written = taken.written,
                       removed = taken.removed, upto, "what it had received more was taken over");
    }
    Ok(taken)
}

/// Copies while session `guard` holds the lock.
async fn guarded(db: &MySqlFamily, tail: &Tail, from: &Peer, guard: u32, until: &Until) -> Result<TailTaken, Error> {
    let mut session = db.server.session().await?;
    let server = peer::server(db, from);
    let mut there = server.foreign().await?;
    let tables = snapshot::tables(db, &mut session, &mut there).await?;
    let tables = tables.map_err(|why| refused(from, why))?;
    links::lock(&mut session).await?;
    let running = applied::stand_still(db).await?;
    links::unlock(&mut session).await?;
    let job = Job {
        db,
        from,
        tables: &tables,
        guard,
        until,
    };
    let done = copy(&job, tail, &mut there).await;
    // Whether it went well or not.
    go_on(&mut session, running).await?;
    let taken = done?;
    session.keep();
    Ok(taken)
}

async fn copy(job: &Job<'_>, tail: &Tail, there: &mut Session<'_>) -> Result<TailTaken, Error> {
    let Job { db, until, .. } = job;
    let mut writer = writer(db, until).await?;
    let here = hold_cut(job, &mut writer, tail).await?;
    snapshot::take(there, until.left()?).await?;
    let Some(theirs) = offered(job, there, tail).await? else {
        return Ok(TailTaken::default());
    };
    if let Some(here) = here {
        if here.log != theirs.log {
            let why = format!(
                "what is applied of {} is of another log there: {theirs}, and {here} here",
                tail.lost
            );
            return Err(refused(job.from, why));
        }
        if theirs.seq <= here.seq {
            return Ok(TailTaken::default());
        }
    }
    let mut taken = TailTaken {
        upto: Some(theirs.to_string()),
        ..TailTaken::default()
    };
    for table in job.tables {
        let slots = differ(job, (&mut writer, there), table, &tail.slots).await?;
        if slots.is_empty() {
            continue;
        }
        let (written, removed) = replace(job, &mut writer, there, table, &slots).await?;
        taken.written += written;
        taken.removed += removed;
        taken.slots = taken.slots.union(&slots);
    }
    let sql = "UPDATE multiactive.cut SET repaired = ? WHERE from_unit = ?";
    let params = (theirs.to_string(), tail.lost.as_str());
    writer.change("noting what was taken over", sql, params).await?;
    writer.batch("ending a copy", "COMMIT").await?;
    Ok(taken)
}

/// The slots whose rows in one table differ.
async fn differ(
    job: &Job<'_>,
    (here, there): (&mut Session<'_>, &mut Session<'_>),
    table: &Table<'_>,
    slots: &SlotSet,
) -> Result<SlotSet, Error> {
    let within = (table, checksum::EVERYTHING);
    let (ours, theirs) = snapshot::sums(job.db, (here, there), within, slots, job.until).await?;
    Ok(ours.differing(&theirs))
}

/// Holds the cut and the slots as they are until the end of the transaction; how far the lost unit's log is here.
async fn hold_cut(job: &Job<'_>, writer: &mut Session<'_>, tail: &Tail) -> Result<Option<Gtid>, Error> {
    let Some(held) = cut::noted(writer, &tail.lost, true).await?.filter(|cut| cut.stands) else {
        return Err(Error::NotCut {
            from: tail.lost.clone(),
        });
    };
    if held.epoch > tail.epoch {
        let (held, asked) = (held.epoch, tail.epoch);
        return Err(Error::Overtaken { held, asked });
    }
    let sql = "SELECT op FROM multiactive.reached WHERE op = ? AND (term, epoch) >= (?, ?) LIMIT 1";
    let params = (tail.op.as_str(), tail.epoch.term, tail.epoch.epoch);
    let reached: Vec<String> = writer.rows("looking for what is reached", sql, params).await?;
    if !reached.is_empty() {
        let why = format!("operation {} goes on without its rows", tail.op);
        return Err(refused(job.from, why));
    }
    let open = keep_closed(writer, &tail.slots).await?;
    match open.is_empty() {
        true => held.reached(),
        false => Err(refused(job.from, format!("slots {open} are open here"))),
    }
}

/// How far the survivor has the lost unit's log, in this session's snapshot; `None` where it has nothing.
async fn offered(job: &Job<'_>, there: &mut Session<'_>, tail: &Tail) -> Result<Option<Gtid>, Error> {
    let Some(cut) = cut::noted(there, &tail.lost, false).await?.filter(|cut| cut.stands) else {
        return Err(refused(job.from, format!("{} is not cut off there", tail.lost)));
    };
    let open = peer::open(there).await?.intersection(&tail.slots);
    match open.is_empty() {
        true => cut.reached(),
        false => Err(refused(job.from, format!("slots {open} are open there"))),
    }
}
