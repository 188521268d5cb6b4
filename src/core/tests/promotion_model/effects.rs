//! What each action of the model does to the world: agents, stores, writes and commits.

use super::model::{Fault, Model, Pass};
use super::operators;
use super::world::{EAST, Fact, Kind, MOVED, NORTH, Proposal, Report, Table, UNITS, World, Write};
use multiactive_core::promotion::{Operation, Step};
use multiactive_core::span::SpanState;

impl Model {
    /// The agent opens or fences the moving slot, as its table says.
    pub fn apply(&self, world: &mut World, number: usize) {
        let unit = &mut world.units[number];
        let span = unit.projection.span(MOVED).clone();
        let op = unit.projection.operation(MOVED);
        let owns = span.is_owned_by(&UNITS[number].into()) && span.state.is_open();
        let early = self.has(Fault::OpensAtFenced) && number == NORTH && span.state == SpanState::Fenced;
        // A source fences at the epoch at which Hold asks, once its router has no write under way.
        let fences = op.filter(|op| number == EAST && matches!(op.step, Step::Hold | Step::Fence));
        let epoch = fences.map_or(span.epoch, |op| op.epoch);
        let held = fences.filter(|op| op.step == Step::Hold);
        // What it knows of its router it knows while that is connected.
        let quiet = |op: &Operation| match world.connected {
            true => world.router.epoch() >= op.epoch && !Self::under_way(&world.writes),
            false => self.has(Fault::NoRouterIsQuiet),
        };
        if held.is_some_and(|op| !quiet(op)) {
            return;
        }
        if held.is_none() && (owns || early) {
            // A store that takes over opens only with the record of this operation's Drain.
            let taking_over = op.filter(|op| op.step == Step::Open && span.state == SpanState::Opening);
            let allowed = taking_over.is_none_or(|op| unit.store.reached == Some(operators::number(op)));
            if !allowed && !self.has(Fault::OpensUnproven) {
                return;
            }
            unit.sent[0] = unit.sent[0].max(Some(epoch));
            unit.store.open(epoch, self.has(Fault::EpochIgnored));
        } else {
            unit.sent[1] = unit.sent[1].max(Some(epoch));
            let leave = self.has(Fault::FenceLeavesTransactions);
            unit.store.fence(epoch, self.has(Fault::EpochIgnored), leave);
        }
    }

    /// Whether a write of the router is not answered yet.
    fn under_way(writes: &[Write; 2]) -> bool {
        matches!(writes[0], Write::Admitted | Write::Begun(_))
    }

    /// Whether a table asks anything of a unit. The source has nothing new to do at Drain and Open: such a table is as
    /// good as one that has not arrived yet.
    pub fn concerns(table: &Table, unit: usize) -> bool {
        match table.operation(MOVED).map(|op| op.step) {
            Some(Step::Check | Step::Prepare | Step::Verify) => false,
            Some(Step::Hold | Step::Fence | Step::Cut) => true,
            Some(Step::Drain | Step::Commit | Step::Open) => unit == NORTH,
            Some(Step::Settle) | None => true,
        }
    }

    /// What the unit's agent knows for the operation in its table.
    fn fact(&self, world: &World, number: usize) -> Option<Fact> {
        let unit = &world.units[number];
        let op = unit.projection.operation(MOVED)?;
        let routes = world.router.epoch() >= op.epoch;
        let fenced = unit.store.kind == Kind::Fenced && unit.store.epoch == op.epoch;
        match (op.step, number) {
            (Step::Hold | Step::Fence, EAST) if fenced => {
                Some(Fact::Fenced(unit.early_position.unwrap_or(unit.store.rows)))
            }
            (Step::Hold, EAST) if !world.connected && self.has(Fault::NoRouterIsQuiet) => Some(Fact::Holds(0)),
            (Step::Hold, EAST) if routes && world.connected => {
                Some(Fact::Holds(u8::from(Self::under_way(&world.writes))))
            }
            // What the fence wrote comes in the source's stream: after its rows, with its final position.
            (Step::Hold | Step::Fence, NORTH) => {
                let marker = world.units[EAST].fence_report?;
                let mine = marker.operation == operators::number(op) && marker.epoch == op.epoch;
                let Fact::Fenced(wanted) = marker.fact else { return None };
                let arrived = wanted & !unit.store.rows == 0;
                (arrived && (mine || self.has(Fault::FollowsAnyFence))).then_some(Fact::Reached)
            }
            (Step::Settle, EAST) if routes && world.connected => Some(Fact::Routes),
            (Step::Drain, NORTH) => {
                let wanted = operators::rows_of(op)?;
                (wanted & !unit.store.rows == 0).then_some(Fact::Reached)
            }
            (Step::Open, NORTH) if unit.applied(NORTH) => Some(Fact::Opened),
            (_, _) => None,
        }
    }

    pub fn report(&self, world: &mut World, number: usize) {
        let Some(fact) = self.fact(world, number) else { return };
        let unit = &mut world.units[number];
        let Some(op) = unit.projection.operation(MOVED) else {
            return;
        };
        if fact == Fact::Reached {
            unit.store.reached = Some(operators::number(op));
        }
        let report = Report {
            operation: operators::number(op),
            epoch: op.epoch,
            fact,
        };
        match fact {
            Fact::Fenced(_) => unit.fence_report = Some(report),
            Fact::Holds(_) | Fact::Routes | Fact::Reached | Fact::Opened => unit.report = Some(report),
        }
    }

    /// A write passes the trigger, or is refused.
    pub fn begin(world: &mut World, write: usize, unit: usize) {
        let store = &mut world.units[unit].store;
        if store.is_open() {
            store.transactions |= 1 << write;
            world.writes[write] = Write::Begun(unit);
        } else {
            world.writes[write] = Write::Failed;
        }
    }

    /// A transaction that a fence or a restart ended is not there any more.
    pub fn commit_write(world: &mut World, write: usize) {
        let Write::Begun(unit) = world.writes[write] else {
            return;
        };
        let store = &mut world.units[unit].store;
        if store.transactions & (1 << write) == 0 {
            world.writes[write] = Write::Failed;
            return;
        }
        store.transactions &= !(1 << write);
        store.rows |= 1 << write;
        world.writes[write] = Write::Committed;
    }

    pub fn restart(world: &mut World, number: usize) {
        world.restarts_left -= 1;
        let unit = &mut world.units[number];
        unit.store.granted = false;
        unit.store.transactions = 0;
        unit.early_position = None;
    }

    pub fn commit(&self, world: &mut World, place: usize) {
        let proposal = world.proposals.remove(place);
        if proposal.base != world.ledger.epoch() && !self.has(Fault::NoCompareAndSwap) {
            return;
        }
        world.regressed |= proposal.table.epoch() <= world.ledger.epoch();
        world.ledger = proposal.table;
    }

    pub fn decide(&self, world: &mut World, pass: Pass) {
        if let Some(table) = operators::decide(self, world, pass) {
            let base = world.ledger.epoch();
            let proposal = Proposal {
                base,
                table: Table::new(table),
            };
            if !world.proposals.contains(&proposal) {
                world.proposals.push(proposal);
                world.proposals.sort_unstable();
            }
        }
    }
}
