//! Rows that two units wrote at the same time, in a store that several write: whose is right, and what each unit does about it. Pure.
//!
//! Links bring what each wrote to the other, in whichever order: who writes a row while the other's write is on its way ends with
//! the other's, and the other with his. Rows that are under way look the same. So both versions are looked at, then each side
//! waits until it has all that the other had written by then: what is still the same two versions differs for good.

use crate::ids::UnitName;
use crate::slots::Slot;
use std::cmp::Ordering;

/// Who is right where the rows of two units differ though each has all that the other wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Winner {
    /// Whose row was written last, by the column of each table that says when. Of the same moment, what the unit has whose name comes first.
    /// A row that only one of them has stays: nobody knows when the other one was deleted.
    LastWrite,
    /// The peer.
    Peer,
    /// Nobody: they are listed, and stay as they are.
    Nobody,
}

/// A row that is not the same here and there: the hash of each version, `None` where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<H> {
    /// Its primary key, as text.
    pub key: String,
    /// Its slot.
    pub slot: Slot,
    /// The version of this unit.
    pub here: Option<H>,
    /// The peer's version.
    pub there: Option<H>,
}

impl<H: PartialEq> Candidate<H> {
    /// Whether both versions are still what they were.
    pub fn stands(&self, here: Option<&H>, there: Option<&H>) -> bool {
        self.here.as_ref() == here && self.there.as_ref() == there
    }
}

/// What is done about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It becomes what it is at the peer.
    Take,
    /// It is right as it is here.
    Leave,
    /// It is listed.
    Note,
}

impl Winner {
    /// What this unit does about a row that differs for good. `theirs`: how the peer's version compares by the moment of its
    /// writing with the one here, where both exist and say it.
    pub fn verdict<H>(
        &self,
        row: &Candidate<H>,
        theirs: Option<Ordering>,
        (own, peer): (&UnitName, &UnitName),
    ) -> Verdict {
        match (self, &row.here, &row.there) {
            (Self::Nobody, _, _) => Verdict::Note,
            (Self::Peer, _, _) | (Self::LastWrite, None, _) => Verdict::Take,
            (Self::LastWrite, Some(_), None) => Verdict::Leave,
            (Self::LastWrite, Some(_), Some(_)) => match theirs.unwrap_or(Ordering::Equal) {
                Ordering::Greater => Verdict::Take,
                Ordering::Less => Verdict::Leave,
                Ordering::Equal if peer < own => Verdict::Take,
                Ordering::Equal => Verdict::Leave,
            },
        }
    }
}

impl Winner {
    /// One word, for the list.
    pub fn word(&self) -> &'static str {
        match self {
            Self::LastWrite => "LastWrite",
            Self::Peer => "Peer",
            Self::Nobody => "Nobody",
        }
    }

    /// Whether a row is listed that is taken or in doubt: a version was replaced, or nobody knows.
    pub fn lists<H>(&self, row: &Candidate<H>) -> bool {
        match self {
            Self::LastWrite => row.here.is_some(),
            Self::Peer | Self::Nobody => true,
        }
    }

    /// Whether a decision may undo what a third unit did, where only we have heard of that yet: it may have deleted the row.
    pub fn may_undo<H>(&self, row: &Candidate<H>, verdict: Verdict) -> bool {
        match self {
            Self::LastWrite => verdict == Verdict::Take && row.here.is_none(),
            Self::Peer | Self::Nobody => false,
        }
    }
}

impl Winner {
    /// What this unit does about a row, of which `now` are the versions that there are, and how the peer's compares by the moment of
    /// its writing; `None` where it is still moving. `whole`: whether both sides have got the same of third units.
    pub fn decide<H: PartialEq>(
        &self,
        row: &Candidate<H>,
        (here, there, theirs): (Option<&H>, Option<&H>, Option<Ordering>),
        units: (&UnitName, &UnitName),
        whole: bool,
    ) -> Option<Verdict> {
        let verdict = self.verdict(row, theirs, units);
        (row.stands(here, there) && (whole || !self.may_undo(row, verdict))).then_some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(here: Option<i64>, there: Option<i64>) -> Candidate<i64> {
        Candidate {
            key: "id=1".to_owned(),
            slot: 7,
            here,
            there,
        }
    }

    #[test]
    fn of_two_units_that_look_at_a_row_exactly_one_takes_the_others() {
        let (a, b) = (UnitName::from("a"), UnitName::from("b"));
        let last = Winner::LastWrite;
        for (here, there, theirs) in [
            (Some(1), Some(2), Some(Ordering::Less)),
            (Some(1), Some(2), Some(Ordering::Equal)),
            (Some(1), Some(2), Some(Ordering::Greater)),
            (Some(1), Some(2), None),
            (Some(1), None, None),
            (None, Some(2), None),
        ] {
            let mine = last.verdict(&row(here, there), theirs, (&a, &b));
            let other = last.verdict(&row(there, here), theirs.map(Ordering::reverse), (&b, &a));
            let both = [mine, other];
            assert!(
                both.contains(&Verdict::Take) && both.contains(&Verdict::Leave),
                "{both:?}"
            );
        }
    }

    #[test]
    fn the_newer_version_wins_and_a_row_that_only_one_has_stays() {
        let (own, peer) = (UnitName::from("b"), UnitName::from("a"));
        let last = Winner::LastWrite;
        for (winner, here, there, theirs, want) in [
            (&last, Some(1), Some(2), Some(Ordering::Greater), Verdict::Take),
            (&last, Some(1), Some(2), Some(Ordering::Less), Verdict::Leave),
            (&last, Some(1), Some(2), Some(Ordering::Equal), Verdict::Take),
            (&last, Some(1), None, None, Verdict::Leave),
            (&last, None, Some(2), None, Verdict::Take),
            (&Winner::Peer, Some(1), None, None, Verdict::Take),
            (&Winner::Peer, Some(1), Some(2), None, Verdict::Take),
            (&Winner::Nobody, Some(1), Some(2), None, Verdict::Note),
        ] {
            assert_eq!(winner.verdict(&row(here, there), theirs, (&own, &peer)), want);
        }
    }

    #[test]
    fn what_changed_since_is_no_conflict() {
        let conflict = row(Some(1), Some(2));
        assert!(conflict.stands(Some(&1), Some(&2)));
        for (here, there) in [(Some(2), Some(2)), (Some(1), Some(1)), (None, Some(2)), (Some(1), None)] {
            assert!(!conflict.stands(here.as_ref(), there.as_ref()));
        }
        assert!(row(None, Some(2)).stands(None, Some(&2)));
    }

    #[test]
    fn what_only_we_have_heard_of_a_third_unit_is_not_undone() {
        let (own, peer) = (UnitName::from("b"), UnitName::from("a"));
        for (winner, here, whole, want) in [
            (Winner::LastWrite, None, true, Some(Verdict::Take)),
            (Winner::LastWrite, None, false, None),
            (Winner::LastWrite, Some(1), false, Some(Verdict::Take)),
            (Winner::Peer, None, false, Some(Verdict::Take)),
            (Winner::Nobody, None, false, Some(Verdict::Note)),
        ] {
            let conflict = row(here, Some(2));
            let now = (here.as_ref(), Some(&2), None);
            assert_eq!(winner.decide(&conflict, now, (&own, &peer), whole), want, "{winner:?}");
        }
        let moved = Winner::Peer.decide(&row(Some(1), Some(2)), (Some(&3), Some(&2), None), (&own, &peer), true);
        assert_eq!(moved, None);
    }
}
