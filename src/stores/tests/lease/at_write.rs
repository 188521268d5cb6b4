//! A write outside of the lease is refused, in every way of writing.

use super::*;
use multiactive_stores::postgres::{REFUSED, UNLEASED};

/// Statements that write the row `a`, or one more.
const WAYS: [(&str, &str); 8] = [
    ("insert", "INSERT INTO orders VALUES ('b', 'u1')"),
    (
        "many rows",
        "INSERT INTO orders SELECT 'b' || n, 'u' || n FROM generate_series(1, 500) n",
    ),
    (
        "on conflict",
        "INSERT INTO orders VALUES ('a', 'u1') ON CONFLICT (id) DO UPDATE SET amount = 2",
    ),
    ("update", "UPDATE orders SET amount = amount + 1"),
    ("change of the key", "UPDATE orders SET user_id = 'u2'"),
    ("delete", "DELETE FROM orders"),
    (
        "merge",
        "MERGE INTO orders o USING (VALUES ('a')) v(id) ON o.id = v.id WHEN MATCHED THEN UPDATE SET amount = 3",
    ),
    (
        "with",
        "WITH gone AS (DELETE FROM orders RETURNING *) SELECT count(*) FROM gone",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_outside_of_the_lease_in_any_way_and_level() {
    let member = unleased().await;
    let client = app(&member.server).await;
    asked(&member, LONG).await;
    insert(&client, "a", "u1").await.unwrap();
    for level in LEVELS {
        for (way, sql) in WAYS {
            let within = format!("BEGIN ISOLATION LEVEL {level}; {sql}; ROLLBACK");
            client
                .batch_execute(&within)
                .await
                .unwrap_or_else(|error| panic!("{level}, {way}: {error:?}"));
        }
    }
    copy(&client, "c").await.unwrap();
    client.batch_execute("DELETE FROM orders WHERE id = 'c'").await.unwrap();
    // The snapshots are older than the end of the lease, and see it all the same.
    let mut transactions = Vec::new();
    for level in LEVELS {
        let other = app(&member.server).await;
        other
            .batch_execute(&format!("BEGIN ISOLATION LEVEL {level}"))
            .await
            .unwrap();
        assert_eq!(count(&other).await, 1);
        transactions.push((level, other));
    }
    member.driver.expire().await.unwrap();
    for (level, other) in &transactions {
        for (way, sql) in WAYS {
            other.batch_execute("SAVEPOINT s").await.unwrap();
            assert_eq!(code(other.batch_execute(sql).await), UNLEASED, "{level}, {way}");
            other.batch_execute("ROLLBACK TO s").await.unwrap();
        }
        other.batch_execute("ROLLBACK").await.unwrap();
        for (way, sql) in WAYS {
            let fresh = format!("BEGIN ISOLATION LEVEL {level}; {sql}");
            assert_eq!(code(client.batch_execute(&fresh).await), UNLEASED, "{level}, {way}");
            client.batch_execute("ROLLBACK").await.unwrap();
        }
    }
    assert_eq!(code(copy(&client, "c").await), UNLEASED);
    let statement = client
        .prepare("INSERT INTO orders (id, user_id) VALUES ($1, 'u1')")
        .await
        .unwrap();
    assert_eq!(code(client.execute(&statement, &[&"d"]).await), UNLEASED);
    asked(&member, LONG).await;
    client
        .execute(&statement, &[&"d"])
        .await
        .expect("the same session, the same statement, a new lease");
    assert_eq!(ids(&client).await, ["a", "d"]);
}

async fn copy(client: &Client, id: &str) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in("COPY orders (id, user_id) FROM STDIN").await.unwrap();
    futures::pin_mut!(sink);
    let row = std::io::Cursor::new(format!("{id}\tu1\n").into_bytes());
    futures::SinkExt::send(&mut sink, row).await.unwrap();
    sink.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_since_when_and_what_to_do() {
    let server = shop().await;
    let driver = driver(&server, "east-1", &[]);
    driver.install().await.unwrap();
    let client = app(&server).await;
    // One that was never given a lease has none: that somebody renews it elsewhere proves nothing of what has come here.
    set_all(&driver, true, 1).await;
    let never = insert(&client, "a", "u1").await.unwrap_err();
    assert_eq!(never.code().map(tokio_postgres::error::SqlState::code), Some("MA004"));
    assert!(
        never.as_db_error().unwrap().message().contains("none was given"),
        "{never:?}"
    );
    assert_eq!(driver.inspect().await.unwrap().lease, None);

    let held = extend(&driver, SHORT).await.unwrap();
    insert(&client, "a", "u1").await.unwrap();
    let member = Member {
        server,
        driver,
        unit: "east-1".into(),
    };
    over(&member).await;
    let refusal = insert(&client, "b", "u1").await.unwrap_err();
    let refusal = refusal.as_db_error().unwrap();
    assert_eq!(refusal.code().code(), UNLEASED);
    let until = held.until.to_string().replace('T', " ");
    let said = refusal.message();
    let words = "unit east-1 holds no write lease: it ran out at ";
    assert!(
        said.starts_with(words) && said.contains(&until[..21]),
        "{said}, {until}"
    );
    assert_eq!(
        refusal.hint(),
        Some(
            "nothing of this transaction was written: send it again through any router, another unit may own the slot by now"
        )
    );
    member.driver.expire().await.unwrap();
    let refusal = insert(&client, "b", "u1").await.unwrap_err();
    assert!(refusal.as_db_error().unwrap().message().contains("it was ended at "));

    // Who asks the wrong unit is told that, whatever the lease.
    set_all(&member.driver, false, 2).await;
    assert_eq!(code(insert(&client, "b", "u1").await), REFUSED);
    // What changes no row is refused at its commit at the latest; what inserts none is not.
    set_all(&member.driver, true, 3).await;
    let nothing = "INSERT INTO orders VALUES ('a', 'u1') ON CONFLICT DO NOTHING";
    client.batch_execute(nothing).await.unwrap();
    let nothing = "UPDATE orders SET amount = 2 WHERE id = 'none'";
    assert_eq!(code(client.batch_execute(nothing).await), UNLEASED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_by_a_link_needs_no_lease() {
    let members = mesh(&["east-1", "north-1"]).await;
    set_all(&members[0].driver, true, 1).await;
    members[1].driver.expire().await.unwrap();
    insert(&app(&members[0].server).await, "a", "u1").await.unwrap();
    rows_everywhere(&members, 1).await;
    // Nor does the fence.
    members[0].driver.expire().await.unwrap();
    members[0]
        .driver
        .fence(&op("p"), epoch(2), &all(), LIMITS)
        .await
        .unwrap();
}
