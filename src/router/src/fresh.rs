//! As of when the local reads of a store with a single writer are known to show all that its writer had committed.

use jiff::SignedDuration;
use multiactive_runtime::clock::boottime;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Never.
const NEVER: i64 = i64::MIN;

/// As of when, by [`boottime`].
#[derive(Debug)]
pub struct Fresh(AtomicI64);

impl Default for Fresh {
    fn default() -> Self {
        Self(AtomicI64::new(NEVER))
    }
}

impl Fresh {
    /// All that was committed before `asked` can be read here.
    pub fn as_of(&self, asked: SignedDuration) {
        let asked = i64::try_from(asked.as_nanos()).unwrap_or(NEVER);
        self.0.fetch_max(asked, Ordering::AcqRel);
    }

    /// Nothing of that is true any more: rows may be missing here.
    pub fn forget(&self) {
        self.0.store(NEVER, Ordering::Release);
    }

    /// Whether what is read now is at most so old.
    pub fn is_within(&self, max_lag: Duration) -> bool {
        let as_of = self.0.load(Ordering::Acquire);
        let age = boottime().map(|now| now.as_nanos() - i128::from(as_of));
        as_of != NEVER && age.is_some_and(|age| age <= i128::try_from(max_lag.as_nanos()).unwrap_or(i128::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_as_old_as_the_last_question_that_was_answered_with_yes() {
        let fresh = Fresh::default();
        let (now, lag) = (boottime().unwrap(), Duration::from_secs(5));
        assert!(!fresh.is_within(Duration::MAX), "nobody knows");
        fresh.as_of(now - SignedDuration::from_secs(60));
        assert!(!fresh.is_within(lag));
        fresh.as_of(now);
        assert!(fresh.is_within(lag));
        // An answer to an earlier question says nothing new.
        fresh.as_of(now - SignedDuration::from_secs(60));
        assert!(fresh.is_within(lag));
        fresh.forget();
        assert!(!fresh.is_within(Duration::MAX));
    }
}
