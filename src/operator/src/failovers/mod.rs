//! Failovers: what an object asks for, what is seen of a running one, and what its status says. All pure but the finalizer.

pub mod lifecycle;
pub mod request;
pub mod seen;
pub mod status;

use multiactive_api::DecisionType;
use multiactive_core::promotion::DecisionKind;

/// The type of the API that says this; `None` where the API has none yet.
pub(crate) fn decision_type(kind: DecisionKind) -> Option<DecisionType> {
    match kind {
        DecisionKind::Abort => Some(DecisionType::Abort),
        DecisionKind::AcceptDataLoss => Some(DecisionType::AcceptDataLoss),
        DecisionKind::ConfirmFenced => Some(DecisionType::ConfirmFenced),
        DecisionKind::AcceptDivergence => Some(DecisionType::AcceptDivergence),
        DecisionKind::Approve | DecisionKind::OverrideRule => None,
    }
}
