//! Whether a promotion may begin: the rules that need nothing but the table.

use super::operation::{Budgets, Finished, MovingStore, Operation, OperationKind, SlotMove, Step, StepRecord, Verify};
use super::record::RecordError;
use crate::epoch::Epoch;
use crate::ids::{KeyspaceName, OperationUid, UnitName};
use crate::quarantine;
use crate::slots::SlotSet;
use crate::span::SpanState;
use crate::table::RoutingTable;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// What a Promotion asks for, its selection already turned into slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The uid of the object.
    pub uid: OperationUid,
    /// Its name.
    pub name: String,
    /// The unit that shall own the slots.
    pub target: UnitName,
    /// The selected slots, by keyspace; those that the target owns already stay where they are.
    pub select: Vec<(KeyspaceName, SlotSet)>,
    /// The stores in force now; those of the keyspaces that move are noted in the operation.
    pub stores: Vec<MovingStore>,
    /// The newest epoch that the user has seen: a slot that changed later makes the request stale.
    pub expected_epoch: u64,
    /// How rows are compared before.
    pub verify: Verify,
    /// The limits of time.
    pub budgets: Budgets,
}

/// Why a promotion may not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An operation of this name ended before.
    #[error("an operation named {name} ended before ({uid}); to run it again, give it another name")]
    AlreadyDone {
        /// The name.
        name: String,
        /// The uid of the one that ended.
        uid: OperationUid,
    },
    /// The table has no such keyspace.
    #[error("keyspace {0} is not in the routing table: is the Keyspace Ready?")]
    UnknownKeyspace(KeyspaceName),
    /// The table has no such unit.
    #[error("unit {0} is not in the routing table: is there a Unit of that name?")]
    UnknownUnit(UnitName),
    /// No slot is selected.
    #[error("the selection is empty: no slot matches it")]
    NothingSelected,
    /// The target owns all of it.
    #[error("{target} owns every selected slot already, since epoch {since}")]
    AlreadyOwner {
        /// The target.
        target: UnitName,
        /// When it got the last of them.
        since: Epoch,
    },
    /// A selected slot changed after the epoch that the user has seen.
    #[error(
        "slot {slot} of {keyspace} changed at epoch {changed}, after the expected epoch {expected}: look again, then plan anew"
    )]
    Stale {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// The first slot that changed.
        slot: u16,
        /// When it changed.
        changed: Epoch,
        /// What the user expected.
        expected: u64,
    },
    /// The keyspace does not have some of the slots.
    #[error("slots {slots} are not in {keyspace}: its last slot is {last}")]
    NoSuchSlots {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// The slots.
        slots: SlotSet,
        /// The keyspace's last slot.
        last: u32,
    },
    /// An operation of this name or uid runs already.
    #[error("{operation} runs already, at {step}: {}", way_out(*.step))]
    Running {
        /// Its name.
        operation: String,
        /// Where it stands.
        step: Step,
    },
    /// Another operation moves some of the slots.
    #[error("{} being moved by {operation}, at {step}: {}", slots_are(.keyspace, .slots), way_out(*.step))]
    Busy {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// The slots that both want.
        slots: SlotSet,
        /// The name of the operation that has them.
        operation: String,
        /// Where it stands.
        step: Step,
    },
    /// Some slots have no owner to move them from, or their owner has not opened them yet.
    #[error("{}", not_serving(.keyspace, .slots))]
    NotServing {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// The slots.
        slots: SlotSet,
    },
    /// A unit is lost: it can neither give slots by its own word nor take any.
    #[error("unit {unit} is lost: {why}")]
    Lost {
        /// The unit.
        unit: UnitName,
        /// What that means here, and what to do.
        why: String,
    },
    /// A lost unit that owns nothing.
    #[error("unit {0} owns no slots: there is nothing to fail over")]
    NothingOwned(UnitName),
    /// Nobody may take anything of a lost unit.
    #[error(
        "no unit may take over what {unit} owns. {why}. Bring one of these units back or make it usable, name another one \
         as spec.targetUnit, or add it to the failoverUnits"
    )]
    NoTarget {
        /// The lost unit.
        unit: UnitName,
        /// Range by range, who was asked and why not.
        why: String,
    },
    /// The table holds an operation that does not fit its slots.
    #[error("the routing table is damaged: {0}")]
    Damaged(#[from] RecordError),
}

impl Refusal {
    /// One word, for conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AlreadyDone { .. } => "AlreadyDone",
            Self::UnknownKeyspace(_) => "UnknownKeyspace",
            Self::UnknownUnit(_) => "UnknownUnit",
            Self::NothingSelected => "NothingSelected",
            Self::NoSuchSlots { .. } => "NoSuchSlots",
            Self::Running { .. } => "AlreadyRunning",
            Self::AlreadyOwner { .. } => "AlreadyOwner",
            Self::Stale { .. } => "Stale",
            Self::Busy { .. } => "SlotsBusy",
            Self::NotServing { .. } => "NotServing",
            Self::Lost { .. } => "UnitLost",
            Self::NothingOwned(_) => "NothingOwned",
            Self::NoTarget { .. } => "NoTarget",
            Self::Damaged(_) => "TableDamaged",
        }
    }
}

/// What who wants the slots of an operation at `step` can do.
/// Slots in words, as the begin of a sentence: a store with a single writer has one, of which nobody was told.
fn slots_are(keyspace: &KeyspaceName, slots: &SlotSet) -> String {
    match keyspace.writer_of() {
        Some(store) => format!("the writer of DataStore {store} is"),
        None => format!("slots {slots} of {keyspace} are"),
    }
}

fn not_serving(keyspace: &KeyspaceName, slots: &SlotSet) -> String {
    match keyspace.writer_of() {
        Some(store) => format!("DataStore {store} is not written by any unit yet: wait until it is Ready"),
        None => {
            format!("slots {slots} of {keyspace} are not served by any unit yet: wait until their ShardRange is Ready")
        }
    }
}

fn way_out(step: Step) -> &'static str {
    if step.may_abort() {
        "wait for its end or abort it"
    } else {
        "the owner has changed, so it cannot be aborted; its status.waitingFor says what holds up its end"
    }
}

/// Turns a request into an operation at [`Step::Check`], or says why it may not begin.
///
/// # Errors
///
/// [`Refusal`], in this order: done before or running, unknown target, nothing selected; then for each keyspace unknown
/// names and slots, busy slots, stale epoch, slots of a lost unit, slots that are not served; at last present owner.
pub fn admit(table: &RoutingTable, request: &Request, now: Timestamp) -> Result<Operation, Refusal> {
    if let Some(done) = table.finished.iter().find(|done| is_named(done, request)) {
        return Err(Refusal::AlreadyDone {
            name: done.name.clone(),
            uid: done.uid.clone(),
        });
    }
    let mut running = table.operations.iter();
    let same_name = |op: &Operation| op.kind == OperationKind::Promotion && op.name == request.name;
    if let Some(op) = running.find(|op| same_name(op) || op.uid == request.uid) {
        let (operation, step) = (op.name.clone(), op.step);
        return Err(Refusal::Running { operation, step });
    }
    if !table.units.iter().any(|unit| unit.name == request.target) {
        return Err(Refusal::UnknownUnit(request.target.clone()));
    }
    let lost = quarantine::lost(table);
    if lost.contains(&request.target) {
        return Err(gone(table, &request.target));
    }
    // A keyspace that was selected twice must not be moved twice.
    let mut selected: BTreeMap<&KeyspaceName, SlotSet> = BTreeMap::new();
    for (name, slots) in &request.select {
        let known = selected.entry(name).or_default();
        *known = known.union(slots);
    }
    if selected.values().all(SlotSet::is_empty) {
        return Err(Refusal::NothingSelected);
    }
    let mut moves = Vec::new();
    let mut since = Epoch::NEVER;
    for (name, slots) in &selected {
        moves.extend(moves_of(table, request, name, slots, &mut since)?);
    }
    if moves.is_empty() {
        return Err(Refusal::AlreadyOwner {
            target: request.target.clone(),
            since,
        });
    }
    let stores = stores_of(&moves, &request.stores);
    Ok(Operation {
        kind: OperationKind::Promotion,
        uid: request.uid.clone(),
        name: request.name.clone(),
        target: request.target.clone(),
        moves,
        stores,
        verify: request.verify,
        budgets: request.budgets,
        step: Step::Check,
        epoch: Epoch::NEVER,
        positions: Vec::new(),
        behind: Vec::new(),
        failover: None,
        history: vec![StepRecord {
            step: Step::Check,
            at: now,
            not_needed: None,
        }],
    })
}

/// Why a unit that is lost takes part in no promotion.
fn gone(table: &RoutingTable, unit: &UnitName) -> Refusal {
    let why = match quarantine::of(table, unit) {
        Some(known) => format!(
            "it is in quarantine since epoch {}, by the Failover {}: bring it back and accept what it holds beyond, then \
             promote",
            known.since, known.name
        ),
        None => "a Failover of it runs: wait for its end".to_owned(),
    };
    Refusal::Lost {
        unit: unit.clone(),
        why,
    }
}

/// Whether this is what became of an earlier promotion of the name.
fn is_named(done: &Finished, request: &Request) -> bool {
    done.kind == OperationKind::Promotion && done.name == request.name
}

/// The stores whose keyspaces move, in the order of their names.
pub(super) fn stores_of(moves: &[SlotMove], stores: &[MovingStore]) -> Vec<MovingStore> {
    let moving = |store: &&MovingStore| moves.iter().any(|slot_move| slot_move.keyspace == store.keyspace);
    let mut stores: Vec<_> = stores.iter().filter(moving).cloned().collect();
    for store in &mut stores {
        store.members.sort_unstable();
        store.members.dedup();
    }
    stores.sort_by(|a, b| a.store.cmp(&b.store));
    stores
}

/// The moves of one selected keyspace; `since` becomes the newest epoch of a slot that the target owns already.
fn moves_of(
    table: &RoutingTable,
    request: &Request,
    name: &KeyspaceName,
    slots: &SlotSet,
    since: &mut Epoch,
) -> Result<Vec<SlotMove>, Refusal> {
    let keyspace = table
        .keyspace(name)
        .ok_or_else(|| Refusal::UnknownKeyspace(name.clone()))?;
    let beyond = slots.difference(&keyspace.slots_where(|_| true));
    if !beyond.is_empty() {
        return Err(Refusal::NoSuchSlots {
            keyspace: name.clone(),
            slots: beyond,
            last: keyspace.slots.saturating_sub(1),
        });
    }
    for other in &table.operations {
        let taken = other
            .moves
            .iter()
            .filter(|m| m.keyspace == *name)
            .map(|m| m.slots.intersection(slots));
        if let Some(slots) = taken.into_iter().find(|both| !both.is_empty()) {
            return Err(Refusal::Busy {
                keyspace: name.clone(),
                slots,
                operation: other.name.clone(),
                step: other.step,
            });
        }
    }
    let mut moves: Vec<SlotMove> = Vec::new();
    for span in &keyspace.spans {
        let selected = slots.within(span.first, span.last);
        let Some((slot, _)) = selected.ranges().first().copied() else {
            continue;
        };
        if span.epoch.epoch > request.expected_epoch {
            let (keyspace, expected) = (name.clone(), request.expected_epoch);
            return Err(Refusal::Stale {
                keyspace,
                slot,
                changed: span.epoch,
                expected,
            });
        }
        if let Some(owner) = span
            .owner
            .as_ref()
            .filter(|owner| quarantine::lost(table).contains(owner))
        {
            return Err(gone(table, owner));
        }
        let Some(source) = span.owner.as_ref().filter(|_| span.state == SpanState::Serving) else {
            return Err(Refusal::NotServing {
                keyspace: name.clone(),
                slots: selected,
            });
        };
        if *source == request.target {
            *since = (*since).max(span.epoch);
            continue;
        }
        match moves.iter_mut().find(|m| m.source == *source) {
            Some(known) => known.slots = known.slots.union(&selected),
            None => moves.push(SlotMove {
                keyspace: name.clone(),
                source: source.clone(),
                slots: selected,
            }),
        }
    }
    Ok(moves)
}
