//! A fleet of which some Regions are gone, and deployments that had a unit there.

use crate::objects::{conditions, object};
use crate::support::{admin, api, apply, eventually, namespace, operator};
use jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use multiactive_api::Failover;
use serde_json::{Value, json};

/// Regions that are gone: one for each test that looks at all namespaces.
pub const GONE: [&str; 3] = ["east", "far", "west"];
/// Regions that live.
const THERE: [&str; 2] = ["north", "south"];

fn well(reason: &str) -> Value {
    conditions("True", reason, "all is well", false)
}

/// The Regions, each with a cluster of its name.
async fn fleet() {
    let client = admin().await;
    let seen = (Timestamp::now() - SignedDuration::from_hours(73)).to_string();
    for name in GONE.iter().chain(&THERE) {
        let (conditions, seen) = match GONE.contains(name) {
            true => (
                conditions("False", "Unreachable", "no route to host", false),
                json!(seen),
            ),
            false => (well("Answering"), Value::Null),
        };
        apply(
            &client,
            object("Region", "", name, json!({}), json!({"conditions": conditions})),
        )
        .await;
        let access = json!({"type": "Kubeconfig", "kubeconfig": {"secret": name}});
        let spec = json!({"region": name, "access": access});
        let status = json!({"conditions": conditions, "lastSeen": seen});
        apply(&client, object("MemberCluster", "", name, spec, status)).await;
    }
}

/// A namespace of which a Region is gone: its unit owns slots 0-7, north-1 the rest, south-1 none.
pub async fn deployment(n: &str, gone: &str, lease: &str) {
    let client = admin().await;
    fleet().await;
    namespace(&client, n).await;
    let lost = format!("{gone}-1");
    unit(n, gone, lease).await;
    unit(n, "north", "Fence").await;
    unit(n, "south", "Fence").await;
    let keyspace = json!({"slots": 16, "function": {"type": "Crc32"},
        "key": {"sources": [{"type": "Header", "header": {"name": "x-user-id"}}]}});
    let status = json!({"conditions": well("Published"), "epoch": "1.6"});
    apply(&client, object("Keyspace", n, "users", keyspace, status)).await;
    range(n, "users-0", (0, 7), (&lost, &["north-1", "south-1"])).await;
    range(n, "users-1", (8, 15), ("north-1", &["south-1"])).await;
    store(n, &[&lost, "north-1", "south-1"]).await;
    table(n, &lost, "8s0@1.4,8s1@1.6", Value::Null).await;
}

/// A store with members in these units.
pub async fn store(n: &str, units: &[&str]) {
    let member = |unit: &&str| json!({"unit": unit, "address": "db.example:5432", "credentials": "shop-db"});
    let members: Vec<Value> = units.iter().map(member).collect();
    let engine = json!({"type": "PostgreSQL", "postgreSQL": {"database": "shop"}});
    let spec = json!({"topology": "Sharded", "keyspace": "users", "engine": engine,
        "tables": [{"name": "orders", "shardKey": "user_id"}], "members": members});
    let status = json!({"conditions": well("MembersReady")});
    apply(&admin().await, object("DataStore", n, "orders", spec, status)).await;
}

/// A table of this lost unit, north-1 and south-1.
pub async fn table(n: &str, lost: &str, spans: &str, quarantined: Value) {
    let unit = |name: &str| json!({"name": name, "router": format!("https://{name}.example:8443")});
    let mut spec = json!({"term": 1, "epoch": 6, "units": [unit(lost), unit("north-1"), unit("south-1")],
        "keyspaces": [{"name": "users", "slots": 16, "spans": spans}]});
    if !quarantined.is_null() {
        spec["quarantined"] = json!([quarantined]);
    }
    apply(
        &operator().await,
        object("RoutingTable", n, "routing", spec, Value::Null),
    )
    .await;
}

/// The unit of a Region.
pub async fn unit(n: &str, region: &str, lease: &str) {
    let conditions = match GONE.contains(&region) {
        true => conditions(
            "False",
            "MemberNotReady",
            "its cluster does not answer: what is known is old",
            false,
        ),
        false => well("Serving"),
    };
    let name = format!("{region}-1");
    let spec = json!({"cluster": region, "role": "Sharded", "router": format!("https://{name}.example:8443")});
    let status = json!({"conditions": conditions, "slots": 8, "applied": "1.6", "routers": 1,
        "lease": {"mode": lease, "state": "Held"}});
    apply(&admin().await, object("Unit", n, &name, spec, status)).await;
}

/// A range with its home and its failover units.
pub async fn range(n: &str, name: &str, (first, last): (i32, i32), (home, failover): (&str, &[&str])) {
    let spec =
        json!({"keyspace": "users", "firstSlot": first, "lastSlot": last, "homeUnit": home, "failoverUnits": failover});
    let status = json!({"conditions": well("Serving")});
    apply(&admin().await, object("ShardRange", n, name, spec, status)).await;
}

/// The Failovers of a namespace.
pub async fn failovers(n: &str) -> Vec<Failover> {
    let api: Api<Failover> = Api::namespaced(admin().await, n);
    api.list(&ListParams::default()).await.unwrap().items
}

/// Waits for a Failover that no operator has seen yet.
pub async fn appears(n: &str) -> Failover {
    eventually("a Failover was created", async || {
        failovers(n)
            .await
            .into_iter()
            .find(|failover| failover.status.is_none())
    })
    .await
}

/// Writes the status of a Failover, as the operator does.
pub async fn status(failover: &Failover, status: Value) {
    let like = object("Failover", &failover.namespace().unwrap(), "", json!({}), Value::Null);
    let patch = Patch::Merge(json!({"status": status}));
    let name = failover.name_any();
    api(&admin().await, &like)
        .patch_status(&name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}
