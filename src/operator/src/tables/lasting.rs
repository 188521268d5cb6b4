//! Since when something that is seen has been so without a break, as far as this process has looked. One bad report
//! changes nothing; one that lasts does. Pure: time is an argument, and it is one that only goes forward: what has lasted
//! for so long has, though the clock of the day was set meanwhile.

use super::Inputs;
use crate::failovers::request::uid_of;
use crate::promotions::seen::seen;
use jiff::{SignedDuration, Timestamp};
use multiactive_core::ids::{OperationUid, StoreName, UnitName};
use multiactive_core::promotion::{Operation, Reach, Seen, Since, Step, UnitReady, is_unfit};
use multiactive_core::reasons;
use multiactive_core::table::RoutingTable;
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// For how long a database must not have answered its agent before nobody waits for it any more: as long as a member
/// cluster that stops answering is given by its probes.
const SILENT: SignedDuration = SignedDuration::from_secs(15);

/// A clock that never goes back nor jumps: the time of day at its making, and what passed since then.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    day: Timestamp,
    made: Instant,
}

impl Default for SteadyClock {
    fn default() -> Self {
        Self {
            day: Timestamp::now(),
            made: Instant::now(),
        }
    }
}

impl SteadyClock {
    /// What it says.
    pub fn now(&self) -> Timestamp {
        self.day.saturating_add(self.made.elapsed()).unwrap_or(self.day)
    }
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lasting {
    operations: BTreeMap<OperationUid, Since>,
    stores: BTreeMap<(UnitName, StoreName), Timestamp>,
    /// Failovers, whether they have begun or not.
    failovers: BTreeMap<OperationUid, Timestamp>,
    looked: Option<Timestamp>,
}

impl Lasting {
    /// Takes one look into account, and puts into the inputs which databases have been silent for long. `now` is of a
    /// clock that never goes back.
    pub fn look(&mut self, table: Option<&RoutingTable>, inputs: &mut Inputs, now: Timestamp) {
        self.looked = Some(now);
        let silent = silent(inputs);
        self.stores.retain(|store, _| silent.contains(store));
        for store in silent {
            self.stores.entry(store).or_insert(now);
        }
        let long = self
            .stores
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= SILENT);
        inputs.silent_stores = long.map(|(store, _)| store.clone()).collect();
        let failovers: BTreeSet<OperationUid> = inputs.failovers.iter().map(|failover| uid_of(failover)).collect();
        self.failovers.retain(|uid, _| failovers.contains(uid));
        for uid in failovers {
            self.failovers.entry(uid).or_insert(now);
        }
        let operations = table.map(|table| table.operations.as_slice()).unwrap_or_default();
        self.operations
            .retain(|uid, _| operations.iter().any(|op| op.uid == *uid));
        for op in operations {
            let since = self.operations.entry(op.uid.clone()).or_default();
            let entered = entered(op, since, now);
            // After the commit point nothing is given up, however long it lasts.
            *since = match op.step.may_abort() {
                true => since_when(op, &seen(op, inputs), since, now),
                false => Since::default(),
            };
            since.entered = entered;
        }
    }

    /// Since when it has been so for this operation, by the clock of the day, which now says `now`.
    pub fn of(&self, op: &Operation, now: Timestamp) -> Since {
        let (Some(known), Some(looked)) = (self.operations.get(&op.uid), self.looked) else {
            return Since::default();
        };
        let today = |since: Timestamp| now.checked_sub(looked.duration_since(since)).unwrap_or(now);
        Since {
            unready: known.unready.map(today),
            unfit: known.unfit.map(today),
            fenced: known.fenced.map(today),
            broken: known
                .broken
                .iter()
                .map(|(unit, at)| (unit.clone(), today(*at)))
                .collect(),
            entered: known.entered.iter().map(|(step, at)| (*step, today(*at))).collect(),
        }
    }

    /// For how long a Failover has been seen; nothing where it has not.
    pub fn waited(&self, failover: &OperationUid) -> SignedDuration {
        let since = self.failovers.get(failover).zip(self.looked);
        since.map_or(SignedDuration::ZERO, |(since, looked)| looked.duration_since(*since))
    }

    /// When a database counts as silent that does not yet, by the clock of the day, which now says `now`.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let looked = self.looked?;
        let left = self.stores.values().map(|since| SILENT - looked.duration_since(*since));
        let next = left.filter(|left| left.is_positive()).min()?;
        now.checked_add(next).ok()
    }
}

/// Since when each step of the record has been seen in it.
fn entered(op: &Operation, before: &Since, now: Timestamp) -> BTreeMap<Step, Timestamp> {
    let steps = op.history.iter().map(|record| record.step);
    steps
        .map(|step| (step, before.entered.get(&step).copied().unwrap_or(now)))
        .collect()
}

fn since_when(op: &Operation, seen: &Seen, before: &Since, now: Timestamp) -> Since {
    let since = |is: bool, before: Option<Timestamp>| is.then(|| before.unwrap_or(now));
    let ready = seen.target.as_ref().and_then(|target| target.ready.as_ref());
    let unready = match ready {
        Some(UnitReady::NotReady(_)) => true,
        Some(UnitReady::Ready) | None => false,
    };
    let broken = seen.members.iter().filter(|member| match member.reach {
        Some(Reach::Broken(_)) => true,
        Some(Reach::Reached | Reach::Waiting(_)) | None => false,
    });
    let broken = broken.map(|member| {
        let before = before.broken.get(&member.unit).copied();
        (member.unit.clone(), before.unwrap_or(now))
    });
    // Rows are compared as long as they differ; only then it matters whether writes could be held.
    let ready_to_hold = seen.compared.as_ref().is_some_and(|compared| {
        let mut stores = compared.iter();
        stores.all(|store| store.differing.is_empty())
    });
    let mut fences = seen.sources.iter().filter_map(|source| source.fence.as_ref());
    let fenced = op.failover.is_some() && fences.any(|fence| fence.epoch == op.epoch);
    Since {
        unready: since(unready, before.unready),
        unfit: since(ready_to_hold && is_unfit(op, seen), before.unfit),
        fenced: since(fenced, before.fenced),
        broken: broken.collect(),
        entered: BTreeMap::new(),
    }
}

/// Databases that do not answer their agent, by its own words; an agent that is not heard says nothing.
fn silent(inputs: &Inputs) -> BTreeSet<(UnitName, StoreName)> {
    let heard = inputs
        .reports
        .iter()
        .filter(|(unit, _)| inputs.reachable.contains(*unit));
    let said = heard.filter_map(|(unit, report)| Some((unit, report.status.as_ref()?)));
    let stores = said.flat_map(|(unit, status)| status.stores.iter().map(move |store| (unit, store)));
    let silent = stores.filter(|(_, store)| {
        let reason = store.reason.as_deref().unwrap_or_default();
        !store.ready && reasons::is_silence(reason)
    });
    silent
        .map(|(unit, store)| (unit.clone(), StoreName(store.name.clone())))
        .collect()
}

#[cfg(test)]
#[path = "lasting_tests.rs"]
mod tests;
