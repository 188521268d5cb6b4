//! What the table of a namespace becomes next. Pure: the same inputs give the same decision.

use super::Inputs;
use super::lasting::Lasting;
use super::refusals::{Attempt, Refusals, Subject};
use super::returning::returning;
use crate::failovers::request::{self as failovers, Begins};
use crate::promotions::request::{self, Refused, uid_of};
use crate::promotions::seen::seen;
use crate::status::is_paused;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use multiactive_api::{Failover, Promotion, PromotionMode};
use multiactive_core::ids::OperationUid;
use multiactive_core::ownership::{OwnershipProblem, manage};
use multiactive_core::promotion::{Move, Operation, Placement, Seen, Step, WaitFor, next, record, wake_at};
use multiactive_core::quarantine;
use multiactive_core::table::RoutingTable;
use std::collections::BTreeMap;

/// With this finalizer a Promotion is held until its operation ended; without it, it is not admitted.
pub const OPERATION_FINALIZER: &str = "multiactive.io/operation";

/// The largest table that a new operation may be added to, in bytes of JSON: the rest of the ledger's limit is for its
/// positions and for the spans that it splits.
const ADMIT_BYTES: usize = 768 * 1024;

/// How long Check and Prepare wait in the core.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// A table to commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The table.
    pub table: RoutingTable,
    /// What it is about.
    pub subject: Subject,
    /// What it records about that.
    pub attempt: Attempt,
}

/// What is to be done about the table, and what was found on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// What to commit; `None` where nothing changes.
    pub proposal: Option<Proposal>,
    /// What each running operation waits for.
    pub waits: BTreeMap<OperationUid, WaitFor>,
    /// Promotions and Failovers that may not begin, found in this look.
    pub refused: BTreeMap<OperationUid, Refused>,
    /// Who takes over what of a lost unit, by the uid of a Failover that has not begun.
    pub placements: BTreeMap<OperationUid, Placement>,
    /// Operations whose record does not fit or was not taken by the server: nothing is done about them now.
    pub misfits: BTreeMap<OperationUid, String>,
    /// Why the server did not take units, keyspaces and first owners.
    pub ownership_refused: Option<String>,
    /// Declarations that cannot be followed.
    pub problems: Vec<OwnershipProblem>,
    /// When to look again if nothing changes: the next budget that runs out, or commit to be tried again.
    pub wake_at: Option<Timestamp>,
}

impl Decided {
    pub(super) fn wake(&mut self, at: impl IntoIterator<Item = Timestamp>) {
        self.wake_at = self.wake_at.into_iter().chain(at).min();
    }
}

/// What this process remembers of earlier looks.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    /// Promotions that were refused and whose status does not say so yet.
    pub refused: &'a BTreeMap<OperationUid, Refused>,
    /// Commits that the server refused.
    pub refusals: &'a Refusals,
    /// Since when what is seen has been so.
    pub lasting: &'a Lasting,
}

/// The next change of `table`: steps of running operations first, then ownership, then new operations. What the server
/// refused a moment ago holds up none of the others.
pub fn decide(table: Option<&RoutingTable>, inputs: &Inputs, memory: Memory<'_>, now: Timestamp) -> Decided {
    let mut decided = Decided::default();
    for op in table.into_iter().flat_map(|table| &table.operations) {
        decided.proposal = step(table, op, inputs, memory, now, &mut decided);
        if decided.proposal.is_some() {
            return decided;
        }
    }
    decided.proposal = table.and_then(|table| return_of(table, inputs, memory, now, &mut decided));
    if decided.proposal.is_some() {
        return decided;
    }
    let managed = manage(table, &inputs.declared(), &inputs.units_seen());
    decided.problems = managed.problems;
    if let Some(table) = managed.table {
        match memory.refusals.standing(&Subject::Ownership, Attempt::Manage, now) {
            None => {
                decided.proposal = Some(Proposal {
                    table,
                    subject: Subject::Ownership,
                    attempt: Attempt::Manage,
                });
                return decided;
            }
            Some(refusal) => {
                decided.wake([refusal.again_at()]);
                decided.ownership_refused = Some(refusal.why.clone());
            }
        }
    }
    if let Some(table) = table {
        // A Failover comes first: it ends what waits for the unit that is lost.
        decided.proposal = failover_admission(table, inputs, memory, now, &mut decided);
        if decided.proposal.is_none() {
            decided.proposal = admission(table, inputs, memory, now, &mut decided);
        }
    }
    decided
}

/// The next change for a unit in quarantine.
fn return_of(
    table: &RoutingTable,
    inputs: &Inputs,
    memory: Memory<'_>,
    now: Timestamp,
    decided: &mut Decided,
) -> Option<Proposal> {
    let (unit, table) = returning(table, inputs, now)?;
    let (subject, attempt) = (Subject::Unit(unit), Attempt::Return);
    if let Some(refusal) = memory.refusals.standing(&subject, attempt, now) {
        decided.wake([refusal.again_at()]);
        return None;
    }
    Some(Proposal {
        table,
        subject,
        attempt,
    })
}

/// The first Promotion that may begin.
fn admission(
    table: &RoutingTable,
    inputs: &Inputs,
    memory: Memory<'_>,
    now: Timestamp,
    decided: &mut Decided,
) -> Option<Proposal> {
    let pending = inputs
        .promotions
        .iter()
        .filter(|promotion| is_pending(promotion, table));
    for promotion in pending {
        let uid = uid_of(promotion);
        if memory.refused.contains_key(&uid) {
            continue;
        }
        let subject = Subject::Operation(uid.clone());
        if let Some(refusal) = memory.refusals.standing(&subject, Attempt::Begin, now) {
            decided.wake([refusal.again_at()]);
            decided.misfits.insert(uid, refused_text(&refusal.why));
            continue;
        }
        let operation = request::operation(promotion, table, inputs, now);
        // Without the finalizer: it is being added, and its arrival wakes us.
        let held = promotion.finalizers().iter().any(|f| f == OPERATION_FINALIZER);
        match operation.and_then(|operation| held.then(|| admitted(table, operation)).transpose()) {
            Ok(Some(table)) => {
                return Some(Proposal {
                    table,
                    subject,
                    attempt: Attempt::Begin,
                });
            }
            Ok(None) => {}
            Err(refused) => {
                decided.refused.insert(uid, refused);
            }
        }
    }
    None
}

/// The first Failover that may begin.
fn failover_admission(
    table: &RoutingTable,
    inputs: &Inputs,
    memory: Memory<'_>,
    now: Timestamp,
    decided: &mut Decided,
) -> Option<Proposal> {
    let pending = inputs.failovers.iter();
    for failover in pending.filter(|failover| is_failover_pending(failover, table)) {
        let uid = failovers::uid_of(failover);
        if memory.refused.contains_key(&uid) {
            continue;
        }
        let subject = Subject::Operation(uid.clone());
        if let Some(refusal) = memory.refusals.standing(&subject, Attempt::Begin, now) {
            decided.wake([refusal.again_at()]);
            decided.misfits.insert(uid, refused_text(&refusal.why));
            continue;
        }
        let (begins, placement) = failovers::begins(failover, table, inputs, memory.lasting.waited(&uid), now);
        decided.placements.insert(uid.clone(), placement);
        // Without the finalizer: it is being added, and its arrival wakes us.
        let held = failover.finalizers().iter().any(|f| f == OPERATION_FINALIZER);
        let begun = match begins {
            Begins::Table(table) => held.then(|| fits(*table)).transpose(),
            Begins::Waits(until) => {
                decided.wake([until]);
                let why = "whether a unit may take over is not known yet, see status.placement";
                decided.misfits.insert(uid, why.to_owned());
                continue;
            }
            Begins::Refused(refused) => Err(refused),
        };
        match begun {
            Ok(Some(table)) => {
                return Some(Proposal {
                    table,
                    subject,
                    attempt: Attempt::Begin,
                });
            }
            Ok(None) => {}
            Err(refused) => {
                decided.refused.insert(uid, refused);
            }
        }
    }
    None
}

/// Whether a Failover still has to begin.
pub fn is_failover_pending(failover: &Failover, table: &RoutingTable) -> bool {
    let uid = failovers::uid_of(failover);
    failover.metadata.deletion_timestamp.is_none()
        && failover.status.as_ref().is_none_or(|status| status.outcome.is_none())
        && !table.operations.iter().any(|op| op.object() == uid)
        && !table.finished.iter().any(|done| done.uid.object() == uid)
        && !is_paused(failover)
}

fn refused_text(why: &str) -> String {
    format!("the server refused the record, it is tried again: {why}")
}

/// Whether a Promotion still has to begin.
pub fn is_pending(promotion: &Promotion, table: &RoutingTable) -> bool {
    let uid = uid_of(promotion);
    promotion.spec.mode == PromotionMode::Execute
        && promotion.metadata.deletion_timestamp.is_none()
        && promotion.status.as_ref().is_none_or(|status| status.outcome.is_none())
        && table.operation(&uid).is_none()
        && !table.finished.iter().any(|done| done.uid == uid)
        && !is_paused(promotion)
}

/// The table with a new operation.
fn admitted(table: &RoutingTable, operation: Operation) -> Result<RoutingTable, Refused> {
    let mut changed = table.clone();
    changed.epoch = table.epoch.next();
    changed.operations.push(operation);
    fits(changed)
}

/// The table, where it leaves room for what its operations will note.
fn fits(changed: RoutingTable) -> Result<RoutingTable, Refused> {
    let spec = multiactive_api::RoutingTableSpec::try_from(&changed).map_err(|error| Refused {
        reason: "Invalid".to_owned(),
        message: error.to_string(),
    })?;
    let bytes = serde_json::to_vec(&spec).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > ADMIT_BYTES {
        return Err(Refused {
            reason: "TableTooLarge".to_owned(),
            message: format!(
                "the routing table would have {bytes} bytes, at most {ADMIT_BYTES} leave room for the operation"
            ),
        });
    }
    Ok(changed)
}

/// The next move of `op` as a table, or nothing where it waits.
fn step(
    table: Option<&RoutingTable>,
    op: &Operation,
    inputs: &Inputs,
    memory: Memory<'_>,
    now: Timestamp,
    decided: &mut Decided,
) -> Option<Proposal> {
    let (table, subject) = (table?, Subject::Operation(op.uid.clone()));
    let standing = |movement: &Move| memory.refusals.standing(&subject, Attempt::of(movement)?, now);
    let mut facts = seen(op, inputs);
    facts.lost = quarantine::lost(table);
    facts.since = memory.lasting.of(op, now);
    let mut movement = next(op, &facts, now);
    if let Some(refusal) = standing(&movement) {
        decided.wake([refusal.again_at()]);
        decided.misfits.insert(op.uid.clone(), refused_text(&refusal.why));
        // What cannot be recorded within the budget is given up, if that can be recorded.
        let deadline = deadline(op, &facts)?;
        if deadline > now {
            decided.wake([deadline]);
            return None;
        }
        facts.abort = Some(refused_text(&refusal.why));
        movement = next(op, &facts, now);
        if standing(&movement).is_some() {
            return None;
        }
    }
    let Some(attempt) = Attempt::of(&movement) else {
        if let Move::Wait(wait) = movement {
            decided.waits.insert(op.uid.clone(), wait);
            decided.wake(wake_at(op, &facts, now));
        }
        return None;
    };
    match record(table, &op.uid, &movement, now) {
        Ok(changed) => changed.map(|table| Proposal {
            table,
            subject,
            attempt,
        }),
        Err(error) => {
            decided.misfits.insert(op.uid.clone(), error.to_string());
            None
        }
    }
}

/// When it is given up to record what the server refuses: when the budget of the present step runs out. A failover whose
/// slots are fenced is tried for ever: giving up would give them back to a unit that is lost.
fn deadline(op: &Operation, seen: &Seen) -> Option<Timestamp> {
    if op.failover.is_some() && op.step >= Step::Fence {
        return None;
    }
    let (since, budget) = match op.step {
        Step::Check | Step::Prepare => (seen.entered(op, op.step), PATIENCE),
        Step::Hold | Step::Fence => (seen.entered(op, Step::Hold), op.budgets.fence),
        Step::Cut | Step::Drain => (seen.entered(op, op.step), op.budgets.drain),
        Step::Verify | Step::Commit | Step::Open | Step::Settle => return None,
    };
    since.and_then(|since| since.checked_add(budget).ok())
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
