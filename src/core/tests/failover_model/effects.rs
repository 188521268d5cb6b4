//! What each action of the model does to the world: agents, leases, logs and the ledger.

use super::model::{Fault, Model};
use super::world::{EAST, Fact, Lease, NORTH, SOUTH, UNITS, Unit, World, Write, place};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::OperationUid;
use multiactive_core::promotion::{Operation, Step};

impl Model {
    /// A lease grants nothing of its own accord: its deadline is extended only by its agent, and only once that has
    /// brought the databases to the table of the grant.
    pub(super) fn extend(&self, unit: &mut Unit, lease: Lease) {
        let brought = unit.store.table >= lease.at || self.has(Fault::ExtendsBeforeTable);
        unit.extending = false;
        unit.window |= brought;
    }

    pub(super) fn end(&self, world: &mut World, unit: usize) {
        world.ended[unit] = true;
        if !self.keep_serving {
            (world.units[unit].window, world.units[unit].extending) = (false, false);
        }
    }

    pub(super) fn act(&self, world: &mut World, number: usize) {
        let table = match number {
            EAST => world.units[EAST].projection.clone(),
            _ => world.ledger.clone(),
        };
        let unit = &mut world.units[number];
        let mut opened_before = [false; 2];
        for (slot, before) in opened_before.iter_mut().enumerate().take(self.slots) {
            let span = table.span(slot);
            *before = unit.store.open[slot];
            let owns = span.is_owned_by(&UNITS[number].into()) && span.state.is_open();
            let op = table.operation(slot).filter(|op| op.step == Step::Open);
            let proven = op.is_none_or(|op| unit.store.reached.contains(&op.uid));
            // A database refuses what is older than what it holds.
            if span.epoch < unit.store.epochs[slot] || (owns && !proven) {
                continue;
            }
            unit.store.open[slot] = owns;
            // The others act on nothing old.
            if number == EAST {
                unit.store.epochs[slot] = span.epoch;
            }
        }
        // Where no lease is looked at, it does not matter.
        if self.leased().contains(&number) {
            unit.store.table = unit.store.table.max(table.epoch());
        }
        for op in &table.get().operations {
            self.answer(world, number, op, opened_before);
        }
        Self::forget(world);
    }

    /// What was reported for an epoch that is over never counts again, so such worlds are one.
    fn forget(world: &mut World) {
        let table = world.ledger.clone();
        let current = |uid: &OperationUid, epoch: Epoch| table.get().operation(uid).is_some_and(|op| op.epoch == epoch);
        for unit in &mut world.units {
            unit.reports.retain(|(uid, epoch, _)| current(uid, *epoch));
            unit.store.reached.retain(|uid| table.get().operation(uid).is_some());
        }
    }

    fn answer(&self, world: &mut World, number: usize, op: &Operation, opened_before: [bool; 2]) {
        let lost = place(op.lost().unwrap().as_str());
        let marker = fence_of(world, lost, op);
        let tail = op.failover.as_ref().and_then(|failover| failover.tail.as_ref());
        let tail = tail.map(|tail| &world.units[place(tail.from.as_str())]);
        let tail = tail.map(|from| (from.up && from.cut[lost], from.applied[lost]));
        let unit = &mut world.units[number];
        let slot = usize::from(op.moves[0].slots.iter().next().unwrap());
        let target = op.target.as_str() == UNITS[number];
        let fact = match op.step {
            Step::Fence if number == lost => Some(Fact::Fenced(unit.log, opened_before[slot])),
            Step::Fence => marker
                .is_some_and(|log| unit.applied[lost] >= log)
                .then_some(Fact::Reached),
            Step::Cut if number != lost => {
                unit.cut[lost] |= !self.has(Fault::NoCut);
                // The copy looks at both ends, in one moment.
                let has = match tail {
                    Some((true, had)) if target => unit.applied[lost].max(had),
                    Some(_) | None => unit.applied[lost],
                };
                if !self.has(Fault::SaysTaken) {
                    unit.applied[lost] = has;
                }
                Some(Fact::Cut(has))
            }
            Step::Drain if number != lost => {
                let wanted: Option<u8> = op.positions.first().and_then(|at| at.vector[0].position.parse().ok());
                let lies = self.has(Fault::SaysTaken) && tail.is_some() && target;
                wanted
                    .is_some_and(|wanted| unit.applied[lost] >= wanted || lies)
                    .then_some(Fact::Reached)
            }
            Step::Open if target && unit.store.open[slot] => Some(Fact::Opened),
            Step::Check
            | Step::Prepare
            | Step::Verify
            | Step::Hold
            | Step::Cut
            | Step::Drain
            | Step::Commit
            | Step::Open
            | Step::Settle => None,
        };
        let Some(fact) = fact else { return };
        if matches!((op.step, fact), (Step::Drain, Fact::Reached)) && !unit.store.reached.contains(&op.uid) {
            unit.store.reached.push(op.uid.clone());
        }
        unit.report(&op.uid, op.epoch, fact);
    }

    pub(super) fn replicate(&self, world: &mut World, to: usize, from: usize) {
        if world.units[to].cut[from] || world.units[to].applied[from] >= world.units[from].log {
            return;
        }
        world.units[to].applied[from] += 1;
        let table = world.ledger.get();
        let lost = |op: &&Operation| op.lost().is_some_and(|lost| lost.as_str() == UNITS[from]);
        let running = table.operations.iter().filter(lost).filter(|op| op.step >= Step::Drain);
        let behind = running
            .map(|op| &op.behind)
            .chain(table.finished.iter().map(|done| &done.behind));
        let known: Vec<_> = behind.flatten().collect();
        let over = multiactive_core::quarantine::is_quarantined(table, &UNITS[from].into());
        world.leaked |= over && !known.contains(&&UNITS[to].into());
    }

    pub fn arrive(&self, world: &mut World, at: usize) {
        match world.writes.remove(at) {
            Write::Table { base, table } => {
                if base == world.ledger.epoch() {
                    world.regressed |= table.epoch() <= world.ledger.epoch();
                    world.ledger = table;
                    Self::forget(world);
                    let up = |world: &World, unit: usize| self.prompt && world.units[unit].up;
                    for unit in NORTH..=SOUTH {
                        if up(world, unit) {
                            self.act(world, unit);
                        }
                    }
                }
            }
            Write::Lease { unit, read, lease } => {
                if world.leases[unit] == read || self.has(Fault::LeaseNotCompared) {
                    world.leases[unit] = lease;
                    world.ended[unit] = false;
                }
            }
        }
    }
}

/// How long the lost unit's log was when it fenced itself for this operation.
pub fn fence_of(world: &World, lost: usize, op: &Operation) -> Option<u8> {
    let mut reports = world.units[lost].reports.iter();
    reports.find_map(|(of, epoch, fact)| match fact {
        Fact::Fenced(log, _) if *of == op.uid && *epoch == op.epoch => Some(*log),
        Fact::Fenced(..) | Fact::Cut(_) | Fact::Reached | Fact::Opened => None,
    })
}
