//! How far a store is behind the units whose rows move: the age of their newest heartbeats, while heartbeats arrive. An age alone
//! says little: a link that nobody knows to be dead has brought a young one just before, and two servers' clocks may differ.

use super::{Store, timed};
use jiff::SignedDuration;
use multiactive_core::ids::UnitName;
use multiactive_stores::driver::Lag;
use multiactive_stores::{Driver, Error};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// For how long none may arrive from a unit that writes several a second, before it is not known how far it is.
const SILENT: Duration = Duration::from_secs(2);

/// What was seen to arrive since the lag was asked for.
#[derive(Debug, Default)]
pub(super) struct Arrivals(BTreeMap<UnitName, Newest>);

/// The newest heartbeat of a unit.
#[derive(Clone, Copy, Debug)]
struct Newest {
    /// As its writer numbered it.
    number: i64,
    /// When it was found in the place of an older one, by our own clock; `None` where it was there before anybody looked.
    arrived: Option<Instant>,
}

impl Arrivals {
    /// The largest age of a heartbeat of these units, as read at `now`.
    ///
    /// # Errors
    ///
    /// The units of which none has arrived lately, or ever: how far this store is behind them is not known.
    fn lag(&mut self, lags: &[Lag], sources: &[UnitName], now: Instant) -> Result<SignedDuration, Vec<UnitName>> {
        let (mut oldest, mut silent) = (Duration::ZERO, Vec::new());
        for source in sources {
            let beat = lags
                .iter()
                .find(|lag| lag.from == *source)
                .and_then(|lag| lag.heartbeat);
            let arrived = beat.and_then(|beat| self.arrived(source, beat.number, now));
            match beat.filter(|_| arrived.is_some_and(|at| now.duration_since(at) <= SILENT)) {
                Some(beat) => oldest = oldest.max(beat.age),
                None => silent.push(source.clone()),
            }
        }
        if silent.is_empty() {
            Ok(SignedDuration::try_from(oldest).unwrap_or(SignedDuration::MAX))
        } else {
            Err(silent)
        }
    }

    fn arrived(&mut self, source: &UnitName, number: i64, now: Instant) -> Option<Instant> {
        let first = Newest { number, arrived: None };
        let newest = self.0.entry(source.clone()).or_insert(first);
        if newest.number != number {
            *newest = Newest {
                number,
                arrived: Some(now),
            };
        }
        newest.arrived
    }
}

/// Asks once.
pub(super) async fn lag<D: Driver>(
    store: &Store<D>,
    sources: &[UnitName],
    arrivals: &mut Arrivals,
) -> Result<Result<SignedDuration, String>, Error> {
    let lags = timed(&store.metrics, "lag", store.driver.lag()).await?;
    let lag = arrivals.lag(&lags, sources, Instant::now());
    Ok(lag.map_err(|silent| unknown(&silent)))
}

/// Why it is not known, for whoever waits for it.
fn unknown(silent: &[UnitName]) -> String {
    let units: Vec<&str> = silent.iter().map(UnitName::as_str).collect();
    format!(
        "nothing that {} writes has arrived within {SILENT:?}: its link does not run, or the network between the databases loses \
         what it brings",
        units.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_stores::driver::Heartbeat;

    const SECOND: Duration = Duration::from_secs(1);

    fn brought(from: &str, number: i64, age: Duration) -> Lag {
        Lag {
            from: from.into(),
            heartbeat: Some(Heartbeat { number, age }),
            position: None,
        }
    }

    #[test]
    fn a_lag_is_known_while_heartbeats_arrive_and_never_by_the_one_that_was_there() {
        let began = Instant::now();
        let mut arrivals = Arrivals::default();
        let sources = ["south".into()];
        let silent: Result<SignedDuration, _> = Err(vec!["south".into()]);
        for (at, number, age, want) in [
            (0, 7, 0, silent.clone()),
            (1, 7, 1, silent.clone()),
            (2, 8, 0, Ok(SignedDuration::ZERO)),
            (4, 8, 2, Ok(SignedDuration::from_secs(2))),
            // Nothing more: it may have been lost on the way.
            (5, 8, 3, silent.clone()),
            // As old as it is, it arrives; and a clock that was set back is no silence.
            (6, 9, 20, Ok(SignedDuration::from_secs(20))),
            (7, 3, 0, Ok(SignedDuration::ZERO)),
        ] {
            let lags = [brought("south", number, SECOND * age)];
            assert_eq!(arrivals.lag(&lags, &sources, began + SECOND * at), want, "after {at} s");
        }
    }

    #[test]
    fn one_that_is_silent_makes_it_unknown_and_is_named() {
        let began = Instant::now();
        let mut arrivals = Arrivals::default();
        let sources = ["east".into(), "south".into()];
        for number in [1, 2] {
            let lags = [brought("east", number, SECOND), brought("south", 1, SECOND)];
            let told = arrivals.lag(&lags, &sources, began);
            let want = if number == 1 {
                vec!["east".into(), "south".into()]
            } else {
                vec!["south".into()]
            };
            assert_eq!(told, Err(want), "at {number}");
        }
        assert_eq!(
            arrivals.lag(&[], &[], began),
            Ok(SignedDuration::ZERO),
            "nobody is waited for"
        );
    }
}
