//! Links between the members of a store: how each is, how far it is behind, and what is left where one was cut or removed.

use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{Progress, UnitPosition};
use multiactive_core::slots::SlotSet;
use std::fmt;
use std::time::Duration;

/// A member from which this one reads.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its unit.
    pub unit: UnitName,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user that may read its log.
    pub user: String,
    /// That user's password.
    pub password: String,
}

/// Never shows the password.
impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} at {}@{}:{})", self.unit, self.user, self.host, self.port)
    }
}

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It streams.
    Running,
    /// It is being made or connects.
    Starting(String),
    /// Slots moved there from a unit that is cut off here, and it does not go on before what that unit had written is here.
    /// Its own link will not bring it: rows have to be copied ([`crate::Driver::reseed`]).
    Lacks {
        /// The unit that is cut off.
        of: UnitName,
        /// How far its log has to be applied here.
        upto: String,
    },
    /// It does not stream; why.
    Broken(String),
    /// The unit was lost, and nothing is taken from it before it joins again ([`crate::Driver::cut`]); how far it had come.
    Cut(String),
    /// This unit was lost, and takes nothing of who took its slots over ([`crate::Driver::rejoin`]); who, and what to do.
    Quarantined(String),
}

/// A link into this member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The unit whose writes it carries.
    pub from: UnitName,
    /// How it is.
    pub state: LinkState,
    /// Why rows may be missing here that were written there: the link had to be made again. It stays until
    /// [`crate::Driver::compared`] says that the rows are equal.
    pub gap: Option<String>,
    /// Which rows are copied to end the gap; `None` where only a person can.
    pub lacking: Option<Lacking>,
}

/// Which rows have to be copied to end a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// Not known yet: those of the link's own unit come first.
    Unknown,
    /// Those of these slots, from who has them open.
    Of(SlotSet),
}

/// What a copy of a peer's rows changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reseeded {
    /// The slots that were open there: their rows are equal here.
    pub open: SlotSet,
    /// Those of them whose rows differed.
    pub slots: SlotSet,
    /// Rows that were written here.
    pub written: u64,
    /// Rows that were removed here: the peer does not have them.
    pub removed: u64,
    /// How far the peer had applied the logs of those that are cut off here: all of that is in the rows, for the slots that
    /// were open there.
    pub cuts: Vec<UnitPosition>,
    /// The slots that it had closed since its link brought anything, and whose rows differ here: the link's gap, until they
    /// are copied from who has them open.
    pub left: SlotSet,
}

/// Why a link is [`LinkState::Lacks`], in words.
pub fn lacks(of: &UnitName, upto: &str) -> String {
    format!(
        "slots moved there while this member was away: it waits for the writes of {of} up to {upto}, which {of}'s link will \
         not bring, for {of} is cut off"
    )
}

/// Why what `from` writes does not come here, and will not by itself; `None` where it does, or may.
pub(crate) fn hindered(links: &[Link], from: &UnitName) -> Option<String> {
    match links.iter().find(|link| link.from == *from).map(|link| &link.state) {
        Some(LinkState::Running | LinkState::Starting(_)) => None,
        Some(LinkState::Broken(why) | LinkState::Cut(why) | LinkState::Quarantined(why)) => Some(why.clone()),
        Some(LinkState::Lacks { of, upto }) => Some(lacks(of, upto)),
        None => Some("there is no link from it".to_owned()),
    }
}

/// What a survivor may have received more of a lost unit than this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The lost unit, which is cut off at both.
    pub lost: UnitName,
    /// The operation that takes its slots.
    pub op: OperationUid,
    /// The epoch at which this is asked.
    pub epoch: Epoch,
    /// All slots that the lost unit had, which nobody has open any more.
    pub slots: SlotSet,
}

/// What was taken over of a [`Tail`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailTaken {
    /// The slots whose rows differed.
    pub slots: SlotSet,
    /// How many rows were written.
    pub written: u64,
    /// How many rows were removed that the survivor has not.
    pub removed: u64,
    /// How far the lost unit's log is here now; `None` where the survivor had no more than this one.
    pub upto: Option<String>,
}

/// A lost unit that is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutAt {
    /// The unit.
    pub from: UnitName,
    /// How far its log is applied here, or was repaired; `None` where nothing ever came.
    pub position: Option<String>,
    /// The same as a number; 0 where nothing ever came.
    pub progress: Progress,
}

/// What a removed link left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// Nothing.
    Clean,
    /// The peer keeps its log for us until someone drops this slot there; why we could not.
    LogKept {
        /// The slot's name.
        slot: String,
        /// Why.
        why: String,
    },
}

/// How far a member is behind another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The other unit.
    pub from: UnitName,
    /// The age of its last heartbeat that arrived, by this server's clock; `None` before the first.
    pub heartbeat: Option<Duration>,
    /// How far its log has been applied; `None` before the first change.
    pub position: Option<String>,
}
