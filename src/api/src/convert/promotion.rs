//! What a Promotion asks for, in the core's terms. Its ranges and its unit become slots only with a table and the
//! ShardRanges at hand, so the caller brings the slots.

use super::{ConvertError, number, parse_duration};
use crate::promotion::{PromotionBudgets, PromotionMode, PromotionSpec, SlotSelection, VerifyMode};
use multiactive_core::ids::{KeyspaceName, OperationUid};
use multiactive_core::promotion::{Budgets, MovingStore, Request, Verify};
use multiactive_core::slots::SlotSet;

impl From<VerifyMode> for Verify {
    fn from(mode: VerifyMode) -> Self {
        match mode {
            VerifyMode::None => Self::None,
            VerifyMode::Full => Self::Full,
        }
    }
}

/// The limits of time.
///
/// # Errors
///
/// [`ConvertError`] where one is no duration.
pub fn budgets(budgets: &PromotionBudgets) -> Result<Budgets, ConvertError> {
    Ok(Budgets {
        fence: parse_duration("spec.budgets.fence", &budgets.fence)?,
        drain: parse_duration("spec.budgets.drain", &budgets.drain)?,
    })
}

/// Slots by number, with their keyspace.
///
/// # Errors
///
/// [`ConvertError`] where the text is no list of slots.
pub fn slot_selection(selection: &SlotSelection) -> Result<(KeyspaceName, SlotSet), ConvertError> {
    let slots = selection
        .slots
        .parse()
        .map_err(|error| ConvertError::new("spec.select.slots.slots", error))?;
    Ok((selection.keyspace.as_str().into(), slots))
}

/// The request of a Promotion whose selection was already turned into slots; `stores` are those in force.
///
/// A Plan without an expected epoch accepts whatever is true now: it changes nothing and prints the epoch to expect.
///
/// # Errors
///
/// [`ConvertError`] where a budget is no duration, or Execute has no expected epoch.
pub fn request(
    spec: &PromotionSpec,
    uid: OperationUid,
    name: &str,
    select: Vec<(KeyspaceName, SlotSet)>,
    stores: Vec<MovingStore>,
) -> Result<Request, ConvertError> {
    let field = "spec.expectedEpoch";
    let expected_epoch = match (spec.expected_epoch, spec.mode) {
        (Some(epoch), _) => number(field, epoch)?,
        (None, PromotionMode::Plan) => u64::MAX,
        (None, PromotionMode::Execute) => return Err(ConvertError::new(field, "required for Execute")),
    };
    Ok(Request {
        uid,
        name: name.to_owned(),
        target: spec.target_unit.as_str().into(),
        select,
        stores,
        expected_epoch,
        verify: spec.verify.into(),
        budgets: budgets(&spec.budgets)?,
    })
}
