//! A server dies in the middle of each verb.

use super::support::*;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_survives_the_death_of_a_server_in_the_middle() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let writer = app(&east.server).await;
    for number in 0..30 {
        insert(&writer, &number.to_string(), &key_of(number, 0)).await.unwrap();
    }
    // A fence that is held up when its server dies.
    let idle = app(&east.server).await;
    idle.batch_execute("BEGIN; INSERT INTO orders VALUES ('idle', 'u1')")
        .await
        .unwrap();
    let uid = op("p");
    let slots = all();
    let patient = multiactive_stores::driver::FenceLimits { grace: LONG, ..LIMITS };
    let watcher = admin(&east.server).await;
    let killing = async {
        until("the fence to wait", async || {
            let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
            let waiting: i64 = watcher.query_one(sql, &[]).await.unwrap().get(0);
            if waiting > 0 {
                Ok(())
            } else {
                Err("nobody waits".to_owned())
            }
        })
        .await;
        east.server.kill_9().await;
    };
    let (failed, ()) = tokio::join!(east.driver.fence(&uid, epoch(2), &slots, patient), killing);
    failed.expect_err("the server died");
    for (verb, result) in [
        (
            "apply",
            east.driver.apply(epoch(2), &[closed(all(), 2)], LIMITS).await.err(),
        ),
        ("install", east.driver.install().await.err()),
        ("inspect", east.driver.inspect().await.err()),
        ("position", east.driver.position().await.err()),
        (
            "checksum",
            east.driver.checksum(&slots, &KeyRange::default(), LONG).await.err(),
        ),
    ] {
        let error = result.unwrap_or_else(|| panic!("{verb} with a dead server"));
        assert_eq!(error.reason(), "Unreachable", "{verb}: {}", error.explain());
    }
    east.server.restart().await.unwrap();
    let fenced = east.driver.fence(&uid, epoch(2), &slots, LIMITS).await.unwrap();
    assert_eq!(
        count(&admin(&east.server).await).await,
        30,
        "what was acknowledged is there, the idle one is not"
    );

    // The replica dies while the position is awaited, and again after it was reached.
    let positions = [fenced.position.clone()];
    north.server.kill_9().await;
    let failed = north
        .driver
        .wait_for(&uid, epoch(2), &positions, true, LONG)
        .await
        .expect_err("dead");
    assert_eq!(failed.reason(), "Unreachable", "{}", failed.explain());
    north.server.restart().await.unwrap();
    running(north, east).await;
    assert_eq!(
        north
            .driver
            .wait_for(&uid, epoch(2), &positions, true, LONG)
            .await
            .unwrap(),
        Waited::Reached
    );
    north.server.kill_9().await;
    north.server.restart().await.unwrap();
    let mut brought = open(all(), 3);
    brought.brought_by = Some(uid.clone());
    let opened = north
        .driver
        .apply(epoch(3), &[brought.clone()], LIMITS)
        .await
        .unwrap()
        .opened;
    assert_eq!(opened, u64::from(SLOTS), "the record of the drain survived");
    // Opened, killed, opened again by the same table.
    north.server.kill_9().await;
    north.server.restart().await.unwrap();
    assert_eq!(
        north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap().opened,
        u64::from(SLOTS)
    );
    lease(&north.driver).await;
    running(north, east).await;
    running(east, north).await;
    insert(&app(&north.server).await, "moved", "u1").await.unwrap();
    rows_everywhere(&members, 31).await;
    let again = east.driver.fence(&uid, epoch(2), &slots, LIMITS).await.unwrap();
    assert_eq!(again.position, fenced.position, "the same answer, over all of it");
}
