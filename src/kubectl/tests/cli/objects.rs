//! A deployment as an operator would have written it: objects with their status.

use crate::support::{admin, api, apply, namespace, operator};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Conditions of an object.
pub fn conditions(ready: &str, reason: &str, message: &str, stalled: bool) -> Value {
    let at = "2026-01-01T00:00:00Z";
    let stalled = if stalled { "True" } else { "False" };
    json!([{"type": "Ready", "status": ready, "reason": reason, "message": message, "lastTransitionTime": at},
        {"type": "Stalled", "status": stalled, "reason": reason, "message": message, "lastTransitionTime": at}])
}

fn well(reason: &str) -> Value {
    conditions("True", reason, "all is well", false)
}

pub fn object(kind: &str, namespace: &str, name: &str, spec: Value, status: Value) -> Value {
    let mut object =
        json!({"apiVersion": "multiactive.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    if !status.is_null() {
        object["status"] = status;
    }
    object
}

/// Two regions with a cluster each.
pub async fn fleet() {
    let client = admin().await;
    for (name, display) in [("east", "Frankfurt"), ("north", "Stockholm")] {
        let status = json!({"conditions": well("MembersReady"), "members": 1, "readyMembers": 1});
        apply(
            &client,
            object("Region", "", name, json!({"displayName": display}), status),
        )
        .await;
        let access = match name {
            "east" => json!({"type": "InCluster"}),
            _ => json!({"type": "Kubeconfig", "kubeconfig": {"secret": name}}),
        };
        let status = json!({"conditions": well("Answering"), "hub": name == "east", "version": "v1.34.4"});
        apply(
            &client,
            object(
                "MemberCluster",
                "",
                name,
                json!({"region": name, "access": access}),
                status,
            ),
        )
        .await;
    }
}

pub fn unit(namespace: &str, name: &str, cluster: &str, conditions: Value) -> Value {
    let spec = json!({"cluster": cluster, "role": "Sharded", "router": format!("https://{name}.example:8443")});
    let status = json!({"conditions": conditions, "slots": 8, "applied": "1.6", "routers": 1,
        "lease": {"mode": "Fence", "state": "Held"}});
    object("Unit", namespace, name, spec, status)
}

pub fn range(namespace: &str, name: &str, slots: (i32, i32), home: &str, active: &str) -> Value {
    let spec = json!({"keyspace": "users", "firstSlot": slots.0, "lastSlot": slots.1, "homeUnit": home});
    let status = json!({"conditions": well("Serving"), "slots": format!("{}-{}", slots.0, slots.1), "active": active,
        "state": "Serving", "epoch": 6, "away": home != active});
    object("ShardRange", namespace, name, spec, status)
}

pub fn link(namespace: &str, from: &str, to: &str, state: &str) -> Value {
    let conditions = match state {
        "Running" => well("Running"),
        _ => conditions("False", state, "the other side refused the connection", true),
    };
    let spec = json!({"store": "orders", "from": from, "to": to});
    object(
        "ReplicationLink",
        namespace,
        &format!("orders-{from}-{to}"),
        spec,
        match state {
            "Running" => json!({"conditions": conditions, "state": state, "lag": "1s"}),
            _ => json!({"conditions": conditions, "state": state}),
        },
    )
}

/// A table at an epoch; `spans` of 16 slots, unit 0 is east-1 and unit 1 north-1.
pub fn table(namespace: &str, epoch: i64, spans: &str) -> Value {
    let unit = |name: &str| json!({"name": name, "router": format!("https://{name}.example:8443")});
    object(
        "RoutingTable",
        namespace,
        "routing",
        json!({"term": 1, "epoch": epoch, "units": [unit("east-1"), unit("north-1")],
        "keyspaces": [{"name": "users", "slots": 16, "spans": spans}]}),
        Value::Null,
    )
}

/// A promotion that was measured, for the table.
pub fn finished(name: &str, millis: i64) -> Value {
    let hold = Timestamp::UNIX_EPOCH;
    let settle = hold + SignedDuration::from_millis(millis);
    json!({"kind": "Promotion", "uid": name, "name": name, "outcome": "Succeeded", "at": settle.to_string(), "term": 1, "epoch": 5,
        "history": [{"step": "Hold", "at": hold.to_string()}, {"step": "Settle", "at": settle.to_string()}]})
}

/// A namespace with two units, all well: east-1 owns slots 0-7, north-1 the rest.
pub async fn deployment(namespace_name: &str) {
    let client = admin().await;
    fleet().await;
    namespace(&client, namespace_name).await;
    let n = namespace_name;
    for (name, cluster) in [("east-1", "east"), ("north-1", "north")] {
        apply(&client, unit(n, name, cluster, well("Serving"))).await;
    }
    let keyspace = json!({"slots": 16, "function": {"type": "Crc32"}, "overrides": [{"keys": ["vip"], "slot": 9}],
        "key": {"sources": [{"type": "Header", "header": {"name": "x-user-id"}}]}});
    apply(
        &client,
        object(
            "Keyspace",
            n,
            "users",
            keyspace,
            json!({"conditions": well("Published"), "epoch": "1.6"}),
        ),
    )
    .await;
    apply(&client, range(n, "users-0", (0, 7), "east-1", "east-1")).await;
    apply(&client, range(n, "users-1", (8, 15), "north-1", "north-1")).await;
    let member = |unit: &str| json!({"unit": unit, "address": "db.example:5432", "credentials": "shop-db"});
    let store = json!({"topology": "Sharded", "keyspace": "users", "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "shop"}},
        "tables": [{"name": "orders", "shardKey": "user_id"}], "members": [member("east-1"), member("north-1")]});
    apply(
        &client,
        object(
            "DataStore",
            n,
            "orders",
            store,
            json!({"conditions": well("MembersReady")}),
        ),
    )
    .await;
    let operator = operator().await;
    apply(&operator, table(n, 6, "8s0@1.4,8s1@1.6")).await;
    apply(&operator, link(n, "east-1", "north-1", "Running")).await;
    apply(&operator, link(n, "north-1", "east-1", "Running")).await;
}

/// Besides a deployment, a store that `active` writes and whose home is east-1, at the table of this epoch.
pub async fn writer(namespace: &str, active: &str, epoch: i64) {
    let member = |unit: &str| json!({"unit": unit, "address": "db.example:5432", "credentials": "shop-db"});
    let spec = json!({"topology": "SingleWriter", "singleWriter": {"homeUnit": "east-1", "failoverUnits": ["north-1"]},
        "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "catalog"}}, "tables": [{"name": "items"}],
        "members": [member("east-1"), member("north-1")]});
    let status = json!({"conditions": well("MembersReady"),
        "writer": {"unit": active, "state": "Serving", "epoch": format!("1.{epoch}"), "away": active != "east-1"}});
    apply(&admin().await, object("DataStore", namespace, "catalog", spec, status)).await;
    let mut table = table(namespace, epoch, "8s0@1.4,8s1@1.6");
    table["spec"]["writers"] =
        json!([{"store": "catalog", "owner": active, "state": "Serving", "term": 1, "epoch": epoch}]);
    apply(&operator().await, table).await;
}

/// A Promotion with this status.
pub async fn promotion(namespace: &str, name: &str, status: Value) {
    let spec = json!({"targetUnit": "north-1", "mode": "Execute", "expectedEpoch": 6, "select": {"type": "Ranges", "ranges": ["users-0"]}});
    apply(&admin().await, object("Promotion", namespace, name, spec, status)).await;
}

/// A Failover of east-1 with this status.
pub async fn failover(namespace: &str, name: &str, status: Value) {
    let spec = json!({"lostUnit": "east-1", "expectedEpoch": 6, "maxDataLoss": "15s"});
    apply(&admin().await, object("Failover", namespace, name, spec, status)).await;
}

/// Writes the status of a Promotion, as the operator does.
pub async fn promotion_status(namespace: &str, name: &str, status: Value) {
    let like = object("Promotion", namespace, name, json!({}), Value::Null);
    let patch = Patch::Merge(json!({"status": status}));
    api(&admin().await, &like)
        .patch_status(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// An event, so long ago that its age is the same whenever the test runs.
pub async fn event(namespace: &str, kind: &str, name: &str, days: i64, (type_, reason): (&str, &str), note: &str) {
    let at = Timestamp::now() - SignedDuration::from_hours(24 * days + 1);
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": format!("{name}.{days}"), "namespace": namespace},
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string(), "type": type_, "reason": reason, "action": reason, "note": note,
        "reportingController": "multiactive-operator", "reportingInstance": "one",
        "regarding": {"apiVersion": "multiactive.io/v1alpha1", "kind": kind, "name": name, "namespace": namespace}});
    apply(&admin().await, event).await;
}
