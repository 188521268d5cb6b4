//! A lease that becomes shorter. What was renewed with the longer length lets databases admit writes for that long, whatever
//! comes later; so the record says the longer one until that time is over.

use super::{Terms, allow_for_rates};
use jiff::SignedDuration;

/// What one holder knows of the length in the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// When it began to renew with a length that is shorter than the record's, with nobody else renewing since.
    since: Option<SignedDuration>,
}

impl Lengths {
    /// The length to write with the next renewal, which is begun at `now`, where the record says `written`. `alone` says
    /// whether the record is the one that this holder wrote last: then nobody renewed with another length since.
    pub fn next(&mut self, own: Terms, written: SignedDuration, alone: bool, now: SignedDuration) -> SignedDuration {
        if written <= own.length() {
            self.since = None;
            return own.length();
        }
        if !alone {
            self.since = None;
        }
        let since = *self.since.get_or_insert(now);
        if now - since >= allow_for_rates(written) {
            self.since = None;
            own.length()
        } else {
            written
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[test]
    fn the_record_stays_longer_until_all_that_was_renewed_with_it_is_over() {
        let own = Terms::new(seconds(5)).unwrap();
        let mut lengths = Lengths::default();
        for (now, written, alone, want) in [
            (100, 5, true, 5),
            (101, 60, false, 60),
            (110, 60, true, 60),
            (160, 60, true, 60),
            // Another one renewed meanwhile: by what length it told its databases is not known.
            (161, 60, false, 60),
            (226, 60, true, 60),
            (228, 60, true, 5),
            (229, 5, true, 5),
            (230, 4, false, 5),
        ] {
            let got = lengths.next(own, seconds(written), alone, seconds(now));
            assert_eq!(
                got,
                seconds(want),
                "at {now} s, the record says {written} s, alone {alone}"
            );
        }
    }
}
