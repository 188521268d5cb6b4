//! What a table asks of a unit: grants of its stores, and a duty for each running operation. Pure.

use crate::lost::{Cut, cuts};
use jiff::SignedDuration;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, OperationUid, StoreName, UnitName};
use multiactive_core::promotion::{Operation, Step, StorePosition, Verify};
use multiactive_core::quarantine::is_quarantined;
use multiactive_core::slots::{Slot, SlotSet};
use multiactive_core::span::Span;
use multiactive_core::table::RoutingTable;
use multiactive_stores::driver::Grant;

/// Whether a table takes the place of the one that is held: never an older one.
pub fn supersedes(new: &RoutingTable, held: Option<&RoutingTable>) -> bool {
    held.is_none_or(|held| new.epoch > held.epoch)
}

/// Whether an operation holds writes somewhere: then nobody writes what can wait.
pub fn in_haste(table: &RoutingTable) -> bool {
    let mut steps = table.operations.iter().map(|op| op.step);
    steps.any(|step| step >= Step::Hold && step < Step::Settle)
}

/// The grants of a store that several units write: everything is open at once, and stays so, whoever owns what.
pub fn shared_grants(slots: u32) -> Vec<Grant> {
    let last = Slot::try_from(slots.saturating_sub(1)).unwrap_or(Slot::MAX);
    vec![Grant {
        slots: SlotSet::range(0, last),
        open: true,
        epoch: Epoch::new(1, 1),
        brought_by: None,
    }]
}

/// The grants of a unit's stores of one keyspace. They cover every slot of the table but those that [`fencing`] names. A
/// keyspace that the table does not have grants nothing: its stores stay closed.
pub fn grants(table: &RoutingTable, keyspace: &KeyspaceName, unit: &UnitName) -> Vec<Grant> {
    let arriving = table
        .operations
        .iter()
        .filter(|op| op.target == *unit && op.step >= Step::Commit);
    let arriving: Vec<_> = arriving.map(|op| (&op.uid, op.slots_of(keyspace, None))).collect();
    let spans = table.keyspace(keyspace).map_or(&[][..], |found| &found.spans);
    let fencing = fencing(table, keyspace, unit);
    // The table fences what it still owns; that it opens nothing does not depend on that.
    let serves = !is_quarantined(table, unit);
    let grant = |span: &Span| {
        let slots = SlotSet::range(span.first, span.last).difference(&fencing);
        let open = serves && span.is_owned_by(unit) && span.state.is_open();
        let brings = arriving.iter().find(|(_, taken)| open && taken.intersects(&slots));
        Grant {
            open,
            epoch: span.epoch,
            brought_by: brings.map(|(uid, _)| (*uid).clone()),
            slots,
        }
    };
    spans
        .iter()
        .map(grant)
        .filter(|grant| !grant.slots.is_empty())
        .collect()
}

/// The slots of a keyspace that this unit fences for operations: each at the moment when its own routers have no write
/// under way and within its own budget, so the table does not say whether they are open.
pub fn fencing(table: &RoutingTable, keyspace: &KeyspaceName, unit: &UnitName) -> SlotSet {
    let fences = |op: &&Operation| op.step == Step::Hold || op.step == Step::Fence;
    let leaving = table
        .operations
        .iter()
        .filter(fences)
        .map(|op| op.slots_of(keyspace, Some(unit)));
    leaving.fold(SlotSet::default(), |all, slots| all.union(&slots))
}

/// What a unit is to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Slots leave it.
    Source,
    /// It shall own them.
    Target,
    /// It only receives their rows.
    Member,
}

/// What an operation asks of a unit now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// The operation.
    pub operation: OperationUid,
    /// The last change of its spans.
    pub epoch: Epoch,
    /// Its step.
    pub step: Step,
    /// What the unit is to it.
    pub role: Role,
    /// Whether the unit's routers have no write of it under way, or the table is past that: a source fences then.
    pub quiet: bool,
    /// What it asks of each store that it touches.
    pub stores: Vec<StoreDuty>,
    /// While rows are followed or waited for: stores that move with the unit as a member, and that it has none of.
    pub missing: Vec<StoreName>,
}

impl Duty {
    /// Whether the operation waits until this unit has brought its stores to the table.
    pub fn opens(&self) -> bool {
        self.role == Role::Target && (self.step == Step::Commit || self.step == Step::Open)
    }
}

/// What an operation asks of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDuty {
    /// The store.
    pub store: StoreName,
    /// What it reports about.
    pub ask: Ask,
    /// What else it does meanwhile.
    pub besides: Vec<Ask>,
}

/// A question to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Nothing.
    Nothing,
    /// How old is the newest row from these units?
    Lag(Vec<UnitName>),
    /// Are the rows of these slots those of their owners?
    Compare {
        /// Each owner, with its slots.
        owners: Vec<(UnitName, SlotSet)>,
        /// Whether those that were found equal before need not be compared whole again, where they did not change.
        changed: bool,
    },
    /// Write heartbeats, so that others can tell how far behind they are.
    Beat,
    /// Where does it stand, once these slots are fenced at the operation's epoch?
    Fence {
        /// The slots that leave this unit.
        slots: SlotSet,
        /// How long that may take.
        budget: SignedDuration,
        /// The operation that gave the slots to this unit a moment ago and that this one supersedes: did they ever open?
        superseded: Option<OperationUid>,
    },
    /// How far has it applied the log of a lost unit, once it is cut off from it?
    Cut(Cut),
    /// Take over from another survivor what that has received more of the lost unit.
    TakeTail {
        /// The cut.
        cut: Cut,
        /// The lost unit's slots.
        slots: SlotSet,
        /// The survivor.
        from: UnitName,
    },
    /// Has it applied all that the fences of these units, for the operation at its epoch, let pass?
    Follow {
        /// The sources.
        sources: Vec<UnitName>,
        /// Whether it shall own the slots.
        takes_over: bool,
    },
    /// Has it applied these positions?
    Reach {
        /// The positions.
        positions: Vec<StorePosition>,
        /// Whether it shall own the slots: then all others must be able to get what it writes.
        takes_over: bool,
    },
}

/// The duties of a unit with these stores, each with its keyspace; an operation that does not concern it asks nothing.
/// `quiet` says whether the unit's routers have no write under way for an operation whose Hold has this epoch.
pub fn duties(
    table: &RoutingTable,
    unit: &UnitName,
    stores: &[(StoreName, KeyspaceName)],
    quiet: impl Fn(&OperationUid, Epoch) -> bool,
) -> Vec<Duty> {
    let cuts = cuts(table, unit);
    table
        .operations
        .iter()
        .filter_map(|op| {
            let quiet = op.step > Step::Hold || (op.step == Step::Hold && quiet(&op.uid, op.epoch));
            duty(op, unit, stores, quiet, &cuts)
        })
        .collect()
}

fn duty(
    op: &Operation,
    unit: &UnitName,
    stores: &[(StoreName, KeyspaceName)],
    quiet: bool,
    cuts: &[Cut],
) -> Option<Duty> {
    let moving = |keyspace: &KeyspaceName| op.moves.iter().any(|slot_move| slot_move.keyspace == *keyspace);
    let touched: Vec<_> = stores.iter().filter(|(_, keyspace)| moving(keyspace)).collect();
    let role = if op.sources().contains(&unit) {
        Role::Source
    } else if op.target == *unit {
        Role::Target
    } else if touched.is_empty() {
        return None;
    } else {
        Role::Member
    };
    let stores = touched.iter().map(|(store, keyspace)| StoreDuty {
        store: store.clone(),
        ask: ask(op, unit, role, (store, keyspace), quiet, cuts),
        besides: ask_besides(op, unit, role, keyspace, cuts),
    });
    let lacked = || {
        let moving = op.stores.iter().filter(|moving| moving.has(unit));
        moving.filter(|moving| stores_lack(&touched, &moving.store))
    };
    let missing = match (op.step, role) {
        (Step::Hold | Step::Fence | Step::Cut | Step::Drain, Role::Target | Role::Member) => {
            lacked().map(|moving| moving.store.clone()).collect()
        }
        (Step::Hold | Step::Fence | Step::Cut | Step::Drain, Role::Source)
        | (
            Step::Check | Step::Prepare | Step::Verify | Step::Commit | Step::Open | Step::Settle,
            Role::Source | Role::Target | Role::Member,
        ) => Vec::new(),
    };
    Some(Duty {
        operation: op.uid.clone(),
        epoch: op.epoch,
        step: op.step,
        role,
        quiet,
        stores: stores.collect(),
        missing,
    })
}

fn stores_lack(touched: &[&(StoreName, KeyspaceName)], store: &StoreName) -> bool {
    !touched.iter().any(|(known, _)| known == store)
}

fn ask(
    op: &Operation,
    unit: &UnitName,
    role: Role,
    (store, keyspace): (&StoreName, &KeyspaceName),
    quiet: bool,
    cuts: &[Cut],
) -> Ask {
    match (op.step, role) {
        (Step::Check | Step::Prepare, Role::Target | Role::Member) => {
            let sources = op.sources().into_iter().filter(|source| *source != unit);
            Ask::Lag(sources.cloned().collect())
        }
        (Step::Verify, Role::Target) => Ask::Compare {
            owners: compared(op, keyspace),
            changed: op.verify == Verify::Changed,
        },
        (Step::Hold, Role::Source) if !quiet => Ask::Nothing,
        (Step::Hold | Step::Fence, Role::Source) => Ask::Fence {
            slots: op.slots_of(keyspace, Some(unit)),
            budget: op.budgets.fence,
            superseded: superseded(op),
        },
        (Step::Cut, Role::Target | Role::Member) => {
            let cut = cuts.iter().find(|cut| Some(&cut.lost) == op.lost());
            cut.map_or(Ask::Nothing, |cut| Ask::Cut(cut.clone()))
        }
        // Where a unit is away, what only the source had of its rows is not waited for: that is in the published positions.
        (Step::Hold | Step::Fence, Role::Target | Role::Member) if op.behind.is_empty() => Ask::Follow {
            sources: op.sources().into_iter().cloned().collect(),
            takes_over: role == Role::Target,
        },
        (Step::Drain, Role::Target | Role::Member) => {
            let positions = op.positions.iter().filter(|position| position.store == *store);
            Ask::Reach {
                positions: positions.cloned().collect(),
                takes_over: role == Role::Target,
            }
        }
        (Step::Check | Step::Prepare | Step::Verify, Role::Source) => Ask::Beat,
        (Step::Verify, Role::Member)
        | (Step::Hold | Step::Fence, Role::Target | Role::Member)
        | (Step::Cut | Step::Drain, Role::Source)
        | (Step::Commit | Step::Open | Step::Settle, Role::Source | Role::Target | Role::Member) => Ask::Nothing,
    }
}

/// The operation whose slots this one takes before they were opened.
fn superseded(op: &Operation) -> Option<OperationUid> {
    let superseded = op.failover.as_ref()?.superseded.as_ref()?;
    Some(superseded.uid.clone())
}

/// What is asked for besides. In Verify the lag: writes are held right after it, and it may take hours. And who gets the
/// sources' rows writes heartbeats: what the others have applied of its own log is waited for too, and two links of a log in
/// which nothing is written may have begun at different places in it. Not while members follow the fences: writes are held,
/// and what was written before is on its way.
fn ask_besides(op: &Operation, unit: &UnitName, role: Role, keyspace: &KeyspaceName, cuts: &[Cut]) -> Vec<Ask> {
    match (op.step, role) {
        (Step::Cut, Role::Target) => std::iter::once(Ask::Beat)
            .chain(take_tail(op, keyspace, cuts))
            .collect(),
        (Step::Check | Step::Prepare | Step::Drain, Role::Target | Role::Member) | (Step::Cut, Role::Member) => {
            vec![Ask::Beat]
        }
        (Step::Verify, Role::Target | Role::Member) => {
            let sources = op.sources().into_iter().filter(|source| *source != unit);
            vec![Ask::Lag(sources.cloned().collect()), Ask::Beat]
        }
        (Step::Check | Step::Prepare | Step::Verify | Step::Cut | Step::Drain, Role::Source)
        | (Step::Hold | Step::Fence, Role::Source | Role::Target | Role::Member)
        | (Step::Commit | Step::Open | Step::Settle, Role::Source | Role::Target | Role::Member) => Vec::new(),
    }
}

/// What the target takes over, where the record says from whom.
fn take_tail(op: &Operation, keyspace: &KeyspaceName, cuts: &[Cut]) -> Option<Ask> {
    let tail = op.failover.as_ref()?.tail.as_ref()?;
    let lost = op.lost()?;
    let cut = cuts.iter().find(|cut| cut.lost == *lost)?;
    Some(Ask::TakeTail {
        cut: cut.clone(),
        slots: op.slots_of(keyspace, Some(lost)),
        from: tail.from.clone(),
    })
}

/// The slots of a keyspace that move, with the units that they leave.
fn compared(op: &Operation, keyspace: &KeyspaceName) -> Vec<(UnitName, SlotSet)> {
    let of = |source: &UnitName| (source.clone(), op.slots_of(keyspace, Some(source)));
    let sources = op.sources().into_iter().map(of);
    sources.filter(|(_, slots)| !slots.is_empty()).collect()
}

#[cfg(test)]
#[path = "plan_failover_tests.rs"]
mod failover_tests;
#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
