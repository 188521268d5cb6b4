//! The disk of the member that shall take over is full: what it is to receive waits, and is not taken for received; once somebody
//! has made room it goes on by itself, and has every row.

#[path = "../common/small_disk.rs"]
mod small_disk;

use crate::support::*;
use multiactive_stores::Driver;
use multiactive_stores::driver::Waited;
use mysql_async::prelude::Queryable;
use small_disk::{SmallDisk, inside};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_space_waits_and_is_not_lost() {
    if !inside("full_disk::what_finds_no_space_waits_and_is_not_lost") {
        return;
    }
    let servers = [shop().await, shop().await];
    let disk = SmallDisk::of(servers[1].pid().unwrap());
    let mut there = admin(&servers[1]).await;
    let table = "DROP TABLE shop.orders;
        CREATE TABLE shop.orders (id VARCHAR(190) PRIMARY KEY, user_id VARCHAR(190) NOT NULL, amount INT NOT NULL DEFAULT 1)";
    let there_on_it = format!("{table} DATA DIRECTORY = '{}'", disk.path().display());
    there.query_drop(there_on_it).await.unwrap();
    let [east, north] = servers;
    let members = [
        installed(east, "east-1", &["north-1"]).await,
        installed(north, "north-1", &["east-1"]).await,
    ];
    link_all(&members).await;
    let [east, north] = &members;
    set_all(&east.driver, true, 1).await;
    set_all(&north.driver, false, 1).await;
    let mut app = app(&east.server).await;
    insert(&mut app, "before", "user-1").await.unwrap();
    rows_everywhere(&members, 1).await;

    disk.fill();
    let many = "INSERT INTO orders (id, user_id) SELECT CONCAT('full-', seq), CONCAT('user-', seq) FROM seq_1_to_5000";
    app.query_drop(many).await.unwrap();
    let (uid, at) = (op("move"), epoch(2));
    let fenced = east.driver.fence(&uid, at, &all(), LIMITS).await.unwrap();
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
    assert_eq!(count(&mut there).await, 1, "no part of a transaction is there");

    disk.make_room();
    running(north, east).await;
    let reached = north
        .driver
        .wait_for(&uid, at, &positions, true, Duration::from_secs(15))
        .await
        .unwrap();
    assert_eq!(reached, Waited::Reached);
    rows_everywhere(&members, 5_001).await;
    let link = &north.driver.links().await.unwrap()[0];
    assert_eq!(link.gap, None, "nothing was skipped");
}
