//! In what chunks the rows of many slots are compared: which slots the next one has, or how many rows of one slot, and how long
//! to rest before it.
//!
//! Databases know no slots: to find the rows of some, they look at all rows of a table, unless it has an index for that. So a
//! chunk of slots costs what it reads, and besides what it takes to find it, however few slots it has. How many rows each slot
//! has is counted once, which takes as long as to find some; the rest is learnt from the chunks that were compared. A slot that
//! is too much for one chunk is compared a range of its keys at a time: these are found by the tables' primary keys.

mod cost;

use crate::slots::{Slot, SlotSet};
use cost::{Cost, cost, number};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a chunk takes, where finding its rows does not take longer.
const TARGET: f64 = 5.0;

/// A chunk of slots reads for no less than this part of the time that it takes to find its rows: however large a table is,
/// finding takes about twice what reading takes.
const READ_OF_FIND: f64 = 0.5;

/// Where rows are read at a pace, a chunk has what may be read in so many seconds: then they rest.
const BURST: f64 = 10.0;

/// The first chunk has so many rows, or what may be read in a second, or one slot: nothing is known of them yet, and rows may be
/// large.
const FIRST: f64 = 20_000.0;

/// What a row costs before that was seen: rather too much.
const GUESS: f64 = 2e-5;

/// The second chunk has so many times the rows of the first: only chunks of different sizes tell what finding costs, and what
/// reading.
const SECOND: f64 = 4.0;

/// A chunk has at most so many times the rows of the last one.
const GROWS: f64 = 16.0;

/// … and at least this part.
const SHRINKS: f64 = 0.25;

/// How often it is halved, at most.
const HALVED: u32 = 8;

/// So many chunks of a kind are remembered: the first two, which differ in size, and the newest.
const KEPT: usize = 64;

/// A chunk that was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How many rows it had.
    pub rows: u64,
    /// How long it took.
    pub took: Duration,
}

/// The chunks that were compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    slots: Vec<Chunk>,
    ranges: Vec<Chunk>,
}

impl Seen {
    /// Another one was compared.
    pub fn add(&mut self, next: &Next, chunk: Chunk) {
        let kind = match next {
            Next::Slots(_) => &mut self.slots,
            Next::Rows { .. } => &mut self.ranges,
        };
        kind.push(chunk);
        if kind.len() > KEPT {
            kind.remove(2);
        }
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.ranges.is_empty()
    }
}

/// How many rows slots have, about; and how long it took to look at all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Slots without rows may be missing.
    pub rows: BTreeMap<Slot, u64>,
    /// What it took to find them.
    pub took: Duration,
}

impl Sizes {
    fn of(&self, slot: Slot) -> f64 {
        number(self.rows.get(&slot).copied().unwrap_or_default())
    }
}

/// What is compared next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// All rows of these slots.
    Slots(SlotSet),
    /// Rows of one slot, from where it stands on.
    Rows {
        /// The slot.
        slot: Slot,
        /// How many, at most.
        rows: u64,
    },
}

/// What comes next of the slots that are left; nothing where none is. One that was begun, `within`, is gone on with. Without
/// `sizes` nothing is known of the slots, and each is compared a range at a time. `failures` in a row make chunks smaller: what
/// is too much for the limit of time is tried with less.
pub fn next(
    seen: &Seen,
    left: &SlotSet,
    sizes: Option<&Sizes>,
    within: Option<Slot>,
    pace: Option<u64>,
    failures: u32,
) -> Option<Next> {
    let first = left.iter().next()?;
    let less = |rows: f64| rows / f64::from(1_u32 << failures.min(HALVED));
    let of_slot = |slot| Next::Rows {
        slot,
        // Above that there is no number; a float becomes the nearest one.
        rows: (less(budget(&seen.ranges, 0.0, pace)) as u64).max(1),
    };
    if let Some(begun) = within.filter(|slot| left.contains(*slot)) {
        return Some(of_slot(begun));
    }
    let Some(sizes) = sizes else {
        return Some(of_slot(first));
    };
    let find = sizes.took.as_secs_f64();
    let budget = less(budget(&seen.slots, find, pace));
    let most = less(whole(&seen.slots, find, pace)).max(budget);
    if sizes.of(first) > most {
        return Some(of_slot(first));
    }
    let mut rows = 0.0;
    let fits = |slot: &Slot| {
        rows += sizes.of(*slot);
        *slot == first || rows <= budget
    };
    Some(Next::Slots(left.iter().take_while(fits).collect()))
}

/// How many rows the next chunk has; to find those of some slots takes as long as it took to count.
fn budget(seen: &[Chunk], find: f64, pace: Option<u64>) -> f64 {
    let Some(last) = seen.last() else {
        return FIRST.min(burst(pace) / BURST);
    };
    let last = number(last.rows);
    let rows = match seen.len() {
        1 => (last.max(1.0) * SECOND)
            .min(in_time(cost(seen), pace))
            .max(in_proportion(guess(find), pace)),
        _ => in_time(cost(seen), pace),
    };
    rows.clamp((last * SHRINKS).floor(), last.max(FIRST) * GROWS)
}

/// A slot of so many rows is compared at once: before chunks were seen too, where that cannot take long, or finding takes longer.
fn whole(seen: &[Chunk], find: f64, pace: Option<u64>) -> f64 {
    match seen.len() {
        0 | 1 => in_time(guess(find), pace),
        _ => in_time(cost(seen), pace),
    }
}

fn guess(find: f64) -> Cost {
    Cost { find, row: GUESS }
}

/// What can be found and read in the time that a chunk is to take, or in proportion to what finding takes.
fn in_time(cost: Cost, pace: Option<u64>) -> f64 {
    let rows = (TARGET - cost.find) / cost.row;
    rows.min(burst(pace)).max(in_proportion(cost, pace))
}

fn in_proportion(cost: Cost, pace: Option<u64>) -> f64 {
    // At a pace rows take as long as it lets them, however fast they are read.
    let row = pace.map_or(cost.row, |pace| cost.row.max(1.0 / number(pace.max(1))));
    cost.find * READ_OF_FIND / row
}

fn burst(pace: Option<u64>) -> f64 {
    pace.map_or(f64::INFINITY, |pace| number(pace) * BURST)
}

/// How long to rest after rows that were read in this time, so that no more than `pace` are read in a second.
pub fn rest(rows: u64, took: Duration, pace: Option<u64>) -> Duration {
    let Some(pace) = pace.filter(|pace| *pace > 0) else {
        return Duration::ZERO;
    };
    Duration::from_secs_f64(number(rows) / number(pace)).saturating_sub(took)
}

/// What each of some units may read, where no database shall be read faster than `pace`: each reads its own, and all may read
/// that of one owner.
pub fn share(pace: u64, units: usize) -> u64 {
    (pace / (units.max(1) as u64)).max(1)
}

#[cfg(test)]
mod tests;
