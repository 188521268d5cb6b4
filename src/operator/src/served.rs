//! Which owners of slots do not serve them, by the Ready condition of their Units. Pure.
//!
//! A Unit says at once what is wrong with it; its ranges, of which there may be thousands, only once that has lasted, and
//! they keep the first words that they said of it: the Unit has the newest.

use crate::tables::View;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use multiactive_api::{READY, ShardRange};
use multiactive_core::ids::UnitName;
use multiactive_core::span::Span;
use std::collections::BTreeMap;

/// What ranges and Keyspaces say of it in one word.
pub const REASON: &str = "OwnerNotReady";

/// For how long a Unit must not have been ready: as long as a target of a Promotion.
const LASTING: SignedDuration = SignedDuration::from_secs(5);

/// What Units say that are being deleted: they serve all the same.
const LEAVING: [&str; 2] = ["OwnsSlots", "Leaving"];

/// The Units of a view that do not serve what they own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unserved {
    /// For long, by name: what the Unit says.
    lasting: BTreeMap<UnitName, String>,
    /// Whether there are others, that came to it a moment ago.
    pub fresh: bool,
}

impl Unserved {
    /// Those of a view.
    pub fn of(view: &View, now: Timestamp) -> Self {
        let mut unserved = Self::default();
        for unit in &view.inputs.units {
            let conditions = unit.status.iter().flat_map(|status| &status.conditions);
            let mut unready = conditions.filter(|c| c.type_ == READY && c.status == "False");
            let unready = unready.next().filter(|c| !LEAVING.contains(&c.reason.as_str()));
            let Some(condition) = unready else { continue };
            if now.duration_since(condition.last_transition_time.0) < LASTING {
                unserved.fresh = true;
                continue;
            }
            let name = unit.name_any();
            let message = format!("{name} is not ready: {}", condition.message);
            unserved.lasting.insert(UnitName(name), message);
        }
        unserved
    }

    /// The first owner of these spans that does not serve them, and what its Unit says.
    pub fn first(&self, spans: &[Span]) -> Option<(&UnitName, &str)> {
        let owners = spans.iter().filter_map(|span| span.owner.as_ref());
        let mut unready = owners.filter_map(|owner| self.lasting.get_key_value(owner));
        unready.next().map(|(unit, message)| (unit, message.as_str()))
    }

    /// What a range says of these spans; `old` is what it said before.
    pub fn message(&self, spans: &[Span], old: &[Condition]) -> Option<String> {
        let (unit, message) = self.first(spans)?;
        let about = format!("{unit} is not ready: ");
        let mut said = old
            .iter()
            .filter(|c| c.type_ == READY && c.reason == REASON && c.message.starts_with(&about));
        Some(said.next().map_or_else(|| message.to_owned(), |c| c.message.clone()))
    }

    /// What a Keyspace says of its ranges; `None` where all of them are served.
    pub fn of_ranges<'a>(&self, ranges: impl Iterator<Item = (&'a ShardRange, &'a [Span])>) -> Option<String> {
        if self.lasting.is_empty() {
            return None;
        }
        let (mut all, mut served, mut first) = (0, 0, None);
        for (range, spans) in ranges {
            all += 1;
            match self.first(spans) {
                None => served += 1,
                Some((_, message)) if first.is_none() => first = Some(format!("{}: {message}", range.name_any())),
                Some(_) => {}
            }
        }
        first.map(|first| format!("{served} of {all} ranges are served; {first}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keyspaces, shard_ranges};
    use multiactive_api::{Keyspace, Unit};
    use multiactive_core::epoch::Epoch;
    use multiactive_core::slots::SlotSet;
    use multiactive_core::span::SpanState;
    use multiactive_core::table::{KeyspaceTable, RoutingTable};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn from<T: DeserializeOwned>(name: &str, spec: Value, status: Value) -> Arc<T> {
        let metadata = json!({"name": name, "namespace": "shop"});
        Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap())
    }

    /// `b` says since second 100 that it is not ready, for this reason; `a` and `c` are.
    fn view(reason: &str, message: &str) -> View {
        let unit = |name: &str| -> Arc<Unit> {
            let ready = if name == "b" { "False" } else { "True" };
            let condition = json!({"type": "Ready", "status": ready, "reason": reason, "message": message,
                "lastTransitionTime": Timestamp::from_second(100).unwrap()});
            let spec = json!({"cluster": name, "role": "Sharded", "router": "https://r.example:8443"});
            from(name, spec, json!({"conditions": [condition]}))
        };
        let mut users = KeyspaceTable::unowned("users".into(), 3);
        for (slot, unit) in ["a", "b", "c"].into_iter().enumerate() {
            let slot = u16::try_from(slot).unwrap();
            users.set(
                &SlotSet::range(slot, slot),
                Some(&unit.into()),
                SpanState::Serving,
                Epoch::new(1, 2),
            );
        }
        let range = |(slot, unit): (usize, &str)| {
            let spec = json!({"keyspace": "users", "firstSlot": slot, "lastSlot": slot, "homeUnit": unit});
            from(&format!("users-{slot}"), spec, json!({}))
        };
        let keyspace: Arc<Keyspace> = from(
            "users",
            json!({"slots": 3, "function": {"type": "Crc32"}, "routes": [],
                "key": {"sources": [{"type": "Header", "header": {"name": "x"}}]}}),
            json!({}),
        );
        let mut view = View::default();
        view.inputs.units = ["a", "b", "c"].map(unit).to_vec();
        view.inputs.ranges = ["a", "b", "c"].into_iter().enumerate().map(range).collect();
        view.inputs.keyspaces = vec![keyspace];
        view.table = Some(Arc::new(RoutingTable {
            keyspaces: vec![users],
            ..RoutingTable::default()
        }));
        view
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(conditions: &[Condition]) -> (String, String) {
        let condition = conditions.iter().find(|c| c.type_ == READY).unwrap();
        (
            format!("{} {}", condition.status, condition.reason),
            condition.message.clone(),
        )
    }

    #[test]
    fn a_range_is_ready_only_while_its_owner_serves_it() {
        for (why, reason, second, want) in [
            ("a moment ago", "StoreNotReady", 104, "True Serving"),
            ("for long", "StoreNotReady", 105, "False OwnerNotReady"),
            ("its router is away", "NoRouter", 105, "False OwnerNotReady"),
            ("it is being deleted, and serves", "OwnsSlots", 105, "True Serving"),
        ] {
            let view = view(reason, "store orders: refused");
            let unserved = Unserved::of(&view, at(second));
            let problems = shard_ranges::Problems::of(&view);
            let of = |index: usize| {
                let range = &view.inputs.ranges[index];
                let status = shard_ranges::status(range, &view, &problems, &unserved, at(second));
                ready(&status.conditions)
            };
            assert_eq!(of(1).0, want, "{why}");
            assert_eq!(
                (of(0).0.as_str(), of(2).0.as_str()),
                ("True Serving", "True Serving"),
                "{why}"
            );
            assert_eq!(unserved.fresh, second == 104, "{why}");
            let keyspace = keyspaces::status(&view.inputs.keyspaces[0], &view, &unserved, at(second));
            let (state, message) = ready(&keyspace.conditions);
            if want == "True Serving" {
                assert_ne!(state, "False OwnerNotReady", "{why}");
                continue;
            }
            assert_eq!(of(1).1, "b is not ready: store orders: refused");
            assert_eq!(state, "False OwnerNotReady", "{why}");
            let told = "2 of 3 ranges are served; users-1: b is not ready: store orders: refused";
            assert_eq!(message, told, "{why}");
        }
    }

    #[test]
    fn other_words_of_the_same_unit_are_no_other_status_of_its_ranges() {
        let first = view("StoreNotReady", "store orders: refused");
        let problems = shard_ranges::Problems::of(&first);
        let unserved = Unserved::of(&first, at(105));
        let mut range = (*first.inputs.ranges[1]).clone();
        range.status = Some(shard_ranges::status(&range, &first, &problems, &unserved, at(105)));
        let later = view("AgentNotReporting", "it is silent");
        let unserved = Unserved::of(&later, at(200));
        let status = shard_ranges::status(&range, &later, &problems, &unserved, at(200));
        assert_eq!(Some(status), range.status);
    }
}
