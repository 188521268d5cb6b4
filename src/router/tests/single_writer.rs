//! Stores that one unit writes: writes go to the writer's unit, reads are answered where they come in, where that may be.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod common;

use common::{UNITS, World, limits};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, UnitName};
use multiactive_core::slots::SlotSet;
use multiactive_core::span::SpanState;
use multiactive_core::table::{KeyspaceTable, RoutingTable};

const TABLE: &str = "12: 8s0@1.10,4s1@1.11,4u@0.0";

/// The table of `epoch` in which `owner` writes both stores, in this state.
fn table(world: &World, epoch: u64, owner: Option<&str>, state: SpanState) -> RoutingTable {
    let mut table = world.table(TABLE);
    table.epoch = Epoch::new(1, epoch);
    for store in ["catalog", "prices"] {
        let mut keyspace = KeyspaceTable::unowned(KeyspaceName::of_writer(&store.into()), 1);
        if let Some(owner) = owner {
            let (all, owner) = (SlotSet::range(0, 0), UnitName::from(owner));
            keyspace.set(&all, Some(&owner), state, table.epoch);
        }
        table.keyspaces.push(keyspace);
    }
    table.keyspaces.sort_by(|a, b| a.name.cmp(&b.name));
    table
}

async fn give(world: &World, epoch: u64, owner: Option<&str>, state: SpanState) {
    for unit in UNITS {
        world
            .unit(unit)
            .state
            .take_table(table(world, epoch, owner, state))
            .unwrap();
        world.applied(unit, Epoch::new(1, epoch)).await;
    }
}

/// Who answered, or why nobody did.
async fn answered(world: &World, unit: &str, method: &str, path: &str) -> String {
    let answer = world.send(unit, method, path, &[], "").await.unwrap();
    match answer.status {
        200 => answer.header("x-multiactive-unit").to_owned(),
        _ => answer.reason().to_owned(),
    }
}

#[tokio::test]
async fn writes_go_to_the_writer_and_reads_stay_where_they_may() {
    let world = World::new(limits()).await;
    for (epoch, writer) in [(20, "east"), (21, "north"), (22, "south")] {
        give(&world, epoch, Some(writer), SpanState::Serving).await;
        for unit in UNITS {
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                let by = answered(&world, unit, method, "/catalog/7").await;
                assert_eq!(by, writer, "{method} at {unit}");
            }
            // No key is asked for.
            assert_eq!(answered(&world, unit, "PUT", "/prices").await, writer, "at {unit}");
            assert_eq!(answered(&world, unit, "GET", "/prices").await, writer, "at {unit}");
            let reads = if unit == "south" { writer } else { unit };
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert_eq!(
                    answered(&world, unit, method, "/catalog/7").await,
                    reads,
                    "{method} at {unit}"
                );
            }
        }
    }
}

#[tokio::test]
async fn while_the_writer_moves_writes_wait_and_reads_do_not() {
    let world = World::new(limits()).await;
    give(&world, 20, Some("east"), SpanState::Held).await;
    let write = world.send("north", "PUT", "/catalog/7", &[], "new");
    world.held("north", 1).await;
    assert_eq!(answered(&world, "north", "GET", "/catalog/7").await, "north");
    assert_eq!(answered(&world, "east", "GET", "/catalog/7").await, "east");
    // Nobody can say how old the standby's rows are: its reads are the writer's, who answers them until it is fenced.
    assert_eq!(answered(&world, "south", "GET", "/catalog/7").await, "east");
    give(&world, 21, Some("north"), SpanState::Serving).await;
    let answer = write.await.unwrap();
    assert_eq!((answer.status, answer.header("x-multiactive-unit")), (200, "north"));
}

#[tokio::test]
async fn without_a_writer_there_are_local_reads_and_no_writes() {
    let world = World::new(limits()).await;
    give(&world, 20, None, SpanState::Unowned).await;
    assert_eq!(answered(&world, "east", "GET", "/catalog/7").await, "east");
    for (unit, method, path) in [
        ("east", "PUT", "/catalog/7"),
        ("south", "GET", "/catalog/7"),
        ("east", "GET", "/prices"),
    ] {
        assert_eq!(
            answered(&world, unit, method, path).await,
            "Unowned",
            "{method} {path} at {unit}"
        );
    }
}
