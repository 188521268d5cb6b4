//! When something is due that is done again and again: by an expression of cron, in a time zone.

use jiff::{SignedDuration, Timestamp};

/// Of what was missed for longer than this, where it comes often, only the last is looked for.
const LOOKS_BACK: SignedDuration = SignedDuration::from_hours(24);

/// An expression of cron makes no sense, or nobody knows the time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{schedule}` in time zone `{zone}` is no schedule: {why}")]
pub struct BadSchedule {
    schedule: String,
    zone: String,
    why: String,
}

/// Moments that come again and again: minute, hour, day of the month, month, day of the week.
#[derive(Clone, Debug)]
pub struct Schedule(cronexpr::Crontab);

impl Schedule {
    /// The five fields of cron, in a time zone of the IANA's database.
    ///
    /// # Errors
    ///
    /// [`BadSchedule`] says what is wrong.
    pub fn new(schedule: &str, zone: &str) -> Result<Self, BadSchedule> {
        let bad = |why: String| BadSchedule {
            schedule: schedule.to_owned(),
            zone: zone.to_owned(),
            why,
        };
        let fields = schedule.split_whitespace().count();
        if fields != 5 || zone.split_whitespace().count() != 1 {
            return Err(bad(format!(
                "it needs five fields, such as `30 2 * * *`, and one zone, and has {fields}"
            )));
        }
        let crontab = cronexpr::parse_crontab(&format!("{schedule} {zone}"));
        let made = Self(crontab.map_err(|error| bad(words(&error)))?);
        match made.next(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(made),
            None => Err(bad("there is no such day".to_owned())),
        }
    }

    /// The first moment after `after`.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.0.find_next(after).ok().map(|at| at.timestamp())
    }

    /// What is due at `now`, where the last that was done was due at `done`: the newest moment since. What was missed before that is
    /// left out.
    pub fn due(&self, done: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let lately = now.checked_sub(LOOKS_BACK).unwrap_or(Timestamp::MIN).max(done);
        // What comes less than once a day has few moments to go through.
        self.newest(lately, now).or_else(|| self.newest(done, now))
    }

    fn newest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let moments = std::iter::successors(self.next(after), |at| self.next(*at));
        moments.take_while(|at| *at <= until).last()
    }
}

/// What the parser says, in one line.
fn words(error: &cronexpr::Error) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_newest_moment_since_the_last_is_due_once() {
        let nightly = Schedule::new("30 2 * * *", "Europe/Berlin").unwrap();
        let done = at("2026-03-27T01:30:00Z");
        for (now, want) in [
            ("2026-03-27T12:00:00Z", None),
            ("2026-03-28T01:29:59Z", None),
            ("2026-03-28T01:30:00Z", Some("2026-03-28T01:30:00Z")),
            // It was missed for days: once, for the last night. The clocks went forward on the 29th.
            ("2026-04-02T08:00:00Z", Some("2026-04-02T00:30:00Z")),
        ] {
            assert_eq!(nightly.due(done, at(now)), want.map(at), "{now}");
        }
        let weekly = Schedule::new("0 3 * * SUN", "UTC").unwrap();
        assert_eq!(
            weekly.due(at("2026-01-04T03:00:00Z"), at("2026-01-22T00:00:00Z")),
            Some(at("2026-01-18T03:00:00Z"))
        );
        let often = Schedule::new("* * * * *", "UTC").unwrap();
        assert_eq!(
            often.due(at("2020-01-01T00:00:00Z"), at("2026-01-01T00:00:30Z")),
            Some(at("2026-01-01T00:00:00Z"))
        );
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for (schedule, zone, word) in [
            ("30 2 * *", "UTC", "five fields"),
            ("30 2 * * * UTC", "UTC", "five fields"),
            ("30 2 * * *", "Europe/Berlin UTC", "one zone"),
            ("61 2 * * *", "UTC", "61"),
            ("@daily", "UTC", "five fields"),
            ("30 2 * * *", "Nowhere/City", "Nowhere/City"),
            ("0 0 30 2 *", "UTC", "no such day"),
        ] {
            let error = Schedule::new(schedule, zone).map(drop).unwrap_err().to_string();
            assert!(
                error.contains(word) && error.contains(schedule) && !error.contains('\n'),
                "{error}"
            );
        }
    }
}
