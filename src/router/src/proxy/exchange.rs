//! One request under way, until it is answered: served, forwarded, held and decided about anew, or refused.

use super::decide::Next;
use super::refused::Refused;
use super::{MISDIRECTED, Worker};
use crate::answer::Answer;
use crate::body::{Answered, Received, Sent};
use crate::flight::InFlight;
use crate::headers::{self, HOP, REASON, REFUSED, Stamp, strip_hop_by_hop, strip_ours};
use crate::hold::{HeldFor, LineOf, Place};
use crate::kept::{Budget, Kept};
use crate::state::State;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Request, Response, StatusCode, request};
use hyper_util::client::legacy::Error as ClientError;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{StoreName, UnitName};
use multiactive_core::route::{Asked, Shows, Wait};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// A request under way.
pub(super) struct Exchange<'w> {
    pub(super) worker: &'w Worker,
    parts: request::Parts,
    pub(super) body: Received,
    asked: Asked,
    /// When its patience ends; set at the first wait.
    pub(super) until: Option<Instant>,
    /// When it is given up that its owner's router cannot be reached; set at the first failure.
    pub(super) reach_until: Option<Instant>,
    /// Its turn in the queue.
    pub(super) ticket: Option<u64>,
    /// Its place there, until it is passed on.
    pub(super) place: Option<Place>,
    /// Until when the next one of its line waits for its answer.
    pub(super) answered_until: Option<Instant>,
    resends: u32,
    /// Where its service's database refused it.
    pub(super) refused: Option<Refused>,
    /// Of a read: the place in a store's log that what it shows must be behind.
    pub(super) must_show: Option<HeaderValue>,
}

/// How an attempt to forward ended, other than by an answer for the client.
enum Failed {
    /// The other router does not own the slot: wait for this epoch, then resolve again.
    Misdirected(Option<Epoch>),
    /// It was not reached: nothing was sent.
    NotSent(ClientError),
    /// It was reached; whether it carried the request out is not known.
    Unknown(ClientError),
    /// It did not answer in time.
    Late,
    /// It did not answer, and by now its unit is lost and another one owns the slot.
    OwnerLost {
        /// Whether it was still waiting for a connection.
        unsent: bool,
    },
}

impl<'w> Exchange<'w> {
    pub(super) fn new(worker: &'w Worker, parts: request::Parts, body: Received, asked: Asked) -> Self {
        Self {
            worker,
            parts,
            body,
            asked,
            until: None,
            reach_until: None,
            ticket: None,
            place: None,
            answered_until: None,
            resends: 0,
            refused: None,
            must_show: None,
        }
    }

    /// Sees to it that it is answered; where the router answers by itself, that is the error.
    pub(super) async fn run(&mut self) -> Result<Response<Answered>, Answer> {
        if let Some(place) = &self.must_show {
            self.asked.shows = match self.worker.shows(&self.parts, place).await {
                true => Shows::Enough,
                false => Shows::Unknown,
            };
        }
        loop {
            match self.worker.next(&self.parts, self.asked, self.ticket) {
                Next::Serve {
                    backend,
                    stamp,
                    in_flight,
                    store,
                } => {
                    if let Some(response) = self.serve(backend, &stamp, in_flight, store).await? {
                        return Ok(response);
                    }
                }
                Next::Hold { why, held_for } => self.hold(why, held_for).await?,
                Next::TooOld(answer) => {
                    if self.must_show.is_some() || !self.worker.may_write_now(&self.parts).await {
                        return Err(answer);
                    }
                    self.asked.shows = Shows::All;
                }
                Next::Answer(answer) => return Err(answer),
                Next::Forward {
                    unit,
                    name,
                    stamp,
                    slot,
                    write,
                } => {
                    if let Some(response) = self.forward(&unit, name, &stamp, (slot, write)).await? {
                        return Ok(response);
                    }
                }
            }
        }
    }

    /// Passes the request to the local backend; `None` where it must be decided about anew, because its database refused
    /// the write. Of a read nothing is kept: nothing sends it a second time.
    async fn serve(
        &mut self,
        backend: Authority,
        stamp: &Stamp,
        in_flight: Option<InFlight>,
        store: Option<StoreName>,
    ) -> Result<Option<Response<Answered>>, Answer> {
        let owned = self.asked.write && stamp.slot.is_some();
        if owned && self.worker.state.lease.is_over() {
            // Nothing was sent.
            drop(in_flight);
            if !self.may_wait() {
                let message = "the unit holds no write lease, as far as its agent has said: nothing was written";
                return Err(Answer::unavailable("NoWriteLease", message));
            }
            self.before_again().await;
            return Ok(None);
        }
        self.worker.state.metrics.home.inc();
        let mut request = self.for_backend();
        *request.uri_mut() = uri(backend, &self.parts.uri);
        stamp.put(request.headers_mut());
        let patience = self.worker.state.limits.answer_time;
        let taken = self.watched(&mut request);
        let answered = timeout(patience, self.worker.home.request(request));
        let mut response = match in_turn(&mut self.place, taken, self.answered_until, answered).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => {
                tracing::warn!(error = &error as &dyn std::error::Error, "connecting to the backend");
                return Err(Answer::unavailable(
                    "BackendUnreachable",
                    "the backend cannot be reached",
                ));
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "passing a request to the backend"
                );
                return Err(unknown("the backend"));
            }
            Err(_) => return Err(late("the backend")),
        };
        let refused = self.asked.write && response.headers().contains_key(REFUSED);
        if refused && self.may_go_again() {
            // Nothing was written, so nothing of it is in flight.
            drop((response, in_flight));
            self.before_again().await;
            return Ok(None);
        }
        let failed = response.status().is_client_error() || response.status().is_server_error();
        let acknowledges = owned && !failed;
        if acknowledges && self.worker.state.lease.is_over() {
            return Err(without_lease());
        }
        let place = match store.filter(|_| acknowledges) {
            Some(store) => Some(self.worker.place(store).await),
            None => None,
        };
        strip_hop_by_hop(response.headers_mut());
        strip_ours(response.headers_mut());
        stamp.put(response.headers_mut());
        if let Some(place) = place {
            response.headers_mut().insert(headers::PLACE, place);
        }
        Ok(Some(response.map(|body| Answered::begins(body, in_flight))))
    }

    /// The request as it goes to the local backend. A write may have to go again, so it is kept.
    fn for_backend(&mut self) -> Request<Sent> {
        let mut request;
        if self.asked.write {
            // Of a budget of its own: what is served must not be in the way of what is held.
            self.keep_within(self.worker.state.served_budget.clone());
            request = Request::new(self.kept_attempt());
            *request.method_mut() = self.parts.method.clone();
            *request.headers_mut() = self.parts.headers.clone();
        } else {
            request = Request::new(match self.take_body() {
                Received::Empty => Sent::Empty,
                Received::Fresh(body) => Sent::Through(body),
                Received::Kept(kept) => Sent::Attempt(kept.attempt()),
            });
            *request.method_mut() = std::mem::take(&mut self.parts.method);
            *request.headers_mut() = std::mem::take(&mut self.parts.headers);
        }
        request
    }

    /// Passes the request to the owner's router; `None` where it must be decided about anew.
    async fn forward(
        &mut self,
        unit: &UnitName,
        name: Authority,
        stamp: &Stamp,
        (slot, write): (LineOf, bool),
    ) -> Result<Option<Response<Answered>>, Answer> {
        self.worker.state.metrics.forwarded.inc();
        let state = Arc::clone(&self.worker.state);
        let (untaken, taken) = Untaken::new();
        let mark = Arc::downgrade(&untaken.0);
        // Looked at while the attempt is still there: it takes the mark with it.
        let lost = async {
            taken_from(&state, unit, &slot).await;
            mark.upgrade().is_some()
        };
        let ended = tokio::select! {
            biased;
            ended = self.attempt(name, stamp, (untaken, taken)) => ended,
            unsent = lost => Err(Failed::OwnerLost { unsent }),
        };
        match ended {
            Ok(response) => Ok(Some(response)),
            Err(Failed::Misdirected(epoch)) => {
                self.may_resend(unit)?;
                self.worker.state.metrics.resent.inc();
                let epoch = epoch.unwrap_or(Epoch::NEVER);
                let line = write.then_some(slot);
                self.hold(Wait::Behind.reason(), HeldFor::Epoch { epoch, line }).await?;
                Ok(None)
            }
            Err(Failed::NotSent(error)) => {
                tracing::debug!(%unit, error = &error as &dyn std::error::Error, "connecting to a router");
                let until = Instant::now() + self.worker.state.limits.connect_time;
                let until = *self.reach_until.get_or_insert(until);
                if Instant::now() >= until {
                    tracing::warn!(%unit, error = &error as &dyn std::error::Error, "a router cannot be reached");
                    let message = format!("the router of unit {unit} cannot be reached");
                    return Err(Answer::unavailable("RouterUnreachable", message));
                }
                // The table may change meanwhile, so the owner is looked up again after it.
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(None)
            }
            Err(Failed::Unknown(error)) => {
                tracing::warn!(%unit, error = &error as &dyn std::error::Error, "passing a request to a router");
                if !self.asked.write && self.body.is_whole() && self.resends == 0 {
                    self.resends += 1;
                    return Ok(None);
                }
                Err(unknown("the owner's router"))
            }
            // No connection had taken it, so nothing was carried out.
            Err(Failed::OwnerLost { unsent: true }) => Ok(None),
            Err(Failed::OwnerLost { unsent: false }) => {
                tracing::info!(%unit, "a request is under way to a unit that was lost");
                if !write && self.body.is_whole() && self.resends == 0 {
                    self.resends += 1;
                    return Ok(None);
                }
                Err(owner_lost(unit))
            }
            Err(Failed::Late) => Err(late("the owner's router")),
        }
    }

    async fn attempt(
        &mut self,
        name: Authority,
        stamp: &Stamp,
        (untaken, taken): (Untaken, oneshot::Receiver<()>),
    ) -> Result<Response<Answered>, Failed> {
        let state = &self.worker.state;
        let mut request = Request::new(self.kept_attempt());
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = uri(name, &self.parts.uri);
        *request.headers_mut() = self.parts.headers.clone();
        let headers = request.headers_mut();
        headers.insert(HOP, stamp.unit.clone());
        if let Some((_, epoch)) = &stamp.slot {
            headers.insert(headers::EPOCH, epoch.clone());
        }
        if let Some(place) = &self.must_show {
            headers.insert(headers::PLACE, place.clone());
        }
        request.extensions_mut().insert(untaken);
        // The other router may hold it, too.
        let patience = state.limits.answer_time + state.limits.hold_time;
        let taken = self.place.is_some().then_some(taken);
        let answered = timeout(patience, self.worker.peers.request(request));
        let mut response = match in_turn(&mut self.place, taken, self.answered_until, answered).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => return Err(Failed::NotSent(error)),
            Ok(Err(error)) => return Err(Failed::Unknown(error)),
            Err(_) => return Err(Failed::Late),
        };
        let misdirected = response.status() == StatusCode::MISDIRECTED_REQUEST
            && response
                .headers()
                .get(REASON)
                .is_some_and(|reason| reason == MISDIRECTED);
        if misdirected {
            return Err(Failed::Misdirected(headers::epoch(response.headers())));
        }
        // Headers of ours stay: the owner's router has put them there.
        strip_hop_by_hop(response.headers_mut());
        Ok(response.map(|body| Answered::begins(body, None)))
    }

    /// For a request that has a place in a line: told once a connection has taken it.
    fn watched(&self, request: &mut Request<Sent>) -> Option<oneshot::Receiver<()>> {
        let place = self.place.is_some();
        place.then(|| {
            let (untaken, taken) = Untaken::new();
            request.extensions_mut().insert(untaken);
            taken
        })
    }

    /// The body for one attempt to forward: kept, so that another attempt can follow.
    fn kept_attempt(&mut self) -> Sent {
        self.keep();
        match &self.body {
            Received::Kept(kept) => Sent::Attempt(kept.attempt()),
            Received::Empty | Received::Fresh(_) => Sent::Empty,
        }
    }

    pub(super) fn take_body(&mut self) -> Received {
        std::mem::replace(&mut self.body, Received::Empty)
    }

    pub(super) fn keep(&mut self) {
        self.keep_within(self.worker.state.budget.clone());
    }

    fn keep_within(&mut self, budget: Arc<Budget>) {
        self.body = match self.take_body() {
            Received::Fresh(body) => {
                let limit = self.worker.state.limits.kept_per_request;
                Received::Kept(Kept::new(body, limit, budget))
            }
            same @ (Received::Empty | Received::Kept(_)) => same,
        };
    }

    fn may_resend(&mut self, unit: &UnitName) -> Result<(), Answer> {
        self.resends += 1;
        if self.resends > self.worker.state.limits.resends {
            let message = format!("the owner changed {} times, unit {unit} was the last", self.resends);
            return Err(Answer::unavailable("OwnerUnsettled", message));
        }
        if !self.body.is_whole() {
            let message = "the owner changed, and the body is too large to be sent again";
            return Err(Answer::unavailable("BodyTooLarge", message));
        }
        Ok(())
    }
}

/// Goes with a request until a connection has written its head, and is dropped then.
#[derive(Clone)]
struct Untaken(#[allow(dead_code, reason = "only its end matters")] Arc<oneshot::Sender<()>>);

impl Untaken {
    /// With what tells its end.
    fn new() -> (Self, oneshot::Receiver<()>) {
        let (untaken, taken) = oneshot::channel();
        (Self(Arc::new(untaken)), taken)
    }
}

/// Waits for the answer, and gives the place up, so that the next one of its line can go: with the answer, so that the
/// service sees one after the other; but `until` then at the latest, so that a slot with many writes, or a slow service,
/// is through soon: from then on it is enough that a connection has taken the request. One that no connection took keeps
/// its place: it is tried again.
async fn in_turn<F: Future>(
    place: &mut Option<Place>,
    taken: Option<oneshot::Receiver<()>>,
    until: Option<Instant>,
    answered: F,
) -> F::Output {
    let mut answered = pin!(answered);
    if let Some(taken) = taken {
        let passed_on = async {
            let _ = taken.await;
            if let Some(until) = until {
                tokio::time::sleep_until(until).await;
            }
        };
        tokio::select! {
            biased;
            answer = answered.as_mut() => return answer,
            () = passed_on => *place = None,
        }
    }
    answered.await
}

fn unknown(who: &str) -> Answer {
    let message = format!("{who} ended the connection: whether the request was carried out is not known");
    Answer::new(StatusCode::BAD_GATEWAY, "OutcomeUnknown", message)
}

/// The service says that the write was carried out, but by now another unit may own the slot.
fn without_lease() -> Answer {
    let message = "the unit's write lease was over when the service answered: whether the write counts is not known";
    Answer::new(StatusCode::GATEWAY_TIMEOUT, "NoWriteLease", message)
}

fn late(who: &str) -> Answer {
    let message = format!("{who} did not answer in time: whether the request was carried out is not known");
    Answer::new(StatusCode::GATEWAY_TIMEOUT, "AnswerTime", message)
}

fn owner_lost(unit: &UnitName) -> Answer {
    let message = format!("unit {unit} was lost before it answered: whether the request was carried out is not known");
    Answer::new(StatusCode::GATEWAY_TIMEOUT, "OwnerLost", message)
}

/// Waits until a slot was taken from a unit that was lost, by this router's table.
async fn taken_from(state: &State, unit: &UnitName, slot: &LineOf) {
    let mut changes = state.changes();
    loop {
        changes.mark_unchanged();
        let view = state.view.load_full();
        if view
            .compiled
            .as_ref()
            .is_some_and(|compiled| compiled.was_taken_from(unit, slot))
        {
            return;
        }
        // The sender lives in the state.
        let _ = changes.changed().await;
    }
}

/// The same path and query at another place.
fn uri(authority: Authority, uri: &Uri) -> Uri {
    let path = uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    // All three are there and valid, so this cannot fail.
    Uri::from_parts(parts).unwrap_or_default()
}
