//! The write lease in the database: read at each write and again at commit, on the database's own clock.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod at_commit;
mod at_write;
mod constraints;
mod extending;
mod frozen;
#[path = "../support/mod.rs"]
mod support;

use multiactive_core::epoch::Epoch;
use multiactive_stores::Driver;
use multiactive_stores::driver::{HeldLease, StoreClock, StoreLease};
use std::time::Duration;
use support::*;
use tokio_postgres::Client;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// Long enough for what is done within it on a busy machine.
const LONG: Duration = Duration::from_secs(600);

const SHORT: Duration = Duration::from_millis(300);

/// A unit alone whose slots are open, without a lease.
async fn unleased() -> Member {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    member.driver.expire().await.unwrap();
    member
}

/// Extends the lease and tells what was asked for.
async fn asked(member: &Member, length: Duration) -> (StoreLease, Option<HeldLease>) {
    let lease = StoreLease {
        from: member.driver.clock().await.unwrap(),
        length,
        granted: Epoch::NEVER,
    };
    (lease, member.driver.extend(lease).await.unwrap())
}

/// Waits until the database's clock has passed the end of the lease.
async fn over(member: &Member) {
    until("the lease to end", async || {
        match member.driver.inspect().await.unwrap().lease {
            None => Ok(()),
            Some(held) => Err(format!("{held:?}")),
        }
    })
    .await;
}

/// Has a transaction write within the lease, and waits until that is over. The lease is as short as it can be, so where
/// the machine is too slow for the write, it is done again.
async fn written_before(member: &Member, client: &Client, begin: &str, write: &str) {
    for millis in [300, 600, 1_200, 2_400, 4_800] {
        client.batch_execute(begin).await.unwrap();
        extend(&member.driver, Duration::from_millis(millis)).await;
        if client.batch_execute(write).await.is_ok() {
            over(member).await;
            return;
        }
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    panic!("no write within any lease: {write}");
}

async fn ids(client: &Client) -> Vec<String> {
    let rows = client.query("SELECT id FROM orders ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// The clock of the member's database.
async fn now(member: &Member) -> StoreClock {
    member.driver.clock().await.unwrap()
}
