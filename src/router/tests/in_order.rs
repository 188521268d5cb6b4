//! Writes of one slot that were held go on in the order in which they came, whatever connections they find.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common::{World, limits, tables, until};
use multiactive_router::limits::Limits;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on, the first one only once it is told to.
struct Relay {
    addr: SocketAddr,
    seen: Arc<AtomicUsize>,
    open: watch::Sender<bool>,
}

impl Relay {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            addr: listener.local_addr().unwrap(),
            seen: Arc::default(),
            open: watch::Sender::new(false),
        };
        let (seen, open) = (relay.seen.clone(), relay.open.clone());
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let first = seen.fetch_add(1, Ordering::SeqCst) == 0;
                let mut open = open.subscribe();
                tokio::spawn(async move {
                    if first {
                        open.wait_for(|open| *open).await.unwrap();
                    }
                    let mut there = TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                });
            }
        });
        relay
    }
}

#[tokio::test]
async fn a_write_whose_connection_is_slow_is_not_overtaken_by_the_next_of_its_slot() {
    let world = World::with(limits(), "10: 16s0@1.10").await;
    let relay = Relay::to(world.unit("south").peer_addr).await;
    world.give_all("11: 8h0@1.11,8s0@1.10");
    let first = world.post("east", "s3", "first");
    world.held("east", 1).await;
    let second = world.post("east", "s3", "second");
    world.held("east", 2).await;

    let moved = "12: 8s2@1.12,8s0@1.10";
    world.give("south", moved);
    world.applied("south", world.table(moved).epoch).await;
    let by_relay = tables::table(moved, |unit| match unit {
        "south" => relay.addr,
        other => world.unit(other).peer_addr,
    });
    world.unit("east").state.take_table(by_relay).unwrap();
    until("the first is on its way", || relay.seen.load(Ordering::SeqCst) > 0).await;
    let third = world.post("east", "s3", "third");
    // Another slot waits for nobody, and by its answer others have had their chance.
    let other = world.post("east", "s4", "other").await.unwrap();
    assert_eq!(other.status, 200);
    relay.open.send_replace(true);
    for write in [first, second, third] {
        assert_eq!(write.await.unwrap().status, 200);
    }
    let mut bodies = world.unit("south").backend.bodies();
    bodies.retain(|body| body != "other");
    assert_eq!(bodies, ["first", "second", "third"]);
    assert!(world.unit("east").state.hold.is_empty());
}

#[tokio::test]
async fn held_writes_of_a_slot_reach_the_service_one_after_the_other_for_a_while_and_then_at_once() {
    let patient = World::with(limits(), "10: 16s0@1.10").await;
    let hasty = Limits {
        order_time: Duration::ZERO,
        ..limits()
    };
    let hasty = World::with(hasty, "10: 16s0@1.10").await;
    for (world, at_a_time) in [(&patient, 1), (&hasty, 5)] {
        world.give_all("11: 16h0@1.11");
        let mut writes = Vec::new();
        for number in 0..5 {
            writes.push(world.post("east", "s3", number.to_string()));
            world.held("east", number + 1).await;
        }
        let backend = &world.unit("east").backend;
        backend.set_open(false);
        world.give_all("12: 16s0@1.12");
        world.applied("east", world.table("12: 16s0@1.12").epoch).await;
        until("the first are there", || backend.got().len() == at_a_time).await;
        // A write of another slot gets through meanwhile, but no further one of this slot.
        let other = world.post("east", "s4", "other");
        until("another slot", || backend.bodies().contains(&"other".to_owned())).await;
        assert_eq!(backend.got().len(), at_a_time + 1);
        backend.set_open(true);
        for write in writes.into_iter().chain([other]) {
            assert_eq!(write.await.unwrap().status, 200);
        }
        let mut bodies = backend.bodies();
        bodies.retain(|body| body != "other");
        if at_a_time == 1 {
            assert_eq!(bodies, ["0", "1", "2", "3", "4"]);
        }
    }
}
