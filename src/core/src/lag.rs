//! The lag of a link as it is told: in steps, so that whoever tells it is silent while it is what it mostly is.

use jiff::SignedDuration;

/// The steps, in seconds.
const STEPS: [i64; 14] = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 21_600, 86_400];

/// Below which part of the next smaller step a lag must be before that is told: one that lies about it does not go to and fro.
const SURELY_BELOW: f64 = 0.8;

/// The largest step: whatever is above is so many of them.
const DAY: SignedDuration = SignedDuration::from_secs(86_400);

/// The step that is at least as long as what was `measured`, where `before` was told before.
pub fn told(before: Option<SignedDuration>, measured: SignedDuration) -> SignedDuration {
    let step = at_least(measured);
    let surely = at_least(SignedDuration::from_secs_f64(measured.as_secs_f64() / SURELY_BELOW));
    match before {
        Some(before) if step < before => surely.min(before),
        Some(_) | None => step,
    }
}

fn at_least(lag: SignedDuration) -> SignedDuration {
    let steps = STEPS.map(SignedDuration::from_secs);
    let days = || {
        let days = lag.as_secs_f64() / DAY.as_secs_f64();
        SignedDuration::try_from_secs_f64(days.ceil() * DAY.as_secs_f64()).unwrap_or(SignedDuration::MAX)
    };
    steps.into_iter().find(|step| lag <= *step).unwrap_or_else(days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: i64) -> SignedDuration {
        SignedDuration::from_millis(millis)
    }

    #[test]
    fn it_goes_up_at_once_and_down_only_where_it_is_surely_lower() {
        let mut told_last = None;
        for (measured, want) in [
            (3, 1000),
            (999, 1000),
            (1000, 1000),
            (1001, 2000),
            (990, 2000),
            (810, 2000),
            (790, 1000),
            (7_000, 10_000),
            (30, 1000),
            (3_700_000, 21_600_000),
            (200_000_000, 259_200_000),
        ] {
            let now = told(told_last, ms(measured));
            assert_eq!(now, ms(want), "{measured} after {told_last:?}");
            told_last = Some(now);
        }
    }

    proptest! {
        #[test]
        fn what_is_told_is_never_less_than_what_was_measured(
            before in proptest::option::of(0..i64::from(u32::MAX)), measured in 0..i64::from(u32::MAX)
        ) {
            let before = before.map(ms).map(at_least);
            let now = told(before, ms(measured));
            prop_assert!(now >= ms(measured));
            prop_assert_eq!(told(Some(now), ms(measured)), now);
        }
    }
}
