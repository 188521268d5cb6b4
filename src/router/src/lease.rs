//! Until when this router passes on replies to writes: as long as the unit holds its write lease, as far as the agent has said.
//!
//! A server, or the whole machine, that stood still may go on with a commit that began before, after others have taken over:
//! such a write must not look acknowledged. What was asked counts from before the question was sent, by a clock that goes on
//! while the machine sleeps, so an answer that was late lengthens nothing.

use crate::asking::LeaseHeard;
use jiff::SignedDuration;
use multiactive_runtime::clock::boottime;
use std::sync::atomic::{AtomicI64, Ordering};

/// Nothing was ever heard: an agent of an older version says nothing, and the databases decide alone.
const UNHEARD: i64 = i64::MIN;

/// What was heard of the unit's write lease.
#[derive(Debug)]
pub struct Lease(AtomicI64);

impl Default for Lease {
    fn default() -> Self {
        Self(AtomicI64::new(UNHEARD))
    }
}

impl Lease {
    /// Takes an answer. A later one counts, also where it is shorter.
    pub fn heard(&self, LeaseHeard { asked, left }: LeaseHeard) {
        let left = SignedDuration::try_from(left).unwrap_or(SignedDuration::ZERO);
        let until = i64::try_from((asked + left).as_nanos()).unwrap_or(i64::MAX);
        self.0.store(until, Ordering::Release);
    }

    /// The agent is one that does not say it: what another one said before is no news of this one.
    pub fn forget(&self) {
        self.0.store(UNHEARD, Ordering::Release);
    }

    /// Whether the lease is over, as far as was heard.
    pub fn is_over(&self) -> bool {
        let until = self.0.load(Ordering::Acquire);
        if until == UNHEARD {
            return false;
        }
        // A machine without a clock cannot tell that it still holds.
        boottime().is_none_or(|now| now.as_nanos() >= i128::from(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn replies_pass_until_the_lease_is_over_counted_from_before_the_question() {
        let lease = Lease::default();
        let hear = |asked, left| lease.heard(LeaseHeard { asked, left });
        assert!(!lease.is_over(), "nothing was heard");
        let now = boottime().unwrap();
        hear(now, Duration::from_secs(3600));
        assert!(!lease.is_over());
        // A late answer to an early question.
        hear(now - SignedDuration::from_secs(60), Duration::from_secs(10));
        assert!(lease.is_over());
        hear(now, Duration::ZERO);
        assert!(lease.is_over(), "it was never given, or ended");
    }
}
