//! What an operator does in one pass: observe → `next` → `record`, the real ones. Only the reading is modelled.

use super::model::{Fault, Model, Pass};
use super::world::{EAST, Fact, NORTH, Report, UNITS, World};
use crate::common::at;
use jiff::SignedDuration;
use multiactive_core::promotion::{
    FenceSeen, MemberSeen, Move, Operation, Outcome, Reach, RouterBehind, RoutersSeen, Seen, SourceSeen, Step,
    StorePosition, TargetSeen, UnitPosition, UnitReady, WaitFor, admit, next, record,
};
use multiactive_core::table::RoutingTable;

/// The number of an operation.
pub fn number(op: &Operation) -> u8 {
    op.uid.as_str().trim_start_matches("uid-").parse().unwrap()
}

/// The rows that the operation's recorded position stands for.
pub fn rows_of(op: &Operation) -> Option<u8> {
    let position = op.positions.first()?;
    position.vector.first()?.position.parse().ok()
}

/// The table that an operator would commit now; `None` where it waits.
///
/// A pass that is late or aborted counts only where it ends the operation or publishes its positions, so that times in
/// the record do not multiply the worlds.
pub fn decide(model: &Model, world: &World, pass: Pass) -> Option<RoutingTable> {
    let mut table = world.ledger.get().clone();
    if table.operations.is_empty() {
        let wanted = u8::try_from(table.finished.len()).unwrap();
        if wanted >= model.requests || pass != Pass::Plain {
            return None;
        }
        let op = admit(&table, &Model::request(wanted), at(0)).ok()?;
        table.epoch = table.epoch.next();
        table.operations.push(op);
        return Some(table);
    }
    pass_over(model, world, &table, pass)
}

/// One pass: the real `next` on what is seen, the real `record` of what it says.
fn pass_over(model: &Model, world: &World, table: &RoutingTable, pass: Pass) -> Option<RoutingTable> {
    let op = table.operations.first()?;
    let movement = move_of(model, world, op, pass);
    let ends = matches!(movement, Move::End(Outcome::Aborted { .. } | Outcome::Refused { .. }));
    // Late enough, the positions are published though the members might still follow by themselves.
    let publishes = matches!(&movement, Move::Enter { step: Step::Drain, .. });
    let counts = match pass {
        Pass::Plain => !ends,
        Pass::Abort => ends,
        Pass::Late => ends || publishes,
    };
    if !counts {
        return None;
    }
    record(table, &op.uid, &movement, at(0)).unwrap()
}

/// The real `next` on what this operator sees.
pub fn move_of(model: &Model, world: &World, op: &Operation, pass: Pass) -> Move {
    let now = at(if pass == Pass::Late { 1000 } else { 0 });
    let movement = next(op, &observe(model, world, op, pass), now);
    match movement {
        Move::End(Outcome::Aborted { reason, .. })
            if model.has(Fault::BudgetForgotten) && reason != "AbortRequested" =>
        {
            Move::Wait(WaitFor::TargetReport)
        }
        Move::End(_)
        | Move::EndWithout(_)
        | Move::Enter { .. }
        | Move::Retarget { .. }
        | Move::HandOn(_)
        | Move::Wait(_) => movement,
    }
}

/// What the agents have published, as an operator reads it: what speaks of another operation or epoch is unknown.
fn observe(model: &Model, world: &World, op: &Operation, pass: Pass) -> Seen {
    let mine = |report: &&Report| report.operation == number(op) && report.epoch == op.epoch;
    let fact = |unit: usize| world.units[unit].report.as_ref().filter(mine).map(|report| report.fact);
    let fence = world.units[EAST].fence_report.as_ref();
    let fence = fence.filter(|report| mine(report) || model.has(Fault::AnyFence));
    let fence = fence.and_then(|report| match report.fact {
        Fact::Fenced(rows) => Some(rows),
        Fact::Holds(_) | Fact::Routes | Fact::Reached | Fact::Opened => None,
    });
    let (east, north) = (fact(EAST), fact(NORTH));
    let (in_flight, routes) = match east {
        Some(Fact::Holds(writes)) => (Some(u64::from(writes)), true),
        Some(Fact::Routes) => (None, true),
        Some(Fact::Fenced(_) | Fact::Reached | Fact::Opened) | None => (None, false),
    };
    let quiet = model.has(Fault::UnknownIsQuiet);
    // Before Hold there is no table that it must have.
    let held = op.step >= Step::Hold;
    let behind: Vec<String> = if routes || quiet || (!held && world.connected) {
        Vec::new()
    } else {
        vec!["router-1".to_owned()]
    };
    let reach = (north == Some(Fact::Reached) || model.has(Fault::UnknownIsReached)).then_some(Reach::Reached);
    Seen {
        abort: (pass == Pass::Abort).then(|| "INC-7".to_owned()),
        stores: Some(Vec::new()),
        target: Some(TargetSeen {
            cordoned: false,
            ready: Some(UnitReady::Ready),
            // A dead unit's last report stays readable where its API server lives on.
            applied: Some(op.epoch).filter(|_| north == Some(Fact::Opened)),
            problem: None,
        }),
        sources: vec![SourceSeen {
            unit: UNITS[EAST].into(),
            routers: Some(RoutersSeen {
                // That one is connected is read from the same report as what is in flight.
                count: u32::from(held || world.connected),
                behind: behind.clone(),
                in_flight: in_flight.or(Some(0).filter(|_| quiet)),
            }),
            fence: fence.map(|rows| FenceSeen {
                epoch: op.epoch,
                positions: vec![position(rows)],
            }),
            links: Some(Ok(())),
            problem: None,
        }],
        members: vec![MemberSeen {
            unit: UNITS[NORTH].into(),
            reachable: Some(true),
            links: Some(Ok(())).filter(|_| !world.dead),
            lag: Some(SignedDuration::ZERO),
            reach,
        }],
        compared: None,
        uncompared: Vec::new(),
        routers_behind: Some(behind.into_iter().map(router).collect()),
        ..Seen::default()
    }
}

fn router(router: String) -> RouterBehind {
    RouterBehind {
        unit: UNITS[EAST].into(),
        router: Some(router),
    }
}

fn position(rows: u8) -> StorePosition {
    let unit = UNITS[EAST];
    StorePosition {
        store: "orders".into(),
        source: unit.into(),
        vector: vec![UnitPosition {
            unit: unit.into(),
            position: rows.to_string(),
        }],
    }
}
