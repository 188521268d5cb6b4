//! The promotion, model-checked: every interleaving of a small world, with the real step machine in it.
//!
//! The honest world must keep every invariant; then each planted fault must be found, or the check would be blind.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

mod behind;
#[path = "../common/mod.rs"]
mod common;
mod effects;
mod model;
mod operators;
mod properties;
mod world;

use model::{Fault, Model};
use properties::{ENDS, EPOCHS_GROW, FENCE_FIRST, NO_ERROR, NOTHING_LOST, ONE_WRITER};
use stateright::{Checker, HasDiscoveries, Model as _};
use std::collections::BTreeSet;
use std::time::Instant;

/// Two operators, two writes, a restart, a target that dies, late retries, an abort and a jump of time.
fn whole() -> Model {
    Model {
        faults: &[],
        requests: 1,
        operators: 2,
        writes: 2,
        restarts: 1,
        leaves: 0,
        target_may_die: true,
        retries: true,
        aborts: true,
    }
}

#[test]
fn a_promotion_keeps_every_invariant_in_every_reachable_world() {
    let start = Instant::now();
    let checker = whole().checker().spawn_bfs().join();
    let worlds = checker.unique_state_count();
    println!("{worlds} worlds, depth {}, {:?}", checker.max_depth(), start.elapsed());
    checker.assert_properties();
    assert!(worlds > 100_000, "the model must not be vacuous: {worlds} worlds");
}

/// Without people who abort and without a target that dies, what stands still is stuck.
fn undisturbed() -> Model {
    Model {
        operators: 1,
        target_may_die: false,
        aborts: false,
        ..whole()
    }
}

/// The second promotion begins once the first has ended: what was reported for the first must not count for it.
fn twice() -> Model {
    Model {
        requests: 2,
        operators: 1,
        restarts: 0,
        target_may_die: false,
        ..whole()
    }
}

#[test]
fn a_promotion_that_nobody_aborts_ends_by_itself() {
    let checker = undisturbed().checker().spawn_bfs().join();
    println!("{} worlds", checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000);
}

/// The router loses its connection at any moment, and goes on routing.
fn disconnected() -> Model {
    Model {
        leaves: 1,
        restarts: 0,
        ..undisturbed()
    }
}

#[test]
fn a_router_that_loses_its_agent_costs_no_client_an_error() {
    let checker = disconnected().checker().spawn_bfs().join();
    println!("{} worlds", checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000);
}

#[test]
fn a_second_promotion_is_not_misled_by_the_reports_of_the_first() {
    let checker = twice().checker().spawn_bfs().join();
    println!("{} worlds", checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000);
}

#[test]
fn every_planted_fault_is_found() {
    // As small as the fault allows, so that it is found soon.
    let small = || Model {
        restarts: 0,
        retries: false,
        aborts: true,
        ..undisturbed()
    };
    let mortal = || Model {
        target_may_die: true,
        ..undisturbed()
    };
    let retried = || Model {
        retries: true,
        ..small()
    };
    let rows: [(&'static [Fault], Model, &str); 13] = [
        (&[Fault::EpochIgnored], retried(), ONE_WRITER),
        (&[Fault::FenceLeavesTransactions], small(), NOTHING_LOST),
        (&[Fault::FenceLeavesTransactions], small(), ONE_WRITER),
        (&[Fault::PositionBeforeFence], small(), NOTHING_LOST),
        (&[Fault::OpensAtFenced], small(), FENCE_FIRST),
        (&[Fault::UnknownIsReached], undisturbed(), ENDS),
        (&[Fault::UnknownIsReached, Fault::OpensUnproven], small(), NOTHING_LOST),
        (&[Fault::UnknownIsQuiet], small(), NO_ERROR),
        (&[Fault::NoRouterIsQuiet], disconnected(), NO_ERROR),
        (&[Fault::AnyFence], twice(), NOTHING_LOST),
        (&[Fault::FollowsAnyFence], twice(), NOTHING_LOST),
        (
            &[Fault::NoCompareAndSwap],
            Model {
                operators: 2,
                ..small()
            },
            EPOCHS_GROW,
        ),
        (&[Fault::BudgetForgotten], mortal(), ENDS),
    ];
    for (faults, model, property) in rows {
        let model = Model { faults, ..model };
        let until = HasDiscoveries::AnyOf(BTreeSet::from([property]));
        let checker = model.checker().finish_when(until).spawn_bfs().join();
        let found = checker.discoveries();
        println!("{faults:?}: {} worlds", checker.unique_state_count());
        assert!(found.contains_key(property), "{faults:?} do not break `{property}`");
    }
}
