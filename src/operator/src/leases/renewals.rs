//! Which renewals of write leases this process has seen, and when by its own clock: all that it may count the end of a
//! sealed lease from. No time that another machine wrote is compared with anything.

use jiff::SignedDuration;
use multiactive_core::ids::StoreName;
use multiactive_core::promotion::Progress;
use multiactive_ledger::HeldLease;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many renewals of a lease are remembered: they are landmarks in the log of a unit that is lost.
const KEPT: usize = 16;

/// A renewal, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The object: one that was made anew counts from the beginning.
    pub object: Option<String>,
    /// Which renewal of it.
    pub renewal: u64,
    /// When what first showed it was complete, by this machine's clock that runs in sleep.
    pub seen: SignedDuration,
    /// What the unit's own log had reached.
    pub positions: Vec<(StoreName, Progress)>,
    /// What it told of those before it: how long before it each was begun, and what the log had reached then.
    pub earlier: Vec<(SignedDuration, Vec<(StoreName, Progress)>)>,
}

/// One that is written otherwise is no landmark: nothing is known by it.
fn understood(positions: &BTreeMap<StoreName, String>) -> Vec<(StoreName, Progress)> {
    let read = positions.iter();
    read.filter_map(|(store, text)| Some((store.clone(), text.parse().ok()?)))
        .collect()
}

/// The memory of a process, by name of the lease; cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Renewals(Arc<Mutex<BTreeMap<String, Vec<Noted>>>>);

impl Renewals {
    /// Takes note of what a read or a watch showed, once it is complete. What is older than what was shown before says
    /// nothing; without a clock nothing is noted.
    pub fn note(&self, name: &str, held: &HeldLease, now: Option<SignedDuration>) {
        let Some(now) = now else { return };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(name.to_owned()).or_default();
        let object = held.version.reference().uid;
        if known.first().is_some_and(|last| last.object != object) {
            known.clear();
        }
        if known.first().is_some_and(|last| last.renewal >= held.lease.renewals) {
            return;
        }
        let earlier = held.lease.earlier.iter();
        let earlier = earlier.map(|earlier| (earlier.before, understood(&earlier.positions)));
        let noted = Noted {
            object,
            renewal: held.lease.renewals,
            seen: now,
            positions: understood(&held.lease.positions),
            earlier: earlier.collect(),
        };
        known.insert(0, noted);
        known.truncate(KEPT);
    }

    /// Those of a lease, the last one first.
    pub fn of(&self, name: &str) -> Vec<Noted> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned().unwrap_or_default()
    }
}
