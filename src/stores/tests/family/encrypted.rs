//! Sessions and links are encrypted where that is wanted, and a server that does not prove who it is gets nothing.

#[path = "../common/secret.rs"]
mod secret;

use super::support::*;
use multiactive_fleet::certs::Pair;
use multiactive_stores::{Driver, MySqlFamily};
use mysql_async::prelude::Queryable;
use secret::{Ca, Log, UNITS, is_broken_by_certificate, is_refused};

fn encrypted(server: &Server, (unit, peer): (&str, &str), ca: &Ca) -> MySqlFamily {
    new(spec(unit, &[peer]), ca.demanded(access(server)))
}

/// Two units whose servers prove who they are, linked each way; their drivers demand nothing yet.
async fn two(ca: &Ca) -> Vec<Member> {
    let mut members = Vec::new();
    for (unit, peer) in UNITS {
        let options = Options {
            proof: Some(ca.good()),
            ..Options::default()
        };
        members.push(installed(shop_of(options).await, unit, &[peer]).await);
    }
    link_all(&members).await;
    members
}

/// Now they demand it, and the servers let nobody of ours in who speaks in the open.
async fn demanded(members: &mut [Member], ca: &Ca) {
    for (member, units) in members.iter_mut().zip(UNITS) {
        let mut admin = admin(&member.server).await;
        for user in ["multiactive_agent", "multiactive_replication"] {
            admin
                .query_drop(format!("ALTER USER {user}@'%' REQUIRE SSL"))
                .await
                .unwrap();
        }
        end_ours(&member.server).await;
        member.driver = encrypted(&member.server, units, ca);
    }
    link_all(members).await;
}

/// Ends all sessions of ours with a server, those of links into others too.
async fn end_ours(server: &Server) {
    let mut admin = admin(server).await;
    let sql =
        "SELECT id FROM information_schema.processlist WHERE user IN ('multiactive_agent', 'multiactive_replication')";
    for id in admin.query::<u64, _>(sql).await.unwrap() {
        // It may have ended by itself.
        let _ = admin.query_drop(format!("KILL {id}")).await;
    }
}

/// From now on the server proves who it is by this, and who reads its log must come again.
async fn proves(server: &Server, pair: &Pair) {
    server.proves(pair).unwrap();
    take_certificate(server).await;
    end_ours(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_run_are_encrypted_once_that_is_wanted_and_miss_nothing() {
    let ca = Ca::new();
    let mut members = two(&ca).await;
    set_all(&members[0].driver, true, 1).await;
    let mut writer = app(&members[0].server).await;
    insert(&mut writer, "before", "u1").await.unwrap();
    demanded(&mut members, &ca).await;
    insert(&mut writer, "after", "u1").await.unwrap();
    rows_everywhere(&members, 2).await;
    for member in &members {
        let links = member.driver.links().await.unwrap();
        assert!(links.iter().all(|link| link.gap.is_none()), "{links:?}");
    }
    let open = driver(&members[0].server, "east-1", &["north-1"]).inspect().await;
    assert!(open.is_err(), "who speaks in the open is let in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_prove_who_it_is_gets_nothing_until_it_does() {
    let ca = Ca::new();
    let mut members = two(&ca).await;
    demanded(&mut members, &ca).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    for (rows, (what, pair)) in (1..).zip(ca.bad()) {
        let log = Log::of(north.server.log());
        proves(&east.server, &pair).await;
        is_refused(&encrypted(&east.server, UNITS[0], &ca), what).await;
        insert(&mut app(&east.server).await, what, "u1").await.unwrap();
        linked(north, east, is_broken_by_certificate).await;
        // Its server tries by itself, too, and takes nothing.
        log.says("SSL connection error").await;
        assert_eq!(count(&mut admin(&north.server).await).await, rows - 1, "{what}");
        proves(&east.server, &ca.good()).await;
        assert_eq!(running(north, east).await.gap, None, "{what}");
        rows_everywhere(&members, rows).await;
    }
}
