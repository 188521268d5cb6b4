//! What the record of a failover holds besides that of a promotion.

use super::loss::Loss;
use crate::epoch::Epoch;
use crate::ids::{OperationUid, StoreName, UnitName};
use crate::promotion::operation::Operation;
use crate::table::RoutingTable;
use jiff::{SignedDuration, Timestamp};
use std::fmt;
use std::str::FromStr;

/// How far a log had come, in a form that can be compared. The engine's own text stays opaque to the core; who knows the
/// engine (the agent, which has its driver) says this beside it.
///
/// PostgreSQL: the system identifier, and the LSN as a number. MariaDB and MySQL: the name of the
/// log, and the number in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Which history the number counts in. Numbers of two histories cannot be compared.
    pub log: String,
    /// How far.
    pub at: u64,
}

impl Progress {
    /// Whether all that stands up to `other` stands up to here as well; `None` where that cannot be compared.
    pub fn covers(&self, other: &Self) -> Option<bool> {
        (self.log == other.log).then_some(self.at >= other.at)
    }
}

/// As it stands in a lease, where everything else is opaque text.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.log, self.at)
    }
}

/// The text is not what [`Progress`] writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no progress: expected log@number")]
pub struct ParseProgressError(pub String);

impl FromStr for Progress {
    type Err = ParseProgressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `parse` alone would take `+1` too.
        let digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = text.rsplit_once('@').and_then(|(log, at)| {
            let at = Some(at).filter(digits)?.parse().ok()?;
            let log = log.to_owned();
            Some(Self { log, at })
        });
        parsed.ok_or_else(|| ParseProgressError(text.to_owned()))
    }
}

/// How it is known that the lost unit commits nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FencedBy {
    /// Its own agent fenced its databases for this operation and said so: it is alive.
    Report,
    /// Its write lease is sealed, and over.
    Lease,
    /// A person says so.
    Confirmed {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Its fencing hook says so, for this very operation.
    Hook {
        /// Which.
        by: String,
        /// In its words.
        reason: String,
    },
}

/// A place in the lost unit's log. Who has applied it lacks at most what the unit wrote in the time from then until its
/// fence was proven.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Landmark {
    /// The store.
    pub store: StoreName,
    /// The place.
    pub progress: Progress,
    /// The longest time from it until the unit could write no more.
    pub until_end: SignedDuration,
}

/// How much of the lost unit's last time a survivor may lack at most: nothing, where the unit was alive, fenced itself, and
/// the survivor has applied all of that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Heard {
    /// The survivor.
    pub unit: UnitName,
    /// The longest time of the lost unit's writing that it lacks.
    pub until_end: SignedDuration,
}

/// The proof that the lost unit is fenced, and what can be said about its log then. It stands in the record, so that
/// another operator measures by the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FenceProof {
    /// What proves it.
    pub by: FencedBy,
    /// When it was proven.
    pub at: Timestamp,
    /// Places in its log.
    pub landmarks: Vec<Landmark>,
    /// What the survivors had heard.
    pub heard: Vec<Heard>,
}

/// A target that was given up for another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Retargeted {
    /// The first.
    pub from: UnitName,
    /// The other.
    pub to: UnitName,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
    /// Whether something was being handed on to it: it may have more than it had said.
    pub tail: bool,
}

/// A survivor that has received more of the lost unit than the target, and hands that on to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tail {
    /// The survivor.
    pub from: UnitName,
    /// How far it has the lost unit's log, in each moving store of its own: that there is so much is known from then on, though
    /// it may fall silent.
    pub stores: Vec<(StoreName, Progress)>,
}

/// The operation whose target was lost between its commit and its opening.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Superseded {
    /// It.
    pub uid: OperationUid,
    /// Whom it took the slots from: they get them back only if the lost unit provably never opened them.
    pub sources: Vec<UnitName>,
    /// Who had not applied all before it committed.
    pub behind: Vec<UnitName>,
}

/// A person's word for a loss above the limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What was really lost, once the lost unit is back and was compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Rows that only the lost unit held, or held otherwise.
    pub rows: u64,
    /// From the oldest to the newest of their transactions; `None` where the engine does not say.
    pub span: Option<SignedDuration>,
    /// When it was compared.
    pub at: Timestamp,
}

/// What only a failover's record holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failover {
    /// The unit that is lost: the one source.
    pub lost: UnitName,
    /// The ShardRanges whose slots move; a decision may name them.
    pub ranges: Vec<String>,
    /// The largest loss that needs nobody's word.
    pub max_data_loss: SignedDuration,
    /// Whether the user named the target: then no other is chosen.
    pub named: bool,
    /// Whether all that was known when it began said that the lost unit stops writing without its lease. Who takes over from the
    /// operator that saw it cannot see it any more.
    pub fences: bool,
    /// The operation whose unopened slots these are.
    pub superseded: Option<Superseded>,
    /// The epoch at which its spans became Fenced: a seal of the lease counts from there on. [`Epoch::NEVER`] before.
    pub fence: Epoch,
    /// From Cut on: by what the fence is proven.
    pub proof: Option<FenceProof>,
    /// From Drain on: what may be lost at most.
    pub loss: Option<Loss>,
    /// The targets that were given up.
    pub retargeted: Vec<Retargeted>,
    /// From Cut on: who hands, or handed, on to the target what it had not.
    pub tail: Option<Tail>,
}

impl Failover {
    /// Whether this unit gave the slots to the lost one a moment ago.
    pub fn returns_to(&self, unit: &UnitName) -> bool {
        let superseded = self.superseded.as_ref();
        superseded.is_some_and(|superseded| superseded.sources.contains(unit))
    }
}

/// Whether the lost unit has, or had when this Failover began, slots in the same keyspaces that do not move by this operation: the
/// rows of those that do are not all of its log then.
pub fn is_divided(table: &RoutingTable, op: &Operation) -> bool {
    let Some(lost) = op.lost() else { return false };
    let stays = op.moves.iter().any(|moved| {
        let owned = table.owners_of(&moved.keyspace).remove(lost).unwrap_or_default();
        !owned.difference(&op.slots_of(&moved.keyspace, Some(lost))).is_empty()
    });
    let object = op.object();
    let parts = table.operations.iter().map(|other| &other.uid);
    let parts = parts.chain(table.finished.iter().map(|done| &done.uid));
    let another = |uid: &OperationUid| *uid != op.uid && uid.object() == object;
    stays || parts.into_iter().any(another)
}

/// The table in which what was really lost stands beside the bounds of a Failover that ended, the one with this uid; `None`
/// where that is so already, or the table remembers none with a bound. What was found is of the whole unit, so it stands with
/// each of its targets.
pub fn record_found(table: &RoutingTable, object: &OperationUid, found: &Found) -> Option<RoutingTable> {
    let mut changed = table.clone();
    changed.epoch = table.epoch.next();
    let done = changed.finished.iter_mut().filter(|done| done.uid.object() == *object);
    let losses = done.filter_map(|done| done.loss.as_mut());
    let mut new = losses.filter(|loss| loss.found.is_none()).peekable();
    new.peek()?;
    new.for_each(|loss| loss.found = Some(found.clone()));
    Some(changed)
}
