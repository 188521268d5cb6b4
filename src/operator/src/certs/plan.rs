//! What is to be issued, decided from what is there and the time. Pure.

use jiff::{SignedDuration, Timestamp};

/// How long an authority lives.
pub const CA_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365 * 10);
/// How long the certificate of routers or an agent lives.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);
/// How far back a certificate begins: clocks differ.
pub const BACKDATE: SignedDuration = SignedDuration::from_hours(1);
/// How long a Secret may take to reach the files of a pod.
pub const SPREAD: SignedDuration = SignedDuration::from_mins(10);

/// A certificate's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its begin.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

impl Life {
    /// The life of something made at `now`, not longer than `within`.
    pub fn new(now: Timestamp, life: SignedDuration, within: Option<Life>) -> Self {
        let until = now.saturating_add(life).unwrap_or(Timestamp::MAX);
        Self {
            from: now.saturating_sub(BACKDATE).unwrap_or(now),
            until: within.map_or(until, |within| within.until.min(until)),
        }
    }

    /// Whether two thirds of it are over, or it has not begun.
    pub fn is_due(self, now: Timestamp) -> bool {
        let whole = self.until.as_second().saturating_sub(self.from.as_second());
        let spent = now.as_second().saturating_sub(self.from.as_second());
        spent < 0 || spent.saturating_mul(3) >= whole.saturating_mul(2)
    }

    fn is_over(self, now: Timestamp) -> bool {
        self.until <= now
    }
}

/// The authorities in the Secret of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// The one that issues.
    pub current: Life,
    /// The one that will, and is only trusted yet; with the time since when every leaf's Secret has it, if they do.
    pub next: Option<(Life, Option<Timestamp>)>,
    /// The one that did, and is still trusted; with the time since when no leaf is of it any more, if none is.
    pub previous: Option<(Life, Option<Timestamp>)>,
}

/// What is known of all leaves together. One that could not be read counts as not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// Whether each of them trusts every authority of the Secret.
    pub all_trust: bool,
    /// Whether each of them is issued by the current authority.
    pub all_current: bool,
}

/// What to do with the authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaStep {
    /// Nothing.
    Keep,
    /// Make the first one, or a new one where the old one is lost or over.
    Create,
    /// Make the next one, to be trusted before it issues.
    AddNext,
    /// Note that all leaves trust the next one.
    NoteTrusted,
    /// The next one issues from now on.
    Promote,
    /// Note that no leaf is of the previous one.
    NoteReplaced,
    /// The previous one is trusted no more.
    DropPrevious,
}

/// The next step of the authorities; `None` where there is no readable Secret.
pub fn ca_step(authorities: Option<Authorities>, leaves: Leaves, now: Timestamp) -> CaStep {
    let Some(Authorities {
        current,
        next,
        previous,
    }) = authorities
    else {
        return CaStep::Create;
    };
    let spread = |since: Timestamp| now.duration_since(since) >= SPREAD;
    match (next, previous) {
        // A leaf that could not be reached for years is not waited for longer than its authority lives.
        (Some(_), _) if current.is_over(now) => CaStep::Promote,
        (None, _) if current.is_over(now) => CaStep::Create,
        (Some((_, Some(since))), _) if spread(since) => CaStep::Promote,
        (Some((_, Some(_))), _) => CaStep::Keep,
        (Some((_, None)), _) if leaves.all_trust => CaStep::NoteTrusted,
        (Some((_, None)), _) => CaStep::Keep,
        (None, Some((life, _))) if life.is_over(now) => CaStep::DropPrevious,
        (None, Some((_, Some(since)))) if spread(since) => CaStep::DropPrevious,
        (None, Some((_, None))) if leaves.all_current => CaStep::NoteReplaced,
        (None, Some(_)) => CaStep::Keep,
        (None, None) if current.is_due(now) => CaStep::AddNext,
        (None, None) => CaStep::Keep,
    }
}

/// A leaf's Secret as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafSeen {
    /// Whether certificate and key can be read and belong together.
    pub whole: bool,
    /// Whether the current authority issued it.
    pub of_current: bool,
    /// Whether its names are those that it should have, and no others.
    pub names_match: bool,
    /// Whether it trusts exactly the authorities of the Secret in the hub.
    pub trusts: bool,
    /// Its life, where it can be read.
    pub life: Option<Life>,
}

/// What to do with a leaf's Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafStep {
    /// Nothing.
    Keep,
    /// Issue it, for this reason.
    Issue(&'static str),
    /// Leave certificate and key, and write the trusted authorities.
    Trust,
}

/// The next step of a leaf; `None` where there is no such Secret.
pub fn leaf_step(seen: Option<LeafSeen>, now: Timestamp) -> LeafStep {
    match seen {
        None => LeafStep::Issue("there is none"),
        Some(seen) if !seen.whole => LeafStep::Issue("it is damaged"),
        Some(seen) if !seen.of_current => LeafStep::Issue("another authority issued it"),
        Some(seen) if !seen.names_match => LeafStep::Issue("it has other names"),
        Some(seen) if seen.life.is_none_or(|life| life.is_due(now)) => {
            LeafStep::Issue("two thirds of its life are over")
        }
        Some(seen) if !seen.trusts => LeafStep::Trust,
        Some(_) => LeafStep::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * DAY).unwrap()
    }

    fn life(from: i64, until: i64) -> Life {
        Life {
            from: at(from),
            until: at(until),
        }
    }

    #[test]
    fn a_leaf_is_issued_for_a_reason_and_at_two_thirds_of_its_life() {
        let good = LeafSeen {
            whole: true,
            of_current: true,
            names_match: true,
            trusts: true,
            life: Some(life(100, 190)),
        };
        let issue = |why| LeafStep::Issue(why);
        for (seen, day, want) in [
            (None, 100, issue("there is none")),
            (Some(good), 100, LeafStep::Keep),
            (Some(good), 159, LeafStep::Keep),
            (Some(good), 160, issue("two thirds of its life are over")),
            (Some(good), 99, issue("two thirds of its life are over")),
            (
                Some(LeafSeen { life: None, ..good }),
                100,
                issue("two thirds of its life are over"),
            ),
            (Some(LeafSeen { whole: false, ..good }), 100, issue("it is damaged")),
            (
                Some(LeafSeen {
                    of_current: false,
                    ..good
                }),
                100,
                issue("another authority issued it"),
            ),
            (
                Some(LeafSeen {
                    names_match: false,
                    ..good
                }),
                100,
                issue("it has other names"),
            ),
            (Some(LeafSeen { trusts: false, ..good }), 100, LeafStep::Trust),
        ] {
            assert_eq!(leaf_step(seen, at(day)), want, "{seen:?} on day {day}");
        }
    }

    #[test]
    fn a_new_authority_is_trusted_everywhere_before_it_issues_and_the_old_one_until_it_is_replaced() {
        let (old, new) = (life(0, 300), life(200, 500));
        let none = Leaves {
            all_trust: false,
            all_current: false,
        };
        let trust = Leaves {
            all_trust: true,
            all_current: false,
        };
        let done = Leaves {
            all_trust: true,
            all_current: true,
        };
        let young = Authorities {
            current: old,
            next: None,
            previous: None,
        };
        let next = |since| Authorities {
            next: Some((new, since)),
            ..young
        };
        let after = |since| Authorities {
            current: new,
            next: None,
            previous: Some((old, since)),
        };
        for (why, authorities, leaves, day, want) in [
            ("none", None, done, 1, CaStep::Create),
            ("young", Some(young), done, 199, CaStep::Keep),
            ("due", Some(young), none, 200, CaStep::AddNext),
            ("over", Some(young), done, 300, CaStep::Create),
            ("not trusted everywhere", Some(next(None)), none, 250, CaStep::Keep),
            ("trusted everywhere", Some(next(None)), trust, 250, CaStep::NoteTrusted),
            ("trusted just now", Some(next(Some(at(250)))), trust, 250, CaStep::Keep),
            (
                "trusted for long",
                Some(next(Some(at(250)))),
                trust,
                251,
                CaStep::Promote,
            ),
            ("a leaf never reached", Some(next(None)), none, 300, CaStep::Promote),
            ("leaves of the old", Some(after(None)), trust, 251, CaStep::Keep),
            ("no leaf of the old", Some(after(None)), done, 251, CaStep::NoteReplaced),
            ("replaced just now", Some(after(Some(at(251)))), done, 251, CaStep::Keep),
            (
                "replaced for long",
                Some(after(Some(at(251)))),
                done,
                252,
                CaStep::DropPrevious,
            ),
            ("the old is over", Some(after(None)), none, 300, CaStep::DropPrevious),
        ] {
            assert_eq!(ca_step(authorities, leaves, at(day)), want, "{why}");
        }
    }

    #[test]
    fn no_leaf_outlives_its_authority() {
        let authority = life(0, 100);
        assert_eq!(Life::new(at(50), LEAF_LIFE, Some(authority)).until, at(100));
        assert_eq!(Life::new(at(5), LEAF_LIFE, Some(authority)).until, at(95));
        assert!(Life::new(at(5), LEAF_LIFE, None).from < at(5));
    }
}
