//! What a link has told its peer to be there outlives a crash, also when its worker was started again just before.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_restarted_worker_has_confirmed_outlives_a_crash() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let (here, there) = (admin(&north.server).await, admin(&east.server).await);
    // The time between commit and flush by the server's own walwriter, made long so that a crash comes before it.
    here.batch_execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        .await
        .unwrap();
    here.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let delayed = async || {
        let row = here.query_one("SHOW wal_writer_delay", &[]).await.unwrap();
        let delay: String = row.get(0);
        (delay == "10s").then_some(()).ok_or(delay)
    };
    until("the setting", delayed).await;

    let writer = app(&east.server).await;
    for number in 0..30 {
        insert(&writer, &number.to_string(), "u1").await.unwrap();
    }
    let rows = async |wanted: i64| match count(&here).await {
        rows if rows == wanted => Ok(()),
        rows => Err(format!("{rows} of {wanted} rows")),
    };
    until("the rows", async || rows(30).await).await;
    let written: String = there
        .query_one("SELECT pg_current_wal_lsn()::text", &[])
        .await
        .unwrap()
        .get(0);
    here.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_subscription WHERE pid IS NOT NULL")
        .await
        .unwrap();
    until("the next worker to confirm all of it", async || {
        let sql = "SELECT active AND confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots";
        let row = there.query_one(sql, &[&written]).await.unwrap();
        row.get::<_, Option<bool>>(0)
            .filter(|confirmed| *confirmed)
            .ok_or_else(|| "not yet".to_owned())
    })
    .await;
    north.server.kill_9().await;
    north.server.restart().await.unwrap();

    insert(&writer, "last", "u1").await.unwrap();
    let here = admin(&north.server).await;
    until("what is written afterwards", async || {
        let sql = "SELECT FROM orders WHERE id = 'last'";
        let rows = here.query(sql, &[]).await.unwrap().len();
        (rows == 1).then_some(()).ok_or_else(|| "not there".to_owned())
    })
    .await;
    assert_eq!(count(&here).await, 31, "rows that the peer was told to be there");
}
