//! What a unit that was lost holds alone is listed, key by key with both versions, and stays listed when its rows are made those
//! of the new owner.

use super::support::*;
use super::writers::*;
use multiactive_core::ids::OperationUid;
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use multiactive_stores::driver::{Diverged, Peer, Waited};
use mysql_async::prelude::Queryable;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

fn part() -> OperationUid {
    op("failover.1")
}

/// East is lost with rows that north did not get; north has taken over all of it and goes on; east is back, and closed.
async fn back() -> Vec<Member> {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    let mut writer = app(&east.server).await;
    for id in ["same", "changed", "gone", "moved", "theirs"] {
        insert(&mut writer, id, &key_of(1, 0)).await.unwrap();
    }
    rows_everywhere(&members, 5).await;
    stop_links(north).await;
    for sql in [
        "UPDATE orders SET amount = 5 WHERE id = 'changed'",
        "DELETE FROM orders WHERE id = 'gone'",
    ] {
        writer.query_drop(sql).await.unwrap();
    }
    insert(&mut writer, "tail", &key_of(2, 0)).await.unwrap();
    // Written and taken back, and a key that was exchanged: what counts is how it stands now.
    for sql in [
        "INSERT INTO orders VALUES ('brief', 'u1', 1)",
        "DELETE FROM orders WHERE id = 'brief'",
        "UPDATE orders SET id = 'moved on' WHERE id = 'moved'",
        "UPDATE orders SET amount = 9 WHERE id = 'same'",
        "UPDATE orders SET amount = 1 WHERE id = 'same'",
    ] {
        writer.query_drop(sql).await.unwrap();
    }
    east.server.kill_9().await;
    let at = north.driver.cut(&east.unit, &part(), epoch(2)).await.unwrap();
    let wanted = wanted_of(&east.unit, at.position.as_deref().unwrap());
    let driver = &north.driver;
    let waited = driver.wait_for(&part(), epoch(2), &wanted, true, LONG).await;
    assert_eq!(waited.unwrap(), Waited::Reached);
    let mut brought = open(all(), 3);
    brought.brought_by = Some(part());
    driver.apply(epoch(3), &[brought], LIMITS).await.unwrap();
    let mut writer = app(&north.server).await;
    for sql in [
        "UPDATE orders SET amount = 7 WHERE id = 'changed'",
        // What north got is north's to change.
        "UPDATE orders SET amount = 8 WHERE id = 'theirs'",
        "DELETE FROM orders WHERE id = 'same'",
    ] {
        writer.query_drop(sql).await.unwrap();
    }
    insert(&mut writer, "new", &key_of(1, 0)).await.unwrap();
    east.server.restart().await.unwrap();
    let closing = [closed(all(), 3)];
    east.driver.apply(epoch(3), &closing, LIMITS).await.unwrap();
    members
}

async fn listed(at: &Member, owner: &Member, slots: SlotSet) -> Diverged {
    let owners: [(Peer, SlotSet); 1] = [(peer(owner), slots)];
    at.driver.diverged(&op("failover"), &owners, LONG).await.unwrap()
}

type Version = Option<String>;

/// Each row of the list: its key, and the amounts here and there.
async fn rows(at: &Member) -> Vec<(String, Version, Version)> {
    let sql = "SELECT JSON_VALUE(name, '$.id'), JSON_VALUE(mine, '$.amount'), JSON_VALUE(theirs, '$.amount')
               FROM multiactive.divergence ORDER BY 1";
    admin(&at.server).await.query(sql).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_that_the_owner_did_not_get_is_listed_with_both_versions_and_no_other() {
    let members = back().await;
    let [east, north] = &members[..] else { panic!() };
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
    assert_eq!(rows(east).await, want, "{first:?}");
    assert_eq!((first.rows, first.unlisted.len(), first.rejoined), (6, 0, false));
    assert_eq!(first.first[0].0, "orders");
    assert!(
        first.first.iter().any(|(_, key)| key.contains("tail")),
        "{:?}",
        first.first
    );

    // The rows become those of north; what was listed stays, and is not listed anew.
    let refused = east.driver.reseed(&peer(north), LONG).await.unwrap_err().to_string();
    assert!(refused.contains("operation failover.1 took slots over"), "{refused}");
    east.driver.rejoin(&part()).await.unwrap();
    east.driver.reseed(&peer(north), LONG).await.unwrap();
    east.driver.rejoin(&op("failover")).await.unwrap();
    running(east, north).await;
    let after = listed(east, north, all()).await;
    let want_after = Diverged {
        rejoined: true,
        ..first
    };
    assert_eq!(after, want_after);
    assert_eq!(rows(east).await, want);
    let mut writer = app(&north.server).await;
    insert(&mut writer, "later", &key_of(3, 0)).await.unwrap();
    rows_everywhere(&members, 6).await;
    let passed = east.driver.passed(&[part(), op("other")]).await.unwrap();
    assert_eq!(passed, [part()], "it has all that north opened with");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_slots_of_the_owner_are_listed_and_where_the_log_is_gone_it_says_so() {
    let members = back().await;
    let [east, north] = &members[..] else { panic!() };
    let some = listed(east, north, SlotSet::range(2, 2)).await;
    let ids: Vec<_> = rows(east).await.into_iter().map(|(id, ..)| id).collect();
    assert_eq!((some.rows, ids), (1, vec!["tail".to_owned()]), "{some:?}");

    let mut there = admin(&east.server).await;
    for sql in [
        "FLUSH BINARY LOGS",
        "FLUSH BINARY LOGS",
        "SET GLOBAL binlog_expire_logs_seconds = 0",
    ] {
        there.query_drop(sql).await.unwrap();
    }
    let newest: Vec<mysql_async::Row> = there.query("SHOW BINARY LOGS").await.unwrap();
    let purge = format!(
        "PURGE BINARY LOGS TO '{}'",
        newest.last().unwrap().get::<String, _>(0).unwrap()
    );
    there.query_drop(purge).await.unwrap();
    let owners = [(peer(north), all())];
    let gone = east.driver.diverged(&op("another"), &owners, LONG).await.unwrap();
    assert_eq!(gone.rows, 0);
    assert!(
        gone.unlisted[0].contains("what north-1 did not get of it cannot be listed"),
        "{:?}",
        gone.unlisted
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_new_owner_and_the_lost_unit_both_wrote_stops_no_link_for_good() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    let (easts, souths) = (SlotSet::range(0, 199), SlotSet::range(200, 255));
    for (member, slots) in [(east, &easts), (south, &souths)] {
        let grant = [open(slots.clone(), 1)];
        member.driver.apply(epoch(1), &grant, LIMITS).await.unwrap();
    }
    let mut writer = app(&east.server).await;
    insert(&mut writer, "all", &key_of(1, 0)).await.unwrap();
    rows_everywhere(&members, 1).await;
    let mut wanted = Vec::new();
    for member in [north, south] {
        let at = member.driver.cut(&east.unit, &part(), epoch(2)).await.unwrap();
        wanted = wanted_of(&east.unit, at.position.as_deref().unwrap()).to_vec();
    }
    insert(&mut writer, "clash", &key_of(2, 0)).await.unwrap();
    let driver = &north.driver;
    let waited = driver.wait_for(&part(), epoch(2), &wanted, true, LONG).await;
    assert_eq!(waited.unwrap(), Waited::Reached);
    let mut brought = open(easts.clone(), 3);
    brought.brought_by = Some(part());
    driver.apply(epoch(3), &[brought], LIMITS).await.unwrap();
    for (member, id, slot) in [(north, "clash", 3), (south, "south's", 201), (north, "new", 4)] {
        insert(&mut app(&member.server).await, id, &key_of(slot, 0))
            .await
            .unwrap();
    }
    rows_everywhere(&members[1..], 4).await;
    east.driver.apply(epoch(3), &[closed(all(), 3)], LIMITS).await.unwrap();
    let owners = [(peer(north), easts.clone()), (peer(south), souths.clone())];
    let found = east.driver.diverged(&op("failover"), &owners, LONG).await.unwrap();
    assert_eq!((found.rows, &found.unlisted), (1, &vec![]), "{found:?}");
    assert_eq!(rows(east).await[0].0, "clash");
    east.driver.rejoin(&part()).await.unwrap();
    // It takes what is written elsewhere, and meets the row that both wrote, by both ways.
    for from in [north, south] {
        linked(east, from, |link| {
            matches!(&link.state, multiactive_stores::driver::LinkState::Broken(why) if why.contains("Duplicate"))
        })
        .await;
    }
    for from in [north, south] {
        east.driver.reseed(&peer(from), LONG).await.unwrap();
    }
    for from in [north, south] {
        assert_eq!(running(east, from).await.gap, None);
    }
    assert_eq!(ids(east).await, ids(north).await);
    for member in [north, south] {
        insert(
            &mut app(&member.server).await,
            member.unit.as_str(),
            &key_of(if member.unit == north.unit { 5 } else { 205 }, 0),
        )
        .await
        .unwrap();
    }
    rows_everywhere(&members, 6).await;
    assert_eq!(east.driver.passed(&[part()]).await.unwrap(), [part()]);
}
