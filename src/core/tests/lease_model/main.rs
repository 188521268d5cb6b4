//! The write lease, model-checked with time: every interleaving of a holder that may be paused anywhere, a challenger, a seal,
//! a failover, and a lease that is granted anew to a unit whose cluster has not heard of it.
//!
//! One tick is a second. Clocks run at one rate here: that a fast one and a slow one are allowed for is arithmetic, and tested
//! in the core itself. A commit takes no time from its check to its end: what it may take is the margin, which is left out of
//! the window.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests too.

mod world;

use stateright::{Checker, HasDiscoveries, Model as _};
use world::{Fault, Model, ONE_WRITER};

fn model(faults: &'static [Fault]) -> Model {
    Model { faults, until: 9 }
}

#[test]
fn a_sealed_lease_is_over_in_every_reachable_world() {
    let checker = model(&[]).checker().spawn_bfs().join();
    let worlds = checker.unique_state_count();
    println!("{worlds} worlds, depth {}", checker.max_depth());
    checker.assert_properties();
    assert!(worlds > 10_000, "the model must not be vacuous: {worlds} worlds");
}

#[test]
fn every_planted_fault_is_found() {
    for fault in Fault::ALL {
        let checker = model(Box::leak(Box::new([*fault])))
            .checker()
            .finish_when(HasDiscoveries::AnyOf([ONE_WRITER].into()))
            .spawn_bfs()
            .join();
        assert!(checker.discovery(ONE_WRITER).is_some(), "{fault:?} was not found");
    }
}
