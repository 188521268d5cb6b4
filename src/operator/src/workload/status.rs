//! From the units to the status of the UnitWorkload. Pure.

use super::news::UnitNews;
use super::trouble::Cause;
use crate::conditions::{Readiness, set_readiness};
use jiff::Timestamp;
use multiactive_api::{READY, STALLED, UnitWorkloadStatus, WorkloadUnit};
use std::time::Duration;

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
    use super::super::news::looked;
    use super::super::news::tests::found;
    use super::*;
    use multiactive_api::WorkloadState;

    #[test]
    fn the_gravest_cause_is_told_first() {
        for (causes, state, message) in [
            (vec![None, None], WorkloadState::Ready, None),
            (
                vec![None, Some(Cause::Progressing)],
                WorkloadState::Progressing,
                Some("ConfigMap 1: 1 is wrong"),
            ),
            (
                vec![Some(Cause::Progressing), Some(Cause::Conflict)],
                WorkloadState::Failed,
                Some("ConfigMap 1: 1 is wrong"),
            ),
            (
                vec![Some(Cause::Conflict), Some(Cause::MissingRight)],
                WorkloadState::Failed,
                Some("ConfigMap 1: 1 is wrong"),
            ),
            (
                vec![Some(Cause::Unreachable), Some(Cause::Progressing)],
                WorkloadState::Unknown,
                Some("ConfigMap 0: 0 is wrong"),
            ),
        ] {
            let list: Vec<_> = causes
                .iter()
                .enumerate()
                .map(|(at, cause)| found(&at.to_string(), *cause))
                .collect();
            let news = looked("east-1", "east", &list);
            assert_eq!(
                (news.unit.state, news.unit.message.as_deref()),
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
    fn the_same_news_make_the_same_status() {
        let now = |second| Timestamp::from_second(second).unwrap();
        let news = [looked("a", "east", &[found("x", None)])];
        let readiness = readiness(&news, None, false);
        let first = compose(&UnitWorkloadStatus::default(), Some(1), &news, &readiness, now(1));
        assert_eq!(compose(&first, Some(1), &news, &readiness, now(9)), first);
        assert_eq!(first.ready_units.as_deref(), Some("1/1"));
    }
}
