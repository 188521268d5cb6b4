//! When work has to be done, as an answer to how much time is left.

use crate::error::Error;
use std::time::Duration;
use tokio::time::Instant;

/// When work has to be done.
pub(crate) struct Until {
    doing: &'static str,
    end: Instant,
    after: Duration,
    at: String,
}

impl Until {
    /// From now on; `at` is the server that it is done at.
    pub(crate) fn new(at: &str, doing: &'static str, after: Duration) -> Self {
        Self {
            doing,
            end: Instant::now() + after,
            after,
            at: at.to_owned(),
        }
    }

    /// What is left of the time.
    pub(crate) fn left(&self) -> Result<Duration, Error> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::TimedOut {
                doing: self.doing,
                at: self.at.clone(),
                after: self.after,
            });
        }
        Ok(left)
    }
}
