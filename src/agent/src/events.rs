//! Events on a UnitAssignment: what befell its stores. They never hold anything up; one that fails is logged and lost.

use crate::facts::{Problem, StoreFacts, Stores};
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

/// A problem that is new or another one, a store that has none any more, a fence that waits, sessions that were ended, and
/// new warnings. A message that changes
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
        let unfenced = |facts: &StoreFacts| facts.answers.values().find_map(|answer| answer.unfenced.clone());
        let was = old.and_then(unfenced).map(|was| was.reason);
        if let Some(problem) = unfenced(facts).filter(|problem| was.as_ref() != Some(&problem.reason)) {
            words.push(word(false, &problem.reason, problem.message));
        }
        let known = old.map(|old| old.ended.as_slice()).unwrap_or_default();
        let new = facts.ended.iter().filter(|session| !known.contains(session));
        words.extend(new.map(|session| word(false, "SessionEnded", format!("it held up closing slots: {session}"))));
        let known = old.map(|old| old.warnings.as_slice()).unwrap_or_default();
        let new = facts.warnings.iter().filter(|warning| !known.contains(warning));
        words.extend(new.map(|warning| word(false, &warning.reason, warning.message.clone())));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Answer;

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

    #[test]
    fn a_fence_that_waits_and_a_session_that_was_ended_are_told_once() {
        let waits = |message: &str| {
            let answer = Answer {
                unfenced: Some(Problem::new("FenceBlocked", message)),
                ..Answer::default()
            };
            let facts = StoreFacts {
                answers: [("op".into(), answer)].into(),
                ..StoreFacts::default()
            };
            Stores::from([("orders".into(), facts)])
        };
        let ended = |who: &[&str]| {
            let facts = StoreFacts {
                ended: who.iter().map(|who| (*who).to_owned()).collect(),
                ..StoreFacts::default()
            };
            Stores::from([("orders".into(), facts)])
        };
        for (before, now, want) in [
            (stores(None), waits("for 1"), vec!["FenceBlocked"]),
            (waits("for 1"), waits("for 1, 2"), vec![]),
            (waits("for 1"), stores(None), vec![]),
            (stores(None), ended(&["1"]), vec!["SessionEnded"]),
            (ended(&["1"]), ended(&["1"]), vec![]),
            (ended(&["1"]), ended(&["2", "3"]), vec!["SessionEnded", "SessionEnded"]),
        ] {
            let got = words(&before, &now);
            let got: Vec<_> = got.iter().map(|word| word.reason.as_str()).collect();
            assert_eq!(got, want, "{before:?} to {now:?}");
        }
    }
}
