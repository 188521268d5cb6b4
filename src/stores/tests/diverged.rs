//! What a unit that was lost holds alone is listed, key by key with both versions, and stays listed when its rows are made those
//! of the new owner.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::ids::OperationUid;
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use multiactive_stores::driver::{Diverged, Peer, Waited};
use std::time::Duration;
use support::*;

const LONG: Duration = Duration::from_secs(20);

fn part() -> OperationUid {
    op("failover.1")
}

/// East is lost with rows that north did not get; north has taken over all of it and goes on; east is back, and closed.
async fn back() -> Vec<Member> {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let writer = app(&east.server).await;
    for id in ["same", "changed", "gone", "moved"] {
        insert(&writer, id, &key_of(1, 0)).await.unwrap();
    }
    stops(north, east, 4).await;
    writer
        .batch_execute("UPDATE orders SET amount = 5 WHERE id = 'changed'; DELETE FROM orders WHERE id = 'gone'")
        .await
        .unwrap();
    insert(&writer, "tail", &key_of(2, 0)).await.unwrap();
    // Written and taken back, and a key that was exchanged: what counts is how it stands now.
    writer
        .batch_execute(
            "INSERT INTO orders VALUES ('brief', 'u1'); DELETE FROM orders WHERE id = 'brief';
             UPDATE orders SET id = 'moved on' WHERE id = 'moved'; UPDATE orders SET amount = 9 WHERE id = 'same';
             UPDATE orders SET amount = 1 WHERE id = 'same'",
        )
        .await
        .unwrap();
    east.server.kill_9().await;
    let at = north.driver.cut(&east.unit, &part(), epoch(2)).await.unwrap();
    let wanted = wanted_of(&east.unit, at.position.as_deref().unwrap());
    let waited = north
        .driver
        .wait_for(&part(), epoch(2), &wanted, true, LONG)
        .await
        .unwrap();
    assert_eq!(waited, Waited::Reached);
    let mut brought = open(all(), 3);
    brought.brought_by = Some(part());
    north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap();
    extend(&north.driver, Duration::from_secs(1800)).await.unwrap();
    let writer = app(&north.server).await;
    writer
        .batch_execute("UPDATE orders SET amount = 7 WHERE id = 'changed'; DELETE FROM orders WHERE id = 'same'")
        .await
        .unwrap();
    insert(&writer, "new", &key_of(1, 0)).await.unwrap();
    east.server.restart().await.unwrap();
    east.driver.apply(epoch(3), &[closed(all(), 3)], LIMITS).await.unwrap();
    members
}

async fn listed(at: &Member, owner: &Member, slots: SlotSet) -> Diverged {
    let owners: [(Peer, SlotSet); 1] = [(peer(owner), slots)];
    at.driver.diverged(&op("failover"), &owners, LONG).await.unwrap()
}

/// Each row of the list: its key, and the amounts here and there.
async fn rows(at: &Member) -> Vec<(String, Option<String>, Option<String>)> {
    let sql = "SELECT key->>'id', mine->>'amount', theirs->>'amount' FROM multiactive.divergence ORDER BY 1";
    let rows = admin(&at.server).await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_that_the_owner_did_not_get_is_listed_with_both_versions_and_no_other() {
    let members = back().await;
    let [east, north] = &members[..] else { unreachable!() };
    let first = listed(east, north, all()).await;
    let row = |id: &str, mine: Option<&str>, theirs: Option<&str>| {
        (id.to_owned(), mine.map(str::to_owned), theirs.map(str::to_owned))
    };
    let want = vec![
        row("changed", Some("5"), Some("7")),
        row("gone", None, Some("1")),
        row("moved", None, Some("1")),
        row("moved on", Some("1"), None),
        // North deleted it later: what east wrote last was lost all the same.
        row("same", Some("1"), None),
        row("tail", Some("1"), None),
    ];
    assert_eq!(rows(east).await, want);
    assert_eq!((first.rows, first.unlisted.len(), first.rejoined), (6, 0, false));
    assert!(first.span.unwrap() > Duration::ZERO);
    assert_eq!(first.first[0].0, "orders");
    assert!(
        first.first.iter().any(|(_, key)| key.contains("tail")),
        "{:?}",
        first.first
    );

    // The rows become those of north; what was listed stays, and is not listed anew.
    east.driver.rejoin(&part()).await.unwrap();
    east.driver.reseed(&peer(north), LONG).await.unwrap();
    east.driver.rejoin(&op("failover")).await.unwrap();
    running(east, north).await;
    let after = listed(east, north, all()).await;
    assert_eq!(
        after,
        Diverged {
            rejoined: true,
            ..first
        }
    );
    assert_eq!(rows(east).await, want);
    insert(&app(&north.server).await, "later", &key_of(3, 0)).await.unwrap();
    rows_everywhere(&members, 5).await;
    let passed = east.driver.passed(&[part(), op("other")]).await.unwrap();
    assert_eq!(passed, [part()], "it has all that north opened with");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_slots_of_the_owner_are_listed_and_where_the_log_is_gone_it_says_so() {
    let members = back().await;
    let [east, north] = &members[..] else { unreachable!() };
    let some = listed(east, north, SlotSet::range(2, 2)).await;
    let ids: Vec<_> = rows(east).await.into_iter().map(|(id, ..)| id).collect();
    assert_eq!((some.rows, ids), (1, vec!["tail".to_owned()]));

    let there = admin(&east.server).await;
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
    there.batch_execute(sql).await.unwrap();
    let owners = [(peer(north), all())];
    let gone = east.driver.diverged(&op("another"), &owners, LONG).await.unwrap();
    assert_eq!(gone.rows, 0);
    assert!(
        gone.unlisted[0].contains("what north-1 did not get of it cannot be listed: its slot is gone"),
        "{:?}",
        gone.unlisted
    );
}
