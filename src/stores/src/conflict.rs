//! Rows that two units wrote at the same time, in a store that several write: which of them differ for good, whose is right, and
//! what is told of that. Pure.
//!
//! Links bring what each wrote to the other, in whichever order: who writes a row while the other's write is on its way ends with
//! the other's, and the other with his. Rows that are under way look the same. So both versions are looked at, then each side
//! waits until it has all that the other had written by then: what is still the same two versions differs for good.

use crate::compared::{Difference, Rows, Side, unlike};
use crate::spec::TableSpec;
use multiactive_core::ids::UnitName;
use multiactive_core::slots::{Slot, SlotSet};
use std::cmp::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

impl Winner {
    /// One word, for the list.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::LastWrite => "LastWrite",
            Self::Peer => "Peer",
            Self::Nobody => "Nobody",
        }
    }

    /// The column that says when a row of a table was written.
    pub(crate) fn column<'t>(&self, table: &'t TableSpec) -> Option<&'t str> {
        match self {
            Self::LastWrite => table.last_write.as_deref(),
            Self::Peer | Self::Nobody => None,
        }
    }

    /// Whether a row is listed that is taken or in doubt: a version was replaced, or nobody knows.
    pub(crate) fn lists<H>(&self, row: &Candidate<H>) -> bool {
        match self {
            Self::LastWrite => row.here.is_some(),
            Self::Peer | Self::Nobody => true,
        }
    }

    /// Whether a decision may undo what a third unit did, where only we have heard of that yet: it may have deleted the row.
    pub(crate) fn may_undo<H>(&self, row: &Candidate<H>, verdict: Verdict) -> bool {
        match self {
            Self::LastWrite => verdict == Verdict::Take && row.here.is_none(),
            Self::Peer | Self::Nobody => false,
        }
    }
}

/// What became of rows that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// How many are the peer's here now.
    pub taken: u64,
    /// How many are right here: the peer takes them, once it is asked.
    pub left: u64,
    /// How many are listed, and nobody decides about.
    pub noted: u64,
    /// The slots of all these.
    pub slots: SlotSet,
    /// Some of those that are listed.
    pub examples: Vec<Difference>,
    /// How many differed at first, and did not when each side had what the other wrote, or were changed since.
    pub moving: u64,
}

/// How many rows a member has listed that two units wrote at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conflicts {
    /// About which nobody has decided.
    pub open: u64,
    /// That were decided, or are equal again.
    pub settled: u64,
}

/// For how long a count is told again: thousands of rows are not counted at each look.
const COUNTED: Duration = Duration::from_secs(30);

/// The last count.
#[derive(Default)]
pub(crate) struct Counted(Mutex<Option<(Instant, Conflicts)>>);

impl Counted {
    /// The last one, where it is not old, and nothing was settled since.
    pub(crate) fn known(&self) -> Option<Conflicts> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(at, _)| at.elapsed() < COUNTED).map(|(_, count)| count)
    }

    /// Notes what was counted now; `None`: it may be another by now.
    pub(crate) fn note(&self, count: Option<Conflicts>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = count.map(|count| (Instant::now(), count));
    }
}

/// How many of them are told.
const TOLD: usize = 20;

/// A row that is not the same here and there: the hash of each version, `None` where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate<H> {
    pub(crate) key: String,
    pub(crate) slot: Slot,
    pub(crate) here: Option<H>,
    pub(crate) there: Option<H>,
}

/// How many rows are looked at together, here and there: their keys and hashes are in memory, and each time all rows are read
/// through once.
const PASS: u64 = 200_000;

/// Groups that differ, with how many rows both sides have in them, as they are looked at together.
pub(crate) fn passes<G>(groups: impl Iterator<Item = (G, u64)>) -> Vec<Vec<G>> {
    let mut all: Vec<Vec<G>> = Vec::new();
    let mut left = 0;
    for (group, rows) in groups {
        match all.last_mut().filter(|_| rows <= left) {
            Some(last) => last.push(group),
            None => {
                all.push(vec![group]);
                left = PASS;
            }
        }
        left = left.saturating_sub(rows);
    }
    all
}

/// Whatever is not the same here and there.
pub(crate) fn candidates<H: Copy + PartialEq>(ours: &Rows<H>, theirs: &Rows<H>) -> Vec<Candidate<H>> {
    let found = unlike(ours, theirs).filter_map(|(key, here, there)| {
        let (slot, _) = here.or(there)?;
        Some(Candidate {
            key: key.clone(),
            slot: *slot,
            here: here.map(|(_, hash)| *hash),
            there: there.map(|(_, hash)| *hash),
        })
    });
    found.collect()
}

impl<H: PartialEq> Candidate<H> {
    /// Whether both versions are still what they were.
    pub(crate) fn stands(&self, here: Option<&H>, there: Option<&H>) -> bool {
        self.here.as_ref() == here && self.there.as_ref() == there
    }
}

/// What is done about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
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
    pub(crate) fn verdict<H>(
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

/// A key as people read it: `column=value, …`, where it is JSON.
fn in_words(key: &str) -> String {
    let Ok(serde_json::Value::Object(columns)) = serde_json::from_str(key) else {
        return key.to_owned();
    };
    let words = columns.into_iter().map(|(column, value)| match value.as_str() {
        Some(text) => format!("{column}={text}"),
        None => format!("{column}={value}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

impl Settled {
    /// Counts what was done about a row.
    pub(crate) fn add<H>(&mut self, table: &str, row: &Candidate<H>, verdict: Verdict) {
        self.slots = self.slots.union(&SlotSet::range(row.slot, row.slot));
        match verdict {
            Verdict::Take => self.taken += 1,
            Verdict::Leave => self.left += 1,
            Verdict::Note => {
                self.noted += 1;
                if self.examples.len() < TOLD {
                    self.examples.push(Difference {
                        table: table.to_owned(),
                        key: in_words(&row.key),
                        slot: row.slot,
                        side: match (&row.here, &row.there) {
                            (Some(_), None) => Side::Here,
                            (None, _) => Side::There,
                            (Some(_), Some(_)) => Side::Both,
                        },
                    });
                }
            }
        }
    }

    /// Adds what came of other rows.
    pub(crate) fn join(&mut self, other: Self) {
        self.taken += other.taken;
        self.left += other.left;
        self.noted += other.noted;
        self.moving += other.moving;
        self.slots = self.slots.union(&other.slots);
        self.examples.extend(other.examples);
        self.examples.truncate(TOLD);
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
    fn rows_are_looked_at_so_many_at_a_time_and_a_large_group_alone() {
        let all = passes([(1, 150_000), (2, 50_000), (3, 1), (4, 500_000), (5, 1), (6, 2)].into_iter());
        assert_eq!(all, [vec![1, 2], vec![3], vec![4], vec![5, 6]]);
        assert_eq!(passes(std::iter::empty::<(i32, u64)>()), Vec::<Vec<i32>>::new());
    }

    #[test]
    fn a_key_is_told_in_words() {
        for (key, want) in [(r#"{"id": "a", "n": 7}"#, "id=a, n=7"), ("id=a", "id=a"), ("7", "7")] {
            assert_eq!(in_words(key), want);
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
}
