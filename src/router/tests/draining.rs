//! A router that ends: what is under way is answered, what waits is told so, and no connection breaks under a request.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common::{World, limits, until};
use multiactive_core::wire::RouterToAgent;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SERVING: &str = "10: 16s0@1.10";
const HELD: &str = "11: 16h0@1.11";

#[tokio::test]
async fn a_drain_answers_what_is_under_way_accepts_nothing_new_and_says_goodbye() {
    let world = World::with(limits(), SERVING).await;
    let east = world.unit("east");
    east.backend.set_open(false);
    let write = world.post("east", "s1", "under way");
    until("it is at the backend", || east.backend.got().len() == 1).await;
    let mut idle = TcpStream::connect(east.addr).await.unwrap();
    east.stop.cancel();
    east.tasks.close();
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0, "idle connections are closed");
    until("it accepts nothing new", || {
        std::net::TcpStream::connect(east.addr).is_err()
    })
    .await;
    assert!(!write.is_finished());
    east.backend.set_open(true);
    assert_eq!(write.await.unwrap().status, 200);
    east.tasks.wait().await;
    east.goodbye.cancel();
    until("goodbye", || east.agent.heard().last() == Some(&RouterToAgent::Goodbye)).await;
}

#[tokio::test]
async fn a_table_that_arrives_meanwhile_makes_nothing_ready_again() {
    let world = World::new(limits()).await;
    let east = &world.unit("east").state;
    east.begin_drain(Duration::from_secs(10));
    world.give("east", SERVING);
    assert_eq!(east.readiness.reason().as_deref(), Some("draining"));
    assert_eq!(
        world.get("east", "s1").await.status,
        200,
        "what comes all the same is served"
    );
}

#[tokio::test]
async fn what_is_held_is_answered_before_the_router_is_gone() {
    let world = World::with(limits(), SERVING).await;
    let east = world.unit("east");
    world.give_all(HELD);
    let held = world.post("east", "s1", "held");
    world.held("east", 1).await;
    east.state.begin_drain(Duration::from_millis(100));
    let answer = held.await.unwrap();
    assert_eq!(
        (answer.status, answer.reason(), answer.header("retry-after")),
        (503, "Draining", "1")
    );
    // One that comes later has no patience at all.
    let late = world.post("east", "s1", "late").await.unwrap();
    assert_eq!((late.status, late.reason()), (503, "Draining"));
    // Elsewhere it goes on waiting.
    let _other = world.post("north", "s1", "patient");
    world.held("north", 1).await;
    assert!(east.backend.got().is_empty());
}

#[tokio::test]
async fn each_answer_of_a_router_that_ends_closes_its_connection() {
    let world = World::with(limits(), SERVING).await;
    let east = world.unit("east");
    let mut client = TcpStream::connect(east.addr).await.unwrap();
    let request = b"GET /orders HTTP/1.1\r\nhost: a\r\nx-user-id: s1\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut answer = [0; 4096];
    let length = client.read(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(
        text.starts_with("HTTP/1.1 200 ") && !text.contains("connection: close"),
        "{text}"
    );
    east.state.begin_drain(Duration::from_secs(10));
    client.write_all(request).await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200 ") && text.contains("connection: close\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn no_connection_of_another_router_is_closed_under_a_forwarded_write() {
    let world = World::with(limits(), SERVING).await;
    let east = world.unit("east");
    assert_eq!(world.post("north", "s1", "first").await.unwrap().status, 200);
    assert_eq!(world.post("south", "s1", "first").await.unwrap().status, 200);
    // Both keep their connection. East ends, and listens no more.
    east.state.begin_drain(Duration::from_secs(10));
    east.stop.cancel();
    east.tasks.close();
    until("it accepts nothing new", || {
        std::net::TcpStream::connect(east.peer_addr).is_err()
    })
    .await;
    let answer = world.post("north", "s1", "second").await.unwrap();
    assert_eq!((answer.status, answer.header("x-multiactive-unit")), (200, "east"));
    // Its answer told north to leave; south's connection is closed once south would not use it any more.
    let answer = world.post("north", "s1", "third").await.unwrap();
    assert_eq!((answer.status, answer.reason()), (503, "RouterUnreachable"));
    tokio::time::timeout(Duration::from_secs(10), east.tasks.wait())
        .await
        .expect("all connections come to their end");
    assert_eq!(east.backend.bodies(), ["first", "first", "second"]);
}
