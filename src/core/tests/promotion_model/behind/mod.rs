//! Members that are away, model-checked: promotions go on without them, and no member ever applies a write of a new
//! owner before all writes of the owners before it.
//!
//! Smaller than the other model in what parts do (each acts at once on the present record; crashes, retries and two
//! operators are looked at there), larger in how rows travel: three units, six streams in the order of their logs, any
//! of them as slow as can be, and slots that go on to a third unit or back while somebody is still behind.

mod operator;
mod world;

use crate::common::slots;
use crate::world::{MOVED, Table};
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Outcome, Step};
use multiactive_core::span::SpanState;
use multiactive_core::table::{KeyspaceTable, RoutingTable, TableUnit};
use stateright::{Checker, HasDiscoveries, Model as _, Property};
use std::collections::BTreeSet;
use world::{EAST, Entry, Fact, NORTH, SOUTH, UNITS, Unit, World};

const ORDER: &str = "at every member, writes of an owner come after all writes of the owners before it";
const ONE_WRITER: &str = "the slot is open in one unit at most";
const ENDS: &str = "every promotion ends, or waits forward for its target, and everything arrives everywhere";

/// A fault planted to see that the checker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Who is behind applies the new owner's writes as they come.
    NoBarrier,
    /// The operator does not wait for a target that is away either.
    TargetMayBeBehind,
    /// A store opens without the record that it has applied the positions.
    OpensUnproven,
}

#[derive(Clone, Debug)]
struct Model {
    faults: &'static [Fault],
    /// The targets of the promotions, one after the other.
    targets: &'static [usize],
    writes: u8,
    /// How often the operator's view of whether south is away changes.
    turns: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// One pass of the operator; with `true`, past every budget.
    Pass(bool),
    /// A unit's agent brings its store to the record, and reports.
    Act(usize),
    /// A client writes to a unit that is open.
    Write(usize),
    /// The first applies the next entry of the second's log.
    Apply(usize, usize),
    /// South's member cluster goes away or comes back, as far as the operator can tell.
    Turn,
}

impl Model {
    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    fn act(&self, world: &mut World, number: usize) {
        let table = world.ledger.clone();
        let span = table.span(MOVED);
        let op = table.operation(MOVED);
        let unit = &mut world.units[number];
        // A source fences at Hold already: no write is under way in this world.
        let holds = op.is_some_and(|op| op.step == Step::Hold && op.sources().contains(&&UNITS[number].into()));
        let owns = span.is_owned_by(&UNITS[number].into()) && span.state.is_open() && !holds;
        if !owns {
            (unit.open, unit.epoch) = (None, span.epoch);
        } else if unit.open.is_some() {
            unit.epoch = span.epoch;
        } else {
            let brought = op.filter(|op| op.step == Step::Open);
            let proven = brought.is_none_or(|op| unit.reached == Some(operator::number(op)));
            if proven || self.has(Fault::OpensUnproven) {
                unit.epoch = span.epoch;
                if let Some(op) = brought {
                    // In one transaction: the opening stands in the log before any write that it lets in.
                    unit.log
                        .push(Entry::Opening(operator::positions(op).unwrap_or_default()));
                }
                // After an abort the old owner goes on in its reign, any number of times.
                unit.open = Some(
                    brought.map_or(world.ledger.get().finished.iter().filter(succeeded).count(), |_| {
                        world.ledger.get().finished.iter().filter(succeeded).count() + 1
                    }) as u8,
                );
            }
        }
        let Some(op) = op else { return };
        let source = op.sources().contains(&&UNITS[number].into());
        let followed = operator::fence_of(world, op).filter(|_| op.behind.is_empty());
        let unit = &mut world.units[number];
        let fact = match op.step {
            Step::Hold | Step::Fence if source => {
                let mut positions = unit.applied;
                positions[number] = unit.log.len() as u8;
                Some(Fact::Fenced(positions))
            }
            // What the fence wrote stands in the source's log after all that it let pass.
            Step::Hold | Step::Fence => {
                let reached = followed.is_some_and(|positions| unit.has_applied(number, &positions));
                reached.then_some(Fact::Reached)
            }
            Step::Drain if !source => {
                let reached = operator::positions(op).is_some_and(|positions| unit.has_applied(number, &positions));
                reached.then_some(Fact::Reached)
            }
            Step::Open if unit.open.is_some() && op.target.as_str() == UNITS[number] => Some(Fact::Opened),
            Step::Check
            | Step::Prepare
            | Step::Verify
            | Step::Cut
            | Step::Drain
            | Step::Commit
            | Step::Open
            | Step::Settle => None,
        };
        if fact == Some(Fact::Reached) {
            unit.reached = Some(operator::number(op));
        }
        if let Some(fact) = fact {
            unit.report = Some((operator::number(op), op.epoch, fact));
        }
    }

    fn apply(&self, world: &mut World, to: usize, from: usize) {
        let next = usize::from(world.units[to].applied[from]);
        match world.units[from].log.get(next).cloned() {
            None => return,
            Some(Entry::Write(reign)) => world.disordered |= !world.holds_before(to, reign),
            Some(Entry::Opening(mut positions)) => {
                // What comes in the same stream is there by its order.
                positions[from] = 0;
                if !world.units[to].has_applied(to, &positions) && !self.has(Fault::NoBarrier) {
                    return;
                }
            }
        }
        world.units[to].applied[from] += 1;
    }
}

fn succeeded(done: &&multiactive_core::promotion::Finished) -> bool {
    done.outcome == Outcome::Succeeded
}

impl stateright::Model for Model {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let epoch = Epoch::new(1, 1);
        let mut users = KeyspaceTable::unowned("users".into(), 2);
        users.set(&slots("0-1"), Some(&UNITS[EAST].into()), SpanState::Serving, epoch);
        let unit = |name: &str| TableUnit {
            name: name.into(),
            router: format!("https://{name}"),
        };
        let store = |open| Unit {
            away: false,
            epoch,
            open,
            log: Vec::new(),
            applied: [0; 3],
            reached: None,
            report: None,
        };
        vec![World {
            ledger: Table::new(RoutingTable {
                epoch,
                units: UNITS.map(unit).into(),
                keyspaces: vec![users],
                ..RoutingTable::default()
            }),
            units: [store(Some(0)), store(None), store(None)],
            asked: 0,
            writes_left: self.writes,
            turns_left: self.turns,
            disordered: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend([Action::Pass(false), Action::Pass(true)]);
        if world.turns_left > 0 {
            actions.push(Action::Turn);
        }
        for unit in 0..3 {
            actions.push(Action::Act(unit));
            if world.writes_left > 0 && world.units[unit].open.is_some() {
                actions.push(Action::Write(unit));
            }
            actions.extend(
                (0..3)
                    .filter(|from| *from != unit)
                    .map(|from| Action::Apply(unit, from)),
            );
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Pass(late) => operator::pass(self, &mut world, late),
            Action::Act(unit) => self.act(&mut world, unit),
            Action::Write(unit) => {
                let reign = world.units[unit].open?;
                world.writes_left -= 1;
                world.disordered |= !world.holds_before(unit, reign);
                world.units[unit].log.push(Entry::Write(reign));
            }
            Action::Apply(to, from) => self.apply(&mut world, to, from),
            Action::Turn => {
                world.turns_left -= 1;
                world.units[SOUTH].away = !world.units[SOUTH].away;
            }
        }
        Some(world).filter(|world| world != before)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ORDER, |_, world: &World| !world.disordered),
            Property::always(ONE_WRITER, |_, world: &World| {
                world.units.iter().filter(|unit| unit.open.is_some()).count() <= 1
            }),
            Property::eventually(ENDS, |model: &Self, world: &World| {
                let Some(op) = world.ledger.operation(MOVED) else {
                    return usize::from(world.asked) == model.targets.len() && world.even();
                };
                // After the commit point it waits forward for its target.
                let gone = world.turns_left == 0 && world.units[SOUTH].away;
                op.step > Step::Commit && op.target.as_str() == UNITS[SOUTH] && gone
            }),
            // What must be possible, or the rest would say nothing.
            Property::sometimes(
                "a member that was behind holds everything in the end",
                |_, world: &World| {
                    let behind = |done: &multiactive_core::promotion::Finished| done.behind == [UNITS[SOUTH].into()];
                    world.ledger.get().finished.iter().any(behind) && world.writes_left == 0 && world.even()
                },
            ),
            Property::sometimes("the barrier holds a write back", |_, world: &World| {
                let waits = |from: usize| {
                    let next = usize::from(world.units[SOUTH].applied[from]);
                    let rest = world.units[from].log.get(next..).unwrap_or_default();
                    match rest {
                        [Entry::Opening(positions), Entry::Write(_), ..] => {
                            !world.units[SOUTH].has_applied(SOUTH, positions)
                        }
                        [Entry::Opening(_) | Entry::Write(_), ..] | [] => false,
                    }
                };
                waits(NORTH) || waits(EAST)
            }),
        ]
    }
}

/// East's slot goes north, and on to south, which may have been behind: it gets it only when it is not any more.
fn onward() -> Model {
    Model {
        faults: &[],
        targets: &[NORTH, SOUTH],
        writes: 2,
        turns: 2,
    }
}

/// East's slot goes north and back while south is behind: two openings in two streams, each of which waits for the
/// other stream.
fn back() -> Model {
    Model {
        targets: &[NORTH, EAST],
        ..onward()
    }
}

#[test]
fn who_is_away_blocks_no_promotion_and_gets_all_writes_in_the_order_of_their_owners() {
    for model in [onward(), back()] {
        let start = std::time::Instant::now();
        let checker = model.clone().checker().spawn_bfs().join();
        let worlds = checker.unique_state_count();
        println!("{:?}: {worlds} worlds, {:?}", model.targets, start.elapsed());
        checker.assert_properties();
        assert!(worlds > 10_000, "the model must not be vacuous: {worlds} worlds");
    }
}

#[test]
fn every_fault_planted_about_members_that_are_behind_is_found() {
    let rows: [(&'static [Fault], Model, &str); 4] = [
        (&[Fault::NoBarrier], onward(), ORDER),
        (&[Fault::NoBarrier], back(), ORDER),
        (&[Fault::TargetMayBeBehind, Fault::OpensUnproven], onward(), ORDER),
        (&[Fault::TargetMayBeBehind], onward(), ENDS),
    ];
    for (faults, model, property) in rows {
        let model = Model { faults, ..model };
        let until = HasDiscoveries::AnyOf(BTreeSet::from([property]));
        let checker = model.checker().finish_when(until).spawn_bfs().join();
        println!("{faults:?}: {} worlds", checker.unique_state_count());
        assert!(
            checker.discoveries().contains_key(property),
            "{faults:?} do not break `{property}`"
        );
    }
}
