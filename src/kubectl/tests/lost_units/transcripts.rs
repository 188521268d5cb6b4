//! What `failover` says before it does anything.

use crate::playing::check;
use crate::support::{apply, operator, run};
use crate::world::{deployment, range, store, table, unit};
use serde_json::{Value, json};

#[test]
fn lost_units_read_as_the_transcript() {
    run(async {
        deployment("shop", "far", "Fence").await;
        deployment("cart", "far", "KeepServing").await;
        // Two Regions of three are gone, and the third is no failover unit.
        deployment("two", "far", "Fence").await;
        unit("two", "east", "Fence").await;
        range("two", "users-0", (0, 7), ("far-1", &["east-1"])).await;
        store("two", &["far-1", "north-1", "south-1", "east-1"]).await;
        let name = |unit: &str| json!({"name": unit, "router": format!("https://{unit}.example:8443")});
        let spec = json!({"term": 1, "epoch": 6, "units": [name("far-1"), name("north-1"), name("south-1"), name("east-1")],
            "keyspaces": [{"name": "users", "slots": 16, "spans": "8s0@1.4,8s1@1.6"}]});
        apply(
            &operator().await,
            crate::objects::object("RoutingTable", "two", "routing", spec, Value::Null),
        )
        .await;
        deployment("gone", "east", "Fence").await;
        let quarantined = json!({"unit": "east-1", "term": 1, "epoch": 6, "by": "uid", "name": "lost-east"});
        table("gone", "east-1", "16s1@1.6", quarantined).await;
        check("lost_units/transcripts/lost").await;
    });
}
