//! One good object of each kind; the tests change one thing at a time.

use crate::support::TEAM;
use serde_json::{Value, json};

fn of(kind: &str, name: &str, spec: Value) -> Value {
    let mut object =
        json!({"apiVersion": "multiactive.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    if !["Region", "MemberCluster"].contains(&kind) {
        object["metadata"]["namespace"] = json!(TEAM);
    }
    object
}

pub fn region(name: &str) -> Value {
    of("Region", name, json!({"displayName": "East"}))
}

pub fn member_cluster(name: &str) -> Value {
    let access = json!({"type": "Kubeconfig", "kubeconfig": {"secret": "member-north"}});
    of(
        "MemberCluster",
        name,
        json!({"region": "north", "access": access, "allowedNamespaces": [TEAM]}),
    )
}

pub fn unit(name: &str) -> Value {
    let spec = json!({
        "cluster": "east", "role": "Sharded", "router": "https://router.east.example:8443",
        "backends": [{"name": "shop", "url": "http://shop.shop.svc:8080"}],
    });
    of("Unit", name, spec)
}

pub fn keyspace(name: &str) -> Value {
    let spec = json!({
        "slots": 1024,
        "routes": [{"pathPrefix": "/orders", "backend": "shop"}],
        "key": {"sources": [
            {"type": "Path", "path": {"pattern": "^/orders/[0-9]+-([0-9a-z-]+)$"}},
            {"type": "Header", "header": {"name": "x-user-id"}},
        ]},
        "function": {"type": "Crc32"},
        "overrides": [{"keys": ["vip-1", "vip-2"], "slot": 7}, {"keys": ["vip-3"], "slot": 8}],
    });
    of("Keyspace", name, spec)
}

pub fn shard_range(name: &str) -> Value {
    let spec = json!({
        "keyspace": "users", "firstSlot": 0, "lastSlot": 511,
        "homeUnit": "east-1", "failoverUnits": ["north-1", "south-1"],
    });
    of("ShardRange", name, spec)
}

pub fn routing_table() -> Value {
    let spec = json!({
        "term": 1, "epoch": 41,
        "units": [{"name": "east-1", "router": "https://127.0.0.11:18443"}],
        "keyspaces": [{"name": "users", "slots": 1024, "spans": "512s0@1.12,512u@0.0"}],
        "writers": [
            {"store": "catalog", "owner": "east-1", "state": "Serving", "term": 1, "epoch": 12},
            {"store": "prices", "state": "Unowned", "term": 0, "epoch": 0},
        ],
    });
    of("RoutingTable", "routing", spec)
}

pub fn unit_workload(name: &str) -> Value {
    let spec = json!({
        "units": ["east-1", "north-1"],
        "manifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop"}, "data": {"a": "b"}}],
        "patches": [{"unit": "east-1", "target": {"kind": "ConfigMap", "name": "shop"}, "merge": {"data": {"a": "c"}}}],
    });
    of("UnitWorkload", name, spec)
}

pub fn data_store(name: &str) -> Value {
    let spec = json!({
        "topology": "Sharded", "keyspace": "users",
        "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "shop"}},
        "tables": [{"name": "orders", "shardKey": "user_id"}],
        "members": [{"unit": "east-1", "address": "db.shop.svc:5432", "credentials": "shop-db"}],
    });
    of("DataStore", name, spec)
}

/// A store that several units write.
pub fn shared(name: &str) -> Value {
    let mut store = data_store(name);
    store["spec"]["conflict"] = json!("LastWriterWins");
    store["spec"]["verification"] = json!({"schedule": "*/5 * * * *"});
    store["spec"]["tables"][0]["lastWrite"] = json!("updated_at");
    store
}

pub fn single_writer(name: &str) -> Value {
    let members = ["east-1", "north-1", "south-1"];
    let members = members.map(|unit| json!({"unit": unit, "address": "db.shop.svc:5432", "credentials": "catalog-db"}));
    let spec = json!({
        "topology": "SingleWriter",
        "singleWriter": {
            "homeUnit": "east-1", "failoverUnits": ["north-1"],
            "routes": [{"pathPrefix": "/catalog", "backend": "shop"}],
        },
        "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "catalog"}},
        "tables": [{"name": "items"}],
        "members": members,
    });
    of("DataStore", name, spec)
}

pub fn replication_link() -> Value {
    of(
        "ReplicationLink",
        "orders-east-1-north-1",
        json!({"store": "orders", "from": "east-1", "to": "north-1"}),
    )
}

pub fn promotion(name: &str) -> Value {
    let spec = json!({
        "targetUnit": "north-1", "select": {"type": "Ranges", "ranges": ["users-0"]},
        "expectedEpoch": 41, "mode": "Execute", "verify": "Full", "budgets": {"fence": "10s", "drain": "1m30s"},
    });
    of("Promotion", name, spec)
}

pub fn failover(name: &str) -> Value {
    let spec = json!({"lostUnit": "east-1", "expectedEpoch": 41, "maxDataLoss": "5s"});
    of("Failover", name, spec)
}

pub fn verification(name: &str) -> Value {
    let spec = json!({"stores": ["orders"], "units": ["north-1"], "repair": "FromOwner"});
    of("Verification", name, spec)
}

pub fn unit_assignment(name: &str) -> Value {
    let keyspace = keyspace("users");
    let mut declared = keyspace["spec"].clone();
    declared["name"] = json!("users");
    let store = data_store("orders");
    let spec = json!({
        "unit": name, "cluster": "east",
        "backends": [{"name": "shop", "url": "http://shop.shop.svc:8080"}],
        "keyspaces": [declared],
        "stores": [{
            "name": "orders", "keyspace": "users", "engine": store["spec"]["engine"], "tables": store["spec"]["tables"],
            "local": store["spec"]["members"][0], "peers": [],
        }],
        "verification": {"uid": "u", "stores": ["orders"], "repair": "None"},
    });
    of("UnitAssignment", name, spec)
}

/// One of each.
pub fn all() -> Vec<Value> {
    vec![
        region("good"),
        member_cluster("good"),
        unit("good"),
        keyspace("good"),
        shard_range("good"),
        routing_table(),
        unit_workload("good"),
        data_store("good"),
        single_writer("good-too"),
        replication_link(),
        promotion("good"),
        failover("good"),
        verification("good"),
        unit_assignment("good"),
    ]
}
