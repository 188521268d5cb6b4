//! What was copied since units are cut off: when all that such a unit had written, as far as anybody has it, is here.

use super::wish::Target;
use super::{Store, timed};
use crate::lost::{self, Cut};
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::UnitPosition;
use multiactive_core::slots::SlotSet;
use multiactive_core::table::RoutingTable;
use multiactive_stores::Driver;
use multiactive_stores::driver::Reseeded;
use std::collections::BTreeMap;

/// What was copied since units are cut off: once that is every slot that somebody else owns, all that such a unit had written,
/// as far as anybody has it, is here, and nothing waits for it any more.
#[derive(Default)]
pub(super) struct HandedOn(BTreeMap<UnitName, Since>);

/// Since one cut.
struct Since {
    cut_by: OperationUid,
    slots: SlotSet,
    /// How far the others had applied the unit's log.
    upto: Vec<UnitPosition>,
    told: bool,
}

impl HandedOn {
    pub(super) fn add(&mut self, table: &RoutingTable, target: &Target, reseeded: &Reseeded) {
        for Cut { lost, by, .. } in lost::cuts(table, &target.spec.unit) {
            let fresh = || Since {
                cut_by: by.clone(),
                slots: SlotSet::default(),
                upto: Vec::new(),
                told: false,
            };
            let since = self.0.entry(lost.clone()).or_insert_with(fresh);
            if since.cut_by != by {
                *since = fresh();
            }
            since.slots = since.slots.union(&reseeded.open);
            since.told = false;
            let cuts = reseeded.cuts.iter().filter(|at| at.unit == lost);
            since.upto.extend(cuts.cloned());
        }
    }

    /// The cuts of units whose logs are here, as far as anybody has them, and how far that is, unless it was told.
    fn complete(&mut self, table: &RoutingTable, target: &Target) -> Vec<(Cut, Vec<UnitPosition>)> {
        let cuts = lost::cuts(table, &target.spec.unit);
        self.0.retain(|lost, _| cuts.iter().any(|cut| cut.lost == *lost));
        let others = owned_by_others(table, target);
        let mut complete = Vec::new();
        for cut in cuts {
            let since = self.0.get(&cut.lost).filter(|since| since.cut_by == cut.by);
            let all = since.filter(|since| !since.told && others.difference(&since.slots).is_empty());
            if let Some(since) = all {
                complete.push((cut, since.upto.clone()));
            }
        }
        complete
    }

    /// Tells the store which logs are here now.
    pub(super) async fn tell<D: Driver>(&mut self, store: &Store<D>, table: &RoutingTable, target: &Target) {
        for (cut, positions) in self.complete(table, target) {
            let mut told = true;
            for upto in &positions {
                let verb = store.driver.repaired(cut.at, upto);
                if let Err(error) = timed(&store.metrics, "repaired", verb).await {
                    tracing::warn!(lost = %cut.lost, error = error.explain(), "what was handed on is not noted yet");
                    told = false;
                }
            }
            if let Some(since) = self.0.get_mut(&cut.lost) {
                since.told = told;
            }
        }
    }
}

/// The slots that another unit owns, the lost one too.
fn owned_by_others(table: &RoutingTable, target: &Target) -> SlotSet {
    let owners = table.owners_of(&target.spec.keyspace.name).into_iter();
    let others = owners.filter(|(owner, _)| **owner != target.spec.unit);
    others.fold(SlotSet::default(), |all, (_, owned)| all.union(&owned))
}

#[cfg(test)]
mod tests {
    use super::super::lacking::tests::{lost, south};
    use super::*;

    #[test]
    fn a_lost_units_log_is_here_once_every_slot_of_the_others_was_copied_since_the_cut() {
        let (target, mut table) = south();
        lost(&mut table, "east-1");
        let reseeded = |first, last, position: &str| Reseeded {
            open: SlotSet::range(first, last),
            cuts: vec![UnitPosition {
                unit: "east-1".into(),
                position: position.to_owned(),
            }],
            ..Reseeded::default()
        };
        let mut handed_on = HandedOn::default();
        for (open, want) in [(None, 0), (Some((0, 7)), 0), (Some((8, 10)), 0), (Some((8, 11)), 3)] {
            if let Some((first, last)) = open {
                handed_on.add(&table, &target, &reseeded(first, last, "0/1"));
            }
            let found: usize = handed_on
                .complete(&table, &target)
                .iter()
                .map(|(_, upto)| upto.len())
                .sum();
            assert_eq!(found, want, "{open:?}");
        }
        // Another failover cut it off again: what was copied before says nothing.
        table.quarantined[0].by = "another".into();
        assert!(handed_on.complete(&table, &target).is_empty());
        handed_on.add(&table, &target, &reseeded(8, 11, "0/2"));
        assert!(handed_on.complete(&table, &target).is_empty());
    }
}
