//! Whether a clock has run as another one did: one that was set is found by comparing two readings of both.

use jiff::SignedDuration;

/// Two clocks, read at about the same time. Each from whatever beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The clock in question.
    pub theirs: SignedDuration,
    /// Ours, before that was asked,
    pub asked: SignedDuration,
    /// and after the answer came.
    pub answered: SignedDuration,
}

/// How much may be missing or too much besides the error of the rates, 10 % of the time between: clocks are slewed.
const TOLERANCE: SignedDuration = SignedDuration::from_millis(250);

/// Whether the clock in question ran steadily from one reading to the next: not further than ours can have, nor less.
pub fn steady(before: Reading, now: Reading) -> bool {
    let theirs = now.theirs - before.theirs;
    let least = now.asked - before.answered;
    let most = now.answered - before.asked;
    let rate = most / 10;
    theirs >= least - rate - TOLERANCE && theirs <= most + rate + TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_not_steady_and_a_slow_answer_accuses_nobody() {
        let ms = SignedDuration::from_millis;
        let reading = |theirs, asked, answered| Reading {
            theirs: ms(theirs),
            asked: ms(asked),
            answered: ms(answered),
        };
        let before = reading(1_000_000, 0, 10);
        for (now, want) in [
            (reading(1_002_500, 2_500, 2_510), true),
            (reading(1_002_400, 2_500, 2_510), true),
            (reading(1_002_700, 2_500, 2_510), true),
            // The answer took 3 s: when it was read in between is not known.
            (reading(1_002_500, 2_500, 5_500), true),
            (reading(1_005_500, 2_500, 5_500), true),
            (reading(1_062_500, 2_500, 2_510), false),
            (reading(942_500, 2_500, 2_510), false),
            (reading(1_001_500, 2_500, 2_510), false),
        ] {
            assert_eq!(steady(before, now), want, "{now:?}");
        }
    }
}
