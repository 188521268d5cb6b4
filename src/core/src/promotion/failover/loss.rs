//! How much a failover may lose at most, as a time of the lost unit's writing. Pure; an unknown bound is `None`, never zero.

use super::types::{Accepted, FenceProof, FencedBy, Found, Progress};
use crate::ids::{StoreName, UnitName};
use crate::promotion::Operation;
use jiff::SignedDuration;

/// What may be lost of one store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreLoss {
    /// The store.
    pub store: StoreName,
    /// All that is lost was written in the last so long of the unit's writing; `None` where that is not known.
    pub bound: Option<SignedDuration>,
}

/// What may be lost, measured before the commit point, and what was found later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// By what the fence was proven: a bound is as true as that.
    pub fenced_by: FencedBy,
    /// Store by store.
    pub stores: Vec<StoreLoss>,
    /// The largest; `None` where one is not known.
    pub bound: Option<SignedDuration>,
    /// Survivors that hold more of the lost unit's log than the new owner: known to be given up, not only possible.
    pub given_up: Vec<UnitName>,
    /// Who accepted it, where the bound is unknown or above the limit, or something is given up.
    pub accepted: Option<Accepted>,
    /// What was really lost.
    pub found: Option<Found>,
}

/// What the bound is computed from.
#[derive(Clone, Copy, Debug)]
pub struct LossInputs<'a> {
    /// The proof of the fence.
    pub proof: &'a FenceProof,
    /// The unit that shall own the slots.
    pub target: &'a UnitName,
    /// The stores of which rows may be lost.
    pub stores: &'a [&'a StoreName],
    /// How far the target has applied the lost unit's log, store by store, after it cut it off; a store that is missing is
    /// unknown.
    pub progress: &'a [(StoreName, Progress)],
}

/// The bound of each store: the shortest time that a landmark proves which the target has passed, or that the newest row
/// proves which it had heard.
pub fn loss(inputs: LossInputs<'_>) -> Vec<StoreLoss> {
    let heard = inputs.proof.heard.iter().filter(|heard| heard.unit == *inputs.target);
    let heard: Vec<_> = heard.map(|heard| heard.until_end).collect();
    let stores = inputs.stores.iter().map(|store| {
        let mine = inputs.progress.iter().find(|(name, _)| name == *store);
        let passed = inputs.proof.landmarks.iter().filter(|landmark| {
            let covers = mine.and_then(|(_, progress)| progress.covers(&landmark.progress));
            landmark.store == **store && covers == Some(true)
        });
        let times = passed.map(|landmark| landmark.until_end).chain(heard.iter().copied());
        StoreLoss {
            store: (*store).clone(),
            bound: times.min().map(|time| time.max(SignedDuration::ZERO)),
        }
    });
    stores.collect()
}

/// The largest bound; `None` where one is unknown. Without a store there is nothing to lose.
pub(super) fn largest(stores: &[StoreLoss]) -> Option<SignedDuration> {
    let bounds: Option<Vec<_>> = stores.iter().map(|store| store.bound).collect();
    Some(bounds?.into_iter().max().unwrap_or(SignedDuration::ZERO))
}

/// The stores of which the lost unit may have written rows that move.
pub(super) fn stores_at_risk<'a>(op: &'a Operation, lost: &UnitName) -> Vec<&'a StoreName> {
    let held = op.stores.iter().filter(|store| store.has(lost));
    held.map(|store| &store.store).collect()
}
