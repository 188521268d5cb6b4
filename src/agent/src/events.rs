//! Events on a UnitAssignment: what befell its stores. They never hold anything up; one that fails is logged and lost.

use crate::facts::{Problem, Stores};
use crate::publish::FIELD_MANAGER;
use kube::runtime::events::EventType;
use kube::{Client, Resource};
use multiactive_api::UnitAssignment;

/// The events of the process. Clones share them.
#[derive(Clone)]
pub struct Events(multiactive_runtime::events::Events);

impl Events {
    /// Events in the name of this agent.
    pub fn new(client: Client, identity: &str) -> Self {
        Self(multiactive_runtime::events::Events::new(
            client,
            FIELD_MANAGER,
            identity,
        ))
    }

    /// Says what changed between two looks at the stores.
    pub fn changes(&self, assignment: &UnitAssignment, before: &Stores, now: &Stores) {
        for word in words(before, now) {
            let kind = if word.good {
                EventType::Normal
            } else {
                EventType::Warning
            };
            tokio::spawn(self.0.tell(assignment.object_ref(&()), kind, &word.reason, word.note));
        }
    }
}

/// An event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    good: bool,
    reason: String,
    note: String,
}

/// A problem that is new or another one, a store that has none any more, and new warnings. A message that changes
/// while the reason stays is no event: it may hold a number.
fn words(before: &Stores, now: &Stores) -> Vec<Word> {
    let mut words = Vec::new();
    for (name, facts) in now {
        let old = before.get(name);
        let word = |good, reason: &str, note: String| Word {
            good,
            reason: reason.to_owned(),
            note: format!("{name}: {note}"),
        };
        let was = old.and_then(|old| old.problem.as_ref());
        match (was, &facts.problem) {
            (None, None) => {}
            (Some(Problem { reason, .. }), Some(problem)) if *reason == problem.reason => {}
            (_, Some(problem)) => words.push(word(false, &problem.reason, problem.message.clone())),
            (Some(_), None) => words.push(word(true, "StoreInHand", "the store is in hand again".to_owned())),
        }
        let known = old.map(|old| old.warnings.as_slice()).unwrap_or_default();
        let new = facts.warnings.iter().filter(|warning| !known.contains(warning));
        words.extend(new.map(|warning| word(false, &warning.reason, warning.message.clone())));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::StoreFacts;

    fn stores(problem: Option<(&str, &str)>) -> Stores {
        let facts = StoreFacts {
            problem: problem.map(|(reason, message)| Problem::new(reason, message)),
            ..StoreFacts::default()
        };
        Stores::from([("orders".into(), facts)])
    }

    #[test]
    fn an_event_tells_of_a_new_problem_and_of_its_end_only() {
        for (before, now, want) in [
            (None, None, None),
            (None, Some(("Unreachable", "a")), Some((false, "Unreachable"))),
            (Some(("Unreachable", "a")), Some(("Unreachable", "b")), None),
            (
                Some(("Unreachable", "a")),
                Some(("TablesRefused", "c")),
                Some((false, "TablesRefused")),
            ),
            (Some(("Unreachable", "a")), None, Some((true, "StoreInHand"))),
        ] {
            let got = words(&stores(before), &stores(now));
            let got: Vec<_> = got.iter().map(|word| (word.good, word.reason.as_str())).collect();
            assert_eq!(got, Vec::from_iter(want), "{before:?} to {now:?}");
        }
    }
}
