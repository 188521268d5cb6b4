//! An agent that has not brought the stores to the table: what waits for it, for how long, and what does not.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common;
use crate::common::{World, limits, until};
use multiactive_core::epoch::Epoch;
use multiactive_core::table::RoutingTable;
use multiactive_router::limits::Limits;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(1);

fn short() -> Limits {
    Limits {
        behind_time: PATIENCE,
        ..limits()
    }
}

/// The same spans in both keyspaces.
fn both(world: &World, text: &str) -> RoutingTable {
    let mut table = world.table(text);
    let mut pages = table.keyspaces[0].clone();
    pages.name = "pages".into();
    table.keyspaces.push(pages);
    table
}

fn write(world: &World, path: &str, body: &str) -> JoinHandle<common::Answer> {
    world.send("east", "POST", path, &[("x-user-id", "s1")], body.to_owned())
}

#[tokio::test]
async fn a_keyspace_is_served_though_a_store_of_another_one_is_broken() {
    let world = World::new(short()).await;
    let east = world.unit("east");
    east.state.take_table(both(&world, "10: 16o0@1.10")).unwrap();
    until("its agent", || east.state.view.load().connected.is_some()).await;
    let (order, page) = (write(&world, "/orders", "order"), write(&world, "/pages", "page"));
    world.held("east", 2).await;
    east.agent.say_applied_to("users", Epoch::new(1, 10));
    assert_eq!(order.await.unwrap().status, 200);
    // It waits for its own stores, however long that takes: the unit never served this span.
    assert_eq!(east.state.agent_late_at().borrow().as_ref(), None);
    assert!(!page.is_finished());
    assert_eq!(east.backend.bodies(), ["order"]);
    east.agent.say_applied(Epoch::new(1, 10));
    assert_eq!(page.await.unwrap().status, 200);
}

#[tokio::test]
async fn an_agent_that_stays_behind_stops_no_write_of_what_the_unit_serves() {
    let world = World::new(short()).await;
    let east = world.unit("east");
    east.state.take_table(both(&world, "10: 8s0@1.9,8o0@1.10")).unwrap();
    until("its agent", || east.state.view.load().connected.is_some()).await;
    let connected = east.state.view.load().connected.unwrap();
    let mut served = Vec::new();
    for number in 0..5 {
        served.push(write(&world, "/orders", &number.to_string()));
        world.held("east", number + 1).await;
    }
    let opening = world.post("east", "s9", "opening");
    world.held("east", 6).await;
    for write in served {
        assert_eq!(write.await.unwrap().status, 200);
    }
    assert!(connected.elapsed() >= PATIENCE, "after {:?}", connected.elapsed());
    assert_eq!(east.backend.bodies(), ["0", "1", "2", "3", "4"], "in their order");
    // From now on nothing of that span waits.
    let began = Instant::now();
    assert_eq!(write(&world, "/orders", "later").await.unwrap().status, 200);
    assert_eq!(write(&world, "/pages", "page").await.unwrap().status, 200);
    assert!(began.elapsed() < PATIENCE, "after {:?}", began.elapsed());
    assert!(
        !opening.is_finished(),
        "what is new to the unit waits for the agent's word"
    );
    east.agent.say_applied_to("users", Epoch::new(1, 10));
    assert_eq!(opening.await.unwrap().status, 200);
}

#[tokio::test]
async fn patience_begins_anew_with_each_change_of_a_span() {
    let world = World::new(short()).await;
    let east = world.unit("east");
    world.give("east", "10: 16s0@1.10");
    until("its agent", || east.state.view.load().connected.is_some()).await;
    assert_eq!(world.post("east", "s1", "late").await.unwrap().status, 200);
    world.give("east", "11: 16f0@1.11");
    world.give("east", "12: 16s0@1.12");
    // The stores were fenced: most likely they open again in a moment.
    let aborted = world.post("east", "s1", "aborted");
    world.held("east", 1).await;
    // A table that does not change the span changes nothing of that.
    let late_at = *east.state.agent_late_at().borrow();
    world.give("east", "13: 16s0@1.12");
    assert!(late_at.is_some());
    assert_eq!(*east.state.agent_late_at().borrow(), late_at);
    east.agent.say_applied_to("users", Epoch::new(1, 12));
    assert_eq!(aborted.await.unwrap().status, 200);
}
