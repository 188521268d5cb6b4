//! What one pass over a namespace came to: all that status, events and metrics are made from.

use super::Inputs;
use super::trouble::{SiteProblem, SiteProblems};
use crate::promotions::request::Refused;
use multiactive_api::Unit;
use multiactive_core::diff::Change;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::ownership::OwnershipProblem;
use multiactive_core::promotion::{Placement, Step, WaitFor};
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
    /// Who takes over what of a lost unit, by the uid of the Failover, as it was chosen last.
    pub placements: BTreeMap<OperationUid, Placement>,
    /// Operations whose record does not fit, or which the server did not take: those that run, and Promotions that
    /// would begin.
    pub misfits: BTreeMap<OperationUid, String>,
    /// Declarations that cannot be followed.
    pub problems: Vec<OwnershipProblem>,
    /// What keeps the record from being read or written, if anything.
    pub record_problem: Option<RecordProblem>,
    /// Units whose assignment is known to be gone from its member.
    pub unassigned: BTreeSet<String>,
    /// Members that do not allow this namespace, or were never reached, by name: why.
    pub unusable_members: BTreeMap<String, String>,
    /// What keeps members from holding what they shall, by name of the member.
    pub site_problems: BTreeMap<String, SiteProblems>,
    /// Whether the namespace is known to be being deleted.
    pub terminating: bool,
    /// Whether the RoutingTable is paused by a person: nothing is committed, whatever is decided.
    pub table_paused: bool,
    /// Units whose member has not had the time to say what it holds: not knowing is no news of them.
    pub unsettled: BTreeSet<UnitName>,
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
    /// What keeps the member of a unit from holding what it shall, if that concerns the unit.
    pub fn site_problem(&self, unit: &Unit) -> Option<&SiteProblem> {
        let problems = self.site_problems.get(&unit.spec.cluster)?;
        problems.of(unit.metadata.name.as_deref().unwrap_or_default())
    }

    /// Whether writes are held somewhere or will be in a moment: then everything that can wait does. The commit that
    /// begins the hold is not to queue behind statuses and events of the steps before it.
    pub fn in_haste(&self) -> bool {
        let operations = self.table.iter().flat_map(|table| &table.operations);
        let mut hasty = operations.filter(|op| match op.step {
            Step::Check | Step::Prepare => true,
            Step::Hold | Step::Fence | Step::Cut | Step::Drain | Step::Commit | Step::Open => true,
            Step::Verify | Step::Settle => false,
        });
        hasty.next().is_some()
    }
}
