//! After the start, and where a member is new: what is not known of it yet is no news. Which objects that concerns, and
//! only them; all others are told of at once.

use super::View;
use kube::ResourceExt;
use multiactive_api::{DataStore, Keyspace, Promotion, PromotionMode, ReplicationLink};
use multiactive_core::ids::UnitName;

impl View {
    /// Whether the member of this unit has not had the time to say what it holds.
    pub fn awaits(&self, unit: &str) -> bool {
        self.unsettled.contains(&UnitName(unit.to_owned()))
    }

    /// As [`View::awaits`], for any of the units in which a store has a database.
    pub fn awaits_store(&self, store: &DataStore) -> bool {
        store.spec.members.iter().any(|member| self.awaits(&member.unit))
    }

    /// Whether what the link says would be guessed: the receiving side tells of it.
    pub fn awaits_link(&self, link: &ReplicationLink) -> bool {
        self.awaits(&link.spec.to)
    }

    /// Whether the keyspace has slots without an owner, and for whose sake is not known yet.
    pub fn awaits_keyspace(&self, keyspace: &Keyspace) -> bool {
        let name = keyspace.name_any();
        let table = self
            .table
            .as_deref()
            .and_then(|table| table.keyspace(&name.as_str().into()));
        let unowned = table.is_none_or(|table| table.spans.iter().any(|span| span.owner.is_none()));
        let ranges = self.inputs.ranges.iter().filter(|range| range.spec.keyspace == name);
        let mut homes = ranges.map(|range| &range.spec.home_unit);
        unowned && self.record_problem.is_none() && homes.any(|home| self.awaits(home))
    }

    /// Whether a plan would name as blockers what is only not known yet: a plan is told once. What an operation that is
    /// carried out waits for is its business, known or not.
    pub fn awaits_promotion(&self, promotion: &Promotion) -> bool {
        match promotion.spec.mode {
            PromotionMode::Execute => false,
            PromotionMode::Plan => {
                let stores = &self.inputs.stores;
                self.awaits(&promotion.spec.target_unit) || stores.iter().any(|store| self.awaits_store(store))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::object;
    use crate::tables::{Inputs, RecordProblem};
    use multiactive_core::epoch::Epoch;
    use multiactive_core::span::SpanState;
    use multiactive_core::table::{KeyspaceTable, RoutingTable};
    use serde_json::json;
    use std::sync::Arc;

    fn store(units: &[&str]) -> DataStore {
        let member = |unit: &&str| json!({"unit": unit, "address": "h:1", "credentials": "s"});
        let members: Vec<_> = units.iter().map(member).collect();
        object(
            "DataStore",
            "orders",
            json!({"topology": "Sharded", "keyspace": "users", "engine": {"type": "PostgreSQL"}, "tables": [],
                "members": members}),
        )
    }

    fn promotion(mode: &str, target: &str) -> Promotion {
        let select = json!({"type": "Unit", "unit": "b"});
        object(
            "Promotion",
            "move",
            json!({"targetUnit": target, "mode": mode, "select": select}),
        )
    }

    fn keyspace() -> Keyspace {
        object(
            "Keyspace",
            "users",
            json!({"slots": 2, "function": {"type": "Crc32"}, "routes": [{"pathPrefix": "/", "backend": "shop"}],
                "key": {"sources": [{"type": "Header", "header": {"name": "x"}}]}}),
        )
    }

    /// Nothing is known of unit `a` yet. Slot 0 has an owner where `owned`, slot 1 always.
    fn view(owned: bool) -> View {
        let mut users = KeyspaceTable::unowned("users".into(), 2);
        let first = u16::from(owned);
        let slots = multiactive_core::slots::SlotSet::range(1 - first, 1);
        users.set(&slots, Some(&"b".into()), SpanState::Serving, Epoch::new(1, 2));
        let range = json!({"keyspace": "users", "firstSlot": 0, "lastSlot": 1, "homeUnit": "a"});
        View {
            inputs: Inputs {
                ranges: vec![Arc::new(object("ShardRange", "users-0", range))],
                ..Inputs::default()
            },
            table: Some(Arc::new(RoutingTable {
                keyspaces: vec![users],
                ..RoutingTable::default()
            })),
            unsettled: ["a".into()].into(),
            ..View::default()
        }
    }

    #[test]
    fn only_what_depends_on_a_silent_member_waits_for_it() {
        let all = view(true);
        assert!(all.awaits("a") && !all.awaits("b"));
        assert!(all.awaits_store(&store(&["b", "a"])) && !all.awaits_store(&store(&["b", "c"])));
        let link = |from_unit: &str, to: &str| {
            let spec = json!({"store": "orders", "from": from_unit, "to": to});
            object("ReplicationLink", "l", spec)
        };
        assert!(all.awaits_link(&link("b", "a")) && !all.awaits_link(&link("a", "b")));
        assert!(!all.awaits_promotion(&promotion("Execute", "a")));
        assert!(all.awaits_promotion(&promotion("Plan", "a")) && !all.awaits_promotion(&promotion("Plan", "b")));
        let mut stored = view(true);
        stored.inputs.stores = vec![Arc::new(store(&["a", "b"]))];
        assert!(stored.awaits_promotion(&promotion("Plan", "b")));
    }

    #[test]
    fn a_keyspace_waits_only_where_slots_without_an_owner_are_for_a_silent_member() {
        assert!(!view(true).awaits_keyspace(&keyspace()), "every slot has an owner");
        assert!(view(false).awaits_keyspace(&keyspace()));
        let mut known = view(false);
        known.unsettled = ["c".into()].into();
        assert!(!known.awaits_keyspace(&keyspace()));
        let mut broken = view(false);
        broken.record_problem = Some(RecordProblem {
            reason: "RecordDamaged",
            message: String::new(),
        });
        assert!(!broken.awaits_keyspace(&keyspace()), "that is told whoever is silent");
    }
}
