//! The invariants of RELIABILITY that the model checks, by their numbers there.

use super::model::{Model, Pass};
use super::operators;
use super::world::{EAST, Kind, MOVED, NORTH, UNITS, World, Write};
use multiactive_core::promotion::{Move, Outcome, Step};
use multiactive_core::span::SpanState;
use stateright::Property;

pub const ONE_WRITER: &str = "1: the slot is open in one store at most";
pub const NOTHING_LOST: &str = "2: what the source committed is at the target before that opens";
pub const EPOCHS_GROW: &str = "4: epochs only grow";
pub const FENCE_FIRST: &str = "5: fence before owner before open";
pub const ENDS: &str = "7: every operation ends, or waits forward for a dead target";
pub const NO_ERROR: &str = "a write that a router admitted is never refused";
pub const REST_STAYS: &str = "a slot that was not selected never moves";
pub const SERVING_AFTER_END: &str = "after an end the slot is Serving at its one owner";

pub fn all() -> Vec<Property<Model>> {
    vec![
        Property::always(ONE_WRITER, |_, world: &World| {
            !(world.units[EAST].store.may_commit() && world.units[NORTH].store.may_commit())
        }),
        Property::always(NOTHING_LOST, |_, world: &World| {
            let (east, north) = (&world.units[EAST].store, &world.units[NORTH].store);
            !north.may_commit() || east.rows & !north.rows == 0
        }),
        Property::always(EPOCHS_GROW, |_, world: &World| !world.regressed),
        Property::always(FENCE_FIRST, fence_first),
        Property::eventually(ENDS, ended_or_forward),
        Property::always(REST_STAYS, |_, world: &World| {
            world.ledger.span(1).is_owned_by(&UNITS[EAST].into())
        }),
        Property::always(SERVING_AFTER_END, |_, world: &World| {
            let served = world.ledger.span(MOVED).state == SpanState::Serving;
            world.ledger.operation(MOVED).is_some() || (served && world.ledger.span(MOVED).owner.is_some())
        }),
        Property::always(NO_ERROR, |model: &Model, world: &World| {
            // A database that is killed does fail writes: not counted.
            model.restarts > 0 || world.writes[0] != Write::Failed
        }),
        // What must be possible, or the rest would say nothing.
        Property::sometimes("a promotion succeeds with a write on each side", |_, world: &World| {
            let outcomes = world.ledger.get().finished.iter().map(|done| &done.outcome);
            let moved = outcomes.into_iter().any(|outcome| *outcome == Outcome::Succeeded);
            moved && world.units[NORTH].store.rows != world.units[EAST].store.rows && world.units[EAST].store.rows != 0
        }),
        Property::sometimes(
            "an abort after the fence gives the slot back and it takes a write again",
            |_, world: &World| {
                let mut ends = world.ledger.get().finished.iter();
                let fenced = ends.any(|done| done.history.iter().any(|entry| entry.step == Step::Drain));
                let back = world.ledger.span(MOVED).is_owned_by(&UNITS[EAST].into())
                    && world.ledger.operation(MOVED).is_none();
                fenced && back && world.units[EAST].store.transactions != 0
            },
        ),
        Property::sometimes("a budget runs out", |_, world: &World| {
            let mut ends = world.ledger.get().finished.iter();
            ends.any(|done| matches!(&done.outcome, Outcome::Aborted { reason, .. } if reason == "FenceBudget"))
        }),
        Property::sometimes("a fence ends a transaction under way", |_, world: &World| {
            let begun = |write: &Write, unit: usize| *write == Write::Begun(unit);
            let lost = world.units[EAST].store.transactions == 0 && world.units[EAST].store.kind == Kind::Fenced;
            lost && world.writes.iter().any(|write| begun(write, EAST))
        }),
    ]
}

fn fence_first(_: &Model, world: &World) -> bool {
    let span = world.ledger.span(MOVED);
    let (east, north) = (&world.units[EAST].store, &world.units[NORTH].store);
    let moved = span.is_owned_by(&UNITS[NORTH].into());
    (!moved || !east.may_commit()) && (moved || !north.may_commit())
}

/// All asked for has ended; or the target died after the commit point, and the operation says what it waits for.
fn ended_or_forward(model: &Model, world: &World) -> bool {
    if model.all_ended(world) {
        return true;
    }
    let Some(op) = world.ledger.operation(MOVED) else {
        return false;
    };
    let waits = || matches!(operators::move_of(model, world, op, Pass::Late), Move::Wait(_));
    world.dead && op.step >= Step::Commit && waits()
}
