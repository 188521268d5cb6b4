//! What a Promotion asks for, in the core's terms. Its ranges and its unit become slots only with a table and the
//! ShardRanges at hand, so the caller brings the slots.

use super::{ConvertError, number, parse_duration};
use crate::promotion::{
    PromotionBudgets, PromotionMode, PromotionSpec, Selection, SelectionType, SlotSelection, VerifyMode,
};
use multiactive_core::ids::{KeyspaceName, OperationUid};
use multiactive_core::promotion::{Budgets, MovingStore, Request, Verify};
use multiactive_core::select;
use multiactive_core::slots::SlotSet;

impl From<VerifyMode> for Verify {
    fn from(mode: VerifyMode) -> Self {
        match mode {
            VerifyMode::None => Self::None,
            VerifyMode::Changed => Self::Changed,
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

/// What shall move.
///
/// # Errors
///
/// [`ConvertError`] where what its type names is missing, or slots are none.
pub fn selection(select: &Selection) -> Result<select::Selection, ConvertError> {
    let missing = |member: &str| ConvertError::new(format!("spec.select.{member}"), "missing");
    Ok(match select.kind {
        SelectionType::Ranges => {
            let ranges = select.ranges.clone().ok_or_else(|| missing("ranges"))?;
            select::Selection::Ranges(ranges)
        }
        SelectionType::Slots => {
            let SlotSelection { keyspace, slots } = select.slots.as_ref().ok_or_else(|| missing("slots"))?;
            let slots = slots
                .parse()
                .map_err(|error| ConvertError::new("spec.select.slots.slots", error))?;
            let keyspace = keyspace.as_str().into();
            select::Selection::Slots { keyspace, slots }
        }
        SelectionType::Unit => {
            let unit = select.unit.as_deref().ok_or_else(|| missing("unit"))?;
            select::Selection::Unit(unit.into())
        }
        SelectionType::DataStore => {
            let store = select.data_store.as_deref().ok_or_else(|| missing("dataStore"))?;
            select::Selection::Writer(store.into())
        }
    })
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
