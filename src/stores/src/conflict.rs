//! Rows that two units wrote at the same time, in a store that several write: finding them in what was read, and what is told of
//! them. Whose is right is core's (`multiactive_core::conflict`). Pure.

use crate::compared::{Difference, Rows, Side, unlike};
use crate::spec::TableSpec;
pub use multiactive_core::conflict::{Candidate, Verdict, Winner};
use multiactive_core::ids::UnitName;
use multiactive_core::slots::SlotSet;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// How many rows are settled in one transaction.
const BATCH: usize = 500;

/// Rows that are to be decided about, some at a time.
pub(crate) struct Batches<'r, H>(Vec<&'r [Candidate<H>]>);

impl<'r, H> Batches<'r, H> {
    pub(crate) fn of(rows: &'r [Candidate<H>]) -> Self {
        Self(rows.chunks(BATCH).collect())
    }

    /// The next.
    pub(crate) fn next(&mut self) -> Option<&'r [Candidate<H>]> {
        self.0.pop()
    }

    /// Nothing was decided about these, for somebody writes one of them: each half comes again, and one that is written all the time
    /// holds up no other. Its key, where it is alone.
    pub(crate) fn again(&mut self, rows: &'r [Candidate<H>]) -> Option<&'r str> {
        match rows {
            [row] => Some(&row.key),
            rows => {
                let (one, other) = rows.split_at(rows.len() / 2);
                self.0.extend([one, other]);
                None
            }
        }
    }
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

/// The column that says when a row of a table was written, where that decides.
pub(crate) fn last_write<'t>(winner: &Winner, table: &'t TableSpec) -> Option<&'t str> {
    match winner {
        Winner::LastWrite => table.last_write.as_deref(),
        Winner::Peer | Winner::Nobody => None,
    }
}

/// Versions of rows by their keys: the hash of each, and all of it as JSON.
pub(crate) type Versions<H> = BTreeMap<String, (H, String)>;

/// What is to be done about some rows.
pub(crate) struct Decided<'r, H> {
    pub(crate) settled: Settled,
    /// Those that become what they are at the peer.
    pub(crate) takes: Vec<&'r Candidate<H>>,
    /// Those that are listed, and whether they are taken.
    pub(crate) listed: Vec<(&'r Candidate<H>, bool)>,
    /// The keys of those that may differ still.
    pub(crate) still: Vec<String>,
}

/// Decides about some rows of a table by the versions that there are now. `whole`: whether both sides have got the same of third
/// units.
pub(crate) fn decide<'r, H: PartialEq>(
    (table, winner): (&str, &Winner),
    rows: &'r [Candidate<H>],
    (ours, theirs, order): (&'r Versions<H>, &'r Versions<H>, &BTreeMap<String, Ordering>),
    units: (&UnitName, &UnitName),
    whole: bool,
) -> Decided<'r, H> {
    let mut decided = Decided {
        settled: Settled::default(),
        takes: Vec::new(),
        listed: Vec::new(),
        still: Vec::new(),
    };
    for row in rows {
        let hash = |versions: &'r Versions<H>| versions.get(&row.key).map(|(hash, _)| hash);
        let now = (hash(ours), hash(theirs), order.get(&row.key).copied());
        let Some(verdict) = winner.decide(row, now, units, whole) else {
            decided.settled.moving += 1;
            decided.still.push(row.key.clone());
            continue;
        };
        decided.settled.add(table, row, verdict);
        match verdict {
            Verdict::Take => decided.takes.push(row),
            Verdict::Note => decided.still.push(row.key.clone()),
            Verdict::Leave => continue,
        }
        if winner.lists(row) {
            decided.listed.push((row, verdict == Verdict::Take));
        }
    }
    decided
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_looked_at_so_many_at_a_time_and_a_large_group_alone() {
        let all = passes([(1, 150_000), (2, 50_000), (3, 1), (4, 500_000), (5, 1), (6, 2)].into_iter());
        assert_eq!(all, [vec![1, 2], vec![3], vec![4], vec![5, 6]]);
        assert_eq!(passes(std::iter::empty::<(i32, u64)>()), Vec::<Vec<i32>>::new());
    }

    #[test]
    fn one_row_that_is_written_all_the_time_holds_up_no_other() {
        let row = |number: i64| Candidate {
            key: number.to_string(),
            slot: 7,
            here: Some(number),
            there: None,
        };
        let rows: Vec<_> = (0..1200).map(row).collect();
        let mut batches = Batches::of(&rows);
        let (mut done, mut held) = (0, Vec::new());
        while let Some(batch) = batches.next() {
            match batch.iter().any(|row| row.key == "600") {
                true => held.extend(batches.again(batch)),
                false => done += batch.len(),
            }
        }
        assert_eq!((done, held), (1199, vec!["600"]));
    }

    #[test]
    fn a_key_is_told_in_words() {
        for (key, want) in [(r#"{"id": "a", "n": 7}"#, "id=a, n=7"), ("id=a", "id=a"), ("7", "7")] {
            assert_eq!(in_words(key), want);
        }
    }
}
