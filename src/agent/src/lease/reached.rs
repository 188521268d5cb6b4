//! A database of the unit as routers' questions reach it: by connections of its own, few at a time, and one answer for all who ask
//! the same at the same time.

use crate::store::Target;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::Progress;
use multiactive_core::wire::Caught;
use multiactive_stores::{AnyStore, Driver, Error};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};

/// How many questions whether something has arrived are asked at once: each waits for a link, with a session of its own.
const AT_ONCE: usize = 8;

/// The longest that a place is asked for: who asked waits no longer.
const PLACE: Duration = Duration::from_secs(1);

/// A database of the unit.
pub struct Reached {
    target: Arc<Target>,
    driver: AnyStore,
    place: Shared<Option<String>>,
    waiting: Semaphore,
    /// Why a question about a unit's log had no answer last: told once.
    trouble: Mutex<BTreeMap<UnitName, String>>,
}

impl Reached {
    /// Nothing is connected yet.
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self {
            driver: target.driver(),
            target,
            place: Shared::default(),
            waiting: Semaphore::new(AT_ONCE),
            trouble: Mutex::default(),
        }
    }

    /// How far its log has come: all that was committed before the call is within it. `None` where it does not answer.
    pub async fn place(&self) -> Option<String> {
        let ask = async || {
            let place = tokio::time::timeout(PLACE, self.driver.progress()).await.ok()?;
            self.known(&self.target.spec.unit, place)
                .await
                .map(|place| place.to_string())
        };
        self.place.get(ask).await
    }

    /// Whether all that `from` had committed, at `place` or by now, can be read here.
    pub async fn caught_up(&self, from: &UnitName, place: Option<&Progress>, limit: Duration) -> Caught {
        let peer = self.target.peers.iter().find(|peer| peer.unit == *from);
        let asked = async {
            let _one = self.waiting.acquire().await.ok()?;
            self.known(from, self.driver.caught_up(from, peer, place, limit).await)
                .await
        };
        let answer = tokio::time::timeout(limit, asked).await.ok().flatten();
        answer.unwrap_or(Caught::Late)
    }

    /// The answer; why there is none is told once, for routers ask for every read.
    async fn known<T>(&self, from: &UnitName, answer: Result<T, Error>) -> Option<T> {
        let store = &self.target.spec.store;
        let mut told = self.trouble.lock().await;
        match answer {
            Ok(answer) => {
                if told.remove(from).is_some() {
                    tracing::info!(%store, %from, "routers' questions are answered again");
                }
                Some(answer)
            }
            Err(error) => {
                let error = error.explain();
                if told.get(from) != Some(&error) {
                    tracing::warn!(%store, %from, error, "routers' questions have no answer: reads go to the writer");
                    told.insert(from.clone(), error);
                }
                None
            }
        }
    }
}

/// An answer that all share who had asked before the question was put.
struct Shared<T> {
    asked: AtomicU64,
    /// The last answer, and how many had asked before its question was put.
    last: Mutex<(u64, T)>,
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        Self {
            asked: AtomicU64::new(0),
            last: Mutex::default(),
        }
    }
}

impl<T: Clone> Shared<T> {
    async fn get(&self, ask: impl AsyncFnOnce() -> T) -> T {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        if last.0 < mine {
            let until = self.asked.load(Ordering::SeqCst);
            *last = (until, ask().await);
        }
        last.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[tokio::test]
    async fn who_asks_at_the_same_time_shares_a_question_that_was_put_after_all_of_them_asked() {
        let (shared, questions) = (Arc::new(Shared::<usize>::default()), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let (shared, questions) = (Arc::clone(&shared), Arc::clone(&questions));
            tokio::spawn(async move {
                let put = async || {
                    tokio::task::yield_now().await;
                    questions.fetch_add(1, Ordering::SeqCst) + 1
                };
                shared.get(put).await
            })
        };
        let all: Vec<_> = (0..50).map(|_| ask()).collect();
        for one in all {
            assert!(one.await.unwrap() > 0);
        }
        let put = questions.load(Ordering::SeqCst);
        assert!(put <= 3, "{put} questions for fifty that asked at once");
        assert_eq!(ask().await.unwrap(), put + 1, "an answer of before says nothing of now");
    }
}
