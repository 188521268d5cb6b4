//! Who may extend a lease, when, and what becomes of it.

use super::*;
use multiactive_stores::Error;
use multiactive_stores::driver::FenceLimits;
use multiactive_stores::postgres::{REFUSED, UNLEASED};

fn until(held: Option<HeldLease>) -> Option<StoreClock> {
    held.map(|held| held.until)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_call_lengthens_nothing_and_none_shortens() {
    let member = unleased().await;
    let client = app(&member.server).await;
    // It was read long ago: over before it began.
    let early = StoreLease {
        from: now(&member).await,
        length: SHORT,
        granted: Epoch::NEVER,
    };
    assert!(member.driver.extend(early).await.unwrap().is_some());
    over(&member).await;
    assert_eq!(member.driver.extend(early).await.unwrap(), None, "it came too late");
    assert_eq!(code(insert(&client, "a", "u1").await), UNLEASED);

    // Another replica, another driver: the longer one stays, whoever comes last.
    let other = driver(&member.server, "east-1", &[]);
    let (first, held) = asked(&member, LONG).await;
    let shorter = StoreLease {
        from: other.clock().await.unwrap(),
        length: Duration::from_secs(5),
        ..first
    };
    assert_eq!(until(other.extend(shorter).await.unwrap()), until(held));
    assert_eq!(
        until(member.driver.extend(first).await.unwrap()),
        until(held),
        "a repeated call changes nothing"
    );
    let longer = StoreLease {
        from: other.clock().await.unwrap(),
        ..first
    };
    let further = until(other.extend(longer).await.unwrap());
    assert!(further > until(held), "{further:?} {held:?}");
    assert_eq!(until(member.driver.inspect().await.unwrap().lease), further);
    insert(&client, "a", "u1").await.unwrap();

    // What was asked for before the end does not undo it.
    other.expire().await.unwrap();
    assert_eq!(member.driver.extend(longer).await.unwrap(), None);
    assert_eq!(code(insert(&client, "b", "u1").await), UNLEASED);
    assert!(asked(&member, LONG).await.1.is_some());
    insert(&client, "b", "u1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_replicas_at_once_leave_the_longest() {
    let member = unleased().await;
    let drivers: Vec<_> = (0..4).map(|_| driver(&member.server, "east-1", &[])).collect();
    for round in 0..10_u64 {
        let from = now(&member).await;
        let asking = drivers.iter().zip(0_u64..).map(|(driver, number)| {
            driver.extend(StoreLease {
                from,
                length: LONG + Duration::from_secs(10 * round + (number + round) % 4),
                granted: Epoch::NEVER,
            })
        });
        let held: Vec<_> = futures::future::join_all(asking)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let last = member.driver.inspect().await.unwrap().lease;
        assert_eq!(until(last), held.into_iter().map(until).max().unwrap(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_must_have_been_brought_to_the_table_of_the_lease() {
    let server = shop().await;
    let driver = driver(&server, "east-1", &[]);
    driver.install().await.unwrap();
    let ask = async |granted: u64| {
        let from = driver.clock().await.unwrap();
        let granted = if granted == 0 { Epoch::NEVER } else { epoch(granted) };
        let lease = StoreLease {
            from,
            length: LONG,
            granted,
        };
        driver.extend(lease).await
    };
    let not_brought = |asked: Result<_, Error>, wanted: Option<Epoch>| match asked {
        Err(Error::NotBrought { held, .. }) => assert_eq!(held, wanted),
        other => panic!("{other:?}"),
    };
    not_brought(ask(0).await, None);
    // Another replica extends: it did nothing itself, and the database knows what was done.
    set_all(&driver, true, 5).await;
    let client = app(&server).await;
    for granted in [6, 9] {
        not_brought(ask(granted).await, Some(epoch(5)));
    }
    insert(&client, "a", "u1")
        .await
        .expect_err("no lease was ever extended here");
    assert!(ask(5).await.unwrap().is_some());
    assert!(ask(3).await.unwrap().is_some(), "an older lease, a newer table");
    // A table that closes slots counts only once they are closed.
    client.batch_execute("BEGIN").await.unwrap();
    insert(&client, "b", "u1").await.unwrap();
    let limits = FenceLimits {
        deadline: Duration::from_millis(300),
        grace: Duration::from_secs(60),
    };
    let blocked = driver.apply(epoch(6), &[closed(all(), 6)], limits).await;
    assert!(matches!(blocked, Err(Error::FenceBlocked { .. })), "{blocked:?}");
    not_brought(ask(6).await, Some(epoch(5)));
    client.batch_execute("COMMIT").await.unwrap();
    driver.apply(epoch(6), &[closed(all(), 6)], LIMITS).await.unwrap();
    assert!(ask(6).await.unwrap().is_some());
    // Nor does one that may not open them.
    let mut brought = open(all(), 7);
    brought.brought_by = Some(op("p"));
    driver.apply(epoch(7), &[brought], LIMITS).await.unwrap_err();
    not_brought(ask(7).await, Some(epoch(6)));
    for length in [Duration::ZERO, StoreLease::LONGEST + Duration::from_millis(1)] {
        let from = driver.clock().await.unwrap();
        let granted = epoch(6);
        let refused = driver.extend(StoreLease { from, length, granted }).await.unwrap_err();
        assert_eq!(refused.reason(), "LeaseLength");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_survives_no_restart_and_no_crash() {
    let member = unleased().await;
    asked(&member, LONG).await;
    for how in ["restart", "kill -9"] {
        insert(&app(&member.server).await, how, "u1").await.unwrap();
        if how == "kill -9" {
            member.server.kill_9().await;
        }
        member.server.restart().await.unwrap();
        let client = app(&member.server).await;
        assert_eq!(
            code(insert(&client, "late", "u1").await),
            REFUSED,
            "{how}: slots are closed"
        );
        assert_eq!(member.driver.inspect().await.unwrap().lease, None, "{how}");
        // The agent has not applied the table to this server yet.
        let lease = StoreLease {
            from: now(&member).await,
            length: LONG,
            granted: Epoch::NEVER,
        };
        let refused = member.driver.extend(lease).await;
        assert!(
            matches!(refused, Err(Error::NotBrought { held: None, .. })),
            "{refused:?}"
        );
        set_all(&member.driver, true, 1).await;
        assert_eq!(
            code(insert(&client, "late", "u1").await),
            UNLEASED,
            "{how}: open, without a lease"
        );
        member
            .driver
            .extend(lease)
            .await
            .unwrap()
            .expect("read since this server runs");
        // Applied again, it stays.
        set_all(&member.driver, true, 1).await;
        insert(&client, &format!("after {how}"), "u1").await.unwrap();
    }
    assert_eq!(count(&app(&member.server).await).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_delays_no_lease() {
    let member = unleased().await;
    asked(&member, LONG).await;
    let mut idle = Vec::new();
    for level in LEVELS {
        let client = app(&member.server).await;
        client
            .batch_execute(&format!("BEGIN ISOLATION LEVEL {level}"))
            .await
            .unwrap();
        insert(&client, level, "u1").await.unwrap();
        client
            .batch_execute(&format!("UPDATE orders SET amount = 2 WHERE id = '{level}'"))
            .await
            .unwrap();
        idle.push(client);
    }
    let writer = app(&member.server).await;
    // With any of their locks in its way it would wait for as long as they are idle.
    let limit = Duration::from_secs(3);
    for round in 0..5 {
        tokio::time::timeout(limit, asked(&member, LONG))
            .await
            .expect("a lease that waits");
        insert(&writer, &round.to_string(), "u1").await.unwrap();
    }
    tokio::time::timeout(limit, member.driver.expire())
        .await
        .expect("an end that waits")
        .unwrap();
    for client in &idle {
        assert_eq!(code(client.batch_execute("COMMIT").await), UNLEASED);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_set_back_ends_the_lease() {
    let member = unleased().await;
    let client = app(&member.server).await;
    let admin = admin(&member.server).await;
    // The clock of ten minutes ago, seen from a lease of then: it begins in ten minutes.
    let ahead = StoreLease {
        from: now(&member).await,
        length: LONG,
        granted: Epoch::NEVER,
    };
    let later = "SELECT setval('multiactive.lease', (multiactive.clock() / 1000 + 1200000) << 21 | 600000)";
    for round in ["a writer meets it", "an extension meets it"] {
        admin.batch_execute(later).await.unwrap();
        assert_eq!(member.driver.inspect().await.unwrap().lease, None, "{round}");
        if round == "a writer meets it" {
            let refusal = insert(&client, "a", "u1").await.unwrap_err();
            let said = refusal.as_db_error().unwrap();
            assert_eq!(said.code().code(), UNLEASED);
            assert!(said.message().contains("was set back, to before"), "{said:?}");
            // It is gone for good, and not only until the clock comes by it again.
            let refusal = insert(&client, "a", "u1").await.unwrap_err();
            assert!(
                refusal.as_db_error().unwrap().message().contains("it was ended at"),
                "{refusal:?}"
            );
            assert_eq!(member.driver.extend(ahead).await.unwrap(), None, "read before the end");
        }
        assert!(asked(&member, LONG).await.1.is_some(), "{round}");
        insert(&client, round, "u1").await.unwrap();
    }
    // Less than a second is waited for.
    let soon = "SELECT setval('multiactive.lease', (multiactive.clock() / 1000 + 600500) << 21 | 600000)";
    admin.batch_execute(soon).await.unwrap();
    assert_eq!(code(insert(&client, "b", "u1").await), UNLEASED);
    super::until("the lease's beginning", async || {
        insert(&client, "b", "u1").await.map_err(|error| error.to_string())
    })
    .await;
    // A reading from before the clock went back is none.
    let sql = "SELECT multiactive.extend(multiactive.clock() + 60000000, 1000, 0, 0)";
    let refused: String = admin
        .query_one(
            &format!("SELECT refused FROM ({sql}) x, LATERAL (SELECT (x.extend).*) y"),
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(refused, "clock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_can_neither_extend_nor_switch_the_check_off() {
    let member = unleased().await;
    let client = app(&member.server).await;
    for (what, sql) in [
        ("extending", "SELECT multiactive.extend(0, 1000, 0, 0)"),
        ("ending", "SELECT multiactive.expire()"),
        ("setting", "SELECT setval('multiactive.lease', 1)"),
        ("reading", "SELECT last_value FROM multiactive.lease"),
        ("never asked for", "UPDATE multiactive.store SET leased = false"),
        ("no row", "DELETE FROM multiactive.writing"),
        ("no rows", "TRUNCATE multiactive.writing"),
        ("no trigger", "ALTER TABLE multiactive.writing DISABLE TRIGGER ALL"),
        (
            "no trigger there",
            "ALTER TABLE orders DISABLE TRIGGER \"~multiactive_changes\"",
        ),
        ("no function", "DROP FUNCTION multiactive.check_lease CASCADE"),
        ("at once", "SET CONSTRAINTS multiactive.check_lease IMMEDIATE"),
        ("its own check", "SELECT multiactive.in_lease()"),
    ] {
        assert_eq!(code(client.batch_execute(sql).await), "42501", "{what}");
    }
    // By number, past the names.
    let admin = admin(&member.server).await;
    let oid: u32 = admin
        .query_one("SELECT 'multiactive.lease'::regclass::oid", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(
        code(
            client
                .batch_execute(&format!("SELECT setval({oid}::regclass, 1)"))
                .await
        ),
        "42501"
    );
    // Things of its own with the same names change nothing.
    let sql = "CREATE TEMP SEQUENCE lease; CREATE TEMP TABLE writing (); CREATE TEMP TABLE store (unit text);
               SET search_path = pg_temp, public";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(code(insert(&client, "a", "u1").await), UNLEASED);
}
