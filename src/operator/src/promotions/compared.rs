//! What the target answered to the comparison of a promotion's rows, and for which stores it has not answered yet.

use super::seen::report;
use crate::tables::Inputs;
use multiactive_api::StoreComparison;
use multiactive_core::promotion::{MovingStore, Operation, Step, StoreCompared, Uncompared};
use multiactive_core::slots::SlotSet;

/// The comparison, once the target has answered for every store.
pub(super) fn compared(op: &Operation, inputs: &Inputs, stores: &[MovingStore]) -> Option<Vec<StoreCompared>> {
    stores.iter().map(|store| answer(op, store, inputs)).collect()
}

/// In Verify: for which stores the target has not answered, and why where that is known.
pub(super) fn uncompared(op: &Operation, inputs: &Inputs, stores: &[MovingStore]) -> Vec<Uncompared> {
    if op.step != Step::Verify {
        return Vec::new();
    }
    let unanswered = stores.iter().filter(|store| answer(op, store, inputs).is_none());
    unanswered
        .map(|store| Uncompared {
            store: store.store.clone(),
            unit: op.target.clone(),
            why: why(op, store, inputs),
        })
        .collect()
}

/// Why the answer about a store is missing: nobody hears from the target, it says so itself, or its store is in trouble.
fn why(op: &Operation, store: &MovingStore, inputs: &Inputs) -> Option<String> {
    if inputs.answers(&op.target) == Some(false) {
        return Some("its member cluster does not answer".to_owned());
    }
    let Some(report) = report(op, &op.target, inputs) else {
        return Some("its agent has not reported".to_owned());
    };
    let mut said = report.problems.iter();
    let said = said.find(|problem| problem.store == store.store.as_str());
    said.map(|problem| problem.message.clone())
        .or_else(|| inputs.store_problem(&op.target))
}

/// What the target says of a store; nothing, where it says what nobody understands.
fn answer(op: &Operation, store: &MovingStore, inputs: &Inputs) -> Option<StoreCompared> {
    let said = report(op, &op.target, inputs)?.compared.iter();
    let StoreComparison {
        store: _,
        rows,
        differing,
        examples,
    } = said.into_iter().find(|said| said.store == store.store.as_str())?;
    let differing = differing.as_deref().map(str::parse::<SlotSet>).transpose().ok()?;
    Some(StoreCompared {
        store: store.store.clone(),
        keyspace: store.keyspace.clone(),
        rows: u64::try_from(*rows).ok()?,
        differing: differing.unwrap_or_default(),
        examples: examples.clone(),
    })
}
