//! Closing slots: the exclusive lock of their buckets, then the rows. It waits for every transaction that has written
//! to one of the buckets, and ends those that take too long.

use super::Postgres;
use super::connect::Session;
use super::grants::{Wanted, params, raise, wanted};
use super::inspect::epoch;
use crate::driver::{Blocker, FenceLimits};
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::ToSql;

/// What was closed, and who was ended for it.
pub(super) struct Closed {
    pub(super) slots: u64,
    pub(super) ended: Vec<Blocker>,
}

/// In ascending order, so that two fences never wait for each other.
const LOCK: &str = "SELECT pg_advisory_xact_lock(27969, b) FROM unnest($1::int[]) b";

/// Closes slots, and notes how far the log has come: no writer of theirs is in flight.
const CLOSE: &str = wanted!(
    ", shut AS (
         UPDATE multiactive.slot s SET open = false, term = p.term, epoch = p.epoch, server_start = NULL
         FROM pair p
         WHERE s.keyspace = $1 AND s.slot = p.slot AND NOT p.open AND s.open AND (s.term, s.epoch) <= (p.term, p.epoch)
           AND (p.is_term, p.is_epoch) <= (p.term, p.epoch)
         RETURNING s.slot
     )
     INSERT INTO multiactive.closed (keyspace, slot, at) SELECT $1, slot, pg_current_wal_insert_lsn() FROM shut
     ON CONFLICT (keyspace, slot) DO UPDATE SET at = excluded.at"
);

/// The newest epoch of a slot to close that is beyond ours.
const OVERTAKEN: &str = wanted!(
    "SELECT is_term, is_epoch, term, epoch FROM pair WHERE NOT open AND is_open AND (is_term, is_epoch) > (term, epoch)
     ORDER BY is_term DESC, is_epoch DESC LIMIT 1"
);

/// Who holds a shared lock that $1 waits for; whether that one waits for us in turn.
const BLOCKERS: &str = "
    SELECT DISTINCT a.pid, coalesce(a.usename::text, ''), coalesce(a.state, ''),
           extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8,
           left(coalesce(a.query, ''), 120), $1 = ANY (pg_blocking_pids(a.pid))
    FROM pg_locks w
    JOIN pg_locks h USING (locktype, database, classid, objid, objsubid)
    JOIN pg_stat_activity a ON a.pid = h.pid
    WHERE w.pid = $1 AND NOT w.granted AND w.locktype = 'advisory' AND h.granted AND h.pid <> $1
    ORDER BY a.pid";

/// Closes the slots that `wanted` closes, all of whose buckets are in `buckets`. With `table`, only while that is still
/// the newest epoch here.
pub(super) async fn close(
    pg: &Postgres,
    wanted: &Wanted,
    buckets: &[i32],
    table: Option<Epoch>,
    limits: FenceLimits,
) -> Result<Closed, Error> {
    let started = Instant::now();
    let mut ended = Vec::new();
    loop {
        let left = limits.deadline.saturating_sub(started.elapsed());
        let mut session = pg.server.session().await?;
        session.limit(left + Duration::from_secs(1));
        let begin = format!(
            "BEGIN; SET LOCAL lock_timeout = {0}; SET LOCAL statement_timeout = {0}",
            left.as_millis().max(1)
        );
        session.batch("fencing", &begin).await?;
        let pid: i32 = session.row("fencing", "SELECT pg_backend_pid()", &[]).await?.get(0);
        let locked = {
            let params: [&(dyn ToSql + Sync); 1] = [&buckets];
            let lock = session.rows("locking slots", LOCK, &params);
            let watch = end_blockers(pg, pid, wanted, limits.grace, &mut ended);
            tokio::select! {
                biased;
                locked = lock => locked,
                failed = watch => Err(failed),
            }
        };
        match locked {
            Ok(_) => {
                // Whatever table leaves slots open says so under this lock.
                session
                    .batch("fencing", "SELECT FROM multiactive.store FOR UPDATE")
                    .await?;
                if let Some(table) = table {
                    raise(&session, table, true).await?;
                }
                let slots = session
                    .change("closing slots", CLOSE, params!(pg.spec.keyspace.name.as_str(), wanted))
                    .await?;
                session.batch("closing slots", "COMMIT").await?;
                session.keep();
                return Ok(Closed { slots, ended });
            }
            // Two sessions that wait for each other: PostgreSQL chose us. Again, while there is time.
            Err(error) if started.elapsed() < limits.deadline && is_lost_wait(&error) => {}
            Err(error) if is_lost_wait(&error) => {
                // Dropping our session ended its wait, but the holders are the same.
                let blockers = holders(pg, buckets).await?;
                return Err(Error::FenceBlocked {
                    after: started.elapsed(),
                    blockers,
                });
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether a wait for a lock ended without it: in time-out, in a deadlock, or as we had it cancelled.
pub(super) fn is_lost_wait(error: &Error) -> bool {
    let Error::Query { source, .. } = error else {
        return matches!(error, Error::TimedOut { .. });
    };
    let code = source
        .downcast_ref::<tokio_postgres::Error>()
        .and_then(tokio_postgres::Error::code);
    code.is_some_and(|code| ["55P03", "57014", "40P01"].contains(&code.code()))
}

/// Watches who holds up session `pid` and ends them: at once who waits for us in turn, others when their transaction is
/// older than `grace`. Runs until it fails or is dropped.
async fn end_blockers(pg: &Postgres, pid: i32, wanted: &Wanted, grace: Duration, ended: &mut Vec<Blocker>) -> Error {
    // A lock that is free is granted in well under this.
    let mut pause = Duration::from_millis(20).min(grace);
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
        match end_once(pg, pid, wanted, grace, ended).await {
            Ok(()) => {}
            Err(error) => return error,
        }
    }
}

async fn end_once(
    pg: &Postgres,
    pid: i32,
    wanted: &Wanted,
    grace: Duration,
    ended: &mut Vec<Blocker>,
) -> Result<(), Error> {
    let session = pg.server.session().await?;
    for row in session
        .rows("listing who holds up the fence", BLOCKERS, &[&pid])
        .await?
    {
        let blocker = blocker(&row);
        let waits_for_us: bool = row.get(5);
        let (name, sql) = if blocker.age >= grace {
            (
                "ending a session that holds up the fence",
                "SELECT pg_terminate_backend($1)",
            )
        } else if waits_for_us {
            (
                "cancelling a statement that waits for the fence",
                "SELECT pg_cancel_backend($1)",
            )
        } else {
            continue;
        };
        // A table may have come meanwhile that leaves the slots open: nobody is ended for a fence that closes nothing.
        overtaken(pg, &session, wanted).await?;
        // Noted first: once the session ends, the fence goes on and this function is dropped where it stands.
        let known = ended.iter().any(|known| known.pid == blocker.pid);
        if !known {
            tracing::warn!(at = %pg.server.at, %blocker, "{name}");
            ended.push(blocker.clone());
        }
        // A session of a superuser may be beyond our rights: it stays a blocker, and the deadline reports it.
        if let Err(error) = session.rows(name, sql, &[&blocker.pid]).await {
            ended.retain(|ended| ended.pid != blocker.pid);
            tracing::warn!(at = %pg.server.at, %blocker, error = %error.explain(), "{name} failed");
        }
    }
    session.keep();
    Ok(())
}

/// Refuses to go on for slots that were brought to a newer epoch.
async fn overtaken(pg: &Postgres, session: &Session<'_>, wanted: &Wanted) -> Result<(), Error> {
    let keyspace = pg.spec.keyspace.name.as_str();
    let rows = session
        .rows("comparing slots", OVERTAKEN, params!(keyspace, wanted))
        .await?;
    rows.first().map_or(Ok(()), |row| {
        Err(Error::Overtaken {
            held: epoch(row.get(0), row.get(1)),
            asked: epoch(row.get(2), row.get(3)),
        })
    })
}

/// Whom a session of ours waits for that locks buckets.
pub(super) async fn blockers(pg: &Postgres) -> Result<Vec<Blocker>, Error> {
    let sql = "SELECT DISTINCT a.pid, coalesce(a.usename::text, ''), coalesce(a.state, ''),
                      extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8,
                      left(coalesce(a.query, ''), 120)
               FROM pg_stat_activity o
               JOIN pg_locks w ON w.pid = o.pid AND NOT w.granted AND w.locktype = 'advisory' AND w.classid = 27969
               JOIN pg_locks h USING (locktype, database, classid, objid, objsubid)
               JOIN pg_stat_activity a ON a.pid = h.pid
               WHERE o.usename = current_user AND o.datname = current_database() AND o.application_name = 'multiactive'
                 AND h.granted AND h.pid <> w.pid ORDER BY a.pid";
    let session = pg.server.session().await?;
    let rows = session.rows("listing who holds up the fence", sql, &[]).await?;
    session.keep();
    Ok(rows.iter().map(blocker).collect())
}

/// Every session that holds one of the buckets now.
async fn holders(pg: &Postgres, buckets: &[i32]) -> Result<Vec<Blocker>, Error> {
    let session: Session<'_> = pg.server.session().await?;
    let sql = "SELECT DISTINCT a.pid, coalesce(a.usename::text, ''), coalesce(a.state, ''),
                      extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8,
                      left(coalesce(a.query, ''), 120)
               FROM pg_locks l JOIN pg_stat_activity a USING (pid)
               WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 27969 AND l.objsubid = 2
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND l.objid::bigint = ANY ($1::int[]) ORDER BY a.pid";
    let rows = session.rows("listing who holds up the fence", sql, &[&buckets]).await?;
    session.keep();
    Ok(rows.iter().map(blocker).collect())
}

fn blocker(row: &tokio_postgres::Row) -> Blocker {
    let seconds: f64 = row.get(3);
    Blocker {
        pid: row.get(0),
        user: row.get(1),
        state: row.get(2),
        age: Duration::try_from_secs_f64(seconds).unwrap_or_default(),
        query: row.get(4),
    }
}
