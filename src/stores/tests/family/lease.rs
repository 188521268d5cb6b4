//! The write lease: nothing is written outside of it, and who wrote before its end does not commit long after it.

use super::support::*;
use multiactive_core::epoch::Epoch;
use multiactive_stores::driver::StoreLease;
use multiactive_stores::family::UNLEASED;
use multiactive_stores::{Driver, Error};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::time::{Duration, Instant};

/// How long a lease of the tests is, where it should end.
const SHORT: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_outside_of_the_lease_in_any_level_and_time_zone() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let mut app = app(&member.server).await;
    insert(&mut app, "before", "u1").await.unwrap();
    member.driver.expire().await.unwrap();
    let held = member.driver.inspect().await.unwrap().lease;
    assert_eq!(held, None);
    let refused = insert(&mut app, "ended", "u1").await.unwrap_err().to_string();
    assert!(refused.contains("--read-only"), "{refused}");
    // Who may write to a read-only server meets the lease itself.
    let mut admin = admin(&member.server).await;
    admin.query_drop("USE shop").await.unwrap();
    for zone in ["SYSTEM", "+00:00", "-11:00", "+13:00"] {
        admin
            .query_drop(format!("SET SESSION time_zone = '{zone}'"))
            .await
            .unwrap();
        for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
            let sql = format!("SET TRANSACTION ISOLATION LEVEL {level}");
            admin.query_drop(sql).await.unwrap();
            admin.query_drop("BEGIN").await.unwrap();
            let refused = insert(&mut admin, zone, "u1").await;
            assert_eq!(code(refused), UNLEASED, "{zone} {level}");
            admin.query_drop("ROLLBACK").await.unwrap();
        }
        let same: Option<String> = admin.query_first("SELECT @@session.time_zone").await.unwrap();
        assert_eq!(same.as_deref(), Some(zone), "the session keeps its time zone");
    }
    let refused = insert(&mut admin, "x", "u1").await.unwrap_err().to_string();
    assert!(
        refused.contains("unit east-1 holds no write lease: it was ended at 20"),
        "{refused}"
    );
    extend(&member.driver, Duration::from_secs(60)).await.expect("a lease");
    insert(&mut app, "after", "u1").await.unwrap();
    // A clock as it stood still at the statement's beginning is not asked.
    extend(&member.driver, Duration::from_secs(60)).await.expect("a lease");
    for sql in LONG_AGO {
        app.query_drop(sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_extended_only_as_it_should_be() {
    let member = alone().await;
    let driver = &member.driver;
    set_all(driver, true, 5).await;
    let from = driver.clock().await.unwrap();
    let lease = |length, granted| StoreLease { from, length, granted };
    let minute = Duration::from_secs(60);
    let newer = driver.extend(lease(minute, epoch(6))).await;
    assert!(
        matches!(&newer, Err(Error::NotBrought { held: Some(held), .. }) if *held == epoch(5)),
        "{newer:?}"
    );
    for length in [Duration::ZERO, StoreLease::LONGEST + Duration::from_millis(1)] {
        let wrong = driver.extend(lease(length, epoch(5))).await;
        assert!(matches!(wrong, Err(Error::LeaseLength { .. })), "{wrong:?}");
    }
    let held = driver.inspect().await.unwrap().lease.unwrap();
    let shorter = driver.extend(lease(minute, epoch(5))).await.unwrap().unwrap();
    assert_eq!(held.until, shorter.until, "what is valid is never shortened");
    driver.expire().await.unwrap();
    let asked_before = driver.extend(lease(minute, epoch(5))).await.unwrap();
    assert_eq!(asked_before, None, "asked for before it was ended");
    let held = extend(driver, minute).await.unwrap();
    assert!(held.left > Duration::from_secs(58) && held.left <= minute, "{held:?}");
    // Nobody would end writers at its deadline.
    let mut admin = admin(&member.server).await;
    admin.query_drop("SET GLOBAL event_scheduler = OFF").await.unwrap();
    let endless = driver.extend(lease(minute, epoch(5))).await;
    assert!(
        matches!(&endless, Err(Error::Setting { name, .. }) if *name == "event_scheduler"),
        "{endless:?}"
    );
    // After a restart there is none, and none to extend before a table was applied.
    member.server.restart().await.unwrap();
    let early = driver.extend(lease(minute, Epoch::NEVER)).await;
    assert!(matches!(early, Err(Error::NotBrought { held: None, .. })), "{early:?}");
    assert_eq!(driver.inspect().await.unwrap().lease, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_clock_that_was_set_back_a_lease_is_none() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let mut admin = admin(&member.server).await;
    // As if it had been read an hour later.
    let until = member.driver.clock().await.unwrap().as_micros() / 1000 + 3_600_000;
    let packed = until << 21 | 10_000;
    set_lease(&mut admin, packed).await;
    admin.query_drop("USE shop").await.unwrap();
    let refused = insert(&mut admin, "x", "u1").await.unwrap_err().to_string();
    assert!(refused.contains("was set back, to before"), "{refused}");
    assert_eq!(member.driver.inspect().await.unwrap().lease, None);
    extend(&member.driver, Duration::from_secs(60)).await.expect("a lease");
    insert(&mut app(&member.server).await, "after", "u1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_waits_for_no_writer_and_is_seen_by_the_oldest_snapshot() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        member.driver.expire().await.unwrap();
        extend(&member.driver, SHORT).await.expect("a lease");
        let mut old = app(&member.server).await;
        let sql = format!("SET TRANSACTION ISOLATION LEVEL {level}");
        old.query_drop(sql).await.unwrap();
        old.query_drop("BEGIN").await.unwrap();
        insert(&mut old, &format!("{level} one"), "u1").await.unwrap();
        let started = Instant::now();
        while started.elapsed() < SHORT * 2 {
            let asked = Instant::now();
            extend(&member.driver, SHORT).await.expect("a lease");
            assert!(
                asked.elapsed() < Duration::from_millis(500),
                "{level}: {:?}",
                asked.elapsed()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let two = insert(&mut old, &format!("{level} two"), "u1").await;
        two.expect("it sees the renewed lease");
        extend(&member.driver, SHORT).await.expect("a lease");
        old.query_drop("COMMIT").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_deadline_writers_are_ended_whatever_they_wait_for() {
    writers_end_at_the_deadline(false).await;
}

/// Whoever extended the lease last may have died with its lock, or anybody else may hold it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_deadline_writers_are_ended_whoever_holds_the_lock() {
    writers_end_at_the_deadline(true).await;
}

async fn writers_end_at_the_deadline(locked: bool) {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    member.driver.expire().await.unwrap();
    let held = extend(&member.driver, SHORT).await.expect("a lease");
    let deadline = Instant::now() + held.left;
    let mut holder = app(&member.server).await;
    if locked {
        let lock: Option<bool> = holder
            .query_first("SELECT GET_LOCK('multiactive.lease', 4)")
            .await
            .unwrap();
        assert_eq!(lock, Some(true));
    }
    // One sits on his transaction, one waits for the same key: `read_only` alone would wait for him, and he be acknowledged.
    let (mut idle, mut waiting) = (app(&member.server).await, app(&member.server).await);
    idle.query_drop("BEGIN").await.unwrap();
    insert(&mut idle, "same", "u1").await.unwrap();
    let waits = tokio::spawn(async move { insert(&mut waiting, "same", "u1").await.map(|()| Instant::now()) });
    let mut looks = None;
    until("the server to be read-only", async || {
        match is_read_only(&member.server, &mut looks).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("not yet".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
    let late = Instant::now().saturating_duration_since(deadline);
    assert!(late < Duration::from_millis(900), "{late:?} after the deadline");
    assert!(Instant::now() >= deadline, "before the deadline");
    assert!(idle.query_drop("COMMIT").await.is_err(), "his session is gone");
    let waited = waits.await.unwrap();
    assert!(waited.is_err(), "acknowledged after the deadline");
    assert_eq!(count(&mut admin(&member.server).await).await, 0);
    holder.disconnect().await.unwrap();
    // And what comes by a link would still be applied: only sessions were ended.
    extend(&member.driver, Duration::from_secs(60)).await.expect("a lease");
    insert(&mut app(&member.server).await, "after", "u1").await.unwrap();
}

/// Whether a server is read-only. Whoever runs a statement while writers are ended may be ended with them, and so may who looks: he
/// comes again.
async fn is_read_only(server: &Server, session: &mut Option<Conn>) -> Result<bool, mysql_async::Error> {
    let mut looks = match session.take() {
        Some(looks) => looks,
        None => Conn::from_url(format!("{}?prefer_socket=false", server.url("root", ""))).await?,
    };
    let is: Option<bool> = looks.query_first("SELECT @@global.read_only").await?;
    *session = Some(looks);
    Ok(is == Some(true))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_frozen_over_its_deadline_takes_no_write_when_it_goes_on() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    member.driver.expire().await.unwrap();
    let mut app = app(&member.server).await;
    extend(&member.driver, SHORT).await.expect("a lease");
    member.server.freeze().await;
    let waits = tokio::spawn(async move { insert(&mut app, "x", "u1").await });
    tokio::time::sleep(SHORT + Duration::from_millis(200)).await;
    assert!(!waits.is_finished(), "it waits for the frozen server");
    member.server.thaw();
    assert!(waits.await.unwrap().is_err(), "the lease was over when it was written");
    assert_eq!(count(&mut admin(&member.server).await).await, 0);
}
