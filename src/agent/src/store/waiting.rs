//! Verbs that may have to wait for others' transactions: while one waits, the store's status says for whom; when the wish
//! asks for something else, it is given up.

use super::{Store, Wish};
use crate::facts::Problem;
use multiactive_stores::driver::Blocker;
use multiactive_stores::{Driver, Error};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;

/// How often it is looked who holds up a verb; one that ends before the first look waited for nobody worth telling.
const LOOK: Duration = Duration::from_secs(1);

/// How a verb ended.
pub(super) enum Ended<T> {
    /// It did what it does.
    Done(T),
    /// It was given up: nobody wishes it any more. What it had changed by then is for the next table to put right.
    GivenUp,
}

/// Runs `verb` while `still` is true of the wish; whom it waits for is the store's problem meanwhile.
pub(super) async fn while_wished<D: Driver, T>(
    store: &Store<D>,
    wish: &watch::Receiver<Wish>,
    still: impl FnMut(&Wish) -> bool,
    verb: impl Future<Output = Result<T, Error>>,
) -> Result<Ended<T>, Error> {
    let mut told = false;
    let note = |problem| {
        told = true;
        store.board.change(|facts| facts.problem = Some(problem));
    };
    let ended = tokio::select! {
        biased;
        answer = told_meanwhile(store, verb, note) => answer.map(Ended::Done),
        () = until_not(wish.clone(), still) => Ok(Ended::GivenUp),
    };
    if told && ended.is_ok() {
        store.board.change(|facts| facts.problem = None);
    }
    ended
}

/// Runs `verb`; `note` hears, again and again, whom it waits for.
pub(super) async fn told_meanwhile<D: Driver, T>(
    store: &Store<D>,
    verb: impl Future<Output = Result<T, Error>>,
    note: impl FnMut(Problem),
) -> Result<T, Error> {
    tokio::select! {
        biased;
        answer = verb => answer,
        never = tell(store, note) => match never {},
    }
}

/// Returns when the wish is another one; never, where it is not made any more.
pub(super) async fn until_not(mut wish: watch::Receiver<Wish>, mut still: impl FnMut(&Wish) -> bool) {
    if wish.wait_for(|wish| !still(wish)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Says who holds up a verb, again and again.
async fn tell<D: Driver>(store: &Store<D>, mut note: impl FnMut(Problem)) -> Infallible {
    loop {
        tokio::time::sleep(LOOK).await;
        // A look that fails says nothing; the verb itself fails where the server does not answer.
        let blockers = store.driver.blockers().await.unwrap_or_default();
        if !blockers.is_empty() {
            note(Problem::new("FenceBlocked", words(&blockers)));
        }
    }
}

fn words(blockers: &[Blocker]) -> String {
    let each: Vec<_> = blockers.iter().map(ToString::to_string).collect();
    format!(
        "closing slots waits for transactions that have written: {}",
        each.join("; ")
    )
}
