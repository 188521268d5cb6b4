//! What an operation waits for.

use super::decision::{DecisionKind, Needed};
use std::fmt;

/// What an operation waits for; its text is the column WAITING-FOR.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WaitFor {
    /// The target's state is not known.
    TargetReport,
    /// The target is not ready.
    Target(String),
    /// A unit's links are not known to run.
    Links(String),
    /// A member's lag is unknown or too large.
    Lag(String),
    /// Stores that the target has not compared yet.
    Comparison(String),
    /// A source's routers have not all taken the table.
    Routers(String),
    /// Writes under way at a source.
    InFlight(String),
    /// A source's fence.
    Fence(String),
    /// A lost unit's write lease.
    Lease(String),
    /// A lost unit's fencing hook, which is being asked.
    Hook(String),
    /// A survivor that has not cut off a lost unit.
    Cut(String),
    /// A survivor that hands on to the target what it has received more.
    Tail(String),
    /// A person's decision: the operation is Blocked until it comes, or until what it stands for comes by itself.
    Decision {
        /// Which.
        needed: Needed,
        /// Why.
        why: String,
    },
    /// A member that has not applied the positions.
    Reach(String),
    /// The target's databases to open.
    Opened(String),
}

impl WaitFor {
    /// Whether the lost unit's fencing hook is to be asked, where it has one: nothing else proves the fence but a person's word.
    pub fn asks_hook(&self) -> bool {
        match self {
            Self::Hook(_) => true,
            Self::Decision { needed, .. } => needed.kind == DecisionKind::ConfirmFenced,
            Self::TargetReport
            | Self::Target(_)
            | Self::Links(_)
            | Self::Lag(_)
            | Self::Comparison(_)
            | Self::Routers(_)
            | Self::InFlight(_)
            | Self::Fence(_)
            | Self::Lease(_)
            | Self::Cut(_)
            | Self::Tail(_)
            | Self::Reach(_)
            | Self::Opened(_) => false,
        }
    }
}

impl fmt::Display for WaitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TargetReport => f.write_str("the target's report"),
            Self::Target(detail) => write!(f, "the target: {detail}"),
            Self::Links(detail) => write!(f, "links: {detail}"),
            Self::Lag(detail) => write!(f, "lag: {detail}"),
            Self::Comparison(detail) => write!(f, "the comparison of rows: {detail}"),
            Self::Routers(detail) => write!(f, "routers: {detail}"),
            Self::InFlight(detail) => write!(f, "writes in flight: {detail}"),
            Self::Fence(unit) => write!(f, "the fence of {unit}"),
            Self::Lease(detail) => write!(f, "the write lease: {detail}"),
            Self::Hook(detail) => write!(f, "the fencing hook {detail}"),
            Self::Cut(unit) => write!(f, "the cut at {unit}"),
            Self::Tail(detail) => write!(f, "rows that are handed on: {detail}"),
            Self::Decision { needed, why } => write!(f, "the decision {needed}: {why}"),
            Self::Reach(detail) => write!(f, "the last writes at {detail}"),
            Self::Opened(unit) => write!(f, "the databases to open of {unit}"),
        }
    }
}
