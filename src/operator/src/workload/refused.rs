//! What is known never to have been sent to its member: it need not be looked for before it is forgotten, which its team
//! may have no right to. Unknown is not refused: what an earlier process was about to make may be there.
//!
//! An entry of the status in state `Refused` records it for the processes to come, so nothing is sent while it says so:
//! the runner takes the word back, the keeper writes that, and only a job that was made after it lets the runner send.

use super::render::Id;
use multiactive_api::{WorkloadObject, WorkloadUnit};
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The state of an entry of which nothing was ever sent.
pub const REFUSED: &str = "Refused";

/// The entries of a unit that say so.
pub fn refused(unit: Option<&WorkloadUnit>) -> BTreeSet<Id> {
    let objects = unit.into_iter().flat_map(|unit| &unit.objects);
    let refused = objects.filter(|object| object.uid.is_none() && object.state == REFUSED);
    refused.map(Id::from).collect()
}

/// What a runner has sent in its life, whatever the answer was.
#[derive(Debug, Default)]
pub struct Sent(Mutex<HashSet<Id>>);

impl Sent {
    fn add(&self, id: &Id) {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.insert(id.clone());
    }

    fn has(&self, id: &Id) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

/// Whether an object may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    Send,
    /// The record says `Refused`: that is taken back first.
    TakeBack,
    /// The runner said `Refused`, and the record does not say so yet: it may be about to.
    Wait,
}

/// What is known of the objects of one job.
#[derive(Clone, Debug, Default)]
pub struct Untried {
    /// Recorded for the first time by this process, before its runner began.
    pub fresh: Arc<HashSet<Id>>,
    /// `Refused` in the record.
    pub recorded: BTreeSet<Id>,
    /// `Refused` by the runner's latest word.
    pub told: BTreeSet<Id>,
    /// What the runner sent.
    pub sent: Arc<Sent>,
}

impl Untried {
    /// Whether nothing was ever sent of an object that is recorded without a uid.
    pub fn never_sent(&self, id: &Id) -> bool {
        let known = self.fresh.contains(id) || self.recorded.contains(id) || self.told.contains(id);
        known && !self.sent.has(id)
    }

    /// Whether it may be sent now; then that is noted.
    pub fn turn(&self, id: &Id) -> Turn {
        if self.recorded.contains(id) {
            return Turn::TakeBack;
        }
        if self.told.contains(id) {
            return Turn::Wait;
        }
        self.sent.add(id);
        Turn::Send
    }

    /// Says `Refused` of what was never sent, where the unit as a whole was refused.
    pub fn mark(&self, objects: &mut [WorkloadObject]) {
        for object in objects.iter_mut().filter(|object| object.uid.is_none()) {
            if self.never_sent(&Id::from(&*object)) {
                REFUSED.clone_into(&mut object.state);
            }
        }
    }

    /// Whether nothing was ever sent of any of these.
    pub fn never_sent_any(&self, objects: &[WorkloadObject]) -> bool {
        let mut objects = objects.iter();
        objects.all(|object| object.uid.is_none() && self.never_sent(&Id::from(object)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::news::tests::id;
    use super::super::pass::entry;
    use super::*;

    fn untried(fresh: bool, recorded: bool, told: bool) -> Untried {
        let of = |is: bool| is.then(|| id("a")).into_iter().collect::<BTreeSet<_>>();
        Untried {
            fresh: Arc::new(of(fresh).into_iter().collect()),
            recorded: of(recorded),
            told: of(told),
            sent: Arc::default(),
        }
    }

    #[test]
    fn unknown_is_not_refused() {
        for (fresh, recorded, told, want) in [
            (false, false, false, false),
            (true, false, false, true),
            (false, true, false, true),
            (false, false, true, true),
        ] {
            let untried = untried(fresh, recorded, told);
            assert_eq!(untried.never_sent(&id("a")), want, "{untried:?}");
            assert!(!untried.never_sent(&id("b")), "nothing is known of another");
        }
        let tried = untried(true, false, false);
        assert_eq!(tried.turn(&id("a")), Turn::Send);
        assert!(!tried.never_sent(&id("a")), "whatever the answer was");
    }

    #[test]
    fn nothing_is_sent_while_the_record_says_or_may_come_to_say_that_nothing_was() {
        for (recorded, told, want) in [
            (false, true, Turn::Wait),
            (true, true, Turn::TakeBack),
            (true, false, Turn::TakeBack),
            (false, false, Turn::Send),
        ] {
            let untried = untried(true, recorded, told);
            assert_eq!(untried.turn(&id("a")), want, "{untried:?}");
            assert_eq!(untried.never_sent(&id("a")), want != Turn::Send);
        }
    }

    #[test]
    fn only_an_entry_without_a_uid_is_marked() {
        let mut objects = [
            entry(&id("a"), None, "InProgress", None),
            entry(&id("a"), Some("u".into()), "Current", None),
            entry(&id("b"), None, "InProgress", None),
        ];
        untried(true, false, false).mark(&mut objects);
        let states = objects.each_ref().map(|object| object.state.as_str());
        assert_eq!(states, [REFUSED, "Current", "InProgress"]);
        assert!(untried(true, false, false).never_sent_any(&objects[..1]));
        assert!(!untried(true, false, false).never_sent_any(&objects));
    }
}
