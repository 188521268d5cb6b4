//! What is to be made and removed now, and what the DataStore says of it. Pure.

use crate::status::is_paused;
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use multiactive_api::{DataStore, StoreVerification, StoreVerificationStatus, Verification, VerificationSpec};
use multiactive_core::schedule::{BadSchedule, Schedule};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The label of a Verification that was made by a schedule: the DataStore's name.
pub const MADE_FOR: &str = "multiactive.io/scheduled-by";

/// The annotation that says when it was due.
pub const SCHEDULED_FOR: &str = "multiactive.io/scheduled-for";

/// Something to do.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Make one.
    Make {
        /// For whom.
        store: Arc<DataStore>,
        /// What.
        object: Box<Verification>,
    },
    /// Remove one that has ended.
    Remove(Arc<Verification>),
}

/// Since when each schedule is known, by the uid of its DataStore and what it says.
pub(super) type Seen = BTreeMap<(String, String, String), Timestamp>;

/// What is to be done at `now`; notes the schedules that are `seen` for the first time, and forgets those that are gone.
pub(super) fn steps(
    stores: &[Arc<DataStore>],
    verifications: &[Arc<Verification>],
    seen: &mut Seen,
    now: Timestamp,
) -> Vec<Step> {
    let known: Vec<_> = stores.iter().filter_map(seen_as).collect();
    seen.retain(|key, _| known.contains(key));
    for key in known {
        seen.entry(key).or_insert(now);
    }
    let mut steps = Vec::new();
    for store in stores {
        let Some(asked) = in_force(store) else { continue };
        let mut made = made_for(store, verifications);
        // Without the annotation it is none of ours, whatever its label says.
        made.sort_by_key(|(_, due)| std::cmp::Reverse(*due));
        let runs = made.iter().any(|(object, _)| !has_ended(object));
        if let Some(due) = due(store, asked, &made, seen, now).filter(|_| !runs) {
            steps.push(Step::Make {
                store: Arc::clone(store),
                object: Box::new(object(store, asked, due)),
            });
        }
        let ended = made.iter().filter(|(object, _)| has_ended(object));
        let keep = usize::try_from(asked.keep).unwrap_or(1).max(1);
        steps.extend(ended.skip(keep).map(|(object, _)| Step::Remove(Arc::clone(object))));
    }
    steps
}

/// How long until something is due; `None` where nothing ever is.
pub(super) fn next_look(
    stores: &[Arc<DataStore>],
    verifications: &[Arc<Verification>],
    seen: &Seen,
    now: Timestamp,
) -> Option<Duration> {
    let next = stores.iter().filter_map(|store| {
        let asked = in_force(store)?;
        let made = made_for(store, verifications);
        let after = done(store, &made, seen).unwrap_or(now).max(now);
        parsed(asked).ok()?.next(after)
    });
    let wait = next.min()?.duration_since(now).max(SignedDuration::ZERO);
    Duration::try_from(wait).ok()
}

/// What the DataStore's status says of its schedule at `now`; `None` where it has none.
pub fn shown(
    store: &DataStore,
    verifications: &[Arc<Verification>],
    now: Timestamp,
) -> Option<StoreVerificationStatus> {
    let asked = store.spec.verification.as_ref()?;
    let made = made_for(store, verifications);
    let last = made.iter().max_by_key(|(_, due)| *due);
    let (next, message) = match parsed(asked) {
        Ok(_) if in_force(store).is_none() => (None, None),
        Ok(schedule) => {
            let after = last.map_or(now, |(_, due)| *due);
            // What is due and not made yet is next.
            (schedule.next(after.max(now)), None)
        }
        Err(bad) => (None, Some(format!("spec.verification: {bad}"))),
    };
    Some(StoreVerificationStatus {
        last: last.map(|(object, _)| object.name_any()),
        next: next.map(|at| at.to_string()),
        message,
    })
}

fn parsed(asked: &StoreVerification) -> Result<Schedule, BadSchedule> {
    Schedule::new(&asked.schedule, &asked.time_zone)
}

/// The schedule, where it counts now.
fn in_force(store: &DataStore) -> Option<&StoreVerification> {
    let asked = store.spec.verification.as_ref()?;
    let counts = !asked.suspend && !is_paused(store) && store.meta().deletion_timestamp.is_none();
    counts.then_some(asked)
}

fn seen_as(store: &Arc<DataStore>) -> Option<(String, String, String)> {
    let asked = in_force(store)?;
    Some((store.uid()?, asked.schedule.clone(), asked.time_zone.clone()))
}

/// Those that were made for the store, and when each was due.
fn made_for(store: &DataStore, verifications: &[Arc<Verification>]) -> Vec<(Arc<Verification>, Timestamp)> {
    let (name, namespace) = (store.name_any(), store.namespace());
    let mine = verifications.iter().filter(|object| {
        object.namespace() == namespace && object.labels().get(MADE_FOR).is_some_and(|label| *label == name)
    });
    mine.filter_map(|object| {
        let due = object.annotations().get(SCHEDULED_FOR)?.parse().ok()?;
        Some((Arc::clone(object), due))
    })
    .collect()
}

fn has_ended(object: &Verification) -> bool {
    object.status.as_ref().is_some_and(|status| status.outcome.is_some())
}

/// When the last that was made was due, by whatever schedule; since when the schedule is known, where there is none.
fn done(store: &Arc<DataStore>, made: &[(Arc<Verification>, Timestamp)], seen: &Seen) -> Option<Timestamp> {
    let last = made.iter().map(|(_, due)| *due).max();
    last.or_else(|| seen.get(&seen_as(store)?).copied())
}

fn due(
    store: &Arc<DataStore>,
    asked: &StoreVerification,
    made: &[(Arc<Verification>, Timestamp)],
    seen: &Seen,
    now: Timestamp,
) -> Option<Timestamp> {
    parsed(asked).ok()?.due(done(store, made, seen)?, now)
}

/// The Verification of a store that was due then. Its name is the minute's, so that two who make it make one.
fn object(store: &DataStore, asked: &StoreVerification, due: Timestamp) -> Verification {
    let name = format!("{}-{}", store.name_any(), due.as_second() / 60);
    let spec = VerificationSpec {
        stores: Some(vec![store.name_any()]),
        units: None,
        repair: multiactive_api::RepairMode::None,
        max_rows_per_second: asked.max_rows_per_second,
    };
    let mut object = Verification::new(&name, spec);
    object.metadata.namespace = store.namespace();
    object.metadata.owner_references = store.controller_owner_ref(&()).map(|owner| vec![owner]);
    object.labels_mut().insert(MADE_FOR.to_owned(), store.name_any());
    object
        .annotations_mut()
        .insert(SCHEDULED_FOR.to_owned(), due.to_string());
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(text: &str) -> Timestamp {
        format!("2026-01-{text}Z").parse().unwrap()
    }

    fn store(verification: Value) -> Arc<DataStore> {
        serde_json::from_value(json!({
            "apiVersion": "multiactive.io/v1alpha1", "kind": "DataStore",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u"},
            "spec": {"topology": "Sharded", "keyspace": "users", "tables": [{"name": "orders", "shardKey": "user"}],
                "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "shop"}},
                "members": [{"unit": "a", "address": "h:1", "credentials": "s"}], "verification": verification},
        }))
        .map(Arc::new)
        .unwrap()
    }

    fn nightly() -> Arc<DataStore> {
        store(json!({"schedule": "30 2 * * *", "keep": 2, "maxRowsPerSecond": 500}))
    }

    fn names(steps: &[Step]) -> Vec<String> {
        let name = |step: &Step| match step {
            Step::Make { object, .. } => format!("+{}", object.annotations()[SCHEDULED_FOR]),
            Step::Remove(object) => format!("-{}", object.annotations()[SCHEDULED_FOR]),
        };
        steps.iter().map(name).collect()
    }

    /// One that was made for that moment.
    fn made(of: &Arc<DataStore>, due: &str, outcome: Option<&str>) -> Arc<Verification> {
        let mut object = object(of, of.spec.verification.as_ref().unwrap(), at(due));
        object.status = Some(multiactive_api::VerificationStatus {
            outcome: outcome.map(str::to_owned),
            ..Default::default()
        });
        Arc::new(object)
    }

    #[test]
    fn one_is_made_when_it_is_due_and_none_for_what_was_before_the_schedule() {
        let (stores, mut seen) = ([nightly()], Seen::new());
        assert!(names(&steps(&stores, &[], &mut seen, at("05T12:00:00"))).is_empty());
        let wait = next_look(&stores, &[], &seen, at("05T12:00:00"));
        assert_eq!(wait, Some(Duration::from_secs(14 * 3600 + 1800)));
        let due = steps(&stores, &[], &mut seen, at("06T02:30:00"));
        assert_eq!(names(&due), ["+2026-01-06T02:30:00Z"]);
        let [Step::Make { object, .. }] = due.as_slice() else {
            panic!("{due:?}")
        };
        assert_eq!(object.name_any(), "orders-29461110");
        assert_eq!(object.spec.max_rows_per_second, Some(500));
        assert_eq!(object.owner_references().len(), 1);
        // Another operator, which sees the schedule for the first time, goes on behind the last that was made.
        let known = [made(&stores[0], "06T02:30:00", Some("Succeeded"))];
        let next = steps(&stores, &known, &mut Seen::new(), at("09T08:00:00"));
        assert_eq!(names(&next), ["+2026-01-09T02:30:00Z"]);
    }

    #[test]
    fn none_is_made_while_the_last_one_runs_and_the_oldest_that_ended_go() {
        let of = nightly();
        let all = |last: Option<&str>| {
            vec![
                made(&of, "03T02:30:00", Some("Failed")),
                made(&of, "05T02:30:00", Some("Succeeded")),
                made(&of, "04T02:30:00", Some("Succeeded")),
                made(&of, "06T02:30:00", last),
            ]
        };
        let told = |last| {
            names(&steps(
                std::slice::from_ref(&of),
                &all(last),
                &mut Seen::new(),
                at("07T03:00:00"),
            ))
        };
        assert_eq!(told(None), ["-2026-01-03T02:30:00Z"]);
        assert_eq!(
            told(Some("Succeeded")),
            [
                "+2026-01-07T02:30:00Z",
                "-2026-01-04T02:30:00Z",
                "-2026-01-03T02:30:00Z"
            ]
        );
    }

    #[test]
    fn what_does_not_count_makes_nothing_and_the_status_says_what_is_wrong() {
        let now = at("09T08:00:00");
        for (asked, want) in [
            (json!({"schedule": "30 2 * * *", "suspend": true}), None),
            (json!({"schedule": "61 2 * * *"}), Some("61")),
            (
                json!({"schedule": "30 2 * * *", "timeZone": "Nowhere/City"}),
                Some("Nowhere/City"),
            ),
        ] {
            let of = store(asked);
            let known = [made(&of, "06T02:30:00", Some("Succeeded"))];
            assert!(names(&steps(std::slice::from_ref(&of), &known, &mut Seen::new(), now)).is_empty());
            let shown = shown(&of, &known, now).unwrap();
            assert_eq!(shown.next, None);
            assert_eq!(shown.message.is_some(), want.is_some(), "{shown:?}");
            assert!(shown.message.unwrap_or_default().contains(want.unwrap_or_default()));
        }
        let of = nightly();
        let known = [made(&of, "06T02:30:00", Some("Succeeded"))];
        let shown = shown(&of, &known, at("06T02:31:00")).unwrap();
        assert_eq!(shown.last.as_deref(), Some("orders-29461110"));
        assert_eq!(shown.next.as_deref(), Some("2026-01-07T02:30:00Z"));
    }
}
