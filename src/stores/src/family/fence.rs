//! Closing slots: the exclusive lock of their rows, then the change. It waits for every transaction that has written to one of
//! them, and ends those that take too long.

use super::connect::{Session, refusal};
use super::slots::{self, By, Run};
use super::store::{self, raise};
use super::{MySqlFamily, locks};
use crate::driver::{Blocker, FenceLimits, Grant};
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What was closed, and who was ended for it.
pub(crate) struct Closed {
    pub(crate) slots: u64,
    pub(crate) ended: Vec<Blocker>,
}

type Row = (i64, String, String, i64, String);

/// What a fence has met while it waited.
#[derive(Default)]
pub(crate) struct Met {
    /// Since when each session was seen to hold it up.
    since: HashMap<i64, Instant>,
    /// Who held it up when it was last looked at.
    standing: Vec<Blocker>,
    /// Who was ended.
    pub(crate) ended: Vec<Blocker>,
}

/// Closes slots, each at its run's epoch. With `table`, only while that is still the newest epoch here.
pub(crate) async fn close(
    db: &MySqlFamily,
    grants: &[Grant],
    by: By,
    table: Option<Epoch>,
    limits: FenceLimits,
) -> Result<Closed, Error> {
    let mut met = Met::default();
    let mut session = db.server.session().await?;
    let closing = slots::plan(&slots::read(&mut session, grants).await?, grants, by).closing;
    session.keep();
    let mut session = lock(db, &closing, grants, by, limits, &mut met).await?;
    // Whatever table leaves slots open says so under this lock.
    store::lock(&mut session).await?;
    if let Some(table) = table {
        raise(&mut session, table, true).await?;
    }
    let plan = slots::plan(&slots::read(&mut session, grants).await?, grants, by);
    refuse_forbidden(plan.forbidden, &closing)?;
    refuse_prepared(&mut session, limits).await?;
    // What was opened since we looked is not locked: whoever did that came with a newer epoch, and was found above.
    for run in &closing {
        slots::set(&mut session, run, false).await?;
    }
    slots::stamp(&mut session, &closing, false).await?;
    let written = super::position::written(&mut session).await?;
    slots::note_closed(&mut session, &closing, written.seq).await?;
    session.batch("closing slots", "COMMIT").await?;
    session.keep();
    Ok(Closed {
        slots: slots::count(&closing),
        ended: met.ended,
    })
}

/// Refuses where a slot was brought to a newer epoch.
pub(crate) fn refuse_forbidden(forbidden: Option<Epoch>, asked: &[Run]) -> Result<(), Error> {
    match forbidden {
        None => Ok(()),
        Some(held) => Err(Error::Overtaken {
            held,
            asked: asked.iter().map(|run| run.epoch).max().unwrap_or_default(),
        }),
    }
}

/// A prepared transaction of XA outlives its session and commits later: no fence stands while there is one. One of MariaDB has
/// let its locks go; one of MySQL keeps them, and nobody to be ended has them.
pub(crate) async fn refuse_prepared(session: &mut Session<'_>, limits: FenceLimits) -> Result<(), Error> {
    let blockers = prepared(session).await?;
    if blockers.is_empty() {
        return Ok(());
    }
    Err(Error::FenceBlocked {
        after: limits.deadline,
        blockers,
    })
}

async fn prepared(session: &mut Session<'_>) -> Result<Vec<Blocker>, Error> {
    let prepared: Vec<(i64, i64, i64, Vec<u8>)> =
        session.told("looking for prepared transactions", "XA RECOVER").await?;
    let blocker = |(_, _, _, name): &(i64, i64, i64, Vec<u8>)| Blocker {
        pid: 0,
        user: "XA".to_owned(),
        state: "prepared".to_owned(),
        age: Duration::ZERO,
        query: format!("XA COMMIT or XA ROLLBACK '{}'", String::from_utf8_lossy(name)),
    };
    Ok(prepared.iter().map(blocker).collect())
}

/// A transaction that has the rows of these slots locked: nobody who wrote to one of them can still commit.
pub(crate) async fn lock<'a>(
    db: &'a MySqlFamily,
    runs: &[Run],
    grants: &[Grant],
    by: By,
    limits: FenceLimits,
    met: &mut Met,
) -> Result<Session<'a>, Error> {
    let started = Instant::now();
    loop {
        let mut session = db.server.session().await?;
        let id = session.id();
        session.batch("fencing", "START TRANSACTION").await?;
        let locked = {
            let lock = lock_runs(&mut session, runs, started, limits.deadline);
            let watch = end_blockers(db, id, grants, by, limits.grace, met);
            tokio::select! {
                biased;
                locked = lock => locked,
                failed = watch => Err(failed),
            }
        };
        match locked {
            Ok(()) => return Ok(session),
            // Two sessions that wait for each other: InnoDB chose us. Again, while there is time.
            Err(error) if refusal(&error) == Some(1213) && started.elapsed() < limits.deadline => {}
            Err(error) if refusal(&error).is_some_and(|code| db.server.dialect.lost_waits.contains(&code)) => {
                let mut blockers = met.standing.clone();
                let mut session = db.server.session().await?;
                blockers.extend(prepared(&mut session).await?);
                session.keep();
                return Err(Error::FenceBlocked {
                    after: started.elapsed(),
                    blockers,
                });
            }
            Err(error) => return Err(error),
        }
    }
}

/// In ascending order, so that two fences never wait for each other.
async fn lock_runs(session: &mut Session<'_>, runs: &[Run], started: Instant, deadline: Duration) -> Result<(), Error> {
    for run in runs {
        let sql = session.dialect().lock_slots;
        let sql = sql
            .replace("$first$", &run.first.to_string())
            .replace("$last$", &run.last.to_string());
        loop {
            match session.told::<i64>("locking slots", &sql).await {
                Ok(_) => break,
                // No statement waits for more than a second; what it has locked stays so.
                Err(error) if refusal(&error) == Some(1205) && started.elapsed() < deadline => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Watches who holds up session `id` and ends them when their transaction is older than `grace`. Runs until it fails or is
/// dropped.
async fn end_blockers(db: &MySqlFamily, id: u32, grants: &[Grant], by: By, grace: Duration, met: &mut Met) -> Error {
    loop {
        // A lock that is free is granted in well under this.
        sleep(Duration::from_millis(20)).await;
        match end_once(db, id, grants, by, grace, met).await {
            Ok(()) => {}
            Err(error) => return error,
        }
    }
}

async fn end_once(
    db: &MySqlFamily,
    id: u32,
    grants: &[Grant],
    by: By,
    grace: Duration,
    met: &mut Met,
) -> Result<(), Error> {
    let mut session = db.server.session().await?;
    let rows: Vec<Row> = locks::look(&mut session, db.server.dialect.blockers, (id,)).await?;
    met.standing.clear();
    for row in rows {
        let number = row.0;
        let held_up = met.since.entry(number).or_insert_with(Instant::now).elapsed();
        let mut blocker = blocker(row);
        blocker.age = blocker.age.max(held_up);
        met.standing.push(blocker.clone());
        if blocker.age < grace {
            continue;
        }
        // A table may have come meanwhile that leaves the slots open: nobody is ended for a fence that closes nothing.
        let plan = slots::plan(&slots::read(&mut session, grants).await?, grants, by);
        refuse_forbidden(plan.forbidden, &plan.closing)?;
        // Noted first: once the session ends, the fence goes on and this function is dropped where it stands.
        if !met.ended.iter().any(|known| known.pid == blocker.pid) {
            tracing::warn!(at = %db.server.at, %blocker, "ending a session that holds up the fence");
            met.ended.push(blocker.clone());
        }
        let sql = format!("KILL CONNECTION {number}");
        match session.batch("ending a session that holds up the fence", &sql).await {
            Ok(()) => {}
            // 1094: it is gone.
            Err(error) if refusal(&error) == Some(1094) => {}
            Err(error) => {
                met.ended.retain(|ended| ended.pid != blocker.pid);
                tracing::warn!(at = %db.server.at, %blocker, error = %error.explain(), "ending a session failed");
            }
        }
    }
    session.keep();
    Ok(())
}

/// Whom a session of ours waits for that locks slots.
pub(crate) async fn blockers(db: &MySqlFamily) -> Result<Vec<Blocker>, Error> {
    let mut session = db.server.session().await?;
    let rows = locks::look(&mut session, db.server.dialect.all_blockers, ()).await?;
    session.keep();
    Ok(rows.into_iter().map(blocker).collect())
}

fn blocker((number, user, state, seconds, query): Row) -> Blocker {
    Blocker {
        pid: i32::try_from(number).unwrap_or(i32::MAX),
        user,
        state,
        age: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
        query,
    }
}
