//! A store with a single writer: its tables have no key, every row is in its one slot, whoever owns that writes, and the others
//! follow when the writer moves.

use crate::support::*;
use multiactive_core::hash::Function;
use multiactive_core::ids::KeyspaceName;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{Extent, KeyspaceSpec, StoreSpec, TableSpec, Waited};
use multiactive_stores::{Driver, Error};
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a write gets that is refused.
const REFUSED: &str = "MA001";

/// The table of the tests, without a key.
fn single(unit: &str, peers: &[&str]) -> StoreSpec {
    StoreSpec {
        keyspace: KeyspaceSpec {
            name: KeyspaceName::of_writer(&"orders".into()),
            slots: 1,
            function: Function::SingleWriter,
            overrides: BTreeMap::new(),
        },
        tables: vec![TableSpec {
            name: "orders".to_owned(),
            shard_key: None,
            last_write: None,
        }],
        ..spec(unit, peers)
    }
}

/// A member of such a store, with a lease.
async fn member(unit: &str, peers: &[&str]) -> Member {
    let server = shop().await;
    let driver = new(single(unit, peers), access(&server));
    driver.install().await.unwrap();
    lease(&driver).await;
    Member {
        server,
        driver,
        unit: unit.into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_is_written_by_whoever_owns_the_one_slot() {
    let members = [
        member("east-1", &["north-1"]).await,
        member("north-1", &["east-1"]).await,
    ];
    link_all(&members).await;
    let [east, north] = &members;
    let all = SlotSet::range(0, 0);
    let mut here = app(&east.server).await;
    assert_eq!(
        code(insert(&mut here, "a", "u1").await),
        REFUSED,
        "a store starts closed"
    );
    let applied = east
        .driver
        .apply(epoch(1), &[open(all.clone(), 1)], LIMITS)
        .await
        .unwrap();
    assert_eq!(applied.opened, 1);
    north
        .driver
        .apply(epoch(1), &[closed(all.clone(), 1)], LIMITS)
        .await
        .unwrap();
    for (id, user) in [("a", "u1"), ("b", "u2"), ("c", "")] {
        insert(&mut here, id, user).await.unwrap();
    }
    // What is the key elsewhere is a column like any other.
    here.query_drop("UPDATE orders SET user_id = 'u9' WHERE id = 'a'")
        .await
        .unwrap();
    here.query_drop("DELETE FROM orders WHERE id = 'b'").await.unwrap();

    let (uid, at) = (op("move"), epoch(2));
    let fenced = east.driver.fence(&uid, at, &all, LIMITS).await.unwrap();
    let limit = Duration::from_secs(15);
    let waited = north.driver.wait_for(&uid, at, &[fenced.position], true, limit).await;
    assert_eq!(waited.unwrap(), Waited::Reached);
    let mut brought = open(all.clone(), 3);
    brought.brought_by = Some(uid);
    assert_eq!(
        north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap().opened,
        1
    );
    east.driver
        .apply(epoch(3), &[closed(all.clone(), 3)], LIMITS)
        .await
        .unwrap();
    for sql in [
        "UPDATE orders SET user_id = 'u8'",
        "DELETE FROM orders",
        "INSERT INTO orders (id, user_id) SELECT CONCAT(id, 'x'), user_id FROM orders",
    ] {
        assert_eq!(code(here.query_drop(sql).await), REFUSED, "{sql}");
    }
    insert(&mut app(&north.server).await, "d", "u1").await.unwrap();
    rows_everywhere(&members, 3).await;
    let compared = east
        .driver
        .compare(&peer(north), &all, None, Extent::All, limit)
        .await
        .unwrap();
    assert_eq!((compared.rows, compared.differing), (3, SlotSet::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_sharded_is_not_taken_for_one_with_a_single_writer() {
    let member = alone().await;
    let other = new(single("east-1", &[]), access(&member.server));
    let error = other.install().await.unwrap_err();
    assert!(matches!(error, Error::KeyspaceChanged { .. }), "{error}");
}
