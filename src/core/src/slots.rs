//! Slots and sets of slots.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A slot's number, from 0 to the keyspace's number of slots minus one.
pub type Slot = u16;

/// The largest number of slots that a keyspace may have.
pub const MAX_SLOTS: u32 = 16_384;

/// A set of slots: inclusive ranges, sorted, apart from each other by at least one slot. Its text is `0-511,600`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotSet(Vec<(Slot, Slot)>);

impl SlotSet {
    /// The set of `first..=last`; empty where `first > last`.
    pub fn range(first: Slot, last: Slot) -> Self {
        Self(if first <= last { vec![(first, last)] } else { Vec::new() })
    }

    /// The inclusive ranges, in order.
    pub fn ranges(&self) -> &[(Slot, Slot)] {
        &self.0
    }

    /// Whether no slot is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many slots are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|(first, last)| usize::from(last - first) + 1).sum()
    }

    /// Whether `slot` is in the set.
    pub fn contains(&self, slot: Slot) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= slot);
        after > 0 && slot <= self.0[after - 1].1
    }

    /// Every slot of the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// Whether the sets share a slot.
    pub fn intersects(&self, other: &Self) -> bool {
        self.common(other).next().is_some()
    }

    /// The slots that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.common(other).collect())
    }

    /// The slots of the set from `first` to `last`, inclusive. Takes no time for what lies outside.
    #[must_use]
    pub fn within(&self, first: Slot, last: Slot) -> Self {
        let from = self.0.partition_point(|range| range.1 < first);
        let ranges = self.0[from..]
            .iter()
            .take_while(|range| range.0 <= last && first <= last);
        Self(ranges.map(|range| (range.0.max(first), range.1.min(last))).collect())
    }

    /// The slots that are in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).copied().collect()
    }

    /// The slots that are in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut taken = other.0.iter().copied().peekable();
        for (first, last) in self.0.iter().copied() {
            // In u32: the slot after the last one must not overflow.
            let mut next = u32::from(first);
            while let Some((from, to)) = taken.peek().copied().filter(|(from, _)| *from <= last) {
                if u32::from(from) > next {
                    // `from` is above `next`, so it is above 0 and `next` fits.
                    left.push((next as Slot, from - 1));
                }
                next = next.max(u32::from(to) + 1);
                if to > last {
                    break;
                }
                taken.next();
            }
            if next <= u32::from(last) {
                left.push((next as Slot, last));
            }
        }
        Self(left)
    }

    /// What the ranges of both sets share, in order: each step drops the range that ends first, so it takes time in proportion
    /// to the number of ranges.
    fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (Slot, Slot)> + 'a {
        let (mut one, mut two) = (self.0.as_slice(), other.0.as_slice());
        std::iter::from_fn(move || {
            while let ([(first, last), ..], [(f, l), ..]) = (one, two) {
                let both = (*first.max(f), *last.min(l));
                if last <= l {
                    one = &one[1..];
                } else {
                    two = &two[1..];
                }
                if both.0 <= both.1 {
                    return Some(both);
                }
            }
            None
        })
    }
}

/// Joins ranges, in any order, overlapping or touching.
impl FromIterator<(Slot, Slot)> for SlotSet {
    fn from_iter<I: IntoIterator<Item = (Slot, Slot)>>(ranges: I) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        let mut joined: Vec<(Slot, Slot)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match joined.last_mut() {
                Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
                Some(_) | None => joined.push((first, last)),
            }
        }
        Self(joined)
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        slots.into_iter().map(|slot| (slot, slot)).collect()
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// The text is not a list of slots.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no list of slots: expected numbers and ranges below {MAX_SLOTS}, such as 0-511,600")]
pub struct ParseSlotsError(pub String);

impl FromStr for SlotSet {
    type Err = ParseSlotsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `parse` alone would take `+7` too.
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str| text.parse::<Slot>().ok().filter(|_| digits(text));
        let slot = |text: &str| number(text).filter(|slot| u32::from(*slot) < MAX_SLOTS);
        let range = |part: &str| match part.split_once('-') {
            Some((first, last)) => Some((slot(first)?, slot(last)?)).filter(|(first, last)| first <= last),
            None => slot(part).map(|slot| (slot, slot)),
        };
        let parts = text.split(',').filter(|part| !part.is_empty()).map(range);
        parts
            .collect::<Option<Vec<_>>>()
            .map(Self::from_iter)
            .ok_or_else(|| ParseSlotsError(text.to_owned()))
    }
}

impl TryFrom<String> for SlotSet {
    type Error = ParseSlotsError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SlotSet> for String {
    fn from(set: SlotSet) -> Self {
        set.to_string()
    }
}
