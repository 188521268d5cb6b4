//! Between a Failover's object and the core: what it asks for, and who takes over what. That is chosen with the table and the
//! units at hand, so the caller brings it.

use super::{ConvertError, number, parse_duration};
use crate::failover::{FailoverPlacement, FailoverSpec, PlacedSlots, SkippedUnit};
use multiactive_core::ids::OperationUid;
use multiactive_core::promotion::{
    FAILOVER_BUDGETS, FailoverRequest, MovingStore, Placed, Placement, Skipped, Unplaced,
};

/// How many entries of a placement an object shows.
const SHOWN: usize = 256;
/// How many units each entry shows that were passed over.
const SKIPPED: usize = 64;

/// The request of a Failover whose targets are chosen; `stores` are those in force, and `fences` says whether the lost unit is known
/// to stop writing without its lease.
///
/// # Errors
///
/// [`ConvertError`] where the epoch is none or `maxDataLoss` is no duration.
pub fn failover_request(
    spec: &FailoverSpec,
    uid: OperationUid,
    name: &str,
    placement: Placement,
    stores: Vec<MovingStore>,
    fences: bool,
) -> Result<FailoverRequest, ConvertError> {
    Ok(FailoverRequest {
        uid,
        name: name.to_owned(),
        lost: spec.lost_unit.as_str().into(),
        named: spec.target_unit.is_some(),
        fences,
        placement,
        stores,
        expected_epoch: number("spec.expectedEpoch", spec.expected_epoch)?,
        max_data_loss: parse_duration("spec.maxDataLoss", &spec.max_data_loss)?,
        budgets: FAILOVER_BUDGETS,
    })
}

/// As status shows it: its first entries.
impl From<&Placement> for FailoverPlacement {
    fn from(placement: &Placement) -> Self {
        let Placement { placed, unplaced } = placement;
        Self {
            placed: placed.iter().take(SHOWN).map(PlacedSlots::from).collect(),
            unplaced: unplaced.iter().take(SHOWN).map(PlacedSlots::from).collect(),
        }
    }
}

impl From<&Placed> for PlacedSlots {
    fn from(placed: &Placed) -> Self {
        let Placed {
            range,
            keyspace,
            slots,
            superseded: _,
            target,
            skipped,
        } = placed;
        Self {
            range: range.clone(),
            keyspace: keyspace.to_string(),
            slots: slots.to_string(),
            target: Some(target.to_string()),
            skipped: skipped.iter().take(SKIPPED).map(SkippedUnit::from).collect(),
        }
    }
}

impl From<&Unplaced> for PlacedSlots {
    fn from(unplaced: &Unplaced) -> Self {
        let Unplaced {
            range,
            keyspace,
            slots,
            skipped,
        } = unplaced;
        Self {
            range: range.clone(),
            keyspace: keyspace.to_string(),
            slots: slots.to_string(),
            target: None,
            skipped: skipped.iter().take(SKIPPED).map(SkippedUnit::from).collect(),
        }
    }
}

impl From<&Skipped> for SkippedUnit {
    fn from(skipped: &Skipped) -> Self {
        let Skipped { unit, why } = skipped;
        Self {
            unit: unit.to_string(),
            why: why.to_string(),
        }
    }
}
