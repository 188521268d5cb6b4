//! Closing slots: the exclusive lock of their rows, then the change. It waits for every transaction that has written to one of
//! them, and ends those that take too long.

use super::connect::{Session, refusal};
use super::slots::{self, By, Run};
use super::store::{self, raise};
use super::{MariaDb, locks};
use crate::driver::{Blocker, FenceLimits, Grant};
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What was closed, and who was ended for it.
pub(super) struct Closed {
    pub(super) slots: u64,
    pub(super) ended: Vec<Blocker>,
}

/// Who holds a row that session ? waits for: his transaction's age is known to the second, rounded down. All transactions that
/// have not written yet have the number 0; of those only one with locked rows can be meant.
const BLOCKERS: &str = "
    SELECT DISTINCT p.ID, p.USER, IF(p.COMMAND = 'Sleep', 'idle in transaction', 'active'),
           GREATEST(TIMESTAMPDIFF(SECOND, b.trx_started, CONVERT_TZ(SYSDATE(6), '+00:00', 'SYSTEM')) - 1, 0),
           LEFT(IFNULL(p.INFO, ''), 120)
    FROM information_schema.INNODB_TRX r
    JOIN information_schema.INNODB_LOCK_WAITS w ON w.requesting_trx_id = r.trx_id
    JOIN information_schema.INNODB_TRX b ON b.trx_id = w.blocking_trx_id AND (b.trx_id <> 0 OR b.trx_rows_locked > 0)
    JOIN information_schema.PROCESSLIST p ON p.ID = b.trx_mysql_thread_id
    WHERE r.trx_mysql_thread_id = ? ORDER BY p.ID";

/// The same of every session of ours that waits for a slot.
const ALL_BLOCKERS: &str = "
    SELECT DISTINCT p.ID, p.USER, IF(p.COMMAND = 'Sleep', 'idle in transaction', 'active'),
           GREATEST(TIMESTAMPDIFF(SECOND, b.trx_started, CONVERT_TZ(SYSDATE(6), '+00:00', 'SYSTEM')) - 1, 0),
           LEFT(IFNULL(p.INFO, ''), 120)
    FROM information_schema.INNODB_LOCK_WAITS w
    JOIN information_schema.INNODB_TRX r ON r.trx_id = w.requesting_trx_id
    JOIN information_schema.PROCESSLIST o ON o.ID = r.trx_mysql_thread_id
                                         AND o.USER = SUBSTRING_INDEX(CURRENT_USER(), '@', 1)
    JOIN information_schema.INNODB_TRX b ON b.trx_id = w.blocking_trx_id AND (b.trx_id <> 0 OR b.trx_rows_locked > 0)
    JOIN information_schema.PROCESSLIST p ON p.ID = b.trx_mysql_thread_id
    WHERE r.trx_query LIKE '%multiactive.slot %' ORDER BY p.ID";

/// Exactly these rows and no neighbour: a range would ask for the lock of the row behind it too.
const LOCK: &str = "SELECT COUNT(*) FROM multiactive.seq_$first$_to_$last$ q STRAIGHT_JOIN multiactive.slot s ON s.slot = q.seq FOR UPDATE";

type Row = (i64, String, String, i64, String);

/// What a fence has met while it waited.
#[derive(Default)]
pub(super) struct Met {
    /// Since when each session was seen to hold it up.
    since: HashMap<i64, Instant>,
    /// Who held it up when it was last looked at.
    standing: Vec<Blocker>,
    /// Who was ended.
    pub(super) ended: Vec<Blocker>,
}

/// Closes slots, each at its run's epoch. With `table`, only while that is still the newest epoch here.
pub(super) async fn close(
    db: &MariaDb,
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
pub(super) fn refuse_forbidden(forbidden: Option<Epoch>, asked: &[Run]) -> Result<(), Error> {
    match forbidden {
        None => Ok(()),
        Some(held) => Err(Error::Overtaken {
            held,
            asked: asked.iter().map(|run| run.epoch).max().unwrap_or_default(),
        }),
    }
}

/// A prepared transaction of XA has let its locks go, outlives its session and commits later: no fence stands while there is
/// one.
pub(super) async fn refuse_prepared(session: &mut Session<'_>, limits: FenceLimits) -> Result<(), Error> {
    let prepared: Vec<(i64, i64, i64, Vec<u8>)> =
        session.told("looking for prepared transactions", "XA RECOVER").await?;
    if prepared.is_empty() {
        return Ok(());
    }
    let blocker = |(_, _, _, name): &(i64, i64, i64, Vec<u8>)| Blocker {
        pid: 0,
        user: "XA".to_owned(),
        state: "prepared".to_owned(),
        age: Duration::ZERO,
        query: format!("XA COMMIT or XA ROLLBACK '{}'", String::from_utf8_lossy(name)),
    };
    Err(Error::FenceBlocked {
        after: limits.deadline,
        blockers: prepared.iter().map(blocker).collect(),
    })
}

/// A transaction that has the rows of these slots locked: nobody who wrote to one of them can still commit.
pub(super) async fn lock<'a>(
    db: &'a MariaDb,
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
            Err(error) if refusal(&error).is_some_and(is_lost_wait) => {
                return Err(Error::FenceBlocked {
                    after: started.elapsed(),
                    blockers: met.standing.clone(),
                });
            }
            Err(error) => return Err(error),
        }
    }
}

/// In ascending order, so that two fences never wait for each other.
async fn lock_runs(session: &mut Session<'_>, runs: &[Run], started: Instant, deadline: Duration) -> Result<(), Error> {
    for run in runs {
        let sql = LOCK
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

/// Whether a wait for a lock ended without it: in time-out, in a deadlock, or given up.
fn is_lost_wait(code: u16) -> bool {
    [1205, 1213, 1317, 1969].contains(&code)
}

/// Watches who holds up session `id` and ends them when their transaction is older than `grace`. Runs until it fails or is
/// dropped.
async fn end_blockers(db: &MariaDb, id: u32, grants: &[Grant], by: By, grace: Duration, met: &mut Met) -> Error {
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
    db: &MariaDb,
    id: u32,
    grants: &[Grant],
    by: By,
    grace: Duration,
    met: &mut Met,
) -> Result<(), Error> {
    let mut session = db.server.session().await?;
    let rows: Vec<Row> = locks::look(&mut session, BLOCKERS, (id,)).await?;
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
pub(super) async fn blockers(db: &MariaDb) -> Result<Vec<Blocker>, Error> {
    let mut session = db.server.session().await?;
    let rows = locks::look(&mut session, ALL_BLOCKERS, ()).await?;
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
