//! Writes in flight: who counts, for how long, and what the agent hears of it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common;
use crate::common::{World, limits, until};
use multiactive_core::epoch::Epoch;
use multiactive_core::wire::{InFlight, RouterToAgent};
use multiactive_router::limits::Limits;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SERVING: &str = "10: 16s0@1.10";
const HELD: &str = "11: 16h0@1.11";
const ABORTED: &str = "12: 16s0@1.12";

/// The writes in flight in the last report of this epoch.
fn reported(world: &World, unit: &str, epoch: u64) -> Option<Vec<InFlight>> {
    let heard = world.unit(unit).agent.heard();
    heard.into_iter().rev().find_map(|line| match line {
        RouterToAgent::Report(report) if report.epoch == Epoch::new(1, epoch) => Some(report.in_flight),
        RouterToAgent::Report(_) | RouterToAgent::Goodbye | RouterToAgent::Ask { .. } => None,
    })
}

fn in_flight(writes: u64) -> Option<Vec<InFlight>> {
    let operation = "move".into();
    Some(vec![InFlight { operation, writes }])
}

#[tokio::test]
async fn a_write_admitted_before_the_hold_counts_until_it_is_answered() {
    let world = World::with(limits(), SERVING).await;
    until("a report", || reported(&world, "east", 10) == Some(vec![])).await;
    let east = &world.unit("east").backend;
    east.set_open(false);
    let own = world.post("east", "s1", "own");
    let forwarded = world.post("north", "s2", "forwarded");
    until("both are at the backend", || east.got().len() == 2).await;
    world.give_all(HELD);
    until("both count at the owner", || {
        reported(&world, "east", 11) == in_flight(2)
    })
    .await;
    // north passed one on: it does not own the slots and reports no operation.
    until("north reports", || reported(&world, "north", 11) == Some(vec![])).await;
    let held = world.post("east", "s3", "held");
    world.held("east", 1).await;
    east.set_open(true);
    assert_eq!(own.await.unwrap().status, 200);
    assert_eq!(forwarded.await.unwrap().status, 200);
    until("none is in flight", || reported(&world, "east", 11) == in_flight(0)).await;
    assert_eq!(east.bodies().len(), 2, "the held one was not admitted");
    world.give("east", ABORTED);
    world.applied("east", Epoch::new(1, 12)).await;
    assert_eq!(held.await.unwrap().status, 200);
    let reports = world.unit("east").agent.heard().len();
    assert_eq!(
        reports,
        4,
        "table 10, table 11 with two, zero, table 12: {:?}",
        world.unit("east").agent.heard()
    );
}

/// A backend that begins an answer to each request and never ends it.
async fn endless() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"the end") {
                request.push(stream.read_u8().await.unwrap());
            }
            let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nevent\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            open.push(stream);
        }
    });
    addr
}

#[tokio::test]
async fn an_answer_without_end_counts_for_a_moment_and_a_write_without_an_answer_for_as_long_as_it_takes() {
    let world = World::with(
        Limits {
            body_time: Duration::from_millis(300),
            ..limits()
        },
        SERVING,
    )
    .await;
    let east = world.unit("east");
    let counted = || {
        let (report, _) = east.state.report().unwrap();
        report.in_flight.first().map(|count| count.writes)
    };
    // A client that reads all that comes, and one that reads nothing of a large answer.
    let spec = common::tables::assignment("east", endless().await);
    east.state.take_assignment(&spec).unwrap();
    let mut streamed = TcpStream::connect(east.addr).await.unwrap();
    let request = "POST /orders HTTP/1.1\r\nhost: a\r\nx-user-id: s1\r\ncontent-length: 7\r\n\r\nthe end";
    streamed.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    streamed.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let spec = common::tables::assignment("east", east.backend.addr);
    east.state.take_assignment(&spec).unwrap();
    let mut deaf = TcpStream::connect(east.addr).await.unwrap();
    let large = vec![b'x'; 32 << 20];
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: a\r\nx-user-id: s2\r\ncontent-length: {}\r\n\r\n",
        large.len()
    );
    deaf.write_all(request.as_bytes()).await.unwrap();
    deaf.write_all(&large).await.unwrap();
    deaf.read_exact(&mut head).await.unwrap();
    // And one that the backend has not answered at all.
    east.backend.set_open(false);
    let unanswered = world.post("east", "s3", "unanswered");
    until("it is at the backend", || east.backend.got().len() == 2).await;
    world.give("east", HELD);
    assert_eq!(counted(), Some(3), "all three at first");
    until("the bodies count no more", || counted() == Some(1)).await;
    assert!(!unanswered.is_finished());
    east.backend.set_open(true);
    assert_eq!(unanswered.await.unwrap().status, 200);
    until("none is in flight", || reported(&world, "east", 11) == in_flight(0)).await;
    // The streams go on.
    let mut rest = [0; 4096];
    assert!(streamed.read(&mut rest).await.unwrap() > 0);
    assert!(deaf.read(&mut rest).await.unwrap() > 0);
}

#[tokio::test]
async fn the_agent_hears_when_a_body_counts_no_more() {
    let world = World::with(
        Limits {
            body_time: Duration::from_millis(300),
            ..limits()
        },
        SERVING,
    )
    .await;
    let east = world.unit("east");
    let spec = common::tables::assignment("east", endless().await);
    east.state.take_assignment(&spec).unwrap();
    let mut streamed = TcpStream::connect(east.addr).await.unwrap();
    let request = "POST /orders HTTP/1.1\r\nhost: a\r\nx-user-id: s1\r\ncontent-length: 7\r\n\r\nthe end";
    streamed.write_all(request.as_bytes()).await.unwrap();
    streamed.read_exact(&mut [0; 12]).await.unwrap();
    world.give("east", HELD);
    until("it counts", || reported(&world, "east", 11) == in_flight(1)).await;
    until("it counts no more", || reported(&world, "east", 11) == in_flight(0)).await;
    // Whoever streams is not cut off for it.
    assert!(streamed.read(&mut [0; 4096]).await.unwrap() > 0);
}
