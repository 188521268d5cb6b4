//! What people put in the operator's way on the hub: a pause, and objects that no part of it can parse.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use multiactive_api as api;
use serde_json::{Value, json};
use support::{Operator, World, condition, eventually, keyspace, namespaced, range};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paused_waits_and_what_cannot_be_parsed_stops_nothing_else() {
    let world = World::start().await;
    world.agents();
    let operator = Operator::start(&world.hub, "disturbed").await;
    a_paused_keyspace_gets_no_owner(&world).await;
    a_paused_promotion_does_not_begin(&world).await;
    unparsable_objects(&world).await;
    operator.stop().await;
}

fn paused(mut object: Value, value: &str) -> Value {
    object["metadata"]["annotations"] = json!({"multiactive.io/paused": value});
    object
}

async fn a_paused_keyspace_gets_no_owner(world: &World) {
    world.apply(paused(keyspace(), "true")).await;
    world.shop_without_keyspace().await;
    // The units are known to the operator, and ready to be owners, before the pause ends.
    eventually("the units are in the table", async || {
        let table = world.table().await?;
        let assigned = Api::<api::UnitAssignment>::namespaced(world.member.clone(), support::NAMESPACE);
        let status = assigned.get_opt("north-1").await.unwrap()?.status?;
        (table.spec.units.len() == 2 && status.observed_generation.is_some()).then_some(())
    })
    .await;
    let owned = |owners: Vec<String>| owners.iter().any(|span| !span.ends_with("Unowned"));
    assert!(!owned(world.owners().await), "{:?}", world.owners().await);
    world.apply(paused(keyspace(), "false")).await;
    world.served().await;
}

async fn a_paused_promotion_does_not_begin(world: &World) {
    let epoch = world.epoch().await;
    let select = json!({"type": "Ranges", "ranges": ["users-0"]});
    let spec = json!({"targetUnit": "north-1", "select": select, "expectedEpoch": epoch, "mode": "Execute"});
    let promotion = namespaced("Promotion", "later", spec);
    world.apply(paused(promotion.clone(), "true")).await;
    // The operator has seen it once it has seen a plan that came after it.
    let plan = json!({"targetUnit": "north-1", "select": select, "mode": "Plan"});
    world.apply(namespaced("Promotion", "plan", plan)).await;
    world.ended("plan").await;
    assert_eq!(world.epoch().await, epoch, "a paused Promotion is not in the table");
    world.apply(paused(promotion, "false")).await;
    assert_eq!(world.outcome("later").await, "Succeeded");
}

/// Lets the API server take anything for ShardRanges and Promotions, as an older or newer version of the kinds would.
async fn take_anything(world: &World, kind: &str) {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.hub.clone());
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": anything}]);
    let patch = Patch::Json::<()>(serde_json::from_value(schema).unwrap());
    definitions.patch(kind, &PatchParams::default(), &patch).await.unwrap();
}

async fn unparsable_objects(world: &World) {
    let before = world.owners().await;
    take_anything(world, "shardranges.multiactive.io").await;
    take_anything(world, "promotions.multiactive.io").await;
    // The new schema is in force once the server takes such an object.
    let broken = namespaced(
        "ShardRange",
        "users-0",
        json!({"keyspace": "users", "firstSlot": "seven", "lastSlot": []}),
    );
    let (ranges, name) = support::dynamic(&world.hub, &broken);
    let params = PatchParams::apply("gitops").force();
    eventually("the server takes what cannot be parsed", async || {
        ranges.patch(&name, &params, &Patch::Apply(&broken)).await.ok()
    })
    .await;
    let nonsense = namespaced("Promotion", "nonsense", json!({"targetUnit": 7}));
    let (promotions, name) = support::dynamic(&world.hub, &nonsense);
    eventually("the server takes what cannot be parsed", async || {
        promotions.patch(&name, &params, &Patch::Apply(&nonsense)).await.ok()
    })
    .await;

    // The same watches go on: another range's edit is seen, and a Promotion that came after it runs.
    world.apply(range("users-1", 8, 14, "north-1")).await;
    let says = async |wanted: &str| {
        eventually(&format!("the keyspace says {wanted}"), async || {
            let keyspace: api::Keyspace = world.namespaced().get("users").await.unwrap();
            condition(&keyspace.status?.conditions, "Ready")?
                .eq(wanted)
                .then_some(())
        })
        .await;
    };
    says("False RangesLeaveGap").await;
    world.apply(range("users-1", 8, 15, "north-1")).await;
    says("True Published").await;
    assert_eq!(world.owners().await, before, "the last good users-0 counts");
    let slots = json!({"type": "Slots", "slots": {"keyspace": "users", "slots": "0-7"}});
    world.promote("goes-on", "east-1", slots, world.epoch().await).await;
    eventually("goes-on ended", async || {
        let found = promotions.get("goes-on").await.unwrap();
        (found.data["status"]["outcome"] == "Succeeded").then_some(())
    })
    .await;
    assert_eq!(world.owners().await, ["0-7 east-1 Serving", "8-15 north-1 Serving"]);

    // Put right, it is followed again.
    world.apply(range("users-0", 0, 6, "east-1")).await;
    says("False RangesLeaveGap").await;
}
