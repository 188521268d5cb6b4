//! A database that is not the one that the unit had: the agent opens nothing in it, says what it is and what to do, and
//! goes on once a person has done it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use crate::support;
use crate::support::world::World;
use crate::support::{TABLES, admin, session, shared_cluster, until};
use multiactive_api::{AssignedStoreStatus, LinkState};
use multiactive_core::promotion::Step;
use multiactive_core::slots::SlotSet;

/// Whether the store says this, and how a person goes on.
fn says(reason: &'static str, how: &'static str) -> impl Fn(&AssignedStoreStatus) -> bool {
    move |store| {
        let message = store.message.as_deref().unwrap_or_default();
        !store.ready && store.reason.as_deref() == Some(reason) && message.contains(how)
    }
}

/// The statement that the store's message gives to a person.
async fn statement(world: &World, unit: &str) -> String {
    let message = world.status(unit).await.stores[0].message.clone().unwrap();
    let from = message.find("UPDATE ").unwrap();
    let until = message[from..].find(". ").unwrap();
    message[from..from + until].to_owned()
}

/// As after the loss of its volume: the database is there, with empty tables.
async fn empty(world: &World, unit: &str) {
    let server = world.database(unit);
    let root = session(server, "postgres", "postgres").await.unwrap();
    until("the database to go", || async {
        let slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active";
        let _ = root.batch_execute(slots).await;
        if let Ok(inside) = session(server, "postgres", "shop").await {
            let subscriptions = "DO $$ DECLARE s text; BEGIN FOR s IN SELECT subname FROM pg_subscription LOOP
                                 EXECUTE format('ALTER SUBSCRIPTION %I DISABLE', s);
                                 EXECUTE format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', s);
                                 EXECUTE format('DROP SUBSCRIPTION %I', s); END LOOP; END $$";
            let _ = inside.batch_execute(subscriptions).await;
        }
        root.batch_execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    root.batch_execute("CREATE DATABASE shop").await.unwrap();
    let sql = "GRANT CREATE, CONNECT ON DATABASE shop TO multiactive_agent;
               GRANT EXECUTE ON FUNCTION pg_replication_origin_progress(text, boolean) TO multiactive_agent;
               GRANT EXECUTE ON FUNCTION pg_replication_origin_progress(text, boolean) TO multiactive_replication;
               GRANT SELECT (subconninfo) ON pg_subscription TO multiactive_agent;";
    let inside = admin(server).await;
    inside.batch_execute(sql).await.unwrap();
    inside.batch_execute(TABLES).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_not_opened_as_though_it_had_all_rows() {
    let world = World::new(shared_cluster().await, "lost", &["east-1"]).await;
    let agent = world.agent("east-1").await;
    world.publish(world.table()).await;
    world.all_to("east-1").await;
    let known = world.status("east-1").await.stores[0].incarnation.clone().unwrap();
    empty(&world, "east-1").await;
    let how = "UPDATE multiactive.store SET incarnation";
    world.store_says("east-1", "StoreLost", says("StoreLost", how)).await;
    assert_eq!(world.accepts("east-1", "u").await, Err("MA001".to_owned()));
    // What was known outlives the agent.
    agent.abort().await;
    let agent = world.agent("east-1").await;
    let mut router = support::router::Router::of(&world, agent.routers, "east-1").await;
    router.report(world.table().epoch, &[]).await;
    world
        .reported("east-1", "a router of the new agent", |status| {
            let store = status.stores.first()?;
            let router = status.routers.first()?;
            (router.connected && says("StoreLost", how)(store)).then_some(())
        })
        .await;
    assert_eq!(world.accepts("east-1", "u").await, Err("MA001".to_owned()));
    // A person brings the rows back, and says so as told.
    let sql = statement(&world, "east-1").await;
    assert!(sql.contains(&known), "{sql}");
    admin(world.database("east-1")).await.batch_execute(&sql).await.unwrap();
    until("the store to open again", || world.accepts("east-1", "u")).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_went_back_is_not_opened_and_no_promotion_counts_on_it() {
    let (world, agents) = World::pair(shared_cluster().await, "back").await;
    let seen = world.status("east-1").await.stores[0].seen.unwrap();
    // As an older state has it: the epochs in it are lower.
    let older = "UPDATE multiactive.store SET seen_epoch = seen_epoch - 1;
                 UPDATE multiactive.slot SET epoch = epoch - 1 WHERE epoch > 0";
    let server = world.database("east-1");
    admin(server).await.batch_execute(older).await.unwrap();
    server.restart().await.unwrap();
    let how = "UPDATE multiactive.store SET seen_term = 1, seen_epoch = ";
    world.store_says("east-1", "WentBack", says("WentBack", how)).await;
    assert_eq!(world.accepts("east-1", "u").await, Err("MA001".to_owned()));
    world
        .reported("east-1", "a link that nobody may count on", |status| {
            let link = status.links.iter().find(|link| link.state == LinkState::Broken)?;
            link.message.as_ref()?.starts_with("WentBack: ").then_some(())
        })
        .await;
    let sql = statement(&world, "east-1").await;
    assert!(sql.contains(&format!("seen_epoch = {}", seen.epoch)), "{sql}");
    admin(server).await.batch_execute(&sql).await.unwrap();
    until("the store to open again", || world.accepts("east-1", "u")).await;
    // Rows may be missing on either side: both links have a gap until a person has compared them.
    for (to, from) in [("north-1", "east-1"), ("east-1", "north-1")] {
        world
            .reported(to, "a link with a gap", |status| {
                let message = status.links.first()?.message.clone()?;
                let says = ["rows were brought back into east-1's database by hand", from];
                says.iter().all(|said| message.contains(said)).then_some(())
            })
            .await;
    }
    for unit in ["north-1", "east-1"] {
        let there = admin(world.database(unit)).await;
        there
            .batch_execute("UPDATE multiactive.link SET gap = NULL")
            .await
            .unwrap();
    }
    world.settled().await;
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_not_the_first_that_an_older_state_hears() {
    let (world, agents) = World::pair(shared_cluster().await, "older-state").await;
    let server = world.database("east-1");
    let scratch = tempfile::tempdir().unwrap();
    let snapshot = scratch.path().join("data");
    server.save(&snapshot).await.unwrap();
    server.restart().await.unwrap();
    until("the store to open again", || world.accepts("east-1", "u")).await;

    let uid = world.begin("move", "north-1", SlotSet::range(0, 255)).await;
    world.enter(&uid, Step::Prepare).await;
    world.hold(&uid).await;
    world.applied("east-1").await;
    server.bring_back(&snapshot).await.unwrap();
    // Asked while the database is away, and again and again until it answers.
    world.enter(&uid, Step::Fence).await;
    world
        .store_says("east-1", "that its database is away", |store| {
            store.reason.as_deref() == Some("Unreachable")
        })
        .await;
    server.restart().await.unwrap();
    let how = "born = gen_random_uuid()";
    world.store_says("east-1", "WentBack", says("WentBack", how)).await;
    let report = world.status("east-1").await.operations;
    assert!(report.iter().all(|report| report.fenced.is_none()), "{report:?}");
    for agent in agents {
        agent.stop().await;
    }
}
