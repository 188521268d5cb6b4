//! The fence against transactions under way: long ones, idle ones, several at once, in every isolation level. The
//! promise: once it returned, no write that it stands for can commit any more.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::FenceLimits;
use multiactive_stores::postgres::REFUSED;
use multiactive_stores::{Driver, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::*;
use tokio_postgres::Client;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

async fn begin(client: &Client, level: &str) {
    client
        .batch_execute(&format!("BEGIN ISOLATION LEVEL {level}"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fence_waits_for_a_transaction_that_ends_by_itself() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    for (number, level) in LEVELS.into_iter().enumerate() {
        let at = 2 + 2 * number as u64;
        let writer = app(&member.server).await;
        begin(&writer, level).await;
        // Two rows of one statement: they are fenced together, on another path than one alone.
        let sql = "INSERT INTO orders (id, user_id) VALUES ($1 || '-3', $2), ($1 || '-40', $3)";
        writer
            .execute(sql, &[&level, &key_of(3, 0), &key_of(40, 0)])
            .await
            .unwrap();
        let committed = Arc::new(AtomicBool::new(false));
        let done = committed.clone();
        let task = tokio::spawn(async move {
            // It holds the slot for a while and then commits: how long does not matter, only that it is under way.
            writer.query("SELECT pg_sleep(0.2)", &[]).await.unwrap();
            done.store(true, Ordering::SeqCst);
            writer.batch_execute("COMMIT").await.unwrap();
        });
        let fenced = member
            .driver
            .fence(&op(level), epoch(at), &SlotSet::range(3, 3), LIMITS)
            .await
            .unwrap();
        assert!(
            committed.load(Ordering::SeqCst),
            "{level}: the fence returned while a transaction could commit"
        );
        assert!(fenced.ended.is_empty(), "{level}: it ended {:?}", fenced.ended);
        task.await.unwrap();
        member
            .driver
            .apply(epoch(at + 1), &[open(all(), at + 1)], LIMITS)
            .await
            .unwrap();
    }
    assert_eq!(
        count(&admin(&member.server).await).await,
        6,
        "what was committed before stays"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_sits_on_its_transaction_is_ended() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    for (number, level) in LEVELS.into_iter().enumerate() {
        let at = 2 + 2 * number as u64;
        let idle = app(&member.server).await;
        begin(&idle, level).await;
        insert(&idle, level, &key_of(3, 0)).await.unwrap();
        let limits = FenceLimits {
            grace: Duration::from_millis(100),
            ..LIMITS
        };
        let fenced = member
            .driver
            .fence(&op(level), epoch(at), &all(), limits)
            .await
            .unwrap();
        let blocker = fenced.ended.first().expect("it was ended");
        assert_eq!(
            (blocker.user.as_str(), blocker.state.as_str()),
            ("shop_app", "idle in transaction"),
            "{level}"
        );
        assert!(blocker.query.starts_with("INSERT INTO orders"), "{level}: {blocker}");
        idle.batch_execute("COMMIT").await.expect_err("its session is gone");
        member
            .driver
            .apply(epoch(at + 1), &[open(all(), at + 1)], LIMITS)
            .await
            .unwrap();
    }
    assert_eq!(
        count(&admin(&member.server).await).await,
        0,
        "nothing of theirs was committed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_from_before_the_fence_does_not_see_past_it() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let key = key_of(3, 0);
    for (number, level) in LEVELS.into_iter().enumerate() {
        let at = 2 + 2 * number as u64;
        let writer = app(&member.server).await;
        begin(&writer, level).await;
        // The snapshot is taken now, in the levels that keep one; no slot was touched, so the fence does not wait.
        count(&writer).await;
        member
            .driver
            .fence(&op(level), epoch(at), &SlotSet::range(3, 3), LIMITS)
            .await
            .unwrap();
        let refused = code(insert(&writer, level, &key).await);
        let wanted = if level == "READ COMMITTED" { REFUSED } else { "40001" };
        assert_eq!(refused, wanted, "{level}");
        writer.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(
            code(insert(&writer, level, &key).await),
            REFUSED,
            "{level}, in a transaction of its own"
        );
        member
            .driver
            .apply(epoch(at + 1), &[open(all(), at + 1)], LIMITS)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_transactions_in_each_others_way_do_not_hold_up_the_fence() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    // It holds bucket 40 and then wants bucket 3, which the fence has by then, waiting for 40.
    let writer = app(&member.server).await;
    begin(&writer, "READ COMMITTED").await;
    insert(&writer, "a", &key_of(40, 0)).await.unwrap();
    let admin = admin(&member.server).await;
    let crossing = async {
        until("the fence to wait", async || {
            let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
            let waiting: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
            if waiting > 0 {
                Ok(())
            } else {
                Err("nobody waits".to_owned())
            }
        })
        .await;
        insert(&writer, "b", &key_of(3, 0)).await
    };
    let limits = FenceLimits {
        grace: Duration::from_secs(4),
        ..LIMITS
    };
    let (uid, slots) = (op("p"), SlotSet::range(0, 63));
    let started = Instant::now();
    let (crossed, fenced) = tokio::join!(crossing, member.driver.fence(&uid, epoch(2), &slots, limits));
    fenced.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "it took {:?}",
        started.elapsed()
    );
    crossed.expect_err("one of the two had to give way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_ended_is_named_at_the_deadline_and_the_fence_can_be_repeated() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    // The agent may not end sessions of superusers.
    let idle = admin(&member.server).await;
    begin(&idle, "READ COMMITTED").await;
    insert(&idle, "a", &key_of(3, 0)).await.unwrap();
    let limits = FenceLimits {
        deadline: Duration::from_millis(400),
        grace: Duration::from_millis(50),
    };
    let blocked = member
        .driver
        .fence(&op("p"), epoch(2), &SlotSet::range(3, 3), limits)
        .await;
    let Err(Error::FenceBlocked { blockers, .. }) = &blocked else {
        panic!("{blocked:?}")
    };
    assert_eq!(blockers[0].user, "postgres", "{blocked:?}");
    idle.batch_execute("COMMIT").await.unwrap();
    let fenced = member
        .driver
        .fence(&op("p"), epoch(2), &SlotSet::range(3, 3), LIMITS)
        .await;
    fenced.expect("once it is gone, the same call succeeds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_commits_after_the_fence_returned() {
    let member = Arc::new(alone().await);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for number in 0..6_usize {
        let mut client = app(&member.server).await;
        let (acknowledged, stop, member) = (acknowledged.clone(), stop.clone(), member.clone());
        let level = LEVELS[number % 3];
        writers.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            for turn in 0.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                // Two slots a transaction, in both orders, so that transactions cross.
                let slots = if turn % 2 == 0 { [3, 40] } else { [40, 3] };
                let id = format!("{number}-{turn}");
                if write(&client, level, &id, slots).await.is_ok() {
                    ids.push(id);
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                } else if client.is_closed() {
                    // On a slow machine the fence ends a writer's session: it would fail for ever, and never wait.
                    client = app(&member.server).await;
                } else {
                    let _ = client.batch_execute("ROLLBACK").await;
                }
            }
            ids
        }));
    }
    let admin = admin(&member.server).await;
    let all_rows = async || {
        let sql = "SELECT count(*), coalesce(max(xmin::text::bigint), 0) FROM orders";
        let row = admin.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    for round in 0..25_u64 {
        let at = 2 * round + 1;
        let before = acknowledged.load(Ordering::SeqCst);
        set_all(&member.driver, true, at).await;
        // Every round catches writers at another moment of their transactions.
        until("a write", async || {
            if acknowledged.load(Ordering::SeqCst) > before + round % 5 {
                Ok(())
            } else {
                Err("none".to_owned())
            }
        })
        .await;
        member
            .driver
            .fence(&op("p"), epoch(at + 1), &SlotSet::range(0, 63), LIMITS)
            .await
            .unwrap();
        let fenced = all_rows().await;
        // Long enough for each writer to try again several times.
        for _ in 0..20 {
            assert_eq!(
                all_rows().await,
                fenced,
                "round {round}: something was committed after the fence"
            );
        }
    }
    stop.store(true, Ordering::SeqCst);
    let mut ids: Vec<String> = Vec::new();
    for writer in writers {
        ids.extend(writer.await.unwrap());
    }
    let present = admin.query("SELECT id FROM orders", &[]).await.unwrap();
    let present: std::collections::HashSet<String> = present.iter().map(|row| row.get(0)).collect();
    let lost: Vec<_> = ids
        .iter()
        .filter(|id| !present.contains(&format!("{id}-3")) || !present.contains(&format!("{id}-40")))
        .collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    assert!(ids.len() > 25, "only {} writes: the test was vacuous", ids.len());
}

/// Two rows in one transaction, in two statements or in one.
async fn write(client: &Client, level: &str, id: &str, slots: [u16; 2]) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).await?;
    let [first, second] = slots.map(|slot| (format!("{id}-{slot}"), key_of(slot, 0)));
    if id.ends_with(['0', '3', '6', '9']) {
        let sql = "INSERT INTO orders (id, user_id) VALUES ($1, $2), ($3, $4)";
        client.execute(sql, &[&first.0, &first.1, &second.0, &second.1]).await?;
    } else {
        insert(client, &first.0, &first.1).await?;
        insert(client, &second.0, &second.1).await?;
    }
    client.batch_execute("COMMIT").await
}
