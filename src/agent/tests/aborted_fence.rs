//! A fence that waits for a transaction which the agent may not end: it is said who that is, and an abort ends the wait.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use jiff::SignedDuration;
use multiactive_core::promotion::{Move, Outcome, Step};
use multiactive_core::slots::SlotSet;
use support::router::Router;
use support::world::World;
use support::{admin, shared_cluster, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_promotion_is_waited_for_no_longer_and_its_slots_are_served_again() {
    let world = World::new(shared_cluster().await, "aborted", &["east-1", "north-1"]).await;
    let agents = [world.agent("east-1").await, world.agent("north-1").await];
    world.publish(world.table()).await;
    world.all_to("east-1").await;
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
