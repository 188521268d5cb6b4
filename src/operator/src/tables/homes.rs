//! The homes of each keyspace's slots, compiled once for as long as its ranges and the units stay as they are: there may
//! be thousands of ranges, and every step of a promotion is another look at them.

use kube::ResourceExt;
use multiactive_api::{Keyspace, ShardRange, Unit};
use multiactive_core::ids::UnitName;
use multiactive_core::ranges::{self, Homes, RangeProblem};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The homes of a keyspace's slots, or everything that is wrong with its ranges.
pub type Compiled = Result<Homes, Vec<RangeProblem>>;

/// What was compiled, by the keyspace's name. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct HomesOf(BTreeMap<String, Arc<Known>>);

#[derive(Debug)]
struct Known {
    slots: i32,
    units: BTreeSet<UnitName>,
    ranges: Vec<ranges::ShardRange>,
    compiled: Arc<Compiled>,
}

impl HomesOf {
    /// The same of what is declared now; what did not change is taken over.
    pub fn next(&self, keyspaces: &[Arc<Keyspace>], all: &[Arc<ShardRange>], units: &[Arc<Unit>]) -> Self {
        let units: BTreeSet<UnitName> = units.iter().map(|unit| unit.name_any().into()).collect();
        let one = |keyspace: &Arc<Keyspace>| {
            let (name, slots) = (keyspace.name_any(), keyspace.spec.slots);
            let known = self.0.get(&name).filter(|known| known.is_of(slots, &units, &name, all));
            let known = known.map_or_else(|| Arc::new(Known::new(slots, &units, &name, all)), Arc::clone);
            (name, known)
        };
        Self(keyspaces.iter().map(one).collect())
    }

    /// Those of a keyspace; `None` where it is not among those that were compiled.
    pub fn get(&self, keyspace: &str) -> Option<&Arc<Compiled>> {
        self.0.get(keyspace).map(|known| &known.compiled)
    }
}

impl Known {
    fn new(slots: i32, units: &BTreeSet<UnitName>, keyspace: &str, all: &[Arc<ShardRange>]) -> Self {
        let declared = |range: &ShardRange| ranges::ShardRange {
            name: range.name_any(),
            first: range.spec.first_slot.into(),
            last: range.spec.last_slot.into(),
            home: range.spec.home_unit.as_str().into(),
        };
        let ranges: Vec<_> = of(keyspace, all).map(declared).collect();
        let compiled = ranges::homes(u32::try_from(slots).unwrap_or(0), &ranges, units);
        Self {
            slots,
            units: units.clone(),
            ranges,
            compiled: Arc::new(compiled),
        }
    }

    fn is_of(&self, slots: i32, units: &BTreeSet<UnitName>, keyspace: &str, all: &[Arc<ShardRange>]) -> bool {
        let mut declared = of(keyspace, all);
        let same = |known: &ranges::ShardRange| {
            declared.next().is_some_and(|range| {
                let (first, last) = (i64::from(range.spec.first_slot), i64::from(range.spec.last_slot));
                (known.first, known.last, known.home.as_str()) == (first, last, range.spec.home_unit.as_str())
                    && range.metadata.name.as_deref() == Some(&known.name)
            })
        };
        self.slots == slots && self.units == *units && self.ranges.iter().all(same) && declared.next().is_none()
    }
}

fn of<'a>(keyspace: &'a str, all: &'a [Arc<ShardRange>]) -> impl Iterator<Item = &'a ShardRange> {
    all.iter()
        .map(|range| &**range)
        .filter(move |range| range.spec.keyspace == keyspace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn object<K: DeserializeOwned>(name: &str, spec: Value) -> Arc<K> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap())
    }

    fn range(name: &str, keyspace: &str, first: i32, last: i32, home: &str) -> Arc<ShardRange> {
        let spec = json!({"keyspace": keyspace, "firstSlot": first, "lastSlot": last, "homeUnit": home});
        object(name, spec)
    }

    #[test]
    fn homes_are_compiled_anew_exactly_where_something_of_them_changed() {
        let keyspace = |slots: i32| {
            let spec = json!({"slots": slots, "function": {"type": "Crc32"}, "routes": [], "key": {"sources": []}});
            object::<Keyspace>("users", spec)
        };
        let unit = |name: &str| {
            object::<Unit>(
                name,
                json!({"cluster": "c", "role": "Sharded", "router": "https://r:1"}),
            )
        };
        let units = [unit("a"), unit("b")];
        let (low, high) = (range("low", "users", 0, 7, "a"), range("high", "users", 8, 15, "b"));
        let other = range("other", "places", 0, 3, "a");
        let first = HomesOf::default().next(&[keyspace(16)], &[high.clone(), low.clone()], &units);
        let before = first.get("users").unwrap();
        assert!(before.is_ok(), "{before:?}");
        let again = |slots, ranges: &[Arc<ShardRange>], units: &[Arc<Unit>]| {
            let next = first.next(&[keyspace(slots)], ranges, units);
            let after = Arc::clone(next.get("users").unwrap());
            (Arc::ptr_eq(before, &after), after.is_ok())
        };
        let moved = range("low", "users", 0, 7, "b");
        let (short, renamed) = (range("low", "users", 0, 6, "a"), range("lower", "users", 0, 7, "a"));
        for (why, slots, ranges, units, want) in [
            ("the same", 16, vec![&high, &low], &units[..], (true, true)),
            (
                "another keyspace's",
                16,
                vec![&high, &low, &other],
                &units[..],
                (true, true),
            ),
            ("one less", 16, vec![&high], &units[..], (false, false)),
            ("another home", 16, vec![&high, &moved], &units[..], (false, true)),
            ("other slots", 16, vec![&high, &short], &units[..], (false, false)),
            ("another name", 16, vec![&high, &renamed], &units[..], (false, true)),
            ("one more", 16, vec![&high, &low, &low], &units[..], (false, false)),
            ("a unit less", 16, vec![&high, &low], &units[..1], (false, false)),
            ("a larger keyspace", 17, vec![&high, &low], &units[..], (false, false)),
        ] {
            let ranges: Vec<_> = ranges.into_iter().map(Arc::clone).collect();
            assert_eq!(again(slots, &ranges, units), want, "{why}");
        }
        assert!(first.next(&[], &[], &units).get("users").is_none());
    }
}
