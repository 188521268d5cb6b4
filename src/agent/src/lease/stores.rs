//! The databases of one unit, as its lease reaches them: read before a renewal, told after it. Connections of their own, so
//! that no verb of the hand stands in the way.

use super::Reached;
use crate::metrics::Metrics;
use crate::store::Target;
use futures::future::join_all;
use jiff::SignedDuration;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::StoreName;
use multiactive_core::lease::{Act, Reading, Terms, steady};
use multiactive_core::promotion::Progress;
use multiactive_runtime::clock::boottime;
use multiactive_stores::driver::{StoreClock, StoreLease};
use multiactive_stores::{AnyStore, Driver, Error};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::error::Elapsed;

/// One database.
struct Database {
    target: Arc<Target>,
    driver: AnyStore,
    /// Another way to the same database, until that is let in: a password or a certificate that is wrong takes no lease away.
    next: Option<(Arc<Target>, AnyStore)>,
    /// For what routers ask: nothing of that stands in the way of the lease.
    reached: Arc<Reached>,
    /// The last reading of its clock.
    last: Option<Reading>,
    /// What went wrong last: told once.
    trouble: Option<&'static str>,
    /// Whether it ever took a lease.
    taken: bool,
    /// Whether it took one in the last round: only then it is known to be the one that it should be.
    extended: bool,
}

/// The databases of a unit.
#[derive(Default)]
pub(super) struct Databases(BTreeMap<StoreName, Database>);

/// What was read of one database before a renewal.
pub(super) struct Before {
    clock: StoreClock,
    /// How far its log had come.
    progress: Progress,
    /// Whether its clock was set since the last reading.
    set: bool,
}

/// What was read of the databases that answered.
pub(super) type All = BTreeMap<StoreName, Before>;

impl Databases {
    /// From now on these, and no others.
    pub(super) fn are(&mut self, targets: BTreeMap<StoreName, Arc<Target>>) {
        self.0.retain(|name, _| targets.contains_key(name));
        for (name, target) in targets {
            let reached = || Arc::new(Reached::new(Arc::clone(&target)));
            match self.0.get_mut(&name) {
                Some(known) if known.target == target => {
                    known.next = None;
                    continue;
                }
                Some(known) if known.target.is_same_database(&target) => {
                    if known.next.as_ref().is_none_or(|(next, _)| *next != target) {
                        known.reached = reached();
                        known.next = Some((Arc::clone(&target), target.driver()));
                    }
                    continue;
                }
                Some(_) | None => {}
            }
            let (driver, reached) = (target.driver(), reached());
            let database = Database {
                target,
                driver,
                next: None,
                reached,
                last: None,
                trouble: None,
                taken: false,
                extended: false,
            };
            self.0.insert(name, database);
        }
    }

    /// How each is reached.
    pub(super) fn reach(&self) -> BTreeMap<StoreName, Arc<Reached>> {
        let all = self.0.iter();
        all.map(|(name, database)| (name.clone(), Arc::clone(&database.reached)))
            .collect()
    }

    /// Those that ever took a lease.
    pub(super) fn taken(&self) -> BTreeSet<StoreName> {
        let taken = self.0.iter().filter(|(_, database)| database.taken);
        taken.map(|(name, _)| name.clone()).collect()
    }

    /// Where a database was found last.
    pub(super) fn target(&self, name: &StoreName) -> Option<Arc<Target>> {
        self.0.get(name).map(|database| Arc::clone(&database.target))
    }

    /// Reads clock and position of each, for at most `limit`; one that does not answer is missing.
    pub(super) async fn read(&mut self, limit: Duration) -> All {
        let looks = self.0.iter_mut().map(async |(name, database)| {
            let (clock, progress, reading) = match database.look(limit).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    database.tell(name, &error);
                    return None;
                }
                // It is told by the hand, which asks it too.
                Err(_) => return None,
            };
            let set = match (database.last, reading) {
                (Some(last), Some(now)) => !steady(last, now),
                (None, _) | (_, None) => false,
            };
            if set {
                let (store, unit) = (&database.target.spec.store, &database.target.spec.unit);
                tracing::error!(%store, %unit, "the clock of the database was set: its lease ends, and begins anew");
            }
            database.last = reading;
            Some((name.clone(), Before { clock, progress, set }))
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    /// Writes a heartbeat into each that has peers and has just taken a lease, for at most `limit`: one that went back must not
    /// write until its log is as long again as its peers know it. The position that the renewal carries was read before it:
    /// who has it has passed that, also where nobody writes. Without it only less is known if the unit is lost.
    pub(super) async fn beat(&self, limit: Duration) {
        let all = self.0.values();
        let all = all.filter(|database| database.extended && !database.target.peers.is_empty());
        join_all(all.map(|database| tokio::time::timeout(limit, database.driver.beat()))).await;
    }

    /// Tells each that was read, for at most `limit`; whether all of them have done as they were told.
    pub(super) async fn tell(&mut self, all: All, act: &Act, terms: Terms, limit: Duration, metrics: &Metrics) -> bool {
        let told = self.0.iter_mut().map(async |(name, database)| {
            let before = all.get(name);
            database.extended = false;
            let shared = database.target.spec.is_shared();
            let call = async {
                match (act, before) {
                    // What a clock says that was set is no time: whatever it counts is over, whether there is more or not.
                    (_, Some(before)) if before.set => database.driver.expire().await.map(|()| false),
                    // Where several units write, who may write is no question: its lease only says that an agent looks after it.
                    (_, Some(before)) if shared => {
                        extend(&database.driver, before, Epoch::NEVER, StoreLease::LONGEST).await
                    }
                    (Act::Extend { granted }, Some(before)) => {
                        extend(&database.driver, before, *granted, terms.window().unsigned_abs()).await
                    }
                    // It has the deadline that it has.
                    (_, None) if shared => Ok(false),
                    (Act::Expire, _) => database.driver.expire().await.map(|()| false),
                    // What was not read in time has the deadline that it has.
                    (Act::Extend { .. }, None) | (Act::Leave, _) => Ok(false),
                }
            };
            let began = std::time::Instant::now();
            let Ok(answer) = tokio::time::timeout(limit, call).await else {
                metrics.verb("lease", "TimedOut", began.elapsed());
                return false;
            };
            let outcome = answer.as_ref().map_or_else(Error::reason, |_| "Done");
            metrics.verb("lease", outcome, began.elapsed());
            match answer {
                Ok(taken) => {
                    database.trouble = None;
                    database.taken |= taken;
                    database.extended = taken;
                    taken || !matches!(act, Act::Extend { .. })
                }
                Err(error) => {
                    database.tell(name, &error);
                    false
                }
            }
        });
        join_all(told).await.into_iter().all(|done| done)
    }
}

/// Clock and position of a database, and when its clock was read.
type Look = (StoreClock, Progress, Option<Reading>);

/// The clock comes first: what is written between the two readings is counted as written before neither.
async fn look(driver: &AnyStore) -> Result<Look, Error> {
    let asked = boottime();
    let clock = driver.clock().await?;
    let reading = asked.zip(boottime()).map(|(asked, answered)| Reading {
        theirs: SignedDuration::from_micros(clock.as_micros()),
        asked,
        answered,
    });
    let progress = driver.progress().await?;
    Ok((clock, progress, reading))
}

/// Whether a lease is valid afterwards.
async fn extend(driver: &AnyStore, before: &Before, granted: Epoch, length: Duration) -> Result<bool, Error> {
    let lease = StoreLease {
        from: before.clock,
        length,
        granted,
    };
    driver.extend(lease).await.map(|held| held.is_some())
}

impl Database {
    /// Looks for at most `limit`, by the way in that it was given last and by the one that is known to be let in: as soon as the
    /// new one is, it takes its place.
    async fn look(&mut self, limit: Duration) -> Result<Result<Look, Error>, Elapsed> {
        let within = |driver| tokio::time::timeout(limit, look(driver));
        let by_next = async {
            let (_, driver) = self.next.as_ref()?;
            within(driver).await.ok()?.ok()
        };
        let (now, by_next) = tokio::join!(within(&self.driver), by_next);
        let Some(found) = by_next else {
            return now;
        };
        if let Some((target, driver)) = self.next.take() {
            (self.target, self.driver) = (target, driver);
        }
        Ok(Ok(found))
    }

    /// Said once for each kind of trouble. What the hand says anyway, or is about to put right, is no news.
    fn tell(&mut self, name: &StoreName, error: &Error) {
        let reason = error.reason();
        if self.trouble != Some(reason) {
            let (error, unit) = (error.explain(), &self.target.spec.unit);
            tracing::debug!(store = %name, %unit, reason, error, "the lease did not reach the database");
        }
        self.trouble = Some(reason);
    }
}

/// The positions that a renewal carries.
pub(super) fn positions(all: &All) -> BTreeMap<StoreName, String> {
    let known = all.iter();
    known
        .map(|(name, before)| (name.clone(), before.progress.to_string()))
        .collect()
}
