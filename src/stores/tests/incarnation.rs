//! A database in the place of a member's: an empty one, a fresh receiver, and the same one restored from an older state.
//! None is taken for what it is not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_stores::driver::{Link, LinkState};
use multiactive_stores::{Driver, Error};
use support::*;

/// The same unit with an empty database: another server.
async fn emptied(unit: &str, peers: &[&str]) -> Member {
    let server = shop().await;
    let driver = driver(&server, unit, peers);
    driver.install().await.unwrap();
    Member {
        server,
        driver,
        unit: unit.into(),
    }
}

/// Waits until the link is broken for this reason.
async fn broken(to: &Member, from: &Member, says: &str) {
    let peer = peer(from);
    until(says, async || match to.driver.link(&peer).await.unwrap().state {
        LinkState::Broken(why) if why.contains(says) => Ok(()),
        other @ (LinkState::Broken(_)
        | LinkState::Starting(_)
        | LinkState::Lacks { .. }
        | LinkState::Running
        | LinkState::Cut(_)
        | LinkState::Quarantined(_)) => Err(format!("{other:?}")),
    })
    .await;
}

async fn gap(to: &Member, from: &Member) -> Option<String> {
    let link: Link = running(to, from).await;
    link.gap
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_database_is_not_taken_for_the_one_whose_rows_the_peers_hold() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    let before = east.driver.inspect().await.unwrap();
    assert!(before.opened);
    east.server.kill_9().await;

    let new = emptied("east-1", &["north-1"]).await;
    let seen = new.driver.inspect().await.unwrap();
    assert_ne!(seen.incarnation, before.incarnation);
    assert!(!seen.opened);
    broken(north, &new, "is another one").await;
    // It makes no slot there, so nothing opens: that much the database itself sees to.
    let early = new.driver.apply(epoch(1), &[open(all(), 1)], LIMITS).await;
    assert!(
        matches!(&early, Err(Error::LinksMissing { missing }) if missing == &["north-1"]),
        "{early:?}"
    );
    // A person brought the rows back, and says so. What came before is still to be compared.
    let there = admin(&new.server).await;
    insert(&there, "a", "u1").await.expect_err("closed for everybody");
    let sql = format!("UPDATE multiactive.store SET incarnation = '{}'", before.incarnation);
    there.batch_execute(&sql).await.unwrap();
    new.driver.install().await.unwrap();
    let gap = gap(north, &new).await.expect("rows may be missing");
    assert!(gap.contains("rows that east-1 wrote before may be missing"), "{gap}");
    new.driver.apply(epoch(1), &[open(all(), 1)], LIMITS).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_new_has_a_gap_where_rows_were_written_before_and_else_none() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    // Nobody could write yet: a new receiver misses nothing, with the slot of the first one or without.
    for slot_stays in [true, false] {
        north.server.kill_9().await;
        let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active";
        until("the slot to be idle", async || {
            let there = admin(&east.server).await;
            let sql_idle = "SELECT count(*) FROM pg_replication_slots WHERE NOT active";
            let idle: i64 = there.query_one(sql_idle, &[]).await.unwrap().get(0);
            (idle == 1 || !slot_stays)
                .then_some(())
                .ok_or_else(|| format!("{idle} idle"))
        })
        .await;
        if !slot_stays {
            admin(&east.server).await.batch_execute(sql).await.unwrap();
        }
        let new = emptied("north-1", &["east-1"]).await;
        assert_eq!(gap(&new, east).await, None, "slot stays: {slot_stays}");
        drop(new);
    }
    // Rows were written, and their slot stays, or not.
    set_all(&east.driver, true, 1).await;
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    for slot_stays in [true, false] {
        let there = admin(&east.server).await;
        until("the slot to be idle", async || {
            let sql = if slot_stays {
                "SELECT 1 FROM pg_replication_slots WHERE NOT active"
            } else {
                "SELECT pg_drop_replication_slot(slot_name) IS NULL FROM pg_replication_slots WHERE NOT active"
            };
            let rows = there.query(sql, &[]).await.unwrap();
            (rows.len() == 1).then_some(()).ok_or_else(|| "it is active".to_owned())
        })
        .await;
        let new = emptied("north-1", &["east-1"]).await;
        let gap = gap(&new, east)
            .await
            .unwrap_or_else(|| panic!("no gap told, slot stays: {slot_stays}"));
        assert!(gap.contains("this database had none"), "{gap}");
        drop(new);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_restored_from_an_older_state_is_told_by_what_its_peers_have_of_it() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let peers = [peer(north)];
    let snapshot = tempfile::tempdir().unwrap();
    let snapshot = snapshot.path().join("data");

    east.server.save(&snapshot).await.unwrap();
    east.server.restart().await.unwrap();
    set_all(&east.driver, true, 1).await;
    lease(&east.driver).await;
    running(north, east).await;
    let writer = app(&east.server).await;
    // More than a server writes by itself when it starts.
    for number in 0..40 {
        insert(&writer, &format!("{number}-{}", "x".repeat(5000)), "u1")
            .await
            .unwrap();
    }
    let here = admin(&north.server).await;
    until("the rows", async || match count(&here).await {
        40 => Ok(()),
        other => Err(format!("{other} rows")),
    })
    .await;
    // A server that merely died has all that others have of it.
    east.server.kill_9().await;
    east.server.restart().await.unwrap();
    assert_eq!(east.driver.went_back(&peers).await.unwrap(), Vec::<String>::new());
    running(north, east).await;

    east.server.bring_back(&snapshot).await.unwrap();
    east.server.restart().await.unwrap();
    let beyond = east.driver.went_back(&peers).await.unwrap();
    assert!(
        matches!(&beyond[..], [told] if told.contains("north-1 has applied this database's log up to")),
        "{beyond:?}"
    );
    // A peer that is away proves nothing, and holds up nothing for long.
    let mut away = peers.clone();
    away[0].port = 1;
    assert_eq!(east.driver.went_back(&away).await.unwrap(), Vec::<String>::new());
    // The receiver notices by itself, and does not forget.
    let gap = until("the gap", async || {
        let link = north.driver.link(&peer(east)).await.unwrap();
        link.gap.clone().ok_or_else(|| format!("{link:?}"))
    })
    .await;
    assert!(gap.contains("east-1's log went back"), "{gap}");
    // A person has brought the rows back there, and says so: the link is made anew, and the proof is gone; the gap stays.
    let sql = "UPDATE multiactive.store SET born = gen_random_uuid()";
    admin(&east.server).await.batch_execute(sql).await.unwrap();
    east.driver.install().await.unwrap();
    let link = until("the link to be made anew", async || {
        let link = north.driver.link(&peer(east)).await.unwrap();
        let beyond = east.driver.went_back(&peers).await.unwrap();
        let anew = beyond.is_empty() && link.state == LinkState::Running;
        anew.then_some(link.clone())
            .ok_or_else(|| format!("{link:?}, {beyond:?}"))
    })
    .await;
    assert!(link.gap.is_some(), "{link:?}");
    set_all(&east.driver, true, 1).await;
    lease(&east.driver).await;
    insert(&app(&east.server).await, "after", "u1").await.unwrap();
    until("what is written afterwards", async || {
        let row = here
            .query_one("SELECT count(*) FROM orders WHERE id = 'after'", &[])
            .await;
        let rows: i64 = row.unwrap().get(0);
        (rows == 1).then_some(()).ok_or_else(|| format!("{rows} rows"))
    })
    .await;
}
