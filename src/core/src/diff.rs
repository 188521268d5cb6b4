//! What changed between two tables: for logs and events, in the words that a person looks for.

use crate::epoch::Epoch;
use crate::ids::{KeyspaceName, UnitName};
use crate::promotion::{Finished, Found, Operation, Outcome, Step, Tail};
use crate::quarantine::{self, is_quarantined};
use crate::slots::SlotSet;
use crate::span::{Span, SpanState};
use crate::table::{KeyspaceTable, RoutingTable};
use std::collections::BTreeMap;
use std::fmt;

/// One difference between two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A unit is new.
    UnitAdded(UnitName),
    /// A unit is gone.
    UnitRemoved(UnitName),
    /// A unit's routers are reached by another URL.
    UnitRouter {
        /// The unit.
        unit: UnitName,
        /// The URL before.
        before: String,
        /// The URL now.
        after: String,
    },
    /// A keyspace is new.
    KeyspaceAdded {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// Its number of slots.
        slots: u32,
    },
    /// A keyspace is gone.
    KeyspaceRemoved(KeyspaceName),
    /// Slots whose owner or state changed, all of them from one owner and state to one other.
    Slots {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// The slots.
        slots: SlotSet,
        /// Owner and state before; `None` where the keyspace is new.
        before: Option<(Option<UnitName>, SpanState)>,
        /// Owner and state now.
        after: (Option<UnitName>, SpanState),
        /// Since when.
        epoch: Epoch,
    },
    /// An operation began.
    OperationBegan {
        /// Its name.
        operation: String,
        /// Its step.
        step: Step,
    },
    /// An operation entered another step.
    OperationStep {
        /// Its name.
        operation: String,
        /// The step before.
        before: Step,
        /// Steps that were passed with this one.
        passed: Vec<Step>,
        /// The step now.
        after: Step,
        /// The units that are behind, where the owner changed.
        behind: Vec<UnitName>,
    },
    /// An operation ended.
    OperationEnded {
        /// Its name.
        operation: String,
        /// How; `None` where the table does not remember it.
        outcome: Option<Outcome>,
    },
    /// Another unit shall own the slots of a failover.
    OperationTarget {
        /// Its name.
        operation: String,
        /// The target before.
        before: UnitName,
        /// The target now.
        after: UnitName,
        /// Why.
        why: String,
    },
    /// The target of a failover takes over what a survivor has received more.
    OperationTail {
        /// Its name.
        operation: String,
        /// The survivor.
        from: UnitName,
        /// The target.
        to: UnitName,
    },
    /// A unit is in quarantine.
    Quarantined {
        /// The unit.
        unit: UnitName,
        /// The name of the Failover.
        by: String,
    },
    /// A person has accepted what only a unit in quarantine holds.
    Accepted {
        /// The unit.
        unit: UnitName,
        /// Who.
        by: String,
    },
    /// What a failover has really lost is known.
    Found {
        /// Its name.
        operation: String,
        /// What was found.
        found: Found,
    },
    /// A unit is in quarantine no more.
    Rejoined(UnitName),
}

/// Owner and state as a person reads them.
fn owned(f: &mut fmt::Formatter<'_>, (owner, state): &(Option<UnitName>, SpanState)) -> fmt::Result {
    match owner {
        Some(owner) => write!(f, "{state:?} at {owner}"),
        None => write!(f, "{state:?}"),
    }
}

impl Change {
    /// The operation that it is about.
    pub fn operation(&self) -> Option<&str> {
        match self {
            Self::OperationBegan { operation, .. }
            | Self::OperationStep { operation, .. }
            | Self::OperationTarget { operation, .. }
            | Self::OperationTail { operation, .. }
            | Self::Found { operation, .. }
            | Self::OperationEnded { operation, .. } => Some(operation),
            Self::UnitAdded(_)
            | Self::UnitRemoved(_)
            | Self::UnitRouter { .. }
            | Self::KeyspaceAdded { .. }
            | Self::KeyspaceRemoved(_)
            | Self::Slots { .. }
            | Self::Quarantined { .. }
            | Self::Accepted { .. }
            | Self::Rejoined(_) => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnitAdded(unit) => write!(f, "unit {unit} added"),
            Self::UnitRemoved(unit) => write!(f, "unit {unit} removed"),
            Self::UnitRouter { unit, before, after } => write!(f, "router of {unit}: {before} -> {after}"),
            Self::KeyspaceAdded { keyspace, slots } => write!(f, "keyspace {keyspace} added with {slots} slots"),
            Self::KeyspaceRemoved(keyspace) => write!(f, "keyspace {keyspace} removed"),
            Self::Slots {
                keyspace,
                slots,
                before,
                after,
                epoch,
            } => {
                write!(f, "{keyspace} slots {slots}: ")?;
                if let Some(before) = before {
                    owned(f, before)?;
                    f.write_str(" -> ")?;
                }
                owned(f, after)?;
                write!(f, " at epoch {epoch}")
            }
            Self::OperationBegan { operation, step } => write!(f, "{operation} began at {step}"),
            Self::OperationStep {
                operation,
                before,
                passed,
                after,
                behind,
            } => {
                write!(f, "{operation}: {before} -> ")?;
                for step in passed {
                    write!(f, "{step} -> ")?;
                }
                write!(f, "{after}")?;
                if !behind.is_empty() {
                    let behind: Vec<_> = behind.iter().map(UnitName::as_str).collect();
                    write!(
                        f,
                        "; behind, for their clusters or databases were away: {}",
                        behind.join(", ")
                    )?;
                }
                Ok(())
            }
            Self::OperationEnded { operation, outcome } => match outcome {
                Some(Outcome::Succeeded) => write!(f, "{operation} succeeded"),
                Some(Outcome::Refused { reason, message }) => write!(f, "{operation} refused ({reason}): {message}"),
                Some(Outcome::Aborted { reason, message }) => write!(f, "{operation} aborted ({reason}): {message}"),
                Some(Outcome::Failed { reason, message }) => write!(f, "{operation} failed ({reason}): {message}"),
                None => write!(f, "{operation} ended"),
            },
            Self::OperationTarget {
                operation,
                before,
                after,
                why,
            } => write!(f, "{operation}: target {before} -> {after}: {why}"),
            Self::OperationTail { operation, from, to } => {
                write!(f, "{operation}: {to} takes over the rows that {from} has received more")
            }
            Self::Quarantined { unit, by } => write!(f, "unit {unit} is in quarantine, by {by}"),
            Self::Accepted { unit, by } => write!(f, "{by} accepted what only unit {unit} holds"),
            Self::Found { operation, found } => {
                write!(f, "{operation}: {} rows were lost", found.rows)?;
                match found.span {
                    Some(span) if found.rows > 0 => write!(f, ", written within {span:#}"),
                    Some(_) | None => Ok(()),
                }
            }
            Self::Rejoined(unit) => write!(f, "unit {unit} is in quarantine no more"),
        }
    }
}

/// Everything that changed from one table to a later one: units, then keyspaces and their slots, then operations.
pub fn diff(before: &RoutingTable, after: &RoutingTable) -> Vec<Change> {
    let mut changes = units(before, after);
    for keyspace in &after.keyspaces {
        let old = before.keyspace(&keyspace.name);
        if old.is_none() {
            let (name, slots) = (keyspace.name.clone(), keyspace.slots);
            changes.push(Change::KeyspaceAdded { keyspace: name, slots });
        }
        changes.extend(slots(old, keyspace));
    }
    let gone = before
        .keyspaces
        .iter()
        .filter(|old| after.keyspace(&old.name).is_none());
    changes.extend(gone.map(|old| Change::KeyspaceRemoved(old.name.clone())));
    changes.extend(operations(before, after));
    changes.extend(quarantined(before, after));
    changes.extend(found(before, after));
    changes
}

/// What failovers have lost that is known only now; one whose targets are several is told of once.
fn found(before: &RoutingTable, after: &RoutingTable) -> Vec<Change> {
    let of = |done: &Finished| done.loss.as_ref().and_then(|loss| loss.found.clone());
    let known = |done: &Finished| {
        before
            .finished
            .iter()
            .any(|old| old.uid == done.uid && of(old).is_some())
    };
    let new = after.finished.iter().filter(|done| !known(done));
    let mut changes: Vec<Change> = Vec::new();
    for (name, found) in new.filter_map(|done| Some((&done.name, of(done)?))) {
        if !changes.iter().any(|change| change.operation() == Some(name)) {
            let operation = name.clone();
            changes.push(Change::Found { operation, found });
        }
    }
    changes
}

fn quarantined(before: &RoutingTable, after: &RoutingTable) -> Vec<Change> {
    let new = after
        .quarantined
        .iter()
        .filter(|known| !is_quarantined(before, &known.unit));
    let mut changes: Vec<_> = new
        .map(|known| Change::Quarantined {
            unit: known.unit.clone(),
            by: known.name.clone(),
        })
        .collect();
    let accepted = after.quarantined.iter().filter_map(|known| {
        let is_new = quarantine::of(before, &known.unit).is_none_or(|old| old.accepted.is_none());
        let accepted = known.accepted.as_ref().filter(|_| is_new)?;
        Some(Change::Accepted {
            unit: known.unit.clone(),
            by: accepted.by.clone(),
        })
    });
    changes.extend(accepted);
    let gone = before
        .quarantined
        .iter()
        .filter(|known| !is_quarantined(after, &known.unit));
    changes.extend(gone.map(|known| Change::Rejoined(known.unit.clone())));
    changes
}

fn units(before: &RoutingTable, after: &RoutingTable) -> Vec<Change> {
    let find = |table: &RoutingTable, name: &UnitName| table.units.iter().find(|unit| unit.name == *name).cloned();
    let mut changes = Vec::new();
    for unit in &after.units {
        match find(before, &unit.name) {
            None => changes.push(Change::UnitAdded(unit.name.clone())),
            Some(old) if old.router != unit.router => changes.push(Change::UnitRouter {
                unit: unit.name.clone(),
                before: old.router,
                after: unit.router.clone(),
            }),
            Some(_) => {}
        }
    }
    let gone = before.units.iter().filter(|unit| find(after, &unit.name).is_none());
    changes.extend(gone.map(|unit| Change::UnitRemoved(unit.name.clone())));
    changes
}

/// The slots of a keyspace that changed owner, state or epoch, joined where they changed alike.
fn slots(before: Option<&KeyspaceTable>, after: &KeyspaceTable) -> Vec<Change> {
    type Key<'a> = (
        Option<(Option<&'a UnitName>, SpanState)>,
        Option<&'a UnitName>,
        SpanState,
        Epoch,
    );
    let old_spans = before.map_or(&[][..], |before| &before.spans);
    let mut old_spans = old_spans.iter().peekable();
    let mut alike: Vec<(Key<'_>, Vec<(u16, u16)>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for span in &after.spans {
        let mut first = span.first;
        loop {
            while old_spans.next_if(|old| old.last < first).is_some() {}
            let old: Option<&&Span> = old_spans.peek().filter(|old| old.first <= first);
            let last = old.map_or(span.last, |old| old.last.min(span.last));
            let same =
                old.is_some_and(|old| old.owner == span.owner && old.state == span.state && old.epoch == span.epoch);
            // A keyspace that begins unowned says so by being added.
            let unborn = old.is_none() && span.state == SpanState::Unowned;
            if !same && !unborn {
                let key = (
                    old.map(|old| (old.owner.as_ref(), old.state)),
                    span.owner.as_ref(),
                    span.state,
                    span.epoch,
                );
                let place = *places.entry(format!("{key:?}")).or_insert_with(|| {
                    alike.push((key, Vec::new()));
                    alike.len() - 1
                });
                alike[place].1.push((first, last));
            }
            if last >= span.last {
                break;
            }
            first = last + 1;
        }
    }
    let change = |((old, owner, state, epoch), ranges): (Key<'_>, Vec<(u16, u16)>)| Change::Slots {
        keyspace: after.name.clone(),
        slots: ranges.into_iter().collect(),
        before: old.map(|(owner, state)| (owner.cloned(), state)),
        after: (owner.cloned(), state),
        epoch,
    };
    alike.into_iter().map(change).collect()
}

fn operations(before: &RoutingTable, after: &RoutingTable) -> Vec<Change> {
    let mut changes = Vec::new();
    for op in &after.operations {
        let operation = op.name.clone();
        if let Some(old) = before.operation(&op.uid).filter(|old| old.target != op.target) {
            let last = op.failover.as_ref().and_then(|failover| failover.retargeted.last());
            changes.push(Change::OperationTarget {
                operation: operation.clone(),
                before: old.target.clone(),
                after: op.target.clone(),
                why: last.map(|last| last.why.clone()).unwrap_or_default(),
            });
        }
        if let Some(tail) = tail(op).filter(|tail| before.operation(&op.uid).and_then(self::tail) != Some(tail)) {
            changes.push(Change::OperationTail {
                operation: operation.clone(),
                from: tail.from.clone(),
                to: op.target.clone(),
            });
        }
        match before.operation(&op.uid) {
            None => changes.push(Change::OperationBegan {
                operation,
                step: op.step,
            }),
            Some(old) if old.step != op.step => changes.push(Change::OperationStep {
                operation,
                before: old.step,
                passed: passed(old.step, op),
                after: op.step,
                behind: match op.step {
                    Step::Commit | Step::Open => op.behind.clone(),
                    Step::Check
                    | Step::Prepare
                    | Step::Verify
                    | Step::Hold
                    | Step::Fence
                    | Step::Cut
                    | Step::Drain
                    | Step::Settle => Vec::new(),
                },
            }),
            Some(_) => {}
        }
    }
    for op in before.operations.iter().filter(|op| after.operation(&op.uid).is_none()) {
        let end = after.finished.iter().rev().find(|done| done.uid == op.uid);
        changes.push(Change::OperationEnded {
            operation: op.name.clone(),
            outcome: end.map(|done| done.outcome.clone()),
        });
    }
    changes
}

fn tail(op: &Operation) -> Option<&Tail> {
    op.failover.as_ref()?.tail.as_ref()
}

/// The steps that an operation passed on its way from `before`: those that were entered, and left at once. Commit is always
/// left at once, and goes without saying.
fn passed(before: Step, op: &Operation) -> Vec<Step> {
    let entered = op.history.iter().filter(|entry| entry.not_needed.is_none());
    let between = entered
        .map(|entry| entry.step)
        .filter(|step| before < *step && *step < op.step);
    between.filter(|step| *step != Step::Commit).collect()
}
