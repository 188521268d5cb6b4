//! The rows of one owner, compared with those that are here: chunk by chunk of its slots, or of the keys of one that is large,
//! each at a place of its own in the owner's log, and where that is wanted made equal to them.
//!
//! After each chunk it is told what was compared (`verify_found`): whoever goes on begins behind it.

use super::copies::Copied;
use super::verify::Question;
use super::verify_found::{Found, after, compared, done, ended, place, settled_as};
use super::wish::Target;
use super::{Store, answers, timed};
use multiactive_api::{PairReport, PairState};
use multiactive_core::chunks::{self, Chunk, Next, Seen, Sizes};
use multiactive_core::ids::UnitName;
use multiactive_core::slots::{Slot, SlotSet};
use multiactive_stores::driver::{Compared, Extent, Horizon, Narrowed, Part, Peer, Settled, Winner};
use multiactive_stores::{Driver, Error};
use std::time::{Duration, Instant};

/// How long a chunk may take. It is meant to take seconds; more, where finding its rows in a large table does.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What is compared, and with whom.
struct Job<'a, D, T> {
    store: &'a Store<D>,
    peer: &'a Peer,
    slots: &'a SlotSet,
    pace: Option<u64>,
    extent: Extent,
    /// How often in a row nothing could be compared.
    failures: u32,
    /// Hears what is found.
    tell: T,
}

/// What is remembered of one owner from one attempt to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    /// How many in a row have failed.
    pub(super) failures: u32,
    /// How many rows its slots have, once they were counted.
    sizes: Option<Sizes>,
    /// From when on rows count as changed, where that was noted before the first of them was compared: what others had compared
    /// before is not known to be equal since.
    horizon: Option<Horizon>,
}

/// Compares with one owner, and repairs; where that was not possible, what was found by then and why. It goes on from what was
/// `found` before: what was being replaced then may be equal by now. After attempts that failed it tries less at a time.
pub(super) async fn pair<D: Driver>(
    store: &Store<D>,
    target: &Target,
    question: &Question,
    (owner, slots): (&UnitName, &SlotSet),
    mut found: PairReport,
    attempts: &mut Attempts,
    tell: impl Fn(&PairReport),
) -> Result<PairReport, (PairReport, String)> {
    let Some(peer) = target.peers.iter().find(|peer| peer.unit == *owner) else {
        return Err((found, format!("{owner} is no member of the store")));
    };
    found.slots = Some(slots.to_string());
    let job = Job {
        store,
        peer,
        slots,
        pace: question.pace,
        extent: question.extent,
        failures: attempts.failures,
        tell,
    };
    let begins = found.compared.is_none() && found.within.is_none();
    if begins && attempts.horizon.is_none() && question.settle.is_none() {
        attempts.horizon = job.horizon().await;
    }
    // One slot is compared a range at a time, however large it is.
    if slots.len() > 1 && attempts.sizes.is_none() {
        match job.sizes().await {
            Ok(sizes) => attempts.sizes = Some(sizes),
            Err(error) => return Err((found, error.explain())),
        }
    }
    let sizes = attempts.sizes.as_ref();
    let mut copied = None;
    loop {
        let differ = match job.compare_all(&mut found, sizes, copied.as_ref()).await {
            Ok(differ) => differ,
            Err(error) => return Err((found, error.explain())),
        };
        if let Some(winner) = &question.settle {
            return job.settle(winner, found).await;
        }
        if let Some(mut ended) = ended(&found, &differ, question.repair, copied.as_ref()) {
            job.remember(&ended, attempts.horizon.as_ref()).await;
            // Of what others have compared, or an attempt before, it is not known.
            if question.extent == Extent::Changed && begins {
                ended.message = ended.message.or_else(|| Some(differ.told()));
            }
            return Ok(ended);
        }
        copied = match job.replace(&mut found).await {
            Ok(words) => Some(words),
            Err(why) => return Err((found, why)),
        };
        // All rows are compared again from here on. Where a log tells what changed, those that were copied are not in it.
        attempts.horizon = job.horizon().await;
    }
}

impl<D: Driver, T: Fn(&PairReport)> Job<'_, D, T> {
    /// From when on rows count as changed, where that can be told.
    async fn horizon(&self) -> Option<Horizon> {
        self.store.driver.horizon(self.peer).await.unwrap_or_else(|error| {
            tracing::warn!(owner = %self.peer.unit, %error, "the next comparison will be of all rows");
            None
        })
    }

    /// Counts the owner's rows, slot by slot.
    async fn sizes(&self) -> Result<Sizes, Error> {
        let began = Instant::now();
        let verb = self.store.driver.sizes(self.peer, LIMIT);
        let rows = timed(&self.store.metrics, "sizes", verb).await?;
        Ok(Sizes {
            rows,
            took: began.elapsed(),
        })
    }

    /// Compares all slots that were not compared yet: which rows of these differ. Where they were replaced just now, `copied` says
    /// how that went.
    async fn compare_all(
        &self,
        found: &mut PairReport,
        sizes: Option<&Sizes>,
        copied: Option<&String>,
    ) -> Result<Found, Error> {
        let mut seen = Seen::default();
        let mut differ = Found::default();
        loop {
            let left = self.slots.difference(&compared(found)).difference(&differ.slots);
            let failures = if seen.is_empty() { self.failures } else { 0 };
            let within = found.within.as_ref();
            let within = within.and_then(|within| Slot::try_from(within.slot).ok());
            let Some(next) = chunks::next(&seen, &left, sizes, within, self.pace, failures) else {
                return Ok(differ);
            };
            let began = Instant::now();
            let got = self.compare(&next, found).await?;
            let took = began.elapsed();
            let rows = got.examples.iter();
            let rows = rows.map(|row| answers::words(row, &self.store.spec.unit, &self.peer.unit));
            let rows: Vec<_> = rows.collect();
            match &next {
                Next::Slots(slots) => done(found, &mut differ, slots, &got, rows),
                Next::Rows { slot, .. } => after(found, &mut differ, *slot, &got, rows),
            }
            if let Some(Narrowed { since, rows }) = &got.narrowed {
                tracing::info!(owner = %self.peer.unit, rows = got.rows, changed = rows, since, "compared what changed");
            }
            differ.extent(&got);
            found.message = copied.cloned();
            (self.tell)(found);
            seen.add(&next, Chunk { rows: got.rows, took });
            tokio::time::sleep(chunks::rest(got.rows, took, self.pace)).await;
        }
    }

    async fn compare(&self, next: &Next, found: &PairReport) -> Result<Compared, Error> {
        match next {
            Next::Slots(slots) => self.compare_part(slots, None).await,
            Next::Rows { slot, rows } => {
                let part = Part {
                    after: place(found, *slot),
                    rows: *rows,
                };
                let slot = SlotSet::range(*slot, *slot);
                self.compare_part(&slot, Some(&part)).await
            }
        }
    }

    async fn compare_part(&self, slots: &SlotSet, part: Option<&Part>) -> Result<Compared, Error> {
        let verb = self.store.driver.compare(self.peer, slots, part, self.extent, LIMIT);
        timed(&self.store.metrics, "compare", verb).await
    }

    /// Where all were equal in the end, the next one needs only what changes from now on; where they were not, or nobody remembers
    /// it, it compares all.
    async fn remember(&self, ended: &PairReport, horizon: Option<&Horizon>) {
        let horizon = match ended.state {
            PairState::Equal | PairState::Repaired if horizon.is_some() => horizon,
            PairState::Differs => None,
            PairState::Equal
            | PairState::Repaired
            | PairState::Settled
            | PairState::Comparing
            | PairState::Repairing => return,
        };
        let unit = &self.peer.unit;
        if let Err(error) = self.store.driver.found_equal(unit, self.slots, horizon).await {
            tracing::warn!(owner = %unit, %error, "that rows are equal is not remembered");
        }
    }

    /// Of a store that several units write: which of the rows that differ do so for good, and what becomes of them.
    async fn settle(&self, winner: &Winner, found: PairReport) -> Result<PairReport, (PairReport, String)> {
        let slots = found.differing.as_deref().and_then(|slots| slots.parse().ok());
        let slots = slots.unwrap_or_default();
        let verb = self.store.driver.settle(self.peer, winner, &slots, self.slots, LIMIT);
        match timed(&self.store.metrics, "settle", verb).await {
            Ok(settled) => {
                let (unit, peer) = (&self.store.spec.unit, &self.peer.unit);
                if settled != Settled::default() {
                    tracing::info!(%peer, ?settled, "rows that two units wrote");
                }
                let words = settled.examples.iter().map(|row| answers::words(row, unit, peer));
                let words = words.collect();
                Ok(settled_as(found, &settled, words, (unit, peer)))
            }
            Err(error) => Err((found, error.explain())),
        }
    }

    /// Has the rows that differ replaced by the owner's; how that went, in words. All of them are to be compared again then: that
    /// is the proof, and not the copy's own word.
    async fn replace(&self, found: &mut PairReport) -> Result<String, String> {
        found.state = PairState::Repairing;
        found.compared = None;
        found.within = None;
        found.message = Some("being replaced, once no slot of the keyspace moves".to_owned());
        (self.tell)(found);
        match self.store.copies.repair(&self.peer.unit).await {
            Copied::Done(words) => {
                found.message = Some(words.clone());
                (self.tell)(found);
                Ok(words)
            }
            Copied::Failed(why) => Err(format!("what differs was not replaced: {why}")),
            Copied::UnderWay(_) => Err("what differs was not replaced yet".to_owned()),
        }
    }
}
