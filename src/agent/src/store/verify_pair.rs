//! The rows of one owner, compared with those that are here: chunk by chunk of its slots, each at a place of its own in the
//! owner's log, and where that is wanted made equal to them.
//!
//! After each chunk it is told which slots were compared: whoever goes on begins behind them. A slot is told once all of its
//! rows were compared while the owner had it open, and not before; while rows are being replaced, only where they are equal.

use super::copies::Copied;
use super::verify::Question;
use super::wish::Target;
use super::{Store, answers, timed};
use multiactive_api::{PairReport, PairState, RepairMode};
use multiactive_core::chunks::{self, Chunk};
use multiactive_core::ids::UnitName;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{Compared, Peer};
use multiactive_stores::{Driver, Error};
use std::time::{Duration, Instant};

/// How long a chunk may take. It is meant to take seconds; more, where finding its rows in a large table does.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How many rows that differ are told of one owner's.
const TOLD: usize = 20;

/// What is compared, and with whom.
struct Job<'a, D, T> {
    store: &'a Store<D>,
    peer: &'a Peer,
    slots: &'a SlotSet,
    pace: Option<u64>,
    /// How often in a row nothing could be compared.
    failures: u32,
    /// Hears what is found.
    tell: T,
}

/// Compares with one owner, and repairs; where that was not possible, what was found by then and why. It goes on from what was
/// `found` before: what was being replaced then may be equal by now. After `failures` in a row it tries less at a time.
pub(super) async fn pair<D: Driver>(
    store: &Store<D>,
    target: &Target,
    question: &Question,
    (owner, slots): (&UnitName, &SlotSet),
    mut found: PairReport,
    failures: u32,
    tell: impl Fn(&PairReport),
) -> Result<PairReport, (PairReport, String)> {
    let Some(peer) = target.peers.iter().find(|peer| peer.unit == *owner) else {
        return Err((found, format!("{owner} is no member of the store")));
    };
    found.slots = Some(slots.to_string());
    let job = Job {
        store,
        peer,
        slots,
        pace: question.pace,
        failures,
        tell,
    };
    let mut copied = None;
    loop {
        let differ = match job.compare_all(&mut found, copied.as_ref()).await {
            Ok(differ) => differ,
            Err(error) => return Err((found, error.explain())),
        };
        if let Some(ended) = ended(&found, &differ, question.repair, copied.as_ref()) {
            return Ok(ended);
        }
        copied = match job.replace(&mut found).await {
            Ok(words) => Some(words),
            Err(why) => return Err((found, why)),
        };
    }
}

impl<D: Driver, T: Fn(&PairReport)> Job<'_, D, T> {
    /// Compares all slots that were not compared yet: which rows of these differ. Where they were replaced just now, `copied` says
    /// how that went.
    async fn compare_all(&self, found: &mut PairReport, copied: Option<&String>) -> Result<Found, Error> {
        let mut seen = Vec::new();
        let mut differ = Found::default();
        loop {
            let left = self.slots.difference(&compared(found)).difference(&differ.slots);
            let failures = if seen.is_empty() { self.failures } else { 0 };
            let chunk = chunks::next(&seen, &left, self.pace, failures);
            if chunk.is_empty() {
                return Ok(differ);
            }
            let began = Instant::now();
            let verb = self.store.driver.compare(self.peer, &chunk, LIMIT);
            let got = timed(&self.store.metrics, "compare", verb).await?;
            let took = began.elapsed();
            let rows = got.examples.iter();
            let rows = rows.map(|row| answers::words(row, &self.store.spec.unit, &self.peer.unit));
            let rows: Vec<_> = rows.collect();
            add(found, &chunk, &got, &rows);
            differ.add(&got, rows);
            found.message = copied.cloned();
            (self.tell)(found);
            seen.push(Chunk {
                slots: chunk.len(),
                rows: got.rows,
                took,
            });
            tokio::time::sleep(chunks::rest(got.rows, took, self.pace)).await;
        }
    }

    /// Has the rows that differ replaced by the owner's; how that went, in words. All of them are to be compared again then: that
    /// is the proof, and not the copy's own word.
    async fn replace(&self, found: &mut PairReport) -> Result<String, String> {
        found.state = PairState::Repairing;
        found.compared = None;
        found.message = Some("being replaced, once no slot of the keyspace moves".to_owned());
        (self.tell)(found);
        match self.store.copies.repair(&self.peer.unit).await {
            Copied::Done(words) => {
                found.message = Some(words.clone());
                (self.tell)(found);
                Ok(words)
            }
            Copied::Failed(why) => Err(format!("what differs was not replaced: {why}")),
            Copied::UnderWay(_) => Err("what differs was not replaced yet".to_owned()),
        }
    }
}

/// The slots whose rows differ in one pass, and some of these rows in words.
#[derive(Default)]
struct Found {
    slots: SlotSet,
    rows: Vec<String>,
}

impl Found {
    fn add(&mut self, got: &Compared, rows: Vec<String>) {
        self.slots = self.slots.union(&got.differing);
        self.rows.extend(rows);
        self.rows.truncate(TOLD);
    }
}

/// The slots that need not be compared again.
fn compared(found: &PairReport) -> SlotSet {
    set(found.compared.as_deref())
}

fn set(slots: Option<&str>) -> SlotSet {
    slots.and_then(|slots| slots.parse().ok()).unwrap_or_default()
}

fn text(slots: &SlotSet) -> Option<String> {
    (!slots.is_empty()).then(|| slots.to_string())
}

/// Notes what a chunk was found to be. While rows are replaced, what differed before stays told, and what differs still is not
/// done: whoever goes on looks at it again.
fn add(found: &mut PairReport, chunk: &SlotSet, got: &Compared, rows: &[String]) {
    let done = match found.state {
        PairState::Repairing => chunk.difference(&got.differing),
        PairState::Comparing | PairState::Equal | PairState::Differs | PairState::Repaired => {
            let more = i64::try_from(got.rows).unwrap_or(i64::MAX);
            found.rows = Some(found.rows.unwrap_or_default().saturating_add(more));
            found.differing = text(&set(found.differing.as_deref()).union(&got.differing));
            found.examples.extend_from_slice(rows);
            found.examples.truncate(TOLD);
            chunk.clone()
        }
    };
    found.compared = text(&compared(found).union(&done));
}

/// How it ends once all slots were compared; `None` where what differs is to be replaced first.
fn ended(found: &PairReport, differ: &Found, repair: RepairMode, copied: Option<&String>) -> Option<PairReport> {
    let ends = |state, message| PairReport {
        state,
        compared: None,
        message,
        ..found.clone()
    };
    match (found.state, repair) {
        (PairState::Equal | PairState::Differs | PairState::Repaired, _) => Some(found.clone()),
        (PairState::Comparing, _) if found.differing.is_none() => Some(ends(PairState::Equal, None)),
        (PairState::Comparing, RepairMode::None) => Some(ends(PairState::Differs, None)),
        (PairState::Comparing, RepairMode::FromOwner) => None,
        (PairState::Repairing, _) if differ.slots.is_empty() => {
            let by_now = || "what differed is equal by now".to_owned();
            Some(ends(PairState::Repaired, Some(copied.cloned().unwrap_or_else(by_now))))
        }
        (PairState::Repairing, _) => copied.map(|copied| PairReport {
            differing: text(&differ.slots),
            examples: differ.rows.clone(),
            ..ends(PairState::Differs, Some(format!("{copied}, and rows differ still")))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> PairReport {
        PairReport {
            slots: Some("0-9".to_owned()),
            ..PairReport::begun("east", None)
        }
    }

    /// A chunk whose rows differ in these slots.
    fn chunk(found: &mut PairReport, differ: &mut Found, (first, last): (u16, u16), differing: &str) {
        let got = Compared {
            rows: 10,
            differing: set(Some(differing)),
            examples: Vec::new(),
        };
        let rows: Vec<_> = got.differing.iter().map(|slot| format!("row of {slot}")).collect();
        add(found, &SlotSet::range(first, last), &got, &rows);
        differ.add(&got, rows);
    }

    #[test]
    fn what_chunks_find_adds_up_to_how_it_ends() {
        for (chunks, differing, repair, want) in [
            (["", ""], None, RepairMode::None, Some(PairState::Equal)),
            (["", ""], None, RepairMode::FromOwner, Some(PairState::Equal)),
            (["1", "9"], Some("1,9"), RepairMode::None, Some(PairState::Differs)),
            (["1", ""], Some("1"), RepairMode::None, Some(PairState::Differs)),
            (["", "8"], Some("8"), RepairMode::FromOwner, None),
        ] {
            let mut found = begun();
            let mut differ = Found::default();
            chunk(&mut found, &mut differ, (0, 5), chunks[0]);
            assert_eq!(found.compared.as_deref(), Some("0-5"));
            // Whoever goes on knows only what was told.
            differ = Found::default();
            chunk(&mut found, &mut differ, (6, 9), chunks[1]);
            assert_eq!((found.rows, found.differing.as_deref()), (Some(20), differing));
            assert_eq!(compared(&found), SlotSet::range(0, 9));
            let ended = ended(&found, &differ, repair, None);
            assert_eq!(ended.as_ref().map(|ended| ended.state), want, "{chunks:?} {repair:?}");
            assert!(ended.is_none_or(|ended| ended.compared.is_none() && ended.differing.as_deref() == differing));
        }
    }

    #[test]
    fn what_differs_still_after_a_repair_is_not_done_and_not_forgotten_by_who_goes_on() {
        let repairing = PairReport {
            state: PairState::Repairing,
            differing: Some("1".to_owned()),
            rows: Some(20),
            ..begun()
        };
        let words = "3 rows were copied".to_owned();
        for (differs, copied, want, differing) in [
            ("", Some(&words), Some(PairState::Repaired), "1"),
            ("", None, Some(PairState::Repaired), "1"),
            ("2,3", Some(&words), Some(PairState::Differs), "2-3"),
            // Who has not copied himself does so first.
            ("2,3", None, None, ""),
        ] {
            let mut found = repairing.clone();
            let mut differ = Found::default();
            chunk(&mut found, &mut differ, (0, 9), differs);
            assert_eq!(compared(&found), SlotSet::range(0, 9).difference(&set(Some(differs))));
            assert_eq!((found.rows, found.differing.as_deref()), (Some(20), Some("1")));
            let ended = ended(&found, &differ, RepairMode::FromOwner, copied);
            assert_eq!(ended.as_ref().map(|ended| ended.state), want, "{differs} {copied:?}");
            let said = ended.map(|ended| ended.differing.unwrap_or_default());
            assert_eq!(said.unwrap_or_default(), differing);
        }
    }
}
