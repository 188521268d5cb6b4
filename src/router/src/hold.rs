//! The queue of requests that wait: first in, first out, limited in number. Time is limited by the caller, bytes by
//! [`crate::kept`].
//!
//! A place is taken before the table is read for the decision to wait, so a change in between is not missed. Each
//! change goes through all places in the order of their arrival and frees those that need not wait any longer.
//!
//! Writes of one slot stand in a line: the first goes, and the next one only once the one before it gives up its place,
//! whichever threads they are on; who comes meanwhile stands behind them. So no write overtakes one of its slot that came
//! before it. When the place is given up is the caller's matter, who is told since when the line moves.

use multiactive_core::epoch::Epoch;
use multiactive_core::ids::KeyspaceName;
use multiactive_core::route::Asked;
use multiactive_core::slots::Slot;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The writes of one slot.
pub type LineOf = (KeyspaceName, Slot);

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
    Epoch {
        /// The epoch.
        epoch: Epoch,
        /// The line of its slot, where it is a write.
        line: Option<LineOf>,
    },
}

impl HeldFor {
    /// The line that it stands in; reads stand in none.
    pub fn line(&self) -> Option<LineOf> {
        match self {
            Self::Slot { keyspace, slot, asked } => asked.write.then(|| (keyspace.clone(), *slot)),
            Self::Epoch { line, .. } => line.clone(),
        }
    }
}

/// The queue. Clones share it.
#[derive(Clone, Debug)]
pub struct Hold {
    shared: Arc<Shared>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many places there are: read without the lock, because nearly always there are none.
    places: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    waiting: usize,
    lines: HashMap<KeyspaceName, HashMap<Slot, Line>>,
    /// Who stands in no line.
    others: BTreeMap<u64, Waiter>,
}

#[derive(Debug, Default)]
struct Line {
    waiters: BTreeMap<u64, Waiter>,
    /// Since when its first ones go.
    moves: Option<Instant>,
}

impl Line {
    /// The first goes, where it is free; says whether it waited until now.
    fn first_goes(&mut self) -> bool {
        let Some(first) = self.waiters.values_mut().next() else {
            return false;
        };
        if !first.free {
            self.moves = None;
            return false;
        }
        let since = *self.moves.get_or_insert_with(Instant::now);
        first.go(since)
    }
}

#[derive(Debug)]
struct Waiter {
    held_for: HeldFor,
    /// Whether it need not wait any longer but for its turn.
    free: bool,
    /// `None` once it was released: it is about to be passed on.
    release: Option<oneshot::Sender<Instant>>,
}

impl Waiter {
    /// Lets it go, where that is due; says whether it waited until now.
    fn go(&mut self, since: Instant) -> bool {
        let released = self.release.take_if(|_| self.free);
        // The receiver is gone where the client left at this moment.
        released.map(|release| release.send(since)).is_some()
    }
}

/// As many requests wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Hold {
    /// A queue of at most `limit` requests.
    pub fn new(limit: usize) -> Self {
        Self {
            shared: Arc::default(),
            limit,
        }
    }

    /// Takes a place. A request that has waited before gives its `ticket` and keeps its turn.
    ///
    /// # Errors
    ///
    /// [`Full`] where the limit is reached.
    pub fn enter(&self, held_for: HeldFor, ticket: Option<u64>) -> Result<Place, Full> {
        let mut inner = self.shared.lock();
        if inner.waiting >= self.limit {
            return Err(Full);
        }
        let ticket = ticket.unwrap_or_else(|| {
            inner.next += 1;
            inner.next
        });
        let (waiter, released) = waiter(held_for.clone());
        let line = held_for.line();
        inner.waiters_mut(line.as_ref()).insert(ticket, waiter);
        inner.waiting += 1;
        self.shared.places.fetch_add(1, Ordering::SeqCst);
        let shared = self.shared.clone();
        Ok(Place {
            ticket,
            line,
            released,
            shared,
        })
    }

    /// Frees each request for which `free` says so, and releases, in the order of arrival, those whose turn it is.
    pub fn release(&self, free: impl Fn(&HeldFor) -> bool) {
        let mut inner = self.shared.lock();
        let inner = &mut *inner;
        let mut lines: Vec<_> = inner.lines.values_mut().flat_map(HashMap::values_mut).collect();
        lines.sort_by_key(|line| line.waiters.keys().next().copied());
        for line in lines {
            for waiter in line.waiters.values_mut().filter(|waiter| waiter.release.is_some()) {
                waiter.free = free(&waiter.held_for);
            }
            inner.waiting -= usize::from(line.first_goes());
        }
        for waiter in inner.others.values_mut().filter(|waiter| waiter.release.is_some()) {
            waiter.free = free(&waiter.held_for);
            inner.waiting -= usize::from(waiter.go(Instant::now()));
        }
    }

    /// Whether a write of this slot would overtake one that came before it. `ticket` is its own, where it has one.
    pub fn is_behind(&self, keyspace: &KeyspaceName, slot: Slot, ticket: Option<u64>) -> bool {
        if self.shared.places.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let inner = self.shared.lock();
        let line = inner.lines.get(keyspace).and_then(|lines| lines.get(&slot));
        let first = line.and_then(|line| line.waiters.keys().next());
        first.is_some_and(|first| ticket.is_none_or(|ticket| *first < ticket))
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.shared.lock().waiting
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn line_mut(&mut self, (keyspace, slot): &LineOf) -> &mut Line {
        let lines = self.lines.entry(keyspace.clone()).or_default();
        lines.entry(*slot).or_default()
    }

    fn waiters_mut(&mut self, line: Option<&LineOf>) -> &mut BTreeMap<u64, Waiter> {
        match line {
            Some(line) => &mut self.line_mut(line).waiters,
            None => &mut self.others,
        }
    }

    /// Lets go who is free and whose turn it is.
    fn advance(&mut self, place: &Place) {
        let went = match &place.line {
            Some(line) => self.line_mut(line).first_goes(),
            None => {
                let waiter = self.others.get_mut(&place.ticket);
                waiter.is_some_and(|waiter| waiter.go(Instant::now()))
            }
        };
        self.waiting -= usize::from(went);
    }

    /// Forgets lines in which nobody stands.
    fn tidy(&mut self, line: Option<&LineOf>) {
        let Some((keyspace, slot)) = line else { return };
        let Some(lines) = self.lines.get_mut(keyspace) else {
            return;
        };
        if lines.get(slot).is_some_and(|line| line.waiters.is_empty()) {
            lines.remove(slot);
        }
        if lines.is_empty() {
            self.lines.remove(keyspace);
        }
    }
}

fn waiter(held_for: HeldFor) -> (Waiter, oneshot::Receiver<Instant>) {
    let (release, released) = oneshot::channel();
    let waiter = Waiter {
        held_for,
        free: false,
        release: Some(release),
    };
    (waiter, released)
}

/// A place in the queue, kept until the request is passed on; dropping it lets the next one of its line go.
#[derive(Debug)]
pub struct Place {
    ticket: u64,
    line: Option<LineOf>,
    released: oneshot::Receiver<Instant>,
    shared: Arc<Shared>,
}

impl Place {
    /// The turn, for waiting again.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// The request need wait only for its turn.
    pub fn set_free(&self) {
        let mut inner = self.shared.lock();
        if let Some(waiter) = inner.waiters_mut(self.line.as_ref()).get_mut(&self.ticket) {
            waiter.free = true;
        }
        inner.advance(self);
    }

    /// Waits for the release, and says since when its line moves. Safe to cancel.
    pub async fn released(&mut self) -> Instant {
        // The sender lives as long as the place is in the queue, so this ends by a release only.
        (&mut self.released).await.unwrap_or_else(|_| Instant::now())
    }

    /// The request waits again in its place, for something of the same line; gives the place back where it stands in
    /// another line now.
    ///
    /// # Errors
    ///
    /// The place, which the caller gives up.
    pub fn again(mut self, held_for: HeldFor) -> Result<Self, Self> {
        if held_for.line() != self.line {
            return Err(self);
        }
        let mut inner = self.shared.lock();
        let (waiter, released) = waiter(held_for);
        let before = inner.waiters_mut(self.line.as_ref()).insert(self.ticket, waiter);
        // It counts as waiting already where it was not released.
        inner.waiting += usize::from(before.is_none_or(|before| before.release.is_none()));
        drop(inner);
        self.released = released;
        Ok(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        let gone = inner.waiters_mut(self.line.as_ref()).remove(&self.ticket);
        inner.waiting -= usize::from(gone.is_some_and(|waiter| waiter.release.is_some()));
        self.shared.places.fetch_sub(1, Ordering::SeqCst);
        inner.advance(self);
        inner.tidy(self.line.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use multiactive_core::route::Origin;

    fn slot(slot: Slot) -> HeldFor {
        HeldFor::Slot {
            keyspace: "users".into(),
            slot,
            asked: Asked {
                write: true,
                origin: Origin::Client,
                local: false,
                shows: multiactive_core::route::Shows::Any,
            },
        }
    }

    fn read() -> HeldFor {
        HeldFor::Epoch {
            epoch: Epoch::new(1, 1),
            line: None,
        }
    }

    fn gone(place: &mut Place) -> bool {
        place.released().now_or_never().is_some()
    }

    #[test]
    fn writes_of_a_slot_go_one_after_the_other_in_the_order_of_arrival() {
        let hold = Hold::new(10);
        let mut places: Vec<_> = [5, 1, 5, 2, 5].map(|s| hold.enter(slot(s), None).unwrap()).into();
        hold.release(|held_for| *held_for == slot(5));
        let released: Vec<_> = places.iter_mut().map(gone).collect();
        assert_eq!(released, [true, false, false, false, false]);
        assert_eq!(hold.len(), 4);
        // One that leaves is not waited for, and moves nobody out of turn.
        drop(places.remove(2));
        drop(places.remove(0));
        let released: Vec<_> = places.iter_mut().map(gone).collect();
        assert_eq!(released, [false, false, true], "slots 1, 2 and the last of 5");
        hold.release(|_| true);
        let released: Vec<_> = places[..2].iter_mut().map(gone).collect();
        assert_eq!(released, [true, true]);
        assert_eq!(hold.len(), 0);
    }

    #[test]
    fn who_comes_while_others_of_its_slot_are_on_their_way_stands_behind_them() {
        let hold = Hold::new(10);
        let (users, pages) = ("users".into(), "pages".into());
        assert!(!hold.is_behind(&users, 5, None));
        let first = hold.enter(slot(5), None).unwrap();
        hold.release(|_| true);
        assert!(hold.is_behind(&users, 5, None), "released, and not passed on yet");
        assert!(!hold.is_behind(&users, 5, Some(first.ticket())), "it is its turn");
        assert!(!hold.is_behind(&users, 4, None) && !hold.is_behind(&pages, 5, None));
        let mut newcomer = hold.enter(slot(5), None).unwrap();
        newcomer.set_free();
        assert!(!gone(&mut newcomer));
        drop(first);
        assert!(gone(&mut newcomer));
        drop(newcomer);
        assert!(!hold.is_behind(&users, 5, None));
        assert!(hold.shared.lock().lines.is_empty(), "lines are forgotten");
    }

    #[test]
    fn who_is_first_and_not_free_lets_nobody_pass() {
        let hold = Hold::new(10);
        let line = slot(5).line();
        let epoch = Epoch::new(1, 9);
        let first = hold.enter(HeldFor::Epoch { epoch, line }, None).unwrap();
        let mut second = hold.enter(slot(5), None).unwrap();
        hold.release(|held_for| *held_for == slot(5));
        assert!(!gone(&mut second));
        // It gives up: its patience is over.
        drop(first);
        assert!(gone(&mut second));
    }

    #[test]
    fn a_request_that_waits_again_keeps_its_turn() {
        let hold = Hold::new(10);
        let first = hold.enter(slot(1), None).unwrap();
        let mut second = hold.enter(slot(1), None).unwrap();
        hold.release(|_| true);
        let mut first = first.again(slot(1)).unwrap();
        assert_eq!(hold.len(), 2);
        assert!(!gone(&mut second) && !gone(&mut first));
        hold.release(|_| true);
        assert!(gone(&mut first) && !gone(&mut second));
        // It was passed on, refused there, and comes back: before the second again.
        let ticket = first.ticket();
        drop(first);
        assert!(gone(&mut second));
        let second = second.again(slot(1)).unwrap();
        let mut first = hold.enter(slot(1), Some(ticket)).unwrap();
        hold.release(|_| true);
        assert!(gone(&mut first));
        assert!(hold.is_behind(&"users".into(), 1, Some(second.ticket())));
        // Its key has become another's slot: that is another line.
        assert!(second.again(slot(2)).is_err());
    }

    #[test]
    fn reads_stand_in_no_line() {
        let hold = Hold::new(10);
        let mut places = [read(), read()].map(|held_for| hold.enter(held_for, None).unwrap());
        hold.release(|_| true);
        assert!(places.iter_mut().all(gone));
        let mut again = hold.enter(read(), None).unwrap();
        again.set_free();
        assert!(gone(&mut again));
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
}
