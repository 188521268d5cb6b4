//! A real MySQL server: made, killed, restarted on its port and data, frozen, and gone without a trace; and its own client.
//! `make test-mysql`.
#![allow(clippy::unwrap_used)] // helpers of tests, too

use multiactive_fleet::mysql::{MySql, Options};
use multiactive_fleet::process::start_time;
use mysql_async::prelude::Queryable;
use std::time::Duration;

/// What a query answers, or the server's error.
async fn query(server: &MySql, sql: &str) -> Result<Option<String>, String> {
    let mut client = mysql_async::Conn::from_url(server.url("root", "mysql"))
        .await
        .map_err(|error| error.to_string())?;
    let answer = client.query_first(sql).await.map_err(|error| error.to_string());
    client.disconnect().await.unwrap();
    answer
}

async fn says(server: &MySql, sql: &str) -> String {
    query(server, sql).await.unwrap().unwrap()
}

#[tokio::test]
#[ignore = "it needs packages of Debian's unstable release: make test-mysql"]
async fn a_killed_server_comes_back_on_its_port_with_what_was_committed() {
    let server = MySql::start(Options {
        fsync: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let (port, first) = (server.port(), server.pid().unwrap());
    let number = server.number().to_string();
    for (setting, want) in [
        ("server_id", number.as_str()),
        ("gtid_mode", "ON"),
        ("enforce_gtid_consistency", "ON"),
        ("log_replica_updates", "1"),
        ("sync_binlog", "1"),
        ("innodb_flush_log_at_trx_commit", "1"),
        ("event_scheduler", "ON"),
        ("read_only", "1"),
        ("bind_address", "127.0.0.1"),
        // Nothing of how it was made is in its log.
        ("gtid_executed", ""),
    ] {
        assert_eq!(
            says(&server, &format!("SELECT @@global.{setting}")).await,
            want,
            "{setting}"
        );
    }
    assert!(says(&server, "SELECT VERSION()").await.starts_with("9."));
    query(&server, "CREATE TABLE t (a INT PRIMARY KEY)").await.unwrap();
    query(&server, "INSERT INTO t VALUES (7)").await.unwrap();
    query(&server, "SET GLOBAL read_only = 0").await.unwrap();

    server.kill_9().await;
    assert_eq!(
        (server.pid(), start_time(first)),
        (None, None),
        "the killed server is gone"
    );
    assert!(query(&server, "SELECT 1").await.is_err(), "nobody answers");
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(says(&server, "SELECT a FROM t").await, "7");
    assert_eq!(
        says(&server, "SELECT @@global.read_only").await,
        "1",
        "a server starts fenced"
    );

    let (log, pid) = (server.log(), server.pid().unwrap());
    assert!(log.exists() && start_time(pid).is_some());
    drop(server);
    assert!(!log.parent().unwrap().exists(), "the folder is removed");
    assert_eq!(start_time(pid), None, "the process is gone");
}

#[tokio::test]
#[ignore = "it needs packages of Debian's unstable release: make test-mysql"]
async fn a_frozen_server_is_silent_and_goes_on_and_two_stand_side_by_side() {
    let options = Options {
        password: r"one's \own".into(),
        ..Options::default()
    };
    let (a, b) = tokio::join!(MySql::start(Options::default()), MySql::start(options));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!((a.port(), a.number()), (b.port(), b.number()));
    let name = "SELECT @@server_uuid";
    assert_ne!(says(&a, name).await, says(&b, name).await, "each names itself");
    let mut wrong = a.url("root", "mysql");
    wrong = wrong.replace("multiactive", "wrong");
    let refused = mysql_async::Conn::from_url(wrong).await.unwrap_err().to_string();
    assert!(refused.contains("Access denied"), "{refused}");

    let said = b.client().args(["--batch", "-e", name]).output().await.unwrap();
    let said = (String::from_utf8(said.stdout), String::from_utf8(said.stderr));
    let wanted = format!("@@server_uuid\n{}\n", says(&b, name).await);
    assert_eq!(said, (Ok(wanted), Ok(String::new())), "its own client is let in");

    a.freeze().await;
    let silent = tokio::time::timeout(Duration::from_millis(300), query(&a, "SELECT 1")).await;
    assert!(silent.is_err(), "a frozen server does not answer: {silent:?}");
    assert_eq!(says(&b, "SELECT 1").await, "1", "the other one does");
    a.thaw();
    assert_eq!(says(&a, "SELECT 1").await, "1");
}
