//! What to do with a request: by the view of one moment, which it is asked anew whenever that may have changed.

use super::{MISDIRECTED, Worker};
use crate::answer::Answer;
use crate::flight::InFlight;
use crate::headers::Stamp;
use crate::hold::{HeldFor, LineOf};
use crate::resolve::{Refusal, resolve};
use crate::view::{Compiled, Route};
use http::uri::Authority;
use http::{HeaderValue, StatusCode, request};
use multiactive_core::ids::{StoreName, UnitName};
use multiactive_core::path::decode;
use multiactive_core::route::{Asked, Decision, decide};
use std::sync::Arc;

/// Why a write waits that came while earlier ones of its slot were on their way.
pub(super) const TURN: &str = "Turn";

/// What to do next with a request; everything in it is of one view.
pub(super) enum Next {
    Serve {
        backend: Authority,
        stamp: Stamp,
        in_flight: Option<InFlight>,
        /// Of a write whose place in the log the client may want to read behind.
        store: Option<StoreName>,
    },
    Forward {
        unit: UnitName,
        name: Authority,
        stamp: Stamp,
        /// Whose it is: a slot of a keyspace,
        slot: LineOf,
        /// and whether it is to be written.
        write: bool,
    },
    Hold {
        /// One word.
        why: &'static str,
        held_for: HeldFor,
    },
    /// By the table the unit is the writer, but it was not said lately that it still is: the answer where it does not say so now.
    TooOld(Answer),
    Answer(Answer),
}

impl Worker {
    /// What to do with a request, by the view of this moment. `ticket` is its turn, where it has waited already.
    pub(super) fn next(&self, parts: &request::Parts, asked: Asked, ticket: Option<u64>) -> Next {
        let path = match decode(parts.uri.path()) {
            Ok(path) => path,
            Err(error) => return Next::Answer(refusal(&error.into())),
        };
        loop {
            let view = self.state.view.load();
            let Some(compiled) = &view.compiled else {
                let answer = Answer::unavailable("NoTable", "this router has no routing table yet");
                return Next::Answer(answer);
            };
            let resolved = match resolve(compiled, &path, &parts.headers) {
                Ok(resolved) => resolved,
                Err(error) => return Next::Answer(refusal(&error)),
            };
            let unit = &compiled.declared.unit;
            let asked = Asked {
                local: compiled.reads_locally(resolved.keyspace),
                shows: resolved.keyspace.shows(asked.shows),
                ..asked
            };
            let Some((_, slot)) = resolved.key else {
                let stamp = Stamp {
                    unit: compiled.declared.unit_header().clone(),
                    slot: None,
                };
                return serve(resolved.route, stamp, None, None);
            };
            let in_flight = asked.write.then(|| resolved.keyspace.flight.raise(slot));
            if in_flight.is_some() && !Arc::ptr_eq(&self.state.view.load(), &view) {
                // A table came in between: the counter must be raised before the table that decides is read.
                continue;
            }
            let keyspace = resolved.route.keyspace;
            let Some(found) = compiled.entry(keyspace, slot) else {
                return Next::Answer(unowned());
            };
            let stamp = |unit: &HeaderValue| Stamp {
                unit: unit.clone(),
                slot: Some((HeaderValue::from(slot), found.epoch.clone())),
            };
            let held = |why| Next::Hold {
                why,
                held_for: HeldFor::Slot {
                    keyspace: resolved.keyspace.name.clone(),
                    slot,
                    asked,
                },
            };
            let behind = || asked.write && self.state.hold.is_behind(&resolved.keyspace.name, slot, ticket);
            return match decide(unit, compiled.epoch, found.entry, asked, view.agent(keyspace, found)) {
                Decision::Serve | Decision::Forward(_) if behind() => held(TURN),
                Decision::Serve => {
                    let told = asked.write && resolved.keyspace.tells_places();
                    let store = resolved.keyspace.name.writer_of().filter(|_| told);
                    serve(resolved.route, stamp(compiled.declared.unit_header()), in_flight, store)
                }
                Decision::Forward(owner) => {
                    let slot = (resolved.keyspace.name.clone(), slot);
                    let stamp = stamp(compiled.declared.unit_header());
                    forward(compiled, owner, stamp, slot, asked.write)
                }
                Decision::Hold(wait) => held(wait.reason()),
                Decision::Misdirected { .. } => {
                    let message = "this unit does not own the slot, or is about to give it away";
                    Next::Answer(Answer {
                        epoch: Some(found.epoch.clone()),
                        ..Answer::new(StatusCode::MISDIRECTED_REQUEST, MISDIRECTED, message)
                    })
                }
                Decision::Unowned => Next::Answer(unowned()),
                Decision::TooOld => {
                    let message = "nobody can say that this unit still is the writer, and what it has may be too old";
                    Next::TooOld(Answer::unavailable("TooOld", message))
                }
            };
        }
    }
}

/// A read of a store with a single writer that this unit may answer.
pub(super) struct Read {
    pub(super) store: StoreName,
    /// This unit.
    pub(super) unit: UnitName,
    /// Whether it is the writer, by the table.
    pub(super) writes: bool,
}

impl Worker {
    /// What is read by a request, where this unit may answer it.
    pub(super) fn read_here(&self, parts: &request::Parts) -> Option<Read> {
        let path = decode(parts.uri.path()).ok()?;
        let view = self.state.view.load();
        let compiled = view.compiled.as_ref()?;
        let resolved = resolve(compiled, &path, &parts.headers).ok()?;
        let (unit, (_, slot)) = (&compiled.declared.unit, resolved.key?);
        let writes = compiled.entry(resolved.route.keyspace, slot)?.entry.owner.as_ref() == Some(unit);
        let read = Read {
            store: resolved.keyspace.name.writer_of()?,
            unit: unit.clone(),
            writes,
        };
        (writes || compiled.reads_locally(resolved.keyspace)).then_some(read)
    }
}

fn refusal(error: &Refusal) -> Answer {
    Answer::new(error.status(), error.reason(), error.to_string())
}

fn unowned() -> Answer {
    Answer::unavailable("Unowned", "no unit owns the slot of this key")
}

fn serve(route: &Route, stamp: Stamp, in_flight: Option<InFlight>, store: Option<StoreName>) -> Next {
    match &route.address {
        Some(backend) => Next::Serve {
            backend: backend.clone(),
            stamp,
            in_flight,
            store,
        },
        None => {
            let message = format!("this unit has no usable backend named {}", route.backend);
            Next::Answer(Answer::new(StatusCode::BAD_GATEWAY, "NoBackend", message))
        }
    }
}

fn forward(compiled: &Compiled, owner: &UnitName, stamp: Stamp, slot: LineOf, write: bool) -> Next {
    match compiled.peer(owner) {
        Some(peer) => Next::Forward {
            unit: owner.clone(),
            name: peer.name.clone(),
            stamp,
            slot,
            write,
        },
        None => {
            let message = format!("the table says no usable router of unit {owner}");
            Next::Answer(Answer::unavailable("NoRouter", message))
        }
    }
}
