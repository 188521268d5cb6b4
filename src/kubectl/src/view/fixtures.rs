//! Objects for the tests of views.

use crate::fetch::World;
use crate::operations::{FAILOVER, Operation, PROMOTION, VERIFICATION};
use kube::core::DynamicObject;
use multiactive_api::{DataStore, Keyspace, MemberCluster, Promotion, Region, ReplicationLink, ShardRange, Unit};
use multiactive_core::table::RoutingTable;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The namespace of all of them.
const NAMESPACE: &str = "shop";

/// An object of a kind.
pub fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: Value, status: Value) -> K {
    let mut object = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": kind, "spec": spec, "status": status,
        "metadata": {"name": name, "uid": format!("uid-{name}")}});
    if !["Region", "MemberCluster"].contains(&kind) {
        object["metadata"]["namespace"] = NAMESPACE.into();
    }
    if object["status"].is_null() {
        object.as_object_mut().unwrap().remove("status");
    }
    serde_json::from_value(object).unwrap()
}

/// A condition Ready.
pub fn conditions(ready: &str, reason: &str) -> Value {
    json!([{"type": "Ready", "status": ready, "reason": reason, "message": "said by the test",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

/// A Region.
pub fn region(name: &str, ready: &str) -> Region {
    object(
        "Region",
        name,
        json!({}),
        json!({"conditions": conditions(ready, "MembersReady")}),
    )
}

/// A MemberCluster in the Region of its name.
pub fn cluster(name: &str, ready: &str, reason: &str) -> MemberCluster {
    let spec = json!({"region": name, "access": {"type": "InCluster"}});
    object(
        "MemberCluster",
        name,
        spec,
        json!({"conditions": conditions(ready, reason)}),
    )
}

/// A Unit.
pub fn unit(name: &str, cluster: &str, ready: &str, reason: &str) -> Unit {
    let spec = json!({"cluster": cluster, "role": "Sharded", "router": format!("https://{name}.example:8443")});
    let status = json!({"conditions": conditions(ready, reason), "slots": 8, "applied": "1.6", "routers": 1,
        "lease": {"mode": "Fence", "state": "Held"}});
    object("Unit", name, spec, status)
}

/// A Keyspace of 16 slots.
pub fn keyspace(overridden: &[&str], slot: i32) -> Keyspace {
    let mut spec = json!({"slots": 16, "function": {"type": "Crc32"},
        "key": {"sources": [{"type": "Header", "header": {"name": "x-user-id"}}]}});
    if !overridden.is_empty() {
        spec["overrides"] = json!([{"keys": overridden, "slot": slot}]);
    }
    object(
        "Keyspace",
        "users",
        spec,
        json!({"conditions": conditions("True", "Published")}),
    )
}

/// A ShardRange.
pub fn range(name: &str, first: i32, last: i32, home: &str) -> ShardRange {
    range_that(name, first, last, home, home, "True", "Serving")
}

/// A ShardRange that may be away, or not ready.
pub fn range_that(
    name: &str,
    first: i32,
    last: i32,
    home: &str,
    active: &str,
    ready: &str,
    reason: &str,
) -> ShardRange {
    let spec = json!({"keyspace": "users", "firstSlot": first, "lastSlot": last, "homeUnit": home});
    let status = json!({"conditions": conditions(ready, reason), "active": active, "state": "Serving", "epoch": 6,
        "away": home != active});
    object("ShardRange", name, spec, status)
}

/// A DataStore that one unit writes.
pub fn single_writer(name: &str, home: &str) -> DataStore {
    let spec = json!({"topology": "SingleWriter", "singleWriter": {"homeUnit": home}, "tables": [{"name": "items"}],
        "engine": {"type": "PostgreSQL", "postgreSQL": {"database": name}},
        "members": [{"unit": home, "address": "h:1", "credentials": "s"}]});
    object("DataStore", name, spec, Value::Null)
}

/// A ReplicationLink.
pub fn link(store: &str, from: &str, to: &str, state: &str) -> ReplicationLink {
    let ready = if state == "Running" { "True" } else { "False" };
    let status = json!({"conditions": conditions(ready, state), "state": state});
    object(
        "ReplicationLink",
        &format!("{store}-{from}-{to}"),
        json!({"store": store, "from": from, "to": to}),
        status,
    )
}

/// A Promotion.
pub fn promotion(name: &str, to: &str, select: Value, epoch: i64) -> Promotion {
    let spec = json!({"targetUnit": to, "select": select, "mode": "Execute", "expectedEpoch": epoch});
    object("Promotion", name, spec, Value::Null)
}

/// An operation with this status.
pub fn operation(name: &str, status: Value) -> Operation {
    let spec = json!({"targetUnit": "north-1", "mode": "Execute"});
    let object: DynamicObject = object("Promotion", name, spec, status);
    Operation::read(PROMOTION, object).unwrap()
}

/// A Failover with this status.
pub fn failover(name: &str, lost: &str, status: Value) -> Operation {
    let spec = json!({"lostUnit": lost, "expectedEpoch": 6});
    let object: DynamicObject = object("Failover", name, spec, status);
    Operation::read(FAILOVER, object).unwrap()
}

/// A Verification with this spec and status.
pub fn verification(name: &str, spec: Value, status: Value) -> Operation {
    let object: DynamicObject = object("Verification", name, spec, status);
    Operation::read(VERIFICATION, object).unwrap()
}

/// A pair of a Verification: the orders of an owner at a unit.
pub fn pair(unit: &str, owner: &str, state: &str, more: Value) -> Value {
    let mut pair = json!({"store": "orders", "unit": unit, "owner": owner, "state": state});
    pair.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    pair
}

/// A table of 16 slots at epoch 1.6; its units are east-1, north-1, south-1.
pub fn table(spans: &str, definition: Option<&str>) -> RoutingTable {
    table_of(16, spans, definition)
}

/// The same, of any number of slots.
pub fn table_of(slots: i32, spans: &str, definition: Option<&str>) -> RoutingTable {
    let mut stored = stored_table(6, spans);
    stored.spec.keyspaces[0].slots = slots;
    stored.spec.keyspaces[0].definition = definition.map(str::to_owned);
    RoutingTable::try_from(&stored.spec).unwrap()
}

/// The object of a table.
pub fn stored_table(epoch: i64, spans: &str) -> multiactive_api::RoutingTable {
    let unit = |name: &str| json!({"name": name, "router": format!("https://{name}.example:8443")});
    let spec = json!({"term": 1, "epoch": epoch, "units": [unit("east-1"), unit("north-1"), unit("south-1")],
        "keyspaces": [{"name": "users", "slots": 16, "spans": spans}]});
    object("RoutingTable", "routing", spec, Value::Null)
}

/// Three units in three clusters, all well.
pub fn world() -> World {
    let names = ["east", "north", "south"];
    World {
        regions: names.iter().map(|name| region(name, "True")).collect(),
        clusters: names.iter().map(|name| cluster(name, "True", "Answering")).collect(),
        units: names
            .iter()
            .map(|name| unit(&format!("{name}-1"), name, "True", "Serving"))
            .collect(),
        keyspaces: vec![keyspace(&[], 0)],
        ranges: vec![range("users-0", 0, 7, "east-1"), range("users-1", 8, 15, "north-1")],
        tables: vec![stored_table(6, "8s0@1.4,8s1@1.6")],
        stores: vec![object(
            "DataStore",
            "orders",
            json!({"topology": "Sharded", "keyspace": "users",
            "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "shop"}}, "tables": [{"name": "orders", "shardKey": "user_id"}],
            "members": names.map(|name| json!({"unit": format!("{name}-1"), "address": "127.0.0.1:5432", "credentials": "db"}))}),
            json!({"conditions": conditions("True", "MembersReady")}),
        )],
        ..World::default()
    }
}
