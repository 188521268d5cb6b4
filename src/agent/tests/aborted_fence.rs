//! A fence that waits for a transaction which the agent may not end: it is said who that is, an abort ends the wait, and
//! no other operation of the store waits with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use crate::support::router::Router;
use crate::support::world::World;
use crate::support::{admin, shared_cluster, until};
use jiff::SignedDuration;
use multiactive_core::hash::Function;
use multiactive_core::promotion::{Move, Outcome, Step};
use multiactive_core::slots::SlotSet;

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_promotion_is_waited_for_no_longer_and_its_slots_are_served_again() {
    let (world, agents) = World::pair(shared_cluster().await, "aborted").await;
    let mut router = Router::of(&world, agents[0].routers, "east-1").await;
    router.told_of(world.table().epoch).await;
    // A session of a superuser is beyond the agent's rights.
    let holder = admin(world.database("east-1")).await;
    holder
        .batch_execute("BEGIN; INSERT INTO orders (id, user_id) VALUES ('held', 'user-0')")
        .await
        .unwrap();
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);

    // Longer than this test may last: nothing ends the fence but the abort.
    let budget = SignedDuration::from_mins(30);
    let uid = world
        .begin_with("move", "north-1", SlotSet::range(0, 255), budget)
        .await;
    world.enter(&uid, Step::Prepare).await;
    world.hold(&uid).await;
    router.report(world.epoch_of(&uid), &[(&uid, 0)]).await;
    world.enter(&uid, Step::Fence).await;
    world
        .store_says("east-1", "who holds up the fence", |store| {
            let names = |text: &String| text.contains(&format!("process {pid} of postgres, idle in transaction"));
            store.reason.as_deref() == Some("FenceBlocked") && store.message.as_ref().is_some_and(names)
        })
        .await;

    let outcome = Outcome::Aborted {
        reason: "Test".into(),
        message: "by the test".into(),
    };
    world.record(&uid, &Move::End(outcome)).await;
    until("writes to pass again", || world.accepts("east-1", "user-1")).await;
    world.applied("east-1").await;
    let status = world.status("east-1").await;
    assert_eq!(status.stores[0].reason, None, "{:?}", status.stores);
    // The transaction was there all the time.
    holder.batch_execute("COMMIT").await.unwrap();
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_waits_holds_up_no_other_operation_of_its_store() {
    let (world, agents) = World::pair(shared_cluster().await, "beside").await;
    let slot = |user: &str| Function::Crc32.slot(user.as_bytes(), 256);
    let stays = slot("user-0");
    // Of another lock: writers of one lock wait for each other.
    let mut users = (1..).map(|number| format!("user-{number}"));
    let moves = users.find(|user| slot(user) % 64 != stays % 64).unwrap();
    let to_and_fro = SlotSet::range(slot(&moves), slot(&moves));
    let there = world.begin("there", "north-1", to_and_fro.clone()).await;
    world.until_drained(&there).await;
    world.until_done(&there).await;
    let holder = admin(world.database("east-1")).await;
    holder
        .batch_execute("BEGIN; INSERT INTO orders (id, user_id) VALUES ('held', 'user-0')")
        .await
        .unwrap();

    let budget = SignedDuration::from_mins(30);
    let waits = world
        .begin_with("waits", "north-1", SlotSet::range(stays, stays), budget)
        .await;
    world.enter(&waits, Step::Prepare).await;
    world.hold(&waits).await;
    world.enter(&waits, Step::Fence).await;
    let back = world.begin("back", "east-1", to_and_fro).await;
    world.until_drained(&back).await;
    world
        .store_says("east-1", "who holds up the fence", |store| {
            store.reason.as_deref() == Some("FenceBlocked") && store.ready
        })
        .await;
    world.until_done(&back).await;
    assert_eq!(world.accepts("east-1", &moves).await, Ok(()));
    // The fence still waits, and is through once the transaction has ended.
    holder.batch_execute("COMMIT").await.unwrap();
    world
        .answer("east-1", &waits, "fenced", |report| report.fenced.clone())
        .await;
    assert_eq!(world.accepts("east-1", "user-0").await, Err("MA001".to_owned()));
    for agent in agents {
        agent.stop().await;
    }
}
