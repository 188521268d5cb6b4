//! The family of MySQL: the driver of MariaDB and MySQL, a file for each verb or two. The two have the same protocol, nearly the
//! same SQL, and logs whose transactions have numbers; `dialect` has what is only said in other words, and the folders `mariadb`
//! and `mysql` what each does in another way.
//!
//! One server is one member of one store, for its log is one: each member has its own `server_id`, and a log with a name of its
//! own. A server starts read-only, by its configuration, and takes writes only once it was brought to a table and has a lease.
//! The application must not have the rights to TRUNCATE or change tables, nor to write past the log. [`Driver::check_tables`]
//! warns.

pub(crate) mod applied;
pub(crate) mod binlog;
mod brought;
mod caught_up;
mod changed;
mod checksum;
mod compare;
pub(crate) mod connect;
mod copy;
mod cut;
mod decide;
pub(crate) mod dialect;
mod differing;
mod diverged;
mod fence;
mod grants;
pub(crate) mod gtid;
pub(crate) mod inspect;
mod install;
mod keys;
mod lag;
mod lease;
mod links;
mod locks;
pub(crate) mod logs;
mod lost;
pub(crate) mod names;
mod peer;
mod placed;
mod position;
mod ranges;
pub(crate) mod reading;
mod reseed;
mod rows;
mod settle;
mod sizes;
mod slots;
pub(crate) mod snapshot;
mod stand;
mod statements;
pub(crate) mod status;
mod store;
mod tables;
mod tail;
mod wait;

pub use crate::access::Access;
pub use gtid::progress;

use crate::conflict::Counted;
use crate::driver::{
    Applied, Blocker, Checksums, Compared, CutAt, Diverged, Driver, Extent, FenceLimits, Fenced, Grant, HeldLease,
    Horizon, Inspected, KeyRange, Lag, Link, Part, Peer, Reseeded, Settled, StoreClock, StoreLease, StoreSpec,
    TableFinding, Tail, TailTaken, Unlinked, Waited, Winner,
};
use crate::error::Error;
use crate::{mariadb, mysql};
use connect::Server;
use dialect::Dialect;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{Progress, StorePosition, UnitPosition};
use multiactive_core::slots::{Slot, SlotSet};
use multiactive_core::wire::Caught;
use std::collections::BTreeMap;
use std::time::Duration;

/// The SQLSTATE with which the fence refuses a write: the slot is not open here.
pub const REFUSED: &str = "MA001";

/// The SQLSTATE with which a write is refused outside of the unit's write lease.
pub const UNLEASED: &str = "MA004";

/// The member of a store that is a server of MariaDB or MySQL.
pub struct MySqlFamily {
    pub(crate) spec: StoreSpec,
    pub(crate) access: Access,
    pub(crate) server: Server,
    watch: status::Watch,
    counted: Counted,
}

impl MySqlFamily {
    /// A driver of a MariaDB; it connects when it is asked something.
    pub fn mariadb(spec: StoreSpec, access: Access) -> Self {
        Self::new(&mariadb::DIALECT, spec, access)
    }

    /// A driver of a MySQL; it connects when it is asked something.
    pub fn mysql(spec: StoreSpec, access: Access) -> Self {
        Self::new(&mysql::DIALECT, spec, access)
    }

    fn new(dialect: &'static Dialect, spec: StoreSpec, access: Access) -> Self {
        let server = Server::new(dialect, &access);
        Self {
            spec,
            access,
            server,
            watch: status::Watch::default(),
            counted: Counted::default(),
        }
    }
}

impl Driver for MySqlFamily {
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
        position::own(self).await
    }

    async fn opened(&self, op: &OperationUid) -> Result<bool, Error> {
        position::opened(self, op).await
    }

    async fn wait_for(
        &self,
        op: &OperationUid,
        epoch: Epoch,
        positions: &[StorePosition],
        // Peers get what is written here from the log, whenever they link to it.
        _takes_over: bool,
        timeout: Duration,
    ) -> Result<Waited, Error> {
        wait::wait_for(self, op, epoch, positions, timeout).await
    }

    async fn follow(
        &self,
        op: &OperationUid,
        epoch: Epoch,
        sources: &[UnitName],
        // Peers get what is written here from the log, whenever they link to it.
        _takes_over: bool,
        timeout: Duration,
    ) -> Result<Waited, Error> {
        wait::follow(self, op, epoch, sources, timeout).await
    }

    async fn link(&self, peer: &Peer) -> Result<Link, Error> {
        links::link(self, peer).await
    }

    async fn unlink(&self, from: &UnitName, _peer: Option<&Peer>) -> Result<Unlinked, Error> {
        links::unlink(self, from).await
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

    async fn passed(&self, ops: &[OperationUid]) -> Result<Vec<OperationUid>, Error> {
        brought::passed(self, ops).await
    }

    async fn diverged(
        &self,
        op: &OperationUid,
        owners: &[(Peer, SlotSet)],
        timeout: Duration,
    ) -> Result<Diverged, Error> {
        diverged::diverged(self, op, owners, timeout).await
    }

    async fn rejoin(&self, op: &OperationUid) -> Result<(), Error> {
        lost::rejoin(self, op).await
    }

    async fn compared(&self, from: &UnitName) -> Result<(), Error> {
        links::compared(self, from).await
    }

    async fn went_back(&self, peers: &[Peer]) -> Result<Vec<String>, Error> {
        peer::went_back(self, peers).await
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

    async fn beat(&self) -> Result<(), Error> {
        lag::beat(self).await
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
        compare::compare(self, from, slots, (part, extent), timeout).await
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
