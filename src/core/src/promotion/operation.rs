//! The record of a running promotion, as it stands in the routing table.

use super::failover::{Failover, Loss};
use crate::epoch::Epoch;
use crate::ids::{KeyspaceName, OperationUid, StoreName, UnitName};
use crate::slots::SlotSet;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationKind {
    /// A planned move of ownership.
    #[default]
    Promotion,
    /// An unplanned move of ownership away from a lost unit.
    Failover,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Promotion, Self::Failover];

    /// Its steps, in order.
    pub fn steps(self) -> impl Iterator<Item = Step> {
        let cuts = match self {
            Self::Promotion => false,
            Self::Failover => true,
        };
        Step::ALL.into_iter().filter(move |step| cuts || *step != Step::Cut)
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where a promotion stands. A step is entered by recording it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Target ready, links healthy, lag below the limit.
    Check,
    /// Links out of the target exist.
    Prepare,
    /// Rows compared while both run.
    Verify,
    /// The sources' routers hold new writes and report none in flight; then each source fences.
    Hold,
    /// The sources' databases refuse writes and report their final position. Recorded with the next step where the fences
    /// stand by then.
    Fence,
    /// In a failover: every survivor stops receiving from the lost unit, applies what it had received, and says how far
    /// that is; the loss is measured.
    Cut,
    /// The members apply that position: the target, and all others that answer. Recorded with Commit where they have by
    /// then.
    Drain,
    /// The owner changes: the commit point. It takes no time, [`Step::Open`] is entered with it.
    Commit,
    /// The target's databases take writes.
    Open,
    /// Reverse links run and every reachable router knows the epoch.
    Settle,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 10] = [
        Self::Check,
        Self::Prepare,
        Self::Verify,
        Self::Hold,
        Self::Fence,
        Self::Cut,
        Self::Drain,
        Self::Commit,
        Self::Open,
        Self::Settle,
    ];

    /// Whether a failure in this step ends in an abort; after the commit point it is retried forward.
    pub fn may_abort(self) -> bool {
        self < Self::Commit
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How a promotion compares rows before it holds writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verify {
    /// Not at all.
    #[default]
    None,
    /// Those rows of the slots that move that changed since they were found equal; all of them, where that is not known.
    Changed,
    /// All rows of the slots that move.
    Full,
}

/// The longest times that writes may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budgets {
    /// From the entry of Hold until every source is fenced.
    pub fence: SignedDuration,
    /// From the entry of Drain until every member that answers has applied the position; also the largest lag that
    /// Check accepts.
    pub drain: SignedDuration,
}

/// Slots that leave one unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotMove {
    /// Their keyspace.
    pub keyspace: KeyspaceName,
    /// The unit that owned them when the operation began.
    pub source: UnitName,
    /// The slots.
    pub slots: SlotSet,
}

/// A store whose rows move, as it was when the operation was admitted: an edit of its DataStore changes nothing of what
/// has to be fenced and to arrive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MovingStore {
    /// The store.
    pub store: StoreName,
    /// Its keyspace.
    pub keyspace: KeyspaceName,
    /// The units that hold it, each once, in order.
    pub members: Vec<UnitName>,
}

impl MovingStore {
    /// Whether the unit holds it.
    pub fn has(&self, unit: &UnitName) -> bool {
        self.members.contains(unit)
    }
}

/// How far a unit's log had come, as its engine writes it; opaque here. PostgreSQL: an LSN such as `0/1A2B3C4`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnitPosition {
    /// The unit whose writes these are.
    pub unit: UnitName,
    /// The position in that unit's own log.
    pub position: String,
}

/// The position vector of one store, read after its fence: the source's own writes and what it had applied of others'.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StorePosition {
    /// The store.
    pub store: StoreName,
    /// The source that was fenced.
    pub source: UnitName,
    /// Its own position first, then what it had applied from each other unit.
    pub vector: Vec<UnitPosition>,
}

/// When a step was entered, and why it had nothing to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StepRecord {
    /// The step.
    pub step: Step,
    /// When it was recorded.
    pub at: Timestamp,
    /// The reason, where the step is `NotNeeded`.
    pub not_needed: Option<String>,
}

/// A running promotion: all that another operator needs to finish or abort it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// What it is.
    pub kind: OperationKind,
    /// The uid of the Promotion. A Failover has one operation for each target: its own uid, a dot, and their number.
    pub uid: OperationUid,
    /// Its name.
    pub name: String,
    /// The unit that shall own the slots.
    pub target: UnitName,
    /// The slots that move, by keyspace and source.
    pub moves: Vec<SlotMove>,
    /// The stores whose rows move, as they were when it was admitted.
    pub stores: Vec<MovingStore>,
    /// How rows are compared before.
    pub verify: Verify,
    /// The limits of time.
    pub budgets: Budgets,
    /// The step that was recorded last.
    pub step: Step,
    /// The epoch at which the present step asks its agents: that of the entry of Hold, Drain, Open or Settle, Hold's in
    /// Fence too; [`Epoch::NEVER`] before Hold. What agents report counts only where they name it.
    pub epoch: Epoch,
    /// From Drain on: the final positions of the sources.
    pub positions: Vec<StorePosition>,
    /// From Hold on: the units whose member cluster or database was away then. From Open on: those that have not applied
    /// the positions either, or went away before. Their stores apply nothing of the new owner before they have.
    pub behind: Vec<UnitName>,
    /// What only a failover has.
    pub failover: Option<Box<Failover>>,
    /// Every step that was entered, in order.
    pub history: Vec<StepRecord>,
}

impl Operation {
    /// The uid of its object.
    pub fn object(&self) -> OperationUid {
        self.uid.object()
    }

    /// The lost unit, where it is a failover.
    pub fn lost(&self) -> Option<&UnitName> {
        self.failover.as_ref().map(|failover| &failover.lost)
    }

    /// When the present step was entered.
    pub fn entered(&self) -> Option<Timestamp> {
        self.history.last().map(|record| record.at)
    }

    /// When `step` was entered.
    pub fn entered_step(&self, step: Step) -> Option<Timestamp> {
        self.history
            .iter()
            .find(|record| record.step == step && record.not_needed.is_none())
            .map(|record| record.at)
    }

    /// The slots of a keyspace that it moves: from one unit, or from all.
    pub fn slots_of(&self, keyspace: &KeyspaceName, source: Option<&UnitName>) -> SlotSet {
        let moves = self.moves.iter().filter(|slot_move| slot_move.keyspace == *keyspace);
        let moves = moves.filter(|slot_move| source.is_none_or(|source| slot_move.source == *source));
        moves
            .flat_map(|slot_move| slot_move.slots.ranges().iter().copied())
            .collect()
    }

    /// The units that slots leave, each once, in order.
    pub fn sources(&self) -> Vec<&UnitName> {
        let mut sources: Vec<_> = self.moves.iter().map(|slot_move| &slot_move.source).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The target owns the slots and serves them.
    Succeeded,
    /// It never began: nothing was changed.
    Refused {
        /// One word, for machines.
        reason: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// It ended before the commit point: the sources own the slots again, and serve them unless they are lost.
    Aborted {
        /// One word, for machines.
        reason: String,
        /// What happened and what to do.
        message: String,
    },
    /// It ended after the commit point without having opened the slots: another operation took them.
    Failed {
        /// One word, for machines.
        reason: String,
        /// What happened and what to do.
        message: String,
    },
}

/// What the table remembers of an operation that ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finished {
    /// What it was.
    pub kind: OperationKind,
    /// The uid of its object.
    pub uid: OperationUid,
    /// The name of its object.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// The epoch of the table in which it ended.
    pub epoch: Epoch,
    /// The units that were behind at the commit point.
    pub behind: Vec<UnitName>,
    /// Where some were: the keyspaces whose slots moved, so that their stores know what they wait for.
    pub keyspaces: Vec<KeyspaceName>,
    /// What Settle did not wait for any longer: links and routers of bystanders, each in words.
    pub unsettled: Vec<String>,
    /// Of a failover that measured it: what might be lost at most, and what was found later.
    pub loss: Option<Loss>,
    /// Every step that was entered, in order.
    pub history: Vec<StepRecord>,
}
