//! The record of a lease, as it stands in the ledger, and what may be written over it.
//!
//! Every function gives the next record and changes nothing: the caller writes it by compare-and-swap against the one that
//! it read, so that two writers never both count.

use crate::epoch::Epoch;
use crate::ids::{OperationUid, StoreName, UnitName};
use jiff::SignedDuration;
use std::collections::BTreeMap;

/// How many renewals before the last one a lease tells the positions of.
const EARLIER: usize = 3;

/// The write lease of one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The unit: it is the holder, whichever of its agents writes.
    pub unit: UnitName,
    /// How often it was renewed.
    pub renewals: u64,
    /// The table at which it was granted: a database lets nothing pass by it before it was brought to that table.
    pub granted: Epoch,
    /// Who sealed it. A sealed lease is never renewed, only granted anew.
    pub sealed: Option<Seal>,
    /// How far the log of each store had come before the last renewal was sent, as the text of a
    /// [`crate::promotion::Progress`]; a store that did not say is missing.
    pub positions: BTreeMap<StoreName, String>,
    /// Those of renewals before it, the newest first: whoever has not received all up to the last one may have passed these. An
    /// operator that has just started saw no renewal but the last.
    pub earlier: Vec<Earlier>,
}

/// The positions of an earlier renewal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Earlier {
    /// How long before the last renewal was begun this one was, by the clock of the one process that began both and all between.
    pub before: SignedDuration,
    /// As [`Lease::positions`].
    pub positions: BTreeMap<StoreName, String>,
}

/// A seal: an operation takes the unit's slots away.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seal {
    /// The operation, by its object.
    pub by: OperationUid,
    /// The table that asked for it: a grant by an earlier one comes too late.
    pub at: Epoch,
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

    /// The record after one more renewal by the unit; `since` is how long before this one the last renewal was begun, where the same
    /// process did that.
    ///
    /// # Errors
    ///
    /// [`NotRenewed`] where it is sealed, or another's.
    pub fn renewed(
        &self,
        unit: &UnitName,
        positions: BTreeMap<StoreName, String>,
        since: Option<SignedDuration>,
    ) -> Result<Self, NotRenewed> {
        if self.unit != *unit {
            return Err(NotRenewed::Another {
                found: self.unit.clone(),
                asked: unit.clone(),
            });
        }
        if let Some(seal) = &self.sealed {
            return Err(NotRenewed::Sealed {
                unit: unit.clone(),
                by: seal.by.clone(),
            });
        }
        Ok(Self {
            renewals: self.renewals + 1,
            positions,
            earlier: since.map(|since| self.followed_after(since)).unwrap_or_default(),
            ..self.clone()
        })
    }

    /// What a renewal that follows the last one so much later tells of those before it.
    fn followed_after(&self, since: SignedDuration) -> Vec<Earlier> {
        let last = Earlier {
            before: since,
            positions: self.positions.clone(),
        };
        let older = self.earlier.iter().map(|earlier| Earlier {
            before: earlier.before + since,
            positions: earlier.positions.clone(),
        });
        std::iter::once(last).chain(older).take(EARLIER).collect()
    }

    /// The record once `seal` is on it; `None` where that is, or where it was granted or sealed by a later table.
    pub fn sealed_by(&self, seal: &Seal) -> Option<Self> {
        let overtaken = self.granted > seal.at || self.sealed.as_ref().is_some_and(|known| known.at >= seal.at);
        (!overtaken).then(|| Self {
            sealed: Some(seal.clone()),
            ..self.clone()
        })
    }

    /// The record once it is granted anew at table `at`; `None` where it is, or where a later table has granted or sealed
    /// it.
    pub fn granted_at(&self, at: Epoch) -> Option<Self> {
        let overtaken = self.granted >= at || self.sealed.as_ref().is_some_and(|known| known.at >= at);
        (!overtaken).then(|| Self {
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

    fn seal(epoch: u64) -> Seal {
        Seal {
            by: "op".into(),
            at: at(epoch),
        }
    }

    #[test]
    fn a_sealed_lease_is_never_renewed_only_granted_anew() {
        let first = Lease::first("east-1".into(), at(3));
        let renewed = first.renewed(&"east-1".into(), BTreeMap::new(), None).unwrap();
        assert_eq!((renewed.renewals, renewed.granted), (1, at(3)));
        let sealed = renewed.sealed_by(&seal(5)).unwrap();
        assert!(sealed.renewed(&"east-1".into(), BTreeMap::new(), None).is_err());
        let granted = sealed.granted_at(at(9)).unwrap();
        assert_eq!(
            (granted.sealed.as_ref(), granted.granted, granted.renewals),
            (None, at(9), 1)
        );
        assert!(granted.renewed(&"east-1".into(), BTreeMap::new(), None).is_ok());
    }

    #[test]
    fn what_an_earlier_table_wanted_comes_too_late_and_the_same_again_changes_nothing() {
        let granted = Lease::first("east-1".into(), at(6));
        let sealed = granted.sealed_by(&seal(7)).unwrap();
        for (lease, seal_at, seals, grant_at, grants) in [
            (&granted, 5, false, 5, false),
            (&granted, 6, true, 6, false),
            (&granted, 7, true, 7, true),
            (&sealed, 6, false, 6, false),
            (&sealed, 7, false, 7, false),
            (&sealed, 8, true, 8, true),
        ] {
            assert_eq!(
                lease.sealed_by(&seal(seal_at)).is_some(),
                seals,
                "{lease:?} sealed at {seal_at}"
            );
            assert_eq!(
                lease.granted_at(at(grant_at)).is_some(),
                grants,
                "{lease:?} granted at {grant_at}"
            );
        }
    }

    #[test]
    fn nobody_renews_the_lease_of_another() {
        let lease = Lease::first("east-1".into(), at(3));
        assert!(matches!(
            lease.renewed(&"north-1".into(), BTreeMap::new(), None),
            Err(NotRenewed::Another { .. })
        ));
    }

    #[test]
    fn a_renewal_tells_where_those_before_it_were_and_how_long_before_where_one_process_began_them() {
        let at = |text: &str| BTreeMap::from([("orders".into(), text.to_owned())]);
        let seconds = SignedDuration::from_secs;
        let mut lease = Lease::first("east-1".into(), Epoch::new(1, 3));
        for (number, since) in [(1, None), (2, Some(3)), (3, Some(2)), (4, Some(4)), (5, Some(1))] {
            lease = lease
                .renewed(&"east-1".into(), at(&number.to_string()), since.map(seconds))
                .unwrap();
        }
        let told = |lease: &Lease| {
            let earlier = lease.earlier.iter();
            let earlier = earlier.map(|earlier| (earlier.before.as_secs(), earlier.positions.clone()));
            earlier.collect::<Vec<_>>()
        };
        assert_eq!(told(&lease), [(1, at("4")), (5, at("3")), (7, at("2"))]);
        let another = lease.renewed(&"east-1".into(), at("6"), None).unwrap();
        assert_eq!(told(&another), [], "another process has another clock");
    }
}
