//! The waiting of one request: its place in the queue, its patience, and its body, which is read ahead meanwhile.

use super::decide::TURN;
use super::exchange::Exchange;
use crate::answer::Answer;
use crate::body::Received;
use crate::hold::HeldFor;
use crate::kept::KeptError;
use crate::metrics::Reason;
use crate::state::State;
use http::StatusCode;
use tokio::time::Instant;

impl Exchange<'_> {
    /// Waits in the queue, and reads the body ahead meanwhile. The place is kept until the request is passed on.
    pub(super) async fn hold(&mut self, why: &'static str, held_for: HeldFor) -> Result<(), Answer> {
        // What comes after the wait is a new situation.
        self.reach_until = None;
        let state = self.worker.state.clone();
        let began = Instant::now();
        let until = *self.until.get_or_insert(began + state.limits.hold_time);
        let full = |_| Answer::unavailable("HoldFull", "too many requests wait already");
        // Where it stands in another line now, it leaves the old one before it enters the new one.
        let again = self.place.take().and_then(|place| place.again(held_for.clone()).ok());
        let place = match again {
            Some(place) => place,
            None => state.hold.enter(held_for.clone(), self.ticket).map_err(full)?,
        };
        if self.ticket.is_none() {
            state.metrics.held.get_or_create(&Reason { reason: why }).inc();
        }
        self.ticket = Some(place.ticket());
        // What changed before the place was taken has released nobody.
        if state.is_free(&held_for) {
            place.set_free();
        }
        self.keep();
        let place = self.place.insert(place);
        let _waiting = Waiting::new(&state, began);
        tokio::select! {
            biased;
            moves = place.released() => {
                // Who waited only for its turn came when its slot was served already.
                let strict = why != TURN;
                self.answered_until = strict.then(|| moves + state.limits.order_time);
                Ok(())
            }
            reason = patience_ends(&state, until) => {
                let message = format!("held for {} s: {}", began.elapsed().as_secs(), why);
                Err(Answer::unavailable(reason, message))
            }
            error = read_ahead(&self.body) => Err(match error {
                KeptError::Budget => Answer::unavailable("HoldBytes", "too many bytes wait already"),
                KeptError::Client(_) | KeptError::GivenUp => {
                    Answer::new(StatusCode::BAD_REQUEST, "BodyBroken", "the request's body ended early")
                }
            }),
        }
    }
}

/// Waits until then, or until a router that ends holds nothing any more; says which it was.
async fn patience_ends(state: &State, until: Instant) -> &'static str {
    let mut drain = state.drain();
    loop {
        let drain_until = drain.borrow_and_update().map(|drain| drain.hold_until);
        let (end, reason) = match drain_until.filter(|drain| *drain < until) {
            Some(drain) => (drain, "Draining"),
            None => (until, "HoldTime"),
        };
        tokio::select! {
            () = tokio::time::sleep_until(end) => return reason,
            // The sender lives as long as the state.
            Ok(()) = drain.changed() => {}
        }
    }
}

/// Reads the body until there is no more to read, then waits for ever; it ends only in an error.
async fn read_ahead(body: &Received) -> KeptError {
    if let Received::Kept(kept) = body
        && let Err(error) = kept.fill().await
    {
        return error;
    }
    std::future::pending().await
}

/// A request that waits, in the metrics.
struct Waiting<'s> {
    state: &'s State,
    began: Instant,
}

impl<'s> Waiting<'s> {
    fn new(state: &'s State, began: Instant) -> Self {
        state.metrics.waiting.inc();
        Self { state, began }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.state.metrics.waiting.dec();
        self.state
            .metrics
            .held_seconds
            .observe(self.began.elapsed().as_secs_f64());
    }
}
