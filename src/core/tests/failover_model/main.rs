//! The failover, model-checked: every interleaving of small worlds, with the real `choose`, `begin`, `next`, `record`,
//! `lease_wanted` and `rejoin` in them.
//!
//! The honest worlds must keep every invariant; then each planted fault must be found, or the check would be blind.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

#[path = "../common/mod.rs"]
mod common;
mod effects;
mod model;
mod operator;
mod properties;
mod world;

use model::{Fault, Model};
use properties::{BOUND, MOST, NO_LEAK, ONE_WRITER, QUARANTINE, SEALED};
use stateright::{Checker, HasDiscoveries, Model as _};
use std::collections::BTreeSet;
use std::time::Instant;
use world::{EAST, NORTH};

/// One unit is lost, and may be alive, killed, or back at any moment.
fn lost() -> Model {
    Model {
        faults: &[],
        lost: &[EAST],
        slots: 1,
        hands: 0,
        writes: 1,
        renewals: 1,
        kills: 1,
        keep_serving: false,
        hook: false,
        aborts: false,
        north_dies: false,
        rejoins: false,
        watched: false,
        prompt: false,
        late: true,
        named: false,
    }
}

/// Somebody names the target, and another survivor may have received more.
fn named() -> Model {
    Model {
        writes: 2,
        renewals: 0,
        named: true,
        ..lost()
    }
}

/// As that, renewed once more: an operator that has seen nothing but the last renewal knows by it of the one before.
fn renewed_again() -> Model {
    Model {
        renewals: 2,
        kills: 0,
        ..lost()
    }
}

/// Two operators, two failovers of the same unit and people who abort: writes of table and lease arrive late, out of order
/// or never.
fn twice() -> Model {
    Model {
        lost: &[EAST, EAST],
        hands: 2,
        writes: 0,
        kills: 0,
        aborts: true,
        watched: true,
        prompt: true,
        late: false,
        ..lost()
    }
}

/// Its live agent goes on without a lease, so a person must say that it is off.
fn keeps_serving() -> Model {
    Model {
        keep_serving: true,
        ..lost()
    }
}

/// As that, with a hook that says so: a unit may be fenced for a failover that is aborted, come back, and be failed over again while
/// what the hook said first is still in somebody's hand.
fn hooked() -> Model {
    Model {
        keep_serving: true,
        hook: true,
        lost: &[EAST, EAST],
        hands: 1,
        writes: 0,
        renewals: 2,
        kills: 1,
        ..twice()
    }
}

/// Two ranges with different failover units: two operations that share one lease.
fn two_slots() -> Model {
    Model {
        slots: 2,
        lost: &[EAST],
        hands: 0,
        renewals: 0,
        ..twice()
    }
}

/// North dies after the slot was given to it, whether it has opened or not.
fn target_dies() -> Model {
    Model {
        lost: &[EAST, NORTH],
        hands: 0,
        renewals: 0,
        writes: 1,
        aborts: false,
        north_dies: true,
        ..twice()
    }
}

/// East rejoins; its databases may still hold open what was taken from it.
fn rejoins() -> Model {
    Model {
        lost: &[EAST],
        hands: 0,
        renewals: 2,
        kills: 1,
        writes: 1,
        aborts: false,
        rejoins: true,
        ..twice()
    }
}

fn check(name: &str, model: Model, least: usize) {
    let start = Instant::now();
    let checker = model.checker().spawn_bfs().join();
    let worlds = checker.unique_state_count();
    println!(
        "{name}: {worlds} worlds, depth {}, {:?}",
        checker.max_depth(),
        start.elapsed()
    );
    checker.assert_properties();
    assert!(worlds > least, "the model must not be vacuous: {worlds} worlds");
}

#[test]
fn a_failover_keeps_every_invariant_in_every_reachable_world() {
    check("lost", lost(), 100_000);
}

#[test]
fn a_target_that_somebody_names_takes_over_what_another_has_received_more() {
    check("named", named(), 10_000);
}

#[test]
fn what_a_renewal_tells_of_those_before_it_bounds_the_loss_of_whoever_has_passed_them() {
    check("renewed again", renewed_again(), 10_000);
}

#[test]
fn a_unit_that_keeps_serving_without_a_lease_is_failed_over_only_by_its_own_word_or_a_persons() {
    check("keeps serving", keeps_serving(), 100_000);
}

#[test]
fn what_a_fencing_hook_said_counts_for_the_operation_that_asked_and_for_no_later_one() {
    check("hooked", hooked(), 10_000);
}

#[test]
fn what_was_decided_on_before_a_later_failover_changes_no_lease_of_it() {
    check("twice", twice(), 100_000);
}

#[test]
fn the_operations_of_one_failover_share_a_lease_and_no_fate() {
    check("two slots", two_slots(), 100_000);
}

#[test]
fn a_target_that_dies_before_it_opens_is_failed_over_itself() {
    check("target dies", target_dies(), 10_000);
}

#[test]
fn a_unit_that_rejoins_opens_nothing_that_was_taken_from_it() {
    check("rejoins", rejoins(), 5_000);
}

#[test]
fn every_fault_planted_about_failovers_is_found() {
    let rows: [(Fault, Model, &str); 15] = [
        (Fault::CommitBeforeSeal, lost(), SEALED),
        (Fault::FenceUnproven, lost(), ONE_WRITER),
        (Fault::UnknownIsZero, keeps_serving(), BOUND),
        (Fault::NoCut, lost(), NO_LEAK),
        (Fault::AnyEpoch, twice(), SEALED),
        (Fault::EndUnderKeepServing, keeps_serving(), ONE_WRITER),
        (Fault::QuarantineForgotten, lost(), QUARANTINE),
        (Fault::StaleGrant, rejoins(), ONE_WRITER),
        (Fault::ExtendsBeforeTable, rejoins(), ONE_WRITER),
        (Fault::LeaseNotCompared, twice(), SEALED),
        (Fault::TargetHasLess, lost(), MOST),
        (Fault::SaysTaken, named(), MOST),
        (Fault::HookOfAnother, hooked(), ONE_WRITER),
        (Fault::HookSilent, hooked(), ONE_WRITER),
        (Fault::EarlierIsLast, renewed_again(), BOUND),
    ];
    for (fault, model, property) in rows {
        let faults: &'static [Fault] = Vec::leak(vec![fault]);
        let model = Model { faults, ..model };
        let until = HasDiscoveries::AnyOf(BTreeSet::from([property]));
        let checker = model.checker().finish_when(until).spawn_bfs().join();
        println!("{fault:?}: {} worlds", checker.unique_state_count());
        assert!(
            checker.discoveries().contains_key(property),
            "{fault:?} does not break `{property}`"
        );
    }
}
