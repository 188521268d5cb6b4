//! The write lease of the unit, as its server keeps it: `fence.sql` has the checks, and what happens at the deadline.

use super::MySqlFamily;
use super::connect::{PATIENCE, Session};
use super::dialect::Kind;
use super::{inspect, store};
use crate::error::Error;
use crate::lease::{HeldLease, StoreClock, StoreLease};
use crate::names::definition;
use crate::{mariadb, mysql};
use multiactive_core::epoch::Epoch;
use std::time::Duration;

/// The bits of a lease's length, in milliseconds.
const LENGTH: i64 = (1 << 21) - 1;

/// Whoever changes the lease, or ends writers because it is over, holds this.
const LOCK: &str = "SELECT GET_LOCK('multiactive.lease', 4)";
const UNLOCK: &str = "SELECT RELEASE_LOCK('multiactive.lease')";

/// What a lease is once it was asked for: the sequence's new value, or `None` where it stays.
fn extended(held: i64, lease: StoreLease, now: StoreClock) -> Option<i64> {
    let (until, length) = (held >> 21, held & LENGTH);
    let millis = i64::try_from(lease.length.as_millis()).unwrap_or(LENGTH);
    let wanted = lease.from.0 / 1000 + millis;
    // What was ended since stays so; what is valid is never shortened. One that begins in the future was of another clock.
    let extends = match length {
        0 => until < lease.from.0 / 1000,
        _ => until < wanted || is_of_another_clock(held, now),
    };
    extends.then_some(wanted << 21 | millis)
}

/// Whether a lease begins later than now: the clock was set back since it was given.
fn is_of_another_clock(held: i64, now: StoreClock) -> bool {
    let (until, length) = (held >> 21, held & LENGTH);
    length != 0 && (until - length) * 1000 > now.0
}

pub(crate) async fn clock(db: &MySqlFamily) -> Result<StoreClock, Error> {
    let mut session = db.server.session().await?;
    let now = read_clock(&mut session).await?;
    let held = read(&mut session).await?;
    keep_the_deadline(&mut session, held, now).await?;
    session.keep();
    Ok(now)
}

/// The event that ends writers waits for a time of the clock as it was: set back by an hour, it would not look for an hour.
async fn keep_the_deadline(session: &mut Session<'_>, held: i64, now: StoreClock) -> Result<(), Error> {
    if !is_of_another_clock(held, now) {
        return Ok(());
    }
    let sql = "ALTER EVENT multiactive.deadline ON SCHEDULE EVERY 1 SECOND";
    session.batch("going by a clock that was set back", sql).await
}

async fn read_clock(session: &mut Session<'_>) -> Result<StoreClock, Error> {
    let now = session
        .row("reading the clock", "SELECT multiactive.clock()", ())
        .await?;
    Ok(StoreClock(now))
}

pub(crate) async fn extend(db: &MySqlFamily, lease: StoreLease) -> Result<Option<HeldLease>, Error> {
    if lease.length > StoreLease::LONGEST || lease.length.as_millis() == 0 {
        return Err(Error::LeaseLength { asked: lease.length });
    }
    let mut session = db.server.session().await?;
    store::begin(db, &mut session).await?;
    lock(&mut session).await?;
    let now = read_clock(&mut session).await?;
    if lease.from > now {
        return Err(Error::ClockWentBack { read: lease.from, now });
    }
    let sql = "SELECT brought_term, brought_epoch, @@global.event_scheduler, definition FROM multiactive.store";
    let row = session.row("reading the table that was applied", sql, ()).await?;
    let (term, epoch, scheduler, installed): (Option<u32>, Option<u64>, String, String) = row;
    let declared = definition(&db.spec.keyspace);
    if installed != declared {
        // It is fenced by another keyspace than the driver's.
        return Err(Error::KeyspaceChanged { installed, declared });
    }
    if scheduler != "ON" {
        // Nobody would end writers at the deadline.
        let (name, wanted, why) = inspect::SCHEDULER;
        return Err(Error::Setting {
            name,
            is: scheduler,
            wanted,
            why,
        });
    }
    let held = term.zip(epoch).map(|(term, epoch)| Epoch::new(term, epoch));
    if held.is_none_or(|held| held < lease.granted) {
        return Err(Error::NotBrought {
            held,
            granted: lease.granted,
        });
    }
    let before = read(&mut session).await?;
    keep_the_deadline(&mut session, before, now).await?;
    if let Some(value) = extended(before, lease, now) {
        set(&mut session, value).await?;
    }
    session
        .batch("letting the server take writes", session.dialect().admit_writers)
        .await?;
    let held = self::held(&mut session).await?;
    unlock(&mut session).await?;
    session.keep();
    Ok(held)
}

pub(crate) async fn expire(db: &MySqlFamily) -> Result<(), Error> {
    let mut session = db.server.session().await?;
    lock(&mut session).await?;
    let now = read_clock(&mut session).await?;
    set(&mut session, (now.0 / 1000) << 21).await?;
    // So that who reads the clock after this reads another millisecond.
    session.batch("ending the write lease", "DO SLEEP(0.001)").await?;
    session
        .batch("ending writers", "CALL multiactive.end_writers()")
        .await?;
    unlock(&mut session).await?;
    session.keep();
    Ok(())
}

/// The lease that is valid now.
pub(crate) async fn held(session: &mut Session<'_>) -> Result<Option<HeldLease>, Error> {
    let sql = format!(
        "SELECT multiactive.lease_left(), l.{}, @@global.read_only FROM multiactive.lease l",
        session.dialect().held
    );
    let (left, held, closed): (i64, i64, bool) = session.row("reading the write lease", &sql, ()).await?;
    Ok((left > 0 && !closed).then(|| HeldLease {
        until: StoreClock((held >> 21) * 1000),
        left: Duration::from_micros(u64::try_from(left).unwrap_or_default()),
    }))
}

async fn read(session: &mut Session<'_>) -> Result<i64, Error> {
    let sql = format!("SELECT {} FROM multiactive.lease", session.dialect().held);
    session.row("reading the write lease", &sql, ()).await
}

/// Sets it; the caller holds the lock.
pub(crate) async fn set(session: &mut Session<'_>, value: i64) -> Result<(), Error> {
    match session.kind() {
        Kind::MariaDb => mariadb::lease::set(session, value).await,
        Kind::MySql => mysql::lease::set(session, value).await,
    }
}

/// Who holds the lock and says nothing any more loses it after some seconds.
pub(crate) async fn lock(session: &mut Session<'_>) -> Result<(), Error> {
    session
        .batch("locking the write lease", "SET SESSION wait_timeout = 5")
        .await?;
    match session.row::<Option<bool>>("locking the write lease", LOCK, ()).await? {
        Some(true) => Ok(()),
        Some(false) | None => Err(session.late("locking the write lease", PATIENCE)),
    }
}

pub(crate) async fn unlock(session: &mut Session<'_>) -> Result<(), Error> {
    session
        .told::<Option<bool>>("unlocking the write lease", UNLOCK)
        .await?;
    session
        .batch(
            "unlocking the write lease",
            &format!("SET SESSION wait_timeout = {}", session.dialect().wait_timeout),
        )
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_lease_is_never_shortened_and_an_ended_one_extended_only_by_who_read_the_clock_later() {
        let lease = |from: i64, millis| StoreLease {
            from: StoreClock(from * 1000),
            length: Duration::from_millis(millis),
            granted: Epoch::NEVER,
        };
        let packed = |until: i64, length: i64| until << 21 | length;
        for (held, asked, now, want) in [
            (0, lease(100, 50), 110, Some(packed(150, 50))),
            (packed(140, 50), lease(100, 50), 110, Some(packed(150, 50))),
            (packed(160, 50), lease(100, 50), 110, None),
            (packed(100, 0), lease(100, 50), 110, None),
            (packed(99, 0), lease(100, 50), 110, Some(packed(150, 50))),
            (packed(900, 50), lease(100, 50), 110, Some(packed(150, 50))),
        ] {
            assert_eq!(extended(held, asked, StoreClock(now * 1000)), want, "{held} {asked:?}");
        }
    }
}
