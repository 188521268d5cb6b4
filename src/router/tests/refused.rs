//! Writes that a service's database refused: sent again with their body, where the table of that moment says, for a while.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common::{World, limits, until};
use multiactive_router::limits::Limits;
use std::time::Duration;

/// east owns all.
const SERVING: &str = "10: 16s0@1.10";
/// north does.
const MOVED: &str = "11: 16s1@1.11";

#[tokio::test]
async fn a_write_that_was_refused_goes_again_until_it_is_taken() {
    let world = World::with(limits(), SERVING).await;
    for unit in ["east", "north"] {
        let backend = &world.unit("east").backend;
        backend.refuse(3);
        let before = backend.bodies().len();
        let answer = world.post(unit, "s3", format!("from {unit}")).await.unwrap();
        assert_eq!(
            (answer.status, &answer.body[..]),
            (200, format!("from {unit}").as_bytes())
        );
        assert_eq!(
            backend.bodies()[before..],
            vec![format!("from {unit}"); 4],
            "each time whole"
        );
        assert!(!answer.headers.contains_key("x-multiactive-refused"));
    }
}

#[tokio::test]
async fn it_goes_where_the_table_says_by_then() {
    let world = World::with(limits(), SERVING).await;
    world.unit("east").backend.refuse(usize::MAX);
    let write = world.post("east", "s3", "moves");
    until("the first attempt", || !world.unit("east").backend.bodies().is_empty()).await;
    world.give_all(MOVED);
    let answer = write.await.unwrap();
    assert_eq!((answer.status, answer.header("x-multiactive-unit")), (200, "north"));
    assert_eq!(world.unit("north").backend.bodies(), ["moves"]);
}

#[tokio::test]
async fn what_stays_refused_is_answered_as_the_service_did() {
    let limits = Limits {
        refused_time: Duration::from_millis(100),
        ..limits()
    };
    let world = World::with(limits, SERVING).await;
    world.unit("east").backend.refuse(usize::MAX);
    let answer = world.post("north", "s3", "never").await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (409, &b"refused"[..]));
    assert!(
        !answer.headers.contains_key("x-multiactive-refused"),
        "{:?}",
        answer.headers
    );
    assert!(world.unit("east").backend.bodies().len() > 1, "it was tried again");
}

#[tokio::test]
async fn a_read_and_a_body_that_is_not_kept_go_once() {
    let limits = Limits {
        kept_per_request: 16,
        ..limits()
    };
    let world = World::with(limits, SERVING).await;
    let backend = &world.unit("east").backend;
    backend.refuse(usize::MAX);
    assert_eq!(world.get("east", "s3").await.status, 409);
    assert_eq!(backend.got().len(), 1);
    assert_eq!(world.post("east", "s3", "x".repeat(1000)).await.unwrap().status, 409);
    assert_eq!(backend.got().len(), 2);
}

#[tokio::test]
async fn no_more_wait_than_may() {
    let limits = Limits {
        hold_requests: 1,
        ..limits()
    };
    let world = World::with(limits, SERVING).await;
    world.unit("east").backend.refuse(usize::MAX);
    let first = world.post("east", "s3", "first");
    until("it waits", || world.unit("east").backend.bodies().len() > 1).await;
    assert_eq!(world.post("east", "s4", "second").await.unwrap().status, 409, "at once");
    world.unit("east").backend.refuse(0);
    assert_eq!(first.await.unwrap().status, 200);
}
