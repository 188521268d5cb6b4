//! What recording a move makes of the table. The caller commits the result by compare-and-swap; only then it counts.

use super::failover::{Failover, Retargeted};
use super::next::{Evidence, Move};
use super::operation::{Finished, Operation, OperationKind, Outcome, Step, StepRecord};
use crate::epoch::Epoch;
use crate::ids::{KeyspaceName, OperationUid, UnitName};
use crate::quarantine;
use crate::slots::SlotSet;
use crate::span::SpanState;
use crate::table::{FINISHED_REMEMBERED, RoutingTable};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// How much of what did not settle the table remembers.
const UNSETTLED_TOLD: usize = 16;

/// The table does not fit the move: somebody else wrote it, or it is damaged. Nothing may be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The operation is not in the table.
    #[error("operation {0} is not in the routing table")]
    NoSuchOperation(OperationUid),
    /// A slot that moves is not where the operation left it.
    #[error("slot {slot} of {keyspace} is not {expected}: the table does not fit step {step}")]
    Misfit {
        /// The keyspace.
        keyspace: String,
        /// The first slot that does not fit.
        slot: u16,
        /// Owner and state that the step expects.
        expected: String,
        /// The step that was to be entered.
        step: Step,
    },
    /// The move does not follow from the recorded step: it was decided on another table.
    #[error("operation {operation} stands at step {from}: {to} does not follow")]
    OutOfOrder {
        /// The operation's name.
        operation: String,
        /// Where it stands.
        from: Step,
        /// What was to be recorded.
        to: String,
    },
}

/// The table after `movement` of operation `uid`; `None` where there is nothing to record.
///
/// # Errors
///
/// [`RecordError`] where the table does not hold the operation or its slots as the operation left them, or where the
/// move does not follow from the recorded step, because it was decided on an older table.
pub fn record(
    table: &RoutingTable,
    uid: &OperationUid,
    movement: &Move,
    now: Timestamp,
) -> Result<Option<RoutingTable>, RecordError> {
    let mut changed = table.clone();
    changed.epoch = table.epoch.next();
    let missing = || RecordError::NoSuchOperation(uid.clone());
    let index = changed
        .operations
        .iter()
        .position(|op| op.uid == *uid)
        .ok_or_else(missing)?;
    let mut op = changed.operations.remove(index);
    if !follows(&op, movement) {
        return Err(RecordError::OutOfOrder {
            operation: op.name,
            from: op.step,
            to: describe(movement),
        });
    }
    match movement {
        Move::Wait(_) => return Ok(None),
        Move::Enter {
            step,
            not_needed,
            passed,
            positions,
            behind,
            evidence,
        } => {
            for (skipped, reason) in not_needed {
                op.history.push(StepRecord {
                    step: *skipped,
                    at: now,
                    not_needed: Some(reason.clone()),
                });
            }
            for step in passed.iter().chain([step]) {
                enter(&mut changed, &mut op, *step, now)?;
            }
            op.positions.extend(positions.iter().cloned());
            take_evidence(&mut op, evidence);
            match (op.kind, step) {
                (_, Step::Hold | Step::Commit) | (OperationKind::Failover, Step::Drain) => op.behind.clone_from(behind),
                (OperationKind::Promotion, Step::Drain)
                | (
                    _,
                    Step::Check | Step::Prepare | Step::Verify | Step::Fence | Step::Cut | Step::Open | Step::Settle,
                ) => {}
            }
        }
        Move::Retarget { target, why } => retarget(&mut op, target, why, now),
        Move::HandOn(tail) => {
            if let Some(failover) = &mut op.failover {
                failover.tail = Some(tail.clone());
            }
        }
        Move::End(outcome) => {
            end(&mut changed, op, outcome, Vec::new(), now)?;
            return Ok(Some(changed));
        }
        Move::EndWithout(unsettled) => {
            let unsettled = unsettled.iter().take(UNSETTLED_TOLD).cloned().collect();
            end(&mut changed, op, &Outcome::Succeeded, unsettled, now)?;
            return Ok(Some(changed));
        }
    }
    changed.operations.insert(index, op);
    Ok(Some(changed))
}

fn take_evidence(op: &mut Operation, evidence: &Evidence) {
    let Some(failover) = &mut op.failover else { return };
    match evidence {
        Evidence::None => {}
        Evidence::Fence(proof) => failover.proof = Some((**proof).clone()),
        Evidence::Loss(loss) => failover.loss = Some((**loss).clone()),
    }
}

fn retarget(op: &mut Operation, target: &UnitName, why: &str, now: Timestamp) {
    let from = std::mem::replace(&mut op.target, target.clone());
    if let Some(failover) = &mut op.failover {
        failover.retargeted.push(Retargeted {
            from,
            to: target.clone(),
            why: why.to_owned(),
            at: now,
            tail: failover.tail.is_some(),
        });
        // What another one has stays known, and goes to the new target.
        failover.tail = failover.tail.take().filter(|tail| tail.from != *target);
    }
}

/// Whether a failover may enter a step with this evidence: none commits without a proven fence and a measured loss, and
/// what is proven is not proven anew.
fn evidence_fits(failover: Option<&Failover>, step: Step, evidence: &Evidence) -> bool {
    let Some(failover) = failover else {
        return *evidence == Evidence::None;
    };
    let (proven, measured) = (failover.proof.is_some(), failover.loss.is_some());
    match (step, evidence) {
        (Step::Cut, Evidence::Fence(_)) => !proven && !measured,
        (Step::Drain, Evidence::Loss(_)) => proven && !measured,
        (Step::Check | Step::Prepare | Step::Verify | Step::Hold | Step::Fence, Evidence::None) => true,
        (Step::Commit | Step::Open | Step::Settle, Evidence::None) => proven && measured,
        (Step::Cut | Step::Drain, Evidence::None)
        | (
            Step::Check
            | Step::Prepare
            | Step::Verify
            | Step::Hold
            | Step::Fence
            | Step::Cut
            | Step::Commit
            | Step::Open
            | Step::Settle,
            Evidence::Loss(_),
        )
        | (
            Step::Check
            | Step::Prepare
            | Step::Verify
            | Step::Hold
            | Step::Fence
            | Step::Drain
            | Step::Commit
            | Step::Open
            | Step::Settle,
            Evidence::Fence(_),
        ) => false,
    }
}

/// Whether a move may be recorded where the operation stands. Every step is entered once and in order. Of a promotion only
/// those before Hold, which change nothing, may be `NotNeeded`, and only Fence and Drain may be passed with the next one; of
/// a failover only Verify and Hold are not needed, and none is passed.
fn follows(op: &Operation, movement: &Move) -> bool {
    // A record that stays at Commit stands where Open does.
    let from = if op.step == Step::Commit { Step::Open } else { op.step };
    match movement {
        Move::Wait(_) => true,
        Move::Enter {
            step,
            not_needed,
            passed,
            positions: _,
            behind: _,
            evidence,
        } => {
            let skipped: Vec<Step> = not_needed.iter().map(|(step, _)| *step).collect();
            let between = op.kind.steps().filter(|other| from < *other && other < step);
            let (needless, passing): (&[Step], &[Step]) = match op.kind {
                OperationKind::Promotion => (&[Step::Check, Step::Prepare, Step::Verify], &[Step::Fence, Step::Drain]),
                OperationKind::Failover => (&[Step::Verify, Step::Hold], &[]),
            };
            *step > from
                && *step != Step::Open
                && op.kind.steps().any(|mine| mine == *step)
                && between.eq(skipped.iter().chain(passed).copied())
                && skipped.iter().all(|skipped| needless.contains(skipped))
                && passed.iter().all(|passed| passing.contains(passed))
                && evidence_fits(op.failover.as_deref(), *step, evidence)
        }
        // Once positions are published they are the target's own.
        Move::Retarget { target, .. } => {
            op.failover.as_ref().is_some_and(|failover| failover.lost != *target)
                && op.target != *target
                && from < Step::Drain
        }
        Move::HandOn(tail) => {
            let fits = |failover: &Failover| failover.lost != tail.from && failover.tail.as_ref() != Some(tail);
            op.failover.as_deref().is_some_and(fits) && op.target != tail.from && from == Step::Cut
        }
        Move::End(Outcome::Succeeded) | Move::EndWithout(_) => from == Step::Settle,
        Move::End(Outcome::Refused { .. }) => from < Step::Hold,
        Move::End(Outcome::Aborted { .. }) => from.may_abort(),
        // Only what takes its slots says that it failed.
        Move::End(Outcome::Failed { .. }) => false,
    }
}

fn describe(movement: &Move) -> String {
    match movement {
        Move::Wait(_) => "to wait".to_owned(),
        Move::Enter { step, .. } => format!("step {step}"),
        Move::End(Outcome::Succeeded) | Move::EndWithout(_) => "success".to_owned(),
        Move::End(Outcome::Refused { .. }) => "a refusal".to_owned(),
        Move::End(Outcome::Aborted { .. }) => "an abort".to_owned(),
        Move::End(Outcome::Failed { .. }) => "a failure".to_owned(),
        Move::Retarget { target, .. } => format!("target {target}"),
        Move::HandOn(tail) => format!("rows handed on by {}", tail.from),
    }
}

fn enter(table: &mut RoutingTable, op: &mut Operation, step: Step, now: Timestamp) -> Result<(), RecordError> {
    use SpanState::{Fenced, Held, Opening, Serving};
    let epoch = table.epoch;
    let target = op.target.clone();
    match step {
        Step::Check | Step::Prepare | Step::Verify | Step::Cut | Step::Drain => {}
        Step::Hold => transfer(table, op, (None, &[Serving]), (None, Held), step)?,
        // A lost unit may not have opened yet, or be in quarantine already.
        Step::Fence => {
            let from: &[SpanState] = match op.kind {
                OperationKind::Promotion => &[Held],
                OperationKind::Failover => &[Serving, Opening, Fenced],
            };
            transfer(table, op, (None, from), (None, Fenced), step)?;
        }
        Step::Commit | Step::Open => transfer(table, op, (None, &[Fenced]), (Some(&target), Opening), step)?,
        Step::Settle => transfer(table, op, (Some(&target), &[Opening]), (Some(&target), Serving), step)?,
    }
    match step {
        Step::Check | Step::Prepare | Step::Verify => {}
        // A source of a promotion fences at the epoch of Hold, whether Fence is recorded before or after.
        Step::Fence => {
            if let Some(failover) = &mut op.failover {
                failover.fence = epoch;
                op.epoch = epoch;
            }
        }
        Step::Hold | Step::Cut | Step::Drain | Step::Commit | Step::Open | Step::Settle => op.epoch = epoch,
    }
    op.history.push(StepRecord {
        step,
        at: now,
        not_needed: None,
    });
    op.step = step;
    if step == Step::Commit {
        if let Some(failover) = &op.failover {
            quarantine::quarantine(table, &failover.lost, op.object(), &op.name);
        }
        op.step = Step::Open;
        op.history.push(StepRecord {
            step: Step::Open,
            at: now,
            not_needed: None,
        });
    }
    Ok(())
}

pub(super) fn end(
    table: &mut RoutingTable,
    op: Operation,
    outcome: &Outcome,
    unsettled: Vec<String>,
    now: Timestamp,
) -> Result<(), RecordError> {
    use SpanState::{Fenced, Held, Opening, Serving};
    match outcome {
        Outcome::Refused { .. } => {}
        Outcome::Succeeded => check(table, &op, Some(&op.target), &[Serving], op.step)?,
        Outcome::Aborted { .. } if op.step < Step::Hold => {}
        Outcome::Aborted { .. } => give_back(table, &op, &[Held, Fenced])?,
        // Nobody has opened them, so nobody may open them any more: whoever supersedes it takes them from there.
        Outcome::Failed { .. } => {
            let owner = Some(&op.target);
            transfer(table, &op, (owner, &[Opening]), (owner, Fenced), op.step)?;
        }
    }
    if let Some(lost) = op.lost().filter(|lost| quarantine::is_quarantined(table, lost)) {
        // Another operation of the same Failover has committed: what this one leaves behind is not served either.
        quarantine::quarantine(table, lost, op.object(), &op.name);
    }
    let Operation {
        kind,
        uid,
        name,
        moves,
        behind,
        failover,
        history,
        ..
    } = op;
    let epoch = table.epoch;
    let behind = match outcome {
        Outcome::Succeeded | Outcome::Failed { .. } => behind,
        // No owner changed: nobody is behind a new one.
        Outcome::Refused { .. } | Outcome::Aborted { .. } => Vec::new(),
    };
    let keyspaces: BTreeSet<KeyspaceName> = moves.into_iter().map(|slot_move| slot_move.keyspace).collect();
    let keyspaces = keyspaces.into_iter().filter(|_| !behind.is_empty());
    table.finished.push(Finished {
        keyspaces: keyspaces.collect(),
        kind,
        uid,
        name,
        outcome: outcome.clone(),
        at: now,
        epoch,
        behind,
        unsettled,
        loss: failover.and_then(|failover| failover.loss),
        history,
    });
    let surplus = table.finished.len().saturating_sub(FINISHED_REMEMBERED);
    table.finished.drain(..surplus);
    Ok(())
}

/// The sources own the slots again. A lost unit gets its lease back with them, from this table on. Slots that it had never
/// opened it does not get to open now: what they have to be opened with ended with the operation that brought them.
fn give_back(table: &mut RoutingTable, op: &Operation, from: &[SpanState]) -> Result<(), RecordError> {
    let Some(failover) = &op.failover else {
        return transfer(table, op, (None, from), (None, SpanState::Serving), op.step);
    };
    let gone = quarantine::is_quarantined(table, &failover.lost);
    let state = match gone || failover.superseded.is_some() {
        true => SpanState::Fenced,
        false => SpanState::Serving,
    };
    transfer(table, op, (None, from), (None, state), op.step)?;
    if !gone {
        quarantine::grant(table, &failover.lost);
    }
    Ok(())
}

/// Gives the operation's slots an owner and a state; an owner of `None` means each move's source.
fn transfer(
    table: &mut RoutingTable,
    op: &Operation,
    (from_owner, from_states): (Option<&UnitName>, &[SpanState]),
    (to_owner, to_state): (Option<&UnitName>, SpanState),
    step: Step,
) -> Result<(), RecordError> {
    check(table, op, from_owner, from_states, step)?;
    let epoch: Epoch = table.epoch;
    for slot_move in &op.moves {
        let mut keyspaces = table.keyspaces.iter_mut();
        if let Some(keyspace) = keyspaces.find(|keyspace| keyspace.name == slot_move.keyspace) {
            let owner = to_owner.unwrap_or(&slot_move.source);
            keyspace.set(&slot_move.slots, Some(owner), to_state, epoch);
        }
    }
    Ok(())
}

/// Whether all of the operation's slots have this owner and one of these states; an owner of `None` means each move's
/// source.
fn check(
    table: &RoutingTable,
    op: &Operation,
    owner: Option<&UnitName>,
    states: &[SpanState],
    step: Step,
) -> Result<(), RecordError> {
    for slot_move in &op.moves {
        let owner = owner.unwrap_or(&slot_move.source);
        let fits = table
            .keyspace(&slot_move.keyspace)
            .map_or_else(SlotSet::default, |keyspace| {
                keyspace.slots_where(|span| span.is_owned_by(owner) && states.contains(&span.state))
            });
        let misfit = slot_move.slots.difference(&fits);
        if let Some((slot, _)) = misfit.ranges().first() {
            return Err(RecordError::Misfit {
                keyspace: slot_move.keyspace.to_string(),
                slot: *slot,
                expected: format!("{states:?} at {owner}"),
                step,
            });
        }
    }
    Ok(())
}
