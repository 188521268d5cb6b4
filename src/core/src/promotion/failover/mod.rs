//! A failover: the unplanned move of ownership away from a lost unit. It is the machine of a promotion with other inputs:
//! one source that need not answer, one target, and three questions of its own. Is the lost unit fenced, and by what is
//! that proven (`fence`)? Has every survivor cut it off, and who received most (`cut`)? How much may be lost at most
//! (`loss`)?
//!
//! One Failover becomes one operation for each target, all begun in one write (`begin`); each runs by itself, so a target
//! in trouble holds up only its own ranges.
//!
//! # What ends a failover before the commit, and what it waits through
//!
//! An abort gives the slots back to the unit that was called lost. While that unit is silent nobody serves them then, so
//! the machine aborts by itself only where nothing was fenced yet, or where the unit has reported its own fence and so is
//! alive. In every other case a target that is not ready is replaced by the next usable one, where the user named none;
//! else the operation is Blocked until the target is back or a person decides to abort.

mod begin;
mod choose;
mod cut;
mod fence;
mod loss;
mod next;
mod seen;
mod tail;
mod types;

pub use begin::{FailoverRequest, begin};
pub use choose::{
    Candidate, Choosing, FailoverRange, Placed, Placement, Skipped, Unplaced, Unusable, choose, common_order, unusable,
};
pub use loss::{Loss, LossInputs, StoreLoss, loss};
pub use next::FAILOVER_BUDGETS;
pub use seen::{CutSeen, FailoverSeen, HookSaid, HookSeen, LeaseEnd, LeaseSeen, Received, RenewalSeen};
pub use types::{
    Accepted, Failover, FenceProof, FencedBy, Found, Heard, Landmark, ParseProgressError, Progress, Retargeted,
    Superseded, Tail, is_divided, record_found,
};

pub(super) use next::{next, wake_at};
