//! The queue of requests that wait: first in, first out, limited in number. Time is limited by the caller, bytes by
//! [`crate::kept`].
//!
//! A place is taken before the table is read for the decision to wait, so a change in between is not missed. Each
//! change goes through all places in the order of their arrival and releases those that need not wait any longer.

use multiactive_core::epoch::Epoch;
use multiactive_core::ids::KeyspaceName;
use multiactive_core::route::Asked;
use multiactive_core::slots::Slot;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// What a request waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldFor {
    /// A decision about its slot that is not to wait.
    Slot {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// The slot.
        slot: Slot,
        /// What it asks.
        asked: Asked,
    },
    /// A table of at least this epoch.
    Epoch(Epoch),
}

/// The queue. Clones share it.
#[derive(Clone, Debug)]
pub struct Hold {
    inner: Arc<Mutex<Inner>>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    waiting: BTreeMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    held_for: HeldFor,
    release: Option<oneshot::Sender<()>>,
}

/// As many requests wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Hold {
    /// A queue of at most `limit` requests.
    pub fn new(limit: usize) -> Self {
        Self {
            inner: Arc::default(),
            limit,
        }
    }

    /// Takes a place. A request that has waited before gives its `ticket` and keeps its turn.
    ///
    /// # Errors
    ///
    /// [`Full`] where the limit is reached.
    pub fn enter(&self, held_for: HeldFor, ticket: Option<u64>) -> Result<Place, Full> {
        let mut inner = self.lock();
        if inner.waiting.len() >= self.limit {
            return Err(Full);
        }
        let ticket = ticket.unwrap_or_else(|| {
            inner.next += 1;
            inner.next
        });
        let (release, released) = oneshot::channel();
        let release = Some(release);
        inner.waiting.insert(ticket, Waiter { held_for, release });
        Ok(Place {
            ticket,
            released,
            inner: self.inner.clone(),
        })
    }

    /// Releases, in the order of arrival, each request for which `free` says so.
    pub fn release(&self, free: impl Fn(&HeldFor) -> bool) {
        for waiter in self.lock().waiting.values_mut() {
            if waiter.release.is_some() && free(&waiter.held_for) {
                // The receiver is gone where the client left at this moment.
                let _ = waiter.release.take().map(|release| release.send(()));
            }
        }
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue; dropping it frees it.
#[derive(Debug)]
pub struct Place {
    ticket: u64,
    released: oneshot::Receiver<()>,
    inner: Arc<Mutex<Inner>>,
}

impl Place {
    /// The turn, for waiting again.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// Waits for the release. Safe to cancel.
    pub async fn released(&mut self) {
        // The sender lives as long as the place is in the queue, so this ends by a release only.
        let _ = (&mut self.released).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.waiting.remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use multiactive_core::route::Origin;
    use std::cell::RefCell;

    fn slot(slot: Slot) -> HeldFor {
        HeldFor::Slot {
            keyspace: "users".into(),
            slot,
            asked: Asked {
                write: true,
                origin: Origin::Client,
            },
        }
    }

    #[test]
    fn places_are_released_in_the_order_of_arrival_and_only_where_free() {
        let hold = Hold::new(10);
        let mut places: Vec<_> = [5, 1, 5, 2].map(|s| hold.enter(slot(s), None).unwrap()).into();
        let order = RefCell::new(Vec::new());
        hold.release(|held_for| {
            order.borrow_mut().push(held_for.clone());
            *held_for == slot(5)
        });
        assert_eq!(*order.borrow(), [slot(5), slot(1), slot(5), slot(2)]);
        let released: Vec<_> = places
            .iter_mut()
            .map(|place| place.released().now_or_never().is_some())
            .collect();
        assert_eq!(released, [true, false, true, false]);
    }

    #[test]
    fn a_full_queue_refuses_and_a_place_that_is_dropped_is_free_again() {
        let hold = Hold::new(2);
        let one = hold.enter(slot(1), None).unwrap();
        let _two = hold.enter(slot(2), None).unwrap();
        assert_eq!(hold.enter(slot(3), None).unwrap_err(), Full);
        drop(one);
        assert_eq!(hold.len(), 1);
        assert!(hold.enter(slot(3), None).is_ok());
    }

    #[test]
    fn a_request_that_waits_again_keeps_its_turn() {
        let hold = Hold::new(10);
        let first = hold.enter(slot(1), None).unwrap();
        let _second = hold.enter(slot(2), None).unwrap();
        let ticket = first.ticket();
        drop(first);
        let _again = hold.enter(slot(1), Some(ticket)).unwrap();
        let order = RefCell::new(Vec::new());
        hold.release(|held_for| {
            order.borrow_mut().push(held_for.clone());
            false
        });
        assert_eq!(*order.borrow(), [slot(1), slot(2)]);
    }
}
