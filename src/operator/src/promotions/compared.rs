//! What units answered to the comparison of a promotion's rows, and who has not answered yet.

use super::seen::report;
use crate::tables::Inputs;
use base64::Engine;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::{MovingStore, Operation, Step, StoreCompared, Uncompared};
use multiactive_core::slots::Slot;
use std::collections::{BTreeMap, BTreeSet};

/// The comparison of this round, once every source and the target have answered it.
pub(super) fn compared(op: &Operation, inputs: &Inputs, stores: &[MovingStore]) -> Option<Vec<StoreCompared>> {
    let mut all = Vec::new();
    for store in stores {
        let target = sums(op, &op.target, None, store, inputs)?.1;
        let (mut rows, mut differing) = (0_u64, Vec::new());
        for source in sources_of(op, store) {
            let (count, mine) = sums(op, source, Some(source), store, inputs)?;
            rows = rows.saturating_add(count);
            let differ = mine.iter().filter(|(slot, sum)| target.get(slot) != Some(sum));
            differing.extend(differ.map(|(slot, _)| *slot));
        }
        all.push(StoreCompared {
            store: store.store.clone(),
            keyspace: store.keyspace.clone(),
            rows,
            differing: differing.into_iter().collect(),
        });
    }
    Some(all)
}

/// The sources of a store's slots, each once, in order.
fn sources_of<'a>(op: &'a Operation, store: &MovingStore) -> BTreeSet<&'a UnitName> {
    let moves = op.moves.iter().filter(|m| m.keyspace == store.keyspace);
    moves.map(|slot_move| &slot_move.source).collect()
}

/// In Verify: who has not answered the comparison of this round, and why where that is known.
pub(super) fn uncompared(op: &Operation, inputs: &Inputs, stores: &[MovingStore]) -> Vec<Uncompared> {
    if op.step != Step::Verify {
        return Vec::new();
    }
    let mut all = Vec::new();
    for store in stores {
        let sources = sources_of(op, store).into_iter().map(|unit| (unit, Some(unit)));
        for (unit, source) in sources.chain([(&op.target, None)]) {
            if sums(op, unit, source, store, inputs).is_none() {
                all.push(Uncompared {
                    store: store.store.clone(),
                    unit: unit.clone(),
                    why: unanswered(op, unit, store, inputs),
                });
            }
        }
    }
    all
}

/// Why a unit's answer about a store is missing: nobody hears from it, it says so itself, or its store is in trouble.
fn unanswered(op: &Operation, unit: &UnitName, store: &MovingStore, inputs: &Inputs) -> Option<String> {
    if inputs.answers(unit) == Some(false) {
        return Some("its member cluster does not answer".to_owned());
    }
    let Some(report) = report(op, unit, inputs) else {
        return Some("its agent has not reported".to_owned());
    };
    let mut said = report.problems.iter();
    let said = said.find(|problem| problem.store == store.store.as_str());
    said.map(|problem| problem.message.clone())
        .or_else(|| inputs.store_problem(unit))
}

/// How many rows a unit read, and the sum of each slot of this round that it answers for: a source for its own, the
/// target for all.
fn sums(
    op: &Operation,
    unit: &UnitName,
    source: Option<&UnitName>,
    store: &MovingStore,
    inputs: &Inputs,
) -> Option<(u64, BTreeMap<Slot, [u8; 8]>)> {
    let said = report(op, unit, inputs)?.checksums.iter();
    let round = i32::try_from(op.round).ok()?;
    let answer = said
        .into_iter()
        .find(|c| c.store == store.store.as_str() && c.round == round)?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(&answer.sums).ok()?;
    let slots = op.round_slots(&store.keyspace, source);
    let (sums, rest) = bytes.as_chunks::<8>();
    if sums.len() != slots.len() || !rest.is_empty() {
        return None;
    }
    Some((
        u64::try_from(answer.rows).ok()?,
        slots.iter().zip(sums.iter().copied()).collect(),
    ))
}
