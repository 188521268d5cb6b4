//! Spans, runs of slots with one owner and one state, and their compact text.

use crate::epoch::Epoch;
use crate::ids::UnitName;
use crate::slots::{MAX_SLOTS, Slot};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// What the owner of a span may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SpanState {
    /// No unit owns it: it has never been assigned.
    Unowned,
    /// The owner reads and writes.
    Serving,
    /// The owner's routers hold new writes; its database takes those under way and is fenced once there are none. The table
    /// does not say when that is.
    Held,
    /// The owner's database refuses writes.
    Fenced,
    /// The owner is new; its database is about to take writes.
    Opening,
}

impl SpanState {
    const ALL: [(Self, char); 5] = [
        (Self::Unowned, 'u'),
        (Self::Serving, 's'),
        (Self::Held, 'h'),
        (Self::Fenced, 'f'),
        (Self::Opening, 'o'),
    ];

    fn letter(self) -> char {
        match self {
            Self::Unowned => 'u',
            Self::Serving => 's',
            Self::Held => 'h',
            Self::Fenced => 'f',
            Self::Opening => 'o',
        }
    }

    /// Whether the owner's database may take writes in this state. Where an operation holds them, the owner fences by itself
    /// and does not go by this.
    pub fn is_open(self) -> bool {
        match self {
            Self::Serving | Self::Held | Self::Opening => true,
            Self::Unowned | Self::Fenced => false,
        }
    }

    /// Whether a router must hold a write instead of passing it to the owner.
    pub fn holds_writes(self) -> bool {
        match self {
            Self::Held | Self::Fenced => true,
            Self::Unowned | Self::Serving | Self::Opening => false,
        }
    }
}

/// Consecutive slots with one owner, one state and one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first slot.
    pub first: Slot,
    /// The last slot, inclusive.
    pub last: Slot,
    /// The unit that owns it; `None` exactly when `Unowned`.
    pub owner: Option<UnitName>,
    /// What the owner may do.
    pub state: SpanState,
    /// When owner or state changed last.
    pub epoch: Epoch,
}

impl Span {
    /// Whether `unit` owns it.
    pub fn is_owned_by(&self, unit: &UnitName) -> bool {
        self.owner.as_ref() == Some(unit)
    }
}

/// A text that does not describe spans.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSpansError {
    /// One run is malformed.
    #[error("run {index}, `{run}`: expected length, state letter, unit index, @ and epoch, such as 512s0@1.12")]
    Run {
        /// Its place in the text, from 0.
        index: usize,
        /// Its text.
        run: String,
    },
    /// A run names a unit that the table does not list.
    #[error("run {index} names unit {unit}, but the table lists only {units}")]
    Unit {
        /// Its place in the text, from 0.
        index: usize,
        /// The unit's index.
        unit: usize,
        /// How many units the table lists.
        units: usize,
    },
    /// The runs cover more or fewer slots than the keyspace has.
    #[error("the runs cover {covered} slots, the keyspace has {slots}")]
    Length {
        /// How many slots the runs cover.
        covered: u32,
        /// How many slots the keyspace has.
        slots: u32,
    },
}

/// Writes spans as runs: length, state letter, index of the owner in `units`, `@`, epoch; joined by commas.
///
/// `512s0@1.12,512u@0.0` says: 512 slots served by the first unit since epoch 1.12, then 512 that nobody owns. An
/// owner that `units` does not list cannot be written, nor an owner of unowned slots, nor the lack of one of others:
/// `None`.
pub fn encode(spans: &[Span], units: &[UnitName]) -> Option<String> {
    let mut text = String::with_capacity(spans.len() * 12);
    for span in spans {
        if !text.is_empty() {
            text.push(',');
        }
        let length = u32::from(span.last.checked_sub(span.first)?) + 1;
        // Writing to a String cannot fail.
        let _ = write!(text, "{length}{}", span.state.letter());
        match (&span.owner, span.state) {
            (None, SpanState::Unowned) => {}
            (Some(owner), SpanState::Serving | SpanState::Held | SpanState::Fenced | SpanState::Opening) => {
                let index = units.iter().position(|unit| unit == owner)?;
                let _ = write!(text, "{index}");
            }
            (Some(_), SpanState::Unowned)
            | (None, SpanState::Serving | SpanState::Held | SpanState::Fenced | SpanState::Opening) => return None,
        }
        let _ = write!(text, "@{}", span.epoch);
    }
    Some(text)
}

/// Reads what [`encode`] wrote.
///
/// # Errors
///
/// [`ParseSpansError`] where a run is malformed, names an unknown unit, or the runs do not cover exactly `slots` slots.
pub fn decode(text: &str, slots: u32, units: &[UnitName]) -> Result<Vec<Span>, ParseSpansError> {
    let mut spans = Vec::new();
    let mut covered = 0_u32;
    for (index, run) in text.split(',').enumerate() {
        let bad = || ParseSpansError::Run {
            index,
            run: run.chars().take(40).collect(),
        };
        let (length, owner, state, epoch) = parse_run(run).ok_or_else(bad)?;
        let first = covered;
        covered = covered.checked_add(length).ok_or_else(bad)?;
        if covered > slots.min(MAX_SLOTS) {
            return Err(ParseSpansError::Length { covered, slots });
        }
        let owner = match owner {
            Some(unit) => {
                let named = units.get(unit).cloned();
                Some(named.ok_or(ParseSpansError::Unit {
                    index,
                    unit,
                    units: units.len(),
                })?)
            }
            None => None,
        };
        let (Ok(first), Ok(last)) = (Slot::try_from(first), Slot::try_from(covered - 1)) else {
            return Err(bad());
        };
        spans.push(Span {
            first,
            last,
            owner,
            state,
            epoch,
        });
    }
    if covered == slots {
        Ok(spans)
    } else {
        Err(ParseSpansError::Length { covered, slots })
    }
}

/// Length, index of the owner, state and epoch of one run.
fn parse_run(run: &str) -> Option<(u32, Option<usize>, SpanState, Epoch)> {
    let at = run.find(|c: char| !c.is_ascii_digit())?;
    let length = run[..at].parse().ok().filter(|length| *length > 0)?;
    let letter = run[at..].chars().next()?;
    let state = SpanState::ALL.iter().find(|(_, l)| *l == letter)?.0;
    let (unit, epoch) = run[at + 1..].split_once('@')?;
    let owner = match (state, unit) {
        (SpanState::Unowned, "") => None,
        (SpanState::Unowned, _)
        | (SpanState::Serving | SpanState::Held | SpanState::Fenced | SpanState::Opening, "") => {
            return None;
        }
        (SpanState::Serving | SpanState::Held | SpanState::Fenced | SpanState::Opening, unit) => {
            // `parse` alone would take `+1` too.
            Some(
                unit.parse()
                    .ok()
                    .filter(|_| unit.bytes().all(|byte| byte.is_ascii_digit()))?,
            )
        }
    };
    Some((length, owner, state, epoch.parse().ok()?))
}
