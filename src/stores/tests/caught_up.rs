//! Whether what one unit has committed can be read at another, which is what bounded reads and reads of one's own writes ask.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::promotion::Progress;
use multiactive_core::wire::Caught;
use multiactive_stores::Driver;
use std::time::Duration;
use support::*;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_at_a_place_and_of_now_also_where_nobody_writes() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    let peer = support::peer(east);
    let of_now = async |limit| {
        north
            .driver
            .caught_up(&east.unit, Some(&peer), None, limit)
            .await
            .unwrap()
    };
    let of_itself = async || east.driver.caught_up(&east.unit, None, None, SHORT).await.unwrap();
    assert_eq!(of_now(LONG).await, Caught::No, "east writes nothing: another unit may");
    assert_eq!(of_itself().await, Caught::No);
    set_all(&east.driver, true, 1).await;
    assert_eq!(of_now(LONG).await, Caught::Yes);
    assert_eq!(of_itself().await, Caught::Yes);

    let writer = app(&east.server).await;
    for number in 0..20 {
        insert(&writer, &number.to_string(), "u1").await.unwrap();
        let place = east.driver.progress().await.unwrap();
        // Nobody writes behind it.
        let caught_up = north.driver.caught_up(&east.unit, Some(&peer), Some(&place), LONG);
        assert_eq!(caught_up.await.unwrap(), Caught::Yes);
        assert_eq!(count(&admin(&north.server).await).await, number + 1);
        // Where it was written it is there at once.
        let there = east.driver.caught_up(&east.unit, None, Some(&place), SHORT);
        assert_eq!(there.await.unwrap(), Caught::Yes);
    }
    // Without a lease it answers for nobody, but for what was written there.
    let place = east.driver.progress().await.unwrap();
    east.driver.expire().await.unwrap();
    assert_eq!(of_now(LONG).await, Caught::No);
    assert_eq!(of_itself().await, Caught::No);
    let there = east.driver.caught_up(&east.unit, None, Some(&place), SHORT);
    assert_eq!(there.await.unwrap(), Caught::Yes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_did_not_come_or_cannot_be_told_is_not_there() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let peer = support::peer(east);
    let writer = app(&east.server).await;
    insert(&writer, "first", "u1").await.unwrap();
    let place = east.driver.progress().await.unwrap();
    let shows = async |place: &Progress, limit| {
        let asked = north.driver.caught_up(&east.unit, Some(&peer), Some(place), limit);
        asked.await.unwrap()
    };
    assert_eq!(shows(&place, LONG).await, Caught::Yes);
    let other = Progress {
        log: "east-1/another".to_owned(),
        ..place.clone()
    };
    assert_eq!(shows(&other, LONG).await, Caught::No, "of another history");
    let ahead = Progress {
        at: place.at + (1 << 40),
        ..place.clone()
    };
    assert_eq!(shows(&ahead, SHORT).await, Caught::Late);
    let west = "west-1".into();
    let nobody = north.driver.caught_up(&west, None, Some(&place), LONG);
    assert_eq!(nobody.await.unwrap(), Caught::No, "no link comes from there");

    // The link stands still: the next write does not come.
    let here = admin(&north.server).await;
    let name: String = here
        .query_one("SELECT subname::text FROM pg_subscription", &[])
        .await
        .unwrap()
        .get(0);
    let set = async |what: &str| {
        here.batch_execute(&format!("ALTER SUBSCRIPTION {name} {what}"))
            .await
            .unwrap()
    };
    set("DISABLE").await;
    insert(&writer, "second", "u1").await.unwrap();
    let second = east.driver.progress().await.unwrap();
    assert_eq!(shows(&second, SHORT).await, Caught::Late);
    assert_eq!(shows(&place, SHORT).await, Caught::Yes);
    let of_now = north.driver.caught_up(&east.unit, Some(&peer), None, SHORT);
    assert_eq!(of_now.await.unwrap(), Caught::Late);
    set("ENABLE").await;
    assert_eq!(shows(&second, LONG).await, Caught::Yes);
    // Rows may be missing by it: nothing is told before they were compared.
    here.batch_execute("UPDATE multiactive.link SET gap = 'rows are missing'")
        .await
        .unwrap();
    assert_eq!(shows(&place, LONG).await, Caught::No);
}
