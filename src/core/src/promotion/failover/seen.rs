//! What an operator saw for a failover, besides what it sees for every operation. Unknown is `None`.
//!
//! Times here are durations by a clock that neither jumps nor goes back, never timestamps of another machine.

use super::choose::Candidate;
use super::types::Progress;
use crate::epoch::Epoch;
use crate::ids::{OperationUid, StoreName, UnitName};
use crate::lease::Mode;
use crate::promotion::StorePosition;
use jiff::SignedDuration;

/// Everything that only a failover looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailoverSeen {
    /// The lost unit's write lease, read from the ledger and never from a copy; `None` where it could not be read or
    /// there is none yet.
    pub lease: Option<LeaseSeen>,
    /// Why it is not sealed yet, where that was tried and did not succeed.
    pub unsealed: Option<String>,
    /// What the lost unit's fencing hook has said; `None` where it has none.
    pub hook: Option<HookSeen>,
    /// With the lost unit's own report of its fence: whether its databases ever opened the moving slots.
    pub opened: Option<bool>,
    /// What survivors answered to Cut.
    pub cuts: Vec<CutSeen>,
    /// Whether slots of the lost unit go another way than this operation's, or stay with it: its log is in more rows then than those
    /// that move here. [`super::is_divided`].
    pub divided: bool,
    /// Why the target has not taken over what another survivor hands on to it, where that failed.
    pub untaken: Option<String>,
    /// The units that may be the target instead, the best one first: [`super::common_order`].
    pub candidates: Vec<Candidate>,
}

/// Whether a sealed lease is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseEnd {
    /// Nobody has watched it for long enough to say.
    Unknown,
    /// Its end will be proven in so long.
    In(SignedDuration),
    /// Its end was proven so long ago.
    Ago(SignedDuration),
}

/// A renewal of the lease, as this operator saw it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RenewalSeen {
    /// How long ago the read that first showed it completed: all that the end of a sealed lease is counted from.
    pub age: SignedDuration,
    /// How long ago the very renewal before it was first shown. Its positions were read after that one was written, so they
    /// are hardly older; `None` where that one was not seen, and then their age is not known: whoever has just started meets
    /// a renewal that may have been written long ago.
    pub since: Option<SignedDuration>,
    /// What the unit's own log had reached, store by store. Its agent reads that after it has noted the time from which
    /// it counts the lease, else the loss is measured too small.
    pub positions: Vec<(StoreName, Progress)>,
    /// What it told of those before it: how long before it each was begun, by the unit's own clock, and what the log had reached then.
    /// What this operator has seen of them itself is in no way needed for it.
    pub earlier: Vec<(SignedDuration, Vec<(StoreName, Progress)>)>,
}

/// A unit's write lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseSeen {
    /// What its unit does without it: `Unit.spec.onLeaseLoss` with `Auto` resolved.
    pub mode: Mode,
    /// Whether all that is known says Fence by now, though not for long enough yet to count: then it is a matter of time that its
    /// end proves something, and nobody need end the unit.
    pub fences_soon: bool,
    /// How long it lasts.
    pub length: SignedDuration,
    /// Moving stores whose databases know no deadline: the lease's end proves nothing about them.
    pub unenforced: Vec<StoreName>,
    /// Since which table it is sealed, and whether it is over; `None` while it is granted.
    pub sealed: Option<(Epoch, LeaseEnd)>,
    /// The renewals that this operator has seen, the last one first; the seal was put on that very one.
    pub renewals: Vec<RenewalSeen>,
}

/// What is known of a fencing hook: an endpoint that fences a unit from outside, and says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HookSeen {
    /// The operation that it was asked about: what it said of another one, however late, proves nothing for this one.
    pub operation: OperationUid,
    /// The epoch at which that operation asks.
    pub epoch: Epoch,
    /// Which hook, as a person knows it.
    pub by: String,
    /// What it said last.
    pub said: HookSaid,
}

/// What a fencing hook said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HookSaid {
    /// Nothing yet: it is being asked for the first time.
    Asked,
    /// The unit is fenced, in its own words.
    Fenced(String),
    /// The unit is not fenced, in its own words.
    NotFenced(String),
    /// Nothing that can be understood, and why: nobody knows.
    NoAnswer(String),
}

/// How far a survivor has applied the lost unit's log, in one store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Received {
    /// The position as the engine writes it: the lost unit's log first, then what it has applied of the others'.
    pub position: StorePosition,
    /// The first of these, to be compared.
    pub progress: Progress,
}

/// A survivor that has cut off the lost unit: it receives nothing of it any more, has applied all that it had received,
/// and stays so over restarts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CutSeen {
    /// The survivor.
    pub unit: UnitName,
    /// The operation's epoch that it answers.
    pub epoch: Epoch,
    /// One entry for each moving store of it.
    pub stores: Vec<Received>,
    /// Why its rows may lack what others wrote before these slots came to the lost unit, where they may.
    pub incomplete: Option<String>,
}

impl CutSeen {
    /// What it has of a store.
    pub fn of(&self, store: &StoreName) -> Option<&Received> {
        self.stores.iter().find(|received| received.position.store == *store)
    }
}
