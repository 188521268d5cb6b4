//! The driver of a store, whatever its engine: the verbs, what each one promises, and the words they use.
//!
//! Every verb may be repeated, and compares epochs inside the database. None waits without a limit of time: an outcome
//! that is not known in time is [`Error::TimedOut`]. What could not be read is `None`.

pub use crate::compared::{Compared, Difference, Extent, Horizon, Narrowed, Part, Place, Side};
pub use crate::conflict::{Conflicts, Settled, Winner};
pub use crate::fencing::{Applied, Blocker, FenceLimits, Fenced, Grant, Waited};
pub use crate::lease::{HeldLease, StoreClock, StoreLease};
pub use crate::link::{CutAt, Lacking, Lag, Link, LinkState, Peer, Reseeded, Tail, TailTaken, Unlinked, lacks};
pub use crate::spec::{KeyspaceSpec, StoreSpec, TableFinding, TableSpec};

use crate::error::Error;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{Progress, StorePosition, UnitPosition};
use multiactive_core::slots::{Slot, SlotSet};
use multiactive_core::wire::Caught;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

/// What a member's server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Which server it is and since when it runs; differs after a restart and in a clone.
    pub server: String,
    /// Which database it is: made at the first install, so that an empty one has another.
    pub incarnation: String,
    /// Whether a slot was ever open in it, and so rows may have been written.
    pub opened: bool,
    /// Its version.
    pub version: String,
    /// The highest epoch that was asked for here.
    pub seen: Epoch,
    /// The slots that take writes now, while the lease is valid.
    pub open: SlotSet,
    /// The write lease that is valid now; `None` too where something is amiss.
    pub lease: Option<HeldLease>,
    /// What is not as [`Driver::install`] left it: install again.
    pub amiss: Vec<String>,
    /// What was found of the tables for which the store would be refused now.
    pub refused: Vec<TableFinding>,
    /// What a person should know, though it keeps nothing from working.
    pub warnings: Vec<TableFinding>,
    /// Where several units write the store: the rows that two wrote at the same time.
    pub conflicts: Option<Conflicts>,
}

/// Keys to compare: from the first, inclusive, to the last, exclusive, in the order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key; `None` from the beginning.
    pub from: Option<String>,
    /// The key after the last; `None` to the end.
    pub to: Option<String>,
}

/// What a unit that was lost holds alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diverged {
    /// How many rows.
    pub rows: u64,
    /// From the first to the last of the commits that wrote them, by the clock of its own server; `None` without rows.
    pub span: Option<Duration>,
    /// The first of them: the table, and the key as JSON.
    pub first: Vec<(String, String)>,
    /// Owners of whose slots nothing could be listed, each in words.
    pub unlisted: Vec<String>,
    /// Whether [`Driver::rejoin`] was called for the operation.
    pub rejoined: bool,
}

/// Checksums of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// How many rows were read.
    pub rows: u64,
    /// The wrapping sum of the hashes of each slot's rows, for every slot that was asked for.
    pub sums: BTreeMap<Slot, u64>,
}

impl Checksums {
    /// The slots whose sums are others there.
    pub(crate) fn differing(&self, there: &Self) -> SlotSet {
        let differ = self.sums.iter().filter(|(slot, sum)| there.sums.get(slot) != Some(sum));
        differ.map(|(slot, _)| *slot).collect()
    }
}

/// The verbs. Safe to cancel, all of them: a cancelled verb is repeated. Dropped, it leaves no transaction behind that
/// others would wait for.
pub trait Driver: Send + Sync {
    /// Everything about the sharded tables that keeps them from being fenced, or that a person should know.
    ///
    /// # Errors
    ///
    /// Where the server does not answer; a table that is refused is no error here.
    fn check_tables(&self) -> impl Future<Output = Result<Vec<TableFinding>, Error>> + Send;

    /// Puts schema, fence and publication in place; changes nothing where they are. Slots start closed.
    ///
    /// Of a table that is added to a store that runs no receiver skips a row: see [`Driver::link`]. Where it had rows already,
    /// and slots were ever open here, those were never published: a gap of every link from here.
    ///
    /// Where somebody has changed them since, rows may have been written past the fence, or left out of the publication.
    /// That becomes the gap of each link that such rows may have come by, here and at every receiver, and a warning of
    /// [`Driver::inspect`].
    ///
    /// # Errors
    ///
    /// [`Error::Setting`], [`Error::TablesRefused`], [`Error::DatabaseTaken`], [`Error::KeyspaceChanged`] where the
    /// database does not fit.
    fn install(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Looks at the server, the fence and its surroundings, and whether all of it is as it was left.
    ///
    /// # Errors
    ///
    /// [`Error::NotInstalled`] before [`Driver::install`].
    fn inspect(&self) -> impl Future<Output = Result<Inspected, Error>> + Send;

    /// Brings the store to the table of epoch `table`: closes first, as [`Driver::fence`] does, then opens.
    ///
    /// A slot that is as it should be is left alone. After a restart of the server every slot that was open is opened
    /// again, at the same epoch too.
    ///
    /// No receiver applies a write of slots that an operation brought before it has applied all that their former owners
    /// wrote: one that was away when they moved waits with the whole link from here, and [`Driver::links`] says so.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] where the store has seen a newer table, or a slot was fenced at this or a newer epoch;
    /// [`Error::NotDrained`], [`Error::LinksMissing`] where slots may not open yet (everything is closed by then);
    /// [`Error::NotInPlace`]: nothing opens behind a fence that is not whole; [`Error::FenceBlocked`].
    fn apply(
        &self,
        table: Epoch,
        grants: &[Grant],
        limits: FenceLimits,
    ) -> impl Future<Output = Result<Applied, Error>> + Send;

    /// The database's own clock.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn clock(&self) -> impl Future<Output = Result<StoreClock, Error>> + Send;

    /// Lets writes of open slots pass while the database's clock is within the lease; read at each write, and again when
    /// its transaction commits. It does not matter how late a call arrives, and a lease that is valid is never shortened.
    /// From the first one on, nothing passes without. It survives no restart, and no copy.
    ///
    /// The answer is the lease that is valid afterwards: `None` where this one came too late, or was asked for before the
    /// last [`Driver::expire`].
    ///
    /// # Errors
    ///
    /// [`Error::NotBrought`] before [`Driver::apply`] has brought the running server to the table of `granted`: slots that
    /// left this unit may be open here; [`Error::ClockWentBack`] where `from` is in the future: read the clock again;
    /// [`Error::LeaseLength`].
    fn extend(&self, lease: StoreLease) -> impl Future<Output = Result<Option<HeldLease>, Error>> + Send;

    /// Ends the lease: nothing is written from now on, and who wrote before does not commit, but for commits that are under
    /// way. Only a lease whose `from` was read after this is valid again. Whoever sees that the clock was changed calls it:
    /// on a clock that was set back after this, no lease is valid until that moment has come again, or this is repeated.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn expire(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Fences slots for an operation. Returns only when no transaction that wrote them can still commit, with the
    /// position after the last of them. It survives restarts; a repeated call gives the same position.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`]; [`Error::NotInPlace`], where the fence is not whole: its position would mean nothing;
    /// [`Error::FenceBlocked`]: who holds it up, in spite of having been ended.
    fn fence(
        &self,
        op: &OperationUid,
        epoch: Epoch,
        slots: &SlotSet,
        limits: FenceLimits,
    ) -> impl Future<Output = Result<Fenced, Error>> + Send;

    /// Who holds up a fence, or the closing of slots, that waits in this moment.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn blockers(&self) -> impl Future<Output = Result<Vec<Blocker>, Error>> + Send;

    /// How far this member's own log has come, first, and what it has applied of each other member.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn position(&self) -> impl Future<Output = Result<Vec<UnitPosition>, Error>> + Send;

    /// How far this member's own log has come: everything that was committed before the call is within it.
    ///
    /// # Errors
    ///
    /// Where the server does not answer, or before [`Driver::install`].
    fn progress(&self) -> impl Future<Output = Result<Progress, Error>> + Send;

    /// Whether an operation's slots were ever opened here, as far back as openings are remembered (30 days).
    ///
    /// # Errors
    ///
    /// Where the server does not answer, or before [`Driver::install`].
    fn opened(&self, op: &OperationUid) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Waits until this member has applied the positions and what the fences of this operation wrote behind them, and
    /// records that for the operation, so that its slots may open here. `epoch` is the epoch at which this is asked. A
    /// member that takes over has reached nothing while one of its peers would miss what is written here.
    ///
    /// A source that is cut here by this operation, or at `epoch` or later, wrote no fence: its positions alone count. When
    /// the slots open, that unit is told in the log that they were taken from it.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn wait_for(
        &self,
        op: &OperationUid,
        epoch: Epoch,
        positions: &[StorePosition],
        takes_over: bool,
        timeout: Duration,
    ) -> impl Future<Output = Result<Waited, Error>> + Send;

    /// As [`Driver::wait_for`], for the positions that the fences of these units for this operation wrote into their own
    /// logs at `epoch`: it waits for those too, so that it may be asked before the fences stand.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn follow(
        &self,
        op: &OperationUid,
        epoch: Epoch,
        sources: &[UnitName],
        takes_over: bool,
        timeout: Duration,
    ) -> impl Future<Output = Result<Waited, Error>> + Send;

    /// Makes or mends the link from a peer: looks first, adopts what exists. From another database than the one that it
    /// was made with it brings nothing, and from one whose log went back nothing more, but says so; a link that is made
    /// though rows were written before it has a gap. A table that joined at the peer is added to the link, which waits for
    /// that with every row behind it, and is [`LinkState::Broken`] where there is no such table here.
    ///
    /// # Errors
    ///
    /// Where this server does not answer; a peer that does not is [`LinkState::Broken`].
    fn link(&self, peer: &Peer) -> impl Future<Output = Result<Link, Error>> + Send;

    /// Removes the link from a unit, whether the peer lives or not.
    ///
    /// # Errors
    ///
    /// Where this server does not answer.
    fn unlink(&self, from: &UnitName, peer: Option<&Peer>) -> impl Future<Output = Result<Unlinked, Error>> + Send;

    /// Every link into this member, without changing any.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn links(&self) -> impl Future<Output = Result<Vec<Link>, Error>> + Send;

    /// Takes nothing more from a lost unit: returns when nothing of its log can be applied here any more, dead or half open as
    /// its connection may be, and says how far it was. It survives restarts, and whoever makes or enables the link;
    /// only [`Driver::uncut`] ends it. A repeated call gives the same answer.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] where it was cut, or joined again, at a newer epoch, or joined again at this one.
    fn cut(
        &self,
        from: &UnitName,
        op: &OperationUid,
        epoch: Epoch,
    ) -> impl Future<Output = Result<CutAt, Error>> + Send;

    /// Lets the link from a unit that was cut be made again, once it has joined: it begins with what the unit writes from
    /// then on, and brings nothing of what it wrote while it was cut. Unless the caller says that the rows were `compared`
    /// since the unit wrote last, that is the link's gap. Where nothing is cut, nothing changes.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] where it was cut at a newer epoch.
    fn uncut(&self, from: &UnitName, epoch: Epoch, compared: bool) -> impl Future<Output = Result<(), Error>> + Send;

    /// Says that what a lost unit wrote up to a position is here, though its link did not bring it: another member handed
    /// it on. The writes of the new owner wait for that.
    ///
    /// # Errors
    ///
    /// [`Error::NotCut`] where the unit is not cut; [`Error::Overtaken`] where it was cut at a newer epoch.
    fn repaired(&self, epoch: Epoch, upto: &UnitPosition) -> impl Future<Output = Result<(), Error>> + Send;

    /// Takes over from a survivor what it has received more of a lost unit: makes the rows of these slots equal to its own, and
    /// says that the lost unit's log is here as far as it is there, both at once. Nothing of it is passed on. Readers see the rows
    /// before or after. Where the survivor has received no more, nothing is changed.
    ///
    /// # Errors
    ///
    /// [`Error::NotCut`] where the unit is not cut here; [`Error::Overtaken`] where it was cut at a newer epoch;
    /// [`Error::NotCopied`]: it is not cut there, a slot is open here or there, what the operation waits for is applied here
    /// already ([`Driver::wait_for`]), or a right is missing. [`Error::TimedOut`] after `timeout`.
    fn take_tail(
        &self,
        tail: &Tail,
        from: &Peer,
        timeout: Duration,
    ) -> impl Future<Output = Result<TailTaken, Error>> + Send;

    /// Makes the rows of all slots that are open at a peer equal to its own here, and lets the link from it go on exactly
    /// behind them: what it had yet to bring is skipped, and not waited for any more. Readers see the rows before or after,
    /// and nothing of it is passed on. Writers at the peer wait for some milliseconds.
    ///
    /// Meanwhile, and where it does not come to its end, the link has a gap, which a repetition ends. Where the peer had
    /// closed slots whose rows its link had yet to bring, the gap stays for those that differ, until they are copied from
    /// who has them open ([`Link::lacking`]). A gap for another reason stays for a person.
    ///
    /// # Errors
    ///
    /// [`Error::NotCopied`], before anything is changed where it can be seen by then: the peer is cut off, this unit is
    /// quarantined or has slots open that are open there too, rows that were written before there have yet to come from a
    /// third member, or the right to read them is missing. [`Error::TimedOut`] after `timeout`.
    fn reseed(&self, from: &Peer, timeout: Duration) -> impl Future<Output = Result<Reseeded, Error>> + Send;

    /// Of these operations, those that brought slots elsewhere and of which all rows are here that their former owners wrote,
    /// and no more: the link from who opened them has passed the opening, or its rows were copied since. Who had received more
    /// of a lost unit than the new owner finds a gap of the link from there, which a copy of its rows ends. Asked only once
    /// every lost unit is cut off here.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn passed(&self, ops: &[OperationUid]) -> impl Future<Output = Result<Vec<OperationUid>, Error>> + Send;

    /// In the unit that was lost: what it committed to slots of `owners`, since they were taken from it by `op`, and they did
    /// not get. It is listed in the database, key by key with both versions, the first time that this is asked, and stays so:
    /// a repeated call gives the same answer, also after the rows were made equal.
    ///
    /// # Errors
    ///
    /// Where this server or an owner's does not answer in time: what was listed of others stays.
    fn diverged(
        &self,
        op: &OperationUid,
        owners: &[(Peer, SlotSet)],
        timeout: Duration,
    ) -> impl Future<Output = Result<Diverged, Error>> + Send;

    /// In the unit that was lost: what the operation made differ was compared and accepted. Until then its links wait at
    /// the row where a new owner opened the slots, and are [`LinkState::Quarantined`].
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn rejoin(&self, op: &OperationUid) -> impl Future<Output = Result<(), Error>> + Send;

    /// Says that all rows of `from` were compared and are equal here: forgets the link's gap.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn compared(&self, from: &UnitName) -> impl Future<Output = Result<(), Error>> + Send;

    /// Which of the peers prove that this database went back: they have applied more of its log than there is. In words.
    /// A peer that does not answer within a second proves nothing.
    ///
    /// # Errors
    ///
    /// Where this server does not answer.
    fn went_back(&self, peers: &[Peer]) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// Whether all that unit `from` had committed at `place` in its log can be read here, waiting for at most `limit`; without a
    /// place, all that it has committed when this is called, if it may write at all: else another one may have written more.
    /// Of this unit itself that is whether it may write.
    ///
    /// # Errors
    ///
    /// Where this server does not answer, or that of the peer.
    fn caught_up(
        &self,
        from: &UnitName,
        peer: Option<&Peer>,
        place: Option<&Progress>,
        limit: Duration,
    ) -> impl Future<Output = Result<Caught, Error>> + Send;

    /// Writes this member's heartbeat: with each renewal of the write lease, and more often while somebody asks for the lag.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn beat(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// How far this member is behind each other one.
    ///
    /// # Errors
    ///
    /// Where the server does not answer.
    fn lag(&self) -> impl Future<Output = Result<Vec<Lag>, Error>> + Send;

    /// Compares the rows of `slots` here with those of a peer that has them open, while both run: both as they were at one
    /// place in the peer's log, so that no row is under way. Writers of these slots at the peer wait for some milliseconds, and
    /// so does the link from there.
    ///
    /// With a `part`, only rows behind where the last part has ended, and about as many as it says: each part is compared at a
    /// place of its own, and all of them together have each row of these slots once.
    ///
    /// # Errors
    ///
    /// [`Error::NotCompared`]: the peer's log does not come here, a column is missing here, or the right to read its rows is;
    /// [`Error::NotInPlace`]; [`Error::TimedOut`] after `timeout`.
    fn compare(
        &self,
        from: &Peer,
        slots: &SlotSet,
        part: Option<&Part>,
        extent: Extent,
        timeout: Duration,
    ) -> impl Future<Output = Result<Compared, Error>> + Send;

    /// In a store that several units write: looks at the rows of `slots` that differ from a peer's, waits until each side has all that
    /// the other had written by then, and where both versions are still the same lists the row with both, or makes it what `winner`
    /// says. That is passed on to nobody. What is listed of slots `of`, and differs no more, counts as settled.
    ///
    /// # Errors
    ///
    /// [`Error::NotCompared`]: the peer's log does not come here, or ours not there, or a right is missing. [`Error::TimedOut`] after
    /// `timeout`: what was settled by then is.
    fn settle(
        &self,
        from: &Peer,
        winner: &Winner,
        slots: &SlotSet,
        of: &SlotSet,
        timeout: Duration,
    ) -> impl Future<Output = Result<Settled, Error>> + Send;

    /// Notes here and at a peer from when on rows count as changed: what a comparison that begins now finds equal is equal until
    /// then. `None` where neither rows nor logs tell when they were written, or the peer's agent does not know of it yet.
    ///
    /// # Errors
    ///
    /// Where this server does not answer, or that of the peer.
    fn horizon(&self, from: &Peer) -> impl Future<Output = Result<Option<Horizon>, Error>> + Send;

    /// Remembers that all rows of `slots` were equal to those of `from`, in comparisons that all began behind `horizon`; without one,
    /// that they are not.
    ///
    /// # Errors
    ///
    /// Where this server does not answer.
    fn found_equal(
        &self,
        from: &UnitName,
        slots: &SlotSet,
        horizon: Option<&Horizon>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// How many rows a peer has in each slot, about; slots without rows may be missing.
    ///
    /// # Errors
    ///
    /// As [`Driver::compare`].
    fn sizes(&self, from: &Peer, timeout: Duration) -> impl Future<Output = Result<BTreeMap<Slot, u64>, Error>> + Send;

    /// The checksums of the rows of `slots` whose key is in `range`, of all tables, in one snapshot. Rows in flight
    /// differ for a moment: repeat for the slots that differ, or fence them first.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] after `timeout`.
    fn checksum(
        &self,
        slots: &SlotSet,
        range: &KeyRange,
        timeout: Duration,
    ) -> impl Future<Output = Result<Checksums, Error>> + Send;
}
