//! Requests that are under way to a unit when it is lost: whoever sent them is not kept waiting for an answer that may never come.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common::{World, limits, until};
use multiactive_core::epoch::Epoch;
use multiactive_core::quarantine::Quarantined;
use multiactive_core::table::RoutingTable;
use tokio::net::TcpListener;

const SERVING: &str = "10: 16s0@1.10";
const STILL: &str = "11: 16s0@1.10";
const MOVED: &str = "12: 16s2@1.12";

/// A table in which east was lost.
fn lost(world: &World, table: &str) -> RoutingTable {
    let mut table = world.table(table);
    table.quarantined = vec![Quarantined {
        unit: "east".into(),
        since: Epoch::new(1, 11),
        by: "f".into(),
        name: "lost-east".to_owned(),
        accepted: None,
    }];
    table
}

#[tokio::test]
async fn who_waits_for_a_lost_unit_is_told_so_once_another_one_owns_the_slot() {
    let world = World::with(limits(), SERVING).await;
    let (east, north, south) = (world.unit("east"), world.unit("north"), world.unit("south"));
    east.backend.set_open(false);
    let write = world.post("north", "s3", "w");
    let read = world.send("north", "GET", "/orders/7", &[("x-user-id", "s3")], "");
    until("both are under way", || east.backend.got().len() == 2).await;

    // It may live still, and answer: nobody else owns the slot.
    for unit in [north, south] {
        unit.state.take_table(lost(&world, STILL)).unwrap();
    }
    let late = world.post("north", "s3", "late");
    until("a later one is under way, too", || east.backend.got().len() == 3).await;
    assert!(!write.is_finished() && !read.is_finished());

    for unit in [north, south] {
        unit.state.take_table(lost(&world, MOVED)).unwrap();
    }
    world.applied("south", Epoch::new(1, 12)).await;
    for write in [write, late] {
        let answer = write.await.unwrap();
        assert_eq!(
            (answer.status, answer.reason()),
            (504, "OwnerLost"),
            "nobody knows what came of it"
        );
    }
    let answer = read.await.unwrap();
    assert_eq!((answer.status, answer.header("x-multiactive-unit")), (200, "south"));
    assert_eq!(south.backend.got().len(), 1, "the read alone went again");
}

#[tokio::test]
async fn what_no_connection_has_taken_goes_to_the_new_owner() {
    let world = World::with(limits(), SERVING).await;
    let (north, south) = (world.unit("north"), world.unit("south"));
    // As the router of a region that stands still, or is cut off: it takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let there = |mut table: RoutingTable| {
        for unit in table.units.iter_mut().filter(|unit| unit.name.as_str() == "east") {
            unit.router = format!("https://{address}");
        }
        table
    };
    north.state.take_table(there(world.table(STILL))).unwrap();
    let write = world.post("north", "s3", "w");
    let _taken = silent.accept().await.unwrap();
    for unit in [north, south] {
        unit.state.take_table(there(lost(&world, MOVED))).unwrap();
    }
    world.applied("south", Epoch::new(1, 12)).await;
    let answer = write.await.unwrap();
    assert_eq!((answer.status, answer.header("x-multiactive-unit")), (200, "south"));
    assert_eq!(south.backend.bodies(), ["w"]);
}
