//! One store of a unit in hand: its tasks. A store that is broken holds up no other.
//!
//! `keeper` brings it to the newest table, `links` keeps the streams from its peers, `answers` does what takes its time
//! for an operation, `lag` measures how late they are, `copies` gets rows that no link will bring, `verify` compares them with the owners',
//! one owner after the other (`verify_pair`). All are driven by the wish and write what they know on the board.

mod answers;
mod comparing;
mod copies;
mod handed_on;
mod identity;
mod keeper;
mod lacking;
mod lag;
mod links;
mod returning;
mod verify;
mod verify_found;
mod verify_pair;
mod waiting;
mod wish;

pub use verify::{Question, question};
pub use wish::{Asked, Target, Wish, asked, target};

use crate::facts::{Board, Problem};
use crate::metrics::Metrics;
use multiactive_stores::Driver;
use multiactive_stores::driver::{Blocker, StoreSpec};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The longest pause between attempts at something that fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// What the tasks of a store share.
struct Store<D> {
    driver: D,
    spec: StoreSpec,
    board: Board,
    metrics: Metrics,
    token: CancellationToken,
    /// Whether the server that answers now is known to hold the database that it should: see `identity`.
    judged: watch::Sender<bool>,
    copies: copies::Copies,
}

/// Keeps a store as it is wished until `token` is cancelled; the verb under way is finished then.
pub async fn run(mut wish: watch::Receiver<Wish>, board: Board, metrics: Metrics, token: CancellationToken) {
    while !token.is_cancelled() {
        let described = wish.borrow_and_update().target.clone();
        let other = until_other(wish.clone(), described.clone());
        match described {
            Ok(target) => {
                let store = Store {
                    driver: target.driver(),
                    spec: target.spec.clone(),
                    board: board.clone(),
                    metrics: metrics.clone(),
                    token: token.clone(),
                    judged: watch::Sender::new(false),
                    copies: copies::Copies::default(),
                };
                // Another database or other credentials: every verb may be cancelled.
                tokio::select! {
                    () = work(&store, &target, wish.clone()) => {}
                    () = other => {}
                }
            }
            Err(problem) => {
                board.change(|facts| facts.problem = Some(problem));
                token.run_until_cancelled(other).await;
            }
        }
    }
}

/// Returns when the store is another one; never, where the wish is not made any more.
async fn until_other(mut wish: watch::Receiver<Wish>, than: Result<Arc<Target>, Problem>) {
    if wish.wait_for(|wish| wish.target != than).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn work<D: Driver>(store: &Store<D>, target: &Target, wish: watch::Receiver<Wish>) {
    let installed = watch::Sender::new(false);
    let after_install = |wish: watch::Receiver<Wish>| (installed.subscribe(), wish);
    let links = after_install(wish.clone());
    let answers = after_install(wish.clone());
    let copies = after_install(wish.clone());
    let verify = after_install(wish.clone());
    let mut measured = installed.subscribe();
    tokio::join!(
        keeper::keep(store, target, wish, &installed),
        async {
            let (mut ready, wish) = links;
            if is_true(&mut ready, &store.token).await {
                links::keep(store, target, wish).await;
            }
        },
        async {
            if is_true(&mut measured, &store.token).await {
                lag::keep(store, &target.peers).await;
            }
        },
        async {
            let (mut ready, wish) = copies;
            if is_true(&mut ready, &store.token).await {
                copies::keep(store, target, wish).await;
            }
        },
        async {
            let (mut ready, wish) = verify;
            if is_true(&mut ready, &store.token).await {
                verify::keep(store, target, wish).await;
            }
        },
        async {
            let (mut ready, wish) = answers;
            if is_true(&mut ready, &store.token).await {
                answers::answer(store, target, wish).await;
            }
        }
    );
}

async fn is_true(ready: &mut watch::Receiver<bool>, token: &CancellationToken) -> bool {
    let waited = token.run_until_cancelled(ready.wait_for(|ready| *ready)).await;
    waited.is_some_and(|seen| seen.is_ok())
}

/// Says whose sessions a verb has ended.
fn tell_ended<D>(store: &Store<D>, what_for: &str, ended: &[Blocker]) {
    if ended.is_empty() {
        return;
    }
    for session in ended {
        tracing::warn!(what_for, %session, "ended a session that held up closing slots");
    }
    let ended = ended.iter().map(|session| format!("{session} (for {what_for})"));
    let ended = ended.collect();
    store.board.change(|facts| facts.ended = ended);
}

/// Runs one verb and counts it.
async fn timed<T>(
    metrics: &Metrics,
    verb: &'static str,
    call: impl Future<Output = Result<T, multiactive_stores::Error>>,
) -> Result<T, multiactive_stores::Error> {
    let start = std::time::Instant::now();
    let answer = call.await;
    let outcome = answer
        .as_ref()
        .map_or_else(multiactive_stores::Error::reason, |_| "Done");
    metrics.verb(verb, outcome, start.elapsed());
    tracing::debug!(verb, outcome, took = ?start.elapsed(), "verb");
    answer
}
