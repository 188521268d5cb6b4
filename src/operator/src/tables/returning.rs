//! What is seen of units in quarantine on their way back: what their agents say, and a person's word for it. Pure.

use super::Inputs;
use crate::failovers::request::uid_of;
use crate::failovers::seen::decision;
use jiff::{SignedDuration, Timestamp};
use multiactive_api::{Failover, QuarantineReport, QuarantineState};
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::{Accepted, DecisionKind, Found};
use multiactive_core::quarantine::Quarantined;
use multiactive_core::rejoin::{self, ReturnSeen};
use multiactive_core::table::RoutingTable;

/// The next change for a unit in quarantine; one at a time, for each is a table of its own.
pub fn returning(table: &RoutingTable, inputs: &Inputs, now: Timestamp) -> Option<(UnitName, RoutingTable)> {
    table.quarantined.iter().find_map(|known| {
        let changed = rejoin::next(table, &known.unit, &seen(known, inputs, now)?)?;
        Some((known.unit.clone(), changed))
    })
}

/// What is seen of a unit in quarantine; `None` while it is not heard.
fn seen(known: &Quarantined, inputs: &Inputs, now: Timestamp) -> Option<ReturnSeen> {
    let report = report(known, inputs)?;
    let rows = report.rows.and_then(|rows| u64::try_from(rows).ok());
    Some(ReturnSeen {
        listed: report.state >= QuarantineState::Compared,
        found: rows.map(|rows| Found {
            rows,
            span: report.span_ms.map(SignedDuration::from_millis),
            at: now,
        }),
        word: word(known, inputs, now),
        equal: report.state == QuarantineState::Rejoined,
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

/// Whether decisions of this object are about this quarantine: it is the Failover that did it, or, where that was deleted,
/// one of the same unit that was made by whoever had seen the quarantine. It is refused, for nothing is owned, and bears the word.
fn speaks_of(failover: &Failover, known: &Quarantined) -> bool {
    let later = u64::try_from(failover.spec.expected_epoch).is_ok_and(|epoch| epoch >= known.since.epoch);
    uid_of(failover) == known.by || (failover.spec.lost_unit == known.unit.as_str() && later)
}

/// A person's word that counts now.
fn word(known: &Quarantined, inputs: &Inputs, now: Timestamp) -> Option<Accepted> {
    let failovers = inputs.failovers.iter().filter(|failover| speaks_of(failover, known));
    let mut decisions = failovers
        .flat_map(|failover| &failover.spec.decisions)
        .filter_map(decision);
    let word = decisions.find(|decision| {
        let this = decision.kind == DecisionKind::AcceptDivergence && decision.target == known.unit.as_str();
        this && decision.counts(now)
    })?;
    let (by, reason) = (word.by, word.reason);
    Some(Accepted { by, reason })
}

#[cfg(test)]
#[path = "returning_tests.rs"]
mod tests;
