//! Keeps the links into one store: makes what is missing, mends what is broken, says how each one is.
//!
//! A link whose peer is not in the assignment any more is left as it is: nothing is deleted here.
//!
//! A unit that is lost by the table is cut off before its link is looked after, also in a store that was away when the
//! others were; and before the first table nobody knows who is lost, so nothing is linked.

use super::copies::{Copied, Looked};
use super::wish::{Target, Wish};
use super::{LONGEST_PAUSE, Store, returning, timed};
use crate::backoff::Backoff;
use crate::facts::{LinkFact, Problem};
use crate::lost::{self, Cut};
use crate::plan::Ask;
use futures::future::join_all;
use multiactive_api::LinkState as Reported;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, OperationUid, UnitName};
use multiactive_core::table::RoutingTable;
use multiactive_stores::driver::{Link, LinkState, lacks};
use multiactive_stores::{Driver, Error};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often links that run are looked at, and how often while an operation asks for something.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_CLOSELY: Duration = Duration::from_millis(500);

pub(super) async fn keep<D: Driver>(store: &Store<D>, target: &Target, mut wish: watch::Receiver<Wish>) {
    let mut backoff = Backoff::new(LONGEST_PAUSE);
    let mut held = Vec::new();
    while !store.token.is_cancelled() {
        let (closely, peers, quarantine) = {
            let wish = wish.borrow_and_update();
            (asks(&wish), Peers::of(&wish, target), returning::asked(&wish, target))
        };
        let all_run = converge(store, target, peers.as_ref(), &mut held).await;
        let all_run = returning::work(store, target, quarantine.as_ref()).await && all_run;
        // Who may have more of a lost unit than its new owner must have cut it off before it says what it has.
        let cut_off = |peers: &Peers| peers.cuts.iter().all(|cut| held.contains(cut));
        let table = wish
            .borrow()
            .table
            .clone()
            .filter(|_| peers.as_ref().is_some_and(cut_off));
        let all_run = catch_up(store, target, table.as_deref()).await && all_run;
        let pause = match (all_run, closely) {
            (true, true) => LOOK_CLOSELY,
            (true, false) => LOOK,
            (false, _) => backoff.pause(),
        };
        if all_run {
            backoff.reset();
        }
        let begun = async {
            // An operation that begins asks for a look at once, and so does a unit that is lost; every later change of the
            // table does not.
            let other = |wish: &Wish| Peers::of(wish, target) != peers || returning::asked(wish, target) != quarantine;
            let waited = wish.wait_for(|wish| (!closely && asks(wish)) || other(wish)).await;
            waited.map(|wish| holds_writes(&wish) && !other(&wish))
        };
        let held = tokio::select! {
            () = store.token.cancelled() => false,
            () = tokio::time::sleep(pause) => false,
            held = begun => match held {
                Ok(held) => held,
                Err(_) => return,
            }
        };
        // Writes are held: a look costs the database what the fence and the last rows need.
        if held {
            let _ = store.token.run_until_cancelled(tokio::time::sleep(LOOK_CLOSELY)).await;
        }
    }
}

/// Asks the database of which operations it has all rows by now, of those at whose commit this unit was behind; whether of all.
async fn catch_up<D: Driver>(store: &Store<D>, target: &Target, table: Option<&RoutingTable>) -> bool {
    let Some(table) = table else { return false };
    if target.spec.is_shared() {
        return true;
    }
    let behind = lost::was_behind(table, &target.spec.unit);
    let known = store.board.facts().passed;
    if behind.iter().all(|(uid, _)| known.contains(uid)) {
        return true;
    }
    let keyspace = &target.spec.keyspace.name;
    let concerns = |keyspaces: &[KeyspaceName]| keyspaces.is_empty() || keyspaces.contains(keyspace);
    let (mine, others): (Vec<_>, Vec<_>) = behind.into_iter().partition(|(_, keyspaces)| concerns(keyspaces));
    let mine: Vec<OperationUid> = mine.into_iter().map(|(uid, _)| uid).collect();
    match timed(&store.metrics, "passed", store.driver.passed(&mine)).await {
        Ok(passed) => {
            let all = passed.len() == mine.len();
            let others = others.into_iter().map(|(uid, _)| uid);
            store
                .board
                .change(|facts| facts.passed = passed.into_iter().chain(others).collect());
            all
        }
        Err(error) => {
            tracing::debug!(error = error.explain(), "it is not known what this store has of others");
            false
        }
    }
}

/// Whether an operation asks something.
fn asks(wish: &Wish) -> bool {
    wish.asked.iter().any(|asked| asked.ask != Ask::Nothing)
}

/// What the table says of the peers.
#[derive(PartialEq)]
struct Peers {
    /// Those that are lost.
    cuts: Vec<Cut>,
    /// Those that were, and since when they are not.
    back: BTreeMap<UnitName, Epoch>,
}

impl Peers {
    /// `None` before the first table.
    fn of(wish: &Wish, target: &Target) -> Option<Self> {
        let table = wish.table.as_deref()?;
        // What a lost unit wrote last comes when it comes, where several write at the same time.
        if target.spec.is_shared() {
            return Some(Self {
                cuts: Vec::new(),
                back: BTreeMap::new(),
            });
        }
        let peers = &target.spec.peers;
        let mut cuts = lost::cuts(table, &target.spec.unit);
        cuts.retain(|cut| peers.contains(&cut.lost));
        let back = peers
            .iter()
            .filter_map(|peer| Some((peer.clone(), lost::back(table, peer)?)));
        Some(Self {
            cuts,
            back: back.collect(),
        })
    }
}

/// Whether an operation asks what it asks only while writes are held.
fn holds_writes(wish: &Wish) -> bool {
    wish.asked.iter().any(|asked| match asked.ask {
        Ask::Fence { .. } | Ask::Follow { .. } | Ask::Reach { .. } => true,
        Ask::Nothing | Ask::Beat | Ask::Lag(_) | Ask::Compare { .. } | Ask::Cut(_) | Ask::TakeTail { .. } => false,
    })
}

/// Looks at all links, cuts off who is lost, and works on those that do not run; whether there is nothing left to do. `held`
/// are the cuts that were made here.
async fn converge<D: Driver>(store: &Store<D>, target: &Target, peers: Option<&Peers>, held: &mut Vec<Cut>) -> bool {
    let began = Instant::now();
    let known = timed(&store.metrics, "links", store.driver.links())
        .await
        .unwrap_or_default();
    let uncut = match peers {
        Some(peers) => {
            join_again(store, &peers.back, &known).await;
            cut_off(store, &peers.cuts, held, &known).await
        }
        None => BTreeMap::new(),
    };
    let each = target.peers.iter().map(|peer| async {
        let found = known.iter().find(|link| link.from == peer.unit);
        let running = found.filter(|link| link.state == LinkState::Running && link.gap.is_none());
        let waits = uncut.get(&peer.unit).cloned().or_else(|| {
            let unknown = "waits for the first table, which says whether the unit is lost";
            peers.is_none().then(|| unknown.to_owned())
        });
        if let Some(Copied::UnderWay(_)) = store.copies.of(&peer.unit) {
            note_copy(store, &peer.unit);
            return (false, found.cloned());
        }
        let link = match (running, waits) {
            (Some(link), _) => Ok(link.clone()),
            (None, Some(why)) => Ok(Link {
                from: peer.unit.clone(),
                state: LinkState::Starting(why),
                gap: found.and_then(|link| link.gap.clone()),
                lacking: found.and_then(|link| link.lacking.clone()),
            }),
            (None, None) => timed(&store.metrics, "link", store.driver.link(peer)).await,
        };
        let seen = link.as_ref().ok().cloned();
        // A store whose rows are not what others take them for has no link that anybody may count on.
        let mistaken = store.board.facts().mistaken;
        let fact = match mistaken {
            Some(problem) => not_its_own(&problem),
            None => with_copy(fact(target, link), store.copies.of(&peer.unit)),
        };
        // Neither a cut nor a quarantine ends by trying again.
        let stays = match fact.state {
            Reported::Running | Reported::Cut | Reported::Quarantined => true,
            Reported::Starting | Reported::Broken => false,
        };
        note(store, &peer.unit, fact);
        (stays, seen)
    });
    let (stay, links): (Vec<_>, Vec<_>) = join_all(each).await.into_iter().unzip();
    store.copies.looked.send_replace(Looked {
        at: Some(began),
        links: links.into_iter().flatten().collect(),
    });
    stay.into_iter().all(|stays| stays)
}

/// Says of a link that rows are being copied, where they are.
pub(super) fn note_copy<D: Driver>(store: &Store<D>, from: &UnitName) {
    if let Some(Copied::UnderWay(since)) = store.copies.of(from) {
        let message = format!("rows are being copied from {from} (since {since:.0})");
        note(
            store,
            from,
            LinkFact {
                state: Reported::Starting,
                // What is missing is being brought.
                gap: true,
                message: Some(message),
            },
        );
    }
}

/// What is said of a link from whose unit rows were copied, or are to be.
fn with_copy(mut fact: LinkFact, copied: Option<Copied>) -> LinkFact {
    match (fact.state, copied) {
        (Reported::Running, Some(Copied::Done(words))) => fact.message = Some(words),
        (Reported::Starting | Reported::Broken, Some(Copied::Failed(words))) => {
            let message = fact.message.unwrap_or_default();
            fact.message = Some(format!("{message}; the last attempt to copy rows failed: {words}"));
        }
        (
            Reported::Running | Reported::Starting | Reported::Broken | Reported::Cut | Reported::Quarantined,
            Some(Copied::UnderWay(_) | Copied::Done(_) | Copied::Failed(_)) | None,
        ) => {}
    }
    fact
}

/// Ends the cuts of units that are not lost any more: their links begin anew, with a gap until the rows were compared. A cut
/// of a newer table stays.
async fn join_again<D: Driver>(store: &Store<D>, back: &BTreeMap<UnitName, Epoch>, known: &[Link]) {
    let cut = known.iter().filter(|link| matches!(link.state, LinkState::Cut(_)));
    for (link, since) in cut.filter_map(|link| Some((link, back.get(&link.from)?))) {
        if !*store.judged.borrow() {
            return;
        }
        let verb = store.driver.uncut(&link.from, *since, false);
        match timed(&store.metrics, "uncut", verb).await {
            Ok(()) => {
                tracing::info!(from = %link.from, epoch = %since, "a unit is not lost any more: its link begins anew")
            }
            Err(error) => tracing::warn!(from = %link.from, error = error.explain(), "a cut does not end yet"),
        }
    }
}

/// Cuts off whom the table calls lost; those for whom that did not work, and why. A cut that was made at an older table is
/// made again at the newest, for an operation only counts on one that is at least its own.
async fn cut_off<D: Driver>(
    store: &Store<D>,
    cuts: &[Cut],
    held: &mut Vec<Cut>,
    known: &[Link],
) -> BTreeMap<UnitName, String> {
    held.retain(|cut| cuts.contains(cut));
    let mut uncut = BTreeMap::new();
    for cut in cuts {
        let link = known.iter().find(|link| link.from == cut.lost);
        let stands = link.is_some_and(|link| matches!(link.state, LinkState::Cut(_)));
        if stands && held.contains(cut) {
            continue;
        }
        // As everything that raises the epoch of a database: it may hold an older state, which nobody could tell then.
        if !*store.judged.borrow() {
            uncut.insert(
                cut.lost.clone(),
                "is to be cut off, once its database is in hand".to_owned(),
            );
            continue;
        }
        let verb = store.driver.cut(&cut.lost, &cut.by, cut.at);
        match timed(&store.metrics, "cut", verb).await {
            Ok(_) => held.push(cut.clone()),
            // By a newer table than this one, which is on its way.
            Err(Error::Overtaken { .. }) if stands => {}
            Err(error) => {
                tracing::warn!(lost = %cut.lost, error = error.explain(), "a lost unit is not cut off yet");
                uncut.insert(cut.lost.clone(), format!("is to be cut off: {}", error.explain()));
            }
        }
    }
    uncut
}

pub(super) fn note<D: Driver>(store: &Store<D>, from: &UnitName, fact: LinkFact) {
    store.board.change(|facts| {
        facts.links.insert(from.to_string(), fact);
    });
}

/// A link into a database that is not the one that it should be.
pub(super) fn not_its_own(problem: &Problem) -> LinkFact {
    LinkFact {
        state: Reported::Broken,
        gap: false,
        message: Some(format!("{}: {}", problem.reason, problem.message)),
    }
}

/// How a gap ends: by a Verification where several units write, else a person says that the rows are equal.
fn how_to_forget(target: &Target, from: &UnitName) -> String {
    if target.spec.is_shared() {
        return "; it ends once a Verification has found all rows of the store equal".to_owned();
    }
    let (engine, unit) = (target.engine, &target.spec.unit);
    let forget = format!("UPDATE multiactive.link SET gap = NULL WHERE from_unit = '{from}'");
    format!(
        "; once they are equal, in {unit}'s database: {}",
        engine.by_hand(&forget)
    )
}

/// A gap makes a link that streams, or could, broken all the same: rows may be missing here.
fn fact(target: &Target, link: Result<Link, Error>) -> LinkFact {
    let gap = link.as_ref().is_ok_and(|link| link.gap.is_some());
    let (state, message) = match link {
        Ok(Link {
            state,
            gap,
            from,
            lacking,
        }) => {
            let how = || match lacking {
                Some(_) if !target.spec.is_shared() => "; they are copied by themselves".to_owned(),
                Some(_) | None => how_to_forget(target, &from),
            };
            let gap = gap.map(|gap| format!("{gap}{}", how()));
            match (state, gap) {
                // What is lost is compared before it rejoins, whatever else its link is.
                (LinkState::Cut(why), gap) => (Reported::Cut, Some(with(why, gap))),
                (LinkState::Quarantined(why), gap) => (Reported::Quarantined, Some(with(why, gap))),
                (
                    LinkState::Running | LinkState::Starting(_) | LinkState::Lacks { .. } | LinkState::Broken(_),
                    Some(gap),
                ) => (Reported::Broken, Some(gap)),
                (LinkState::Lacks { of, upto }, None) => (Reported::Starting, Some(lacks(&of, &upto))),
                (LinkState::Running, None) => (Reported::Running, None),
                (LinkState::Starting(why), None) => (Reported::Starting, Some(why)),
                (LinkState::Broken(why), None) => (Reported::Broken, Some(why)),
            }
        }
        Err(error) => (Reported::Broken, Some(error.explain())),
    };
    LinkFact { state, gap, message }
}

fn with(why: String, gap: Option<String>) -> String {
    match gap {
        Some(gap) => format!("{why}; {gap}"),
        None => why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_with_a_gap_is_broken_though_it_streams_and_says_how_that_ends() {
        let gap = || Some("made again".to_owned());
        let (target, _) = super::super::lacking::tests::south();
        for (state, gap, want) in [
            (LinkState::Running, None, Reported::Running),
            (LinkState::Running, gap(), Reported::Broken),
            (LinkState::Starting("connects".into()), None, Reported::Starting),
            (LinkState::Broken("no slot".into()), None, Reported::Broken),
            (LinkState::Cut("by op".into()), None, Reported::Cut),
            (LinkState::Cut("by op".into()), gap(), Reported::Cut),
            (LinkState::Quarantined("by op".into()), None, Reported::Quarantined),
        ] {
            let has_gap = gap.is_some();
            let told = fact(
                &target,
                Ok(Link {
                    from: "north-1".into(),
                    state,
                    gap,
                    lacking: None,
                }),
            );
            assert_eq!(told.state, want);
            let message = told.message.unwrap_or_default();
            assert_eq!(
                message.contains(
                    "in south-1's database: UPDATE multiactive.link SET gap = NULL WHERE from_unit = 'north-1'"
                ),
                has_gap,
                "{message}"
            );
        }
    }
}
