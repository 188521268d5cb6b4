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
    for store in ["catalog", "prices", "stock"] {
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

#[tokio::test]
async fn a_bounded_read_is_local_while_its_age_is_known_and_within_the_bound() {
    let world = World::new(limits()).await;
    give(&world, 20, Some("north"), SpanState::Serving).await;
    // Nobody has said anything: nobody knows how old it is.
    assert_eq!(answered(&world, "east", "GET", "/stock").await, "north");
    // The writer's own rows are of now.
    assert_eq!(answered(&world, "north", "GET", "/stock").await, "north");
    let agent = &world.unit("east").agent;
    let becomes = async |want: &str| {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
        while answered(&world, "east", "GET", "/stock").await != want {
            assert!(std::time::Instant::now() < end, "reads are never answered by {want}");
        }
    };
    agent.say(|words| words.caught_up = true);
    becomes("east").await;
    // It falls behind: no later than the bound after the last time that it was not.
    agent.say(|words| words.caught_up = false);
    becomes("north").await;
    agent.say(|words| words.caught_up = true);
    becomes("east").await;
    // What was known goes with nobody's connection, and not on for ever.
    agent.say(|words| words.caught_up = false);
    agent.cut();
    becomes("north").await;
}

#[tokio::test]
async fn who_brings_the_place_of_a_write_reads_where_it_is_applied() {
    let world = World::new(limits()).await;
    give(&world, 20, Some("north"), SpanState::Serving).await;
    let write = |unit| world.send(unit, "PUT", "/catalog/7", &[], "new");
    // Where the agent does not say it, only the writer shows it.
    let answer = write("east").await.unwrap();
    assert_eq!(answer.header("x-multiactive-place"), "writer");
    let (east, north) = (&world.unit("east").agent, &world.unit("north").agent);
    north.say(|words| words.place = Some("north/1f@42".to_owned()));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
    while write("east").await.unwrap().header("x-multiactive-place") != "north/1f@42" {
        assert!(std::time::Instant::now() < end);
    }
    // Not where it would be of no use.
    let prices = world.send("east", "PUT", "/prices", &[], "").await.unwrap();
    assert!(!prices.headers.contains_key("x-multiactive-place"));
    let order = world.post("east", "s0", "").await.unwrap();
    assert!(!order.headers.contains_key("x-multiactive-place"));

    let read = async |place: &str| {
        let headers = [("x-multiactive-place", place)];
        let answer = world.send("east", "GET", "/catalog/7", &headers, "").await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("x-multiactive-unit").to_owned()
    };
    for place in ["writer", "", "north/1f@42", "no place", "/@"] {
        assert_eq!(read(place).await, "north", "{place:?}, without a word of the agent");
    }
    east.say(|words| words.shows = true);
    until_read(&read, "north/1f@42", "east").await;
    for place in ["writer", ""] {
        assert_eq!(read(place).await, "north", "{place:?}");
    }
    east.say(|words| words.shows = false);
    until_read(&read, "north/1f@42", "north").await;
    // It reaches no service.
    let kept = world.unit("north").backend.got();
    assert!(kept.iter().all(|got| !got.headers.contains_key("x-multiactive-place")));
}

async fn until_read(read: &impl AsyncFn(&str) -> String, place: &str, want: &str) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
    while read(place).await != want {
        assert!(std::time::Instant::now() < end, "never read at {want}");
    }
}
