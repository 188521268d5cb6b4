//! What a Verification asks of a store: its rows are compared with those of each owner of other slots, one after the other, and
//! where that is wanted made equal to them (see `verify_pair`). What was found stays in the status, so that another agent goes on
//! from there.

use super::Store;
use super::verify_pair::{Attempts, pair};
use super::waiting::until_not;
use super::wish::{Target, Wish};
use crate::backoff::Backoff;
use crate::facts::VerificationFact;
use multiactive_api::{Conflict, PairReport, PairState, RepairMode, UnitAssignmentSpec};
use multiactive_core::ids::{StoreName, UnitName};
use multiactive_core::slots::SlotSet;
use multiactive_core::table::RoutingTable;
use multiactive_core::verification;
use multiactive_stores::Driver;
use multiactive_stores::driver::{Extent, Link, Winner};
use std::time::Duration;
use tokio::sync::watch;

/// How long it may take to close what is listed.
const SOON: Duration = Duration::from_secs(10);

/// The longest pause after a round in which something could not be compared.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The uid of the Verification, or of the operation.
    pub uid: String,
    /// What becomes of rows that differ.
    pub repair: RepairMode,
    /// How many rows a second may be compared, at most.
    pub pace: Option<u64>,
    /// Which rows are compared whole.
    pub extent: Extent,
    /// The owners of slots that this unit does not own, each with its slots.
    pub owners: Vec<(UnitName, SlotSet)>,
    /// Upon what each is compared: the newest change of these slots, and how many tables there are.
    pub bases: Vec<String>,
    /// In a store that several units write: what becomes of rows that two wrote at the same time.
    pub settle: Option<Winner>,
    /// There: all slots.
    pub all: SlotSet,
}

/// What the assignment asks of a store, by the owners of now.
pub fn question(spec: &UnitAssignmentSpec, store: &StoreName, table: &RoutingTable) -> Option<Question> {
    let asked = spec.verification.as_ref()?;
    let mut chosen = asked.stores.iter();
    chosen.find(|name| *name == store.as_str())?;
    let known = spec.stores.iter().find(|known| known.name == store.as_str())?;
    let peers: Vec<UnitName> = known.peers.iter().map(|peer| peer.unit.as_str().into()).collect();
    let unit = spec.unit.as_str().into();
    let declared = known
        .conflict
        .as_ref()
        .map_or(&known.keyspace, |conflict| &conflict.keyspace);
    let keyspace = declared.as_str().into();
    let rule = known.conflict.as_ref().map(|conflict| conflict.rule);
    let owners = match rule {
        Some(Conflict::LastWriterWins) => {
            let slots = table.keyspace(&keyspace)?.all();
            peers.iter().map(|peer| (peer.clone(), slots.clone())).collect()
        }
        Some(Conflict::OwnerWins | Conflict::Report) | None => verification::owners(table, &keyspace, &unit, &peers),
    };
    // Tables are only ever added.
    let basis = |(owner, _): &(UnitName, SlotSet)| {
        let (changed, tables) = (verification::changed(table, &keyspace, owner), known.tables.len());
        match rule {
            Some(Conflict::LastWriterWins) => format!("LastWriterWins/{tables}"),
            Some(Conflict::OwnerWins) => format!("{changed}/OwnerWins/{tables}"),
            Some(Conflict::Report) => format!("{changed}/Report/{tables}"),
            None => format!("{changed}/{tables}"),
        }
    };
    Some(Question {
        settle: rule.map(|rule| winner(rule, asked.repair)),
        all: rule
            .and_then(|_| Some(table.keyspace(&keyspace)?.all()))
            .unwrap_or_default(),
        bases: owners.iter().map(basis).collect(),
        owners,
        uid: asked.uid.clone(),
        repair: asked.repair,
        pace: asked.max_rows_per_second.and_then(|pace| u64::try_from(pace).ok()),
        extent: Extent::All,
    })
}

/// What becomes of rows that two units wrote at the same time.
fn winner(rule: Conflict, repair: RepairMode) -> Winner {
    match (rule, repair) {
        (Conflict::LastWriterWins, RepairMode::None | RepairMode::FromOwner) => Winner::LastWrite,
        (Conflict::OwnerWins, RepairMode::None | RepairMode::FromOwner) | (Conflict::Report, RepairMode::FromOwner) => {
            Winner::Peer
        }
        (Conflict::Report, RepairMode::None) => Winner::Nobody,
    }
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
        }
        // Where none is asked for any more the last one may only be paused: what is known of it stays.
        let changed = store.token.run_until_cancelled(wish.changed()).await;
        if changed.is_none_or(|seen| seen.is_err()) {
            return;
        }
    }
}

/// Compares with each owner until all is told.
async fn work<D: Driver>(store: &Store<D>, target: &Target, question: &Question) {
    // The sender lives as long as the store. Before that it is not known which database it is.
    let _ = store.judged.subscribe().wait_for(|judged| *judged).await;
    let known = store.board.facts().verification;
    let note = |fact: &VerificationFact| store.board.change(|facts| facts.verification = Some(fact.clone()));
    let Some(winner) = &question.settle else {
        through(store, target, question, known.as_ref(), LONGEST_PAUSE, note).await;
        return;
    };
    let gaps = store.driver.links().await.unwrap_or_default();
    let before = begin(question, store.board.facts().incarnation.as_deref(), known.as_ref());
    let fact = through(store, target, question, known.as_ref(), LONGEST_PAUSE, note).await;
    // What was compared before these gaps were looked at may be older than they are.
    let is_new =
        |pair: &PairReport| pair.state == PairState::Comparing && pair.compared.is_none() && pair.within.is_none();
    let is_equal = |pair: &PairReport| pair.state == PairState::Equal && pair.message.is_none();
    if !fact.pairs.is_empty() && before.pairs.iter().all(is_new) && fact.pairs.iter().all(is_equal) {
        forget(store, &gaps).await;
    }
    close(store, target, question, winner).await;
}

/// Ends what is listed of slots that are compared with nobody any more: this unit owns them by now, or nobody does.
async fn close<D: Driver>(store: &Store<D>, target: &Target, question: &Question, winner: &Winner) {
    let compared = question.owners.iter();
    let compared = compared.fold(SlotSet::default(), |all, (_, slots)| all.union(slots));
    let rest = question.all.difference(&compared);
    let Some(peer) = target.peers.first().filter(|_| !rest.is_empty()) else {
        return;
    };
    let nothing = SlotSet::default();
    if let Err(error) = store.driver.settle(peer, winner, &nothing, &rest, SOON).await {
        tracing::warn!(%error, "what is listed of slots that are not compared any more is not closed");
    }
}

/// Whatever links had not brought by the time when these were seen is here: all rows that differed were settled since.
async fn forget<D: Driver>(store: &Store<D>, before: &[Link]) {
    let now = store.driver.links().await.unwrap_or_default();
    for link in now.iter().filter(|link| link.gap.is_some()) {
        let same = |before: &&Link| before.from == link.from && before.gap == link.gap;
        if before.iter().any(|before| same(&before))
            && let Err(error) = store.driver.compared(&link.from).await
        {
            tracing::warn!(from = %link.from, %error, "a gap that was settled is not forgotten");
        }
    }
}

/// Compares with each owner, behind what is `known`, until nothing more comes of any; `note` hears how far that is.
pub(super) async fn through<D: Driver>(
    store: &Store<D>,
    target: &Target,
    question: &Question,
    known: Option<&VerificationFact>,
    longest_pause: Duration,
    note: impl Fn(&VerificationFact),
) -> VerificationFact {
    let own = store.board.facts().incarnation;
    let mut fact = begin(question, own.as_deref(), known);
    let mut backoff = Backoff::new(longest_pause);
    let mut attempts = vec![Attempts::default(); question.owners.len()];
    loop {
        note(&fact);
        let mut left = false;
        for (index, (owner, slots)) in question.owners.iter().enumerate() {
            if fact.pairs[index].state.has_ended() {
                continue;
            }
            let before = fact.pairs[index].clone();
            let tell = |found: &PairReport| {
                let mut told = fact.clone();
                told.pairs[index] = found.clone();
                note(&told);
            };
            match pair(
                store,
                target,
                question,
                (owner, slots),
                before,
                &mut attempts[index],
                tell,
            )
            .await
            {
                Ok(found) => fact.pairs[index] = found,
                Err((mut found, why)) => {
                    tracing::warn!(%owner, why, "rows are not compared yet");
                    // What was compared meanwhile is no failure.
                    let far = |found: &PairReport| (found.compared.clone(), found.within.clone());
                    let got_on = far(&found) != far(&fact.pairs[index]);
                    let failures = &mut attempts[index].failures;
                    *failures = if got_on { 1 } else { *failures + 1 };
                    if got_on {
                        backoff.reset();
                    }
                    found.message = Some(why);
                    fact.pairs[index] = found;
                    left = true;
                }
            }
            note(&fact);
        }
        if !left {
            return fact;
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Where it goes on: what was found of the same owner's same slots, tables and database stays, what is being repaired too.
fn begin(question: &Question, own: Option<&str>, known: Option<&VerificationFact>) -> VerificationFact {
    let known = known.filter(|known| known.uid == question.uid);
    let of = |((owner, slots), basis): (&(UnitName, SlotSet), &String)| {
        let mut found = known.into_iter().flat_map(|known| &known.pairs);
        let (slots, basis) = (
            Some(slots.to_string()),
            Some(format!("{basis}/{}", own.unwrap_or_default())),
        );
        let same = |found: &&PairReport| found.owner == owner.as_str() && found.slots == slots && found.basis == basis;
        let found = found.find(same).cloned();
        found.unwrap_or_else(|| PairReport {
            basis,
            ..PairReport::begun(owner.as_str(), None)
        })
    };
    VerificationFact {
        uid: question.uid.clone(),
        pairs: question.owners.iter().zip(&question.bases).map(of).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_api::PairState;

    fn found(owner: &str, state: PairState, slots: &str, basis: &str) -> PairReport {
        PairReport {
            state,
            basis: Some(basis.to_owned()),
            slots: Some(slots.to_owned()),
            ..PairReport::begun(owner, None)
        }
    }

    #[test]
    fn another_agent_goes_on_where_the_last_one_was() {
        let question = Question {
            uid: "v".to_owned(),
            repair: RepairMode::None,
            pace: None,
            extent: Extent::All,
            owners: vec![
                ("east".into(), SlotSet::range(0, 7)),
                ("west".into(), SlotSet::range(8, 9)),
            ],
            bases: vec!["1.4/2".to_owned(), "1.1/2".to_owned()],
            settle: None,
            all: SlotSet::default(),
        };
        for (uid, owner, slots, basis, was, want) in [
            ("v", "east", "0-7", "1.4/2/d", PairState::Equal, PairState::Equal),
            ("v", "east", "0-7", "1.4/2/d", PairState::Differs, PairState::Differs),
            (
                "v",
                "east",
                "0-7",
                "1.4/2/d",
                PairState::Repairing,
                PairState::Repairing,
            ),
            // The owner has other slots now, has got them anew, there are more tables, it is another database, …
            ("v", "east", "0-3", "1.4/2/d", PairState::Equal, PairState::Comparing),
            ("v", "east", "0-7", "1.3/2/d", PairState::Equal, PairState::Comparing),
            ("v", "east", "0-7", "1.4/1/d", PairState::Equal, PairState::Comparing),
            ("v", "east", "0-7", "1.4/2/c", PairState::Equal, PairState::Comparing),
            // … or it was another Verification, or another owner.
            ("u", "east", "0-7", "1.4/2/d", PairState::Equal, PairState::Comparing),
            ("v", "north", "0-7", "1.4/2/d", PairState::Equal, PairState::Comparing),
        ] {
            let known = VerificationFact {
                uid: uid.to_owned(),
                pairs: vec![found(owner, was, slots, basis)],
            };
            let states: Vec<_> = begin(&question, Some("d"), Some(&known))
                .pairs
                .iter()
                .map(|pair| pair.state)
                .collect();
            assert_eq!(states, [want, PairState::Comparing], "{uid} {owner} {slots} {basis}");
        }
        assert_eq!(begin(&question, None, None).pairs.len(), 2);
    }
}
