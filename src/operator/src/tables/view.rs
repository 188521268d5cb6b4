//! What one pass over a namespace came to: all that status, events and metrics are made from.

use super::Inputs;
use crate::promotions::request::Refused;
use multiactive_core::diff::Change;
use multiactive_core::ids::OperationUid;
use multiactive_core::ownership::OwnershipProblem;
use multiactive_core::promotion::{Step, WaitFor};
use multiactive_core::table::RoutingTable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A pass's result.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What was looked at.
    pub inputs: Inputs,
    /// The record; `None` before the first.
    pub table: Option<Arc<RoutingTable>>,
    /// What running operations wait for.
    pub waits: BTreeMap<OperationUid, WaitFor>,
    /// Promotions that may not begin.
    pub refused: BTreeMap<OperationUid, Refused>,
    /// Operations whose record does not fit.
    pub misfits: BTreeMap<OperationUid, String>,
    /// Declarations that cannot be followed.
    pub problems: Vec<OwnershipProblem>,
    /// What keeps the record from being read or written, if anything.
    pub record_problem: Option<RecordProblem>,
    /// Units whose assignment is known to be gone from its member.
    pub unassigned: BTreeSet<String>,
    /// Members that do not allow this namespace, or were never reached, by name: why.
    pub unusable_members: BTreeMap<String, String>,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
    /// Whether every member had the time to say what it holds: before that, not knowing is no news.
    pub settled: bool,
}

/// What keeps the record from being read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordProblem {
    /// One word.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// A change that was committed, to be told.
#[derive(Clone, Debug)]
pub struct Told {
    /// What changed.
    pub changes: Vec<Change>,
    /// The table that it led to.
    pub table: Arc<RoutingTable>,
}

impl View {
    /// Whether writes are held somewhere or will be in a moment: then everything that can wait does. The commit that
    /// begins the hold is not to queue behind statuses and events of the steps before it.
    pub fn in_haste(&self) -> bool {
        let operations = self.table.iter().flat_map(|table| &table.operations);
        let mut hasty = operations.filter(|op| match op.step {
            Step::Check | Step::Prepare => true,
            Step::Hold | Step::Fence | Step::Drain | Step::Commit | Step::Open => true,
            Step::Verify | Step::Settle => false,
        });
        hasty.next().is_some()
    }
}
