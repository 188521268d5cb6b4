//! Stores that one unit writes: writes go to the writer's unit, reads are answered where they come in, where that may be.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common::{UNITS, World, limits, until};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, UnitName};
use multiactive_core::slots::SlotSet;
use multiactive_core::span::SpanState;
use multiactive_core::table::{KeyspaceTable, RoutingTable};
use multiactive_core::wire::Caught;

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

/// Reads until they are answered so.
async fn becomes(world: &World, unit: &str, want: &str) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
    loop {
        let got = answered(world, unit, "GET", "/stock").await;
        if got == want {
            return;
        }
        assert!(
            std::time::Instant::now() < end,
            "reads at {unit} are answered by {got}, not {want}"
        );
    }
}

#[tokio::test]
async fn a_bounded_read_is_local_while_its_age_is_known_and_within_the_bound() {
    let world = World::new(limits()).await;
    give(&world, 20, Some("north"), SpanState::Serving).await;
    let (east, north) = (&world.unit("east").agent, &world.unit("north").agent);
    // Nobody has said anything: nobody knows how old it is, nor whether the writer still is one.
    for unit in UNITS {
        assert_eq!(answered(&world, unit, "GET", "/stock").await, "TooOld", "at {unit}");
    }
    // A read at the writer's unit does not go by what was said last alone: it asks.
    north.say(|words| words.caught_up = Caught::Yes);
    for unit in UNITS {
        assert_eq!(answered(&world, unit, "GET", "/stock").await, "north", "at {unit}");
    }
    east.say(|words| words.caught_up = Caught::Yes);
    becomes(&world, "east", "east").await;
    // It falls behind: no later than the bound after the last time that it was not.
    east.say(|words| words.caught_up = Caught::Late);
    becomes(&world, "east", "north").await;
    east.say(|words| words.caught_up = Caught::Yes);
    becomes(&world, "east", "east").await;
    // Rows may be missing there: whatever was known is not true any more.
    east.say(|words| words.caught_up = Caught::No);
    becomes(&world, "east", "north").await;
    // What was known goes not on for ever when the connection breaks.
    east.say(|words| words.caught_up = Caught::Yes);
    becomes(&world, "east", "east").await;
    east.say(|words| words.caught_up = Caught::Late);
    east.cut();
    becomes(&world, "east", "north").await;
    // A writer that was fenced, and whose router has not heard of it.
    north.say(|words| words.caught_up = Caught::No);
    becomes(&world, "north", "TooOld").await;
    assert_eq!(answered(&world, "south", "GET", "/stock").await, "TooOld");
    assert_eq!(
        answered(&world, "north", "GET", "/catalog/7").await,
        "north",
        "without a bound"
    );
}

#[tokio::test]
async fn a_unit_that_was_lost_answers_no_read_by_itself_whatever_its_assignment_says() {
    let world = World::new(limits()).await;
    give(&world, 20, Some("north"), SpanState::Serving).await;
    assert_eq!(answered(&world, "east", "GET", "/catalog/7").await, "east");
    let mut table = table(&world, 21, Some("north"), SpanState::Serving);
    table.quarantined = vec![multiactive_core::quarantine::Quarantined {
        unit: "east".into(),
        since: Epoch::new(1, 21),
        by: "f".into(),
        name: "lost-east".to_owned(),
        accepted: None,
    }];
    for unit in UNITS {
        world.unit(unit).state.take_table(table.clone()).unwrap();
    }
    assert_eq!(answered(&world, "east", "GET", "/catalog/7").await, "north");
}

/// Writes, and says which place was told.
async fn place_of(world: &World, path: &str) -> String {
    let answer = world.send("east", "PUT", path, &[], "new").await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-multiactive-place").to_owned()
}

#[tokio::test]
async fn the_answer_to_a_write_tells_its_place_whoever_writes() {
    let world = World::new(limits()).await;
    // South only stands by, and is the writer all the same.
    for (epoch, writer) in [(20, "north"), (21, "south")] {
        give(&world, epoch, Some(writer), SpanState::Serving).await;
        let want = format!("{writer}/1f@42");
        // Where the agent does not say it, only the writer shows it.
        assert_eq!(place_of(&world, "/catalog/7").await, "writer");
        world.unit(writer).agent.say(|words| words.place = Some(want.clone()));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
        while place_of(&world, "/catalog/7").await != want {
            assert!(std::time::Instant::now() < end);
        }
    }
    // Not where it would be of no use.
    assert_eq!(place_of(&world, "/prices").await, "");
    let order = world.post("east", "s0", "").await.unwrap();
    assert!(!order.headers.contains_key("x-multiactive-place"));
}

#[tokio::test]
async fn who_brings_the_place_of_a_write_reads_where_it_is_applied() {
    let world = World::new(limits()).await;
    give(&world, 20, Some("north"), SpanState::Serving).await;
    let (east, north) = (&world.unit("east").agent, &world.unit("north").agent);
    let read = async |unit: &str, place: &str| {
        let headers = [("x-multiactive-place", place)];
        let answer = world.send(unit, "GET", "/catalog/7", &headers, "").await.unwrap();
        match answer.status {
            200 => answer.header("x-multiactive-unit").to_owned(),
            _ => answer.reason().to_owned(),
        }
    };
    let until_read = async |unit: &str, place: &str, want: &str| {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
        while read(unit, place).await != want {
            assert!(std::time::Instant::now() < end, "{place} is never answered by {want}");
        }
    };
    let long = format!("north/{}@42", "\"".repeat(16_000));
    let places = [
        "writer",
        "",
        "north/1f@42",
        "west/1f@42",
        "no place",
        "/@",
        "@",
        long.as_str(),
    ];
    // Nobody vouches for anything, not for the writer either.
    for place in places {
        assert_eq!(read("east", place).await, "TooOld", "{place:.20?}");
    }
    // A writer that may still write shows whatever was acknowledged.
    north.say(|words| (words.caught_up, words.shows) = (Caught::Yes, Caught::Yes));
    until_read("north", "writer", "north").await;
    for place in places {
        for unit in ["east", "north"] {
            assert_eq!(read(unit, place).await, "north", "{place:.20?} at {unit}");
        }
    }
    east.say(|words| words.shows = Caught::Yes);
    until_read("east", "north/1f@42", "east").await;
    for place in ["writer", "", "no place", long.as_str()] {
        assert_eq!(read("east", place).await, "north", "{place:.20?}");
    }
    east.say(|words| words.shows = Caught::Late);
    until_read("east", "north/1f@42", "north").await;
    // The agent is asked all the same: no place cuts the router off from it.
    let before = east.answered();
    until("more answers", || east.answered() > before + 2).await;
    // It reaches no service.
    let kept = world.unit("north").backend.got();
    assert!(kept.iter().all(|got| !got.headers.contains_key("x-multiactive-place")));
}
