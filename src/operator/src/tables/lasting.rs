//! Since when something that is seen has been so without a break, as far as this process has looked. One bad report
//! changes nothing; one that lasts does. Pure: time is an argument.

use super::Inputs;
use crate::promotions::seen::seen;
use jiff::{SignedDuration, Timestamp};
use multiactive_core::ids::{OperationUid, StoreName, UnitName};
use multiactive_core::promotion::{Operation, Reach, Seen, Since, UnitReady, is_unfit};
use multiactive_core::table::RoutingTable;
use std::collections::{BTreeMap, BTreeSet};

/// For how long a database must not have answered its agent before nobody waits for it any more: as long as a member
/// cluster that stops answering is given by its probes.
const SILENT: SignedDuration = SignedDuration::from_secs(15);

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lasting {
    operations: BTreeMap<OperationUid, Since>,
    stores: BTreeMap<(UnitName, StoreName), Timestamp>,
}

impl Lasting {
    /// Takes one look into account, and puts into the inputs which databases have been silent for long.
    pub fn look(&mut self, table: Option<&RoutingTable>, inputs: &mut Inputs, now: Timestamp) {
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
        let operations = table.map(|table| table.operations.as_slice()).unwrap_or_default();
        self.operations
            .retain(|uid, _| operations.iter().any(|op| op.uid == *uid));
        for op in operations.iter().filter(|op| op.step.may_abort()) {
            let since = self.operations.entry(op.uid.clone()).or_default();
            *since = since_when(op, &seen(op, inputs), since, now);
        }
    }

    /// Since when it has been so for this operation.
    pub fn of(&self, op: &Operation) -> Since {
        self.operations.get(&op.uid).cloned().unwrap_or_default()
    }

    /// When a database counts as silent that does not yet.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let due = self.stores.values().filter_map(|since| since.checked_add(SILENT).ok());
        due.filter(|due| *due > now).min()
    }
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
    Since {
        unready: since(unready, before.unready),
        unfit: since(ready_to_hold && is_unfit(op, seen), before.unfit),
        broken: broken.collect(),
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
        !store.ready && matches!(reason, "Unreachable" | "TimedOut")
    });
    silent
        .map(|(unit, store)| (unit.clone(), StoreName(store.name.clone())))
        .collect()
}

#[cfg(test)]
#[path = "lasting_tests.rs"]
mod tests;
