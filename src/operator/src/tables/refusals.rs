//! Commits that the server refused: each is set aside for a while, so that it holds up nothing else.

use jiff::{SignedDuration, Timestamp};
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{Move, Outcome, Step};
use std::collections::BTreeMap;

/// How soon a refused commit is tried again.
const PAUSE: SignedDuration = SignedDuration::from_secs(2);

/// The longest text of a refusal that is kept, in characters: it comes from the server and goes into records.
const TEXT_MAX: usize = 500;

/// What a commit is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Units, keyspaces, first owners.
    Ownership,
    /// One operation.
    Operation(OperationUid),
    /// A unit in quarantine.
    Unit(UnitName),
}

/// What a commit would have recorded about its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attempt {
    /// Units, keyspaces, first owners.
    Manage,
    /// That an operation begins.
    Begin,
    /// That it enters a step.
    Enter(Step),
    /// Another target.
    Retarget,
    /// Who hands on to the target what it lacks.
    HandOn,
    /// Its end as asked for.
    Succeed,
    /// Its end without moving anything.
    GiveUp,
    /// That a unit in quarantine is one step nearer to the others.
    Return,
}

impl Attempt {
    /// What recording `movement` is; `None` where there is nothing to record.
    pub fn of(movement: &Move) -> Option<Self> {
        match movement {
            Move::Wait(_) => None,
            Move::Enter { step, .. } => Some(Self::Enter(*step)),
            Move::End(Outcome::Succeeded) | Move::EndWithout(_) => Some(Self::Succeed),
            Move::End(Outcome::Refused { .. } | Outcome::Aborted { .. } | Outcome::Failed { .. }) => Some(Self::GiveUp),
            Move::Retarget { .. } => Some(Self::Retarget),
            Move::HandOn(_) => Some(Self::HandOn),
        }
    }
}

/// What the server refused last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refusals(BTreeMap<(Subject, Attempt), Refusal>);

/// A commit that the server refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// When.
    pub at: Timestamp,
    /// Why, as the server says it.
    pub why: String,
}

impl Refusal {
    /// When it is tried again.
    pub fn again_at(&self) -> Timestamp {
        self.at.saturating_add(PAUSE).unwrap_or(self.at)
    }
}

impl Refusals {
    /// Takes note of a refusal.
    pub fn refused(&mut self, subject: Subject, attempt: Attempt, why: &str, at: Timestamp) {
        let why = why.chars().take(TEXT_MAX).collect();
        self.0.insert((subject, attempt), Refusal { at, why });
    }

    /// Takes note of a commit that counted.
    pub fn committed(&mut self, subject: &Subject) {
        self.0.retain(|(of, _), _| of != subject);
    }

    /// Forgets operations that are not `known` any more.
    pub fn retain(&mut self, known: impl Fn(&OperationUid) -> bool) {
        self.0.retain(|(subject, _), _| match subject {
            Subject::Ownership | Subject::Unit(_) => true,
            Subject::Operation(uid) => known(uid),
        });
    }

    /// The refusal of this very attempt, if it is too fresh to try again. Another attempt about the same subject is
    /// free, and so is one whose refusal lies in the future: the clock was set back.
    pub fn standing(&self, subject: &Subject, attempt: Attempt, now: Timestamp) -> Option<&Refusal> {
        let refusal = self.0.get(&(subject.clone(), attempt))?;
        (refusal.at <= now && now < refusal.again_at()).then_some(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_attempt_is_set_aside_for_a_while_and_another_is_not() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (one, other) = (Subject::Operation("one".into()), Subject::Operation("other".into()));
        let mut refusals = Refusals::default();
        refusals.refused(one.clone(), Attempt::Enter(Step::Hold), &"w".repeat(5000), at(100));
        for (subject, attempt, second, want) in [
            (&one, Attempt::Enter(Step::Hold), 100, true),
            (&one, Attempt::Enter(Step::Hold), 101, true),
            (&one, Attempt::Enter(Step::Hold), 102, false),
            (&one, Attempt::Enter(Step::Hold), 99, false),
            (&one, Attempt::GiveUp, 100, false),
            (&other, Attempt::Enter(Step::Hold), 100, false),
            (&Subject::Ownership, Attempt::Manage, 100, false),
        ] {
            let standing = refusals.standing(subject, attempt, at(second));
            assert_eq!(standing.is_some(), want, "{subject:?} {attempt:?} at {second}");
            assert!(standing.is_none_or(|refusal| refusal.why.len() == TEXT_MAX));
        }
        refusals.retain(|uid| uid.as_str() != "one");
        assert_eq!(refusals, Refusals::default());
    }
}
