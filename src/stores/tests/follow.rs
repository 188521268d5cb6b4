//! Members follow the fence of an operation by what it wrote into the source's log, before anybody tells them positions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

mod support;

use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::StorePosition;
use multiactive_stores::driver::{Driver, Waited};
use std::time::Duration;
use support::*;

const LONG: Duration = Duration::from_secs(15);
const SHORT: Duration = Duration::from_millis(300);

async fn follow(member: &Member, name: &str, at: Epoch, sources: &[UnitName], timeout: Duration) -> Waited {
    let waited = member.driver.follow(&op(name), at, sources, true, timeout).await;
    waited.unwrap()
}

fn not_come(waited: &Waited, unit: &str) -> bool {
    matches!(waited, Waited::TimedOut(why) if why.contains(&format!("the fence of {unit} has not come")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_has_reached_it_when_the_fence_and_all_before_it_arrived_and_may_open() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let sources = [east.unit.clone()];
    let waited = follow(north, "move", epoch(2), &sources, SHORT).await;
    assert!(not_come(&waited, "east-1"), "before the fence: {waited:?}");

    // Asked before the fence stands, and held up by a row that cannot be applied yet.
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    rows_everywhere(&members, 1).await;
    let holder = admin(&north.server).await;
    holder
        .batch_execute("BEGIN; SELECT FROM orders FOR UPDATE")
        .await
        .unwrap();
    app(&east.server)
        .await
        .batch_execute("UPDATE orders SET amount = 2")
        .await
        .unwrap();
    let fencing = async {
        east.driver.fence(&op("move"), epoch(2), &all(), LIMITS).await.unwrap();
        let waited = follow(north, "move", epoch(2), &sources, SHORT).await;
        assert!(
            not_come(&waited, "east-1"),
            "a row before the fence has not arrived: {waited:?}"
        );
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let (waited, ()) = tokio::join!(follow(north, "move", epoch(2), &sources, LONG), fencing);
    assert_eq!(waited, Waited::Reached);
    let amount = "SELECT amount::int4 FROM orders";
    assert_eq!(
        admin(&north.server)
            .await
            .query_one(amount, &[])
            .await
            .unwrap()
            .get::<_, i32>(0),
        2
    );

    let mut brought = open(all(), 3);
    brought.brought_by = Some(op("move"));
    assert!(north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap().opened > 0);
    // The log of the source may run again, from another operation: its own fence alone counts.
    let waited = follow(north, "another", epoch(2), &sources, SHORT).await;
    assert!(not_come(&waited, "east-1"), "another operation: {waited:?}");
    let waited = follow(north, "move", epoch(4), &sources, SHORT).await;
    assert!(not_come(&waited, "east-1"), "another epoch: {waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_without_the_fence_that_gave_it_is_not_reached() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    rows_everywhere(&members, 1).await;
    let beyond = east.driver.fence(&op("move"), epoch(2), &all(), LIMITS).await.unwrap();
    assert_eq!(
        follow(north, "move", epoch(2), std::slice::from_ref(&east.unit), LONG).await,
        Waited::Reached
    );
    // A number that is passed, as that of an earlier life of the log would be, and no fence of this operation there.
    let positions: [StorePosition; 1] = [beyond.position];
    let waited = north
        .driver
        .wait_for(&op("restored"), epoch(2), &positions, true, SHORT)
        .await
        .unwrap();
    assert!(not_come(&waited, "east-1"), "{waited:?}");
}
