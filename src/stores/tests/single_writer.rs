//! A store with a single writer, on real servers: its tables have no key, every row is in its one slot, and whoever owns that
//! writes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::hash::Function;
use multiactive_core::ids::KeyspaceName;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{KeyspaceSpec, StoreSpec, TableSpec};
use multiactive_stores::postgres::REFUSED;
use multiactive_stores::{Driver, Error, Postgres};
use std::collections::BTreeMap;
use support::*;

/// The table of the tests, without a key.
fn single(unit: &str) -> StoreSpec {
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
        ..spec(unit, &[])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_is_written_by_whoever_owns_the_one_slot() {
    let server = shop().await;
    let driver = Postgres::new(single("east-1"), access(&server));
    driver.install().await.unwrap();
    lease(&driver).await;
    let app = app(&server).await;
    assert_eq!(code(insert(&app, "a", "u1").await), REFUSED, "a store starts closed");
    let all = SlotSet::range(0, 0);
    let applied = driver.apply(epoch(1), &[open(all.clone(), 1)], LIMITS).await.unwrap();
    assert_eq!(applied.opened, 1);
    for (id, user) in [("a", "u1"), ("b", "u2"), ("c", "")] {
        insert(&app, id, user).await.unwrap();
    }
    // What is the key elsewhere is a column like any other.
    app.batch_execute("UPDATE orders SET user_id = 'u9' WHERE id = 'a'; DELETE FROM orders WHERE id = 'b'")
        .await
        .unwrap();
    driver.apply(epoch(2), &[closed(all, 2)], LIMITS).await.unwrap();
    for sql in [
        "UPDATE orders SET user_id = 'u8'",
        "DELETE FROM orders",
        "INSERT INTO orders SELECT * FROM orders",
        "TRUNCATE orders",
    ] {
        assert!(app.batch_execute(sql).await.is_err(), "{sql}");
    }
    assert_eq!(code(insert(&app, "d", "u1").await), REFUSED);
    assert_eq!(count(&admin(&server).await).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_sharded_is_not_taken_for_one_with_a_single_writer() {
    let member = alone().await;
    let other = Postgres::new(single("east-1"), access(&member.server));
    let error = other.install().await.unwrap_err();
    assert!(matches!(error, Error::KeyspaceChanged { .. }), "{error}");
}
