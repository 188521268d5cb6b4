//! The fence against transactions under way: long ones, idle ones, several at once, prepared ones, in every isolation level.
//! The promise: once it returned, no write that it stands for can commit any more.

use super::support::*;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::FenceLimits;
use multiactive_stores::family::REFUSED;
use multiactive_stores::{Driver, Error};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LEVELS: [&str; 4] = ["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

async fn begin(client: &mut Conn, level: &str) {
    client
        .query_drop(format!("SET TRANSACTION ISOLATION LEVEL {level}"))
        .await
        .unwrap();
    client.query_drop("BEGIN").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fence_waits_for_a_transaction_that_ends_by_itself() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    for (number, level) in LEVELS.into_iter().enumerate() {
        let at = 2 + 2 * number as u64;
        let mut writer = app(&member.server).await;
        begin(&mut writer, level).await;
        insert(&mut writer, level, &key_of(3, 0)).await.unwrap();
        let committed = Arc::new(AtomicBool::new(false));
        let done = committed.clone();
        let task = tokio::spawn(async move {
            writer.query_drop("DO SLEEP(0.2)").await.unwrap();
            done.store(true, Ordering::SeqCst);
            writer.query_drop("COMMIT").await.unwrap();
        });
        let one = SlotSet::range(3, 3);
        let fenced = member.driver.fence(&op(level), epoch(at), &one, LIMITS).await.unwrap();
        assert!(
            committed.load(Ordering::SeqCst),
            "{level}: the fence returned while a transaction could commit"
        );
        assert!(fenced.ended.is_empty(), "{level}: it ended {:?}", fenced.ended);
        task.await.unwrap();
        let table = [open(all(), at + 1)];
        member.driver.apply(epoch(at + 1), &table, LIMITS).await.unwrap();
    }
    let rows = count(&mut admin(&member.server).await).await;
    assert_eq!(rows, 4, "what was committed before stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_sits_on_its_transaction_is_ended_and_an_old_snapshot_sees_the_fence() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    for (number, level) in LEVELS.into_iter().enumerate() {
        let at = 2 + 2 * number as u64;
        let (mut idle, mut old) = (app(&member.server).await, app(&member.server).await);
        begin(&mut idle, level).await;
        insert(&mut idle, level, &key_of(3, 0)).await.unwrap();
        begin(&mut old, level).await;
        let seen: Option<u64> = old
            .query_first("SELECT COUNT(*) FROM orders WHERE id = 'none'")
            .await
            .unwrap();
        assert!(seen.is_some());
        let started = Instant::now();
        let one = SlotSet::range(3, 3);
        let fenced = member.driver.fence(&op(level), epoch(at), &one, LIMITS).await.unwrap();
        assert_eq!(fenced.ended.len(), 1, "{level}: {:?}", fenced.ended);
        assert_eq!(fenced.ended[0].user, "shop_app");
        assert!(started.elapsed() >= LIMITS.grace, "{level}: {:?}", started.elapsed());
        assert!(idle.query_drop("COMMIT").await.is_err(), "{level}: its session is gone");
        assert_eq!(code(insert(&mut old, "old", &key_of(3, 0)).await), REFUSED, "{level}");
        old.query_drop("ROLLBACK").await.unwrap();
        let table = [open(all(), at + 1)];
        member.driver.apply(epoch(at + 1), &table, LIMITS).await.unwrap();
    }
    assert_eq!(count(&mut admin(&member.server).await).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_waits_for_no_writer_of_a_neighbouring_slot_and_opening_for_none_who_was_refused() {
    let member = alone().await;
    let driver = &member.driver;
    set_all(driver, true, 1).await;
    let mut neighbours = Vec::new();
    for slot in [9, 21] {
        let mut writer = app(&member.server).await;
        writer.query_drop("BEGIN").await.unwrap();
        insert(&mut writer, &slot.to_string(), &key_of(slot, 0)).await.unwrap();
        neighbours.push(writer);
    }
    let hasty = FenceLimits {
        grace: Duration::from_secs(60),
        deadline: Duration::from_secs(2),
    };
    let some = SlotSet::range(10, 20);
    let fenced = driver.fence(&op("p"), epoch(2), &some, hasty).await.unwrap();
    assert!(fenced.ended.is_empty());
    for mut writer in neighbours {
        writer.query_drop("COMMIT").await.unwrap();
    }
    // Refused, and yet his transaction goes on, with the row of the slot locked.
    let mut refused = app(&member.server).await;
    refused.query_drop("BEGIN").await.unwrap();
    assert_eq!(code(insert(&mut refused, "x", &key_of(12, 0)).await), REFUSED);
    let applied = driver.apply(epoch(3), &[open(all(), 3)], LIMITS).await.unwrap();
    assert_eq!(applied.opened, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_is_given_up_leaves_nobody_waiting_and_says_who_held_it_up() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let mut idle = app(&member.server).await;
    idle.query_drop("BEGIN").await.unwrap();
    insert(&mut idle, "idle", &key_of(3, 0)).await.unwrap();
    let some = SlotSet::range(0, 9);
    let patient = FenceLimits {
        grace: Duration::from_secs(60),
        deadline: Duration::from_millis(1500),
    };
    let blocked = member.driver.fence(&op("p"), epoch(2), &some, patient).await;
    let Err(Error::FenceBlocked { blockers, .. }) = blocked else {
        panic!("{blocked:?}");
    };
    assert_eq!(blockers.len(), 1, "{blockers:?}");
    assert_eq!(
        (blockers[0].user.as_str(), blockers[0].state.as_str()),
        ("shop_app", "idle in transaction")
    );
    // Dropped in the middle: other writers of its slots go on at once.
    let longer = FenceLimits {
        deadline: Duration::from_secs(20),
        ..patient
    };
    let uid = op("q");
    let fence = member.driver.fence(&uid, epoch(3), &some, longer);
    assert!(tokio::time::timeout(Duration::from_millis(200), fence).await.is_err());
    let mut other = app(&member.server).await;
    let started = Instant::now();
    for slot in [2, 3, 4] {
        insert(&mut other, &slot.to_string(), &key_of(slot, 0)).await.unwrap();
    }
    assert!(
        started.elapsed() < Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    idle.query_drop("COMMIT").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_whose_program_died_holds_up_writers_for_a_second() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let mut idle = app(&member.server).await;
    idle.query_drop("BEGIN").await.unwrap();
    insert(&mut idle, "idle", &key_of(3, 0)).await.unwrap();
    // A program of its own: its connections end with it, and nobody gives anything up.
    let access = access(&member.server);
    let program = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let driver = new(spec("east-1", &[]), access);
            let limits = FenceLimits {
                grace: Duration::from_secs(60),
                deadline: Duration::from_secs(60),
            };
            let (uid, slots) = (op("p"), SlotSet::range(0, 9));
            let fence = driver.fence(&uid, epoch(2), &slots, limits);
            let early = tokio::time::timeout(Duration::from_millis(600), fence).await;
            assert!(early.is_err(), "{early:?}");
            // Before what was spawned to end it has run.
        });
        runtime.shutdown_background();
    });
    program.join().unwrap();
    let mut other = app(&member.server).await;
    let started = Instant::now();
    insert(&mut other, "other", &key_of(2, 0)).await.unwrap();
    insert(&mut other, "same", &key_of(3, 0)).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_millis(1500),
        "{:?}",
        started.elapsed()
    );
    idle.query_drop("COMMIT").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fence_stands_while_a_prepared_transaction_could_commit() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let mut writer = app(&member.server).await;
    writer.query_drop("XA START 'order-1'").await.unwrap();
    insert(&mut writer, "x", &key_of(3, 0)).await.unwrap();
    writer.query_drop("XA END 'order-1'").await.unwrap();
    writer.query_drop("XA PREPARE 'order-1'").await.unwrap();
    drop(writer);
    let some = SlotSet::range(3, 3);
    for (at, name) in [(2, "p"), (3, "q")] {
        let blocked = member.driver.fence(&op(name), epoch(at), &some, LIMITS).await;
        let Err(Error::FenceBlocked { blockers, .. }) = blocked else {
            panic!("{blocked:?}");
        };
        assert!(blockers[0].query.contains("order-1"), "{blockers:?}");
    }
    let mut admin = admin(&member.server).await;
    until("the session to end", async || {
        let rolled = admin.query_drop("XA ROLLBACK 'order-1'").await;
        rolled.map_err(|error| error.to_string())
    })
    .await;
    member.driver.fence(&op("q"), epoch(3), &some, LIMITS).await.unwrap();
    assert_eq!(count(&mut admin).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_write_is_committed_behind_the_position_of_its_fence() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let (stop, wrote) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = Vec::new();
    for number in 0..6 {
        let (mut client, stop, wrote) = (app(&member.server).await, stop.clone(), wrote.clone());
        let key = key_of(3, number);
        writers.push(tokio::spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::SeqCst) {
                round += 1;
                client.query_drop("BEGIN").await.unwrap();
                let one = insert(&mut client, &format!("{number}-{round}"), &key).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
                if one.is_ok() && client.query_drop("COMMIT").await.is_ok() {
                    wrote.fetch_add(1, Ordering::SeqCst);
                } else {
                    client.query_drop("ROLLBACK").await.unwrap();
                }
            }
        }));
    }
    let some = SlotSet::range(3, 3);
    let mut admin = admin(&member.server).await;
    for round in 0..12_u64 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let at = 2 + 2 * round;
        let uid = op(&format!("p{round}"));
        let fenced = member.driver.fence(&uid, epoch(at), &some, LIMITS).await.unwrap();
        let rows = count(&mut admin).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert_eq!(count(&mut admin).await, rows, "a write landed behind the fence");
        // The fence's own row is the next one of the log after its position.
        let position = &fenced.position.vector[0].position;
        let end = log_end(&mut admin).await;
        assert_eq!(end, seq(position) + 1, "something else came behind {position}");
        let table = [open(all(), at + 1)];
        member.driver.apply(epoch(at + 1), &table, LIMITS).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    let wrote = wrote.load(Ordering::SeqCst);
    assert!(wrote > 50, "only {wrote} writes");
    assert_eq!(
        count(&mut admin).await,
        wrote,
        "what was acknowledged is there, and nothing else"
    );
}
