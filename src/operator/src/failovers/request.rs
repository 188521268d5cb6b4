//! From a Failover to the table in which it has begun, and who takes over what.

use super::seen::candidates;
use crate::promotions::request::Refused;
use crate::tables::Inputs;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use multiactive_api::{Failover, convert};
use multiactive_core::ids::{OperationUid, StoreName, UnitName};
use multiactive_core::promotion::{Choosing, FailoverRequest, Placement, begin, choose};
use multiactive_core::table::RoutingTable;
use std::collections::BTreeSet;

/// How long after it was seen first a Failover waits for what is not known of the units that may take over.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// The uid of the object, as its operations'.
pub fn uid_of(failover: &Failover) -> OperationUid {
    OperationUid(failover.uid().unwrap_or_default())
}

/// What comes of a Failover that would begin now.
#[derive(Clone, Debug, PartialEq)]
pub enum Begins {
    /// The table in which it has begun.
    Table(Box<RoutingTable>),
    /// It waits until then at the latest: whether a unit may take over is not known yet.
    Waits(Timestamp),
    /// It may not begin.
    Refused(Refused),
}

/// Who takes over what, by the table and what is seen now.
pub fn placement(failover: &Failover, table: &RoutingTable, inputs: &Inputs) -> Placement {
    let lost = UnitName(failover.spec.lost_unit.clone());
    let target = failover.spec.target_unit.as_deref().map(UnitName::from);
    let names: Vec<UnitName> = table.units.iter().map(|unit| unit.name.clone()).collect();
    choose(Choosing {
        table,
        lost: &lost,
        target: target.as_ref(),
        ranges: &inputs.failover_ranges(|_| true),
        candidates: &candidates(&names, &lost, inputs),
        stores: &inputs.stores_in_force(),
    })
}

/// What comes of it; `waited` is for how long this process has seen it wait.
pub fn begins(
    failover: &Failover,
    table: &RoutingTable,
    inputs: &Inputs,
    waited: SignedDuration,
    now: Timestamp,
) -> (Begins, Placement) {
    let placement = placement(failover, table, inputs);
    if let Some(until) = waits(inputs, &placement, waited, now) {
        return (Begins::Waits(until), placement);
    }
    let begun = request(failover, table, inputs, placement.clone())
        .and_then(|request| begin(table, &request, now).map_err(|refusal| Refused::new(refusal.reason(), refusal)));
    match begun {
        Ok(table) => (Begins::Table(Box::new(table)), placement),
        Err(refused) => (Begins::Refused(refused), placement),
    }
}

/// Until when it waits for what a unit has not said yet. A failover is in haste, so not for long, but just after a start
/// nothing is known of anybody. No time that another machine wrote counts.
fn waits(inputs: &Inputs, placement: &Placement, waited: SignedDuration, now: Timestamp) -> Option<Timestamp> {
    let placed = placement.placed.iter().flat_map(|placed| &placed.skipped);
    let mut skipped = placed.chain(placement.unplaced.iter().flat_map(|unplaced| &unplaced.skipped));
    if !skipped.any(|skipped| skipped.why.is_unknown()) {
        return None;
    }
    let left = match inputs.settling {
        true => SignedDuration::from_secs(1),
        false => PATIENCE - waited,
    };
    left.is_positive().then(|| now.checked_add(left).ok()).flatten()
}

fn request(
    failover: &Failover,
    table: &RoutingTable,
    inputs: &Inputs,
    placement: Placement,
) -> Result<FailoverRequest, Refused> {
    let (uid, stores) = (uid_of(failover), inputs.stores_in_force());
    let lost = UnitName::from(failover.spec.lost_unit.as_str());
    // What was noted of it before, of every store that it has by now; what this process has seen is noted by then.
    let noted = |known: &BTreeSet<StoreName>| {
        stores
            .iter()
            .all(|store| !store.has(&lost) || known.contains(&store.store))
    };
    let fences = inputs.fencing.contains_key(&lost) || table.fences(&lost).is_some_and(noted);
    convert::failover_request(&failover.spec, uid, &failover.name_any(), placement, stores, fences)
        .map_err(|error| Refused::new("Invalid", error))
}
