//! The driver of whichever engine a store has: each verb is passed on.

use crate::access::Access;
use crate::driver::{
    Applied, Blocker, Checksums, Compared, CutAt, Diverged, Driver, Extent, FenceLimits, Fenced, Grant, HeldLease,
    Horizon, Inspected, KeyRange, Lag, Link, Part, Peer, Reseeded, Settled, StoreClock, StoreLease, StoreSpec,
    TableFinding, Tail, TailTaken, Unlinked, Waited, Winner,
};
use crate::error::Error;
use crate::{MySqlFamily, Postgres};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{Progress, StorePosition, UnitPosition};
use multiactive_core::slots::{Slot, SlotSet};
use multiactive_core::wire::Caught;
use std::collections::BTreeMap;
use std::time::Duration;

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// PostgreSQL.
    PostgreSql,
    /// MariaDB.
    MariaDb,
    /// MySQL.
    MySql,
}

impl EngineKind {
    /// A new random name of a database, as an expression for a person to run.
    pub fn fresh_uuid(self) -> &'static str {
        match self {
            Self::PostgreSql => "gen_random_uuid()",
            Self::MariaDb | Self::MySql => "UUID()",
        }
    }

    /// A change of our own schema for a person to run, which must stay in that server.
    pub fn by_hand(self, statement: &str) -> String {
        match self {
            Self::PostgreSql => statement.to_owned(),
            Self::MariaDb | Self::MySql => format!("SET SESSION sql_log_bin = 0; {statement}"),
        }
    }
}

/// A driver of one of the engines.
pub enum AnyStore {
    /// PostgreSQL.
    Postgres(Box<Postgres>),
    /// MariaDB.
    MariaDb(Box<MySqlFamily>),
    /// MySQL.
    MySql(Box<MySqlFamily>),
}

impl AnyStore {
    /// A driver; it connects when it is asked something.
    pub fn new(engine: EngineKind, spec: StoreSpec, access: Access) -> Self {
        match engine {
            EngineKind::PostgreSql => Self::Postgres(Box::new(Postgres::new(spec, access))),
            EngineKind::MariaDb => Self::MariaDb(Box::new(MySqlFamily::mariadb(spec, access))),
            EngineKind::MySql => Self::MySql(Box::new(MySqlFamily::mysql(spec, access))),
        }
    }
}

/// Asks the driver, whichever it is.
macro_rules! ask {
    ($any:ident . $verb:ident ( $($given:ident),* )) => {
        match $any {
            AnyStore::Postgres(driver) => driver.$verb($($given),*).await,
            AnyStore::MariaDb(driver) | AnyStore::MySql(driver) => driver.$verb($($given),*).await,
        }
    };
}

impl Driver for AnyStore {
    async fn check_tables(&self) -> Result<Vec<TableFinding>, Error> {
        ask!(self.check_tables())
    }

    async fn install(&self) -> Result<(), Error> {
        ask!(self.install())
    }

    async fn inspect(&self) -> Result<Inspected, Error> {
        ask!(self.inspect())
    }

    async fn apply(&self, table: Epoch, grants: &[Grant], limits: FenceLimits) -> Result<Applied, Error> {
        ask!(self.apply(table, grants, limits))
    }

    async fn clock(&self) -> Result<StoreClock, Error> {
        ask!(self.clock())
    }

    async fn extend(&self, lease: StoreLease) -> Result<Option<HeldLease>, Error> {
        ask!(self.extend(lease))
    }

    async fn expire(&self) -> Result<(), Error> {
        ask!(self.expire())
    }

    async fn fence(
        &self,
        op: &OperationUid,
        epoch: Epoch,
        slots: &SlotSet,
        limits: FenceLimits,
    ) -> Result<Fenced, Error> {
        ask!(self.fence(op, epoch, slots, limits))
    }

    async fn blockers(&self) -> Result<Vec<Blocker>, Error> {
        ask!(self.blockers())
    }

    async fn position(&self) -> Result<Vec<UnitPosition>, Error> {
        ask!(self.position())
    }

    async fn progress(&self) -> Result<Progress, Error> {
        ask!(self.progress())
    }

    async fn opened(&self, op: &OperationUid) -> Result<bool, Error> {
        ask!(self.opened(op))
    }

    async fn wait_for(
        &self,
        op: &OperationUid,
        epoch: Epoch,
        positions: &[StorePosition],
        takes_over: bool,
        timeout: Duration,
    ) -> Result<Waited, Error> {
        ask!(self.wait_for(op, epoch, positions, takes_over, timeout))
    }

    async fn follow(
        &self,
        op: &OperationUid,
        epoch: Epoch,
        sources: &[UnitName],
        takes_over: bool,
        timeout: Duration,
    ) -> Result<Waited, Error> {
        ask!(self.follow(op, epoch, sources, takes_over, timeout))
    }

    async fn link(&self, peer: &Peer) -> Result<Link, Error> {
        ask!(self.link(peer))
    }

    async fn unlink(&self, from: &UnitName, peer: Option<&Peer>) -> Result<Unlinked, Error> {
        ask!(self.unlink(from, peer))
    }

    async fn links(&self) -> Result<Vec<Link>, Error> {
        ask!(self.links())
    }

    async fn cut(&self, from: &UnitName, op: &OperationUid, epoch: Epoch) -> Result<CutAt, Error> {
        ask!(self.cut(from, op, epoch))
    }

    async fn uncut(&self, from: &UnitName, epoch: Epoch, compared: bool) -> Result<(), Error> {
        ask!(self.uncut(from, epoch, compared))
    }

    async fn repaired(&self, epoch: Epoch, upto: &UnitPosition) -> Result<(), Error> {
        ask!(self.repaired(epoch, upto))
    }

    async fn take_tail(&self, tail: &Tail, from: &Peer, timeout: Duration) -> Result<TailTaken, Error> {
        ask!(self.take_tail(tail, from, timeout))
    }

    async fn reseed(&self, from: &Peer, timeout: Duration) -> Result<Reseeded, Error> {
        ask!(self.reseed(from, timeout))
    }

    async fn passed(&self, ops: &[OperationUid]) -> Result<Vec<OperationUid>, Error> {
        ask!(self.passed(ops))
    }

    async fn diverged(
        &self,
        op: &OperationUid,
        owners: &[(Peer, SlotSet)],
        timeout: Duration,
    ) -> Result<Diverged, Error> {
        ask!(self.diverged(op, owners, timeout))
    }

    async fn rejoin(&self, op: &OperationUid) -> Result<(), Error> {
        ask!(self.rejoin(op))
    }

    async fn compared(&self, from: &UnitName) -> Result<(), Error> {
        ask!(self.compared(from))
    }

    async fn went_back(&self, peers: &[Peer]) -> Result<Vec<String>, Error> {
        ask!(self.went_back(peers))
    }

    async fn caught_up(
        &self,
        from: &UnitName,
        peer: Option<&Peer>,
        place: Option<&Progress>,
        limit: Duration,
    ) -> Result<Caught, Error> {
        ask!(self.caught_up(from, peer, place, limit))
    }

    async fn beat(&self) -> Result<(), Error> {
        ask!(self.beat())
    }

    async fn lag(&self) -> Result<Vec<Lag>, Error> {
        ask!(self.lag())
    }

    async fn compare(
        &self,
        from: &Peer,
        slots: &SlotSet,
        part: Option<&Part>,
        extent: Extent,
        timeout: Duration,
    ) -> Result<Compared, Error> {
        ask!(self.compare(from, slots, part, extent, timeout))
    }

    async fn settle(
        &self,
        from: &Peer,
        winner: &Winner,
        slots: &SlotSet,
        of: &SlotSet,
        timeout: Duration,
    ) -> Result<Settled, Error> {
        ask!(self.settle(from, winner, slots, of, timeout))
    }

    async fn horizon(&self, from: &Peer) -> Result<Option<Horizon>, Error> {
        ask!(self.horizon(from))
    }

    async fn found_equal(&self, from: &UnitName, slots: &SlotSet, horizon: Option<&Horizon>) -> Result<(), Error> {
        ask!(self.found_equal(from, slots, horizon))
    }

    async fn sizes(&self, from: &Peer, timeout: Duration) -> Result<BTreeMap<Slot, u64>, Error> {
        ask!(self.sizes(from, timeout))
    }

    async fn checksum(&self, slots: &SlotSet, range: &KeyRange, timeout: Duration) -> Result<Checksums, Error> {
        ask!(self.checksum(slots, range, timeout))
    }
}
