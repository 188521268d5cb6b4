//! A promotion: the planned, lossless move of ownership from one or more units to another.
//!
//! Each pass of the operator does observe → [`next`] → [`record`] → perform. The plan and the step stand in the
//! routing table, so one compare-and-swap records a step and changes the spans that go with it; performing is
//! publishing that table, which is idempotent: agents and routers act on what it says. An operator that dies repeats
//! a pass and never skips one.

mod admit;
mod decision;
mod drain;
mod failover;
mod fit;
mod next;
mod operation;
mod record;
mod seen;
mod timers;
mod verify;
mod wait;

pub use admit::{Refusal, Request, admit};
pub use decision::{Decision, DecisionKind, Needed};
pub use failover::{
    Accepted, Candidate, Choosing, CutSeen, FAILOVER_BUDGETS, Failover, FailoverRange, FailoverRequest, FailoverSeen,
    FenceProof, FencedBy, Found, Heard, HookSaid, HookSeen, Landmark, LeaseEnd, LeaseSeen, Loss, LossInputs,
    ParseProgressError, Placed, Placement, Progress, Received, RenewalSeen, Retargeted, Skipped, StoreLoss, Superseded,
    Tail, Unplaced, Unusable, begin, choose, common_order, is_divided, loss, record_found, unusable,
};
pub use fit::{is_unfit, no_member};
pub use next::{Evidence, Move, next};
pub use operation::{
    Budgets, Finished, MovingStore, Operation, OperationKind, Outcome, SlotMove, Step, StepRecord, StorePosition,
    UnitPosition, Verify,
};
pub use record::{RecordError, record};
pub use seen::{
    FenceSeen, MemberSeen, Reach, RouterBehind, RoutersSeen, Seen, Since, SourceSeen, StoreCompared, TargetSeen,
    Uncompared, UnitReady,
};
pub use timers::wake_at;
pub use wait::WaitFor;
