//! PostgreSQL, from 16 on: one folder, a file for each verb or two. `roles.sql` beside this file lists the rights that are
//! needed; `schema.sql`, `lease.sql`, `guard.sql` and `at_commit.sql` are the fence.
//!
//! The application's user must own no sharded table: an owner can disable triggers. [`Driver::check_tables`] warns.

mod caught_up;
mod changed;
mod checksum;
mod compare;
mod connect;
mod copy;
mod cut;
mod decide;
mod differing;
mod diverged;
mod fence;
mod grants;
mod incarnation;
mod inspect;
mod install;
mod lag;
mod lease;
mod links;
mod names;
mod noted;
mod peer;
mod pgoutput;
mod placed;
mod position;
mod progress;
mod ranges;
mod reseed;
mod settle;
mod sizes;
mod source;
mod subscription;
mod tables;
mod tail;
mod wait;

pub use connect::Access;
pub use progress::progress;

use crate::conflict::Counted;
use crate::driver::{
    Applied, Blocker, Checksums, Compared, CutAt, Diverged, Driver, Extent, FenceLimits, Fenced, Grant, HeldLease,
    Horizon, Inspected, KeyRange, Lag, Link, Part, Peer, Reseeded, Settled, StoreClock, StoreLease, StoreSpec,
    TableFinding, Tail, TailTaken, Unlinked, Waited, Winner,
};
use crate::error::Error;
use connect::Server;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{Progress, StorePosition, UnitPosition};
use multiactive_core::slots::{Slot, SlotSet};
use multiactive_core::wire::Caught;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// The SQLSTATE with which the fence refuses a write: the slot is not open here.
pub const REFUSED: &str = "MA001";

/// The SQLSTATE with which a write or a commit is refused outside of the unit's write lease.
pub const UNLEASED: &str = "MA004";

/// The member of a store that is a PostgreSQL database.
pub struct Postgres {
    spec: StoreSpec,
    access: Access,
    server: Server,
    watch: links::Watch,
    beats: caught_up::Beats,
    counted: Counted,
    /// When everything was last seen in place, by the server's clock.
    in_place: Mutex<Option<String>>,
}

impl Postgres {
    /// A driver; it connects when it is asked something.
    pub fn new(spec: StoreSpec, access: Access) -> Self {
        let server = Server::new(&access);
        Self {
            spec,
            access,
            server,
            beats: caught_up::Beats::default(),
            counted: Counted::default(),
            watch: links::Watch::default(),
            in_place: Mutex::default(),
        }
    }
}

impl Driver for Postgres {
    async fn check_tables(&self) -> Result<Vec<TableFinding>, Error> {
        tables::check(self).await
    }

    async fn install(&self) -> Result<(), Error> {
        install::install(self).await
    }

    async fn inspect(&self) -> Result<Inspected, Error> {
        inspect::inspect(self).await
    }

    async fn apply(&self, table: Epoch, grants: &[Grant], limits: FenceLimits) -> Result<Applied, Error> {
        grants::apply(self, table, grants, limits).await
    }

    async fn clock(&self) -> Result<StoreClock, Error> {
        lease::clock(self).await
    }

    async fn extend(&self, lease: StoreLease) -> Result<Option<HeldLease>, Error> {
        lease::extend(self, lease).await
    }

    async fn expire(&self) -> Result<(), Error> {
        lease::expire(self).await
    }

    async fn fence(
        &self,
        op: &OperationUid,
        epoch: Epoch,
        slots: &SlotSet,
        limits: FenceLimits,
    ) -> Result<Fenced, Error> {
        position::fence(self, op, epoch, slots, limits).await
    }

    async fn blockers(&self) -> Result<Vec<Blocker>, Error> {
        fence::blockers(self).await
    }

    async fn position(&self) -> Result<Vec<UnitPosition>, Error> {
        position::position(self).await
    }

    async fn progress(&self) -> Result<Progress, Error> {
        progress::own(self).await
    }

    async fn opened(&self, op: &OperationUid) -> Result<bool, Error> {
        progress::opened(self, op).await
    }

    async fn wait_for(
        &self,
        op: &OperationUid,
        epoch: Epoch,
        positions: &[StorePosition],
        takes_over: bool,
        timeout: Duration,
    ) -> Result<Waited, Error> {
        wait::wait_for(self, op, epoch, positions, takes_over, timeout).await
    }

    async fn follow(
        &self,
        op: &OperationUid,
        epoch: Epoch,
        sources: &[UnitName],
        takes_over: bool,
        timeout: Duration,
    ) -> Result<Waited, Error> {
        wait::follow(self, op, epoch, sources, takes_over, timeout).await
    }

    async fn link(&self, peer: &Peer) -> Result<Link, Error> {
        links::link(self, peer).await
    }

    async fn unlink(&self, from: &UnitName, peer: Option<&Peer>) -> Result<Unlinked, Error> {
        links::unlink(self, from, peer).await
    }

    async fn links(&self) -> Result<Vec<Link>, Error> {
        links::links(self).await
    }

    async fn cut(&self, from: &UnitName, op: &OperationUid, epoch: Epoch) -> Result<CutAt, Error> {
        cut::cut(self, from, op, epoch).await
    }

    async fn uncut(&self, from: &UnitName, epoch: Epoch, compared: bool) -> Result<(), Error> {
        cut::uncut(self, from, epoch, compared).await
    }

    async fn repaired(&self, epoch: Epoch, upto: &UnitPosition) -> Result<(), Error> {
        cut::repaired(self, epoch, upto).await
    }

    async fn take_tail(&self, tail: &Tail, from: &Peer, timeout: Duration) -> Result<TailTaken, Error> {
        tail::take_tail(self, tail, from, timeout).await
    }

    async fn reseed(&self, from: &Peer, timeout: Duration) -> Result<Reseeded, Error> {
        reseed::reseed(self, from, timeout).await
    }

    async fn diverged(
        &self,
        op: &OperationUid,
        owners: &[(Peer, SlotSet)],
        timeout: Duration,
    ) -> Result<Diverged, Error> {
        diverged::diverged(self, op, owners, timeout).await
    }

    async fn passed(&self, ops: &[OperationUid]) -> Result<Vec<OperationUid>, Error> {
        progress::passed(self, ops).await
    }

    async fn rejoin(&self, op: &OperationUid) -> Result<(), Error> {
        cut::rejoin(self, op).await
    }

    async fn compared(&self, from: &UnitName) -> Result<(), Error> {
        links::compared(self, from).await
    }

    async fn went_back(&self, peers: &[Peer]) -> Result<Vec<String>, Error> {
        incarnation::went_back(self, peers).await
    }

    async fn beat(&self) -> Result<(), Error> {
        lag::beat(self).await
    }

    async fn caught_up(
        &self,
        from: &UnitName,
        peer: Option<&Peer>,
        place: Option<&Progress>,
        limit: Duration,
    ) -> Result<Caught, Error> {
        caught_up::caught_up(self, from, peer, place, limit).await
    }

    async fn lag(&self) -> Result<Vec<Lag>, Error> {
        lag::lag(self).await
    }

    async fn compare(
        &self,
        from: &Peer,
        slots: &SlotSet,
        part: Option<&Part>,
        extent: Extent,
        timeout: Duration,
    ) -> Result<Compared, Error> {
        compare::compare(self, from, slots, part, extent, timeout).await
    }

    async fn settle(
        &self,
        from: &Peer,
        winner: &Winner,
        slots: &SlotSet,
        of: &SlotSet,
        timeout: Duration,
    ) -> Result<Settled, Error> {
        settle::settle(self, from, winner, (slots, of), timeout).await
    }

    async fn horizon(&self, from: &Peer) -> Result<Option<Horizon>, Error> {
        changed::take(self, from).await
    }

    async fn found_equal(&self, from: &UnitName, slots: &SlotSet, horizon: Option<&Horizon>) -> Result<(), Error> {
        changed::remember(self, from, slots, horizon).await
    }

    async fn sizes(&self, from: &Peer, timeout: Duration) -> Result<BTreeMap<Slot, u64>, Error> {
        sizes::sizes(self, from, timeout).await
    }

    async fn checksum(&self, slots: &SlotSet, range: &KeyRange, timeout: Duration) -> Result<Checksums, Error> {
        checksum::checksum(self, slots, range, timeout).await
    }
}
