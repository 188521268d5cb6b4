//! What the operator does in one pass: observe → `next` → `record` → commit, the real ones, at once.

use super::world::{EAST, Fact, UNITS, World};
use super::{Fault, Model};
use crate::common::{at, slots};
use crate::world::Table;
use jiff::SignedDuration;
use multiactive_core::promotion::{
    Budgets, FenceSeen, MemberSeen, Move, Operation, Outcome, Reach, Request, RoutersSeen, Seen, SourceSeen, Step,
    StorePosition, TargetSeen, UnitPosition, UnitReady, Verify, admit, next, record,
};

/// The number of an operation.
pub(super) fn number(op: &Operation) -> u8 {
    op.uid.as_str().trim_start_matches("uid-").parse().unwrap()
}

fn request(number: u8, target: usize) -> Request {
    Request {
        uid: format!("uid-{number}").into(),
        name: format!("move-{number}"),
        target: UNITS[target].into(),
        select: vec![("users".into(), slots("0"))],
        stores: Vec::new(),
        expected_epoch: u64::MAX,
        verify: Verify::None,
        budgets: Budgets {
            fence: SignedDuration::from_secs(10),
            drain: SignedDuration::from_secs(30),
        },
    }
}

/// The positions that the record of an operation holds; a unit that is not in it has none to reach.
pub(super) fn positions(op: &Operation) -> Option<[u8; 3]> {
    let mut positions = [0; 3];
    for at in &op.positions.first()?.vector {
        let unit = UNITS.iter().position(|unit| *unit == at.unit.as_str()).unwrap();
        positions[unit] = at.position.parse().unwrap();
    }
    Some(positions)
}

/// What the source reported of its fence for this operation at this step.
pub(super) fn fence_of(world: &World, op: &Operation) -> Option<[u8; 3]> {
    let source = UNITS.iter().position(|unit| *unit == op.sources()[0].as_str())?;
    match world.units[source].report? {
        (of, epoch, Fact::Fenced(positions)) if of == number(op) && epoch == op.epoch => Some(positions),
        (_, _, Fact::Fenced(_) | Fact::Reached | Fact::Opened) => None,
    }
}

fn position(source: usize, positions: [u8; 3]) -> StorePosition {
    let order = std::iter::once(source).chain((EAST..3).filter(|unit| *unit != source));
    let vector = order.map(|unit| UnitPosition {
        unit: UNITS[unit].into(),
        position: positions[unit].to_string(),
    });
    StorePosition {
        store: "orders".into(),
        source: UNITS[source].into(),
        vector: vector.collect(),
    }
}

/// One pass; a late one counts only where it ends the operation or publishes its positions.
pub(super) fn pass(model: &Model, world: &mut World, late: bool) {
    let mut table = world.ledger.get().clone();
    let Some(op) = table.operations.first().cloned() else {
        let Some(target) = model.targets.get(usize::from(world.asked)).filter(|_| !late) else {
            return;
        };
        // Where an earlier one was aborted, the slot may be there already.
        if let Ok(op) = admit(&table, &request(world.asked, *target), at(0)) {
            table.epoch = table.epoch.next();
            table.operations.push(op);
            world.ledger = Table::new(table);
        }
        world.asked += 1;
        return;
    };
    let movement = next(&op, &observe(model, world, &op), at(if late { 1000 } else { 0 }));
    let ends = matches!(movement, Move::End(Outcome::Aborted { .. } | Outcome::Refused { .. }));
    let publishes = matches!(&movement, Move::Enter { step: Step::Drain, .. });
    let counts = if late { ends || publishes } else { !ends };
    if counts && let Some(changed) = record(&table, &op.uid, &movement, at(0)).unwrap() {
        world.ledger = Table::new(changed);
    }
}

fn observe(model: &Model, world: &World, op: &Operation) -> Seen {
    let fact = |unit: usize| {
        let report = world.units[unit].report;
        let report = report.filter(|(of, epoch, _)| *of == number(op) && *epoch == op.epoch);
        report.map(|(_, _, fact)| fact)
    };
    let is = |unit: usize, name: &multiactive_core::ids::UnitName| UNITS[unit] == name.as_str();
    let place = |name: &multiactive_core::ids::UnitName| (0..3).find(|unit| is(*unit, name)).unwrap();
    let target = place(&op.target);
    let source = place(op.sources()[0]);
    let member = |unit: usize| {
        let away = world.units[unit].away;
        let skipped = unit == target && away && model.has(Fault::TargetMayBeBehind);
        MemberSeen {
            unit: UNITS[unit].into(),
            reachable: Some(!away || skipped),
            links: Some(Ok(())).filter(|_| !away),
            lag: Some(SignedDuration::ZERO).filter(|_| !away),
            reach: (skipped || fact(unit) == Some(Fact::Reached)).then_some(Reach::Reached),
        }
    };
    Seen {
        abort: None,
        stores: Some(Vec::new()),
        target: Some(TargetSeen {
            cordoned: false,
            ready: Some(UnitReady::Ready).filter(|_| !world.units[target].away),
            applied: Some(op.epoch).filter(|_| fact(target) == Some(Fact::Opened)),
            problem: None,
        }),
        sources: vec![SourceSeen {
            unit: UNITS[source].into(),
            routers: Some(RoutersSeen {
                count: 1,
                behind: Vec::new(),
                in_flight: None,
            }),
            fence: match fact(source) {
                Some(Fact::Fenced(positions)) => Some(FenceSeen {
                    epoch: op.epoch,
                    positions: vec![position(source, positions)],
                }),
                Some(Fact::Reached | Fact::Opened) | None => None,
            },
            links: Some(Ok(())).filter(|_| !world.units[source].away),
            problem: None,
        }],
        members: (0..3).filter(|unit| *unit != source).map(member).collect(),
        compared: None,
        uncompared: Vec::new(),
        routers_behind: Some(Vec::new()),
        ..Seen::default()
    }
}
