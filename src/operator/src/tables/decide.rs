//! What the table of a namespace becomes next. Pure: the same inputs give the same decision.

use super::Inputs;
use crate::promotions::request::{self, Refused, uid_of};
use crate::promotions::seen::seen;
use crate::status::is_paused;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use multiactive_api::{Promotion, PromotionMode};
use multiactive_core::ids::OperationUid;
use multiactive_core::ownership::{OwnershipProblem, manage};
use multiactive_core::promotion::{Move, Operation, Step, WaitFor, next, record};
use multiactive_core::table::RoutingTable;
use std::collections::{BTreeMap, BTreeSet};

/// With this finalizer a Promotion is held until its operation ended; without it, it is not admitted.
pub const OPERATION_FINALIZER: &str = "multiactive.io/operation";

/// The largest table that a new operation may be added to, in bytes of JSON: the rest of the ledger's limit is for its
/// positions and for the spans that it splits.
const ADMIT_BYTES: usize = 768 * 1024;

/// How long Check and Prepare wait in the core.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// What kind of change a commit makes, for logs and failpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Units, keyspaces, first owners.
    Ownership,
    /// A step of a running operation.
    Step,
    /// An operation begins.
    Admit,
}

/// What is to be done about the table, and what was found on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// The table to commit; `None` where nothing changes.
    pub table: Option<(RoutingTable, Why)>,
    /// What each running operation waits for.
    pub waits: BTreeMap<OperationUid, WaitFor>,
    /// Promotions that may not begin, found in this look.
    pub refused: BTreeMap<OperationUid, Refused>,
    /// Operations whose record does not fit: nothing is done about them.
    pub misfits: BTreeMap<OperationUid, String>,
    /// Declarations that cannot be followed.
    pub problems: Vec<OwnershipProblem>,
    /// When to look again if nothing changes: the next budget that runs out.
    pub wake_at: Option<Timestamp>,
}

/// The next change of `table`: steps of running operations first, then ownership, then new operations. `known` are
/// Promotions that were refused before and whose status does not say so yet.
pub fn decide(
    table: Option<&RoutingTable>,
    inputs: &Inputs,
    known: &BTreeSet<OperationUid>,
    now: Timestamp,
) -> Decided {
    let mut decided = Decided::default();
    if let Some(table) = table {
        for op in &table.operations {
            if let Some(changed) = step(table, op, inputs, now, &mut decided) {
                decided.table = Some((changed, Why::Step));
                return decided;
            }
        }
    }
    let managed = manage(table, &inputs.declared(), &inputs.units_seen());
    decided.problems = managed.problems;
    if let Some(changed) = managed.table {
        decided.table = Some((changed, Why::Ownership));
        return decided;
    }
    let Some(table) = table else { return decided };
    for promotion in inputs
        .promotions
        .iter()
        .filter(|promotion| is_pending(promotion, table))
    {
        if known.contains(&uid_of(promotion)) {
            continue;
        }
        match request::operation(promotion, table, inputs, now) {
            Ok(operation) if promotion.finalizers().iter().any(|f| f == OPERATION_FINALIZER) => {
                match admitted(table, operation) {
                    Ok(changed) => {
                        decided.table = Some((changed, Why::Admit));
                        return decided;
                    }
                    Err(refused) => {
                        decided.refused.insert(uid_of(promotion), refused);
                    }
                }
            }
            // The finalizer is being added; its arrival wakes us.
            Ok(_) => {}
            Err(refused) => {
                decided.refused.insert(uid_of(promotion), refused);
            }
        }
    }
    decided
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

/// The table after the next move of `op`, or nothing where it waits.
fn step(
    table: &RoutingTable,
    op: &Operation,
    inputs: &Inputs,
    now: Timestamp,
    decided: &mut Decided,
) -> Option<RoutingTable> {
    let movement = next(op, &seen(op, inputs), now);
    if let Move::Wait(wait) = &movement {
        decided.waits.insert(op.uid.clone(), wait.clone());
        let at = deadline(op);
        decided.wake_at = decided.wake_at.into_iter().chain(at).min();
        return None;
    }
    match record(table, &op.uid, &movement, now) {
        Ok(changed) => changed,
        Err(error) => {
            decided.misfits.insert(op.uid.clone(), error.to_string());
            None
        }
    }
}

/// When the budget of the present step runs out.
fn deadline(op: &Operation) -> Option<Timestamp> {
    let (since, budget) = match op.step {
        Step::Check | Step::Prepare => (op.entered(), PATIENCE),
        Step::Hold | Step::Fence => (op.entered_step(Step::Hold), op.budgets.fence),
        Step::Drain => (op.entered_step(Step::Drain), op.budgets.drain),
        Step::Verify | Step::Commit | Step::Open | Step::Settle => return None,
    };
    since.and_then(|since| since.checked_add(budget).ok())
}
