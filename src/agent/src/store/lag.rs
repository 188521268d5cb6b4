//! Measures how far this store is behind each peer, from time to time: a heartbeat is written there, and waited for here. So
//! no clock of two machines is compared. For people and metrics: no operation goes by it.

use super::{Store, timed};
use futures::future::join_all;
use jiff::SignedDuration;
use multiactive_core::lag::told;
use multiactive_core::wire::Caught;
use multiactive_stores::Driver;
use multiactive_stores::driver::Peer;
use std::time::Duration;
use tokio::time::Instant;

/// The pause between two measurements.
const EVERY: Duration = Duration::from_secs(10);

/// How long one waits before it says that it still waits.
const WAITS: Duration = Duration::from_secs(5);

pub(super) async fn keep<D: Driver>(store: &Store<D>, peers: &[Peer]) {
    let each = peers.iter().map(|peer| measure(store, peer));
    store.token.run_until_cancelled(join_all(each)).await;
}

async fn measure<D: Driver>(store: &Store<D>, peer: &Peer) {
    let mut waits_since = None;
    loop {
        let asked = Instant::now();
        let verb = store.driver.caught_up(&peer.unit, Some(peer), None, WAITS);
        match timed(&store.metrics, "caught_up", verb).await {
            Ok(Caught::Yes) => {
                waits_since = None;
                note(store, peer, Some(asked.elapsed()));
            }
            // What was written then has not come yet, so neither has what was written since.
            Ok(Caught::Late) => {
                let since = *waits_since.get_or_insert(asked);
                note(store, peer, Some(since.elapsed()));
            }
            // Rows may be missing, or it is cut off, or that unit may not write: nothing is measured by its heartbeat.
            Ok(Caught::No) => {
                waits_since = None;
                note(store, peer, None);
            }
            // It does not answer: what is known of it stays, for that is what would be lost with it.
            Err(error) => tracing::debug!(from = %peer.unit, error = error.explain(), "a lag was not measured"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn note<D: Driver>(store: &Store<D>, peer: &Peer, measured: Option<Duration>) {
    let from = peer.unit.to_string();
    let before = store.board.facts().lags.get(&from).copied();
    let now = measured.map(|lag| told(before, SignedDuration::try_from(lag).unwrap_or(SignedDuration::MAX)));
    if now == before {
        return;
    }
    store.board.change(|facts| match now {
        Some(lag) => {
            facts.lags.insert(from, lag);
        }
        None => {
            facts.lags.remove(&from);
        }
    });
}
