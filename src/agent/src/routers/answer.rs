//! What a router asks, answered from the lease and from the databases of its unit. Unknown is the answer that promises least.

use crate::lease::{Board, Reached};
use multiactive_core::ids::{StoreName, UnitName};
use multiactive_core::promotion::Progress;
use multiactive_core::wire::{Answer, Question};
use multiactive_stores::{Driver, Error};
use std::time::Duration;

/// The longest that a database is asked, whatever a router says.
const LONGEST: Duration = Duration::from_secs(5);

pub(super) async fn answer(question: &Question, lease: &Board) -> Answer {
    match question {
        Question::Lease => Answer::Lease {
            left_ms: u64::try_from(lease.left().as_millis()).unwrap_or(u64::MAX),
        },
        Question::Place { store } => Answer::Place {
            place: place(lease, store).await,
        },
        Question::CaughtUp {
            store,
            from,
            place,
            within_ms,
        } => {
            let limit = Duration::from_millis(*within_ms).min(LONGEST);
            Answer::CaughtUp {
                yes: caught_up(lease, store, (from, place.as_deref()), limit).await,
            }
        }
    }
}

async fn place(lease: &Board, store: &StoreName) -> Option<String> {
    let Reached { driver, .. } = lease.database(store)?;
    let place = tokio::time::timeout(LONGEST, driver.progress()).await.ok()?;
    known(store, place).map(|place| place.to_string())
}

async fn caught_up(
    lease: &Board,
    store: &StoreName,
    (from, place): (&UnitName, Option<&str>),
    limit: Duration,
) -> bool {
    let Some(Reached { driver, target }) = lease.database(store) else {
        return false;
    };
    // What is no place is reached by nobody.
    let Ok(place) = place.map(str::parse::<Progress>).transpose() else {
        return false;
    };
    let peer = target.peers.iter().find(|peer| peer.unit == *from);
    let asked = driver.caught_up(from, peer, place.as_ref(), limit);
    let answer = tokio::time::timeout(limit, asked).await.ok();
    answer.and_then(|answer| known(store, answer)).unwrap_or(false)
}

fn known<T>(store: &StoreName, answer: Result<T, Error>) -> Option<T> {
    answer
        .inspect_err(|error| tracing::debug!(%store, error = error.explain(), "a router's question has no answer"))
        .ok()
}
