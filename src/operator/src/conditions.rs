//! Conditions: transition time moves only when the status flips, so that a pass without news is no write.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::runtime::events::EventType;
use multiactive_api::{HookWord, NeededDecision, READY, RECONCILING, STALLED};

/// Puts `new` into `list`; `lastTransitionTime` moves only when `status` flips.
pub fn set_condition(list: &mut Vec<Condition>, mut new: Condition) {
    match list.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
            }
            *old = new;
        }
        None => list.push(new),
    }
}

/// Whether an object is what its spec asks for; from it all three conditions follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is.
    Ready {
        /// One word.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// Not yet: the operator, an agent or a cluster is at work.
    Reconciling {
        /// One word.
        reason: &'static str,
        /// What is awaited.
        message: String,
    },
    /// Not without a change from outside.
    Stalled {
        /// One word.
        reason: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

impl Readiness {
    /// Whether it is [`Readiness::Ready`].
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Ready { .. } => true,
            Self::Reconciling { .. } | Self::Stalled { .. } => false,
        }
    }

    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Ready { reason, message }
            | Self::Reconciling { reason, message }
            | Self::Stalled { reason, message } => (reason, message),
        }
    }
}

/// Writes `readiness` into `list` as `Ready`, `Reconciling` and `Stalled`.
pub fn set_readiness(list: &mut Vec<Condition>, readiness: &Readiness, generation: Option<i64>, now: Timestamp) {
    let (reason, message) = readiness.parts();
    let (reconciling, stalled) = match readiness {
        Readiness::Ready { .. } => (false, false),
        Readiness::Reconciling { .. } => (true, false),
        Readiness::Stalled { .. } => (false, true),
    };
    for (type_, on) in [
        (READY, readiness.is_ready()),
        (RECONCILING, reconciling),
        (STALLED, stalled),
    ] {
        set_condition(
            list,
            Condition {
                type_: type_.to_owned(),
                status: if on { "True" } else { "False" }.to_owned(),
                reason: reason.to_owned(),
                message: message.chars().take(2000).collect(),
                observed_generation: generation,
                last_transition_time: Time(now),
            },
        );
    }
}

/// A status with conditions.
pub trait Conditioned {
    /// Its conditions.
    fn conditions(&self) -> &[Condition];

    /// Whether an event tells that its readiness changed; else something else does.
    fn tells(&self) -> bool {
        true
    }

    /// What else is told of it that `before` did not say: a kind, a reason and a message each.
    fn news_since(&self, _before: Option<&Self>) -> Vec<(EventType, &'static str, String)>
    where
        Self: Sized,
    {
        Vec::new()
    }
}

macro_rules! conditioned {
    ($($status:ty),+) => {
        $(impl Conditioned for $status {
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }
        })+
    };
}
conditioned!(
    multiactive_api::KeyspaceStatus,
    multiactive_api::ReplicationLinkStatus,
    multiactive_api::UnitStatus,
    multiactive_api::VerificationStatus
);

impl Conditioned for multiactive_api::DataStoreStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// What is wrong with its schedule: nothing else of it depends on that.
    fn news_since(&self, before: Option<&Self>) -> Vec<(EventType, &'static str, String)> {
        let wrong = |status: &Self| status.verification.as_ref()?.message.clone();
        let wrong = wrong(self).filter(|now| before.and_then(wrong).as_ref() != Some(now));
        let wrong = wrong.map(|message| (EventType::Warning, "BadSchedule", message));
        wrong.into_iter().collect()
    }
}

impl Conditioned for multiactive_api::ShardRangeStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// That slots are served or move is told of their Keyspace and by the Promotion: of thousands of ranges each would tell
    /// it again.
    fn tells(&self) -> bool {
        let mut stalled = self.conditions.iter().filter(|condition| condition.type_ == STALLED);
        stalled.any(|condition| condition.status == "True")
    }
}

impl Conditioned for multiactive_api::FailoverStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Each decision that is needed: a second one changes neither readiness nor reason, and one may be needed after the end.
    /// And whatever else a fencing hook says than before.
    fn news_since(&self, before: Option<&Self>) -> Vec<(EventType, &'static str, String)> {
        let hook = |status: &Self| {
            status
                .fencing_hook
                .as_ref()
                .map(|hook| (hook.by.clone(), hook.said, hook.message.clone()))
        };
        let said = hook(self).filter(|said| before.and_then(hook).as_ref() != Some(said));
        let said = said.map(|(by, said, message)| {
            let (kind, reason, words) = match said {
                HookWord::Asked => (EventType::Normal, "FencingHookAsked", "is asked"),
                HookWord::Fenced => (
                    EventType::Normal,
                    "FencingHookSaysFenced",
                    "says that the unit is fenced",
                ),
                HookWord::NotFenced => (
                    EventType::Warning,
                    "FencingHookSaysNotFenced",
                    "says that the unit is not fenced",
                ),
                HookWord::NoAnswer => (
                    EventType::Warning,
                    "FencingHookGivesNoAnswer",
                    "gives no answer that counts",
                ),
            };
            let message = message.map(|message| format!(": {message}")).unwrap_or_default();
            (kind, reason, format!("the fencing hook {by} {words}{message}"))
        });
        let known = before.map(|before| before.needed.as_slice()).unwrap_or_default();
        let same =
            |one: &NeededDecision, other: &NeededDecision| (one.kind, &one.target) == (other.kind, &other.target);
        let new = self
            .needed
            .iter()
            .filter(|needed| !known.iter().any(|known| same(known, needed)));
        let new = new.map(|needed| {
            let message = format!("{}; decide with: {}", needed.why, needed.command);
            (EventType::Warning, "DecisionNeeded", message)
        });
        said.into_iter().chain(new).collect()
    }
}

impl Conditioned for multiactive_api::PromotionStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// What was recorded of it is told as it was recorded: what is left is a plan, and a refusal before it began.
    fn tells(&self) -> bool {
        self.outcome.is_some() && self.history.is_empty()
    }
}

/// Whether `list` says that the object is ready; `None` where it says nothing.
pub fn is_ready(list: &[Condition]) -> Option<bool> {
    list.iter().find(|c| c.type_ == READY).map(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_time_moves_only_when_the_status_flips() {
        let ready = |message: &str| Readiness::Ready {
            reason: "Done",
            message: message.to_owned(),
        };
        let wait = Readiness::Reconciling {
            reason: "Waiting",
            message: String::new(),
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut list = Vec::new();
        for (readiness, now, want) in [(ready("a"), 1, 1), (ready("b"), 2, 1), (wait, 3, 3), (ready("b"), 4, 4)] {
            set_readiness(&mut list, &readiness, Some(1), at(now));
            let found = list.iter().find(|c| c.type_ == READY).unwrap();
            assert_eq!(found.last_transition_time, Time(at(want)), "{readiness:?} at {now}");
        }
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn each_decision_that_is_needed_is_told_once() {
        use multiactive_api::{DecisionType, FailoverStatus};
        let needed = |kind, target: &str| NeededDecision {
            kind,
            target: Some(target.to_owned()),
            why: "why".to_owned(),
            command: "how".to_owned(),
        };
        let status = |needed: &[NeededDecision]| FailoverStatus {
            needed: needed.to_vec(),
            ..FailoverStatus::default()
        };
        let (one, other) = (
            needed(DecisionType::ConfirmFenced, "a"),
            needed(DecisionType::AcceptDataLoss, "a"),
        );
        let both = [one.clone(), other.clone()];
        for (before, after, want) in [
            (None, status(&both[..1]), 1),
            (Some(status(&both[..1])), status(&both), 1),
            (Some(status(&both)), status(&both[..1]), 0),
            (
                Some(status(std::slice::from_ref(&one))),
                status(&[NeededDecision {
                    why: "else".to_owned(),
                    ..one
                }]),
                0,
            ),
            (
                Some(status(&[other])),
                status(&[needed(DecisionType::AcceptDataLoss, "b")]),
                1,
            ),
        ] {
            assert_eq!(after.news_since(before.as_ref()).len(), want, "{before:?} {after:?}");
        }
    }
}
