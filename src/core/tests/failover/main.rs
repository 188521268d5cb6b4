//! The failover, rule by rule: who takes over, how it begins, what each step waits for, and what the table remembers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

mod begins;
mod chooses;
#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod fences;
mod remembers;

use common::{at, orders, slots, table, unit, well};
use jiff::SignedDuration;
use multiactive_core::epoch::Epoch;
use multiactive_core::lease::Mode;
use multiactive_core::promotion::{
    Candidate, Choosing, CutSeen, Decision, DecisionKind, FAILOVER_BUDGETS, FailoverRange, FailoverRequest,
    FailoverSeen, LeaseEnd, LeaseSeen, Move, Operation, Outcome, Placement, Progress, Received, RenewalSeen, Seen,
    Step, StorePosition, UnitPosition, UnitReady, begin, choose, next, record,
};
use multiactive_core::quarantine::lost;
use multiactive_core::span::encode;
use multiactive_core::table::RoutingTable;

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// A unit that may take over.
fn usable(name: &str) -> Candidate {
    Candidate {
        unit: unit(name),
        cordoned: false,
        reachable: Some(true),
        ready: Some(UnitReady::Ready),
        behind: None,
    }
}

fn range(name: &str, text: &str, units: &[&str]) -> FailoverRange {
    FailoverRange {
        name: name.to_owned(),
        keyspace: "users".into(),
        slots: slots(text),
        units: units.iter().map(|name| unit(name)).collect(),
    }
}

/// East's slots 0-7 in two ranges with different first failover units.
fn ranges() -> Vec<FailoverRange> {
    vec![
        range("users-0", "0-3", &["east", "north", "south"]),
        range("users-1", "4-7", &["east", "south", "north"]),
    ]
}

fn placement(table: &RoutingTable, lost: &str, ranges: &[FailoverRange], candidates: &[Candidate]) -> Placement {
    choose(Choosing {
        table,
        lost: &unit(lost),
        target: None,
        ranges,
        candidates,
        stores: &[orders()],
    })
}

fn request(table: &RoutingTable, lost: &str, ranges: &[FailoverRange]) -> FailoverRequest {
    FailoverRequest {
        uid: format!("uid-{lost}").into(),
        name: format!("lost-{lost}"),
        lost: unit(lost),
        fences: false,
        named: false,
        placement: placement(table, lost, ranges, &[usable("north"), usable("south"), usable("east")]),
        stores: vec![orders()],
        expected_epoch: 1000,
        max_data_loss: seconds(5),
        budgets: FAILOVER_BUDGETS,
    }
}

/// East is lost; all of it goes north.
fn begun() -> RoutingTable {
    let all = [range("users-0", "0-7", &["north", "south"])];
    begin(&table(), &request(&table(), "east", &all), at(0)).unwrap()
}

fn progress(at: u64) -> Progress {
    Progress {
        log: "east".to_owned(),
        at,
    }
}

fn cut(name: &str, epoch: Epoch, applied: u64) -> CutSeen {
    CutSeen {
        unit: unit(name),
        epoch,
        stores: vec![Received {
            position: StorePosition {
                store: "orders".into(),
                source: unit("east"),
                vector: vec![UnitPosition {
                    unit: unit("east"),
                    position: applied.to_string(),
                }],
            },
            progress: progress(applied),
        }],
        incomplete: None,
    }
}

/// East is silent, its lease is sealed and over since a second, its last renewal was seen 13 s ago at position 50, which both
/// survivors have.
fn dead(table: &RoutingTable, op: &Operation) -> Seen {
    let mut seen = well(op.epoch);
    seen.sources[0].fence = None;
    seen.sources[0].routers = None;
    seen.sources[0].links = None;
    seen.members.iter_mut().for_each(|member| member.lag = None);
    seen.lost = lost(table);
    seen.failover = FailoverSeen {
        lease: Some(LeaseSeen {
            mode: Mode::Fence,
            length: seconds(10),
            fences_soon: false,
            unenforced: Vec::new(),
            sealed: op
                .failover
                .as_ref()
                .map(|failover| (failover.fence, LeaseEnd::Ago(seconds(1)))),
            renewals: vec![RenewalSeen {
                since: Some(seconds(14)),
                age: seconds(13),
                positions: vec![("orders".into(), progress(50))],
                earlier: Vec::new(),
            }],
        }),
        unsealed: None,
        hook: None,
        opened: None,
        cuts: vec![cut("north", op.epoch, 50), cut("south", op.epoch, 50)],
        divided: false,
        untaken: None,
        candidates: vec![usable("north"), usable("south")],
    };
    seen
}

fn accept(target: &str) -> Decision {
    Decision {
        kind: DecisionKind::AcceptDataLoss,
        target: target.to_owned(),
        by: "alice".to_owned(),
        reason: "INC-7".to_owned(),
        not_after: None,
    }
}

/// One pass over the first operation, at `at(seconds)`, with what is seen changed.
fn pass(table: &RoutingTable, now: i64, change: impl Fn(&mut Seen)) -> Move {
    let op = &table.operations[0];
    let mut seen = dead(table, op);
    change(&mut seen);
    next(op, &seen, at(now))
}

fn recorded(table: &RoutingTable, movement: &Move) -> RoutingTable {
    record(table, &table.operations[0].uid, movement, at(0))
        .unwrap()
        .unwrap()
}

/// The table at which the first operation stands at `step`, the loss accepted.
fn brought_to(mut table: RoutingTable, step: Step) -> RoutingTable {
    while table.operations[0].step < step {
        let movement = pass(&table, 0, |seen| seen.decisions = vec![accept("east")]);
        assert!(matches!(movement, Move::Enter { .. }), "{movement:?}");
        table = recorded(&table, &movement);
    }
    table
}

fn aborted(table: &RoutingTable) -> RoutingTable {
    let movement = pass(table, 0, |seen| seen.abort = Some("INC-9".to_owned()));
    recorded(table, &movement)
}

/// What a table says of the slots, and the words of a move.
fn spans(table: &RoutingTable) -> String {
    encode(&table.keyspaces[0].spans, &["east", "north", "south"].map(unit)).unwrap()
}

fn short(movement: &Move) -> String {
    match movement {
        Move::Enter { step, .. } => step.to_string(),
        Move::Retarget { target, why } => format!("to {target}: {why}"),
        Move::HandOn(tail) => format!("handed on by {}", tail.from),
        Move::Wait(wait) => format!("wait for {wait}"),
        Move::End(Outcome::Succeeded) => "Succeeded".to_owned(),
        Move::EndWithout(unsettled) => format!("Succeeded without {}", unsettled.join("; ")),
        Move::End(Outcome::Refused { reason, .. }) => format!("Refused/{reason}"),
        Move::End(Outcome::Aborted { reason, .. }) => format!("Aborted/{reason}"),
        Move::End(Outcome::Failed { reason, .. }) => format!("Failed/{reason}"),
    }
}

#[test]
fn it_goes_through_its_own_steps_and_keeps_the_loss_for_good() {
    let mut table = brought_to(begun(), Step::Settle);
    assert_eq!(spans(&table), "8s1@1.17,4s1@1.9,4u@0.0");
    let end = pass(&table, 1, |seen| {
        // Nobody waits for the lost unit: not for its routers, nor for links with it.
        seen.sources.clear();
        seen.members[0].links = Some(Ok(()));
    });
    assert_eq!(short(&end), "Succeeded");
    table = recorded(&table, &end);
    let done = &table.finished[0];
    let steps: Vec<_> = done.history.iter().map(|entry| entry.step).collect();
    assert_eq!(steps, Step::ALL);
    let not_needed: Vec<_> = done.history.iter().filter(|entry| entry.not_needed.is_some()).collect();
    assert_eq!(
        not_needed.iter().map(|entry| entry.step).collect::<Vec<_>>(),
        [Step::Verify, Step::Hold]
    );
    let loss = done.loss.as_ref().unwrap();
    assert_eq!(
        loss.bound,
        Some(seconds(12)),
        "from the renewal 13 s ago until the end 1 s ago"
    );
    assert_eq!(loss.accepted.as_ref().unwrap().by, "alice");
}
