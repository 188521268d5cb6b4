//! In what chunks the rows of many slots are compared: how many slots the next one has, and how long to rest before it.
//!
//! Databases know no slots: to find the rows of some, they look at all rows of a table, unless it has an index for that. So a
//! chunk costs what it reads, and besides what it takes to find it, however few slots it has. Both are learnt from the chunks
//! that were compared.

use crate::slots::SlotSet;
use std::time::Duration;

/// How long a chunk takes, where finding its rows does not take longer.
const TARGET: f64 = 5.0;

/// A chunk reads for no less than this part of the time that it takes to find its rows: however large a table is, finding takes
/// about twice what reading takes.
const READ_OF_FIND: f64 = 0.5;

/// Where rows are read at a pace, a chunk has what may be read in so many seconds: then they rest.
const BURST: f64 = 10.0;

/// The first chunk has so many slots: nothing is known of them yet, and the next one may be much larger.
const FIRST: usize = 1;

/// The second chunk has so many times its slots: only chunks of different sizes tell what finding costs, and what reading.
const SECOND: f64 = 4.0;

/// A chunk has at most so many times the slots of the last one.
const GROWS: f64 = 16.0;

/// … and at least this part.
const SHRINKS: f64 = 0.25;

/// A chunk that was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How many slots it had.
    pub slots: usize,
    /// How many rows.
    pub rows: u64,
    /// How long it took.
    pub took: Duration,
}

/// The next chunk of the slots that are left. `failures` in a row make it smaller: what is too much for the
/// limit of time is tried with less.
pub fn next(seen: &[Chunk], left: &SlotSet, pace: Option<u64>, failures: u32) -> SlotSet {
    let size = size(seen, pace) >> failures.min(16);
    left.iter().take(size.max(1)).collect()
}

fn size(seen: &[Chunk], pace: Option<u64>) -> usize {
    let Some(last) = seen.last() else {
        return FIRST;
    };
    let Cost { find, row } = cost(seen);
    let burst = pace.map_or(f64::INFINITY, |pace| number(pace) * BURST);
    let rows = match seen.len() {
        1 => (number(last.rows.max(1)) * SECOND).min(burst),
        _ => ((TARGET - find) / row).min(burst).max(find * READ_OF_FIND / row),
    };
    let slots = number(last.slots as u64);
    // As many rows in each slot as the last chunk had; without rows there is no end to them.
    let size = rows * slots / number(last.rows);
    let size = size.clamp((slots * SHRINKS).floor(), slots * GROWS);
    // Above that there is no slot; a float becomes the nearest number.
    size as usize
}

/// What chunks cost, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    /// Each, to find its rows.
    find: f64,
    /// Each row.
    row: f64,
}

/// The line through what was seen, where its numbers of rows are apart enough to tell; else all of it is for reading.
fn cost(seen: &[Chunk]) -> Cost {
    const NOTHING: f64 = 1e-9;
    let (rows, took) = (
        |chunk: &Chunk| number(chunk.rows),
        |chunk: &Chunk| chunk.took.as_secs_f64(),
    );
    let count = number(seen.len() as u64);
    let mean = |of: &dyn Fn(&Chunk) -> f64| seen.iter().map(of).sum::<f64>() / count;
    let (mean_rows, mean_took) = (mean(&rows), mean(&took));
    let reading = Cost {
        find: 0.0,
        row: (mean_took / mean_rows.max(1.0)).max(NOTHING),
    };
    let least = seen.iter().map(rows).fold(f64::INFINITY, f64::min);
    let most = seen.iter().map(rows).fold(0.0, f64::max);
    if most < 2.0 * least.max(1.0) {
        return reading;
    }
    let spread = mean(&|chunk| (rows(chunk) - mean_rows).powi(2));
    let together = mean(&|chunk| (rows(chunk) - mean_rows) * (took(chunk) - mean_took));
    let row = (together / spread).max(NOTHING);
    match mean_took - row * mean_rows {
        find if find > 0.0 => Cost { find, row },
        _ => reading,
    }
}

fn number(count: u64) -> f64 {
    count as f64
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
mod tests {
    use super::*;

    /// A database in which finding rows takes this long, and reading one this long, of slots with so many rows each.
    struct Database {
        find: f64,
        row: f64,
        rows: u64,
    }

    impl Database {
        fn compare(&self, slots: usize) -> Chunk {
            let rows = self.rows * slots as u64;
            Chunk {
                slots,
                rows,
                took: Duration::from_secs_f64(self.find + self.row * rows as f64),
            }
        }

        /// All chunks of 1024 slots.
        fn through(&self, pace: Option<u64>) -> Vec<Chunk> {
            let mut left = SlotSet::range(0, 1023);
            let mut seen = Vec::new();
            while !left.is_empty() {
                let chunk = next(&seen, &left, pace, 0);
                seen.push(self.compare(chunk.len()));
                left = left.difference(&chunk);
            }
            seen
        }
    }

    fn seconds(chunks: &[Chunk]) -> f64 {
        chunks.iter().map(|chunk| chunk.took.as_secs_f64()).sum()
    }

    #[test]
    fn chunks_take_seconds_and_finding_their_rows_does_not_eat_the_time() {
        for (name, find, row, rows, most, longest, chunks) in [
            // All at once takes …, and chunks at most so many times that, none of them longer than …
            ("nothing there", 0.05, 1e-6, 0, 4.1, 1.0, 4..=4),
            ("a small table", 0.05, 1e-6, 100, 2.5, 5.0, 4..=5),
            ("a large one with an index", 0.05, 1e-6, 100_000, 1.3, 8.0, 10..=40),
            ("a large one without", 10.0, 1e-6, 20_000, 5.0, 40.0, 4..=10),
            ("a huge one without", 1000.0, 1e-6, 2_000_000, 5.0, 2000.0, 4..=12),
            ("few rows among many of others", 60.0, 1e-6, 10, 5.0, 70.0, 4..=5),
        ] {
            let database = Database { find, row, rows };
            let seen = database.through(None);
            let all = seconds(&[database.compare(1024)]);
            let took = seconds(&seen);
            assert!(took <= most * all, "{name}: {took} s, and {all} s at once: {seen:?}");
            let max = seen.iter().map(|chunk| chunk.took.as_secs_f64()).fold(0.0, f64::max);
            assert!(max <= longest, "{name}: {max} s: {seen:?}");
            assert!(chunks.contains(&seen.len()), "{name}: {} chunks: {seen:?}", seen.len());
        }
    }

    #[test]
    fn at_a_pace_chunks_are_small_and_rests_make_up_for_them() {
        let database = Database {
            find: 0.05,
            row: 1e-6,
            rows: 1000,
        };
        let seen = database.through(Some(10_000));
        for chunk in &seen {
            assert!(chunk.rows <= 100_000, "{seen:?}");
        }
        let rests: Duration = seen
            .iter()
            .map(|chunk| rest(chunk.rows, chunk.took, Some(10_000)))
            .sum();
        let whole = rests.as_secs_f64() + seconds(&seen);
        assert!((102.0..104.0).contains(&whole), "1024000 rows in {whole} s");
    }

    #[test]
    fn a_rest_is_what_is_left_of_the_time_that_rows_may_take() {
        let seconds = Duration::from_secs;
        for (rows, took, pace, want) in [
            (5000, 2, None, 0),
            (5000, 2, Some(1000), 3),
            (5000, 5, Some(1000), 0),
            (5000, 9, Some(1000), 0),
            (0, 0, Some(1000), 0),
            (5000, 2, Some(0), 0),
        ] {
            assert_eq!(
                rest(rows, seconds(took), pace),
                seconds(want),
                "{rows} rows in {took} s at {pace:?}"
            );
        }
    }

    #[test]
    fn failures_make_chunks_smaller_down_to_one_slot_and_what_is_left_bounds_them() {
        let seen = [Chunk {
            slots: 64,
            rows: 0,
            took: Duration::from_millis(10),
        }];
        let left = SlotSet::range(100, 199);
        for (seen, failures, want) in [
            (&[][..], 0, SlotSet::range(100, 100)),
            (&seen[..], 0, left.clone()),
            (&seen, 4, SlotSet::range(100, 163)),
            (&seen, 30, SlotSet::range(100, 100)),
        ] {
            assert_eq!(next(seen, &left, None, failures), want, "{seen:?} {failures}");
        }
        assert!(next(&[], &SlotSet::default(), None, 0).is_empty());
    }

    #[test]
    fn units_that_compare_side_by_side_share_the_pace() {
        for (pace, units, want) in [(3000, 3, 1000), (3000, 1, 3000), (100, 64, 1), (1, 3, 1), (5, 0, 5)] {
            assert_eq!(share(pace, units), want, "{pace} of {units}");
        }
    }
}
