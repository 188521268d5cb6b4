//! Sessions and links are encrypted where that is wanted, and a server that does not prove who it is gets nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

#[path = "common/secret.rs"]
mod secret;
mod support;

use multiactive_fleet::certs::Pair;
use multiactive_fleet::postgres::{Options, Postgres as Server};
use multiactive_stores::{Driver, Postgres};
use secret::{Ca, Log, UNITS, is_broken_by_certificate, is_refused};
use support::*;

fn encrypted(server: &Server, (unit, peer): (&str, &str), ca: &Ca) -> Postgres {
    Postgres::new(spec(unit, &[peer]), ca.demanded(access(server)))
}

/// Two units whose servers prove who they are, linked each way; their drivers demand nothing yet.
async fn two(ca: &Ca) -> Vec<Member> {
    let mut members = Vec::new();
    for (unit, peer) in UNITS {
        let options = Options {
            proof: Some(ca.good()),
            ..Options::default()
        };
        let server = shop_with(options).await;
        let driver = driver(&server, unit, &[peer]);
        driver.install().await.unwrap();
        lease(&driver).await;
        let unit = unit.into();
        members.push(Member { server, driver, unit });
    }
    link_all(&members).await;
    members
}

/// How many sessions of ours a server has, and how many of them are encrypted.
async fn sessions(server: &Server) -> (i64, i64) {
    let sql = "SELECT count(*), count(*) FILTER (WHERE s.ssl) FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)
               WHERE a.usename IN ('multiactive_agent', 'multiactive_replication')";
    let row = admin(server).await.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// From now on the server proves who it is by this, and who reads its log must come again.
async fn proves(server: &Server, pair: &Pair) {
    server.proves(pair).unwrap();
    let admin = admin(server).await;
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE usename = 'multiactive_replication' OR usename = 'multiactive_agent'";
    admin.batch_execute(sql).await.unwrap();
}

#[ignore = "make test-tls: a PostgreSQL that was built with TLS comes by npm"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_run_are_encrypted_once_that_is_wanted_and_miss_nothing() {
    let ca = Ca::new();
    let mut members = two(&ca).await;
    set_all(&members[0].driver, true, 1).await;
    let writer = app(&members[0].server).await;
    insert(&writer, "before", "u1").await.unwrap();
    let (all, secret) = sessions(&members[0].server).await;
    assert!(secret < all, "nobody asked for it yet");

    for (member, units) in members.iter_mut().zip(UNITS) {
        member.driver = encrypted(&member.server, units, &ca);
        member.driver.install().await.unwrap();
    }
    link_all(&members).await;
    insert(&writer, "after", "u1").await.unwrap();
    rows_everywhere(&members, 2).await;
    for member in &members {
        until("no session that anyone can read", async || {
            match sessions(&member.server).await {
                (all, secret) if all >= 2 && all == secret => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await;
        let links = member.driver.links().await.unwrap();
        assert!(links.iter().all(|link| link.gap.is_none()), "{links:?}");
    }
}

#[ignore = "make test-tls: a PostgreSQL that was built with TLS comes by npm"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_prove_who_it_is_gets_nothing_until_it_does() {
    let ca = Ca::new();
    let mut members = two(&ca).await;
    for (member, units) in members.iter_mut().zip(UNITS) {
        member.driver = encrypted(&member.server, units, &ca);
    }
    link_all(&members).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let writer = app(&east.server).await;
    for (rows, (what, pair)) in (1..).zip(ca.bad()) {
        let log = Log::of(north.server.log());
        proves(&east.server, &pair).await;
        is_refused(&encrypted(&east.server, UNITS[0], &ca), what).await;
        insert(&writer, what, "u1").await.unwrap();
        linked(north, east, is_broken_by_certificate).await;
        // Its server tries by itself, too, and takes nothing.
        log.says("certificate").await;
        assert_eq!(count(&admin(&north.server).await).await, rows - 1, "{what}");
        proves(&east.server, &ca.good()).await;
        assert_eq!(running(north, east).await.gap, None, "{what}");
        rows_everywhere(&members, rows).await;
    }
}
