//! The clock of a server that is set while it runs.

use super::support::*;
use multiactive_stores::Driver;
use mysql_async::prelude::Queryable;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_clock_that_was_set_back_writers_are_ended_at_the_deadline_all_the_same() {
    let clock = true;
    let server = shop_of(Options {
        clock,
        ..Options::default()
    });
    let member = installed(server.await, "east-1", &[]).await;
    set_all(&member.driver, true, 1).await;
    let mut writer = app(&member.server).await;
    insert(&mut writer, "a", "u1").await.unwrap();
    let before = member.driver.clock().await.unwrap();
    member.server.set_clock(-3600).unwrap();
    until("the clock to be set back", async || {
        let now = member.driver.clock().await.unwrap();
        (now < before).then_some(()).ok_or(format!("{now:?}"))
    })
    .await;
    let refused = insert(&mut writer, "b", "u1").await;
    refused.expect_err("the lease begins only in an hour");
    extend(&member.driver, Duration::from_secs(2)).await.expect("a lease");
    writer.query_drop("BEGIN").await.unwrap();
    insert(&mut writer, "c", "u1").await.unwrap();
    let mut admin = admin(&member.server).await;
    until("the end of the lease", async || {
        let closed: Option<bool> = admin.query_first("SELECT @@global.read_only").await.unwrap();
        closed.unwrap_or_default().then_some(()).ok_or("open".to_owned())
    })
    .await;
    writer.query_drop("COMMIT").await.expect_err("its session was ended");
    assert_eq!(count(&mut admin).await, 1);
}
