//! A reply to a write is passed on only while the unit holds its write lease, as far as its agent has said.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common::{World, limits, until};
use multiactive_router::limits::Limits;
use std::time::Duration;

/// east owns all.
const SERVING: &str = "10: 16s0@1.10";

async fn lease(world: &World, left_ms: u64) {
    let east = world.unit("east");
    east.agent.say_left(left_ms);
    until("the agent's answer", || east.state.lease.is_over() == (left_ms == 0)).await;
}

/// Of which a write that may not go waits for a moment.
fn impatient() -> Limits {
    Limits {
        refused_time: Duration::from_millis(100),
        ..limits()
    }
}

#[tokio::test]
async fn writes_go_and_replies_pass_while_the_lease_goes_on_and_reads_always() {
    let world = World::with(impatient(), SERVING).await;
    for (left_ms, status) in [(60_000, 200), (0, 503), (60_000, 200)] {
        lease(&world, left_ms).await;
        for unit in ["east", "north"] {
            let answer = world.post(unit, "s3", "order").await.unwrap();
            assert_eq!(answer.status, status, "{left_ms} ms left, at {unit}");
            if status == 503 {
                assert_eq!(answer.reason(), "NoWriteLease");
            }
            assert_eq!(world.get(unit, "s3").await.status, 200);
            // Of what belongs to no slot nobody takes over anything.
            let page = world.send(unit, "POST", "/pages", &[], "").await.unwrap();
            assert_eq!(page.status, 200);
        }
    }
    let bodies = world.unit("east").backend.bodies();
    assert_eq!(
        bodies.iter().filter(|body| *body == "order").count(),
        4,
        "nothing is written without it"
    );
}

#[tokio::test]
async fn a_write_waits_for_a_lease_that_comes_back() {
    let world = World::with(limits(), SERVING).await;
    lease(&world, 0).await;
    let write = world.post("east", "s3", "waits");
    let waits = || {
        world
            .unit("east")
            .state
            .refused
            .load(std::sync::atomic::Ordering::Relaxed)
            == 1
    };
    until("the write waits", waits).await;
    lease(&world, 60_000).await;
    assert_eq!(write.await.unwrap().status, 200);
    assert_eq!(world.unit("east").backend.bodies(), ["waits"]);
}

#[tokio::test]
async fn what_an_agent_does_not_know_yet_changes_nothing_and_an_older_agent_is_not_held_to_what_another_said() {
    let world = World::with(impatient(), SERVING).await;
    let east = world.unit("east");
    lease(&world, 60_000).await;
    east.agent.say(|words| words.left_ms = None);
    let before = east.agent.answered();
    until("more answers", || {
        assert!(!east.state.lease.is_over());
        east.agent.answered() > before + 2
    })
    .await;
    lease(&world, 0).await;
    // Another agent takes its place, which answers no questions.
    east.agent.says_nothing();
    east.agent.cut();
    until("the older agent", || !east.state.lease.is_over()).await;
    assert_eq!(world.post("east", "s3", "order").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_lease_that_ends_while_the_service_is_at_work_ends_its_reply_too() {
    let world = World::with(limits(), SERVING).await;
    lease(&world, 60_000).await;
    let backend = &world.unit("east").backend;
    backend.set_open(false);
    let write = world.post("east", "s3", "late");
    until("the write at the service", || !backend.bodies().is_empty()).await;
    lease(&world, 0).await;
    backend.set_open(true);
    let answer = write.await.unwrap();
    assert_eq!((answer.status, answer.reason()), (504, "NoWriteLease"));
}

#[tokio::test]
async fn an_answer_that_is_late_lengthens_nothing() {
    let world = World::with(impatient(), SERVING).await;
    let east = world.unit("east");
    // Each answer gives less than it takes.
    east.agent
        .say(|words| (words.left_ms, words.takes) = (Some(200), Duration::from_millis(300)));
    until("an answer", || east.state.lease.is_over()).await;
    let before = east.agent.answered();
    until("more answers", || {
        assert!(east.state.lease.is_over(), "an answer counts from when it came");
        east.agent.answered() > before + 3
    })
    .await;
    assert_eq!(world.post("east", "s3", "order").await.unwrap().status, 503);
}

#[tokio::test]
async fn what_a_service_refuses_is_told_as_it_is_and_without_a_word_of_the_lease_the_database_decides() {
    let world = World::with(impatient(), SERVING).await;
    assert_eq!(world.post("east", "s3", "nothing was said").await.unwrap().status, 200);
    let backend = &world.unit("east").backend;
    backend.refuse(usize::MAX);
    backend.set_open(false);
    let write = world.post("east", "s3", "refused");
    until("the write at the service", || backend.bodies().len() == 2).await;
    lease(&world, 0).await;
    backend.set_open(true);
    let answer = write.await.unwrap();
    assert_ne!(answer.status, 504, "nothing was written: {answer:?}");
}
