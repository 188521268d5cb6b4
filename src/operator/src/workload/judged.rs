//! What was found to be as wanted, by the version that was looked at: to look at it again finds the same, and one that
//! changed among many must not cost as much as all of them.

use super::autoscale::{ScaleTarget, is_scaled};
use super::copy::Kept;
use super::pass::Found;
use super::render::{Desired, Id};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All that a judgement depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    version: u64,
    hash: Box<str>,
    scaled: bool,
}

impl Asked {
    /// What is asked about an object; `None` where it takes more than its version to answer.
    pub fn of(desired: &Desired, targets: Option<&[ScaleTarget]>, live: Option<&Kept>) -> Option<Self> {
        let version = live.map(|live| live.version).filter(|version| *version != 0)?;
        // Without a list of autoscalers the object itself tells.
        if desired.replicas && targets.is_none() {
            return None;
        }
        Some(Self {
            version,
            hash: desired.hash().into(),
            scaled: is_scaled(desired, targets, None),
        })
    }
}

/// The judgements of one unit's objects.
#[derive(Debug, Default)]
pub struct Judged(Mutex<HashMap<Id, (Asked, Found)>>);

impl Judged {
    /// What the same question was answered with.
    pub fn found(&self, id: &Id, asked: &Asked) -> Option<Found> {
        let known = self.lock();
        let (of, found) = known.get(id)?;
        (of == asked).then(|| found.clone())
    }

    /// Remembers an answer.
    pub fn remember(&self, id: &Id, asked: Asked, found: &Found) {
        self.lock().insert(id.clone(), (asked, found.clone()));
    }

    /// Forgets what is not wanted any more.
    pub fn keep(&self, desired: &[Desired]) {
        let mut known = self.lock();
        if known.len() > desired.len() {
            known.retain(|id, _| desired.iter().any(|desired| desired.id == *id));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, (Asked, Found)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::Wave;
    use super::super::pass::entry;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_judgement_counts_for_the_version_and_the_wish_that_it_was_made_of() {
        let id = Id {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "web".into(),
        };
        let desired = |paused: bool| {
            let value = json!({"kind": "Deployment", "spec": {"replicas": 2, "paused": paused}});
            Desired::new(id.clone(), Wave::Rest, &value)
        };
        let live = |version: &str| Kept::new(&json!({"metadata": {"resourceVersion": version}}));
        let target = ScaleTarget {
            group: "apps".into(),
            kind: "Deployment".into(),
            name: "web".into(),
        };
        let found = Found {
            object: entry(&id, None, "Current", None),
            cause: None,
        };
        let judged = Judged::default();
        let first = Asked::of(&desired(false), Some(&[]), Some(&live("7"))).unwrap();
        judged.remember(&id, first, &found);
        for (why, desired, targets, live, want) in [
            ("the same", desired(false), Some(vec![]), Some(live("7")), true),
            ("another version", desired(false), Some(vec![]), Some(live("8")), false),
            ("another wish", desired(true), Some(vec![]), Some(live("7")), false),
            ("scaled now", desired(false), Some(vec![target]), Some(live("7")), false),
            ("autoscalers unknown", desired(false), None, Some(live("7")), false),
            ("gone", desired(false), Some(vec![]), None, false),
            ("without a version", desired(false), Some(vec![]), Some(live("")), false),
        ] {
            let asked = Asked::of(&desired, targets.as_deref(), live.as_ref());
            let got = asked.and_then(|asked| judged.found(&id, &asked));
            assert_eq!(got.is_some(), want, "{why}");
        }
        judged.keep(&[]);
        let again = Asked::of(&desired(false), Some(&[]), Some(&live("7"))).unwrap();
        assert!(judged.found(&id, &again).is_none());
    }
}
