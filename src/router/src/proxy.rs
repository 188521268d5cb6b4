//! One request from its arrival to its answer: decide, then serve, forward, hold or refuse, until it is answered.

use crate::answer::Answer;
use crate::body::{Answered, Received, Sent};
use crate::flight::InFlight;
use crate::headers::{self, HOP, REASON, Stamp, strip_hop_by_hop, strip_ours};
use crate::hold::HeldFor;
use crate::home::Home;
use crate::kept::{Kept, KeptError};
use crate::metrics::Reason;
use crate::peers::Peers;
use crate::resolve::resolve;
use crate::state::State;
use crate::view::{Compiled, Route};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use hyper_util::client::legacy::Error as ClientError;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_core::route::{Asked, Decision, Origin, Wait, decide};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The reason on a `421`, by which one router knows another's.
pub const MISDIRECTED: &str = "Misdirected";

/// How much of a refused request's body is read at most, and for how long, before the answer.
const DRAIN: (u64, Duration) = (1 << 20, Duration::from_secs(2));

/// Who sent a request.
#[derive(Clone, Debug)]
pub enum Sender {
    /// A client.
    Client,
    /// The router of this unit, by its certificate.
    Router(UnitName),
}

/// One thread's share of the router: the shared state, and connections of its own.
pub struct Worker {
    /// What all threads share.
    pub state: Arc<State>,
    /// Connections to the local backends.
    pub home: Home,
    /// Connections to the other units' routers.
    pub peers: Peers,
}

/// What to do next with a request; everything in it is of one view.
enum Next {
    Serve {
        backend: Authority,
        stamp: Stamp,
        in_flight: Option<InFlight>,
    },
    Forward {
        unit: UnitName,
        name: Authority,
        stamp: Stamp,
    },
    Hold {
        wait: Wait,
        held_for: HeldFor,
    },
    Answer(Answer, Option<HeaderValue>),
}

/// A request under way.
struct Exchange<'w> {
    worker: &'w Worker,
    parts: request::Parts,
    body: Received,
    asked: Asked,
    /// When its patience ends; set at the first wait.
    until: Option<Instant>,
    /// When it is given up that its owner's router cannot be reached; set at the first failure.
    reach_until: Option<Instant>,
    /// Its turn in the queue.
    ticket: Option<u64>,
    resends: u32,
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
}

impl Worker {
    /// Answers one request.
    pub async fn handle(&self, sender: &Sender, request: Request<Incoming>) -> Response<Answered> {
        let (mut parts, body) = request.into_parts();
        let origin = match sender {
            Sender::Client => Origin::Client,
            Sender::Router(_) => Origin::Router {
                epoch: headers::epoch(&parts.headers).unwrap_or(Epoch::NEVER),
            },
        };
        // First of all, so that no later step sees what a client forged, or names as a header of one hop.
        strip_hop_by_hop(&mut parts.headers);
        strip_ours(&mut parts.headers);
        let write = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if parts.method == Method::CONNECT {
            return self.refuse(
                Answer::new(StatusCode::METHOD_NOT_ALLOWED, "NoTunnels", "CONNECT is not offered"),
                None,
            );
        }
        let mut exchange = Exchange {
            worker: self,
            parts,
            body: Received::new(body),
            asked: Asked { write, origin },
            until: None,
            reach_until: None,
            ticket: None,
            resends: 0,
        };
        match exchange.run().await {
            Ok(response) => response,
            Err((answer, epoch)) => {
                // Another router must get its 421 for certain: it sends the body elsewhere. A client is owed less.
                let (limit, time) = match sender {
                    Sender::Router(_) => (u64::MAX, self.state.limits.answer_time),
                    Sender::Client => DRAIN,
                };
                // Too slow or too long: the answer goes out all the same.
                let _ = timeout(time, exchange.take_body().drain(limit)).await;
                self.refuse(answer, epoch)
            }
        }
    }

    fn refuse(&self, answer: Answer, epoch: Option<HeaderValue>) -> Response<Answered> {
        self.state.metrics.count_answer(answer.reason);
        let mut response = answer.into_response();
        if let Some(epoch) = epoch {
            response.headers_mut().insert(headers::EPOCH, epoch);
        }
        response
    }

    /// What to do with a request, by the view of this moment.
    fn next(&self, parts: &request::Parts, asked: Asked) -> Next {
        loop {
            let view = self.state.view.load();
            let Some(compiled) = &view.compiled else {
                let answer = Answer::unavailable("NoTable", "this router has no routing table yet");
                return Next::Answer(answer, None);
            };
            let resolved = match resolve(compiled, parts.uri.path(), &parts.headers) {
                Ok(resolved) => resolved,
                Err(refusal) => {
                    let answer = Answer::new(refusal.status(), refusal.reason(), refusal.to_string());
                    return Next::Answer(answer, None);
                }
            };
            let unit = &compiled.declared.unit;
            let Some((_, slot)) = resolved.key else {
                let stamp = Stamp {
                    unit: compiled.declared.unit_header().clone(),
                    slot: None,
                };
                return serve(resolved.route, stamp, None);
            };
            let in_flight = asked.write.then(|| resolved.keyspace.flight.raise(slot));
            if in_flight.is_some() && !Arc::ptr_eq(&self.state.view.load(), &view) {
                // A table came in between: the counter must be raised before the table that decides is read.
                continue;
            }
            let keyspace = resolved.route.keyspace;
            let Some(found) = compiled.entry(keyspace, slot) else {
                return Next::Answer(unowned(), None);
            };
            let stamp = |unit: &HeaderValue| Stamp {
                unit: unit.clone(),
                slot: Some((HeaderValue::from(slot), found.epoch.clone())),
            };
            return match decide(unit, compiled.epoch, found.entry, asked, view.agent(keyspace, found)) {
                Decision::Serve => serve(resolved.route, stamp(compiled.declared.unit_header()), in_flight),
                Decision::Forward(owner) => forward(compiled, owner, stamp(compiled.declared.unit_header())),
                Decision::Hold(wait) => Next::Hold {
                    wait,
                    held_for: HeldFor::Slot {
                        keyspace: resolved.keyspace.name.clone(),
                        slot,
                        asked,
                    },
                },
                Decision::Misdirected { .. } => {
                    let message = "this unit does not own the slot, or is about to give it away";
                    let answer = Answer::new(StatusCode::MISDIRECTED_REQUEST, MISDIRECTED, message);
                    Next::Answer(answer, Some(found.epoch.clone()))
                }
                Decision::Unowned => Next::Answer(unowned(), None),
            };
        }
    }
}

fn unowned() -> Answer {
    Answer::unavailable("Unowned", "no unit owns the slot of this key")
}

fn serve(route: &Route, stamp: Stamp, in_flight: Option<InFlight>) -> Next {
    match &route.address {
        Some(backend) => Next::Serve {
            backend: backend.clone(),
            stamp,
            in_flight,
        },
        None => {
            let message = format!("this unit has no usable backend named {}", route.backend);
            Next::Answer(Answer::new(StatusCode::BAD_GATEWAY, "NoBackend", message), None)
        }
    }
}

fn forward(compiled: &Compiled, owner: &UnitName, stamp: Stamp) -> Next {
    match compiled.peer(owner) {
        Some(peer) => Next::Forward {
            unit: owner.clone(),
            name: peer.name.clone(),
            stamp,
        },
        None => {
            let message = format!("the table says no usable router of unit {owner}");
            Next::Answer(Answer::unavailable("NoRouter", message), None)
        }
    }
}

type Refused = (Answer, Option<HeaderValue>);

impl Exchange<'_> {
    async fn run(&mut self) -> Result<Response<Answered>, Refused> {
        loop {
            match self.worker.next(&self.parts, self.asked) {
                Next::Serve {
                    backend,
                    stamp,
                    in_flight,
                } => return self.serve(backend, &stamp, in_flight).await,
                Next::Hold { wait, held_for } => self.hold(wait, held_for).await?,
                Next::Answer(answer, epoch) => return Err((answer, epoch)),
                Next::Forward { unit, name, stamp } => {
                    if let Some(response) = self.forward(&unit, name, &stamp).await? {
                        return Ok(response);
                    }
                }
            }
        }
    }

    /// Passes the request to the local backend. Its body is not kept: nothing sends it a second time.
    async fn serve(
        &mut self,
        backend: Authority,
        stamp: &Stamp,
        in_flight: Option<InFlight>,
    ) -> Result<Response<Answered>, Refused> {
        self.worker.state.metrics.home.inc();
        let mut request = Request::new(match self.take_body() {
            Received::Empty => Sent::Empty,
            Received::Fresh(body) => Sent::Through(body),
            Received::Kept(kept) => Sent::Attempt(kept.attempt()),
        });
        *request.method_mut() = std::mem::take(&mut self.parts.method);
        *request.uri_mut() = uri(backend, &self.parts.uri);
        *request.headers_mut() = std::mem::take(&mut self.parts.headers);
        stamp.put(request.headers_mut());
        let answered = self.worker.home.request(request);
        let mut response = match timeout(self.worker.state.limits.answer_time, answered).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => {
                tracing::warn!(error = &error as &dyn std::error::Error, "connecting to the backend");
                return Err((
                    Answer::unavailable("BackendUnreachable", "the backend cannot be reached"),
                    None,
                ));
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "passing a request to the backend"
                );
                return Err((unknown("the backend"), None));
            }
            Err(_) => return Err((late("the backend"), None)),
        };
        strip_hop_by_hop(response.headers_mut());
        strip_ours(response.headers_mut());
        stamp.put(response.headers_mut());
        Ok(response.map(|body| Answered::Through { body, in_flight }))
    }

    /// Passes the request to the owner's router; `None` where it must be decided about anew.
    async fn forward(
        &mut self,
        unit: &UnitName,
        name: Authority,
        stamp: &Stamp,
    ) -> Result<Option<Response<Answered>>, Refused> {
        self.worker.state.metrics.forwarded.inc();
        match self.attempt(name, stamp).await {
            Ok(response) => Ok(Some(response)),
            Err(Failed::Misdirected(epoch)) => {
                self.may_resend(unit)?;
                self.worker.state.metrics.resent.inc();
                let epoch = epoch.unwrap_or(Epoch::NEVER);
                self.hold(Wait::Behind, HeldFor::Epoch(epoch)).await?;
                Ok(None)
            }
            Err(Failed::NotSent(error)) => {
                tracing::debug!(%unit, error = &error as &dyn std::error::Error, "connecting to a router");
                let until = Instant::now() + self.worker.state.limits.connect_time;
                let until = *self.reach_until.get_or_insert(until);
                if Instant::now() >= until {
                    tracing::warn!(%unit, error = &error as &dyn std::error::Error, "a router cannot be reached");
                    let message = format!("the router of unit {unit} cannot be reached");
                    return Err((Answer::unavailable("RouterUnreachable", message), None));
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
                Err((unknown("the owner's router"), None))
            }
            Err(Failed::Late) => Err((late("the owner's router"), None)),
        }
    }

    async fn attempt(&mut self, name: Authority, stamp: &Stamp) -> Result<Response<Answered>, Failed> {
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
        // The other router may hold it, too.
        let patience = state.limits.answer_time + state.limits.hold_time;
        let mut response = match timeout(patience, self.worker.peers.request(request)).await {
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
        let in_flight = None;
        Ok(response.map(|body| Answered::Through { body, in_flight }))
    }

    /// The body for one attempt to forward: kept, so that another attempt can follow.
    fn kept_attempt(&mut self) -> Sent {
        self.keep();
        match &self.body {
            Received::Kept(kept) => Sent::Attempt(kept.attempt()),
            Received::Empty | Received::Fresh(_) => Sent::Empty,
        }
    }

    fn take_body(&mut self) -> Received {
        std::mem::replace(&mut self.body, Received::Empty)
    }

    fn keep(&mut self) {
        self.body = match self.take_body() {
            Received::Fresh(body) => {
                let state = &self.worker.state;
                Received::Kept(Kept::new(body, state.limits.kept_per_request, state.budget.clone()))
            }
            same @ (Received::Empty | Received::Kept(_)) => same,
        };
    }

    fn may_resend(&mut self, unit: &UnitName) -> Result<(), Refused> {
        self.resends += 1;
        if self.resends > self.worker.state.limits.resends {
            let message = format!("the owner changed {} times, unit {unit} was the last", self.resends);
            return Err((Answer::unavailable("OwnerUnsettled", message), None));
        }
        if !self.body.is_whole() {
            let message = "the owner changed, and the body is too large to be sent again";
            return Err((Answer::unavailable("BodyTooLarge", message), None));
        }
        Ok(())
    }

    /// Waits in the queue, and reads the body ahead meanwhile.
    async fn hold(&mut self, wait: Wait, held_for: HeldFor) -> Result<(), Refused> {
        // What comes after the wait is a new situation.
        self.reach_until = None;
        let state = self.worker.state.clone();
        let began = Instant::now();
        let until = *self.until.get_or_insert(began + state.limits.hold_time);
        let full = |_| (Answer::unavailable("HoldFull", "too many requests wait already"), None);
        let mut place = state.hold.enter(held_for.clone(), self.ticket).map_err(full)?;
        if self.ticket.is_none() {
            let reason = wait.reason();
            state.metrics.held.get_or_create(&Reason { reason }).inc();
        }
        self.ticket = Some(place.ticket());
        // What changed before the place was taken has released nobody.
        if state.is_free(&held_for) {
            return Ok(());
        }
        self.keep();
        let _waiting = Waiting::new(&state, began);
        tokio::select! {
            biased;
            () = place.released() => Ok(()),
            () = tokio::time::sleep_until(until) => {
                let message = format!("held for {} s: {}", state.limits.hold_time.as_secs(), wait.reason());
                Err((Answer::unavailable("HoldTime", message), None))
            }
            error = read_ahead(&self.body) => Err(match error {
                KeptError::Budget => (Answer::unavailable("HoldBytes", "too many bytes wait already"), None),
                KeptError::Client(_) | KeptError::GivenUp => {
                    (Answer::new(StatusCode::BAD_REQUEST, "BodyBroken", "the request's body ended early"), None)
                }
            }),
        }
    }
}

/// Reads the body until there is no more to read, then waits for ever; it ends only in an error.
async fn read_ahead(body: &Received) -> KeptError {
    if let Received::Kept(kept) = body
        && let Err(error) = kept.fill().await
    {
        return error;
    }
    std::future::pending().await
}

/// A request that waits, in the metrics.
struct Waiting<'s> {
    state: &'s State,
    began: Instant,
}

impl<'s> Waiting<'s> {
    fn new(state: &'s State, began: Instant) -> Self {
        state.metrics.waiting.inc();
        Self { state, began }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.state.metrics.waiting.dec();
        self.state
            .metrics
            .held_seconds
            .observe(self.began.elapsed().as_secs_f64());
    }
}

fn unknown(who: &str) -> Answer {
    let message = format!("{who} ended the connection: whether the request was carried out is not known");
    Answer::new(StatusCode::BAD_GATEWAY, "OutcomeUnknown", message)
}

fn late(who: &str) -> Answer {
    let message = format!("{who} did not answer in time: whether the request was carried out is not known");
    Answer::new(StatusCode::GATEWAY_TIMEOUT, "AnswerTime", message)
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
