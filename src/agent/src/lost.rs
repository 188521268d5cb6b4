//! Who is lost by a table, and what that asks of the stores of the others. Pure.

use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, OperationUid, UnitName};
use multiactive_core::promotion::{OperationKind, Step};
use multiactive_core::quarantine;
use multiactive_core::slots::SlotSet;
use multiactive_core::table::RoutingTable;
use std::collections::BTreeMap;

/// What a table asks of a store whose unit is in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// The Failover, by its uid.
    pub by: OperationUid,
    /// The failovers that ended: those that took its slots are among them, and of the others nothing waits here.
    pub parts: Vec<OperationUid>,
    /// The table that did it: a store that stands there has nothing open any more.
    pub since: Epoch,
    /// Whether none of these operations runs any more: before that nobody knows who the owners are.
    pub settled: bool,
    /// Whether a person has accepted what only this unit holds.
    pub accepted: bool,
    /// The owners of the keyspace's slots now, but for this unit and others that are lost.
    pub owners: Vec<(UnitName, SlotSet)>,
    /// Who is lost.
    pub lost: Vec<UnitName>,
}

impl Quarantine {
    /// `None` where the unit is not in quarantine.
    pub fn of(table: &RoutingTable, unit: &UnitName, keyspace: &KeyspaceName) -> Option<Self> {
        let known = quarantine::of(table, unit)?;
        let lost = quarantine::lost(table);
        let finished = table.finished.iter();
        let failovers = finished.filter(|done| done.kind == OperationKind::Failover);
        let owners = table.owners_of(keyspace).into_iter();
        let owners = owners.filter(|(owner, _)| !lost.contains(owner));
        Some(Self {
            by: known.by.clone(),
            parts: failovers.map(|done| done.uid.clone()).collect(),
            since: known.since,
            settled: quarantine::taking(table, unit).is_none(),
            accepted: known.accepted.is_some(),
            owners: owners.map(|(unit, slots)| (unit.clone(), slots)).collect(),
            lost,
        })
    }
}

/// A unit of which a store takes nothing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The unit that is lost.
    pub lost: UnitName,
    /// The operation that took its slots, or takes them.
    pub by: OperationUid,
    /// The newest table that asks for it: a store holds the cut at that epoch.
    pub at: Epoch,
}

/// The units that this one has to be cut off from: those whose failover stands at Cut or later, and those in quarantine.
/// Two operations may take slots from one unit: what a store holds is the newest cut, and it is one for both.
pub fn cuts(table: &RoutingTable, unit: &UnitName) -> Vec<Cut> {
    let failing = table.operations.iter().filter(|op| op.step >= Step::Cut);
    let failing = failing.filter_map(|op| Some((op.lost()?, &op.uid, op.epoch)));
    let quarantined = table.quarantined.iter();
    let quarantined = quarantined.map(|known| (&known.unit, &known.by, known.since));
    let mut newest: BTreeMap<&UnitName, (Epoch, &OperationUid)> = BTreeMap::new();
    for (lost, by, at) in failing.chain(quarantined).filter(|(lost, ..)| *lost != unit) {
        let known = newest.entry(lost).or_insert((at, by));
        *known = (*known).max((at, by));
    }
    let cuts = newest.into_iter().map(|(lost, (at, by))| Cut {
        lost: lost.clone(),
        by: by.clone(),
        at,
    });
    cuts.collect()
}

/// Since which table a unit that was called lost is none any more, because its failover was aborted or it has rejoined; `None`
/// while it is lost, and where it never was.
pub fn back(table: &RoutingTable, unit: &UnitName) -> Option<Epoch> {
    let granted = table.leases.iter().find(|grant| grant.unit == *unit)?;
    (!quarantine::lost(table).contains(unit)).then_some(granted.at)
}

/// The operations that the table remembers and at whose commit the unit was behind, each with the keyspaces whose slots it
/// moved; none where an older operator did not note them: then all may be concerned.
pub fn was_behind(table: &RoutingTable, unit: &UnitName) -> Vec<(OperationUid, Vec<KeyspaceName>)> {
    let finished = table.finished.iter().filter(|done| done.behind.contains(unit));
    finished
        .map(|done| (done.uid.clone(), done.keyspaces.clone()))
        .collect()
}
