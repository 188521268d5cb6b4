//! A fence that is given up: whoever waits for it goes away, or its whole process. Nothing of it stays behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_stores::driver::FenceLimits;
use multiactive_stores::{Driver, Postgres};
use std::time::Duration;
use support::*;
use tokio_postgres::Client;

/// Longer than anything here may take: what ends before, ends for another reason.
const PATIENT: FenceLimits = FenceLimits {
    deadline: Duration::from_secs(600),
    grace: Duration::from_secs(600),
};

/// A transaction of the application that holds a slot in the middle of the buckets.
async fn holder(member: &Member) -> Client {
    let idle = app(&member.server).await;
    idle.batch_execute("BEGIN").await.unwrap();
    insert(&idle, "idle", &key_of(40, 0)).await.unwrap();
    idle
}

/// Waits until a session of ours does, or does not, wait for a lock.
async fn waits(admin: &Client, wanted: bool) {
    until("the fence", async || {
        let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        let waiting: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
        ((waiting > 0) == wanted)
            .then_some(())
            .ok_or_else(|| format!("{waiting} wait"))
    })
    .await;
}

/// A write to a bucket that the fence had locked goes through, while the one that it waited for is still held.
async fn others_write(member: &Member, id: &str) {
    let writer = app(&member.server).await;
    insert(&writer, id, &key_of(3, 0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_nobody_waits_for_any_more_holds_up_no_writer() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let idle = holder(&member).await;
    let admin = admin(&member.server).await;
    let (uid, slots) = (op("p"), all());
    {
        let fence = member.driver.fence(&uid, epoch(2), &slots, PATIENT);
        let blocked = async {
            waits(&admin, true).await;
            until("its name", async || {
                let blockers = member.driver.blockers().await.unwrap();
                blockers.first().cloned().ok_or_else(|| "nobody".to_owned())
            })
            .await
        };
        let blocker = tokio::select! {
            fenced = fence => panic!("it did not wait: {fenced:?}"),
            blocker = blocked => blocker,
        };
        assert_eq!(blocker.user, "shop_app");
        assert!(blocker.query.starts_with("INSERT INTO orders"), "{blocker}");
    }
    waits(&admin, false).await;
    others_write(&member, "a").await;
    assert_eq!(member.driver.blockers().await.unwrap(), []);
    // The transaction that was in its way has lost nothing, and the next table opens what there is to open.
    idle.batch_execute("COMMIT").await.unwrap();
    set_all(&member.driver, true, 3).await;
    assert_eq!(member.driver.inspect().await.unwrap().open, all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_whose_program_died_holds_up_no_writer() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let idle = holder(&member).await;
    let admin = admin(&member.server).await;
    // A runtime that ends at once drops its tasks where they stand: its sockets close, and nobody says why.
    let program = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let driver = Postgres::new(spec("east-1", &[]), access(&member.server));
    program.spawn(async move { driver.fence(&op("p"), epoch(2), &all(), PATIENT).await.map(drop) });
    waits(&admin, true).await;
    program.shutdown_background();
    waits(&admin, false).await;
    others_write(&member, "a").await;
    idle.batch_execute("COMMIT").await.unwrap();
}
