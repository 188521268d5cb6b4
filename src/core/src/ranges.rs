//! From ShardRanges to the home unit of every slot, or the full list of what is wrong with them.

use crate::ids::UnitName;
use crate::slots::{MAX_SLOTS, Slot, SlotSet};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How many names a text lists before it counts the rest.
const NAMES_SHOWN: usize = 5;

/// A ShardRange as declared; its numbers are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRange {
    /// The name of the object.
    pub name: String,
    /// The first slot.
    pub first: i64,
    /// The last slot, inclusive.
    pub last: i64,
    /// The home unit.
    pub home: UnitName,
}

/// The home unit of every slot of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Homes(Vec<Home>);

/// Consecutive slots with one home unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The first slot.
    pub first: Slot,
    /// The last slot, inclusive.
    pub last: Slot,
    /// The home unit.
    pub unit: UnitName,
}

impl Homes {
    /// The runs, in order; together they cover every slot once.
    pub fn runs(&self) -> &[Home] {
        &self.0
    }

    /// How many slots are covered.
    pub fn slots(&self) -> u32 {
        self.0.last().map_or(0, |run| u32::from(run.last) + 1)
    }

    /// The home unit of a slot; `None` where the keyspace has no such slot.
    pub fn home_of(&self, slot: Slot) -> Option<&UnitName> {
        let after = self.0.partition_point(|run| run.first <= slot);
        let run = self.0[..after].last().filter(|run| slot <= run.last);
        run.map(|run| &run.unit)
    }

    /// The slots whose home is `unit`.
    pub fn slots_of(&self, unit: &UnitName) -> SlotSet {
        let runs = self.0.iter().filter(|run| run.unit == *unit);
        runs.map(|run| (run.first, run.last)).collect()
    }
}

/// One thing that is wrong with the ShardRanges of a keyspace. Its text says what to edit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RangeProblem {
    /// The keyspace cannot have this number of slots.
    Slots(u32),
    /// There is no ShardRange at all.
    NoRanges {
        /// The keyspace's number of slots.
        slots: u32,
    },
    /// A range ends before it begins.
    Backwards {
        /// The ShardRange.
        range: String,
        /// Its first slot.
        first: i64,
        /// Its last slot.
        last: i64,
    },
    /// A range names slots that the keyspace does not have.
    OutOfBounds {
        /// The ShardRange.
        range: String,
        /// Its first slot.
        first: i64,
        /// Its last slot.
        last: i64,
        /// The keyspace's number of slots.
        slots: u32,
    },
    /// A range's home unit does not exist.
    UnknownUnit {
        /// The ShardRange.
        range: String,
        /// The unit.
        unit: UnitName,
    },
    /// Two objects of one name: the caller read them wrongly.
    SameName(String),
    /// Slots of several ranges.
    Overlap {
        /// The first slot.
        first: Slot,
        /// The last slot, inclusive.
        last: Slot,
        /// The ShardRanges that all hold them, sorted.
        ranges: Vec<String>,
    },
    /// Slots of no range.
    Gap {
        /// The first slot.
        first: Slot,
        /// The last slot, inclusive.
        last: Slot,
        /// The ShardRange that ends just before, if any.
        before: Option<String>,
        /// The ShardRange that begins just after, if any.
        after: Option<String>,
    },
}

impl RangeProblem {
    /// One word, for conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Slots(_) => "SlotsOutOfBounds",
            Self::NoRanges { .. } => "NoShardRanges",
            Self::Backwards { .. } => "RangeBackwards",
            Self::OutOfBounds { .. } => "RangeOutOfBounds",
            Self::UnknownUnit { .. } => "UnknownUnit",
            Self::SameName(_) => "RangeSameName",
            Self::Overlap { .. } => "RangesOverlap",
            Self::Gap { .. } => "RangesLeaveGap",
        }
    }

    /// The ShardRanges that it is about.
    pub fn ranges(&self) -> Vec<&str> {
        match self {
            Self::Slots(_) | Self::NoRanges { .. } => Vec::new(),
            Self::Backwards { range, .. } | Self::OutOfBounds { range, .. } | Self::UnknownUnit { range, .. } => {
                vec![range]
            }
            Self::SameName(range) => vec![range],
            Self::Overlap { ranges, .. } => ranges.iter().map(String::as_str).collect(),
            Self::Gap { before, after, .. } => before.iter().chain(after).map(String::as_str).collect(),
        }
    }
}

/// `slot 7` or `slots 7-9`.
fn slots_text(first: Slot, last: Slot) -> String {
    if first == last {
        format!("slot {first}")
    } else {
        format!("slots {first}-{last}")
    }
}

impl fmt::Display for RangeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots(slots) => write!(
                f,
                "the Keyspace has {slots} slots: it needs at least 1, at most {MAX_SLOTS}"
            ),
            Self::NoRanges { slots } => {
                let all = slots_text(0, Slot::try_from(slots.saturating_sub(1)).unwrap_or(Slot::MAX));
                write!(f, "no ShardRange: create some that cover {all}")
            }
            Self::Backwards { range, first, last } => {
                write!(f, "{range} ends before it begins: firstSlot {first}, lastSlot {last}")
            }
            Self::OutOfBounds {
                range,
                first,
                last,
                slots,
            } => {
                let end = i64::from(*slots) - 1;
                write!(
                    f,
                    "{range} has slots {first}-{last}, but the Keyspace has only slots 0-{end}"
                )
            }
            Self::UnknownUnit { range, unit } => {
                write!(f, "{range} names homeUnit {unit}, but there is no Unit of that name")
            }
            Self::SameName(range) => write!(f, "{range} was given twice"),
            Self::Overlap { first, last, ranges } => {
                let shown = ranges.iter().take(NAMES_SHOWN).map(String::as_str).collect::<Vec<_>>();
                let rest = ranges.len() - shown.len();
                let rest = if rest == 0 {
                    String::new()
                } else {
                    format!(" and {rest} more")
                };
                let (slots, verb) = (slots_text(*first, *last), if first == last { "is" } else { "are" });
                write!(f, "{slots} {verb} in several ranges: {}{rest}", shown.join(", "))
            }
            Self::Gap {
                first,
                last,
                before,
                after,
            } => {
                let (slots, verb) = (slots_text(*first, *last), if first == last { "is" } else { "are" });
                write!(f, "{slots} {verb} in no range")?;
                match (before, after) {
                    (Some(before), Some(after)) => write!(f, ": between {before} and {after}"),
                    (Some(before), None) => write!(f, ": {before} is the last range before"),
                    (None, Some(after)) => write!(f, ": {after} is the first range after"),
                    (None, None) => Ok(()),
                }
            }
        }
    }
}

/// The home unit of every slot, from the ShardRanges of one keyspace.
///
/// # Errors
///
/// Every problem, sorted: what is wrong with single ranges, then overlaps, then gaps, each in order of slots. A range
/// that is out of bounds or backwards still covers those of its slots that exist, so that one mistake is told once.
pub fn homes(slots: u32, ranges: &[ShardRange], known_units: &BTreeSet<UnitName>) -> Result<Homes, Vec<RangeProblem>> {
    let Some(end) = Slot::try_from(slots).ok().filter(|end| *end > 0 && slots <= MAX_SLOTS) else {
        return Err(vec![RangeProblem::Slots(slots)]);
    };
    if ranges.is_empty() {
        return Err(vec![RangeProblem::NoRanges { slots }]);
    }
    let mut problems = single_problems(slots, ranges, known_units);
    let mut runs: Vec<Home> = Vec::new();
    let mut edges = None;
    for run in sweep(end, ranges) {
        match run.ranges.as_slice() {
            [] => problems.push(edges.get_or_insert_with(|| Edges::of(ranges)).gap(&run, end)),
            [only] => match runs.last_mut() {
                Some(before) if before.unit == only.home => before.last = run.last,
                Some(_) | None => runs.push(Home {
                    first: run.first,
                    last: run.last,
                    unit: only.home.clone(),
                }),
            },
            several => problems.push(RangeProblem::Overlap {
                first: run.first,
                last: run.last,
                ranges: several.iter().map(|range| range.name.clone()).collect(),
            }),
        }
    }
    if problems.is_empty() {
        return Ok(Homes(runs));
    }
    problems.sort();
    Err(problems)
}

/// What is wrong with each range alone.
fn single_problems(slots: u32, ranges: &[ShardRange], known_units: &BTreeSet<UnitName>) -> Vec<RangeProblem> {
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for range in ranges {
        let (name, first, last) = (range.name.clone(), range.first, range.last);
        if !names.insert(&range.name) {
            problems.push(RangeProblem::SameName(name.clone()));
        }
        if !known_units.contains(&range.home) {
            let (range, unit) = (name.clone(), range.home.clone());
            problems.push(RangeProblem::UnknownUnit { range, unit });
        }
        if first > last {
            let range = name;
            problems.push(RangeProblem::Backwards { range, first, last });
        } else if first < 0 || last >= i64::from(slots) {
            let range = name;
            problems.push(RangeProblem::OutOfBounds {
                range,
                first,
                last,
                slots,
            });
        }
    }
    problems
}

/// Consecutive slots that the same ranges hold.
struct Run<'a> {
    first: Slot,
    last: Slot,
    ranges: Vec<&'a ShardRange>,
}

/// The slots `0..end`, cut wherever a range begins or ends; `ranges` of each run are sorted by name.
fn sweep(end: Slot, ranges: &[ShardRange]) -> Vec<Run<'_>> {
    // What exists of a range, as a half-open interval, with the smaller number first.
    let clip = |slot: i64| Slot::try_from(slot.clamp(0, i64::from(end))).unwrap_or(end);
    let clipped = |range: &ShardRange| {
        let (low, high) = (range.first.min(range.last), range.first.max(range.last));
        (clip(low), clip(high.saturating_add(1)))
    };
    let mut edges: Vec<(Slot, bool, usize)> = Vec::new();
    for (place, range) in ranges.iter().enumerate() {
        let (from, to) = clipped(range);
        if from < to {
            edges.extend([(from, true, place), (to, false, place)]);
        }
    }
    edges.sort_unstable();
    let (mut runs, mut open, mut from) = (Vec::new(), BTreeSet::new(), 0);
    let run = |from: Slot, to: Slot, open: &BTreeSet<usize>| {
        let mut held: Vec<_> = open.iter().map(|place| &ranges[*place]).collect();
        held.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Run {
            first: from,
            last: to - 1,
            ranges: held,
        }
    };
    for (at, begins, place) in edges {
        if from < at {
            runs.push(run(from, at, &open));
            from = at;
        }
        if begins {
            open.insert(place);
        } else {
            open.remove(&place);
        }
    }
    if from < end {
        runs.push(run(from, end, &open));
    }
    runs
}

/// Which ranges end and begin where, for those on both sides of a gap: there may be thousands of either.
struct Edges<'a> {
    last: BTreeMap<i64, &'a str>,
    first: BTreeMap<i64, &'a str>,
}

impl<'a> Edges<'a> {
    fn of(ranges: &'a [ShardRange]) -> Self {
        let (mut last, mut first) = (BTreeMap::new(), BTreeMap::new());
        for range in ranges {
            // Of several that end at one slot the first is named.
            last.entry(range.last.max(range.first)).or_insert(range.name.as_str());
            first.entry(range.first.min(range.last)).or_insert(range.name.as_str());
        }
        Self { last, first }
    }

    /// The gap of a run that no range holds, with the ranges on both sides.
    fn gap(&self, run: &Run<'_>, end: Slot) -> RangeProblem {
        let (first, last) = (run.first, run.last);
        let before = self.last.get(&(i64::from(first) - 1)).filter(|_| first > 0);
        let after = self.first.get(&(i64::from(last) + 1)).filter(|_| last + 1 < end);
        RangeProblem::Gap {
            first,
            last,
            before: before.map(|name| (*name).to_owned()),
            after: after.map(|name| (*name).to_owned()),
        }
    }
}
