//! Verify: rounds of comparing rows, until none differ, or they differ for good.

use super::next::{Move, aborted, enter_hold, not_fit};
use super::operation::Operation;
use super::seen::{Seen, StoreCompared, Uncompared};
use super::timers::next_round;
use super::wait::WaitFor;
use crate::ids::KeyspaceName;
use crate::slots::SlotSet;
use jiff::Timestamp;

/// How many rounds Verify compares the slots that differ, before it calls them different. Rows in flight differ for
/// a moment in a comparison of running stores, and how long that is depends on the load: so the rounds keep ever more
/// time between them, 25 s in all.
const VERIFY_ROUNDS: u32 = 10;

pub(super) fn verify(op: &Operation, seen: &Seen, now: Timestamp) -> Move {
    if seen.target.as_ref().is_some_and(|target| target.cordoned) {
        return aborted("TargetCordoned", format!("{} was cordoned", op.target));
    }
    let Some(compared) = &seen.compared else {
        // A comparison has no budget of its own: it holds nobody up, and a person may abort it.
        return Move::Wait(WaitFor::Comparison(missing(&seen.uncompared)));
    };
    let differing = differing(compared);
    if differing.is_empty() {
        // It may have taken hours.
        return not_fit(op, seen, now).unwrap_or_else(|| enter_hold(op, seen, Vec::new()));
    }
    if op.round + 1 >= VERIFY_ROUNDS {
        let slots: Vec<_> = differing
            .iter()
            .map(|(keyspace, slots)| format!("{keyspace} {slots}"))
            .collect();
        let message = format!("rows differ between source and target in slots {}", slots.join("; "));
        return aborted("RowsDiffer", message);
    }
    match next_round(op, seen) {
        Some(at) if now < at => {
            let round = op.round + 2;
            let slots: usize = differing.iter().map(|(_, slots)| slots.len()).sum();
            Move::Wait(WaitFor::Comparison(format!(
                "round {round} of at most {VERIFY_ROUNDS}, of {slots} slots that differ or whose rows are under way"
            )))
        }
        Some(_) | None => Move::CompareAgain(differing),
    }
}

/// Whose answers are missing, those first who say why.
fn missing(uncompared: &[Uncompared]) -> String {
    let (said, silent): (Vec<_>, Vec<_>) = uncompared.iter().partition(|side| side.why.is_some());
    let all: Vec<_> = said.iter().chain(&silent).map(ToString::to_string).collect();
    match all.is_empty() {
        true => "no side has answered".to_owned(),
        false => all.join("; "),
    }
}

/// The slots that differ in any store, by keyspace.
fn differing(compared: &[StoreCompared]) -> Vec<(KeyspaceName, SlotSet)> {
    let mut all: Vec<(KeyspaceName, SlotSet)> = Vec::new();
    for store in compared.iter().filter(|store| !store.differing.is_empty()) {
        match all.iter_mut().find(|(keyspace, _)| *keyspace == store.keyspace) {
            Some((_, slots)) => *slots = slots.union(&store.differing),
            None => all.push((store.keyspace.clone(), store.differing.clone())),
        }
    }
    all
}
