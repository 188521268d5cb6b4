//! What the target answered to the comparison of a promotion's rows, and for which stores it has not answered yet.

use super::seen::report;
use crate::tables::Inputs;
use multiactive_api::{PairReport, StoreComparison};
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

/// Why the answer about a store is missing: nobody hears from the target, it says so itself, or its store is in trouble; else how
/// far it is.
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
        .or_else(|| {
            let pairs = report.comparing.iter();
            let pairs = pairs.filter(|pair| pair.store == store.store.as_str());
            far(&pairs.map(|pair| &pair.found).collect::<Vec<_>>())
        })
}

/// How far a comparison is, in steps that are not too many to be told one by one; `None` where nothing was compared.
fn far(pairs: &[&PairReport]) -> Option<String> {
    let slots = |slots: &Option<String>| {
        let slots = slots.as_ref().and_then(|slots| slots.parse::<SlotSet>().ok());
        slots.unwrap_or_default().len()
    };
    let all: usize = pairs.iter().map(|pair| slots(&pair.slots)).sum();
    let done = pairs.iter().map(|pair| match pair.state.has_ended() {
        true => slots(&pair.slots),
        false => slots(&pair.compared),
    });
    let tenths = (10 * done.sum::<usize>()).checked_div(all).unwrap_or_default();
    let within = pairs.iter().filter_map(|pair| pair.within.as_ref());
    let rows: i64 = within.map(|within| within.rows).sum();
    let large = rows.checked_ilog10().map(|digits| {
        let step = 10_i64.pow(digits);
        format!("{} rows of a large slot", rows / step * step)
    });
    let parts = [(tenths > 0).then(|| format!("{tenths}/10 of its slots")), large];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("{} compared so far", parts.join(" and ")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_api::{PairState, WithinSlot};

    #[test]
    fn how_far_a_comparison_is_is_told_in_tenths_and_in_rows_of_a_slot_that_is_large() {
        let pair = |state, slots: &str, compared: Option<&str>, rows: Option<i64>| PairReport {
            state,
            slots: Some(slots.to_owned()),
            compared: compared.map(str::to_owned),
            within: rows.map(|rows| WithinSlot {
                slot: 0,
                table: "orders".to_owned(),
                order: String::new(),
                key: Vec::new(),
                rows,
                differs: false,
                examples: Vec::new(),
            }),
            ..PairReport::begun("a", None)
        };
        let (ended, runs) = (PairState::Equal, PairState::Comparing);
        for (pairs, want) in [
            (vec![], None),
            (vec![pair(runs, "0-9", None, None)], None),
            (vec![pair(runs, "0-99", Some("0-8"), None)], None),
            (
                vec![pair(runs, "0-99", Some("0-39"), None)],
                Some("4/10 of its slots compared so far"),
            ),
            (
                vec![
                    pair(ended, "0-9", None, None),
                    pair(runs, "10-19", Some("10"), Some(23_456)),
                ],
                Some("5/10 of its slots and 20000 rows of a large slot compared so far"),
            ),
            (
                vec![pair(runs, "0", None, Some(7))],
                Some("7 rows of a large slot compared so far"),
            ),
        ] {
            let pairs: Vec<_> = pairs.iter().collect();
            assert_eq!(far(&pairs).as_deref(), want, "{pairs:?}");
        }
    }
}
