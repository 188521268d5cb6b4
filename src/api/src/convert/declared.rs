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
