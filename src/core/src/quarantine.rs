//! Units that were lost: what the table remembers of them, and what it wants of their write leases.
//!
//! Lease and table are two objects, so what has to be done to a lease is derived from the table and carries one of its
//! epochs, which only grow: [`lease_wanted`]. Who writes a lease compares it with the version that it read and writes
//! nothing that is older than what stands there. A grant that was decided on before a later failover sealed the lease
//! fails then, and so does a seal that was decided on before an abort granted it anew.

use crate::epoch::Epoch;
use crate::ids::{OperationUid, UnitName};
use crate::lease::Seal;
use crate::promotion::{Accepted, Operation, Step};
use crate::slots::SlotSet;
use crate::span::{Span, SpanState};
use crate::table::RoutingTable;
use std::collections::BTreeSet;

/// A unit whose slots were given to another one without its word: it serves nothing before it has rejoined.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quarantined {
    /// The unit.
    pub unit: UnitName,
    /// The table that did it.
    pub since: Epoch,
    /// The uid of the Failover.
    pub by: OperationUid,
    /// Its name.
    pub name: String,
    /// A person's word that what only this unit's databases hold may be given up: with it they are made equal to those of
    /// the owners, and then the unit rejoins.
    pub accepted: Option<Accepted>,
}

/// A lease that was granted anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseGrant {
    /// The unit.
    pub unit: UnitName,
    /// The table that did it: the unit's agent extends the deadline of its databases only once it has brought them to this
    /// table or a later one, for until then they may hold slots open that are another's.
    pub at: Epoch,
}

/// What has to be done to a unit's lease; doing it again does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseWanted {
    /// Nobody may renew it.
    ///
    /// A seal of an earlier table is put on again, so that whatever was decided on before fails.
    Sealed(Seal),
    /// The unit may hold it.
    Granted {
        /// Since which table; [`Epoch::NEVER`] where it was never taken away.
        at: Epoch,
    },
}

/// What the table wants of a unit's lease: sealed while a failover has fenced the unit and while it is in quarantine.
pub fn lease_wanted(table: &RoutingTable, unit: &UnitName) -> LeaseWanted {
    let fencing = table.operations.iter().filter_map(|op| {
        let failover = op.failover.as_ref().filter(|failover| failover.lost == *unit)?;
        (op.step >= Step::Fence).then(|| (failover.fence, op.object()))
    });
    let quarantined = of(table, unit).map(|known| (known.since, known.by.clone()));
    match fencing.chain(quarantined).max_by_key(|(at, _)| *at) {
        Some((at, by)) => LeaseWanted::Sealed(Seal { by, at }),
        None => LeaseWanted::Granted {
            at: granted(table, unit),
        },
    }
}

/// Since which table the unit may hold its lease, as far as it was ever taken away.
fn granted(table: &RoutingTable, unit: &UnitName) -> Epoch {
    let grant = table.leases.iter().find(|grant| grant.unit == *unit);
    grant.map_or(Epoch::NEVER, |grant| grant.at)
}

/// Grants the lease of a unit anew, at the table's epoch.
pub(crate) fn grant(table: &mut RoutingTable, unit: &UnitName) {
    let at = table.epoch;
    match table.leases.iter_mut().find(|grant| grant.unit == *unit) {
        Some(known) => known.at = at,
        None => table.leases.push(LeaseGrant { unit: unit.clone(), at }),
    }
    table.leases.sort_by(|a, b| a.unit.cmp(&b.unit));
}

/// The units that are lost: in quarantine, or named by a failover that runs. They are no targets, own nothing new, and
/// nobody waits for them.
pub fn lost(table: &RoutingTable) -> Vec<UnitName> {
    let quarantined = table.quarantined.iter().map(|known| &known.unit);
    let named = table.operations.iter().filter_map(Operation::lost);
    let all: BTreeSet<&UnitName> = quarantined.chain(named).collect();
    all.into_iter().cloned().collect()
}

/// What the table remembers of a unit in quarantine; `None` where it is in none.
pub fn of<'a>(table: &'a RoutingTable, unit: &UnitName) -> Option<&'a Quarantined> {
    table.quarantined.iter().find(|known| known.unit == *unit)
}

/// Whether a unit is in quarantine.
pub fn is_quarantined(table: &RoutingTable, unit: &UnitName) -> bool {
    of(table, unit).is_some()
}

/// The failover that still takes slots from a unit: as long as one does, nobody knows who the owners are.
pub fn taking<'a>(table: &'a RoutingTable, unit: &UnitName) -> Option<&'a Operation> {
    table.operations.iter().find(|op| op.lost() == Some(unit))
}

/// Puts a unit into quarantine, at the table's epoch. What it still owns is fenced: nobody could take its slots (no
/// failover unit was usable), and it must not serve them either, for its lease is one for all.
pub(crate) fn quarantine(table: &mut RoutingTable, unit: &UnitName, by: OperationUid, name: &str) {
    // What a later Failover took is listed and accepted anew.
    if of(table, unit).is_none_or(|known| known.by != by) {
        table.quarantined.retain(|known| known.unit != *unit);
        table.quarantined.push(Quarantined {
            unit: unit.clone(),
            since: table.epoch,
            by,
            name: name.to_owned(),
            accepted: None,
        });
        table.quarantined.sort_by(|a, b| a.unit.cmp(&b.unit));
    }
    set_idle(table, unit, SpanState::Fenced, |span| span.state != SpanState::Fenced);
}

/// Gives slots of a unit that no operation moves another state.
pub(crate) fn set_idle(table: &mut RoutingTable, unit: &UnitName, state: SpanState, wanted: impl Fn(&Span) -> bool) {
    let epoch = table.epoch;
    for keyspace in &mut table.keyspaces {
        let moving = table.operations.iter().map(|op| op.slots_of(&keyspace.name, None));
        let moving = moving.fold(SlotSet::default(), |all, slots| all.union(&slots));
        let idle = keyspace
            .slots_where(|span| span.is_owned_by(unit) && wanted(span))
            .difference(&moving);
        keyspace.set(&idle, Some(unit), state, epoch);
    }
}
