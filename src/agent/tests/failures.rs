//! What an agent must withstand: databases that die, wrong credentials, unfit tables, an API server that is away, tables
//! that go back, its own death.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use crate::support;
use crate::support::router::Router;
use crate::support::world::World;
use crate::support::{admin, new_cluster, secret, shared_cluster, until};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use multiactive_api::{ROUTING_TABLE, RoutingTable as StoredTable};
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::Step;
use multiactive_core::slots::SlotSet;
use multiactive_core::span::SpanState;
use multiactive_fleet::cluster::Part;
use serde_json::json;

/// One unit that owns everything.
async fn alone(name: &str) -> World {
    World::new(shared_cluster().await, name, &["east-1"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_died_is_opened_again_at_the_same_epoch() {
    let world = alone("restarts").await;
    let agent = world.agent("east-1").await;
    world.publish(world.table()).await;
    world.all_to("east-1").await;
    let before = world.status("east-1").await.stores[0].server.clone();
    world.database("east-1").kill_9().await;
    world
        .store_says("east-1", "Unreachable", |store| {
            store.reason.as_deref() == Some("Unreachable")
        })
        .await;
    world.database("east-1").restart().await.unwrap();
    assert_eq!(
        world.accepts("east-1", "u").await.err().filter(|code| code != "MA001"),
        None,
        "it starts fenced"
    );
    until("the store to open again", || world.accepts("east-1", "u")).await;
    world.applied("east-1").await;
    assert_ne!(
        world.status("east-1").await.stores[0].server,
        before,
        "another incarnation"
    );
    let events = world.events("east-1").await;
    assert!(events.iter().any(|reason| reason == "Unreachable"), "{events:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_told_and_heal_when_the_secret_changes() {
    let world = alone("credentials").await;
    world.credentials("east-1", "wrong").await;
    let agent = world.agent("east-1").await;
    world.publish(world.table()).await;
    let told = |reason: &'static str, word: &'static str| {
        move |store: &multiactive_api::AssignedStoreStatus| {
            !store.ready
                && store.reason.as_deref() == Some(reason)
                && store.message.as_ref().is_some_and(|message| message.contains(word))
        }
    };
    world
        .store_says(
            "east-1",
            "a wrong password",
            told("Unreachable", "now into Secret east-1-db"),
        )
        .await;
    world.credentials("east-1", world.database("east-1").password()).await;
    world.applied("east-1").await;
    secret(
        &world.client,
        &world.namespace,
        "east-1-db",
        &[("username", "multiactive_agent")],
    )
    .await;
    world
        .store_says(
            "east-1",
            "a missing key",
            told("CredentialsKeyMissing", "no key password"),
        )
        .await;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    secrets.delete("east-1-db", &Default::default()).await.unwrap();
    world
        .store_says("east-1", "no Secret", told("CredentialsNotFound", "east-1-db"))
        .await;
    world.credentials("east-1", world.database("east-1").password()).await;
    world.applied("east-1").await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_store_stops_no_other_keyspace_and_says_why() {
    let world = alone("broken").await;
    let database = admin(world.database("east-1")).await;
    database.batch_execute("CREATE DATABASE other").await.unwrap();
    let other = support::session(world.database("east-1"), "postgres", "other")
        .await
        .unwrap();
    let sql = "CREATE TABLE loose (id text, user_id text NOT NULL); ALTER TABLE loose OWNER TO shop_owner;
               GRANT CREATE, CONNECT ON DATABASE other TO multiactive_agent;";
    other.batch_execute(sql).await.unwrap();
    let mut unfit = world.store("loose", "loose", "east-1");
    unfit["engine"]["postgreSQL"]["database"] = json!("other");
    unfit["keyspace"] = json!("carts");
    let mut away = world.store("away", "orders", "east-1");
    away["local"]["address"] = json!("127.0.0.1:1");
    away["keyspace"] = json!("carts");
    world
        .assign_with(
            "east-1",
            json!([world.store("orders", "orders", "east-1"), unfit, away]),
        )
        .await;
    let agent = world.agent("east-1").await;
    world.publish(world.table()).await;
    world.own("east-1", SlotSet::range(0, 255), SpanState::Opening).await;
    until("the good store to open", || world.accepts("east-1", "u")).await;
    for (name, reason, word) in [
        ("loose", "TablesRefused", "loose"),
        ("away", "Unreachable", "127.0.0.1:1"),
    ] {
        world
            .reported("east-1", reason, |status| {
                let store = status.stores.iter().find(|store| store.name == name)?;
                let says = store.reason.as_deref() == Some(reason) && store.message.as_ref()?.contains(word);
                (says && status.applied.is_none()).then_some(())
            })
            .await;
    }
    let status = world.status("east-1").await;
    assert!(status.stores.iter().any(|store| store.name == "orders" && store.ready));
    let ready = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
        .unwrap();
    assert_eq!(ready.status, "False");
    // The routers hear that the good one takes writes.
    let mut router = Router::of(&world, agent.routers, "east-1").await;
    let users = world.table().epoch;
    let told = router.applied_when(|told| told.of(&"users".into()) == users).await;
    assert_eq!((told.epoch, told.of(&"carts".into())), (Epoch::NEVER, Epoch::NEVER));
    // Without the broken ones, the unit stands at its table.
    world.assign("east-1").await;
    world.applied("east-1").await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_table_is_never_taken_not_even_by_a_new_agent() {
    let world = alone("older").await;
    let old = world.table();
    let agent = world.agent("east-1").await;
    world.publish(old.clone()).await;
    world.all_to("east-1").await;
    let newest = world.table();
    let applied = world.status("east-1").await.applied;
    world.restore(old).await;
    // A change that it must hear of after the old table: the store is looked at again.
    world.credentials("east-1", world.database("east-1").password()).await;
    assert_eq!(world.accepts("east-1", "u").await, Ok(()));
    agent.abort().await;
    let agent = world.agent("east-1").await;
    world
        .store_says("east-1", "Overtaken", |store| {
            store.reason.as_deref() == Some("Overtaken")
        })
        .await;
    assert_eq!(
        world.accepts("east-1", "u").await,
        Ok(()),
        "the store stays as the newer table has it"
    );
    world.publish(newest).await;
    world.applied("east-1").await;
    assert_eq!(world.status("east-1").await.applied, applied);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_with_everything_in_place_writes_nothing() {
    let world = alone("quiet").await;
    let agent = world.agent("east-1").await;
    world.publish(world.table()).await;
    world.all_to("east-1").await;
    agent.abort().await;
    let before = world.assignments().get("east-1").await.unwrap().resource_version();
    let agent = world.agent("east-1").await;
    let mut router = Router::of(&world, agent.routers, "east-1").await;
    // It has done all its work once it tells a router so.
    router.told_of(world.table().epoch).await;
    router.goodbye().await;
    agent.stop().await;
    let after = world.assignments().get("east-1").await.unwrap().resource_version();
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_assignment_leaves_the_database_as_it_is_and_a_new_one_is_taken_in_hand() {
    let world = alone("deleted").await;
    let agent = world.agent("east-1").await;
    world.publish(world.table()).await;
    world.all_to("east-1").await;
    world.assignments().delete("east-1", &Default::default()).await.unwrap();
    until("it to be gone", || async {
        match world.assignments().get_opt("east-1").await.unwrap() {
            None => Ok(()),
            Some(there) => Err(there.resource_version()),
        }
    })
    .await;
    assert_eq!(world.accepts("east-1", "u").await, Ok(()));
    world.assign("east-1").await;
    world.applied("east-1").await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_goes_on_while_its_api_server_is_away() {
    let cluster = new_cluster("away").await;
    let world = World::new(&cluster, "away", &["east-1"]).await;
    let agent = world.agent("east-1").await;
    world.publish(world.table()).await;
    world.all_to("east-1").await;
    cluster.kill_part(Part::ApiServer).await;
    // The database restarts meanwhile and is opened again, on the word of the last table; routers are served.
    world.database("east-1").kill_9().await;
    world.database("east-1").restart().await.unwrap();
    until("the store to open again", || world.accepts("east-1", "u")).await;
    let mut router = Router::of(&world, agent.routers, "east-1").await;
    router.told_of(world.table().epoch).await;
    router.report(world.table().epoch, &[]).await;
    cluster.start_part(Part::ApiServer).await.unwrap();
    world
        .reported("east-1", "its router", |status| {
            status.routers.first().filter(|router| router.connected).map(drop)
        })
        .await;
    world.own("east-1", SlotSet::range(0, 9), SpanState::Held).await;
    world.applied("east-1").await;
    router.told_of(world.table().epoch).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_left_without_goodbye_is_listed_until_its_pod_is_gone() {
    let world = alone("pods").await;
    world.assign_with("east-1", json!([])).await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "east-1-router"},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "router", "image": "none"}]},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    let agent = world.agent("east-1").await;
    world.publish(world.table()).await;
    // A unit without stores stands at its table at once.
    world.applied("east-1").await;
    let router = Router::of(&world, agent.routers, "east-1").await;
    let connected = |value: bool| {
        move |status: &multiactive_api::UnitAssignmentStatus| {
            status
                .routers
                .first()
                .filter(|router| router.connected == value)
                .map(drop)
        }
    };
    world.reported("east-1", "connected", connected(true)).await;
    drop(router);
    world.reported("east-1", "away", connected(false)).await;
    // A new agent keeps it listed too.
    agent.abort().await;
    let agent = world.agent("east-1").await;
    let table: Api<StoredTable> = Api::namespaced(world.client.clone(), &world.namespace);
    assert!(table.get(ROUTING_TABLE).await.is_ok());
    world.own("east-1", SlotSet::range(0, 9), SpanState::Serving).await;
    world.applied("east-1").await;
    world.reported("east-1", "still listed", connected(false)).await;
    pods.delete("east-1-router", &kube::api::DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    world
        .reported("east-1", "forgotten", |status| status.routers.is_empty().then_some(()))
        .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_whose_pod_runs_and_that_never_connected_keeps_writes_in_flight_unknown() {
    let world = World::new(shared_cluster().await, "strangers", &["east-1", "north-1"]).await;
    world.assign_with("east-1", json!([])).await;
    let agent = world.agent("east-1").await;
    world.publish(world.table()).await;
    world.own("east-1", SlotSet::range(0, 9), SpanState::Serving).await;
    world.applied("east-1").await;
    let uid = world.begin("move", "north-1", SlotSet::range(0, 9)).await;
    world.enter(&uid, Step::Prepare).await;
    world.hold(&uid).await;
    let listed = |name: &'static str| {
        move |status: &multiactive_api::UnitAssignmentStatus| {
            let router = status.routers.iter().find(|router| router.name == name)?;
            Some(router.connected)
        }
    };
    let unknown = |status: &multiactive_api::UnitAssignmentStatus| {
        let report = status.operations.first()?;
        report.in_flight.is_none().then_some(())
    };
    world.reported("east-1", "unknown without a router", unknown).await;
    let mut router = Router::of(&world, agent.routers, "east-1").await;
    router.report(world.epoch_of(&uid), &[(&uid, 0)]).await;
    let none = world
        .answer("east-1", &uid, "none in flight", |report| report.in_flight)
        .await;
    assert_eq!(none, 0);
    // Another one of the unit's runs, and serves clients by its table.
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let labels = json!({"app.kubernetes.io/component": "router", "multiactive.io/unit": "east-1"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger", "labels": labels},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "router", "image": "none"}]},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    let running = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "router", "ready": false,
        "restartCount": 0, "image": "none", "imageID": "", "state": {"running": {}}}]}});
    pods.patch_status("stranger", &Default::default(), &kube::api::Patch::Merge(running))
        .await
        .unwrap();
    let connected = world.reported("east-1", "it is listed", listed("stranger")).await;
    assert!(!connected);
    world.reported("east-1", "unknown beside a stranger", unknown).await;
    pods.delete("stranger", &kube::api::DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let none = world
        .answer("east-1", &uid, "none in flight again", |report| report.in_flight)
        .await;
    assert_eq!(none, 0);
    agent.stop().await;
}
