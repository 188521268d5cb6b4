//! The write lease of the unit, as its database keeps it: `lease.sql` has the checks, and why they are as they are.

use super::Postgres;
use super::connect::Session;
use super::inspect::{epoch, numbers};
use crate::error::Error;
use crate::lease::{HeldLease, StoreClock, StoreLease};
use crate::names::definition;
use multiactive_core::epoch::Epoch;
use std::time::Duration;

/// Rows of transactions that are over are deleted when their table is larger than this.
const SWEEP: &str = "DELETE FROM multiactive.writing WHERE pg_relation_size('multiactive.writing') > 1048576";

/// Notes that `apply` has done all that the table of ($1, $2) asks for.
const BROUGHT: &str = "
    UPDATE multiactive.store SET brought_term = $1, brought_epoch = $2
    WHERE server_start = pg_postmaster_start_time()
      AND ((brought_term, brought_epoch) < ($1, $2)) IS NOT FALSE";

pub(super) async fn clock(pg: &Postgres) -> Result<StoreClock, Error> {
    let session = pg.server.session().await?;
    let row = session
        .row("reading the clock", "SELECT multiactive.clock()", &[])
        .await?;
    session.keep();
    Ok(StoreClock(row.get(0)))
}

pub(super) async fn extend(pg: &Postgres, lease: StoreLease) -> Result<Option<HeldLease>, Error> {
    let StoreLease { from, length, granted } = lease;
    let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    if length > StoreLease::LONGEST || millis == 0 {
        return Err(Error::LeaseLength { asked: length });
    }
    let (term, number) = numbers(granted);
    let session = pg.server.session().await?;
    // A database that is fenced by another keyspace than the driver's takes no lease of this one.
    let sql = "SELECT definition FROM multiactive.store";
    let row = session.row("looking at the fence", sql, &[]).await?;
    let (installed, declared): (String, String) = (row.get(0), definition(&pg.spec.keyspace));
    if installed != declared {
        return Err(Error::KeyspaceChanged { installed, declared });
    }
    let sql = "SELECT refused, held_term, held_epoch, now FROM multiactive.extend($1, $2, $3, $4)";
    let row = session
        .row("extending the write lease", sql, &[&from.0, &millis, &term, &number])
        .await?;
    match row.get::<_, Option<&str>>(0) {
        None => {}
        Some("clock") => {
            return Err(Error::ClockWentBack {
                read: from,
                now: StoreClock(row.get(3)),
            });
        }
        Some(_) => {
            let held = row.get::<_, Option<i32>>(1).zip(row.get::<_, Option<i64>>(2));
            return Err(Error::NotBrought {
                held: held.map(|(term, number)| epoch(term, number)),
                granted,
            });
        }
    }
    let held = held(&session).await?;
    session.change("forgetting transactions that ended", SWEEP, &[]).await?;
    session.keep();
    Ok(held)
}

pub(super) async fn expire(pg: &Postgres) -> Result<(), Error> {
    let session = pg.server.session().await?;
    session
        .rows("ending the write lease", "SELECT multiactive.expire()", &[])
        .await?;
    session.keep();
    Ok(())
}

/// The lease that is valid now.
pub(super) async fn held(session: &Session<'_>) -> Result<Option<HeldLease>, Error> {
    let row = session
        .row(
            "reading the write lease",
            "SELECT until, now FROM multiactive.held()",
            &[],
        )
        .await?;
    let (until, now): (Option<i64>, i64) = (row.get(0), row.get(1));
    Ok(until.map(|until| HeldLease {
        until: StoreClock(until),
        left: Duration::from_micros(u64::try_from(until - now).unwrap_or_default()),
    }))
}

/// Before a table is applied: what another server held counts no more.
pub(super) async fn begin(session: &Session<'_>) -> Result<(), Error> {
    let sql = "SELECT multiactive.begin_server()";
    session.rows("looking for a lease of another server", sql, &[]).await?;
    Ok(())
}

/// All that `table` asks for is done here.
pub(super) async fn brought(session: &Session<'_>, table: Epoch) -> Result<(), Error> {
    let (term, number) = numbers(table);
    session
        .change("noting the table that was applied", BROUGHT, &[&term, &number])
        .await?;
    Ok(())
}
