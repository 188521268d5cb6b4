//! What the router asks its agent, over the connection that `agent_link` keeps: from time to time for how long the write lease
//! goes on and whether local reads are fresh, and for single requests how far a log has come.
//!
//! What is true for a while counts from before the question was sent, by a clock that goes on while the machine sleeps. A
//! connection that breaks takes its questions with it.

use crate::view::{Compiled, DeclaredKeyspace};
use jiff::SignedDuration;
use multiactive_core::ids::KeyspaceName;
use multiactive_core::wire::{Answer, Caught, Question};
use multiactive_runtime::clock::boottime;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// How often it is asked for how long the write lease goes on.
const LEASE_EVERY: Duration = Duration::from_millis(500);
/// The shortest time between two questions whether the same reads are fresh.
const FRESH_EVERY: Duration = Duration::from_millis(100);
/// The longest time that such an answer may take.
const FRESH_WITHIN: Duration = Duration::from_secs(5);

/// The questions of a router.
#[derive(Debug, Default)]
pub struct Asking {
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether the agent that is connected answers questions.
    answers: bool,
    last: u64,
    pending: BTreeMap<u64, Pending>,
    /// Questions of requests that were not sent yet.
    queue: Vec<(u64, Question)>,
    /// When what is asked from time to time was asked last.
    lease: Option<Instant>,
    fresh: BTreeMap<KeyspaceName, Instant>,
}

/// Who waits for an answer.
#[derive(Debug)]
enum Pending {
    Lease(SignedDuration),
    Fresh(Arc<DeclaredKeyspace>, SignedDuration),
    Request(oneshot::Sender<Answer>),
}

/// An answer that concerns the whole router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseHeard {
    /// [`boottime`] before it was asked.
    pub asked: SignedDuration,
    /// For how long it goes on from then on, at least.
    pub left: Duration,
}

impl Asking {
    /// A connection begins or ends: nobody answers what was asked before.
    pub fn reset(&self) {
        let mut inner = self.lock();
        *inner = Inner {
            last: inner.last,
            ..Inner::default()
        };
    }

    /// The agent has said that it answers.
    pub fn may_be_asked(&self) {
        self.lock().answers = true;
        self.news.notify_one();
    }

    /// Asks for one request; `None` where the agent does not answer within `limit`, or does not answer questions.
    pub async fn ask(&self, question: Question, limit: Duration) -> Option<Answer> {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut inner = self.lock();
            if !inner.answers {
                return None;
            }
            let id = inner.note(Pending::Request(sender));
            inner.queue.push((id, question));
            id
        };
        // However this ends, the client's going away included.
        let _forgets = Forgets { asking: self, id };
        self.news.notify_one();
        tokio::time::timeout(limit, receiver).await.ok()?.ok()
    }

    /// What is to be sent now.
    pub fn due(&self, compiled: Option<&Compiled>) -> Vec<(u64, Question)> {
        let mut inner = self.lock();
        let (Some(asked), true) = (boottime(), inner.answers) else {
            return Vec::new();
        };
        let now = Instant::now();
        let mut due = Vec::new();
        if inner.lease.is_none_or(|last| now >= last + LEASE_EVERY) {
            inner.lease = Some(now);
            due.push((inner.note(Pending::Lease(asked)), Question::Lease));
        }
        for (keyspace, question, every) in compiled.into_iter().flat_map(bounded) {
            if inner.fresh.get(&keyspace.name).is_none_or(|last| now >= *last + every) {
                inner.fresh.insert(keyspace.name.clone(), now);
                let id = inner.note(Pending::Fresh(Arc::clone(keyspace), asked));
                due.push((id, question));
            }
        }
        // Last: what all requests depend on does not wait for those of single ones.
        due.append(&mut inner.queue);
        due
    }

    /// Returns when there may be something to send.
    pub async fn wait(&self, compiled: Option<&Compiled>) {
        let next = {
            let inner = self.lock();
            let lease = inner.lease.map(|last| last + LEASE_EVERY);
            let fresh = compiled.into_iter().flat_map(bounded);
            let fresh = fresh.filter_map(|(keyspace, _, every)| Some(*inner.fresh.get(&keyspace.name)? + every));
            lease.into_iter().chain(fresh).min().filter(|_| inner.answers)
        };
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = self.news.notified() => {}
        }
    }

    /// Takes an answer; what it says of the lease is for the caller.
    pub fn answered(&self, id: u64, answer: Answer) -> Option<LeaseHeard> {
        let pending = self.lock().pending.remove(&id)?;
        match (pending, answer) {
            (Pending::Request(sender), answer) => {
                // Who asked may have given up.
                let _ = sender.send(answer);
                None
            }
            // What the agent does not know yet changes nothing.
            (Pending::Lease(asked), Answer::Lease { left_ms }) => Some(LeaseHeard {
                asked,
                left: Duration::from_millis(left_ms?),
            }),
            (Pending::Fresh(keyspace, asked), Answer::CaughtUp { caught }) => {
                match caught {
                    Caught::Yes => keyspace.fresh.as_of(asked),
                    Caught::Late => {}
                    Caught::No => keyspace.fresh.forget(),
                }
                None
            }
            (Pending::Lease(_), Answer::Place { .. } | Answer::CaughtUp { .. })
            | (Pending::Fresh(..), Answer::Lease { .. } | Answer::Place { .. }) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a request's question once nobody waits for its answer.
struct Forgets<'a> {
    asking: &'a Asking,
    id: u64,
}

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        self.asking.lock().pending.remove(&self.id);
    }
}

impl Inner {
    fn note(&mut self, who: Pending) -> u64 {
        self.last += 1;
        self.pending.insert(self.last, who);
        self.last
    }
}

/// The stores whose reads here are bounded, what to ask, and how often. The writer asks too: whether it still is.
fn bounded(compiled: &Compiled) -> impl Iterator<Item = (&Arc<DeclaredKeyspace>, Question, Duration)> {
    let unit = &compiled.declared.unit;
    let keyspaces = compiled.declared.keyspaces().iter().enumerate();
    keyspaces.filter_map(move |(place, keyspace)| {
        let max_lag = keyspace.max_lag()?;
        let owner = compiled.entry(place, 0)?.entry.owner.clone()?;
        (owner == *unit || compiled.reads_locally(keyspace)).then_some(())?;
        let within = (max_lag / 2).min(FRESH_WITHIN);
        let question = Question::CaughtUp {
            store: keyspace.name.writer_of()?,
            from: owner,
            place: None,
            within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        };
        Some((keyspace, question, (max_lag / 4).max(FRESH_EVERY)))
    })
}
