//! The record of a lease, as it stands in the ledger, and what may be written over it.
//!
//! Every function gives the next record and changes nothing: the caller writes it by compare-and-swap against the one that
//! it read, so that two writers never both count.

use crate::epoch::Epoch;
use crate::ids::{OperationUid, StoreName, UnitName};
use std::collections::BTreeMap;

/// The write lease of one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The unit: it is the holder, whichever of its agents writes.
    pub unit: UnitName,
    /// How often it was renewed.
    pub renewals: u64,
    /// The table at which it was granted: a database lets nothing pass by it before it was brought to that table.
    pub granted: Epoch,
    /// The operation that sealed it. A sealed lease is never renewed, only granted anew.
    pub sealed: Option<OperationUid>,
    /// How far the log of each store had come before the last renewal was sent; a store that did not say is missing.
    pub positions: BTreeMap<StoreName, String>,
}

/// A renewal may not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRenewed {
    /// An operation takes the unit's slots away.
    #[error("the lease of {unit} was sealed by {by}: the unit counts as lost")]
    Sealed {
        /// The unit.
        unit: UnitName,
        /// The operation.
        by: OperationUid,
    },
    /// It is another unit's.
    #[error("this is the lease of {found}, not of {asked}")]
    Another {
        /// Whose it is.
        found: UnitName,
        /// Who asked.
        asked: UnitName,
    },
}

impl Lease {
    /// The lease of a unit that has none yet: nothing was ever taken from it.
    pub fn first(unit: UnitName, granted: Epoch) -> Self {
        Self {
            unit,
            granted,
            ..Self::default()
        }
    }

    /// The record after one more renewal by the unit.
    ///
    /// # Errors
    ///
    /// [`NotRenewed`] where it is sealed, or another's.
    pub fn renewed(&self, unit: &UnitName, positions: BTreeMap<StoreName, String>) -> Result<Self, NotRenewed> {
        if self.unit != *unit {
            return Err(NotRenewed::Another {
                found: self.unit.clone(),
                asked: unit.clone(),
            });
        }
        if let Some(by) = &self.sealed {
            return Err(NotRenewed::Sealed {
                unit: unit.clone(),
                by: by.clone(),
            });
        }
        Ok(Self {
            renewals: self.renewals + 1,
            positions,
            ..self.clone()
        })
    }

    /// The record once `by` has sealed it; `None` where it has already, or another operation has, which stays so.
    pub fn sealed_by(&self, by: &OperationUid) -> Option<Self> {
        self.sealed.is_none().then(|| Self {
            sealed: Some(by.clone()),
            ..self.clone()
        })
    }

    /// The record once it is granted anew at table `at`; `None` where it is. Never at an older table.
    pub fn granted_at(&self, at: Epoch) -> Option<Self> {
        let changes = self.sealed.is_some() || self.granted < at;
        (changes && self.granted <= at).then(|| Self {
            granted: at,
            sealed: None,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64) -> Epoch {
        Epoch::new(1, epoch)
    }

    #[test]
    fn a_sealed_lease_is_never_renewed_only_granted_anew_and_at_no_older_table() {
        let first = Lease::first("east-1".into(), at(3));
        let renewed = first.renewed(&"east-1".into(), BTreeMap::new()).unwrap();
        assert_eq!((renewed.renewals, renewed.granted), (1, at(3)));
        let sealed = renewed.sealed_by(&"op".into()).unwrap();
        assert!(sealed.renewed(&"east-1".into(), BTreeMap::new()).is_err());
        assert_eq!(sealed.sealed_by(&"op".into()), None, "once");
        assert_eq!(sealed.sealed_by(&"other".into()), None, "the first one stays");
        assert_eq!(sealed.granted_at(at(2)), None, "an older table gives nothing back");
        let granted = sealed.granted_at(at(9)).unwrap();
        assert_eq!(
            (granted.sealed.as_ref(), granted.granted, granted.renewals),
            (None, at(9), 1)
        );
        assert_eq!(granted.granted_at(at(9)), None, "once");
        assert!(granted.renewed(&"east-1".into(), BTreeMap::new()).is_ok());
    }

    #[test]
    fn nobody_renews_the_lease_of_another() {
        let lease = Lease::first("east-1".into(), at(3));
        assert!(matches!(
            lease.renewed(&"north-1".into(), BTreeMap::new()),
            Err(NotRenewed::Another { .. })
        ));
    }
}
