//! The catalog: one unit writes it, all read it. An item counts its changes, so that a lost one leaves a hole and one that two
//! units made is there twice.

use serde::{Deserialize, Serialize};

/// An item as it is kept and answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its name.
    pub sku: String,
    /// How often it was changed.
    pub version: i64,
    /// The unit that changed it last.
    pub unit: String,
}
