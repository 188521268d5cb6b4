//! A RoutingTable that is gone from the hub, put together again from what the members hold.
//!
//! Agents and routers act on projections alone, so the newest projection that any member holds is the newest table that
//! anybody can have acted on, provided that every member answered.

use crate::epoch::Epoch;
use crate::ids::UnitName;
use crate::table::RoutingTable;

/// What one unit's member holds. Unknown is `None` and stops the recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The unit.
    pub unit: UnitName,
    /// Its projection: `None` where the member did not answer, `Some(None)` where it holds none.
    pub projection: Option<Option<RoutingTable>>,
    /// The table to which its agent says it brought its stores, if it ever said.
    pub applied: Option<Epoch>,
}

/// What a lost table comes back as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// No member ever held one: this is a new namespace.
    Never,
    /// The newest projection, under a higher term, so that it is above all that was ever issued.
    Table(Box<RoutingTable>),
}

/// Why a table cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// A member did not answer.
    #[error("the routing table is gone, and the member of unit {0} does not answer: what it holds may be newer")]
    Silent(UnitName),
    /// A unit acted on a table that no member holds any more.
    #[error(
        "the routing table is gone, and unit {unit} acted on epoch {applied}, but the newest projection is of {newest}: \
         create the table by hand from a backup of that epoch or later"
    )]
    Newer {
        /// The unit.
        unit: UnitName,
        /// What it acted on.
        applied: Epoch,
        /// The newest projection.
        newest: Epoch,
    },
}

/// The table to create where the hub has none.
///
/// # Errors
///
/// [`RecoverError`] where something newer than the newest projection may exist.
pub fn recover(held: &[Held]) -> Result<Recovered, RecoverError> {
    let mut newest: Option<&RoutingTable> = None;
    for member in held {
        let projection = member.projection.as_ref();
        let projection = projection.ok_or_else(|| RecoverError::Silent(member.unit.clone()))?;
        if let Some(table) = projection
            && newest.is_none_or(|newest| newest.epoch < table.epoch)
        {
            newest = Some(table);
        }
    }
    let reached = newest.map_or(Epoch::NEVER, |table| table.epoch);
    if let Some((unit, applied)) = held
        .iter()
        .filter_map(|member| member.applied.map(|applied| (&member.unit, applied)))
        .find(|(_, applied)| *applied > reached)
    {
        let (unit, newest) = (unit.clone(), reached);
        return Err(RecoverError::Newer { unit, applied, newest });
    }
    let Some(newest) = newest else {
        return Ok(Recovered::Never);
    };
    let mut table = newest.clone();
    table.epoch = Epoch::new(newest.epoch.term + 1, newest.epoch.epoch + 1);
    Ok(Recovered::Table(Box::new(table)))
}
