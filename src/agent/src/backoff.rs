//! Pauses between attempts: short at first, doubling up to a limit.

use std::time::Duration;

/// The next pause of something that keeps failing.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    limit: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);

    /// From 100 ms up to `limit`.
    pub fn new(limit: Duration) -> Self {
        Self {
            next: Self::FIRST,
            limit,
        }
    }

    /// It worked: the next pause is short again.
    pub fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// The pause after one more failure.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.min(self.limit);
        self.next = (pause * 2).min(self.limit);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_limit_and_begin_again() {
        let mut backoff = Backoff::new(Duration::from_millis(500));
        let pauses: Vec<_> = (0..5).map(|_| backoff.pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 500, 500]);
        backoff.reset();
        assert_eq!(backoff.pause().as_millis(), 100);
    }
}
