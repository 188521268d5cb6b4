//! How long each step waits for what, and when it is to be looked at again though nothing changes but the time.

use super::failover;
use super::fit::{self, unfit};
use super::operation::{Operation, Step};
use super::seen::Seen;
use jiff::{SignedDuration, Timestamp};

/// For how long a link must have been broken in Drain before that ends a promotion: writes are held meanwhile.
pub(super) const BROKEN: SignedDuration = SignedDuration::from_secs(5);

/// How long Settle waits for links and routers of units that are neither source nor target.
pub(super) const SETTLE: SignedDuration = SignedDuration::from_secs(30);

/// How long after the entry of Hold members may say that they followed the fences by themselves, before their positions
/// are published for them: a round through the record more, while writes are held.
pub(super) const FOLLOWING: SignedDuration = SignedDuration::from_millis(500);

/// A time as a person reads it: in tenths of a second, and never less than it is.
pub(super) fn told(time: SignedDuration) -> SignedDuration {
    const TENTH: i128 = 100_000_000;
    let tenths = (time.as_nanos() + TENTH - 1).div_euclid(TENTH);
    SignedDuration::from_millis(i64::try_from(tenths).unwrap_or(i64::MAX).saturating_mul(100))
}

/// Whether `budget` has passed since `since`; an unknown start has not passed.
pub(super) fn overdue(since: Option<Timestamp>, budget: SignedDuration, now: Timestamp) -> bool {
    since.is_some_and(|since| now.duration_since(since) >= budget)
}

/// When the time for `patience` since `since` is over.
fn after(since: Option<Timestamp>, patience: SignedDuration) -> Option<Timestamp> {
    since.and_then(|since| since.checked_add(patience).ok())
}

/// When, after `now`, `next` may say something else although nothing changes but the time.
pub fn wake_at(op: &Operation, seen: &Seen, now: Timestamp) -> Option<Timestamp> {
    if let Some(failover) = &op.failover {
        return failover::wake_at(op, failover, seen, now);
    }
    let entered = |step| seen.entered(op, step);
    let unfit = || unfit(op, seen).and_then(|unfit| fit::patience_ends(op, seen, &unfit));
    let unready = || fit::unready(op, seen).and_then(|_| after(seen.since.unready, fit::UNREADY));
    let at = match op.step {
        Step::Check | Step::Prepare | Step::Verify => [unfit(), None, None],
        Step::Hold | Step::Fence | Step::Cut => [
            after(entered(Step::Hold), op.budgets.fence),
            after(entered(Step::Hold), FOLLOWING),
            unready(),
        ],
        Step::Drain => [
            after(entered(Step::Drain), op.budgets.drain),
            after(seen.since.broken.values().min().copied(), BROKEN),
            unready(),
        ],
        Step::Settle => [after(entered(Step::Settle), SETTLE), None, None],
        Step::Commit | Step::Open => [None; 3],
    };
    at.into_iter().flatten().filter(|at| *at > now).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_tenths_and_never_less_than_it_is() {
        for (nanos, want) in [
            (0, "0s"),
            (1, "100ms"),
            (2_483_780_347, "2s 500ms"),
            (4_000_000_000, "4s"),
            (60_749_796_368, "1m 800ms"),
        ] {
            assert_eq!(format!("{:#}", told(SignedDuration::from_nanos(nanos))), want);
        }
    }
}
