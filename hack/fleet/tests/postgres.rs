//! A real PostgreSQL server: made, killed, restarted on its port and data, and gone without a trace.
#![allow(clippy::unwrap_used)] // helpers of tests, too

use std::process::Command;

use multiactive_fleet::postgres::{Options, Postgres};
use multiactive_fleet::process::start_time;

/// What a query answers, or psql's error.
fn query(server: &Postgres, sql: &str) -> Result<String, String> {
    let url = server.url("postgres", "postgres");
    let out = Command::new(server.bin().join("psql"))
        .args([&url, "-XAtqc", sql])
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if out.status.success() {
        Ok(text(&out.stdout))
    } else {
        Err(text(&out.stderr))
    }
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_what_was_committed() {
    let server = Postgres::start(Options {
        fsync: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let (port, first) = (server.port(), server.pid().unwrap());
    for (setting, want) in [
        ("wal_level", "logical"),
        ("max_prepared_transactions", "0"),
        ("track_commit_timestamp", "on"),
        ("wal_retrieve_retry_interval", "200ms"),
        ("fsync", "on"),
        ("listen_addresses", "127.0.0.1"),
    ] {
        assert_eq!(
            query(&server, &format!("show {setting}")).as_deref(),
            Ok(want),
            "{setting}"
        );
    }
    query(&server, "create table t (a int); insert into t values (7)").unwrap();

    server.kill_9().await;
    assert_eq!(
        (server.pid(), start_time(first)),
        (None, None),
        "the killed server is gone"
    );
    assert!(query(&server, "select 1").is_err(), "nobody answers");
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(query(&server, "select a from t").as_deref(), Ok("7"));

    server.stop().await;
    assert!(query(&server, "select 1").is_err(), "a stopped server does not answer");
    server.restart().await.unwrap();
    assert_eq!(query(&server, "select a from t").as_deref(), Ok("7"));

    let (log, pid) = (server.log(), server.pid().unwrap());
    assert!(log.exists() && start_time(pid).is_some());
    drop(server);
    assert!(
        !log.exists() && !log.parent().unwrap().exists(),
        "the folder is removed"
    );
    assert_eq!(start_time(pid), None, "the process is gone");
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_two_servers_stand_side_by_side() {
    let options = Options {
        password: "one's own".into(),
        ..Options::default()
    };
    let (a, b) = tokio::join!(Postgres::start(Options::default()), Postgres::start(options));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!(a.port(), b.port());
    let wrong = format!("postgres://postgres:wrong@127.0.0.1:{}/postgres", a.port());
    let refused = Command::new(a.bin().join("psql"))
        .args([&wrong, "-c", "select 1"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("password authentication failed"));
    assert_ne!(
        query(&a, "select system_identifier from pg_control_system()").unwrap(),
        query(&b, "select system_identifier from pg_control_system()").unwrap(),
    );
}

#[tokio::test]
async fn a_port_in_use_is_said_so_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Postgres::start(Options {
        port: Some(port),
        ..Options::default()
    })
    .await
    .unwrap_err()
    .to_string();
    assert!(error.contains("in use"), "{error}");
}
