//! Write leases.

use super::{ConvertError, parse_duration};
use crate::{LeaseMode, OnLeaseLoss};
use multiactive_core::lease::{Mode, OnLoss, Terms};

impl From<OnLeaseLoss> for OnLoss {
    fn from(declared: OnLeaseLoss) -> Self {
        match declared {
            OnLeaseLoss::Auto => Self::Auto,
            OnLeaseLoss::Fence => Self::Fence,
            OnLeaseLoss::KeepServing => Self::KeepServing,
        }
    }
}

impl From<Mode> for LeaseMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Fence => Self::Fence,
            Mode::KeepServing => Self::KeepServing,
        }
    }
}

impl From<LeaseMode> for Mode {
    fn from(mode: LeaseMode) -> Self {
        match mode {
            LeaseMode::Fence => Self::Fence,
            LeaseMode::KeepServing => Self::KeepServing,
        }
    }
}

/// The numbers of a lease of this duration; `field` is named in the error.
///
/// # Errors
///
/// [`ConvertError`] where it is no duration, too short or too long.
pub fn lease_terms(field: &str, duration: &str) -> Result<Terms, ConvertError> {
    Terms::new(parse_duration(field, duration)?).map_err(|error| ConvertError::new(field, error))
}
