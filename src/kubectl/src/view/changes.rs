//! What changed between two looks at the world: operations, owners, readiness. What `watch` tells.

use super::problems::of;
use super::steps::{self, Change};
use super::{Readiness, object};
use crate::fetch::World;
use crate::operations::Operation;
use crate::print::Tone;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_core::table::RoutingTable;
use std::collections::BTreeMap;

/// The changes, in the order of their times.
pub fn changes(before: &World, after: &World, now: Timestamp) -> Vec<Change> {
    let mut changes = Vec::new();
    for operation in after.operations.iter().filter(|operation| !operation.is_plan()) {
        let known = before.operations.iter().find(|known| same(known, operation));
        if known.is_none() && !operation.runs() {
            continue;
        }
        changes.extend(steps::operation(known, operation, now));
    }
    for operation in before
        .operations
        .iter()
        .filter(|operation| operation.runs() && !operation.is_plan())
    {
        if !after.operations.iter().any(|known| same(known, operation)) {
            changes.push(Change {
                at: now.to_string(),
                what: "Operation",
                object: object(
                    operation.kind.name,
                    operation.metadata.namespace.as_deref(),
                    operation.name(),
                ),
                text: "deleted before its end".to_owned(),
                tone: Tone::Bad,
            });
        }
    }
    owners(before, after, now, &mut changes);
    let (old, new) = (ready(before), ready(after));
    for (name, readiness) in &new {
        let known = old.get(name);
        if known.is_some_and(|known| (&known.ready, &known.reason) == (&readiness.ready, &readiness.reason)) {
            continue;
        }
        let text = match (known, readiness.is_ready()) {
            (None, true) => continue,
            (_, true) => format!("Ready ({})", readiness.reason),
            (_, false) => format!("not Ready ({}): {}", readiness.reason, readiness.message),
        };
        let tone = if readiness.is_ready() { Tone::Good } else { Tone::Bad };
        changes.push(Change {
            at: now.to_string(),
            what: "Readiness",
            object: name.clone(),
            text,
            tone,
        });
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        let (object, text) = (name.clone(), "is gone".to_owned());
        changes.push(Change {
            at: now.to_string(),
            what: "Readiness",
            object,
            text,
            tone: Tone::Warn,
        });
    }
    steps::in_order(changes)
}

fn same(one: &Operation, other: &Operation) -> bool {
    one.kind == other.kind
        && one.metadata.uid == other.metadata.uid
        && one.name() == other.name()
        && one.metadata.namespace == other.metadata.namespace
}

/// Slots that have another owner than before.
fn owners(before: &World, after: &World, now: Timestamp, changes: &mut Vec<Change>) {
    for table in &after.tables {
        let namespace = table.namespace();
        let old = before.tables.iter().find(|old| old.namespace() == namespace);
        let old = old.filter(|old| old.spec.epoch != table.spec.epoch);
        let (Some(Ok(old)), Ok(new)) = (
            old.map(|old| RoutingTable::try_from(&old.spec)),
            RoutingTable::try_from(&table.spec),
        ) else {
            continue;
        };
        for keyspace in &new.keyspaces {
            let had = old.owners_of(&keyspace.name);
            let store = keyspace.name.writer_of();
            for (unit, slots) in new.owners_of(&keyspace.name) {
                let nobody = had.values().fold(slots.clone(), |left, had| left.difference(had));
                let from = had.iter().filter(|(other, _)| **other != unit);
                let from = from.map(|(other, had)| (other.to_string(), had.intersection(&slots)));
                for (other, moved) in from
                    .chain([("nobody".to_owned(), nobody)])
                    .filter(|(_, moved)| !moved.is_empty())
                {
                    let (kind, name, what) = match &store {
                        Some(store) => ("DataStore", store.as_str(), "the writer".to_owned()),
                        None => ("Keyspace", keyspace.name.as_str(), format!("slots {moved}")),
                    };
                    changes.push(Change {
                        at: now.to_string(),
                        what: "Owner",
                        object: object(kind, namespace.as_deref(), name),
                        text: format!("{what}: {other} -> {unit}, table {}", new.epoch),
                        tone: Tone::Bold,
                    });
                }
            }
        }
    }
}

/// The readiness of all but ranges and workloads, which follow from these by the thousands.
fn ready(world: &World) -> BTreeMap<String, Readiness> {
    let mut all = BTreeMap::new();
    for cluster in &world.clusters {
        let readiness = of(cluster.status.as_ref().map(|status| &status.conditions));
        all.insert(object("MemberCluster", None, &cluster.name_any()), readiness);
    }
    for unit in &world.units {
        let readiness = of(unit.status.as_ref().map(|status| &status.conditions));
        all.insert(object("Unit", unit.namespace().as_deref(), &unit.name_any()), readiness);
    }
    for store in &world.stores {
        let readiness = of(store.status.as_ref().map(|status| &status.conditions));
        all.insert(
            object("DataStore", store.namespace().as_deref(), &store.name_any()),
            readiness,
        );
    }
    for link in &world.links {
        let readiness = of(link.status.as_ref().map(|status| &status.conditions));
        all.insert(
            object("ReplicationLink", link.namespace().as_deref(), &link.name_any()),
            readiness,
        );
    }
    for keyspace in &world.keyspaces {
        let readiness = of(keyspace.status.as_ref().map(|status| &status.conditions));
        all.insert(
            object("Keyspace", keyspace.namespace().as_deref(), &keyspace.name_any()),
            readiness,
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures::{stored_table, unit, world};

    #[test]
    fn owners_that_change_and_readiness_that_flips_are_told_once() {
        let writer = |unit: &str, epoch: i64| {
            serde_json::from_value(serde_json::json!([
                {"store": "catalog", "owner": unit, "state": "Serving", "term": 1, "epoch": epoch}]))
            .unwrap()
        };
        let (mut before, mut after) = (world(), world());
        before.tables[0].spec.writers = writer("east-1", 4);
        after.tables = vec![stored_table(7, "4s0@1.4,12s1@1.6")];
        after.tables[0].spec.writers = writer("south-1", 7);
        after.units[1] = unit("north-1", "north", "False", "StoreNotReady");
        let told = |before: &World, after: &World| -> Vec<String> {
            let changes = changes(before, after, Timestamp::UNIX_EPOCH);
            changes
                .into_iter()
                .map(|change| format!("{} {}: {}", change.what, change.object, change.text))
                .collect()
        };
        assert_eq!(
            told(&before, &after),
            [
                "Owner DataStore shop/catalog: the writer: east-1 -> south-1, table 1.7",
                "Owner Keyspace shop/users: slots 4-7: east-1 -> north-1, table 1.7",
                "Readiness Unit shop/north-1: not Ready (StoreNotReady): said by the test",
            ]
        );
        assert!(told(&after, &after).is_empty());
        assert_eq!(told(&after, &before)[2], "Readiness Unit shop/north-1: Ready (Serving)");
    }
}
