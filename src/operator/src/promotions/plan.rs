//! What a Promotion would do, without doing it.

use super::request::{Refused, operation};
use super::seen::{away, links, readiness};
use crate::tables::Inputs;
use jiff::Timestamp;
use multiactive_api::{Promotion, PromotionPlan, TableMove};
use multiactive_core::promotion::{Operation, UnitReady, no_member};
use multiactive_core::table::RoutingTable;

/// The plan: the epoch to expect, the moves, and what stands in the way.
pub fn plan(promotion: &Promotion, table: &RoutingTable, inputs: &Inputs, now: Timestamp) -> PromotionPlan {
    let expected_epoch = i64::try_from(table.epoch.epoch).unwrap_or(i64::MAX);
    let (moves, blockers) = match operation(promotion, table, inputs, now) {
        Ok(op) => (op.moves.iter().map(TableMove::from).collect(), blockers(&op, inputs)),
        Err(Refused { reason, message }) => (Vec::new(), vec![format!("{reason}: {message}")]),
    };
    PromotionPlan {
        expected_epoch,
        moves,
        blockers,
    }
}

/// What the steps before Hold would wait for or refuse, as far as it is known without running them.
fn blockers(op: &Operation, inputs: &Inputs) -> Vec<String> {
    let stores = &op.stores;
    let mut blockers = Vec::new();
    if let Some((reason, message)) = no_member(op) {
        blockers.push(format!("{reason}: {message}"));
    }
    for source in op.sources() {
        let routers = inputs.reports.get(source).and_then(|report| report.status.as_ref());
        let routers = routers.map(|status| status.routers.iter().filter(|router| router.connected).count());
        if routers == Some(0) {
            blockers.push(format!(
                "RoutersMissing: no router of {source} is connected to its agent"
            ));
        }
    }
    if inputs.unit(&op.target).is_some_and(|unit| unit.spec.cordoned) {
        blockers.push(format!("TargetCordoned: {} is cordoned", op.target));
    }
    match readiness(&op.target, inputs, stores) {
        Some(UnitReady::Ready) => {}
        Some(UnitReady::NotReady(why)) => blockers.push(format!("TargetNotReady: {}: {why}", op.target)),
        None => blockers.push(format!("TargetUnknown: nothing is known of {} now", op.target)),
    }
    let mut units: Vec<_> = stores.iter().flat_map(|store| &store.members).collect();
    units.sort_unstable();
    units.dedup();
    let away = away(op, inputs);
    for unit in units.into_iter().filter(|unit| !away.contains(unit)) {
        match links(unit, inputs, stores, false, &away) {
            Some(Ok(())) => {}
            Some(Err(why)) => blockers.push(format!("LinksUnhealthy: {why}")),
            None => blockers.push(format!("LinksUnhealthy: {unit} has not reported all its links")),
        }
    }
    blockers
}
