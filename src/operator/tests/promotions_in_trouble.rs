//! Promotions that go nowhere on a real hub: each says why, and what ends one is what the server says.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use kube::api::{Api, DeleteParams, Patch, PatchParams};
use multiactive_api::{self as api, ROUTING_TABLE};
use serde_json::{Value, json};
use support::{Operator, World, condition, eventually, store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_says_what_it_waits_for_and_goes_by_what_the_servers_say() {
    let world = World::start().await;
    world.agents();
    let operator = Operator::start(&world.hub, "trouble").await;
    world.shop().await;
    world.served().await;
    a_paused_table_is_said_by_who_waits_for_it(&world).await;
    // From here on nobody reports for an operation any more.
    world.agents_end();
    one_whose_object_is_gone_ends(&world).await;
    a_store_that_comes_meanwhile_ends_it(&world).await;
    operator.stop().await;
}

fn range() -> Value {
    json!({"type": "Ranges", "ranges": ["users-0"]})
}

/// Waits until the Promotion waits for such a thing; its Ready condition then.
async fn waits(world: &World, name: &str, for_what: &str) -> String {
    let promotions: Api<api::Promotion> = world.namespaced();
    eventually(&format!("{name} waits for {for_what}"), async || {
        let status = promotions.get(name).await.unwrap().status?;
        let waits = status.waiting_for.as_deref()?;
        waits
            .contains(for_what)
            .then(|| condition(&status.conditions, "Ready"))?
    })
    .await
}

async fn a_paused_table_is_said_by_who_waits_for_it(world: &World) {
    let tables: Api<api::RoutingTable> = world.namespaced();
    let pause = async |value: Value| {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"multiactive.io/paused": value}}}));
        tables
            .patch(ROUTING_TABLE, &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    pause("true".into()).await;
    world.promote("paused", "north-1", range(), world.epoch().await).await;
    let ready = waits(world, "paused", "to be removed from the RoutingTable").await;
    assert_eq!(ready, "False TablePaused");
    pause(Value::Null).await;
    assert_eq!(world.outcome("paused").await, "Succeeded");
    world.promote("back", "east-1", range(), world.epoch().await).await;
    assert_eq!(world.outcome("back").await, "Succeeded");
}

async fn one_whose_object_is_gone_ends(world: &World) {
    world.promote("gone", "north-1", range(), world.epoch().await).await;
    waits(world, "gone", "has not reported").await;
    let noted = &world.table().await.unwrap().spec.operations[0];
    assert_eq!(noted.kind, api::OperationKind::Promotion);
    let stores: Vec<_> = noted
        .stores
        .iter()
        .map(|store| (store.name.as_str(), store.members.join(",")))
        .collect();
    assert_eq!(stores, [("orders", "east-1,north-1".to_owned())]);
    let promotions: Api<api::Promotion> = world.namespaced();
    let unheld = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    promotions
        .patch("gone", &PatchParams::default(), &unheld)
        .await
        .unwrap();
    promotions.delete("gone", &DeleteParams::default()).await.unwrap();
    let ended = eventually("it ended", async || {
        let table = world.table().await?;
        table.spec.finished.iter().find(|done| done.name == "gone").cloned()
    })
    .await;
    assert_eq!(
        (ended.kind, ended.outcome.as_str()),
        (api::OperationKind::Promotion, "Aborted")
    );
    let message = ended.message.unwrap_or_default();
    assert!(message.contains("deleted"), "{message}");
}

async fn a_store_that_comes_meanwhile_ends_it(world: &World) {
    world.promote("edited", "north-1", range(), world.epoch().await).await;
    waits(world, "edited", "has not reported").await;
    let mut bills = store();
    bills["metadata"]["name"] = "bills".into();
    world.apply(bills).await;
    assert_eq!(world.outcome("edited").await, "Refused/StoresChanged");
    let said = world.ended("edited").await.message.unwrap_or_default();
    assert!(said.contains("DataStore bills came to keyspace users"), "{said}");
}
