//! What an operator saw of the world in one pass. Unknown is `None`, never a default that looks like an answer.

use super::decision::Decision;
use super::failover::FailoverSeen;
use super::operation::{MovingStore, Operation, Step, StorePosition};
use crate::epoch::Epoch;
use crate::ids::{KeyspaceName, StoreName, UnitName};
use crate::slots::SlotSet;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::fmt;

/// Everything that [`super::next`] looks at besides the record itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Why someone wants it aborted: a decision, or the deletion of its object.
    pub abort: Option<String>,
    /// The stores in force of the keyspaces that move; `None` where one cannot be read.
    pub stores: Option<Vec<MovingStore>>,
    /// The target; `None` where its state could not be read.
    pub target: Option<TargetSeen>,
    /// One entry for each source, in the order of [`super::Operation::sources`].
    pub sources: Vec<SourceSeen>,
    /// One entry for each unit but the sources that has a member of a moving store; the target is among them.
    pub members: Vec<MemberSeen>,
    /// In Verify: what the target compared, one entry for each moving store; `None` while one has no answer.
    pub compared: Option<Vec<StoreCompared>>,
    /// In Verify: the stores that the target has not compared yet.
    pub uncompared: Vec<Uncompared>,
    /// The routers that are reachable and do not route by the operation's epoch yet, and the reachable units that have
    /// not reported any; `None` where nobody has looked.
    pub routers_behind: Option<Vec<RouterBehind>>,
    /// Units that are lost or in quarantine, by the table: [`crate::quarantine::lost`]. Nobody waits for them, and they
    /// are no targets.
    pub lost: Vec<UnitName>,
    /// What people decided in the operation's object; what has expired does not count, which is judged by `now`.
    pub decisions: Vec<Decision>,
    /// What only a failover looks at.
    pub failover: FailoverSeen,
    /// Since when some of it has been so without a break.
    pub since: Since,
}

impl Seen {
    /// Since when `step` is entered at the latest: the earlier of what its record says and what this operator has seen
    /// itself; `None` where it was not entered.
    pub fn entered(&self, op: &Operation, step: Step) -> Option<Timestamp> {
        let recorded = op.entered_step(step)?;
        let seen = self.since.entered.get(&step).copied();
        Some(seen.map_or(recorded, |seen| seen.min(recorded)))
    }

    /// Since when `step` is entered, as this operator has seen it itself, and only where it has not by what the record says:
    /// a clock that was set ends no patience before its time. `None` where it was not entered.
    pub fn stood(&self, op: &Operation, step: Step) -> Option<Timestamp> {
        let recorded = op.entered_step(step)?;
        Some(self.since.entered.get(&step).copied().unwrap_or(recorded))
    }
}

/// Since when, as far as this operator has seen it: one bad report changes nothing, one that lasts does. `None` where it
/// is not so now, or was seen for the first time by nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// The target is known not to be ready.
    pub unready: Option<Timestamp>,
    /// Something keeps the operation from holding writes: [`super::is_unfit`].
    pub unfit: Option<Timestamp>,
    /// A failover's lost unit has reported its own fence for this operation.
    pub fenced: Option<Timestamp>,
    /// A member's reach is [`Reach::Broken`].
    pub broken: BTreeMap<UnitName, Timestamp>,
    /// A step is in the record. The record has a time of entry too, by the clock of whoever entered it, which may be ahead
    /// of ours, or ours may have been set back: what is over by either of the two is over.
    pub entered: BTreeMap<Step, Timestamp>,
}

/// A router that is reachable and is not known to route by the operation's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterBehind {
    /// Its unit.
    pub unit: UnitName,
    /// Its name, where it routes by an older table; `None` where the unit's agent has not said which routers it has.
    pub router: Option<String>,
}

impl fmt::Display for RouterBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.router {
            Some(router) => write!(f, "{}/{router} routes by an older table", self.unit),
            None => write!(f, "{} has not reported its routers", self.unit),
        }
    }
}

/// Whether a unit can take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitReady {
    /// It can.
    Ready,
    /// It cannot, and why.
    NotReady(String),
}

/// The target, as far as Check and Open ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSeen {
    /// Whether a person cordoned it.
    pub cordoned: bool,
    /// Whether its workloads, agent and stores are ready; `None` where unknown.
    pub ready: Option<UnitReady>,
    /// The epoch of the table to which its agent has brought its stores; `None` where unknown.
    pub applied: Option<Epoch>,
    /// What keeps its stores from the table, as its agent says it.
    pub problem: Option<String>,
}

/// A source's routers, as its agent reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutersSeen {
    /// How many there are, those that are known and do not answer included. Without any, nobody can say that no write
    /// is under way.
    pub count: u32,
    /// Names of those that do not answer, or route by an older table than the operation's epoch.
    pub behind: Vec<String>,
    /// Writes of the moving slots under way; `None` where one has not said.
    pub in_flight: Option<u64>,
}

/// A source's databases, fenced for this operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceSeen {
    /// The epoch of the fence.
    pub epoch: Epoch,
    /// The final positions, one for each moving store of that unit.
    pub positions: Vec<StorePosition>,
}

/// A unit that slots leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSeen {
    /// The unit.
    pub unit: UnitName,
    /// Its routers; `None` where its agent has not reported for this operation.
    pub routers: Option<RoutersSeen>,
    /// Its fence; `None` where it is not known to stand.
    pub fence: Option<FenceSeen>,
    /// Whether its own links from the target and from other sources run; `None` where unknown, else the first that does
    /// not, and why. Links with other members are told of there.
    pub links: Option<Result<(), String>>,
    /// What keeps its stores from the table, as its agent says it: who holds up the fence.
    pub problem: Option<String>,
}

/// Whether a member has applied the positions of the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of them, in every store.
    Reached,
    /// Not yet; what is missing.
    Waiting(String),
    /// A link does not run, and why: waiting alone will not help.
    Broken(String),
}

/// A unit that receives the sources' writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSeen {
    /// The unit.
    pub unit: UnitName,
    /// Whether its member cluster and its databases answer; `None` where nothing says so yet, nor the contrary.
    pub reachable: Option<bool>,
    /// Whether its links from and to each other member of the moving stores run; `None` where unknown, else the
    /// first that does not, and why. For the target: with the sources. Links with a member that is away do not count.
    pub links: Option<Result<(), String>>,
    /// Age of the newest row that it applied from the sources; `None` where unknown.
    pub lag: Option<SignedDuration>,
    /// Whether it has applied the operation's positions; `None` where unknown.
    pub reach: Option<Reach>,
}

impl MemberSeen {
    /// Whether its member cluster or a database is known not to answer: then nobody waits for it, unless it is the target.
    pub fn away(&self) -> bool {
        self.reachable == Some(false)
    }
}

/// A store that the target has not compared yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncompared {
    /// The store.
    pub store: StoreName,
    /// The unit that compares.
    pub unit: UnitName,
    /// Why, where its agent says it, or why nobody hears from it.
    pub why: Option<String>,
}

impl fmt::Display for Uncompared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (store, unit) = (&self.store, &self.unit);
        match &self.why {
            Some(why) => write!(f, "{store} at {unit}: {why}"),
            None => write!(f, "{store} at {unit}"),
        }
    }
}

/// The rows of a store in target and sources, as both were at one place in each source's log: none was under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreCompared {
    /// The store.
    pub store: StoreName,
    /// Its keyspace.
    pub keyspace: KeyspaceName,
    /// How many rows of the sources were compared.
    pub rows: u64,
    /// The slots whose rows differ.
    pub differing: SlotSet,
    /// Some of the rows that differ, in words.
    pub examples: Vec<String>,
}
