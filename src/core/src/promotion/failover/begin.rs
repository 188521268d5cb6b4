//! How a failover begins: one write that ends whatever waits for the lost unit, and adds one operation for each target.
//!
//! A person who calls a unit lost must not have to abort the promotions first that wait for that very unit, so those that
//! have not committed end here. One that has committed to the lost unit ends as well, for its target will never open.

use super::choose::{Placed, Placement, is_opening};
use super::types::{Failover, Superseded};
use crate::epoch::Epoch;
use crate::ids::{OperationUid, UnitName};
use crate::promotion::admit::{Refusal, stores_of};
use crate::promotion::operation::{
    Budgets, MovingStore, Operation, OperationKind, Outcome, SlotMove, Step, StepRecord, Verify,
};
use crate::promotion::record::end;
use crate::quarantine;
use crate::table::RoutingTable;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// What a Failover asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverRequest {
    /// The uid of the object.
    pub uid: OperationUid,
    /// Its name.
    pub name: String,
    /// The lost unit.
    pub lost: UnitName,
    /// Whether the user named the target.
    pub named: bool,
    /// Whether all that is known says that the lost unit stops writing without its lease.
    pub fences: bool,
    /// Where its slots go: [`super::choose`] of the same table.
    pub placement: Placement,
    /// The stores in force now.
    pub stores: Vec<MovingStore>,
    /// The newest epoch that the user has seen: a slot that changed later makes the request stale.
    pub expected_epoch: u64,
    /// The largest loss that needs nobody's word.
    pub max_data_loss: SignedDuration,
    /// The limits of time.
    pub budgets: Budgets,
}

/// The table in which the failover has begun.
///
/// # Errors
///
/// [`Refusal`]: running or done before, another failover of that unit runs, unknown unit, nothing owned, stale, or nobody
/// may take anything. What only some ranges lack stays with the lost unit, and the rest moves.
pub fn begin(table: &RoutingTable, request: &FailoverRequest, now: Timestamp) -> Result<RoutingTable, Refusal> {
    may_begin(table, request)?;
    let mut changed = table.clone();
    changed.epoch = table.epoch.next();
    let groups = groups(request);
    let superseded = supersede(&mut changed, request, now)?;
    for (place, ((target, of), placed)) in groups.into_iter().enumerate() {
        let superseded = superseded
            .iter()
            .find(|superseded| Some(&superseded.uid) == of.as_ref());
        let operation = operation(request, place + 1, target, superseded.cloned(), &placed, now);
        changed.operations.push(operation);
    }
    Ok(changed)
}

fn may_begin(table: &RoutingTable, request: &FailoverRequest) -> Result<(), Refusal> {
    let lost = &request.lost;
    let failovers = || table.operations.iter().filter(|op| op.kind == OperationKind::Failover);
    if let Some(op) = failovers().find(|op| op.name == request.name || op.object() == request.uid) {
        let (operation, step) = (op.name.clone(), op.step);
        return Err(Refusal::Running { operation, step });
    }
    let mut done = table
        .finished
        .iter()
        .filter(|done| done.kind == OperationKind::Failover);
    if let Some(done) = done.find(|done| done.name == request.name || done.uid.object() == request.uid) {
        let (name, uid) = (done.name.clone(), done.uid.object());
        return Err(Refusal::AlreadyDone { name, uid });
    }
    // One that has committed already holds nothing of the unit any more, and what it left behind may be asked for.
    if let Some(op) = failovers().find(|op| op.lost() == Some(lost) && op.step.may_abort()) {
        return Err(Refusal::Lost {
            unit: lost.clone(),
            why: format!(
                "the Failover {} runs, at {}: wait for its end or abort it",
                op.name, op.step
            ),
        });
    }
    let owned = table.owned_by(lost);
    if !table.units.iter().any(|unit| unit.name == *lost) {
        return Err(Refusal::UnknownUnit(lost.clone()));
    }
    if owned.is_empty() {
        return Err(Refusal::NothingOwned(lost.clone()));
    }
    for keyspace in &table.keyspaces {
        let mut spans = keyspace.spans.iter().filter(|span| span.is_owned_by(lost));
        if let Some(span) = spans.find(|span| span.epoch.epoch > request.expected_epoch) {
            return Err(Refusal::Stale {
                keyspace: keyspace.name.clone(),
                slot: span.first,
                changed: span.epoch,
                expected: request.expected_epoch,
            });
        }
    }
    if request.placement.placed.is_empty() {
        let why: Vec<_> = request.placement.unplaced.iter().map(ToString::to_string).collect();
        return Err(Refusal::NoTarget {
            unit: lost.clone(),
            why: why.join(". "),
        });
    }
    placed_in(table, request)
}

/// Whether the choice fits the table: another operator may have written it meanwhile.
fn placed_in(table: &RoutingTable, request: &FailoverRequest) -> Result<(), Refusal> {
    let gone = quarantine::lost(table);
    for placed in &request.placement.placed {
        let target = &placed.target;
        if !table.units.iter().any(|unit| unit.name == *target) {
            return Err(Refusal::UnknownUnit(target.clone()));
        }
        if *target == request.lost || gone.contains(target) {
            return Err(Refusal::Lost {
                unit: target.clone(),
                why: "it cannot be the target".to_owned(),
            });
        }
        let keyspace = table.keyspace(&placed.keyspace);
        let keyspace = keyspace.ok_or_else(|| Refusal::UnknownKeyspace(placed.keyspace.clone()))?;
        let owned = keyspace.slots_where(|span| span.is_owned_by(&request.lost));
        let others = placed.slots.difference(&owned);
        if let Some((slot, _)) = others.ranges().first() {
            let changed = keyspace.span_of(*slot).map_or(Epoch::NEVER, |span| span.epoch);
            return Err(Refusal::Stale {
                keyspace: placed.keyspace.clone(),
                slot: *slot,
                changed,
                expected: request.expected_epoch,
            });
        }
    }
    Ok(())
}

type Groups<'a> = BTreeMap<(UnitName, Option<OperationUid>), Vec<&'a Placed>>;

/// One operation for each target; slots that were never opened are given back otherwise, so they have one of their own.
fn groups(request: &FailoverRequest) -> Groups<'_> {
    let mut groups = Groups::new();
    for placed in &request.placement.placed {
        let key = (placed.target.clone(), placed.superseded.clone());
        groups.entry(key).or_default().push(placed);
    }
    groups
}

/// Ends what waits for the lost unit.
fn supersede(table: &mut RoutingTable, request: &FailoverRequest, now: Timestamp) -> Result<Vec<Superseded>, Refusal> {
    let lost = &request.lost;
    let (mut kept, mut ended) = (Vec::new(), Vec::new());
    for op in std::mem::take(&mut table.operations) {
        let waits = op.target == *lost || (op.step.may_abort() && op.sources().contains(&lost));
        // A failover whose target is lost before the commit turns to another target by itself.
        let turns = op.kind == OperationKind::Failover && op.step.may_abort();
        if waits && !turns {
            ended.push(op);
        } else {
            kept.push(op);
        }
    }
    table.operations = kept;
    let mut superseded = Vec::new();
    for op in ended {
        let why = format!("superseded by the Failover {} of {lost}", request.name);
        let (outcome, unsettled) = if op.step.may_abort() {
            let (reason, message) = ("Superseded".to_owned(), why);
            (Outcome::Aborted { reason, message }, Vec::new())
        } else if is_opening(&op, lost) {
            superseded.push(Superseded {
                uid: op.uid.clone(),
                sources: op.sources().into_iter().cloned().collect(),
                behind: op.behind.clone(),
            });
            let (reason, message) = ("Superseded".to_owned(), why);
            (Outcome::Failed { reason, message }, Vec::new())
        } else {
            (Outcome::Succeeded, vec![why])
        };
        end(table, op, &outcome, unsettled, now)?;
    }
    Ok(superseded)
}

fn operation(
    request: &FailoverRequest,
    number: usize,
    target: UnitName,
    superseded: Option<Superseded>,
    placed: &[&Placed],
    now: Timestamp,
) -> Operation {
    let mut moves: Vec<SlotMove> = Vec::new();
    for placed in placed {
        match moves.iter_mut().find(|known| known.keyspace == placed.keyspace) {
            Some(known) => known.slots = known.slots.union(&placed.slots),
            None => moves.push(SlotMove {
                keyspace: placed.keyspace.clone(),
                source: request.lost.clone(),
                slots: placed.slots.clone(),
            }),
        }
    }
    let stores = stores_of(&moves, &request.stores);
    let behind = superseded
        .as_ref()
        .map(|superseded| superseded.behind.clone())
        .unwrap_or_default();
    Operation {
        kind: OperationKind::Failover,
        uid: request.uid.part(number),
        name: request.name.clone(),
        target,
        moves,
        stores,
        verify: Verify::None,
        budgets: request.budgets,
        step: Step::Check,
        epoch: Epoch::NEVER,
        positions: Vec::new(),
        behind,
        failover: Some(Box::new(Failover {
            lost: request.lost.clone(),
            ranges: placed.iter().filter_map(|placed| placed.range.clone()).collect(),
            max_data_loss: request.max_data_loss,
            named: request.named,
            fences: request.fences,
            superseded,
            fence: Epoch::NEVER,
            proof: None,
            loss: None,
            retargeted: Vec::new(),
            tail: None,
        })),
        history: vec![StepRecord {
            step: Step::Check,
            at: now,
            not_needed: None,
        }],
    }
}
