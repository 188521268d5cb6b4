//! Chunks take seconds in databases of many kinds, all rows are in one of them, and what is read at a pace rests.

use super::*;
use proptest::prelude::*;

/// A database in which finding rows takes this long, and reading one this long.
struct Database {
    find: f64,
    row: f64,
    /// What each slot has.
    rows: Vec<u64>,
}

impl Database {
    fn of(find: f64, row: f64, rows: u64) -> Self {
        Self {
            find,
            row,
            rows: vec![rows; 1024],
        }
    }

    fn takes(&self, find: f64, rows: u64) -> Chunk {
        Chunk {
            rows,
            took: Duration::from_secs_f64(find + self.row * rows as f64),
        }
    }

    fn sizes(&self) -> Option<Sizes> {
        (self.rows.len() > 1).then(|| Sizes {
            rows: (0..).zip(self.rows.iter().copied()).collect(),
            took: Duration::from_secs_f64(self.find),
        })
    }

    /// All chunks: what was compared in each, and what that took. A range is found by an index.
    fn through(&self, pace: Option<u64>) -> Vec<(Next, Chunk)> {
        let sizes = self.sizes();
        let mut left = SlotSet::range(0, u16::try_from(self.rows.len() - 1).unwrap());
        let (mut seen, mut all, mut within) = (Seen::default(), Vec::new(), None::<(Slot, u64)>);
        while let Some(next) = next(&seen, &left, sizes.as_ref(), within.map(|(slot, _)| slot), pace, 0) {
            let chunk = match &next {
                Next::Slots(slots) => {
                    left = left.difference(slots);
                    let rows = slots.iter().map(|slot| self.rows[usize::from(slot)]).sum();
                    self.takes(self.find, rows)
                }
                Next::Rows { slot, rows } => {
                    let done = within.map_or(0, |(_, done)| done);
                    let of_slot = self.rows[usize::from(*slot)] - done;
                    within = Some((*slot, done + rows)).filter(|_| *rows < of_slot);
                    if within.is_none() {
                        left = left.difference(&SlotSet::range(*slot, *slot));
                    }
                    self.takes(0.05, of_slot.min(*rows))
                }
            };
            seen.add(&next, chunk);
            all.push((next, chunk));
        }
        all
    }

    fn all_at_once(&self) -> f64 {
        self.takes(self.find, self.rows.iter().sum()).took.as_secs_f64()
    }
}

fn seconds(chunks: &[(Next, Chunk)]) -> f64 {
    chunks.iter().map(|(_, chunk)| chunk.took.as_secs_f64()).sum()
}

fn longest(chunks: &[(Next, Chunk)]) -> f64 {
    let took = chunks.iter().map(|(_, chunk)| chunk.took.as_secs_f64());
    took.fold(0.0, f64::max)
}

#[test]
fn chunks_take_seconds_and_finding_their_rows_does_not_eat_the_time() {
    for (name, find, row, rows, most, limit, chunks) in [
        // All at once takes …, and chunks at most so many times that, none of them longer than …
        ("nothing there", 0.05, 1e-6, 0, 1.1, 1.0, 1..=1),
        ("a small table", 0.05, 1e-6, 100, 2.0, 5.0, 2..=4),
        ("a large one with an index", 0.05, 1e-6, 100_000, 1.3, 8.0, 15..=40),
        ("a large one without", 10.0, 1e-6, 20_000, 5.0, 40.0, 4..=10),
        ("a huge one without", 1000.0, 1e-6, 2_000_000, 5.0, 2000.0, 3..=12),
        ("few rows among many of others", 60.0, 1e-6, 10, 2.1, 70.0, 1..=1),
    ] {
        let database = Database::of(find, row, rows);
        let seen = database.through(None);
        let (took, all) = (seconds(&seen), database.all_at_once());
        assert!(took <= most * all, "{name}: {took} s, and {all} s at once: {seen:?}");
        let max = longest(&seen);
        assert!(max <= limit, "{name}: {max} s: {seen:?}");
        assert!(chunks.contains(&seen.len()), "{name}: {} chunks: {seen:?}", seen.len());
        let whole = |(next, _): &(Next, Chunk)| matches!(next, Next::Slots(_));
        assert!(seen.iter().all(whole), "{name}: no slot is too much at once: {seen:?}");
    }
}

#[test]
fn a_slot_that_is_too_much_is_compared_a_range_at_a_time() {
    for (name, row, rows, pace, chunks) in [
        ("one slot has all", 1e-6, vec![100_000_000], None, 20..=60),
        (
            "one slot has all, and rows are large",
            1e-3,
            vec![100_000],
            None,
            15..=40,
        ),
        ("one slot has all, and it is little", 1e-6, vec![100], None, 1..=1),
        ("one slot has all, and nothing", 1e-6, vec![0], None, 1..=1),
        ("one slot has all, at a pace", 1e-6, vec![100_000], Some(1000), 10..=16),
        (
            "one among many",
            1e-6,
            [vec![10; 500], vec![100_000_000], vec![10; 500]].concat(),
            None,
            22..=60,
        ),
    ] {
        let database = Database { find: 0.05, row, rows };
        let seen = database.through(pace);
        assert!(longest(&seen) <= 21.0, "{name}: {seen:?}");
        let long = seen.iter().filter(|(_, chunk)| chunk.took.as_secs_f64() > 8.0).count();
        assert!(long <= 1, "{name}: {seen:?}");
        assert!(chunks.contains(&seen.len()), "{name}: {} chunks: {seen:?}", seen.len());
        if let Some(pace) = pace {
            let most = seen.iter().map(|(_, chunk)| chunk.rows).max().unwrap();
            assert!(most <= 10 * pace, "{name}: {seen:?}");
        }
    }
}

#[test]
fn what_was_begun_is_gone_on_with_first() {
    let left = SlotSet::range(3, 9);
    let sizes = Sizes::default();
    let of = |within| next(&Seen::default(), &left, Some(&sizes), within, None, 0);
    let begun = Next::Rows { slot: 7, rows: 20_000 };
    assert_eq!(of(Some(7)), Some(begun));
    // What is not left is not begun.
    for within in [None, Some(2)] {
        assert_eq!(of(within), Some(Next::Slots(left.clone())), "{within:?}");
    }
}

#[test]
fn at_a_pace_chunks_are_small_and_rests_make_up_for_them() {
    let database = Database::of(0.05, 1e-6, 1000);
    let seen = database.through(Some(10_000));
    for (_, chunk) in &seen {
        assert!(chunk.rows <= 100_000, "{seen:?}");
    }
    let rests: Duration = seen
        .iter()
        .map(|(_, chunk)| rest(chunk.rows, chunk.took, Some(10_000)))
        .sum();
    let whole = rests.as_secs_f64() + seconds(&seen);
    assert!((102.0..104.0).contains(&whole), "1024000 rows in {whole} s");
    // That finding takes long is no reason to read more than the pace lets be read meanwhile.
    let seen = Database::of(10.0, 1e-6, 500).through(Some(1000));
    for (_, chunk) in &seen {
        assert!(chunk.rows <= 10_000, "{seen:?}");
    }
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
fn failures_make_chunks_smaller_and_what_is_left_bounds_them() {
    let left = SlotSet::range(100, 199);
    let sizes = Sizes {
        rows: left.iter().map(|slot| (slot, 1000)).collect(),
        took: Duration::from_millis(10),
    };
    let of = |failures, sizes| next(&Seen::default(), &left, sizes, None, None, failures);
    for (failures, want) in [(0, 119), (1, 109), (4, 100), (30, 100)] {
        let want = Next::Slots(SlotSet::range(100, want));
        // A slot of 1000 rows is not too much before it was halved often.
        let want = if failures == 30 {
            Next::Rows { slot: 100, rows: 78 }
        } else {
            want
        };
        assert_eq!(of(failures, Some(&sizes)), Some(want), "{failures}");
    }
    for (failures, rows) in [(0, 20_000), (2, 5000), (99, 78)] {
        assert_eq!(of(failures, None), Some(Next::Rows { slot: 100, rows }), "{failures}");
    }
    assert_eq!(
        next(&Seen::default(), &SlotSet::default(), None, Some(1), None, 0),
        None
    );
}

#[test]
fn units_that_compare_side_by_side_share_the_pace() {
    for (pace, units, want) in [(3000, 3, 1000), (3000, 1, 3000), (100, 64, 1), (1, 3, 1), (5, 0, 5)] {
        assert_eq!(share(pace, units), want, "{pace} of {units}");
    }
}

proptest! {
    /// Whatever a database is like, it comes to its end, and each row is in one chunk.
    #[test]
    fn every_row_is_compared_once(
        find in 0.0..2000.0_f64,
        row in 1e-7..1e-2_f64,
        rows in prop::collection::vec(prop_oneof![Just(0), 0..1000_u64, 0..500_000_u64], 1..60),
        pace in prop::option::of(1000..1_000_000_u64),
    ) {
        let database = Database { find, row, rows };
        let seen = database.through(pace);
        let compared: u64 = seen.iter().map(|(_, chunk)| chunk.rows).sum();
        prop_assert_eq!(compared, database.rows.iter().sum::<u64>());
        let slots: usize = seen.iter().map(|(next, _)| match next {
            Next::Slots(slots) => slots.len(),
            Next::Rows { .. } => 0,
        }).sum();
        prop_assert!(slots <= database.rows.len());
        prop_assert!(seen.iter().all(|(next, _)| *next != Next::Slots(SlotSet::default())));
    }
}
