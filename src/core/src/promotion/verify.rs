//! Verify: target and sources are compared while they run; where rows differ nothing moves.

use super::next::{Move, aborted, enter_hold, not_fit};
use super::operation::Operation;
use super::seen::{Seen, StoreCompared, Uncompared};
use super::wait::WaitFor;
use crate::ids::KeyspaceName;
use crate::slots::SlotSet;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// How many rows that differ a message names.
const NAMED: usize = 5;

pub(super) fn verify(op: &Operation, seen: &Seen, now: Timestamp) -> Move {
    if seen.target.as_ref().is_some_and(|target| target.cordoned) {
        return aborted("TargetCordoned", format!("{} was cordoned", op.target));
    }
    let Some(compared) = &seen.compared else {
        // A comparison has no budget of its own: it holds nobody up, and a person may abort it.
        return Move::Wait(WaitFor::Comparison(missing(&seen.uncompared)));
    };
    if let Some(message) = differing(compared) {
        return aborted("RowsDiffer", message);
    }
    // It may have taken hours.
    not_fit(op, seen, now).unwrap_or_else(|| enter_hold(op, seen, Vec::new()))
}

/// Whose answers are missing, those first who say why.
fn missing(uncompared: &[Uncompared]) -> String {
    let (said, silent): (Vec<_>, Vec<_>) = uncompared.iter().partition(|side| side.why.is_some());
    let all: Vec<_> = said.iter().chain(&silent).map(ToString::to_string).collect();
    match all.is_empty() {
        true => "nobody has answered".to_owned(),
        false => all.join("; "),
    }
}

/// In which slots of which keyspace rows differ, and some of them; `None` where all are equal.
fn differing(compared: &[StoreCompared]) -> Option<String> {
    let mut slots: BTreeMap<&KeyspaceName, SlotSet> = BTreeMap::new();
    let differ = || compared.iter().filter(|store| !store.differing.is_empty());
    for store in differ() {
        let known = slots.entry(&store.keyspace).or_default();
        *known = known.union(&store.differing);
    }
    if slots.is_empty() {
        return None;
    }
    let slots: Vec<_> = slots
        .iter()
        .map(|(keyspace, slots)| format!("{keyspace} {slots}"))
        .collect();
    let rows = differ().flat_map(|store| store.examples.iter().map(move |row| format!("{} {row}", store.store)));
    let rows: Vec<_> = rows.take(NAMED).collect();
    let mut message = format!("rows differ between source and target in slots {}", slots.join("; "));
    if !rows.is_empty() {
        message = format!("{message}; among them {}", rows.join(", "));
    }
    Some(message)
}
