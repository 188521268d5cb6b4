//! A migration that takes the fence away while the agent looks on: it is put back, and everybody who must know is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use crate::support::world::World;
use crate::support::{admin, shared_cluster, until};
use multiactive_api::{LinkState, UnitAssignmentStatus};

/// The message of the unit's only link, once it is broken.
fn broken(status: &UnitAssignmentStatus) -> Option<String> {
    let link = status.links.first().filter(|link| link.state == LinkState::Broken)?;
    link.message.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_a_migration_disabled_is_put_back_and_told_with_what_it_may_have_let_in() {
    let (world, agents) = World::pair(shared_cluster().await, "repaired").await;
    assert_eq!(world.accepts("north-1", "u").await, Err("MA001".to_owned()));
    let there = admin(world.database("north-1")).await;
    // A write past the fence, in the very transaction that takes it away, so that no look comes in between.
    let sql = "BEGIN; ALTER TABLE orders DISABLE TRIGGER ALL;
               INSERT INTO orders (id, user_id) VALUES ('stray', 'u'); COMMIT";
    there.batch_execute(sql).await.unwrap();
    until("the fence to be back", || async {
        match world.accepts("north-1", "u").await {
            Err(code) if code == "MA001" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let says = "may have taken writes for slots that north-1 does not own";
    world
        .store_says("north-1", "what was found", |store| {
            let message = store.message.as_deref().unwrap_or_default();
            let names = message.contains("trigger ~multiactive_inserts of table \"public\".\"orders\" was disabled");
            store.ready && store.reason.as_deref() == Some("FenceRepaired") && names && message.contains(says)
        })
        .await;
    until("the event", || async {
        let events = world.events("north-1").await;
        let told = events.iter().any(|reason| reason == "FenceRepaired");
        told.then_some(()).ok_or(events)
    })
    .await;
    // The stray row came to east by the link, which says so; and what north had of east may have been changed.
    for unit in ["east-1", "north-1"] {
        let message = world.reported(unit, "a link with a gap", broken).await;
        assert!(message.contains(says), "{message}");
    }
    // A person compares: the link is whole, and the status says nothing any more.
    there.batch_execute("DELETE FROM multiactive.breach").await.unwrap();
    for unit in ["east-1", "north-1"] {
        let database = admin(world.database(unit)).await;
        database
            .batch_execute("UPDATE multiactive.link SET gap = NULL")
            .await
            .unwrap();
    }
    world
        .store_says("north-1", "nothing", |store| store.ready && store.reason.is_none())
        .await;
    world.settled().await;
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_fit_any_more_is_told_and_can_still_be_closed() {
    let world = World::new(shared_cluster().await, "unfit", &["east-1"]).await;
    let agent = world.agent("east-1").await;
    world.publish(world.table()).await;
    world.all_to("east-1").await;
    let there = admin(world.database("east-1")).await;
    let sql = "ALTER TABLE orders RENAME COLUMN user_id TO customer";
    there.batch_execute(sql).await.unwrap();
    world
        .store_says("east-1", "the column", |store| {
            let message = store.message.as_deref().unwrap_or_default();
            store.reason.as_deref() == Some("TablesRefused") && message.contains("it has no column user_id")
        })
        .await;
    world
        .own(
            "east-1",
            multiactive_core::slots::SlotSet::range(0, 255),
            multiactive_core::span::SpanState::Fenced,
        )
        .await;
    let open = "SELECT count(*) FROM multiactive.slot WHERE open";
    until("the slots to close", || async {
        let open: i64 = there.query_one(open, &[]).await.unwrap().get(0);
        (open == 0).then_some(()).ok_or(open)
    })
    .await;
    there
        .batch_execute("ALTER TABLE orders RENAME COLUMN customer TO user_id")
        .await
        .unwrap();
    world.applied("east-1").await;
    agent.stop().await;
}
