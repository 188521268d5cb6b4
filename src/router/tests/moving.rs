//! Writes while their span moves: held, released in order, sent again with their body, within limits.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common;
use crate::common::{World, limits, until};
use multiactive_core::epoch::Epoch;
use multiactive_router::limits::Limits;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const SERVING: &str = "10: 16s0@1.10";
const HELD: &str = "11: 16h0@1.11";
const FENCED: &str = "12: 16f0@1.12";
const OPENING: &str = "13: 16o2@1.13";
const MOVED: &str = "14: 16s2@1.14";
const ABORTED: &str = "12: 16s0@1.12";

#[tokio::test]
async fn writes_are_held_through_a_move_and_served_once_by_the_new_owner_while_reads_pass() {
    let world = World::with(limits(), SERVING).await;
    world.give_all(HELD);
    let writes: Vec<_> = common::UNITS
        .map(|unit| (unit, world.post(unit, "s3", format!("from {unit}"))))
        .into();
    for unit in common::UNITS {
        world.held(unit, 1).await;
        assert_eq!(
            world.get(unit, "s3").await.header("x-multiactive-unit"),
            "east",
            "reads pass"
        );
    }
    world.give_all(FENCED);
    // The units hear of the new owner one after the other.
    world.give("east", OPENING);
    world.give("north", OPENING);
    world.held("north", 0).await;
    assert!(
        world.unit("south").backend.got().is_empty(),
        "south does not know yet that it owns the slots"
    );
    world.give("south", OPENING);
    world.held("south", 3).await;
    assert!(
        world.unit("south").backend.got().is_empty(),
        "its stores do not take the writes yet"
    );
    world.applied("south", Epoch::new(1, 13)).await;
    for (unit, write) in writes {
        let answer = write.await.unwrap();
        assert_eq!(
            (answer.status, answer.header("x-multiactive-unit")),
            (200, "south"),
            "{unit}"
        );
        assert_eq!(answer.body, format!("from {unit}"));
    }
    let mut bodies = world.unit("south").backend.bodies();
    bodies.sort();
    assert_eq!(bodies, ["from east", "from north", "from south"], "each exactly once");
    assert!(world.unit("east").backend.got().iter().all(|got| got.method == "GET"));
    world.give_all(MOVED);
    assert_eq!(world.get("east", "s3").await.header("x-multiactive-unit"), "south");
}

#[tokio::test]
async fn held_writes_of_a_slot_are_released_in_the_order_of_their_arrival() {
    let world = World::with(limits(), SERVING).await;
    world.give("east", HELD);
    let mut writes = Vec::new();
    for number in 0..20 {
        writes.push(world.post("east", &format!("s{}", number % 4), format!("{number:02}")));
        world.held("east", number + 1).await;
    }
    world.give("east", ABORTED);
    assert!(
        world.unit("east").backend.got().is_empty(),
        "the stores are not open again yet"
    );
    world.applied("east", Epoch::new(1, 12)).await;
    for write in writes {
        assert_eq!(write.await.unwrap().status, 200);
    }
    let bodies = world.unit("east").backend.bodies();
    assert_eq!(bodies.len(), 20);
    for slot in 0..4 {
        let of_slot: Vec<usize> = bodies.iter().map(|body| body.parse().unwrap()).collect();
        let of_slot: Vec<_> = of_slot.into_iter().filter(|number| number % 4 == slot).collect();
        assert!(of_slot.is_sorted(), "slot {slot}: {bodies:?}");
    }
}

#[tokio::test]
async fn the_first_router_learns_by_421_waits_and_sends_the_body_again() {
    let world = World::with(limits(), "10: 16s1@1.10").await;
    // The owner is fenced already; east has not heard of it.
    world.give("north", "12: 16f1@1.12");
    let body: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let write = world.post("east", "s5", body.clone());
    world.held("east", 1).await;
    assert!(world.unit("east").state.budget.used() > 0, "the body is kept");
    assert_eq!(world.unit("east").state.metrics.resent.get(), 1);
    world.give("east", "12: 16f1@1.12");
    world.held("east", 1).await;
    world.give("south", OPENING);
    world.applied("south", Epoch::new(1, 13)).await;
    world.give("east", OPENING);
    let answer = write.await.unwrap();
    assert_eq!((answer.status, answer.header("x-multiactive-unit")), (200, "south"));
    assert!(answer.body == body, "the whole body");
    assert!(world.unit("north").backend.got().is_empty());
    assert_eq!(world.unit("south").backend.got().len(), 1);
    until("nothing is kept any more", || {
        world.unit("east").state.budget.used() == 0
    })
    .await;
}

#[tokio::test]
async fn a_request_of_another_router_is_never_passed_on_to_a_third() {
    let world = World::with(limits(), "10: 16s1@1.10").await;
    // north knows that south owns the slots; east still sends to north.
    world.give("north", MOVED);
    world.give("south", MOVED);
    let read = world.send("east", "GET", "/orders", &[("x-user-id", "s5")], "");
    world.held("east", 1).await;
    assert!(world.unit("south").backend.got().is_empty() && world.unit("north").backend.got().is_empty());
    world.give("east", MOVED);
    let answer = read.await.unwrap();
    assert_eq!((answer.status, answer.header("x-multiactive-unit")), (200, "south"));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_where_it_would_have_to_be_sent_again() {
    let world = World::with(
        Limits {
            kept_per_request: 1_000,
            ..limits()
        },
        "10: 16s1@1.10",
    )
    .await;
    world.give("north", "12: 16f1@1.12");
    let answer = world.post("east", "s5", vec![7; 500_000]).await.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!((answer.reason(), answer.header("retry-after")), ("BodyTooLarge", "1"));
    assert!(world.unit("north").backend.got().is_empty());
}

#[tokio::test]
async fn what_cannot_wait_is_refused_and_may_be_tried_again() {
    let few = World::with(
        Limits {
            hold_requests: 1,
            ..limits()
        },
        SERVING,
    )
    .await;
    few.give("east", HELD);
    let first = few.post("east", "s1", "first");
    few.held("east", 1).await;
    let refused = few.post("east", "s1", "second").await.unwrap();
    assert_eq!(
        (refused.status, refused.reason(), refused.header("retry-after")),
        (503, "HoldFull", "1")
    );
    few.give("east", ABORTED);
    few.applied("east", Epoch::new(1, 12)).await;
    assert_eq!(first.await.unwrap().status, 200);

    let short = World::with(
        Limits {
            hold_time: Duration::from_millis(50),
            ..limits()
        },
        SERVING,
    )
    .await;
    short.give("east", HELD);
    let refused = short.post("east", "s1", "x").await.unwrap();
    assert_eq!(
        (refused.status, refused.reason(), refused.header("retry-after")),
        (503, "HoldTime", "1")
    );
    short.held("east", 0).await;

    let small = World::with(
        Limits {
            kept_total: 10_000,
            ..limits()
        },
        SERVING,
    )
    .await;
    small.give("east", HELD);
    let refused = small.post("east", "s1", vec![7; 20_000]).await.unwrap();
    assert_eq!(
        (refused.status, refused.reason(), refused.header("retry-after")),
        (503, "HoldBytes", "1")
    );
    small.held("east", 0).await;
    assert_eq!(small.unit("east").state.budget.used(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let world = World::with(limits(), SERVING).await;
    world.give("east", HELD);
    // Whole body sent, half of it sent, none announced.
    for request in [
        "POST /orders HTTP/1.1\r\nhost: a\r\nx-user-id: s1\r\ncontent-length: 4\r\n\r\nbody",
        "POST /orders HTTP/1.1\r\nhost: a\r\nx-user-id: s1\r\ncontent-length: 4\r\n\r\nbo",
        "POST /orders HTTP/1.1\r\nhost: a\r\nx-user-id: s1\r\n\r\n",
    ] {
        let mut client = TcpStream::connect(world.unit("east").addr).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        world.held("east", 1).await;
        drop(client);
        world.held("east", 0).await;
        assert_eq!(world.unit("east").state.budget.used(), 0);
    }
    world.give("east", ABORTED);
    world.applied("east", Epoch::new(1, 12)).await;
    assert_eq!(world.post("east", "s1", "later").await.unwrap().status, 200);
    assert_eq!(
        world.unit("east").backend.bodies(),
        ["later"],
        "none of the others was sent"
    );
}

#[tokio::test]
async fn the_agents_word_outlives_its_connection_and_a_lost_one_is_made_again() {
    let world = World::with(limits(), SERVING).await;
    let east = world.unit("east");
    until("hello", || east.agent.hellos().len() == 1).await;
    let hello = &east.agent.hellos()[0];
    assert_eq!(
        (hello.namespace.as_str(), hello.unit.as_str(), hello.router.as_str()),
        ("shop", "east", "east-router-0")
    );
    east.agent.cut();
    until("hello again", || east.agent.hellos().len() == 2).await;
    until("its report again", || east.agent.heard().len() == 2).await;
    assert_eq!(world.post("east", "s1", "x").await.unwrap().status, 200);
}
