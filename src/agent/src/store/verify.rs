//! What a Verification asks of a store: its rows are compared with those of each owner of other slots, one after the other, and
//! where that is wanted made equal to them. What was found stays in the status, so that another agent goes on from there.

use super::copies::Copied;
use super::waiting::until_not;
use super::wish::{Target, Wish};
use super::{Store, answers, timed};
use crate::backoff::Backoff;
use crate::facts::VerificationFact;
use multiactive_api::{PairReport, PairState, RepairMode, UnitAssignmentSpec};
use multiactive_core::ids::{StoreName, UnitName};
use multiactive_core::slots::SlotSet;
use multiactive_core::table::RoutingTable;
use multiactive_stores::driver::{Compared, Peer};
use multiactive_stores::{Driver, Error};
use std::time::Duration;
use tokio::sync::watch;

/// The longest pause after a round in which something could not be compared.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How many rows that differ are told of one owner's.
const TOLD: usize = 20;

/// What is to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The Verification's uid.
    pub uid: String,
    /// What becomes of rows that differ.
    pub repair: RepairMode,
    /// The owners of slots that this unit does not own, each with its slots.
    pub owners: Vec<(UnitName, SlotSet)>,
}

/// What the assignment asks of a store, by the owners of now.
pub fn question(spec: &UnitAssignmentSpec, store: &StoreName, table: &RoutingTable) -> Option<Question> {
    let asked = spec.verification.as_ref()?;
    let mut chosen = asked.stores.iter();
    chosen.find(|name| *name == store.as_str())?;
    let known = spec.stores.iter().find(|known| known.name == store.as_str())?;
    let owners = table.owners_of(&known.keyspace.as_str().into()).into_iter();
    let others = owners.filter(|(owner, _)| known.peers.iter().any(|peer| peer.unit == owner.as_str()));
    Some(Question {
        uid: asked.uid.clone(),
        repair: asked.repair,
        owners: others.map(|(owner, slots)| (owner.clone(), slots)).collect(),
    })
}

pub(super) async fn keep<D: Driver>(store: &Store<D>, target: &Target, mut wish: watch::Receiver<Wish>) {
    while !store.token.is_cancelled() {
        let asked = wish.borrow_and_update().verification.clone();
        if let Some(question) = &asked {
            let still = |wish: &Wish| wish.verification.as_ref() == Some(question);
            tokio::select! {
                biased;
                () = store.token.cancelled() => return,
                () = until_not(wish.clone(), still) => continue,
                () = work(store, target, question) => {}
            }
        } else {
            store.board.change(|facts| facts.verification = None);
        }
        let changed = store.token.run_until_cancelled(wish.changed()).await;
        if changed.is_none_or(|seen| seen.is_err()) {
            return;
        }
    }
}

/// Compares with each owner until all is told.
async fn work<D: Driver>(store: &Store<D>, target: &Target, question: &Question) {
    let known = store.board.facts().verification;
    let mut fact = begin(question, known.as_ref());
    // The sender lives as long as the store.
    let _ = store.judged.subscribe().wait_for(|judged| *judged).await;
    let mut backoff = Backoff::new(LONGEST_PAUSE);
    loop {
        note(store, &fact);
        let mut left = false;
        for (index, (owner, slots)) in question.owners.iter().enumerate() {
            if has_ended(fact.pairs[index].state) {
                continue;
            }
            match pair(store, target, question, (owner, slots), &mut fact, index).await {
                Ok(found) => fact.pairs[index] = found,
                Err(why) => {
                    tracing::warn!(%owner, why, "rows are not compared yet");
                    fact.pairs[index] = begun(owner, Some(why));
                    left = true;
                }
            }
            note(store, &fact);
        }
        if !left {
            return;
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Where it goes on: what was found of the same owner's same slots stays.
fn begin(question: &Question, known: Option<&VerificationFact>) -> VerificationFact {
    let known = known.filter(|known| known.uid == question.uid);
    let of = |(owner, slots): &(UnitName, SlotSet)| {
        let mut found = known.into_iter().flat_map(|known| &known.pairs);
        let words = slots.to_string();
        let same = |found: &&PairReport| found.owner == owner.as_str() && found.slots.as_ref() == Some(&words);
        let ended = found.find(same).filter(|found| has_ended(found.state));
        ended.cloned().unwrap_or_else(|| begun(owner, None))
    };
    VerificationFact {
        uid: question.uid.clone(),
        pairs: question.owners.iter().map(of).collect(),
    }
}

fn begun(owner: &UnitName, message: Option<String>) -> PairReport {
    PairReport {
        owner: owner.to_string(),
        state: PairState::Comparing,
        slots: None,
        rows: None,
        differing: None,
        examples: Vec::new(),
        message,
    }
}

fn has_ended(state: PairState) -> bool {
    match state {
        PairState::Comparing | PairState::Repairing => false,
        PairState::Equal | PairState::Differs | PairState::Repaired => true,
    }
}

fn note<D: Driver>(store: &Store<D>, fact: &VerificationFact) {
    store.board.change(|facts| facts.verification = Some(fact.clone()));
}

/// Compares with one owner, and repairs; why that was not possible.
async fn pair<D: Driver>(
    store: &Store<D>,
    target: &Target,
    question: &Question,
    (owner, slots): (&UnitName, &SlotSet),
    fact: &mut VerificationFact,
    index: usize,
) -> Result<PairReport, String> {
    let peers = target.peers.iter();
    let peer = peers.clone().find(|peer| peer.unit == *owner);
    let peer = peer.ok_or_else(|| format!("{owner} is no member of the store"))?;
    let explain = |error: Error| error.explain();
    let first = compare(store, peer, slots).await.map_err(explain)?;
    let mut found = report(store, owner, slots, &first);
    match question.repair {
        RepairMode::FromOwner if !first.differing.is_empty() => {}
        RepairMode::None | RepairMode::FromOwner => return Ok(found),
    }
    found.state = PairState::Repairing;
    fact.pairs[index] = found.clone();
    note(store, fact);
    let done = match store.copies.repair(owner).await {
        Copied::Done(words) => words,
        Copied::Failed(why) => return Err(format!("what differs was not replaced: {why}")),
        Copied::UnderWay(_) => return Err("what differs was not replaced yet".to_owned()),
    };
    // The proof, and not the copy's own word.
    let second = compare(store, peer, slots).await.map_err(explain)?;
    if second.differing.is_empty() {
        found.state = PairState::Repaired;
        found.rows = Some(rows(&second));
        found.message = Some(done);
        return Ok(found);
    }
    let mut found = report(store, owner, slots, &second);
    found.message = Some(format!("{done}, and rows differ still"));
    Ok(found)
}

async fn compare<D: Driver>(store: &Store<D>, peer: &Peer, slots: &SlotSet) -> Result<Compared, Error> {
    let verb = store.driver.compare(peer, slots, answers::COMPARE);
    timed(&store.metrics, "compare", verb).await
}

fn rows(compared: &Compared) -> i64 {
    i64::try_from(compared.rows).unwrap_or(i64::MAX)
}

fn report<D: Driver>(store: &Store<D>, owner: &UnitName, slots: &SlotSet, compared: &Compared) -> PairReport {
    let Compared {
        rows: _,
        differing,
        examples,
    } = compared;
    let told = examples.iter().take(TOLD);
    PairReport {
        owner: owner.to_string(),
        state: match differing.is_empty() {
            true => PairState::Equal,
            false => PairState::Differs,
        },
        slots: Some(slots.to_string()),
        rows: Some(rows(compared)),
        differing: (!differing.is_empty()).then(|| differing.to_string()),
        examples: told.map(|row| answers::words(row, &store.spec.unit, owner)).collect(),
        message: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(owner: &str, state: PairState, slots: &str) -> PairReport {
        PairReport {
            state,
            slots: Some(slots.to_owned()),
            ..begun(&owner.into(), None)
        }
    }

    #[test]
    fn another_agent_goes_on_where_the_last_one_was() {
        let question = Question {
            uid: "v".to_owned(),
            repair: RepairMode::None,
            owners: vec![
                ("east".into(), SlotSet::range(0, 7)),
                ("west".into(), SlotSet::range(8, 9)),
            ],
        };
        for (uid, east, want) in [
            ("v", found("east", PairState::Equal, "0-7"), PairState::Equal),
            ("v", found("east", PairState::Differs, "0-7"), PairState::Differs),
            // The owner has other slots now, it was not done, or it was another Verification.
            ("v", found("east", PairState::Equal, "0-3"), PairState::Comparing),
            ("v", found("east", PairState::Repairing, "0-7"), PairState::Comparing),
            ("u", found("east", PairState::Equal, "0-7"), PairState::Comparing),
            ("v", found("north", PairState::Equal, "0-7"), PairState::Comparing),
        ] {
            let known = VerificationFact {
                uid: uid.to_owned(),
                pairs: vec![east.clone()],
            };
            let states: Vec<_> = begin(&question, Some(&known))
                .pairs
                .iter()
                .map(|pair| pair.state)
                .collect();
            assert_eq!(states, [want, PairState::Comparing], "{uid} {east:?}");
        }
        assert_eq!(begin(&question, None).pairs.len(), 2);
    }
}
