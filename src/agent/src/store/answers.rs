//! What an operation asks of a store: heartbeats, lag, a comparison of rows, its fence, and waiting for positions. One task for each
//! question, so that none holds up another, nor the table; it ends when the question is asked no more: a fence whose
//! operation was aborted, above all.

use super::waiting::told_meanwhile;
use super::wish::{Asked, Target, Wish};
use super::{LONGEST_PAUSE, Store, comparing, tell_ended, timed};
use crate::backoff::Backoff;
use crate::facts::{CutFact, Problem};
use crate::failpoints::hit;
use crate::lost::Cut;
use crate::plan::Ask;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::SignedDuration;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{Reach, StorePosition, UnitPosition};
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{Difference, Extent, FenceLimits, Side, StoreSpec, Tail, Waited};
use multiactive_stores::{Driver, Error};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often heartbeats are written and lags are read, while somebody asks.
const BEAT: Duration = Duration::from_millis(250);

/// For how long one wait for positions lasts before it says that it still waits.
const WAIT: Duration = Duration::from_secs(1);

/// How long comparing all rows with one owner's may take: it holds nobody up.
pub(super) const COMPARE: Duration = Duration::from_secs(24 * 3600);

/// How long taking over a tail may take: slots are down meanwhile, and the cut is held.
const TAIL: Duration = Duration::from_secs(3600);

pub(super) async fn answer<D: Driver>(store: &Store<D>, target: &Target, mut wish: watch::Receiver<Wish>) {
    let mut running: Vec<(Asked, CancellationToken)> = Vec::new();
    let mut tasks = FuturesUnordered::new();
    loop {
        let asked: Vec<Asked> = wish
            .borrow_and_update()
            .asked
            .iter()
            .filter(|asked| takes_time(asked))
            .cloned()
            .collect();
        running.retain(|(question, token)| {
            let still = asked.contains(question);
            if !still {
                token.cancel();
            }
            still
        });
        for question in asked {
            if !running.iter().any(|(known, _)| *known == question) {
                let token = store.token.child_token();
                running.push((question.clone(), token.clone()));
                tasks.push(async move {
                    if token
                        .run_until_cancelled(work(store, target, &question))
                        .await
                        .is_none()
                    {
                        given_up(store, &question);
                    }
                });
            }
        }
        tokio::select! {
            () = store.token.cancelled() => return,
            changed = wish.changed() => if changed.is_err() {
                return;
            },
            Some(()) = tasks.next() => {}
        }
    }
}

fn takes_time(asked: &Asked) -> bool {
    match asked.ask {
        Ask::Beat
        | Ask::Lag(_)
        | Ask::Compare { .. }
        | Ask::Fence { .. }
        | Ask::Cut(_)
        | Ask::TakeTail { .. }
        | Ask::Follow { .. }
        | Ask::Reach { .. } => true,
        Ask::Nothing => false,
    }
}

/// Asks until there is an answer that stays.
async fn work<D: Driver>(store: &Store<D>, target: &Target, asked: &Asked) {
    let mut backoff = Backoff::new(LONGEST_PAUSE);
    loop {
        let pause = match once(store, target, asked).await {
            Ok(None) => return,
            Ok(Some(pause)) => {
                backoff.reset();
                pause
            }
            Err(error) => {
                let (operation, ask) = (&asked.operation, &asked.ask);
                tracing::warn!(%operation, ?ask, error = error.explain(), "a store did not answer an operation");
                backoff.pause()
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// One attempt; `None` when the answer stays, else the pause before the next.
async fn once<D: Driver>(store: &Store<D>, target: &Target, asked: &Asked) -> Result<Option<Duration>, Error> {
    // What another database says would be of other rows; and an older state would not be known for one any more, were a
    // verb of the newest epoch the first that it hears.
    // The sender lives as long as the store.
    let _ = store.judged.subscribe().wait_for(|judged| *judged).await;
    match &asked.ask {
        Ask::Nothing => Ok(None),
        Ask::Fence {
            slots,
            budget,
            superseded,
        } => fence(store, asked, slots, *budget, superseded.as_ref()).await,
        Ask::Cut(wanted) => cut(store, asked, wanted).await,
        Ask::TakeTail { cut, slots, from } => take_tail(store, target, asked, cut, slots, from).await,
        Ask::Beat => {
            timed(&store.metrics, "beat", store.driver.beat()).await?;
            Ok(Some(BEAT))
        }
        Ask::Lag(sources) => {
            let lag = lag(store, sources).await;
            let known = lag.as_ref().ok().copied().flatten();
            store.board.answer(&asked.operation, |answer| answer.lag = known);
            lag.map(|_| Some(BEAT))
        }
        Ask::Compare { owners, changed } => {
            let extent = if *changed { Extent::Changed } else { Extent::All };
            comparing::compare(store, target, asked, owners, extent).await;
            Ok(None)
        }
        Ask::Follow { sources, takes_over } => {
            hit("follow-before");
            let verb = store
                .driver
                .follow(&asked.operation, asked.epoch, sources, *takes_over, WAIT);
            let waited = timed(&store.metrics, "follow", verb).await?;
            Ok(reached(store, asked, waited, "follow-after"))
        }
        Ask::Reach { positions, takes_over } => {
            hit("drain-before");
            let verb = store
                .driver
                .wait_for(&asked.operation, asked.epoch, positions, *takes_over, WAIT);
            let waited = timed(&store.metrics, "wait_for", verb).await?;
            Ok(reached(store, asked, waited, "drain-after"))
        }
    }
}

/// Fences, once for each epoch of the operation, and puts the position on the board.
async fn fence<D: Driver>(
    store: &Store<D>,
    asked: &Asked,
    slots: &SlotSet,
    budget: SignedDuration,
    superseded: Option<&OperationUid>,
) -> Result<Option<Duration>, Error> {
    let facts = store.board.facts();
    let known = facts.answers.get(&asked.operation);
    let known = known.and_then(|answer| answer.fenced.as_ref());
    if known.is_some_and(|(epoch, _)| *epoch == asked.epoch) {
        return Ok(None);
    }
    hit("fence-before");
    let verb = store.driver.fence(&asked.operation, asked.epoch, slots, limits(budget));
    let verb = timed(&store.metrics, "fence", verb);
    let note = |problem| {
        store
            .board
            .answer(&asked.operation, |answer| answer.unfenced = Some(problem))
    };
    let fenced = match told_meanwhile(store, verb, note).await {
        Ok(fenced) => fenced,
        Err(error) => {
            note(Problem::new(error.reason(), error.explain()));
            return Err(error);
        }
    };
    hit("fence-after");
    tell_ended(
        store,
        &format!("the fence of operation {}", asked.operation),
        &fenced.ended,
    );
    // Behind the fence: nothing of an older table opens here any more.
    let opened = match superseded {
        Some(op) => Some(timed(&store.metrics, "opened", store.driver.opened(op)).await?),
        None => None,
    };
    let epoch = asked.epoch;
    store.board.answer(&asked.operation, |answer| {
        answer.fenced = Some((epoch, fenced.position));
        answer.opened = opened;
        answer.unfenced = None;
    });
    Ok(None)
}

/// Cuts the lost unit off, and puts on the board what is applied of its log, and of the others' logs.
async fn cut<D: Driver>(store: &Store<D>, asked: &Asked, wanted: &Cut) -> Result<Option<Duration>, Error> {
    hit("cut-before");
    let verb = store.driver.cut(&wanted.lost, &wanted.by, wanted.at);
    let at = timed(&store.metrics, "cut", verb).await?;
    hit("cut-after");
    let vector = timed(&store.metrics, "position", store.driver.position()).await?;
    let fact = CutFact {
        progress: at.progress,
        position: position_of_cut(&store.spec, &wanted.lost, at.position, vector),
    };
    store
        .board
        .answer(&asked.operation, |answer| answer.cut = Some((asked.epoch, fact)));
    Ok(None)
}

/// Takes over from another survivor what that has received more of the lost unit, and puts on the board how far its log is here
/// then.
async fn take_tail<D: Driver>(
    store: &Store<D>,
    target: &Target,
    asked: &Asked,
    wanted: &Cut,
    slots: &SlotSet,
    from: &UnitName,
) -> Result<Option<Duration>, Error> {
    let note = |problem| store.board.answer(&asked.operation, |answer| answer.problem = problem);
    // The target is made anew where its members change.
    let Some(peer) = target.peers.iter().find(|peer| peer.unit == *from) else {
        note(Some(format!("{from} is no peer of this store")));
        return Ok(None);
    };
    // The copy holds the cut: it begins only once that was answered.
    let facts = store.board.facts();
    let cut_at = facts
        .answers
        .get(&asked.operation)
        .and_then(|answer| answer.cut.as_ref());
    if cut_at.is_none_or(|(epoch, _)| *epoch != asked.epoch) {
        return Ok(Some(Duration::from_millis(50)));
    }
    note(None);
    let tail = Tail {
        lost: wanted.lost.clone(),
        op: asked.operation.clone(),
        epoch: asked.epoch.max(wanted.at),
        slots: slots.clone(),
    };
    hit("tail-before");
    let verb = store.driver.take_tail(&tail, peer, TAIL);
    if let Err(error) = timed(&store.metrics, "take_tail", verb).await {
        note(Some(error.explain()));
        return Err(error);
    }
    hit("tail-after");
    cut(store, asked, wanted).await
}

/// The lost unit's log first, as the cut found it, then what is applied of each other member; not the member's own log, which
/// nobody has to reach before the slots are its own.
fn position_of_cut(spec: &StoreSpec, lost: &UnitName, at: Option<String>, vector: Vec<UnitPosition>) -> StorePosition {
    let of_lost = at.map(|position| UnitPosition {
        unit: lost.clone(),
        position,
    });
    let others = vector.into_iter().filter(|at| at.unit != *lost && at.unit != spec.unit);
    StorePosition {
        store: spec.store.clone(),
        source: lost.clone(),
        vector: of_lost.into_iter().chain(others).collect(),
    }
}

/// A transaction in the way may use a quarter of the budget before its session is ended.
fn limits(budget: SignedDuration) -> FenceLimits {
    let deadline = Duration::try_from(budget).unwrap_or(Duration::MAX);
    FenceLimits {
        deadline,
        grace: deadline / 4,
    }
}

/// A question is asked no more before it was answered.
fn given_up<D: Driver>(store: &Store<D>, asked: &Asked) {
    match asked.ask {
        Ask::Fence { .. } => {
            let (operation, epoch) = (&asked.operation, asked.epoch);
            tracing::info!(%operation, %epoch, "fence given up: it is not asked for any more");
            store.board.change(|facts| {
                if let Some(answer) = facts.answers.get_mut(operation) {
                    answer.unfenced = None;
                }
            });
        }
        Ask::Nothing
        | Ask::Beat
        | Ask::Lag(_)
        | Ask::Compare { .. }
        | Ask::Cut(_)
        | Ask::TakeTail { .. }
        | Ask::Follow { .. }
        | Ask::Reach { .. } => {}
    }
}

/// The largest age of a heartbeat from these units; `None` while one is unknown.
async fn lag<D: Driver>(store: &Store<D>, sources: &[UnitName]) -> Result<Option<SignedDuration>, Error> {
    let lags = timed(&store.metrics, "lag", store.driver.lag()).await?;
    let ages: Option<Vec<Duration>> = sources
        .iter()
        .map(|source| lags.iter().find(|lag| lag.from == *source)?.heartbeat)
        .collect();
    let oldest = ages.map(|ages| ages.into_iter().max().unwrap_or_default());
    Ok(oldest.map(|oldest| SignedDuration::try_from(oldest).unwrap_or(SignedDuration::MAX)))
}

/// A row that differs, for a person.
pub(super) fn words(row: &Difference, here: &UnitName, owner: &UnitName) -> String {
    let Difference { table, key, slot, side } = row;
    let side = match side {
        Side::Here => format!("only at {here}"),
        Side::There => format!("only at {owner}"),
        Side::Both => format!("other values at {here} than at {owner}"),
    };
    format!("{table} {key} (slot {slot}): {side}")
}

/// Says how far a wait came; the pause before the next one, or `None` where all is reached.
fn reached<D: Driver>(store: &Store<D>, asked: &Asked, waited: Waited, passing: &'static str) -> Option<Duration> {
    let (reach, again) = match waited {
        Waited::Reached => (Reach::Reached, None),
        Waited::TimedOut(missing) => {
            tracing::info!(operation = %asked.operation, missing, "still waiting for positions");
            (Reach::Waiting(missing), Some(Duration::ZERO))
        }
        Waited::LinkBroken(why) => (Reach::Broken(why), Some(BEAT)),
    };
    hit(passing);
    store
        .board
        .answer(&asked.operation, |answer| answer.reach = Some((asked.epoch, reach)));
    again
}
