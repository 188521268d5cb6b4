//! From what passes found to the status of a unit. Pure.

use super::kstatus::State;
use super::pass::{Found, entry};
use super::render::{Desired, Id};
use super::trouble::{Cause, Trouble};
use multiactive_api::{WorkloadState, WorkloadUnit};
use std::time::Duration;

/// How long a member may be silent before what is known of it counts as unknown.
pub const UNKNOWN_AFTER: Duration = Duration::from_secs(30);

/// What is known of one unit.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitNews {
    /// As it goes into the status.
    pub unit: WorkloadUnit,
    /// Why it is not ready.
    pub cause: Option<Cause>,
}

/// A unit after a pass that could look at it.
pub fn looked(unit: &str, cluster: &str, found: &[Found]) -> UnitNews {
    let worst = found
        .iter()
        .filter(|found| found.cause.is_some())
        .min_by_key(|found| found.cause);
    let message = worst.map(|found| {
        let object = &found.object;
        format!(
            "{}: {}",
            Id::from(object),
            object.message.as_deref().unwrap_or("it is not ready")
        )
    });
    let cause = worst.and_then(|found| found.cause);
    UnitNews {
        unit: WorkloadUnit {
            unit: unit.to_owned(),
            cluster: Some(cluster.to_owned()),
            state: state(cause),
            message,
            objects: found.iter().map(|found| found.object.clone()).collect(),
        },
        cause,
    }
}

/// A unit after a pass that could not even look at it: what was known stays, and after some time it is called unknown.
pub fn not_looked(
    unit: &str,
    cluster: &str,
    prior: Option<&UnitNews>,
    trouble: &Trouble,
    silent_for: Duration,
) -> UnitNews {
    let empty = UnitNews {
        unit: WorkloadUnit {
            unit: unit.to_owned(),
            cluster: Some(cluster.to_owned()),
            state: state(Some(Cause::Progressing)),
            message: None,
            objects: Vec::new(),
        },
        cause: Some(Cause::Progressing),
    };
    let mut news = prior.cloned().unwrap_or(empty);
    // One error that passes changes nothing.
    if trouble.cause == Cause::Unreachable && silent_for < UNKNOWN_AFTER {
        if news.cause == Some(Cause::Progressing) {
            news.unit.message = Some(trouble.message.clone());
        }
        return news;
    }
    news.unit.state = state(Some(trouble.cause));
    news.unit.message = Some(trouble.message.clone());
    news.cause = Some(trouble.cause);
    news
}

/// What a pass found, with what was known before in place of what did not answer just now.
pub fn bridge(found: Vec<Found>, prior: Option<&UnitNews>, silent_for: Duration) -> Vec<Found> {
    let known = |id: &Id| {
        prior?
            .unit
            .objects
            .iter()
            .find(|known| Id::from(*known).same_object(id))
            .cloned()
    };
    let one = |mut found: Found| {
        if found.cause != Some(Cause::Unreachable) || silent_for >= UNKNOWN_AFTER {
            return found;
        }
        found.cause = Some(Cause::Progressing);
        State::InProgress.word().clone_into(&mut found.object.state);
        if let Some(known) = known(&Id::from(&found.object)) {
            found.cause = match known.state.as_str() {
                "Current" => None,
                "Failed" => Some(Cause::Failed),
                "Conflict" => Some(Cause::Conflict),
                _ => Some(Cause::Progressing),
            };
            found.object = known;
        }
        found
    };
    found.into_iter().map(one).collect()
}

/// The state of a unit by its worst cause.
fn state(cause: Option<Cause>) -> WorkloadState {
    match cause {
        None => WorkloadState::Ready,
        Some(Cause::Progressing) => WorkloadState::Progressing,
        Some(Cause::Unreachable) => WorkloadState::Unknown,
        Some(
            Cause::NamespaceNotAllowed
            | Cause::AccountMissing
            | Cause::MissingRight
            | Cause::UnknownKind
            | Cause::Refused
            | Cause::Conflict
            | Cause::Failed,
        ) => WorkloadState::Failed,
    }
}

/// A unit as the status of an earlier life of the operator tells it.
pub fn remembered(unit: &WorkloadUnit) -> UnitNews {
    let cause = match unit.state {
        WorkloadState::Ready => None,
        WorkloadState::Unknown => Some(Cause::Unreachable),
        WorkloadState::Failed => Some(Cause::Failed),
        WorkloadState::Progressing => Some(Cause::Progressing),
    };
    UnitNews {
        unit: unit.clone(),
        cause,
    }
}

/// `unit` with an entry for every object that is wanted and not recorded yet: recorded before it is made, so that what
/// a crash leaves behind is known. `None` where all are recorded.
pub fn intent(unit: &str, cluster: &str, prior: Option<&WorkloadUnit>, desired: &[Desired]) -> Option<WorkloadUnit> {
    let recorded =
        |id: &Id| prior.is_some_and(|prior| prior.objects.iter().any(|known| Id::from(known).same_object(id)));
    let new: Vec<_> = desired.iter().filter(|desired| !recorded(&desired.id)).collect();
    if new.is_empty() && prior.is_some() {
        return None;
    }
    let mut unit = prior.cloned().unwrap_or_else(|| WorkloadUnit {
        unit: unit.to_owned(),
        cluster: Some(cluster.to_owned()),
        state: state(Some(Cause::Progressing)),
        message: None,
        objects: Vec::new(),
    });
    unit.state = state(Some(Cause::Progressing));
    unit.message = Some("objects are about to be applied".to_owned());
    unit.objects.extend(
        new.iter()
            .map(|desired| entry(&desired.id, None, State::InProgress.word(), None)),
    );
    Some(unit)
}

/// News of a unit that are of an earlier wish: whatever they say, the present one is still on its way.
pub fn pending(mut news: UnitNews) -> UnitNews {
    if news.cause.is_none() {
        news.cause = Some(Cause::Progressing);
        news.unit.state = state(news.cause);
        news.unit.message = Some("the latest change is about to be applied".to_owned());
    }
    news
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn id(name: &str) -> Id {
        Id {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: name.into(),
        }
    }

    pub fn found(name: &str, trouble: Option<Cause>) -> Found {
        match trouble {
            None => Found {
                object: entry(&id(name), Some("u".into()), "Current", None),
                cause: None,
            },
            Some(cause) => Found::troubled(
                &id(name),
                Some("u".into()),
                &Trouble::new(cause, format!("{name} is wrong")),
            ),
        }
    }

    #[test]
    fn a_silent_member_keeps_its_last_state_and_becomes_unknown_later() {
        let silent = Trouble::new(Cause::Unreachable, "no answer");
        let prior = looked("east-1", "east", &[found("x", None)]);
        for (seconds, state, cause) in [
            (0, WorkloadState::Ready, None),
            (29, WorkloadState::Ready, None),
            (30, WorkloadState::Unknown, Some(Cause::Unreachable)),
        ] {
            let news = not_looked("east-1", "east", Some(&prior), &silent, Duration::from_secs(seconds));
            assert_eq!((news.unit.state, news.cause), (state, cause), "after {seconds} s");
            assert_eq!(news.unit.objects, prior.unit.objects, "nothing recorded is forgotten");
        }
        let refused = Trouble::new(Cause::AccountMissing, "no account");
        let news = not_looked("east-1", "east", Some(&prior), &refused, Duration::ZERO);
        assert_eq!(
            news.unit.state,
            WorkloadState::Failed,
            "what the member says counts at once"
        );
        assert_eq!(news.unit.objects, prior.unit.objects);
    }

    #[test]
    fn what_will_be_made_is_recorded_before_and_only_once() {
        let desired = |name: &str| {
            let wave = super::super::order::Wave::Rest;
            Desired::new(id(name), wave, &serde_json::Value::Null)
        };
        let first = intent("east-1", "east", None, &[desired("a")]).unwrap();
        assert_eq!((first.state, first.objects.len()), (WorkloadState::Progressing, 1));
        assert_eq!(intent("east-1", "east", Some(&first), &[desired("a")]), None);
        let both = intent("east-1", "east", Some(&first), &[desired("a"), desired("b")]).unwrap();
        assert_eq!(both.objects.len(), 2);
        assert_eq!(
            intent("east-1", "east", Some(&both), &[desired("b")]),
            None,
            "what is not wanted stays recorded"
        );
    }

    #[test]
    fn news_of_an_earlier_wish_make_nothing_ready() {
        let good = pending(looked("a", "east", &[found("x", None)]));
        assert_eq!(
            (good.cause, good.unit.state),
            (Some(Cause::Progressing), WorkloadState::Progressing)
        );
        let bad = looked("a", "east", &[found("x", Some(Cause::Failed))]);
        assert_eq!(pending(bad.clone()), bad, "a cause stays until the next look");
    }
}
