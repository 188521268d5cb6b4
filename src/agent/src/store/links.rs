//! Keeps the links into one store: makes what is missing, mends what is broken, says how each one is.
//!
//! A link whose peer is not in the assignment any more is left as it is: nothing is deleted here.

use super::wish::{Target, Wish};
use super::{LONGEST_PAUSE, Store, timed};
use crate::backoff::Backoff;
use crate::facts::{LinkFact, Problem};
use crate::plan::Ask;
use futures::future::join_all;
use multiactive_api::LinkState as Reported;
use multiactive_core::ids::UnitName;
use multiactive_stores::driver::{Link, LinkState};
use multiactive_stores::{Driver, Error};
use std::time::Duration;
use tokio::sync::watch;

/// How often links that run are looked at, and how often while an operation asks for something.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_CLOSELY: Duration = Duration::from_millis(500);

pub(super) async fn keep<D: Driver>(store: &Store<D>, target: &Target, mut wish: watch::Receiver<Wish>) {
    let mut backoff = Backoff::new(LONGEST_PAUSE);
    while !store.token.is_cancelled() {
        let closely = wish
            .borrow_and_update()
            .asked
            .iter()
            .any(|asked| asked.ask != Ask::Nothing);
        let all_run = converge(store, target).await;
        let pause = match (all_run, closely) {
            (true, true) => LOOK_CLOSELY,
            (true, false) => LOOK,
            (false, _) => backoff.pause(),
        };
        if all_run {
            backoff.reset();
        }
        let begun = async {
            // An operation that begins asks for a look at once, every later change of the table does not.
            let asks = |wish: &Wish| !closely && wish.asked.iter().any(|asked| asked.ask != Ask::Nothing);
            wish.wait_for(asks).await.map(|wish| holds_writes(&wish))
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

/// Whether an operation asks what it asks only while writes are held.
fn holds_writes(wish: &Wish) -> bool {
    wish.asked.iter().any(|asked| match asked.ask {
        Ask::Fence { .. } | Ask::Follow { .. } | Ask::Reach { .. } => true,
        Ask::Nothing | Ask::Beat | Ask::Lag(_) | Ask::Checksums { .. } => false,
    })
}

/// Looks at all links and works on those that do not run; whether all do.
async fn converge<D: Driver>(store: &Store<D>, target: &Target) -> bool {
    let known = timed(&store.metrics, "links", store.driver.links())
        .await
        .unwrap_or_default();
    let each = target.peers.iter().map(|peer| async {
        let running = known
            .iter()
            .find(|link| link.from == peer.unit && link.state == LinkState::Running && link.gap.is_none());
        let link = match running {
            Some(link) => Ok(link.clone()),
            None => timed(&store.metrics, "link", store.driver.link(peer)).await,
        };
        // A store whose rows are not what others take them for has no link that anybody may count on.
        let mistaken = store.board.facts().mistaken;
        let fact = mistaken.map_or_else(|| fact(&target.spec.unit, link), |problem| not_its_own(&problem));
        let runs = fact.state == Reported::Running;
        note(store, &peer.unit, fact);
        runs
    });
    join_all(each).await.into_iter().all(|runs| runs)
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
        message: Some(format!("{}: {}", problem.reason, problem.message)),
    }
}

/// No automatic comparison clears a gap yet: a person says that the rows are equal.
fn how_to_forget(unit: &UnitName, from: &UnitName) -> String {
    format!(
        "; once they are equal, in {unit}'s database: UPDATE multiactive.link SET gap = NULL WHERE from_unit = '{from}'"
    )
}

/// A gap makes a link that streams broken all the same: rows may be missing here.
fn fact(unit: &UnitName, link: Result<Link, Error>) -> LinkFact {
    let (state, message) = match link {
        Ok(Link {
            gap: Some(gap), from, ..
        }) => (Reported::Broken, Some(format!("{gap}{}", how_to_forget(unit, &from)))),
        Ok(Link { state, .. }) => match state {
            LinkState::Running => (Reported::Running, None),
            LinkState::Starting(why) => (Reported::Starting, Some(why)),
            LinkState::Broken(why) | LinkState::Cut(why) | LinkState::Quarantined(why) => (Reported::Broken, Some(why)),
        },
        Err(error) => (Reported::Broken, Some(error.explain())),
    };
    LinkFact { state, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_with_a_gap_is_broken_though_it_streams_and_says_how_that_ends() {
        let gap = || Some("made again".to_owned());
        for (state, gap, want) in [
            (LinkState::Running, None, Reported::Running),
            (LinkState::Running, gap(), Reported::Broken),
            (LinkState::Starting("connects".into()), None, Reported::Starting),
            (LinkState::Broken("no slot".into()), None, Reported::Broken),
        ] {
            let has_gap = gap.is_some();
            let told = fact(
                &"east-1".into(),
                Ok(Link {
                    from: "north-1".into(),
                    state,
                    gap,
                }),
            );
            assert_eq!(told.state, want);
            let message = told.message.unwrap_or_default();
            assert_eq!(
                message.contains(
                    "in east-1's database: UPDATE multiactive.link SET gap = NULL WHERE from_unit = 'north-1'"
                ),
                has_gap,
                "{message}"
            );
        }
    }
}
