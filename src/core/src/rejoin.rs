//! How a unit that was lost comes back, one table each: what was lost is known, a person accepts it, the unit is one like any
//! other again.
//!
//! Whoever runs it reads what the unit's agent says and what people decided, and calls [`next`] until it has nothing to do.

use crate::ids::UnitName;
use crate::promotion::{Accepted, Found, Step, record_found};
use crate::quarantine::{self, Quarantined};
use crate::span::SpanState;
use crate::table::RoutingTable;

/// What is seen of a unit in quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReturnSeen {
    /// Whether what only it holds is listed, as far as that can be.
    pub listed: bool,
    /// How much that is; `None` where it is not known.
    pub found: Option<Found>,
    /// A person's word that it may be given up.
    pub word: Option<Accepted>,
    /// Whether its databases hold what those of the owners hold, and follow them.
    pub equal: bool,
}

/// The next table on a unit's way back; `None` where it waits. A word counts only once what differs is listed, and only with
/// a word is a unit that is equal let in.
pub fn next(table: &RoutingTable, unit: &UnitName, seen: &ReturnSeen) -> Option<RoutingTable> {
    let known = quarantine::of(table, unit)?;
    let found = seen.found.as_ref().filter(|_| seen.listed);
    let found = found.and_then(|found| record_found(table, &known.by, found));
    found.or_else(|| match (&known.accepted, &seen.word) {
        (None, Some(word)) if seen.listed => accept(table, unit, word.clone()).ok().flatten(),
        (None, Some(_) | None) => None,
        (Some(_), _) if seen.equal => rejoin(table, unit).ok(),
        (Some(_), _) => None,
    })
}

/// Why a unit cannot rejoin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejoinError {
    /// It is not in quarantine.
    #[error("unit {0} is not in quarantine")]
    NotQuarantined(UnitName),
    /// Nobody has accepted yet what only it holds.
    #[error("what only unit {0} holds was not accepted yet")]
    NotAccepted(UnitName),
    /// A failover of it runs.
    #[error("{operation} still takes slots from unit {unit}, at {step}: wait for its end or abort it")]
    Running {
        /// The unit.
        unit: UnitName,
        /// The failover's name.
        operation: String,
        /// Where it stands.
        step: Step,
    },
}

/// The table in which a person has accepted what a unit in quarantine holds alone; `None` where somebody has before.
///
/// # Errors
///
/// [`RejoinError`] where it is not in quarantine, or a failover still takes slots from it: what differs is not known before.
pub fn accept(table: &RoutingTable, unit: &UnitName, accepted: Accepted) -> Result<Option<RoutingTable>, RejoinError> {
    if settled(table, unit)?.accepted.is_some() {
        return Ok(None);
    }
    let mut changed = table.clone();
    changed.epoch = table.epoch.next();
    let known = changed.quarantined.iter_mut().filter(|known| known.unit == *unit);
    known.for_each(|known| known.accepted = Some(accepted.clone()));
    Ok(Some(changed))
}

/// What the table remembers of a unit in quarantine of which no failover takes anything any more.
fn settled<'a>(table: &'a RoutingTable, unit: &UnitName) -> Result<&'a Quarantined, RejoinError> {
    let known = quarantine::of(table, unit).ok_or_else(|| RejoinError::NotQuarantined(unit.clone()))?;
    match quarantine::taking(table, unit) {
        Some(op) => Err(RejoinError::Running {
            unit: unit.clone(),
            operation: op.name.clone(),
            step: op.step,
        }),
        None => Ok(known),
    }
}

/// The table in which a unit is one like any other again: it may hold its lease from this table on, and serves what it
/// still owned. The caller has its agent's word that its databases hold what those of the owners hold.
///
/// # Errors
///
/// [`RejoinError`] where it is not in quarantine, nobody has accepted what it holds alone, or a failover still takes slots
/// from it.
pub fn rejoin(table: &RoutingTable, unit: &UnitName) -> Result<RoutingTable, RejoinError> {
    if settled(table, unit)?.accepted.is_none() {
        return Err(RejoinError::NotAccepted(unit.clone()));
    }
    let mut changed = table.clone();
    changed.epoch = table.epoch.next();
    changed.quarantined.retain(|known| known.unit != *unit);
    quarantine::set_idle(&mut changed, unit, SpanState::Serving, |span| {
        span.state == SpanState::Fenced
    });
    quarantine::grant(&mut changed, unit);
    Ok(changed)
}
