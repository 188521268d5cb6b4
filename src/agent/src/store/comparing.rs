//! What a promotion of `verify: Full` or `Changed` asks of its target: the rows that move are compared with those of each unit that they
//! leave, as a Verification does it (see `verify`). How far that is stays in the report, so that another agent goes on from there.

use super::verify::{Question, through};
use super::wish::{Asked, Target};
use super::{LONGEST_PAUSE, Store};
use crate::facts::{Comparison, VerificationFact};
use multiactive_api::{PairReport, RepairMode};
use multiactive_core::ids::UnitName;
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use multiactive_stores::driver::Extent;

/// How many rows that differ are told.
const TOLD: usize = 20;

/// Compares with each owner until all is told; why something cannot be compared yet is the answer's problem.
pub(super) async fn compare<D: Driver>(
    store: &Store<D>,
    target: &Target,
    asked: &Asked,
    owners: &[(UnitName, SlotSet)],
    extent: Extent,
) {
    let question = question(asked, owners, extent, target.spec.tables.len());
    let mut answers = store.board.facts().answers;
    let known = answers.remove(&asked.operation).map(|answer| VerificationFact {
        uid: question.uid.clone(),
        pairs: answer.comparing,
    });
    let note = |fact: &VerificationFact| {
        store.board.answer(&asked.operation, |answer| {
            answer.comparing.clone_from(&fact.pairs);
            answer.problem = problem(&fact.pairs);
        });
    };
    let fact = through(store, target, &question, known.as_ref(), LONGEST_PAUSE, note).await;
    store
        .board
        .answer(&asked.operation, |answer| answer.compared = Some(all(&fact.pairs)));
}

/// What an operation asks, of a store with so many tables. While it runs nobody else moves its slots: whoever owns them owned them
/// since it began.
fn question(asked: &Asked, owners: &[(UnitName, SlotSet)], extent: Extent, tables: usize) -> Question {
    Question {
        uid: asked.operation.to_string(),
        repair: RepairMode::None,
        pace: None,
        extent,
        owners: owners.to_vec(),
        bases: vec![format!("{}/{tables}", asked.epoch); owners.len()],
        settle: None,
        all: SlotSet::default(),
    }
}

/// What stands in the way of those that have not ended.
fn problem(pairs: &[PairReport]) -> Option<String> {
    let waits = pairs.iter().filter(|pair| !pair.state.has_ended());
    let said: Vec<_> = waits.filter_map(|pair| pair.message.clone()).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// What all of them together have found.
fn all(pairs: &[PairReport]) -> Comparison {
    let mut all = Comparison::default();
    for pair in pairs {
        all.rows += u64::try_from(pair.rows.unwrap_or_default()).unwrap_or_default();
        let differing = pair.differing.as_deref().and_then(|slots| slots.parse().ok());
        all.differing = all.differing.union(&differing.unwrap_or_default());
        all.examples.extend(pair.examples.iter().cloned());
    }
    all.examples.truncate(TOLD);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_api::PairState;

    #[test]
    fn what_is_found_with_each_owner_adds_up_and_what_stands_in_the_way_is_told() {
        let pair = |owner: &str, state, rows, differing: Option<&str>, message: Option<&str>| PairReport {
            state,
            rows: Some(rows),
            differing: differing.map(str::to_owned),
            examples: differing.iter().map(|_| format!("a row of {owner}")).collect(),
            ..PairReport::begun(owner, message.map(str::to_owned))
        };
        let equal = pair("east", PairState::Equal, 5, None, None);
        let waits = pair("west", PairState::Comparing, 0, None, Some("no answer"));
        assert_eq!(problem(&[equal.clone(), waits]).as_deref(), Some("no answer"));
        let differs = |owner, slots| pair(owner, PairState::Differs, 3, Some(slots), None);
        let pairs = [equal, differs("west", "7"), differs("south", "1-2")];
        assert_eq!(problem(&pairs), None);
        let want = Comparison {
            rows: 11,
            differing: "1-2,7".parse().unwrap(),
            examples: vec!["a row of west".to_owned(), "a row of south".to_owned()],
        };
        assert_eq!(all(&pairs), want);
    }
}
