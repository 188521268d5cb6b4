//! Load on a member while something is done, and rows that are written past the links.

use super::support::*;
use mysql_async::prelude::Queryable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Whoever writes past the log says so, and when he has ended.
pub const PAST_THE_LOG: [&str; 2] = ["SET SESSION sql_log_bin = 0", "CALL multiactive.past_the_log()"];
pub const BACK_IN_THE_LOG: &str = "DO RELEASE_LOCK('multiactive.unlogged')";

/// Writes as a repair does, which nobody else gets.
pub async fn by_hand(member: &Member, sql: &[&str]) {
    let mut client = client(&member.server, "multiactive_agent").await;
    for past in PAST_THE_LOG {
        client.query_drop(past).await.unwrap();
    }
    client.query_drop("USE shop").await.unwrap();
    for sql in sql {
        client.query_drop(*sql).await.unwrap();
    }
    client.query_drop(BACK_IN_THE_LOG).await.unwrap();
}

/// How often somebody wrote past the log.
pub async fn counted(member: &Member) -> Vec<(u8, u64)> {
    let sql = "SELECT part, number FROM multiactive.unlogged ORDER BY part";
    admin(&member.server).await.query(sql).await.unwrap()
}

/// As if nobody had since.
pub async fn forget(member: &Member, count: &[(u8, u64)]) {
    let mut admin = admin(&member.server).await;
    for (part, number) in count {
        let sql = format!("UPDATE multiactive.unlogged SET number = {number} WHERE part = {part}");
        admin.query_drop(sql).await.unwrap();
    }
}

pub async fn ids(member: &Member) -> Vec<String> {
    let sql = "SELECT id FROM shop.orders ORDER BY id";
    admin(&member.server).await.query(sql).await.unwrap()
}

/// Nobody starts it before `link` is called.
pub async fn stop_links(member: &Member) {
    let mut admin = admin(&member.server).await;
    admin.query_drop(STOP_LINKS).await.unwrap();
}

/// The server has only the newest file of its log.
pub async fn forget_log(member: &Member) {
    let mut there = admin(&member.server).await;
    // The server keeps what a reader was sent and has not confirmed.
    let readers = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND = '{READER}'");
    until("nobody to read the log", async || {
        let found: Vec<u64> = there.query(&readers).await.unwrap();
        found.is_empty().then_some(()).ok_or(format!("{found:?}"))
    })
    .await;
    for _ in 0..2 {
        there.query_drop("FLUSH BINARY LOGS").await.unwrap();
    }
    // A log stays for as long as the engine needs it for its own recovery.
    until("the log to be gone", async || {
        let logs: Vec<mysql_async::Row> = there.query("SHOW BINARY LOGS").await.unwrap();
        let purge = format!(
            "PURGE BINARY LOGS TO '{}'",
            logs.last().unwrap().get::<String, _>(0).unwrap()
        );
        there.query_drop(purge).await.unwrap();
        let said: Vec<(String, u32, String)> = there.query("SHOW WARNINGS").await.unwrap();
        (logs.len() == 1).then_some(()).ok_or(format!("{logs:?} {said:?}"))
    })
    .await;
}

/// Somebody who inserts, changes and deletes rows and never stops.
pub struct Writer {
    stop: Arc<AtomicBool>,
    pub written: Arc<AtomicU64>,
    task: JoinHandle<Duration>,
}

impl Writer {
    pub async fn start(member: &Member, name: &'static str, slots: std::ops::Range<u16>) -> Writer {
        let mut client = app(&member.server).await;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (stop.clone(), written.clone());
        let keys: Vec<_> = slots.step_by(9).map(|slot| key_of(slot, 7)).collect();
        let task = tokio::spawn(async move {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            for number in 0_usize.. {
                if until.load(Ordering::Relaxed) {
                    break;
                }
                let (id, key) = (format!("{name}{}", number % 50), &keys[number % 50 % keys.len()]);
                let sql = match number / 50 % 3 {
                    0 => format!("INSERT IGNORE INTO orders (id, user_id, amount) VALUES ('{id}', '{key}', {number})"),
                    1 => format!("UPDATE orders SET amount = {number} WHERE id = '{id}'"),
                    _ => format!("DELETE FROM orders WHERE id = '{id}'"),
                };
                client.query_drop(&sql).await.expect("no write is refused");
                longest = longest.max(last.elapsed());
                last = Instant::now();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
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
