//! Load on a member while something is done, and rows that are written past the links.

use super::{Member, Release, admin, app, key_of, name_of, release, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Nothing that came by this link was there before, or was missing.
pub async fn nothing_twice(to: &Member, from: &Member) {
    // Conflicts are counted from 18 on; before, only errors are.
    let sql = "SELECT array_remove(ARRAY[s.apply_error_count, (j ->> 'confl_insert_exists')::bigint,
                                         (j ->> 'confl_update_missing')::bigint, (j ->> 'confl_delete_missing')::bigint], NULL)
               FROM pg_stat_subscription_stats s, to_jsonb(s) j WHERE s.subname = $1::text::name";
    let here = admin(&to.server).await;
    let row = here.query_one(sql, &[&name_of(to, from).await]).await.unwrap();
    let counts: Vec<i64> = row.get(0);
    let counted = if release() == Release::Newest { 4 } else { 1 };
    assert_eq!(counts, vec![0; counted], "errors, then conflicts");
}

/// Writes as a repair does, which nobody else gets.
pub async fn by_hand(member: &Member, sql: &str) {
    let client = admin(&member.server).await;
    let behind_the_back = "SELECT pg_replication_origin_create('repair')
        WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = 'repair');
        SELECT pg_replication_origin_session_setup('repair');
        SET session_replication_role = replica";
    client.batch_execute(behind_the_back).await.unwrap();
    client.batch_execute(sql).await.unwrap();
    client
        .batch_execute("SELECT pg_replication_origin_session_reset()")
        .await
        .unwrap();
}

/// Somebody who inserts, changes and deletes rows and never stops.
pub struct Writer {
    stop: Arc<AtomicBool>,
    pub written: Arc<AtomicU64>,
    task: JoinHandle<Duration>,
}

impl Writer {
    pub async fn start(member: &Member, name: &'static str) -> Writer {
        let client = app(&member.server).await;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (stop.clone(), written.clone());
        let keys: Vec<_> = (0..20).map(|slot| key_of(slot * 9, 7)).collect();
        let task = tokio::spawn(async move {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            for number in 0_usize.. {
                if until.load(Ordering::Relaxed) {
                    break;
                }
                let (id, key) = (format!("{name}{}", number % 50), &keys[number % keys.len()]);
                let sql = match number / 50 % 3 {
                    0 => format!("INSERT INTO orders VALUES ('{id}', '{key}', {number}) ON CONFLICT (id) DO NOTHING"),
                    1 => format!("UPDATE orders SET amount = {number} WHERE id = '{id}'"),
                    _ => format!("DELETE FROM orders WHERE id = '{id}'"),
                };
                client.batch_execute(&sql).await.expect("no write is refused");
                longest = longest.max(last.elapsed());
                last = Instant::now();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            longest
        });
        Writer { stop, written, task }
    }

    pub async fn more(&self, writes: u64) {
        let goal = self.written.load(Ordering::Relaxed) + writes;
        until("writes", async || match self.written.load(Ordering::Relaxed) {
            now if now >= goal => Ok(()),
            now => Err(format!("{now} of {goal}")),
        })
        .await;
    }

    /// The longest time that a write took.
    pub async fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
