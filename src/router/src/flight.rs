//! Writes in flight, counted by slot.
//!
//! A write raises its slot's counter *before* it reads the table that decides about it, and a new table is published
//! *before* the counters are read for the report. So each write either sees the new table or is seen in the report.

use multiactive_core::slots::{Slot, SlotSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use tokio::sync::Notify;

/// Who wants to know that a counter came back to zero.
#[derive(Debug, Default)]
pub struct Watch {
    wanted: AtomicBool,
    zero: Notify,
}

impl Watch {
    /// Whether anybody waits for a zero: else a write's end is one subtraction.
    pub fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::SeqCst);
    }

    /// Waits until some counter came back to zero while that was wanted.
    pub async fn zero(&self) {
        self.zero.notified().await;
    }
}

/// The counters of one keyspace.
#[derive(Debug)]
pub struct Flight {
    slots: Box<[AtomicU64]>,
    watch: Arc<Watch>,
}

impl Flight {
    /// Counters for `slots` slots.
    pub fn new(slots: u32, watch: Arc<Watch>) -> Arc<Self> {
        Arc::new(Self {
            slots: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            watch,
        })
    }

    /// How many slots are counted.
    pub fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Counts a write of `slot` until the guard is dropped. The table that decides about it is read after this.
    pub fn raise(self: &Arc<Self>, slot: Slot) -> InFlight {
        if let Some(counter) = self.slots.get(usize::from(slot)) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        InFlight {
            flight: self.clone(),
            slot,
        }
    }

    /// How many writes of these slots are in flight. The table was published before this.
    pub fn sum(&self, slots: &SlotSet) -> u64 {
        fence(Ordering::SeqCst);
        let counters = slots.iter().filter_map(|slot| self.slots.get(usize::from(slot)));
        counters.map(|counter| counter.load(Ordering::SeqCst)).sum()
    }
}

/// One write in flight.
#[derive(Debug)]
pub struct InFlight {
    flight: Arc<Flight>,
    slot: Slot,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Some(counter) = self.flight.slots.get(usize::from(self.slot)) else {
            return;
        };
        let last = counter.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.flight.watch.wanted.load(Ordering::SeqCst) {
            self.flight.watch.zero.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_write_counts_from_its_raise_to_its_end_in_its_own_slot() {
        let flight = Flight::new(8, Arc::default());
        let first = flight.raise(3);
        let second = flight.raise(3);
        let other = flight.raise(4);
        assert_eq!(flight.sum(&SlotSet::range(3, 3)), 2);
        assert_eq!(flight.sum(&SlotSet::range(0, 7)), 3);
        drop((first, other));
        assert_eq!(flight.sum(&SlotSet::range(0, 7)), 1);
        drop(second);
        assert_eq!(flight.sum(&SlotSet::range(0, 7)), 0);
    }

    #[test]
    fn a_zero_is_told_only_where_it_is_wanted() {
        let watch = Arc::new(Watch::default());
        let flight = Flight::new(8, watch.clone());
        drop(flight.raise(1));
        assert!(watch.zero().now_or_never().is_none());
        watch.set_wanted(true);
        let (one, two) = (flight.raise(1), flight.raise(1));
        drop(one);
        assert!(watch.zero().now_or_never().is_none(), "one is still in flight");
        drop(two);
        assert!(watch.zero().now_or_never().is_some());
    }
}
