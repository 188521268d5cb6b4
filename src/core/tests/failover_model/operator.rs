//! What an operator does: observe, `choose` and `begin`, or `next` and `record`, all the real ones; and what the table
//! wants of a lease. Only the reading is modelled.

use super::model::{Fault, Model, Pass};
use super::world::{EAST, Fact, Lease, NORTH, SOUTH, Table, UNITS, World, Write, place};
use crate::common::{at, slots};
use jiff::SignedDuration;
use multiactive_core::epoch::Epoch;
use multiactive_core::lease::Mode;
use multiactive_core::promotion::{
    Accepted, Candidate, Choosing, CutSeen, Decision, DecisionKind, FAILOVER_BUDGETS, FailoverRange, FailoverRequest,
    FailoverSeen, FenceSeen, HookSaid, HookSeen, LeaseEnd, LeaseSeen, MemberSeen, Move, MovingStore, Operation,
    Progress, Reach, Received, RenewalSeen, Seen, Since, SourceSeen, StorePosition, TargetSeen, UnitPosition,
    UnitReady, begin, choose, is_divided, next, record,
};
use multiactive_core::quarantine::{LeaseWanted, is_quarantined, lease_wanted, lost};
use multiactive_core::rejoin::{self, ReturnSeen};
use multiactive_core::table::RoutingTable;

fn store() -> MovingStore {
    MovingStore {
        store: "orders".into(),
        keyspace: "users".into(),
        members: UNITS.map(Into::into).into(),
    }
}

fn seconds(writes: u8) -> SignedDuration {
    SignedDuration::from_secs(i64::from(writes))
}

fn candidate(world: &World, unit: usize) -> Candidate {
    // Nobody hands on here what a survivor lacks, so who was behind stays so.
    let mut finished = world.ledger.get().finished.iter();
    let behind = finished.find(|done| done.behind.contains(&UNITS[unit].into()));
    Candidate {
        unit: UNITS[unit].into(),
        cordoned: false,
        reachable: Some(world.units[unit].up),
        ready: Some(UnitReady::Ready).filter(|_| world.units[unit].up),
        behind: behind.map(|done| format!("not compared since {}", done.name)),
    }
}

/// The slots have different first failover units.
fn ranges() -> Vec<FailoverRange> {
    let range = |slot: &str, units: [usize; 3]| FailoverRange {
        name: format!("r{slot}"),
        keyspace: "users".into(),
        slots: slots(slot),
        units: units.map(|unit| UNITS[unit].into()).into(),
    };
    vec![range("0", [EAST, NORTH, SOUTH]), range("1", [EAST, SOUTH, NORTH])]
}

fn request(model: &Model, world: &World) -> Option<FailoverRequest> {
    let lost = *model.lost.get(usize::from(world.asked))?;
    let ranges: Vec<_> = ranges().into_iter().take(model.slots).collect();
    let candidates: Vec<_> = (EAST..=SOUTH).map(|unit| candidate(world, unit)).collect();
    let placement = choose(Choosing {
        table: world.ledger.get(),
        lost: &UNITS[lost].into(),
        target: model.named.then_some(&UNITS[NORTH].into()),
        ranges: &ranges,
        candidates: &candidates,
        stores: &[store()],
    });
    Some(FailoverRequest {
        uid: format!("uid-{}", world.asked).into(),
        name: format!("lost-{}", world.asked),
        lost: UNITS[lost].into(),
        fences: false,
        named: model.named,
        placement,
        stores: vec![store()],
        expected_epoch: u64::MAX,
        max_data_loss: SignedDuration::ZERO,
        budgets: FAILOVER_BUDGETS,
    })
}

/// Whether the next failover may be asked for: the one before has ended, or its target is gone.
fn may_ask(model: &Model, world: &World) -> bool {
    let idle = world.ledger.get().operations.is_empty();
    let gone = model.north_dies && world.asked == 1 && !world.units[NORTH].up;
    usize::from(world.asked) < model.lost.len() && (idle || gone)
}

pub fn decide(model: &Model, world: &mut World, pass: Pass, place: usize) {
    let table = world.ledger.get();
    let after = if may_ask(model, world) && pass == Pass::Plain {
        let begun = request(model, world).and_then(|request| begin(table, &request, at(0)).ok());
        // Asking is the object that a person makes; it exists whether the write succeeds or not.
        begun.filter(|_| place == 0)
    } else if let Some(op) = table.operations.get(place) {
        let movement = next(op, &observe(model, world, op, pass), time(pass));
        record(table, &op.uid, &movement, at(0)).unwrap()
    } else if model.rejoins && is_quarantined(table, &UNITS[EAST].into()) && pass == Pass::Plain {
        let word = Accepted {
            by: "alice".to_owned(),
            reason: "INC-9".to_owned(),
        };
        // Its agent makes its rows those of the owners once there is a word.
        let seen = ReturnSeen {
            listed: true,
            found: None,
            word: Some(word),
            equal: true,
        };
        rejoin::next(table, &UNITS[EAST].into(), &seen)
    } else {
        None
    };
    let Some(mut after) = after else { return };
    if model.has(Fault::QuarantineForgotten) {
        after.quarantined.clear();
    }
    if model.has(Fault::StaleGrant) {
        after.leases.iter_mut().for_each(|grant| grant.at = Epoch::new(1, 1));
    }
    if after.operations.len() > table.operations.len() || after.finished.len() > table.finished.len() {
        world.asked = world.asked.max(asked(&after));
    }
    let write = Write::Table {
        base: table.epoch,
        table: Table::new(after),
    };
    push(model, world, write);
}

/// How many failovers the table knows of.
fn asked(table: &RoutingTable) -> u8 {
    let running = table.operations.iter().map(|op| op.object());
    let done = table.finished.iter().map(|done| done.uid.object());
    let numbers = running
        .chain(done)
        .map(|uid| uid.as_str().trim_start_matches("uid-").parse::<u8>().unwrap() + 1);
    numbers.max().unwrap_or(0)
}

fn push(model: &Model, world: &mut World, write: Write) {
    if model.hands == 0 {
        world.writes.push(write);
        model.arrive(world, 0);
    } else if !world.writes.contains(&write) {
        world.writes.push(write);
        world.writes.sort_unstable();
    }
}

/// Brings a lease to what the table wants, where it stands at something older.
pub fn lease(model: &Model, world: &mut World, unit: usize) {
    let read = world.leases[unit];
    let wanted = lease_wanted(world.ledger.get(), &UNITS[unit].into());
    let (at, sealed) = match wanted {
        LeaseWanted::Sealed(seal) => (seal.at, true),
        LeaseWanted::Granted { at } => (at, false),
    };
    let newer = at > read.at || (model.has(Fault::StaleGrant) && sealed != read.sealed);
    if newer {
        let lease = Lease { at, sealed, ..read };
        push(model, world, Write::Lease { unit, read, lease });
    }
}

fn time(pass: Pass) -> jiff::Timestamp {
    at(if pass == Pass::Late { 1000 } else { 0 })
}

/// The real `next` on what an operator sees.
pub fn move_of(model: &Model, world: &World, op: &Operation, pass: Pass) -> Move {
    next(op, &observe(model, world, op, pass), time(pass))
}

fn observe(model: &Model, world: &World, op: &Operation, pass: Pass) -> Seen {
    let lost_unit = place(op.lost().unwrap().as_str());
    let target = place(op.target.as_str());
    let fact = |unit: usize| {
        let mut reports = world.units[unit].reports.iter();
        let mine = reports.find(|(of, epoch, _)| *of == op.uid && *epoch == op.epoch);
        mine.map(|(_, _, fact)| *fact)
    };
    let fence = match fact(lost_unit) {
        Some(Fact::Fenced(log, opened)) => Some((log, opened)),
        Some(Fact::Cut(_) | Fact::Reached | Fact::Opened) | None => None,
    };
    let members = (EAST..=SOUTH).filter(|unit| *unit != lost_unit);
    let members = members.map(|unit| MemberSeen {
        unit: UNITS[unit].into(),
        reachable: Some(world.units[unit].up),
        links: Some(Ok(())),
        lag: None,
        reach: Some(Reach::Reached).filter(|_| fact(unit) == Some(Fact::Reached)),
    });
    let mut decisions = Vec::new();
    let mut decide = |kind, given: bool| {
        if given {
            decisions.push(Decision {
                kind,
                target: UNITS[lost_unit].to_owned(),
                by: "alice".to_owned(),
                reason: "INC-7".to_owned(),
                not_after: None,
            });
        }
    };
    decide(
        DecisionKind::ConfirmFenced,
        world.confirmed && lost_unit == EAST && !world.units[EAST].up,
    );
    decide(DecisionKind::AcceptDataLoss, world.accepted);
    Seen {
        abort: (pass == Pass::Abort).then(|| "INC-8".to_owned()),
        stores: Some(vec![store()]),
        target: Some(TargetSeen {
            cordoned: false,
            ready: Some(match world.units[target].up {
                true => UnitReady::Ready,
                false => UnitReady::NotReady("gone".to_owned()),
            }),
            applied: Some(op.epoch).filter(|_| fact(target) == Some(Fact::Opened)),
            problem: None,
        }),
        sources: vec![SourceSeen {
            unit: UNITS[lost_unit].into(),
            routers: None,
            fence: fence.map(|(log, _)| FenceSeen {
                epoch: op.epoch,
                positions: vec![position(lost_unit, log)],
            }),
            links: None,
            problem: None,
        }],
        members: members.collect(),
        routers_behind: Some(Vec::new()),
        lost: lost(world.ledger.get()),
        decisions,
        failover: FailoverSeen {
            lease: Some(lease_seen(model, world, lost_unit)),
            unsealed: None,
            hook: hook_seen(model, world, op),
            opened: fence.map(|(_, opened)| opened),
            cuts: cuts(model, world, op, lost_unit, fact),
            divided: is_divided(world.ledger.get(), op),
            untaken: None,
            candidates: (EAST..=SOUTH).map(|unit| candidate(world, unit)).collect(),
        },
        since: Since {
            unready: Some(at(0)).filter(|_| !world.units[target].up),
            fenced: fence.map(|_| at(0)),
            ..Since::default()
        },
        ..Seen::default()
    }
}

/// What operators know of the hook. What it said of this operation is true, as a person's word is: east stays off. What it said
/// of an earlier one says nothing of now, and is for the machine to sort out.
fn hook_seen(model: &Model, world: &World, op: &Operation) -> Option<HookSeen> {
    let mine = (op.uid.clone(), op.epoch);
    let said = world
        .hooked
        .clone()
        .filter(|said| *said != mine || !world.units[EAST].up);
    let answer = |(operation, epoch), said| HookSeen {
        operation,
        epoch,
        by: "pdu".to_owned(),
        said,
    };
    let yes = || HookSaid::Fenced("off".to_owned());
    let seen = match said {
        Some(_) if model.has(Fault::HookOfAnother) => answer(mine, yes()),
        Some(said) => answer(said, yes()),
        None if model.has(Fault::HookSilent) => answer(mine, yes()),
        None => answer(mine, HookSaid::NoAnswer("no answer".to_owned())),
    };
    Some(seen).filter(|_| model.hook)
}

fn lease_seen(model: &Model, world: &World, unit: usize) -> LeaseSeen {
    let lease = world.leases[unit];
    let end = match world.ended[unit] {
        true => LeaseEnd::Ago(SignedDuration::ZERO),
        false => LeaseEnd::In(seconds(9)),
    };
    let over = LeaseEnd::Ago(SignedDuration::ZERO);
    let whenever = Epoch::new(9, 9);
    let sealed = match (lease.sealed, end) {
        (true, _) if model.has(Fault::FenceUnproven) => Some((lease.at, over)),
        (true, end) if model.has(Fault::AnyEpoch) => Some((whenever, end)),
        (true, end) => Some((lease.at, end)),
        (false, _) => Some((whenever, over)).filter(|_| model.has(Fault::CommitBeforeSeal)),
    };
    LeaseSeen {
        mode: match model.keep_serving && !model.has(Fault::EndUnderKeepServing) {
            true => Mode::KeepServing,
            false => Mode::Fence,
        },
        // No slack beyond what has passed: the tightest bound that may be.
        length: SignedDuration::ZERO,
        fences_soon: false,
        unenforced: Vec::new(),
        sealed,
        renewals: Some(lease)
            .filter(|lease| lease.renewed > 0)
            .map(|lease| RenewalSeen {
                age: seconds(world.units[unit].log - lease.position),
                since: Some(seconds(world.units[unit].log - lease.position))
                    .filter(|_| model.watched)
                    .or(Some(SignedDuration::ZERO).filter(|_| model.has(Fault::UnknownIsZero))),
                positions: vec![("orders".into(), progress(unit, lease.position))],
                earlier: Vec::from_iter(lease.earlier.map(|earlier| {
                    let before = match model.has(Fault::EarlierIsLast) {
                        true => SignedDuration::ZERO,
                        false => seconds(lease.position - earlier),
                    };
                    (before, vec![("orders".into(), progress(unit, earlier))])
                })),
            })
            .into_iter()
            .collect(),
    }
}

fn progress(unit: usize, at: u8) -> Progress {
    Progress {
        log: UNITS[unit].to_owned(),
        at: u64::from(at),
    }
}

fn cuts(
    model: &Model,
    world: &World,
    op: &Operation,
    lost: usize,
    fact: impl Fn(usize) -> Option<Fact>,
) -> Vec<CutSeen> {
    let blind = model.has(Fault::TargetHasLess);
    let said = (EAST..=SOUTH).filter_map(|unit| match fact(unit) {
        Some(Fact::Cut(applied)) => Some((unit, applied)),
        Some(Fact::Fenced(..) | Fact::Reached | Fact::Opened) | None => None,
    });
    let cuts = said
        .filter(|(unit, _)| world.units[*unit].up)
        .map(|(unit, applied)| CutSeen {
            unit: UNITS[unit].into(),
            epoch: op.epoch,
            stores: vec![Received {
                position: position(lost, applied),
                // Everyone else is said to have nothing.
                progress: progress(
                    lost,
                    if blind && UNITS[unit] != op.target.as_str() {
                        0
                    } else {
                        applied
                    },
                ),
            }],
            incomplete: candidate(world, unit).behind,
        });
    cuts.collect()
}

fn position(unit: usize, at: u8) -> StorePosition {
    StorePosition {
        store: "orders".into(),
        source: UNITS[unit].into(),
        vector: vec![UnitPosition {
            unit: UNITS[unit].into(),
            position: at.to_string(),
        }],
    }
}
