//! What a Promotion's status says: where it stands, what it waits for, how it ended. Pure.

use super::plan::plan;
use super::request::uid_of;
use crate::conditions::{Readiness, set_readiness};
use crate::status::is_paused;
use crate::tables::View;
use jiff::{SignedDuration, Timestamp};
use multiactive_api::convert::{format_duration, write_units};
use multiactive_api::{Promotion, PromotionMode, PromotionStatus, StepHistory};
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Finished, Operation, Outcome, Step, StepRecord};

/// The status that the view asks for. `owner_changed` is the epoch of the commit point, where this process saw it.
pub fn status(promotion: &Promotion, view: &View, owner_changed: Option<Epoch>, now: Timestamp) -> PromotionStatus {
    let mut status = promotion.status.clone().unwrap_or_default();
    let uid = uid_of(promotion);
    let table = view.table.as_deref();
    let finished = table.and_then(|table| table.finished.iter().find(|done| done.uid == uid));
    let readiness = if let Some(op) = table.and_then(|table| table.operation(&uid)) {
        running(&mut status, op, view)
    } else if let Some(done) = finished {
        ended(&mut status, done)
    } else if status.outcome.is_some() {
        return status;
    } else if let Some(refused) = view.refused.get(&uid) {
        status.outcome = Some("Refused".to_owned());
        status.reason = Some(refused.reason.clone());
        status.message = Some(refused.message.clone());
        stalled("Refused", format!("{}: {}", refused.reason, refused.message))
    } else {
        waiting(&mut status, promotion, view, now)
    };
    if let Some(epoch) = owner_changed {
        status.epoch = Some(epoch.to_string());
    }
    status.observed_generation = promotion.metadata.generation;
    set_readiness(&mut status.conditions, &readiness, promotion.metadata.generation, now);
    status
}

pub(crate) fn stalled(reason: &'static str, message: String) -> Readiness {
    Readiness::Stalled { reason, message }
}

pub(crate) fn reconciling(reason: &'static str, message: String) -> Readiness {
    Readiness::Reconciling { reason, message }
}

/// It has not begun.
fn waiting(status: &mut PromotionStatus, promotion: &Promotion, view: &View, now: Timestamp) -> Readiness {
    if is_paused(promotion) {
        status.waiting_for = Some(format!("the annotation {} to be removed", crate::status::PAUSED));
        return reconciling("Paused", "it is paused".to_owned());
    }
    if promotion.spec.mode == PromotionMode::Execute {
        if let Some((waits, readiness)) = held_up(view) {
            status.waiting_for = Some(waits);
            return readiness;
        }
        if let Some(why) = view.misfits.get(&uid_of(promotion)) {
            status.waiting_for = Some(format!("the routing table: {why}"));
            return stalled("RecordMisfit", format!("it does not begin: {why}"));
        }
    }
    let Some(table) = view.table.as_deref() else {
        status.waiting_for = Some("the routing table".to_owned());
        return reconciling("Pending", "the namespace has no routing table yet".to_owned());
    };
    match promotion.spec.mode {
        PromotionMode::Plan => {
            let plan = plan(promotion, table, &view.inputs, now);
            let message = match plan.blockers.len() {
                0 => "it can run".to_owned(),
                count => format!("{count} blockers, see status.plan"),
            };
            status.plan = Some(plan);
            status.waiting_for = None;
            status.outcome = Some("Succeeded".to_owned());
            status.reason = Some("Planned".to_owned());
            status.message = Some(message.clone());
            Readiness::Ready {
                reason: "Planned",
                message,
            }
        }
        PromotionMode::Execute => {
            status.waiting_for = Some("its admission".to_owned());
            reconciling("Pending", "it is about to begin".to_owned())
        }
    }
}

fn running(status: &mut PromotionStatus, op: &Operation, view: &View) -> Readiness {
    history(status, &op.history);
    status.step = Some(op.step.to_string());
    status.outcome = None;
    status.reason = None;
    status.message = None;
    let sources: Vec<_> = op.sources().iter().map(ToString::to_string).collect();
    status.from = Some(sources.join(","));
    let slots: usize = op.moves.iter().map(|slot_move| slot_move.slots.len()).sum();
    status.slots = i32::try_from(slots).ok();
    status.behind = match op.step {
        Step::Commit | Step::Open | Step::Settle => write_units(&op.behind),
        Step::Check | Step::Prepare | Step::Verify | Step::Hold | Step::Fence | Step::Cut | Step::Drain => Vec::new(),
    };
    status.waiting_for = view.waits.get(&op.uid).map(ToString::to_string);
    if let Some(why) = view.misfits.get(&op.uid) {
        status.message = Some(why.clone());
        status.waiting_for = Some(format!("the routing table: {why}"));
        return stalled(
            "RecordMisfit",
            format!("the record does not fit, nothing is done: {why}"),
        );
    }
    if let Some((waits, readiness)) = held_up(view) {
        status.waiting_for = Some(waits);
        return readiness;
    }
    let waits = status
        .waiting_for
        .as_deref()
        .map(|wait| format!(", waiting for {wait}"));
    reconciling("Running", format!("at {}{}", op.step, waits.unwrap_or_default()))
}

fn ended(status: &mut PromotionStatus, done: &Finished) -> Readiness {
    history(status, &done.history);
    status.step = done.history.last().map(|record| record.step.to_string());
    status.waiting_for = None;
    status.behind = write_units(&done.behind);
    status.unsettled.clone_from(&done.unsettled);
    match &done.outcome {
        Outcome::Succeeded => {
            status.outcome = Some("Succeeded".to_owned());
            status.reason = None;
            let told = [told_behind(&status.behind), told_unsettled(&status.unsettled)];
            let told: Vec<_> = told.into_iter().flatten().collect();
            status.message = (!told.is_empty()).then(|| told.join("; "));
            if status.epoch.is_none() {
                // Who saw the commit point is gone; the end is the closest that the record remembers.
                status.epoch = Some(done.epoch.to_string());
            }
            Readiness::Ready {
                reason: "Succeeded",
                message: match &status.message {
                    None => "the target owns the slots and serves them".to_owned(),
                    Some(told) => format!("the target owns the slots and serves them; {told}"),
                },
            }
        }
        Outcome::Refused { reason, message } => end_badly(status, "Refused", reason, message),
        Outcome::Aborted { reason, message } => end_badly(status, "Aborted", reason, message),
        Outcome::Failed { reason, message } => end_badly(status, "Failed", reason, message),
    }
}

/// What a person has to know of units that were away.
fn told_behind(behind: &[String]) -> Option<String> {
    (!behind.is_empty()).then(|| {
        format!(
            "behind, for their clusters or databases were away: {}; their databases apply nothing of the new owner before they have \
             the last writes of the owner before it: see the ReplicationLinks",
            behind.join(", ")
        )
    })
}

/// What a person has to know of bystanders that did not settle.
fn told_unsettled(unsettled: &[String]) -> Option<String> {
    (!unsettled.is_empty()).then(|| {
        format!(
            "not settled elsewhere, and not waited for: {}; what is sent to the old owner meanwhile, it refuses",
            unsettled.join(", ")
        )
    })
}

/// What keeps the record of the whole namespace from changing, as what is waited for, reason and message.
pub(crate) fn held_up(view: &View) -> Option<(String, Readiness)> {
    if let Some(problem) = &view.record_problem {
        let waits = format!("the routing table: {}", problem.message);
        return Some((waits, stalled(problem.reason, problem.message.clone())));
    }
    view.table_paused.then(|| {
        let waits = format!(
            "the annotation {} to be removed from the RoutingTable",
            crate::status::PAUSED
        );
        let message = format!(
            "nothing is recorded: the RoutingTable has the annotation {}",
            crate::status::PAUSED
        );
        (waits, stalled("TablePaused", message))
    })
}

fn end_badly(status: &mut PromotionStatus, outcome: &'static str, reason: &str, message: &str) -> Readiness {
    status.outcome = Some(outcome.to_owned());
    status.reason = Some(reason.to_owned());
    status.message = Some(message.to_owned());
    stalled(outcome, format!("{reason}: {message}"))
}

fn history(status: &mut PromotionStatus, history: &[StepRecord]) {
    status.history = history.iter().map(StepHistory::from).collect();
    status.pause = pause(history).map(format_duration);
}

/// From Hold until the target was seen to serve: clients waited no longer than this.
pub fn pause(history: &[StepRecord]) -> Option<SignedDuration> {
    let at = |step| {
        history
            .iter()
            .find(|r| r.step == step && r.not_needed.is_none())
            .map(|r| r.at)
    };
    Some(at(Step::Settle)?.duration_since(at(Step::Hold)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{object, operation};
    use crate::tables::RecordProblem;
    use multiactive_core::promotion::OperationKind;

    #[test]
    fn who_was_behind_is_told_to_the_end_and_nothing_is_where_nobody_was() {
        for (behind, want) in [
            (vec![], "the target owns the slots and serves them"),
            (
                vec!["south-1".into()],
                "the target owns the slots and serves them; behind, for their clusters or databases were away: south-1; their",
            ),
        ] {
            let done = Finished {
                kind: OperationKind::Promotion,
                uid: "move".into(),
                name: "move".to_owned(),
                outcome: Outcome::Succeeded,
                at: Timestamp::UNIX_EPOCH,
                epoch: Epoch::new(1, 7),
                behind,
                keyspaces: Vec::new(),
                unsettled: Vec::new(),
                loss: None,
                history: Vec::new(),
            };
            let mut status = PromotionStatus::default();
            let readiness = ended(&mut status, &done);
            assert_eq!(status.behind, write_units(&done.behind));
            assert_eq!(status.message.is_some(), !done.behind.is_empty());
            assert!(
                matches!(&readiness, Readiness::Ready { message, .. } if message.starts_with(want)),
                "{readiness:?}"
            );
        }
    }

    #[test]
    fn what_holds_up_the_record_is_said_by_promotions_that_run_and_by_those_that_wait() {
        let spec = serde_json::json!({"targetUnit": "b", "mode": "Execute", "select": {"type": "Unit", "unit": "a"},
            "expectedEpoch": 1});
        let promotion: Promotion = object("Promotion", "move", spec);
        let operation = operation(Step::Hold, Epoch::new(1, 3));
        let table = |operations| {
            let table = multiactive_core::table::RoutingTable {
                operations,
                ..multiactive_core::table::RoutingTable::default()
            };
            Some(std::sync::Arc::new(table))
        };
        for operations in [vec![operation], Vec::new()] {
            let well = View {
                table: table(operations),
                ..View::default()
            };
            let trouble = View {
                record_problem: Some(RecordProblem {
                    reason: "RecordUnreachable",
                    message: "no answer".to_owned(),
                }),
                ..well.clone()
            };
            let paused = View {
                table_paused: true,
                ..well.clone()
            };
            let misfit = View {
                misfits: [("move".into(), "too long".to_owned())].into(),
                ..well.clone()
            };
            for (view, reason, waits) in [
                (trouble, "RecordUnreachable", "the routing table: no answer"),
                (
                    paused,
                    "TablePaused",
                    "the annotation multiactive.io/paused to be removed from the RoutingTable",
                ),
                (misfit, "RecordMisfit", "the routing table: too long"),
            ] {
                let status = status(&promotion, &view, None, Timestamp::UNIX_EPOCH);
                assert_eq!(status.waiting_for.as_deref(), Some(waits));
                for kind in [multiactive_api::READY, multiactive_api::STALLED] {
                    let condition = status.conditions.iter().find(|c| c.type_ == kind).unwrap();
                    assert_eq!(condition.reason, reason, "{kind}");
                }
            }
            let status = status(&promotion, &well, None, Timestamp::UNIX_EPOCH);
            let stalled = status
                .conditions
                .iter()
                .find(|c| c.type_ == multiactive_api::STALLED)
                .unwrap();
            assert_eq!(stalled.status, "False");
        }
    }
}
