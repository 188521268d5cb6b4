//! What may happen in the modelled world: one variant of `Action` is one atomic step of one part.
//!
//! Each effect (publish, apply, read a position, report) is an action of its own, so a part may stop for good before
//! or after any of them, which is what a crash is; operators keep nothing, so their restart is that they decide anew.
//! A report is what was published last, so it may be late; a retry of an earlier database command may arrive at any
//! time (`Retry`), which is a lost reply.

use super::world::{EAST, Kind, MOVED, NORTH, Store, Table, UNITS, Unit, World, Write};
use crate::common::slots;
use jiff::SignedDuration;
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Budgets, Request, Verify};
use multiactive_core::span::SpanState;
use multiactive_core::table::{KeyspaceTable, RoutingTable, TableUnit};

/// A fault planted into the model's effects, to see that the checker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Stores take commands of any epoch.
    EpochIgnored,
    /// A fence returns while transactions are under way.
    FenceLeavesTransactions,
    /// The agent reads the final position before it fences.
    PositionBeforeFence,
    /// The target's agent opens as soon as the span is fenced.
    OpensAtFenced,
    /// The target's store opens without the record that it has applied the position.
    OpensUnproven,
    /// The operator takes an unknown reach for Reached.
    UnknownIsReached,
    /// The operator takes an unknown number of writes in flight for none.
    UnknownIsQuiet,
    /// The agent takes a unit without a connected router for one without writes.
    NoRouterIsQuiet,
    /// The operator takes a fence of another operation or epoch for this one's.
    AnyFence,
    /// A target that follows the source's stream takes what any fence wrote there for this one's.
    FollowsAnyFence,
    /// The operator writes without comparing.
    NoCompareAndSwap,
    /// The operator forgets budgets: what is overdue waits on.
    BudgetForgotten,
}

/// How large the world is.
#[derive(Clone, Debug)]
pub struct Model {
    pub faults: &'static [Fault],
    /// How many promotions are asked for, each once the one before has ended.
    pub requests: u8,
    /// How many operators work at once.
    pub operators: usize,
    pub writes: usize,
    pub restarts: u8,
    /// How often the router loses its connection to its agent.
    pub leaves: u8,
    pub target_may_die: bool,
    /// Whether late retries of database commands arrive.
    pub retries: bool,
    /// Whether people may abort.
    pub aborts: bool,
}

/// What an operator knows in a pass besides the reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    Plain,
    /// Somebody decided to abort.
    Abort,
    /// Time has passed every budget. Taken back for the next pass, which is worse than any clock.
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// An operator reads ledger and reports and makes the next table.
    Decide(Pass),
    /// It commits it by compare-and-swap, or finds that it was overtaken.
    Commit(usize),
    /// The ledger's table reaches a unit's cluster.
    Project(usize),
    /// The agent brings its store to its table.
    Apply(usize),
    /// The source's agent reads a position before it fences: only a planted fault does that.
    ReadEarly,
    /// An agent finds out what its operation asks for, and publishes it.
    Report(usize),
    /// The source's router takes its cluster's table.
    Route,
    /// It loses its connection to its agent.
    Leave,
    /// It connects again.
    Return,
    /// A row of the source reaches the target.
    Replicate(usize),
    /// The router admits the first write.
    Admit,
    /// A write passes the trigger of this unit's store, or is refused by it.
    Begin(usize, usize),
    /// A transaction commits.
    CommitWrite(usize),
    /// Server and agent of a unit are killed and come back.
    Restart(usize),
    /// A database command that was sent before arrives once more.
    Retry(usize, Kind),
    /// The target is gone for good.
    Die,
}

impl Model {
    /// The promotion number `n`.
    pub fn request(n: u8) -> Request {
        Request {
            uid: format!("uid-{n}").into(),
            name: format!("move-{n}"),
            target: UNITS[NORTH].into(),
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

    /// Whether every promotion that is asked for has ended.
    pub fn all_ended(&self, world: &World) -> bool {
        let table = world.ledger.get();
        // Once the target owns the slot there is nothing left to ask for.
        let moved = world.ledger.span(MOVED).is_owned_by(&UNITS[NORTH].into());
        table.operations.is_empty() && (moved || table.finished.len() == usize::from(self.requests))
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    fn start(&self) -> World {
        let epoch = Epoch::new(1, 1);
        let mut users = KeyspaceTable::unowned("users".into(), 2);
        users.set(&slots("0-1"), Some(&UNITS[EAST].into()), SpanState::Serving, epoch);
        let unit = |name: &str| TableUnit {
            name: name.into(),
            router: format!("https://{name}"),
        };
        let ledger = Table::new(RoutingTable {
            epoch,
            units: UNITS.map(unit).into(),
            keyspaces: vec![users],
            ..RoutingTable::default()
        });
        let unit = |kind| Unit {
            projection: ledger.clone(),
            early_position: None,
            report: None,
            fence_report: None,
            sent: match kind {
                Kind::Open => [Some(epoch), None],
                Kind::Fenced => [None, Some(epoch)],
            },
            store: Store {
                epoch,
                kind,
                granted: kind == Kind::Open,
                transactions: 0,
                rows: 0,
                reached: None,
            },
        };
        World {
            units: [unit(Kind::Open), unit(Kind::Fenced)],
            router: ledger.clone(),
            connected: true,
            leaves_left: self.leaves,
            ledger,
            proposals: Vec::new(),
            writes: [Write::New; 2],
            dead: false,
            restarts_left: self.restarts,
            regressed: false,
        }
    }
}

impl stateright::Model for Model {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.start()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.proposals.len() < self.operators {
            actions.extend([Action::Decide(Pass::Plain), Action::Decide(Pass::Late)]);
            if self.aborts {
                actions.push(Action::Decide(Pass::Abort));
            }
        }
        actions.extend((0..world.proposals.len()).map(Action::Commit));
        for unit in (0..UNITS.len()).filter(|unit| world.alive(*unit)) {
            actions.extend([Action::Project(unit), Action::Apply(unit), Action::Report(unit)]);
            if world.restarts_left > 0 {
                actions.push(Action::Restart(unit));
            }
            if self.retries {
                actions.extend([Action::Retry(unit, Kind::Open), Action::Retry(unit, Kind::Fenced)]);
            }
        }
        actions.push(Action::Route);
        if !world.connected {
            actions.push(Action::Return);
        } else if world.leaves_left > 0 {
            actions.push(Action::Leave);
        }
        if self.has(Fault::PositionBeforeFence) {
            actions.push(Action::ReadEarly);
        }
        if world.alive(NORTH) {
            actions.extend((0..self.writes).map(Action::Replicate));
        }
        if self.target_may_die {
            actions.push(Action::Die);
        }
        for write in 0..self.writes {
            match world.writes[write] {
                Write::New if write == 0 => actions.push(Action::Admit),
                Write::New => actions.extend((0..UNITS.len()).map(|unit| Action::Begin(write, unit))),
                Write::Admitted => actions.push(Action::Begin(write, EAST)),
                Write::Begun(unit) if world.alive(unit) => actions.push(Action::CommitWrite(write)),
                Write::Begun(_) | Write::Committed | Write::Failed => {}
            }
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Decide(pass) => self.decide(&mut world, pass),
            Action::Commit(place) => self.commit(&mut world, place),
            Action::Project(unit) => {
                let newer = world.ledger.epoch() > world.units[unit].projection.epoch();
                if newer && Self::concerns(&world.ledger, unit) {
                    world.units[unit].projection = world.ledger.clone();
                }
            }
            Action::Apply(unit) => self.apply(&mut world, unit),
            Action::ReadEarly => {
                let unit = &mut world.units[EAST];
                unit.early_position = unit.early_position.or(Some(unit.store.rows));
            }
            Action::Report(unit) => self.report(&mut world, unit),
            Action::Route => world.router = world.units[EAST].projection.clone(),
            Action::Leave => {
                world.connected = false;
                world.leaves_left -= 1;
            }
            Action::Return => world.connected = true,
            Action::Replicate(write) => {
                let row = world.units[EAST].store.rows & (1 << write);
                world.units[NORTH].store.rows |= row;
            }
            Action::Admit => {
                let (span, agent) = (world.router.span(MOVED), &world.units[EAST]);
                // Its agent says once the store stands at a table that holds the span: after an abort it must open first.
                let ready = agent.projection.epoch() >= span.epoch && agent.applied(EAST);
                if span.is_owned_by(&UNITS[EAST].into()) && span.state == SpanState::Serving && ready {
                    world.writes[0] = Write::Admitted;
                }
            }
            // A client of its own will tries a database once that is worth trying: a refusal there changes nothing.
            Action::Begin(write, unit) => {
                if before.writes[write] == Write::Admitted || before.units[unit].store.is_open() {
                    Self::begin(&mut world, write, unit);
                }
            }
            Action::CommitWrite(write) => Self::commit_write(&mut world, write),
            Action::Restart(unit) => Self::restart(&mut world, unit),
            Action::Retry(unit, kind) => {
                let (ignore, unit) = (self.has(Fault::EpochIgnored), &mut world.units[unit]);
                match (kind, unit.sent) {
                    (Kind::Open, [Some(epoch), _]) => {
                        // The command names the server that it was meant for: a restarted one takes no old grant.
                        if unit.store.granted || ignore {
                            unit.store.open(epoch, ignore);
                        }
                    }
                    (Kind::Fenced, [_, Some(epoch)]) => {
                        unit.store
                            .fence(epoch, ignore, self.has(Fault::FenceLeavesTransactions));
                    }
                    (Kind::Open, [None, _]) | (Kind::Fenced, [_, None]) => {}
                }
            }
            Action::Die => world.dead = true,
        }
        Some(world).filter(|world| world != before)
    }

    fn properties(&self) -> Vec<stateright::Property<Self>> {
        super::properties::all()
    }
}
