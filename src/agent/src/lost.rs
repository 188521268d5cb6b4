//! Who is lost by a table, and what that asks of the stores of the others. Pure.

use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::Step;
use multiactive_core::quarantine;
use multiactive_core::table::RoutingTable;
use std::collections::BTreeMap;

/// The name of the Failover by which the unit is in quarantine.
pub fn quarantined<'a>(table: &'a RoutingTable, unit: &UnitName) -> Option<&'a str> {
    let mut known = table.quarantined.iter();
    known.find(|known| known.unit == *unit).map(|known| known.name.as_str())
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
