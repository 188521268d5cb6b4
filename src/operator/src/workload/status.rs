//! From what passes found to the status of a unit and of the UnitWorkload. Pure.

use super::kstatus::State;
use super::pass::{Found, entry};
use super::render::{Desired, Id};
use super::trouble::{Cause, Trouble};
use crate::conditions::{Readiness, set_readiness};
use jiff::Timestamp;
use multiactive_api::{READY, STALLED, UnitWorkloadStatus, WorkloadUnit};
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
            state: word(cause).to_owned(),
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
            state: word(Some(Cause::Progressing)).to_owned(),
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
    word(Some(trouble.cause)).clone_into(&mut news.unit.state);
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
fn word(cause: Option<Cause>) -> &'static str {
    match cause {
        None => "Ready",
        Some(Cause::Progressing) => "Progressing",
        Some(Cause::Unreachable) => "Unknown",
        Some(
            Cause::NamespaceNotAllowed
            | Cause::AccountMissing
            | Cause::MissingRight
            | Cause::UnknownKind
            | Cause::Refused
            | Cause::Conflict
            | Cause::Failed,
        ) => "Failed",
    }
}

/// A unit as the status of an earlier life of the operator tells it.
pub fn remembered(unit: &WorkloadUnit) -> UnitNews {
    let cause = match unit.state.as_str() {
        "Ready" => None,
        "Unknown" => Some(Cause::Unreachable),
        "Failed" => Some(Cause::Failed),
        _ => Some(Cause::Progressing),
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
        state: String::new(),
        message: None,
        objects: Vec::new(),
    });
    word(Some(Cause::Progressing)).clone_into(&mut unit.state);
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
        word(news.cause).clone_into(&mut news.unit.state);
        news.unit.message = Some("the latest change is about to be applied".to_owned());
    }
    news
}

/// How long news of some units wait for those of the others.
const GATHER: Duration = Duration::from_secs(5);
/// How long news of progress wait for more.
const PROGRESS: Duration = Duration::from_secs(1);
/// How long a new cause waits for those that come with it.
const BURST: Duration = Duration::from_millis(100);

/// How long `new` may wait before it is written in place of `old`. A write costs the hub about as much as an object costs
/// a member, so what changes in a moment travels together: an end is told at once, a first cause soon, mere progress when
/// it has gathered.
pub fn patience(old: &UnitWorkloadStatus, new: &UnitWorkloadStatus, complete: bool) -> Duration {
    let of = |status: &UnitWorkloadStatus, kind: &str| {
        let found = status.conditions.iter().find(|condition| condition.type_ == kind);
        found.map(|condition| (condition.status == "True", condition.reason.clone()))
    };
    let is = |status: &UnitWorkloadStatus, kind: &str| of(status, kind).is_some_and(|(is, _)| is);
    if is(new, STALLED) && of(new, STALLED) != of(old, STALLED) {
        return if complete { Duration::ZERO } else { BURST };
    }
    if !complete {
        return GATHER;
    }
    // The first word about an object, or that it is ready, or is not any more.
    let flips = of(old, READY).map(|(is, _)| is) != of(new, READY).map(|(is, _)| is);
    if is(new, READY) || flips {
        return Duration::ZERO;
    }
    PROGRESS
}

/// What keeps the UnitWorkload as a whole from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One word.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// The readiness of the whole: problems of the spec first, then the worst unit's first cause.
pub fn readiness(units: &[UnitNews], problem: Option<&Problem>, leaving: bool) -> Readiness {
    if let Some(Problem { reason, message }) = problem {
        return Readiness::Stalled {
            reason,
            message: message.clone(),
        };
    }
    let Some(worst) = units
        .iter()
        .filter(|news| news.cause.is_some())
        .min_by_key(|news| news.cause)
    else {
        return ready(units, leaving);
    };
    let WorkloadUnit {
        unit, cluster, message, ..
    } = &worst.unit;
    let cluster = cluster.as_deref().unwrap_or("?");
    let what = message.as_deref().unwrap_or("it is not ready");
    let others = units.iter().filter(|news| news.cause.is_some()).count() - 1;
    let more = if others > 0 {
        format!(" (and {others} more units are not ready)")
    } else {
        String::new()
    };
    let message = format!("unit {unit} in member {cluster}: {what}{more}");
    let cause = worst.cause.unwrap_or(Cause::Progressing);
    match cause {
        Cause::Progressing | Cause::Unreachable => Readiness::Reconciling {
            reason: cause.word(),
            message,
        },
        Cause::NamespaceNotAllowed
        | Cause::AccountMissing
        | Cause::MissingRight
        | Cause::UnknownKind
        | Cause::Refused
        | Cause::Conflict
        | Cause::Failed => Readiness::Stalled {
            reason: cause.word(),
            message,
        },
    }
}

fn ready(units: &[UnitNews], leaving: bool) -> Readiness {
    let objects: usize = units.iter().map(|news| news.unit.objects.len()).sum();
    if leaving {
        return Readiness::Reconciling {
            reason: "Deleting",
            message: "its objects are gone".to_owned(),
        };
    }
    if units.is_empty() {
        return Readiness::Ready {
            reason: "NoUnits",
            message: "it selects no unit".to_owned(),
        };
    }
    let message = format!("{objects} objects in {} units are as declared", units.len());
    Readiness::Ready {
        reason: "Current",
        message,
    }
}

/// The status; `old` gives the times of conditions.
pub fn compose(
    old: &UnitWorkloadStatus,
    generation: Option<i64>,
    units: &[UnitNews],
    readiness: &Readiness,
    now: Timestamp,
) -> UnitWorkloadStatus {
    let mut status = UnitWorkloadStatus {
        observed_generation: generation,
        conditions: old.conditions.clone(),
        ready_units: None,
        units: units.iter().map(|news| news.unit.clone()).collect(),
    };
    let ready = units.iter().filter(|news| news.cause.is_none()).count();
    status.ready_units = Some(format!("{ready}/{}", units.len()));
    set_readiness(&mut status.conditions, readiness, generation, now);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        Id {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: name.into(),
        }
    }

    fn found(name: &str, trouble: Option<Cause>) -> Found {
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
    fn the_gravest_cause_is_told_first() {
        for (causes, state, message) in [
            (vec![None, None], "Ready", None),
            (
                vec![None, Some(Cause::Progressing)],
                "Progressing",
                Some("ConfigMap 1: 1 is wrong"),
            ),
            (
                vec![Some(Cause::Progressing), Some(Cause::Conflict)],
                "Failed",
                Some("ConfigMap 1: 1 is wrong"),
            ),
            (
                vec![Some(Cause::Conflict), Some(Cause::MissingRight)],
                "Failed",
                Some("ConfigMap 1: 1 is wrong"),
            ),
            (
                vec![Some(Cause::Unreachable), Some(Cause::Progressing)],
                "Unknown",
                Some("ConfigMap 0: 0 is wrong"),
            ),
        ] {
            let list: Vec<Found> = causes
                .iter()
                .enumerate()
                .map(|(at, cause)| found(&at.to_string(), *cause))
                .collect();
            let news = looked("east-1", "east", &list);
            assert_eq!(
                (news.unit.state.as_str(), news.unit.message.as_deref()),
                (state, message),
                "{causes:?}"
            );
        }
        let good = looked("a", "east", &[found("x", None)]);
        let bad = looked("b", "north", &[found("y", Some(Cause::Refused))]);
        let wait = looked("c", "south", &[found("z", Some(Cause::Progressing))]);
        match readiness(&[good.clone(), wait, bad], None, false) {
            Readiness::Stalled { reason, message } => {
                assert_eq!(reason, "Refused");
                assert_eq!(
                    message,
                    "unit b in member north: ConfigMap y: y is wrong (and 1 more units are not ready)"
                );
            }
            other @ (Readiness::Ready { .. } | Readiness::Reconciling { .. }) => panic!("{other:?}"),
        }
        assert!(readiness(&[good], None, false).is_ready());
    }

    #[test]
    fn a_silent_member_keeps_its_last_state_and_becomes_unknown_later() {
        let silent = Trouble::new(Cause::Unreachable, "no answer");
        let prior = looked("east-1", "east", &[found("x", None)]);
        for (seconds, state, cause) in [
            (0, "Ready", None),
            (29, "Ready", None),
            (30, "Unknown", Some(Cause::Unreachable)),
        ] {
            let news = not_looked("east-1", "east", Some(&prior), &silent, Duration::from_secs(seconds));
            assert_eq!(
                (news.unit.state.as_str(), news.cause),
                (state, cause),
                "after {seconds} s"
            );
            assert_eq!(news.unit.objects, prior.unit.objects, "nothing recorded is forgotten");
        }
        let refused = Trouble::new(Cause::AccountMissing, "no account");
        let news = not_looked("east-1", "east", Some(&prior), &refused, Duration::ZERO);
        assert_eq!(news.unit.state, "Failed", "what the member says counts at once");
        assert_eq!(news.unit.objects, prior.unit.objects);
    }

    #[test]
    fn what_will_be_made_is_recorded_before_and_only_once() {
        let desired = |name: &str| {
            let wave = super::super::order::Wave::Rest;
            Desired::new(id(name), wave, &serde_json::Value::Null)
        };
        let first = intent("east-1", "east", None, &[desired("a")]).unwrap();
        assert_eq!((first.state.as_str(), first.objects.len()), ("Progressing", 1));
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
    fn an_end_is_told_at_once_a_cause_soon_and_progress_together() {
        let at = |causes: &[Option<Cause>]| {
            let news: Vec<_> = causes
                .iter()
                .enumerate()
                .map(|(at, cause)| looked(&format!("u{at}"), "east", &[found("x", *cause)]))
                .collect();
            let readiness = readiness(&news, None, false);
            let old = UnitWorkloadStatus::default();
            compose(&old, Some(1), &news, &readiness, Timestamp::UNIX_EPOCH)
        };
        let (ready, progress) = (at(&[None, None]), at(&[None, Some(Cause::Progressing)]));
        let further = at(&[Some(Cause::Progressing), None]);
        let (failed, refused) = (at(&[None, Some(Cause::Failed)]), at(&[None, Some(Cause::Refused)]));
        let none = UnitWorkloadStatus::default();
        for (why, old, new, complete, want) in [
            ("all is ready", &progress, &ready, true, Duration::ZERO),
            ("not ready any more", &ready, &progress, true, Duration::ZERO),
            ("the first word", &none, &progress, true, Duration::ZERO),
            ("progress", &progress, &further, true, PROGRESS),
            ("a cause, all told", &progress, &failed, true, Duration::ZERO),
            ("a cause, others to tell", &progress, &failed, false, BURST),
            ("another cause", &failed, &refused, false, BURST),
            ("the same cause", &failed, &failed, false, GATHER),
            ("others to tell", &none, &progress, false, GATHER),
        ] {
            assert_eq!(patience(old, new, complete), want, "{why}");
        }
    }

    #[test]
    fn news_of_an_earlier_wish_make_nothing_ready() {
        let good = pending(looked("a", "east", &[found("x", None)]));
        assert_eq!(
            (good.cause, good.unit.state.as_str()),
            (Some(Cause::Progressing), "Progressing")
        );
        let bad = looked("a", "east", &[found("x", Some(Cause::Failed))]);
        assert_eq!(pending(bad.clone()), bad, "a cause stays until the next look");
    }

    #[test]
    fn the_same_news_make_the_same_status() {
        let now = |second| Timestamp::from_second(second).unwrap();
        let news = [looked("a", "east", &[found("x", None)])];
        let readiness = readiness(&news, None, false);
        let first = compose(&UnitWorkloadStatus::default(), Some(1), &news, &readiness, now(1));
        assert_eq!(compose(&first, Some(1), &news, &readiness, now(9)), first);
        assert_eq!(first.ready_units.as_deref(), Some("1/1"));
    }
}
