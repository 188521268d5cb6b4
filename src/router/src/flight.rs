//! Writes in flight, counted by slot.
//!
//! A write raises its slot's counter *before* it reads the table that decides about it, and a new table is published
//! *before* the counters are read for the report. So each write either sees the new table or is seen in the report.
//!
//! Until the head of its answer a write counts without limit, for the backend has most likely not committed it. While
//! the body follows it counts for a short time more: a stream that goes on for hours, or a client that does not read,
//! must not keep an operation from its fence. That is safe, because the count spares clients errors and nothing else:
//! the fence in the database waits for every transaction, or ends it, and refuses what comes after, whoever was counted.

use multiactive_core::slots::{Slot, SlotSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Who wants to know that fewer writes are in flight.
#[derive(Debug, Default)]
pub struct Watch {
    wanted: AtomicBool,
    news: Notify,
    last_head: Mutex<Option<Instant>>,
}

impl Watch {
    /// Whether anybody waits for news: else a write's end is one subtraction.
    pub fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::SeqCst);
    }

    /// Waits until some counter came back to zero while that was wanted.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// When the last answer began while that was wanted.
    pub fn last_head(&self) -> Option<Instant> {
        *self.last_head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_head(&self) {
        if self.wanted.load(Ordering::SeqCst) {
            *self.last_head.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    fn note_zero(&self) {
        if self.wanted.load(Ordering::SeqCst) {
            self.news.notify_one();
        }
    }
}

/// The counters of one keyspace.
#[derive(Debug)]
pub struct Flight {
    slots: Box<[Counters]>,
    watch: Arc<Watch>,
}

/// Writes of one slot.
#[derive(Debug, Default)]
struct Counters {
    admitted: AtomicU64,
    answering: AtomicU64,
}

/// How many writes are in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Whose answer has not begun.
    pub admitted: u64,
    /// Whose answer has begun and not ended.
    pub answering: u64,
}

impl Flight {
    /// Counters for `slots` slots.
    pub fn new(slots: u32, watch: Arc<Watch>) -> Arc<Self> {
        Arc::new(Self {
            slots: (0..slots).map(|_| Counters::default()).collect(),
            watch,
        })
    }

    /// How many slots are counted.
    pub fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Counts a write of `slot` until the guard is dropped. The table that decides about it is read after this.
    pub fn raise(self: &Arc<Self>, slot: Slot) -> InFlight {
        if let Some(counters) = self.slots.get(usize::from(slot)) {
            counters.admitted.fetch_add(1, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        InFlight {
            flight: self.clone(),
            slot,
            answering: false,
        }
    }

    /// How many writes of these slots are in flight. The table was published before this.
    pub fn count(&self, slots: &SlotSet) -> Count {
        fence(Ordering::SeqCst);
        let counters = slots.iter().filter_map(|slot| self.slots.get(usize::from(slot)));
        counters.fold(Count::default(), |sum, counters| Count {
            // In this order: a write whose answer begins meanwhile is counted twice rather than not at all.
            admitted: sum.admitted + counters.admitted.load(Ordering::SeqCst),
            answering: sum.answering + counters.answering.load(Ordering::SeqCst),
        })
    }
}

/// One write in flight.
#[derive(Debug)]
pub struct InFlight {
    flight: Arc<Flight>,
    slot: Slot,
    answering: bool,
}

impl InFlight {
    /// The head of its answer has come.
    pub fn answer_begins(&mut self) {
        let Some(counters) = self.flight.slots.get(usize::from(self.slot)) else {
            return;
        };
        if std::mem::replace(&mut self.answering, true) {
            return;
        }
        self.flight.watch.note_head();
        counters.answering.fetch_add(1, Ordering::SeqCst);
        if counters.admitted.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.flight.watch.note_zero();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Some(counters) = self.flight.slots.get(usize::from(self.slot)) else {
            return;
        };
        let counter = if self.answering {
            &counters.answering
        } else {
            &counters.admitted
        };
        if counter.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.flight.watch.note_zero();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn count(admitted: u64, answering: u64) -> Count {
        Count { admitted, answering }
    }

    #[test]
    fn a_write_counts_from_its_raise_to_its_end_in_its_own_slot() {
        let flight = Flight::new(8, Arc::default());
        let mut first = flight.raise(3);
        let second = flight.raise(3);
        let other = flight.raise(4);
        assert_eq!(flight.count(&SlotSet::range(3, 3)), count(2, 0));
        assert_eq!(flight.count(&SlotSet::range(0, 7)), count(3, 0));
        first.answer_begins();
        first.answer_begins();
        assert_eq!(flight.count(&SlotSet::range(0, 7)), count(2, 1));
        drop((first, other));
        assert_eq!(flight.count(&SlotSet::range(0, 7)), count(1, 0));
        drop(second);
        assert_eq!(flight.count(&SlotSet::range(0, 7)), count(0, 0));
    }

    #[test]
    fn a_zero_is_told_only_where_it_is_wanted() {
        let watch = Arc::new(Watch::default());
        let flight = Flight::new(8, watch.clone());
        let mut before = flight.raise(1);
        before.answer_begins();
        drop(before);
        assert!(watch.news().now_or_never().is_none());
        assert_eq!(watch.last_head(), None);
        watch.set_wanted(true);
        let (mut one, two) = (flight.raise(1), flight.raise(1));
        one.answer_begins();
        assert!(watch.last_head().is_some());
        assert!(
            watch.news().now_or_never().is_none(),
            "one is still in flight, the other is answered"
        );
        drop(two);
        assert!(watch.news().now_or_never().is_some());
        drop(one);
        assert!(watch.news().now_or_never().is_some());
    }
}
