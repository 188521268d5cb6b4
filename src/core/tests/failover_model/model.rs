//! What may happen in the modelled world: one variant of `Action` is one atomic step of one part.
//!
//! A crash of an operator is that nothing more comes of what it has in hand; of an agent, that its next action never comes.
//! Writes of the ledger are decided on and arrive apart, so they may be late, lost and overtaken; reports are what was said
//! last.

use super::world::{EAST, Lease, NORTH, SOUTH, Store, Table, UNITS, Unit, World};
use crate::common::slots;
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::Step;
use multiactive_core::span::SpanState;
use multiactive_core::table::{KeyspaceTable, RoutingTable, TableUnit};
use stateright::Property;

/// A fault planted to see that the checker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operator takes a lease that it has not sealed for a sealed one.
    CommitBeforeSeal,
    /// What is not known of the target's rows is taken for all of them.
    UnknownIsZero,
    /// A survivor says that it has cut off the lost unit, and has not.
    NoCut,
    /// A seal counts of whatever epoch it is.
    AnyEpoch,
    /// The end of a lease counts though its unit goes on without one.
    EndUnderKeepServing,
    /// The commit does not put the lost unit into quarantine.
    QuarantineForgotten,
    /// A lease is granted anew as of a table before the one that gave the slots back.
    StaleGrant,
    /// An agent extends the deadline before it has brought its databases to the table of the grant.
    ExtendsBeforeTable,
    /// The operator writes a lease without comparing.
    LeaseNotCompared,
    /// Survivors that have received more than the target are not asked.
    TargetHasLess,
    /// A sealed lease counts as one that is over.
    FenceUnproven,
    /// What the hook said of another operation counts.
    HookOfAnother,
    /// A hook that has not answered counts as one that said yes.
    HookSilent,
    /// The renewal before the last one counts as one of the same moment.
    EarlierIsLast,
    /// The target says that it has taken over what another survivor has received more, and has not.
    SaysTaken,
}

/// How large the world is.
#[derive(Clone, Debug)]
pub struct Model {
    pub faults: &'static [Fault],
    /// Whom the failovers call lost, one after the other.
    pub lost: &'static [usize],
    pub slots: usize,
    /// How many writes of the ledger are under way at once; with none, each arrives when it is decided on.
    pub hands: usize,
    pub writes: u8,
    pub renewals: u8,
    /// How often east is killed; it may come back.
    pub kills: u8,
    pub keep_serving: bool,
    /// Whether a hook says of east that it is fenced, in place of people.
    pub hook: bool,
    /// Whether people abort.
    pub aborts: bool,
    /// Whether north dies for good once the slot is given to it.
    pub north_dies: bool,
    /// Whether east's quarantine is lifted in the end.
    pub rejoins: bool,
    /// Whether operators have seen the renewal before the last one, and so know how old the last one's position may be.
    pub watched: bool,
    /// Whether north and south act as soon as the table changes: what they are late with is looked at elsewhere.
    pub prompt: bool,
    /// Whether budgets may run out.
    pub late: bool,
    /// Whether people name the target: north. Then no other one is chosen.
    pub named: bool,
}

/// What an operator knows in a pass besides what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    Plain,
    /// Somebody decided to abort.
    Abort,
    /// Time has passed every budget.
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// An operator looks at everything and decides on a write of the table, for the operation at this place.
    Decide(Pass, usize),
    /// An operator decides on a write of a unit's lease.
    Seal(usize),
    /// A write arrives at the ledger.
    Arrive(usize),
    /// The ledger's table reaches east's cluster. The others read it when they act.
    Project,
    /// A unit's agent brings its databases to its table, and reports.
    Act(usize),
    /// A unit renews its lease.
    Renew(usize),
    /// Its agent extends the deadline of its databases.
    Extend(usize),
    /// Time passes: the deadline is over.
    Expire(usize),
    /// Time passes: whoever renewed the sealed lease last has no more of it.
    End(usize),
    /// A write is committed, wherever that can be.
    Write(usize, usize),
    /// The first applies the next row of the second's log.
    Replicate(usize, usize),
    Kill,
    Return,
    /// North is gone for good.
    Die,
    /// A person makes sure that east is off, and says so.
    Confirm,
    /// The hook is asked about the operation that runs, makes sure that east is off, and says so.
    Hook,
    /// A person accepts the loss.
    Accept,
}

impl Model {
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// The units that may be called lost: what the leases and the logs of others are does not matter.
    pub fn leased(&self) -> &'static [usize] {
        if self.north_dies { &[EAST, NORTH] } else { &[EAST] }
    }

    /// Whether a table asks anything of east: one that does not is as good as one that has not arrived yet.
    fn concerns(table: &Table) -> bool {
        table.get().operations.iter().all(|op| match op.step {
            Step::Check | Step::Prepare | Step::Verify | Step::Hold | Step::Cut | Step::Drain => false,
            Step::Fence | Step::Commit | Step::Open | Step::Settle => true,
        })
    }

    fn start(&self) -> World {
        let epoch = Epoch::new(1, 1);
        let mut users = KeyspaceTable::unowned("users".into(), 2);
        users.set(&slots("0-1"), Some(&UNITS[EAST].into()), SpanState::Serving, epoch);
        let ledger = Table::new(RoutingTable {
            epoch,
            units: UNITS
                .map(|name| TableUnit {
                    name: name.into(),
                    router: format!("https://{name}"),
                })
                .into(),
            keyspaces: vec![users],
            ..RoutingTable::default()
        });
        let unit = |owner: bool| Unit {
            up: true,
            projection: ledger.clone(),
            store: Store {
                table: epoch,
                epochs: [epoch; 2],
                open: [owner; 2],
                reached: Vec::new(),
            },
            window: true,
            extending: false,
            log: 0,
            applied: [0; 3],
            cut: [false; 3],
            reports: Vec::new(),
        };
        let lease = Lease {
            at: Epoch::NEVER,
            sealed: false,
            renewed: 0,
            position: 0,
            earlier: None,
        };
        World {
            units: [unit(true), unit(false), unit(false)],
            ledger,
            leases: [lease; 3],
            ended: [false; 3],
            writes: Vec::new(),
            asked: 0,
            confirmed: false,
            hooked: None,
            accepted: false,
            writes_left: self.writes,
            renewals_left: self.renewals,
            kills_left: self.kills,
            regressed: false,
            leaked: false,
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
        let leased = self.leased();
        if world.writes.len() < self.hands.max(1) {
            for at in 0..world.ledger.get().operations.len().max(1) {
                actions.push(Action::Decide(Pass::Plain, at));
                if self.late {
                    actions.push(Action::Decide(Pass::Late, at));
                }
                if self.aborts {
                    actions.push(Action::Decide(Pass::Abort, at));
                }
            }
            actions.extend(leased.iter().map(|unit| Action::Seal(*unit)));
        }
        actions.extend((0..world.writes.len()).map(Action::Arrive));
        if world.units[EAST].up && Self::concerns(&world.ledger) {
            actions.push(Action::Project);
        }
        for unit in (EAST..=SOUTH).filter(|unit| world.units[*unit].up) {
            // Where everyone is prompt, what they follow may still come after their first look.
            actions.push(Action::Act(unit));
            for slot in (0..self.slots).filter(|_| world.writes_left > 0 && leased.contains(&unit)) {
                if world.units[unit].writes(slot) {
                    actions.push(Action::Write(unit, slot));
                }
            }
            for from in leased
                .iter()
                .copied()
                .filter(|from| *from != unit && world.units[*from].up)
            {
                actions.push(Action::Replicate(unit, from));
            }
        }
        for unit in leased.iter().copied() {
            let lease = world.leases[unit];
            if world.units[unit].up && !lease.sealed && world.renewals_left > 0 {
                actions.push(Action::Renew(unit));
            }
            if world.units[unit].up && world.units[unit].extending {
                actions.push(Action::Extend(unit));
            }
            if world.units[unit].window && !(self.keep_serving && world.units[unit].up) {
                actions.push(Action::Expire(unit));
            }
            if lease.sealed && !world.ended[unit] {
                actions.push(Action::End(unit));
            }
        }
        if world.kills_left > 0 && world.units[EAST].up {
            actions.push(Action::Kill);
        }
        if !world.units[EAST].up {
            actions.push(Action::Return);
            if self.keep_serving && !self.hook {
                actions.push(Action::Confirm);
            }
            if self.hook && world.fencing().is_some() {
                actions.push(Action::Hook);
            }
        }
        let given = world
            .ledger
            .operation(0)
            .is_some_and(|op| op.step == Step::Open && op.target.as_str() == UNITS[NORTH]);
        if self.north_dies && given && world.units[NORTH].up {
            actions.push(Action::Die);
        }
        let measuring = world.ledger.get().operations.iter().any(|op| op.step == Step::Cut);
        if !world.accepted && measuring {
            actions.push(Action::Accept);
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Decide(pass, at) => super::operator::decide(self, &mut world, pass, at),
            Action::Seal(unit) => super::operator::lease(self, &mut world, unit),
            Action::Arrive(at) => self.arrive(&mut world, at),
            Action::Project => world.units[EAST].projection = world.ledger.clone(),
            Action::Act(unit) => self.act(&mut world, unit),
            Action::Renew(unit) => {
                let lease = &mut world.leases[unit];
                lease.earlier = (lease.renewed > 0).then_some(lease.position);
                (lease.renewed, lease.position) = (lease.renewed + 1, world.units[unit].log);
                world.units[unit].extending = true;
                world.renewals_left -= 1;
            }
            Action::Extend(unit) => {
                let lease = world.leases[unit];
                self.extend(&mut world.units[unit], lease);
            }
            Action::Expire(unit) => world.units[unit].window = false,
            Action::End(unit) => self.end(&mut world, unit),
            Action::Write(unit, _) => {
                world.units[unit].log += 1;
                world.writes_left -= 1;
            }
            Action::Replicate(to, from) => self.replicate(&mut world, to, from),
            Action::Kill => {
                world.kills_left -= 1;
                let east = &mut world.units[EAST];
                // A server that starts holds no grant.
                (east.up, east.window, east.extending) = (false, false, false);
            }
            Action::Return => world.units[EAST].up = true,
            Action::Confirm => world.confirmed = true,
            Action::Hook => world.hooked = world.fencing(),
            Action::Die => {
                world.units[NORTH].up = false;
                world.units[NORTH].window = false;
            }
            Action::Accept => world.accepted = true,
        }
        Some(world).filter(|world| world != before)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::properties::all(self)
    }
}
