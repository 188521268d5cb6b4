//! What a Verification says of the rows that it compared, as it stands in its status.

use jiff::{SignedDuration, Timestamp};
use multiactive_api::{PairState, VerifiedPair};
use serde::{Deserialize, Serialize};

/// How far a Verification is, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Compared {
    /// How many of the comparisons have ended, such as 4/6.
    pub done: Option<String>,
    /// How many slots of how many were compared, of all comparisons together, such as 512/2048.
    pub compared_slots: Option<String>,
    /// How many rows of owners were compared, each once for every unit.
    pub rows: Option<i64>,
    /// In how many slots of all units rows differed.
    pub differing_slots: Option<i64>,
    /// When its comparisons began.
    pub started_at: Option<String>,
    /// When the last of them had ended.
    pub ended_at: Option<String>,
    /// One entry for each store, unit and owner.
    pub pairs: Vec<VerifiedPair>,
}

impl Compared {
    /// How long all of it took; `None` before its end.
    pub fn took(&self) -> Option<SignedDuration> {
        let at = |at: &Option<String>| -> Option<Timestamp> { at.as_ref()?.parse().ok() };
        Some(at(&self.ended_at)?.duration_since(at(&self.started_at)?))
    }

    /// The pair of the same store, unit and owner.
    pub fn same(&self, pair: &VerifiedPair) -> Option<&VerifiedPair> {
        let key = |pair: &VerifiedPair| (pair.store.clone(), pair.unit.clone(), pair.found.owner.clone());
        self.pairs.iter().find(|known| key(known) == key(pair))
    }

    /// The pairs whose rows differ still.
    pub fn differ(&self) -> impl Iterator<Item = &VerifiedPair> {
        self.pairs.iter().filter(|pair| pair.found.state == PairState::Differs)
    }
}

/// Whose rows, in words.
pub fn name(pair: &VerifiedPair) -> String {
    format!("{} at {} with {}", pair.store, pair.unit, pair.found.owner)
}
