//! What users declare of ranges and stores, in the core's terms.

use crate::data_store::DataStore;
use crate::shard_range::ShardRange;
use kube::ResourceExt;
use multiactive_core::promotion::{FailoverRange, MovingStore};
use multiactive_core::select::NamedRange;
use multiactive_core::slots::{Slot, SlotSet};

/// Its numbers are as declared: whether they make sense is for the selection to say.
impl From<&ShardRange> for NamedRange {
    fn from(range: &ShardRange) -> Self {
        Self {
            name: range.name_any(),
            keyspace: range.spec.keyspace.as_str().into(),
            first: range.spec.first_slot.into(),
            last: range.spec.last_slot.into(),
        }
    }
}

/// A ShardRange with those who may own it: its home first, then its failover units. `None` where its slots are none.
pub fn failover_range(range: &ShardRange) -> Option<FailoverRange> {
    let spec = &range.spec;
    let slot = |slot: i32| Slot::try_from(slot).ok();
    let units = std::iter::once(&spec.home_unit).chain(&spec.failover_units);
    Some(FailoverRange {
        name: range.name_any(),
        keyspace: spec.keyspace.as_str().into(),
        slots: SlotSet::range(slot(spec.first_slot)?, slot(spec.last_slot)?),
        units: units.map(|unit| unit.as_str().into()).collect(),
    })
}

/// A store with a single writer as a range of its one slot, with those who may own it: its home first. `None` where it is
/// sharded. The range has the name of its keyspace, which no ShardRange can have.
pub fn writer_range(store: &DataStore) -> Option<FailoverRange> {
    let writer = store.spec.single_writer.as_ref()?;
    let units = std::iter::once(&writer.home_unit).chain(&writer.failover_units);
    let keyspace = store.keyspace_name();
    Some(FailoverRange {
        name: keyspace.to_string(),
        keyspace,
        slots: SlotSet::range(0, 0),
        units: units.map(|unit| unit.as_str().into()).collect(),
    })
}

/// A store with its members, as an operation notes it.
impl From<&DataStore> for MovingStore {
    fn from(store: &DataStore) -> Self {
        let members = store.spec.members.iter();
        Self {
            store: store.name_any().into(),
            keyspace: store.keyspace_name(),
            members: members.map(|member| member.unit.as_str().into()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn range(first: i32, last: i32) -> ShardRange {
        let spec = json!({"keyspace": "users", "firstSlot": first, "lastSlot": last, "homeUnit": "a",
            "failoverUnits": ["c", "b"]});
        let object = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": "ShardRange",
            "metadata": {"name": "users-0"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_range_names_its_home_first_then_its_failover_units_in_their_order() {
        let known = failover_range(&range(0, 511)).unwrap();
        assert_eq!(known.units, ["a".into(), "c".into(), "b".into()]);
        assert_eq!(known.slots, SlotSet::range(0, 511));
    }

    #[test]
    fn a_range_whose_slots_are_none_is_left_out_of_a_failover_and_named_in_a_selection() {
        let range = range(-1, 70_000);
        assert_eq!(failover_range(&range), None);
        let named = NamedRange::from(&range);
        assert_eq!((named.first, named.last), (-1, 70_000));
    }
}
