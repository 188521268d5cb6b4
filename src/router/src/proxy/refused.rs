//! A write that a service's database refused: the slot is not open there, or the unit holds no write lease. The service says
//! so by a header, and thereby that nothing was written; so the write may be decided about anew, by a table that may have
//! changed meanwhile, and be sent again. A database that was started again, or an owner that changed a moment ago, is no
//! error for a client then.

use super::exchange::Exchange;
use crate::state::State;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// The first pause before it goes again; it doubles with each, up to the last.
const FIRST: Duration = Duration::from_millis(20);
/// The last.
const LAST: Duration = Duration::from_secs(1);

/// What is known of a write that was refused. It counts among those that wait, while it lives.
pub(super) struct Refused {
    until: Instant,
    pause: Duration,
    state: Arc<State>,
}

impl Refused {
    /// A first refusal; `None` where too many writes wait already.
    fn first(state: &Arc<State>) -> Option<Self> {
        let waiting = state.refused.fetch_add(1, Ordering::Relaxed);
        let refused = Self {
            until: Instant::now() + state.limits.refused_time,
            pause: FIRST,
            state: Arc::clone(state),
        };
        (waiting < state.limits.hold_requests).then_some(refused)
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        self.state.refused.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Exchange<'_> {
    /// Whether a write that was refused goes again: all of its body is there, its patience is not over, and not too many do.
    pub(super) fn may_go_again(&mut self) -> bool {
        self.worker.state.metrics.refused.inc();
        self.may_wait() && self.body.is_whole()
    }

    /// Whether a write that was not sent yet, for the unit holds no lease, is looked at again.
    pub(super) fn may_wait(&mut self) -> bool {
        if self.refused.is_none() {
            self.refused = Refused::first(&self.worker.state);
        }
        let patient = self
            .refused
            .as_ref()
            .is_some_and(|refused| Instant::now() < refused.until);
        patient && self.worker.state.drains().is_none()
    }

    /// The pause before it goes again.
    pub(super) async fn before_again(&mut self) {
        let Some(refused) = &mut self.refused else { return };
        let pause = refused.pause;
        refused.pause = (pause * 2).min(LAST);
        tokio::time::sleep(pause).await;
    }
}
