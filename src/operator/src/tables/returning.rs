//! Units in quarantine on their way back: what was found there, a person's word for it, and the table in which a unit is one
//! like any other again. Pure.

use super::Inputs;
use crate::failovers::request::uid_of;
use crate::failovers::seen::decision;
use jiff::{SignedDuration, Timestamp};
use multiactive_api::{Failover, QuarantineReport, QuarantineState};
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::{Accepted, DecisionKind, Found, record_found};
use multiactive_core::quarantine::{Quarantined, accept, rejoin};
use multiactive_core::table::RoutingTable;

/// The next change for a unit in quarantine: what was lost stands beside its bound, a person's word is in the record, and
/// last the unit rejoins. One at a time, for each is a table of its own.
pub fn returning(table: &RoutingTable, inputs: &Inputs, now: Timestamp) -> Option<(UnitName, RoutingTable)> {
    table.quarantined.iter().find_map(|known| {
        let report = report(known, inputs)?;
        let changed = found(table, known, report, now)
            .or_else(|| accepted(table, known, report, inputs, now))
            .or_else(|| rejoined(table, known, report))?;
        Some((known.unit.clone(), changed))
    })
}

/// What the unit's agent says of this quarantine; one that is not heard now says nothing.
pub fn report<'a>(known: &Quarantined, inputs: &'a Inputs) -> Option<&'a QuarantineReport> {
    let status = inputs.reports.get(&known.unit)?.status.as_ref()?;
    let report = status
        .quarantine
        .as_ref()
        .filter(|_| inputs.reachable.contains(&known.unit));
    report.filter(|report| report.by == known.by.as_str())
}

fn found(table: &RoutingTable, known: &Quarantined, report: &QuarantineReport, now: Timestamp) -> Option<RoutingTable> {
    let rows = report.rows.filter(|_| report.state >= QuarantineState::Compared)?;
    let found = Found {
        rows: u64::try_from(rows).ok()?,
        span: report.span_ms.map(SignedDuration::from_millis),
        at: now,
    };
    record_found(table, &known.by, &found)
}

/// Whether decisions of this object are about this quarantine: it is the Failover that did it, or, where that was deleted,
/// one of the same unit that was made by whoever had seen the quarantine. It is refused, for nothing is owned, and bears the word.
fn speaks_of(failover: &Failover, known: &Quarantined) -> bool {
    let later = u64::try_from(failover.spec.expected_epoch).is_ok_and(|epoch| epoch >= known.since.epoch);
    uid_of(failover) == known.by || (failover.spec.lost_unit == known.unit.as_str() && later)
}

/// What differs must be listed before anybody's word for it counts.
fn accepted(
    table: &RoutingTable,
    known: &Quarantined,
    report: &QuarantineReport,
    inputs: &Inputs,
    now: Timestamp,
) -> Option<RoutingTable> {
    let failovers = inputs.failovers.iter().filter(|failover| speaks_of(failover, known));
    let mut decisions = failovers
        .flat_map(|failover| &failover.spec.decisions)
        .filter_map(decision);
    let word = decisions.find(|decision| {
        let this = decision.kind == DecisionKind::AcceptDivergence && decision.target == known.unit.as_str();
        this && decision.counts(now)
    })?;
    let (by, reason) = (word.by, word.reason);
    let listed = report.state >= QuarantineState::Compared;
    let changed = accept(table, &known.unit, Accepted { by, reason });
    changed.ok().flatten().filter(|_| listed)
}

fn rejoined(table: &RoutingTable, known: &Quarantined, report: &QuarantineReport) -> Option<RoutingTable> {
    let equal = report.state == QuarantineState::Rejoined;
    rejoin(table, &known.unit).ok().filter(|_| equal)
}

#[cfg(test)]
#[path = "returning_tests.rs"]
mod tests;
