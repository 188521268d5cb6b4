//! Operations of the table, running and ended.

use super::failover::{read_failover, read_loss, write_failover, write_loss};
use super::{ConvertError, number};
use crate::operation_report::{ReachReport, ReachState};
use crate::routing_table::{
    OperationKind as StoredKind, StepHistory, TableFinished, TableMove, TableOperation, TablePosition, TableStore,
    TableUnitPosition,
};
use jiff::SignedDuration;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::{
    Budgets, Finished, MovingStore, Operation, OperationKind, Outcome, Reach, SlotMove, Step, StepRecord,
    StorePosition, UnitPosition, Verify,
};
use multiactive_core::slots::SlotSet;

type Read<T> = Result<T, ConvertError>;

pub(super) fn read_epoch(field: &str, term: i64, epoch: i64) -> Read<Epoch> {
    Ok(Epoch::new(
        number(&format!("{field}.term"), term)?,
        number(&format!("{field}.epoch"), epoch)?,
    ))
}

fn read_step(field: &str, text: &str) -> Read<Step> {
    let known = Step::ALL.into_iter().find(|step| step.to_string() == text);
    known.ok_or_else(|| ConvertError::new(field, format!("`{text}` is no step")))
}

fn read_slots(field: &str, text: &str) -> Read<SlotSet> {
    text.parse().map_err(|error| ConvertError::new(field, error))
}

fn read_history(field: &str, history: &[StepHistory]) -> Read<Vec<StepRecord>> {
    let read = history.iter().enumerate().map(|(index, entry)| {
        let field = format!("{field}[{index}]");
        let StepHistory { step, at, not_needed } = entry;
        Ok(StepRecord {
            step: read_step(&format!("{field}.step"), step)?,
            at: at.parse().map_err(|e| ConvertError::new(format!("{field}.at"), e))?,
            not_needed: not_needed.clone(),
        })
    });
    read.collect()
}

pub(super) fn read_units(units: &[String]) -> Vec<UnitName> {
    units.iter().map(|unit| unit.as_str().into()).collect()
}

/// Names of units, for tables and for the status of operations.
pub fn write_units(units: &[UnitName]) -> Vec<String> {
    units.iter().map(ToString::to_string).collect()
}

/// What was entered and when, for tables and for the status of operations.
impl From<&StepRecord> for StepHistory {
    fn from(record: &StepRecord) -> Self {
        let StepRecord { step, at, not_needed } = record;
        Self {
            step: step.to_string(),
            at: at.to_string(),
            not_needed: not_needed.clone(),
        }
    }
}

impl From<OperationKind> for StoredKind {
    fn from(kind: OperationKind) -> Self {
        match kind {
            OperationKind::Promotion => Self::Promotion,
            OperationKind::Failover => Self::Failover,
        }
    }
}

impl From<StoredKind> for OperationKind {
    fn from(kind: StoredKind) -> Self {
        match kind {
            StoredKind::Promotion => Self::Promotion,
            StoredKind::Failover => Self::Failover,
        }
    }
}

impl From<&Reach> for ReachReport {
    fn from(reach: &Reach) -> Self {
        let (state, message) = match reach {
            Reach::Reached => (ReachState::Reached, None),
            Reach::Waiting(missing) => (ReachState::Waiting, Some(missing.clone())),
            Reach::Broken(why) => (ReachState::Broken, Some(why.clone())),
        };
        Self { state, message }
    }
}

impl From<&ReachReport> for Reach {
    fn from(report: &ReachReport) -> Self {
        let message = report.message.clone().unwrap_or_default();
        match report.state {
            ReachState::Reached => Self::Reached,
            ReachState::Waiting => Self::Waiting(message),
            ReachState::Broken => Self::Broken(message),
        }
    }
}

impl From<&MovingStore> for TableStore {
    fn from(moving: &MovingStore) -> Self {
        let MovingStore {
            store,
            keyspace,
            members,
        } = moving;
        Self {
            name: store.to_string(),
            keyspace: keyspace.to_string(),
            members: write_units(members),
        }
    }
}

impl From<&TableStore> for MovingStore {
    fn from(stored: &TableStore) -> Self {
        let TableStore {
            name,
            keyspace,
            members,
        } = stored;
        Self {
            store: name.as_str().into(),
            keyspace: keyspace.as_str().into(),
            members: read_units(members),
        }
    }
}

impl From<&SlotMove> for TableMove {
    fn from(slot_move: &SlotMove) -> Self {
        let SlotMove {
            keyspace,
            source,
            slots,
        } = slot_move;
        Self {
            keyspace: keyspace.to_string(),
            source: source.to_string(),
            slots: slots.to_string(),
        }
    }
}

impl From<&StorePosition> for TablePosition {
    fn from(position: &StorePosition) -> Self {
        let StorePosition { store, source, vector } = position;
        let vector = vector.iter().map(|UnitPosition { unit, position }| TableUnitPosition {
            unit: unit.to_string(),
            position: position.clone(),
        });
        Self {
            store: store.to_string(),
            source: source.to_string(),
            vector: vector.collect(),
        }
    }
}

impl From<&TablePosition> for StorePosition {
    fn from(position: &TablePosition) -> Self {
        let TablePosition { store, source, vector } = position;
        let vector = vector.iter().map(|TableUnitPosition { unit, position }| UnitPosition {
            unit: unit.as_str().into(),
            position: position.clone(),
        });
        Self {
            store: store.as_str().into(),
            source: source.as_str().into(),
            vector: vector.collect(),
        }
    }
}

pub(super) fn read_operation(field: &str, stored: &TableOperation) -> Read<Operation> {
    let TableOperation {
        kind,
        uid,
        name,
        target,
        moves,
        stores,
        verify,
        changed_only,
        fence_budget_ms,
        drain_budget_ms,
        step,
        term,
        epoch,
        positions,
        behind,
        failover,
        history,
    } = stored;
    let failover = failover
        .as_ref()
        .map(|failover| read_failover(&format!("{field}.failover"), failover));
    let failover = failover.transpose()?.map(Box::new);
    if (*kind == StoredKind::Failover) != failover.is_some() {
        return Err(ConvertError::new(format!("{field}.failover"), "does not fit its kind"));
    }
    let moves = moves.iter().enumerate().map(|(index, m)| {
        Ok(SlotMove {
            keyspace: m.keyspace.as_str().into(),
            source: m.source.as_str().into(),
            slots: read_slots(&format!("{field}.moves[{index}].slots"), &m.slots)?,
        })
    });
    Ok(Operation {
        kind: (*kind).into(),
        uid: uid.as_str().into(),
        name: name.clone(),
        target: target.as_str().into(),
        moves: moves.collect::<Read<_>>()?,
        stores: stores.iter().map(MovingStore::from).collect(),
        verify: match (verify.as_str(), changed_only) {
            ("None", _) => Verify::None,
            ("Full", true) => Verify::Changed,
            ("Full", false) => Verify::Full,
            (other, _) => {
                return Err(ConvertError::new(
                    format!("{field}.verify"),
                    format!("`{other}` is unknown"),
                ));
            }
        },
        budgets: Budgets {
            fence: SignedDuration::from_millis(*fence_budget_ms),
            drain: SignedDuration::from_millis(*drain_budget_ms),
        },
        step: read_step(&format!("{field}.step"), step)?,
        epoch: read_epoch(field, *term, *epoch)?,
        positions: positions.iter().map(StorePosition::from).collect(),
        behind: read_units(behind),
        failover,
        history: read_history(&format!("{field}.history"), history)?,
    })
}

pub(super) fn write_operation(field: &str, op: &Operation) -> Read<TableOperation> {
    let Operation {
        kind,
        uid,
        name,
        target,
        moves,
        stores,
        verify,
        budgets,
        step,
        epoch,
        positions,
        behind,
        failover,
        history,
    } = op;
    let failover = failover
        .as_ref()
        .map(|failover| write_failover(&format!("{field}.failover"), failover));
    Ok(TableOperation {
        kind: (*kind).into(),
        uid: uid.to_string(),
        name: name.clone(),
        target: target.to_string(),
        moves: moves.iter().map(TableMove::from).collect(),
        stores: stores.iter().map(TableStore::from).collect(),
        verify: match verify {
            Verify::None => "None".to_owned(),
            Verify::Changed | Verify::Full => "Full".to_owned(),
        },
        changed_only: *verify == Verify::Changed,
        fence_budget_ms: number(&format!("{field}.fenceBudgetMs"), budgets.fence.as_millis())?,
        drain_budget_ms: number(&format!("{field}.drainBudgetMs"), budgets.drain.as_millis())?,
        step: step.to_string(),
        term: epoch.term.into(),
        epoch: number(&format!("{field}.epoch"), epoch.epoch)?,
        positions: positions.iter().map(TablePosition::from).collect(),
        behind: write_units(behind),
        failover: failover.transpose()?.map(Box::new),
        history: history.iter().map(StepHistory::from).collect(),
    })
}

pub(super) fn read_finished(field: &str, stored: &TableFinished) -> Read<Finished> {
    let TableFinished {
        kind,
        uid,
        name,
        outcome,
        reason,
        message,
        at,
        term,
        epoch,
        behind,
        keyspaces,
        unsettled,
        loss,
        history,
    } = stored;
    let loss = loss.as_ref().map(|loss| read_loss(&format!("{field}.loss"), loss));
    let why = || {
        let reason = reason
            .clone()
            .ok_or_else(|| ConvertError::new(format!("{field}.reason"), "missing"))?;
        Ok::<_, ConvertError>((reason, message.clone().unwrap_or_default()))
    };
    let outcome = match outcome.as_str() {
        "Succeeded" => Outcome::Succeeded,
        "Refused" => why().map(|(reason, message)| Outcome::Refused { reason, message })?,
        "Aborted" => why().map(|(reason, message)| Outcome::Aborted { reason, message })?,
        "Failed" => why().map(|(reason, message)| Outcome::Failed { reason, message })?,
        other => {
            return Err(ConvertError::new(
                format!("{field}.outcome"),
                format!("`{other}` is unknown"),
            ));
        }
    };
    Ok(Finished {
        kind: (*kind).into(),
        uid: uid.as_str().into(),
        name: name.clone(),
        outcome,
        at: at.parse().map_err(|e| ConvertError::new(format!("{field}.at"), e))?,
        epoch: read_epoch(field, *term, *epoch)?,
        behind: read_units(behind),
        keyspaces: keyspaces.iter().map(|keyspace| keyspace.as_str().into()).collect(),
        unsettled: unsettled.clone(),
        loss: loss.transpose()?,
        history: read_history(&format!("{field}.history"), history)?,
    })
}

pub(super) fn write_finished(field: &str, finished: &Finished) -> Read<TableFinished> {
    let Finished {
        kind,
        uid,
        name,
        outcome,
        at,
        epoch,
        behind,
        keyspaces,
        unsettled,
        loss,
        history,
    } = finished;
    let loss = loss.as_ref().map(|loss| write_loss(&format!("{field}.loss"), loss));
    let (outcome, reason, message) = match outcome {
        Outcome::Succeeded => ("Succeeded", None, None),
        Outcome::Refused { reason, message } => ("Refused", Some(reason.clone()), Some(message.clone())),
        Outcome::Aborted { reason, message } => ("Aborted", Some(reason.clone()), Some(message.clone())),
        Outcome::Failed { reason, message } => ("Failed", Some(reason.clone()), Some(message.clone())),
    };
    Ok(TableFinished {
        kind: (*kind).into(),
        uid: uid.to_string(),
        name: name.clone(),
        outcome: outcome.to_owned(),
        reason,
        message,
        at: at.to_string(),
        term: epoch.term.into(),
        epoch: number(&format!("{field}.epoch"), epoch.epoch)?,
        behind: write_units(behind),
        keyspaces: keyspaces.iter().map(ToString::to_string).collect(),
        unsettled: unsettled.clone(),
        loss: loss.transpose()?,
        history: history.iter().map(StepHistory::from).collect(),
    })
}
