//! Three members with links each way: rows arrive everywhere, a fence's position is reached everywhere, and a link that
//! someone breaks is mended or named.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod checksums;
mod deaths;
mod full_disk;
mod links;
#[path = "../support/mod.rs"]
mod support;

use checksums::equal_checksums;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{KeyRange, LinkState, Unlinked, Waited};
use multiactive_stores::{Driver, Error};
use std::time::Duration;
use support::*;

const UNITS: [&str; 3] = ["east-1", "north-1", "south-1"];

const LONG: Duration = Duration::from_secs(15);

/// Slots of each unit.
fn home(index: usize) -> SlotSet {
    [
        SlotSet::range(0, 99),
        SlotSet::range(100, 199),
        SlotSet::range(200, 255),
    ][index]
        .clone()
}

/// From now on this session's writes are not checked and not replicated, as those of a repair.
async fn behind_the_back(client: &tokio_postgres::Client) {
    let sql = "SELECT pg_replication_origin_create('repair')
               WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = 'repair');
               SELECT pg_replication_origin_session_setup('repair') WHERE NOT pg_replication_origin_session_is_setup();
               SET session_replication_role = replica";
    client.batch_execute(sql).await.unwrap();
}

/// Brings a member to a table in which each unit owns its home slots.
async fn go_home(members: &[Member], at: u64) {
    for (index, member) in members.iter().enumerate() {
        let grants: Vec<_> = (0..3)
            .map(|owner| {
                if owner == index {
                    open(home(owner), at)
                } else {
                    closed(home(owner), at)
                }
            })
            .collect();
        member.driver.apply(epoch(at), &grants, LIMITS).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_with_all_its_rows_and_opens_only_where_it_drained() {
    let members = mesh(&UNITS).await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    go_home(&members, 1).await;
    // Everyone writes its own slots; rows that arrive at the others are not checked there.
    for (index, member) in members.iter().enumerate() {
        let app = app(&member.server).await;
        for number in 0..20 {
            let key = key_of([50, 150, 250][index], number);
            insert(&app, &format!("{index}-{number}"), &key).await.unwrap();
        }
        let other = key_of([150, 250, 50][index], 0);
        assert_eq!(
            code(insert(&app, "x", &other).await),
            multiactive_stores::postgres::REFUSED
        );
    }
    rows_everywhere(&members, 60).await;

    // East's slots go north. South had a row of its own that east applied: north must have it too.
    let (uid, at) = (op("move"), epoch(2));
    let fenced = east.driver.fence(&uid, at, &home(0), LIMITS).await.unwrap();
    let units: Vec<_> = fenced.position.vector.iter().map(|entry| entry.unit.as_str()).collect();
    assert_eq!(
        units,
        ["east-1", "north-1", "south-1"],
        "its own position first, then what it had applied"
    );

    let mut brought = open(home(0), 3);
    brought.brought_by = Some(uid.clone());
    let early = north
        .driver
        .apply(epoch(3), std::slice::from_ref(&brought), LIMITS)
        .await;
    assert!(
        matches!(&early, Err(Error::NotDrained { op, .. }) if *op == uid),
        "{early:?}"
    );
    let positions = [fenced.position.clone()];
    for member in [north, south] {
        assert_eq!(
            member.driver.wait_for(&uid, at, &positions, true, LONG).await.unwrap(),
            Waited::Reached
        );
    }
    // The record is of this operation alone.
    let mut wrong = brought.clone();
    wrong.brought_by = Some(op("another"));
    let early = north.driver.apply(epoch(3), &[wrong], LIMITS).await;
    assert!(matches!(early, Err(Error::NotDrained { .. })), "{early:?}");
    assert_eq!(
        north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap().opened,
        100
    );
    let app = app(&north.server).await;
    insert(&app, "moved", &key_of(50, 0)).await.unwrap();
    app.batch_execute("UPDATE orders SET amount = 5 WHERE id = '0-3'")
        .await
        .unwrap();
    rows_everywhere(&members, 61).await;
    equal_checksums(&members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_has_not_arrived_times_out_and_comes_later() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    rows_everywhere(&members, 1).await;
    // A lock on the row keeps the replica from applying.
    let holder = admin(&north.server).await;
    holder
        .batch_execute("BEGIN; SELECT FROM orders FOR UPDATE")
        .await
        .unwrap();
    app(&east.server)
        .await
        .batch_execute("UPDATE orders SET amount = 2")
        .await
        .unwrap();
    let fenced = east.driver.fence(&op("p"), epoch(2), &all(), LIMITS).await.unwrap();
    let short = Duration::from_millis(300);
    let positions = [fenced.position];
    let waited = north
        .driver
        .wait_for(&op("p"), epoch(2), &positions, true, short)
        .await
        .unwrap();
    assert!(
        matches!(&waited, Waited::TimedOut(why) if why.contains("of east-1 is applied")),
        "{waited:?}"
    );
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(
        north
            .driver
            .wait_for(&op("p"), epoch(2), &positions, true, LONG)
            .await
            .unwrap(),
        Waited::Reached
    );

    // A heartbeat has an age once it arrived, and only then.
    let lag = &east.driver.lag().await.unwrap()[0];
    assert_eq!((lag.from.as_str(), lag.heartbeat), ("north-1", None));
    north.driver.beat().await.unwrap();
    let age = until("the heartbeat", async || {
        let lag = east.driver.lag().await.unwrap();
        lag[0].heartbeat.ok_or_else(|| format!("{lag:?}"))
    })
    .await;
    assert!(age < Duration::from_secs(10), "{age:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_opening_waits_for_the_links_out() {
    let servers = [shop().await, shop().await];
    let drivers = [
        driver(&servers[0], "east-1", &["north-1"]),
        driver(&servers[1], "north-1", &["east-1"]),
    ];
    for driver in &drivers {
        driver.install().await.unwrap();
    }
    let early = drivers[0].apply(epoch(1), &[open(all(), 1)], LIMITS).await;
    assert!(
        matches!(&early, Err(Error::LinksMissing { missing }) if missing == &["north-1"]),
        "{early:?}"
    );
    let [one, two] = servers;
    let [east, north] = drivers;
    let east = Member {
        server: one,
        driver: east,
        unit: "east-1".into(),
    };
    let north = Member {
        server: two,
        driver: north,
        unit: "north-1".into(),
    };
    running(&north, &east).await;
    set_all(&east.driver, true, 1).await;
    extend(&east.driver, Duration::from_secs(600)).await;
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    rows_everywhere(&[east, north], 1).await;
}
