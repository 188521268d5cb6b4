//! What the fence and the lease cost a writer: the same rows into a table with it and into its twin without, in turns, on one real
//! server with durable commits. Ratios of one run count, not the times. And how long closing and opening take.
//!
//! `cargo bench --workspace --bench fence`
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use common::{KINDS, Kind, ROUNDS, TABLES};
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use std::time::{Duration, Instant};
use support::{LIMITS, Member, admin, alone_durable, app, epoch, lease, op, open, set_all};
use tokio_postgres::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let member = alone_durable().await;
    let owner = admin(&member.server).await;
    let sql = "CREATE TABLE orders_plain (LIKE orders INCLUDING ALL); GRANT ALL ON orders_plain TO shop_app;
               ALTER SYSTEM SET autovacuum = off";
    for statement in sql.split(';') {
        owner.batch_execute(statement).await.unwrap();
    }
    owner.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    lease(&member.driver).await;
    set_all(&member.driver, true, 1).await;
    let client = app(&member.server).await;

    common::head();
    for (name, rows, kind) in KINDS {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            for turn in common::turns(round) {
                times[turn].push(write(&client, TABLES[turn], kind, rows, round).await / u32::try_from(rows).unwrap());
            }
            owner
                .batch_execute("SET session_replication_role = replica; DELETE FROM orders; DELETE FROM orders_plain")
                .await
                .unwrap();
            for table in TABLES {
                owner.batch_execute(&format!("VACUUM {table}")).await.unwrap();
            }
        }
        common::line(name, times);
    }
    verbs(&member).await;
}

async fn write(client: &Client, table: &str, kind: Kind, rows: usize, round: usize) -> Duration {
    let single = client
        .prepare(&format!("INSERT INTO {table} (id, user_id) VALUES ($1, $2)"))
        .await
        .unwrap();
    let many = format!("INSERT INTO {table} (id, user_id) SELECT * FROM unnest($1::text[], $2::text[])");
    let many = client.prepare(&many).await.unwrap();
    let ids: Vec<_> = (0..rows).map(|number| format!("{round}-{number}")).collect();
    let keys: Vec<_> = (0..rows).map(|number| format!("user-{}", number % 977)).collect();
    let started = Instant::now();
    match kind {
        Kind::Single => {
            for (id, key) in ids.iter().zip(&keys) {
                client.execute(&single, &[id, key]).await.unwrap();
            }
        }
        Kind::Batch => {
            for (ids, keys) in ids.chunks(100).zip(keys.chunks(100)) {
                client.execute(&many, &[&ids, &keys]).await.unwrap();
            }
        }
        Kind::Bulk => {
            let sql = format!(
                "INSERT INTO {table} (id, user_id)
                 SELECT '{round}-' || n, 'user-' || (n % 977) FROM generate_series(1, {rows}) n"
            );
            client.batch_execute(&sql).await.unwrap();
        }
    }
    started.elapsed()
}

/// The verbs of a promotion, for one range of 64 slots of an idle store.
async fn verbs(member: &Member) {
    let (slots, mut fences, mut opens) = (SlotSet::range(0, 63), Vec::new(), Vec::new());
    for round in 0..20_u64 {
        let at = 2 + 2 * round;
        let started = Instant::now();
        member
            .driver
            .fence(&op(&round.to_string()), epoch(at), &slots, LIMITS)
            .await
            .unwrap();
        fences.push(started.elapsed());
        let started = Instant::now();
        member
            .driver
            .apply(epoch(at + 1), &[open(support::all(), at + 1)], LIMITS)
            .await
            .unwrap();
        opens.push(started.elapsed());
    }
    println!(
        "fence with position: p50 {:.1?}; open: p50 {:.1?}",
        common::median(fences),
        common::median(opens)
    );
}
