//! One request from its arrival to its answer.
//!
//! `decide` says what to do by the view of one moment, `exchange` does it, `held` waits where it must, and `refused` where a
//! service's database did not take a write.

mod decide;
mod exchange;
mod held;
mod place;
mod refused;

use crate::answer::Answer;
use crate::body::{Answered, Received};
use crate::headers::{self, PLACE, strip_hop_by_hop, strip_ours};
use crate::home::Home;
use crate::peers::Peers;
use crate::state::State;
use crate::target;
use exchange::Exchange;
use http::header::EXPECT;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_core::route::{Asked, Origin, Shows};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

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
        let waits_for_continue = parts.headers.contains_key(EXPECT);
        let checked = target::check(&parts);
        // First of all, so that no later step sees what a client forged, or names as a header of one hop.
        strip_hop_by_hop(&mut parts.headers);
        // The one header of ours that clients send.
        let place = parts.headers.get(PLACE).cloned();
        strip_ours(&mut parts.headers);
        let write = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if parts.method == Method::CONNECT {
            let answer = Answer::new(StatusCode::METHOD_NOT_ALLOWED, "NoTunnels", "CONNECT is not offered");
            return self.refuse(answer);
        }
        let mut exchange = Exchange::new(
            self,
            parts,
            Received::new(body),
            Asked {
                write,
                origin,
                local: false,
                shows: Shows::Any,
            },
        );
        exchange.must_show = place.filter(|_| !write);
        let answered = match checked {
            Ok(()) => exchange.run().await,
            Err(answer) => Err(answer),
        };
        // Whoever waits behind it need not wait for its body.
        exchange.place = None;
        match answered {
            Ok(response) => response,
            // The client has sent nothing yet, and reading would ask it to.
            Err(answer) if waits_for_continue && exchange.body.is_fresh() => self.refuse(answer),
            Err(answer) => {
                // Another router must get its 421 for certain: it sends the body elsewhere. A client is owed less.
                let (limit, time) = match sender {
                    Sender::Router(_) => (u64::MAX, self.state.limits.answer_time),
                    Sender::Client => DRAIN,
                };
                // Too slow or too long: the answer goes out all the same.
                let _ = timeout(time, exchange.take_body().drain(limit)).await;
                self.refuse(answer)
            }
        }
    }

    fn refuse(&self, answer: Answer) -> Response<Answered> {
        self.state.metrics.count_answer(answer.reason);
        answer.into_response()
    }
}
