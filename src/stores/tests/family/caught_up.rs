//! Whether what one unit has committed can be read at another.

use super::support::*;
use super::writers::stop_links;
use multiactive_core::promotion::Progress;
use multiactive_core::wire::Caught;
use multiactive_stores::Driver;
use mysql_async::prelude::Queryable;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_at_a_place_and_of_now_also_where_nobody_writes() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    let from = peer(east);
    let of_now = async |limit| {
        let asked = north.driver.caught_up(&east.unit, Some(&from), None, limit);
        asked.await.unwrap()
    };
    let of_itself = async || east.driver.caught_up(&east.unit, None, None, SHORT).await.unwrap();
    assert_eq!(of_now(LONG).await, Caught::No, "east writes nothing: another unit may");
    assert_eq!(of_itself().await, Caught::No);
    set_all(&east.driver, true, 1).await;
    assert_eq!(of_now(LONG).await, Caught::Yes);
    assert_eq!(of_itself().await, Caught::Yes);

    let (mut writer, mut there) = (app(&east.server).await, admin(&north.server).await);
    for number in 0..50_u64 {
        let sql = format!("INSERT INTO orders (id, user_id) VALUES ('{number}', 'u1')");
        writer.query_drop(sql).await.unwrap();
        // Nobody writes behind it.
        if number % 2 == 0 {
            let place = east.driver.progress().await.unwrap();
            let caught_up = north.driver.caught_up(&east.unit, Some(&from), Some(&place), LONG);
            assert_eq!(caught_up.await.unwrap(), Caught::Yes);
            let here = east.driver.caught_up(&east.unit, None, Some(&place), SHORT);
            assert_eq!(here.await.unwrap(), Caught::Yes);
        } else {
            assert_eq!(of_now(LONG).await, Caught::Yes);
        }
        let sql = "SELECT COUNT(*) FROM shop.orders";
        assert_eq!(there.query_first::<u64, _>(sql).await.unwrap(), Some(number + 1));
    }
    // Without a lease it answers for nobody, but for what was written there.
    let place = east.driver.progress().await.unwrap();
    east.driver.expire().await.unwrap();
    assert_eq!(of_now(LONG).await, Caught::No);
    assert_eq!(of_itself().await, Caught::No);
    let here = east.driver.caught_up(&east.unit, None, Some(&place), SHORT);
    assert_eq!(here.await.unwrap(), Caught::Yes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_did_not_come_or_cannot_be_told_is_not_there() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let from = peer(east);
    let mut writer = app(&east.server).await;
    let mut order = async |id: &str| {
        let sql = format!("INSERT INTO orders (id, user_id) VALUES ('{id}', 'u1')");
        writer.query_drop(sql).await.unwrap();
    };
    order("first").await;
    let place = east.driver.progress().await.unwrap();
    let shows = async |place: &Progress, limit| {
        let asked = north.driver.caught_up(&east.unit, Some(&from), Some(place), limit);
        asked.await.unwrap()
    };
    assert_eq!(shows(&place, LONG).await, Caught::Yes);
    let other = Progress {
        log: "east-1/another".to_owned(),
        ..place.clone()
    };
    assert_eq!(shows(&other, LONG).await, Caught::No, "of another history");
    let ahead = Progress {
        at: place.at + 1000,
        ..place.clone()
    };
    assert_eq!(shows(&ahead, SHORT).await, Caught::Late);
    let west = "west-1".into();
    let nobody = north.driver.caught_up(&west, None, Some(&place), LONG);
    assert_eq!(nobody.await.unwrap(), Caught::No, "no link comes from there");

    // The link stands still: the next write does not come.
    stop_links(north).await;
    order("second").await;
    let second = east.driver.progress().await.unwrap();
    assert_eq!(shows(&second, SHORT).await, Caught::Late);
    assert_eq!(shows(&place, SHORT).await, Caught::Yes);
    let of_now = north.driver.caught_up(&east.unit, Some(&from), None, SHORT);
    assert_eq!(of_now.await.unwrap(), Caught::Late);
    running(north, east).await;
    assert_eq!(shows(&second, LONG).await, Caught::Yes);
    // Rows may be missing by it: nothing is told before they were compared.
    let mut here = admin(&north.server).await;
    let sql = "UPDATE multiactive.link SET gap = 'rows are missing'";
    here.query_drop(sql).await.unwrap();
    assert_eq!(shows(&place, LONG).await, Caught::No);
}
