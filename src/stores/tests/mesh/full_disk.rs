//! The disk of the member that shall take over is full: what it is to receive waits, and is not taken for received; once somebody
//! has made room it goes on by itself, and has every row.

#[path = "../common/small_disk.rs"]
mod small_disk;

use super::LONG;
use super::support::*;
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use multiactive_stores::driver::Waited;
use small_disk::{SmallDisk, inside};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_space_waits_and_is_not_lost() {
    if !inside("full_disk::what_finds_no_space_waits_and_is_not_lost") {
        return;
    }
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    let disk = SmallDisk::of(north.server.pid().unwrap());
    let there = admin(&north.server).await;
    for sql in [
        &format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display()),
        "ALTER TABLE orders SET TABLESPACE small",
        "ALTER INDEX orders_pkey SET TABLESPACE small",
    ] {
        there.batch_execute(sql).await.unwrap();
    }
    set_all(&east.driver, true, 1).await;
    set_all(&north.driver, false, 1).await;
    let app = app(&east.server).await;
    insert(&app, "before", "user-1").await.unwrap();
    rows_everywhere(&members, 1).await;

    disk.fill();
    let many = "INSERT INTO orders (id, user_id) SELECT 'full-' || n, 'user-' || n FROM generate_series(1, 5000) n";
    app.batch_execute(many).await.unwrap();
    let (uid, at) = (op("move"), epoch(2));
    let all = SlotSet::range(0, 255);
    let fenced = east.driver.fence(&uid, at, &all, LIMITS).await.unwrap();
    let positions = [fenced.position];
    let said = until("north says that a link does not run", async || {
        let waited = north
            .driver
            .wait_for(&uid, at, &positions, true, Duration::from_secs(1))
            .await;
        match waited.unwrap() {
            Waited::LinkBroken(why) => Ok(why),
            other @ (Waited::Reached | Waited::TimedOut(_)) => Err(format!("{other:?}")),
        }
    })
    .await;
    println!("{said}");
    assert_eq!(count(&there).await, 1, "no part of a transaction is there");

    disk.make_room();
    let reached = north.driver.wait_for(&uid, at, &positions, true, LONG).await.unwrap();
    assert_eq!(reached, Waited::Reached);
    running(north, east).await;
    rows_everywhere(&members, 5001).await;
    let link = &north.driver.links().await.unwrap()[0];
    assert_eq!(link.gap, None, "nothing was skipped");
}
