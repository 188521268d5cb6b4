//! What people decide: entries of an operation's `spec.decisions`, and which of them an operation waits for.

use jiff::Timestamp;
use std::fmt;

/// What a decision says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecisionKind {
    /// End the operation before its commit point.
    Abort,
    /// Go on where a rule wants a person's word.
    Approve,
    /// More may be lost than `maxDataLoss`, or nobody knows how much.
    AcceptDataLoss,
    /// The lost unit takes no writes: somebody made sure of it. The one place where a false word makes two writers.
    ConfirmFenced,
    /// What a returned unit holds beyond the winner may go.
    AcceptDivergence,
    /// A rule of placement does not count.
    OverrideRule,
}

impl fmt::Display for DecisionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// What it says.
    pub kind: DecisionKind,
    /// What it says it of: a unit, or a ShardRange.
    pub target: String,
    /// Who decided.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Until when it counts; `None` means for good.
    pub not_after: Option<Timestamp>,
}

impl Decision {
    /// Whether it counts now.
    pub fn counts(&self, now: Timestamp) -> bool {
        self.not_after.is_none_or(|end| now <= end)
    }
}

/// The first decision of this kind about this target that counts now.
pub(super) fn find<'a>(
    decisions: &'a [Decision],
    kind: DecisionKind,
    target: &str,
    now: Timestamp,
) -> Option<&'a Decision> {
    let mut decisions = decisions.iter();
    decisions.find(|decision| decision.kind == kind && decision.target == target && decision.counts(now))
}

/// The decision without which an operation stays where it is: it is `Blocked`. Kind and target make the command that
/// gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Needed {
    /// Its kind.
    pub kind: DecisionKind,
    /// What it has to name.
    pub target: String,
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind, self.target)
    }
}
