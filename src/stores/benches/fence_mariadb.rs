//! What the fence and the lease cost a writer on MariaDB: see `fence`, which is the same on PostgreSQL.
//!
//! `cargo bench --workspace --bench fence_mariadb`
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

mod common;
#[path = "../tests/mariadb/engine.rs"]
#[allow(dead_code, reason = "a bench uses a part")]
mod engine;
#[path = "../tests/family/support.rs"]
#[allow(dead_code, reason = "a bench uses a part")]
mod support;

use common::{KINDS, Kind, ROUNDS, TABLES};
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::time::{Duration, Instant};
use support::{LIMITS, Member, Options, admin, app, epoch, installed, op, open, set_all, shop_of};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let durable = Options {
        fsync: true,
        ..Options::default()
    };
    let member = installed(shop_of(durable).await, "east-1", &[]).await;
    let mut owner = admin(&member.server).await;
    owner
        .query_drop("USE shop; CREATE TABLE orders_plain LIKE orders")
        .await
        .unwrap();
    set_all(&member.driver, true, 1).await;
    let mut client = app(&member.server).await;
    common::head();
    for (name, rows, kind) in KINDS {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            for turn in common::turns(round) {
                let taken = write(&mut client, TABLES[turn], kind, rows, round).await;
                times[turn].push(taken / u32::try_from(rows).unwrap());
            }
            for table in TABLES {
                owner.query_drop(format!("TRUNCATE shop.{table}")).await.unwrap();
            }
        }
        common::line(name, times);
    }
    verbs(&member).await;
}

async fn write(client: &mut Conn, table: &str, kind: Kind, rows: usize, round: usize) -> Duration {
    let row = |number: usize| format!("('{round}-{number}', 'user-{}')", number % 977);
    let one = |rows: &[String]| format!("INSERT INTO {table} (id, user_id) VALUES {}", rows.join(", "));
    let rows: Vec<_> = (0..rows).map(row).collect();
    let statements: Vec<_> = match kind {
        Kind::Single => rows.chunks(1).map(one).collect(),
        Kind::Batch => rows.chunks(100).map(one).collect(),
        Kind::Bulk => vec![format!(
            "INSERT INTO {table} (id, user_id)
             SELECT CONCAT('{round}-', seq), CONCAT('user-', seq % 977) FROM seq_1_to_{}",
            rows.len()
        )],
    };
    let started = Instant::now();
    for statement in &statements {
        client.query_drop(statement).await.unwrap();
    }
    started.elapsed()
}

/// The verbs of a promotion, for one range of 64 slots of an idle store.
async fn verbs(member: &Member) {
    let (slots, mut fences, mut opens) = (SlotSet::range(0, 63), Vec::new(), Vec::new());
    for round in 0..20_u64 {
        let at = 2 + 2 * round;
        let started = Instant::now();
        let name = op(&round.to_string());
        member.driver.fence(&name, epoch(at), &slots, LIMITS).await.unwrap();
        fences.push(started.elapsed());
        let started = Instant::now();
        let all = open(support::all(), at + 1);
        member.driver.apply(epoch(at + 1), &[all], LIMITS).await.unwrap();
        opens.push(started.elapsed());
    }
    println!(
        "fence with position: p50 {:.1?}; open: p50 {:.1?}",
        common::median(fences),
        common::median(opens)
    );
}
