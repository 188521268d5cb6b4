//! Who wrote within the lease and commits after it leaves nothing behind.

use super::*;
use multiactive_stores::postgres::UNLEASED;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wrote_before_the_deadline_does_not_commit_after_it() {
    let member = unleased().await;
    let client = app(&member.server).await;
    asked(&member, LONG).await;
    insert(&client, "a", "u1").await.unwrap();
    for level in LEVELS {
        for write in [
            "INSERT INTO orders VALUES ('late', 'u1')",
            "INSERT INTO orders SELECT 'late' || n, 'u' || n FROM generate_series(1, 200) n",
            "UPDATE orders SET amount = 99",
            "DELETE FROM orders",
        ] {
            member.driver.expire().await.unwrap();
            written_before(&member, &client, &format!("BEGIN ISOLATION LEVEL {level}"), write).await;
            assert_eq!(code(client.batch_execute("COMMIT").await), UNLEASED, "{level}, {write}");
        }
    }
    let sql = "SELECT id, amount FROM orders";
    let rows = client.query(sql, &[]).await.unwrap();
    assert_eq!(rows.len(), 1, "nothing of all this is there");
    assert_eq!(rows[0].get::<_, i32>(1), 1);

    // Who commits before it is there.
    client.batch_execute("BEGIN").await.unwrap();
    asked(&member, LONG).await;
    insert(&client, "b", "u1").await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(ids(&client).await, ["a", "b"]);
    // A lease that was over in between does not matter: the one of the commit counts.
    member.driver.expire().await.unwrap();
    written_before(&member, &client, "BEGIN", "INSERT INTO orders VALUES ('c', 'u1')").await;
    asked(&member, LONG).await;
    client.batch_execute("COMMIT").await.unwrap();
    // Nor does that of a transaction that only reads.
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(count(&client).await, 3);
    member.driver.expire().await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_lease_stops_the_commits_of_all_who_wrote() {
    let member = unleased().await;
    asked(&member, LONG).await;
    let mut writers = Vec::new();
    for number in 0..6 {
        let client = app(&member.server).await;
        client.batch_execute("BEGIN").await.unwrap();
        insert(&client, &number.to_string(), &key_of(number, 0)).await.unwrap();
        writers.push(client);
    }
    member.driver.expire().await.unwrap();
    for writer in &writers {
        assert_eq!(code(writer.batch_execute("COMMIT").await), UNLEASED);
    }
    assert_eq!(count(&writers[0]).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn savepoints_take_the_check_away_only_with_what_was_written() {
    let member = unleased().await;
    let client = app(&member.server).await;
    let row = |id: &str| format!("INSERT INTO orders VALUES ('{id}', 'u1')");
    let [a, b, c] = ["a", "b", "c"].map(row);
    for (what, write, fails) in [
        ("kept", format!("SAVEPOINT s; {a}; RELEASE s"), true),
        ("taken back", format!("SAVEPOINT s; {a}; ROLLBACK TO s"), false),
        (
            "taken back and written again",
            format!("SAVEPOINT s; {a}; ROLLBACK TO s; {b}"),
            true,
        ),
        ("written before", format!("{a}; SAVEPOINT s; {b}; ROLLBACK TO s"), true),
        (
            "one within another",
            format!("SAVEPOINT s; {a}; SAVEPOINT t; {b}; ROLLBACK TO s; SAVEPOINT s; {c}; RELEASE s"),
            true,
        ),
        (
            "an exception that is caught",
            format!("DO $$ BEGIN BEGIN {a}; RAISE 'x'; EXCEPTION WHEN others THEN {b}; END; END $$"),
            true,
        ),
    ] {
        member.driver.expire().await.unwrap();
        written_before(&member, &client, "BEGIN", &write).await;
        let ended = client.batch_execute("COMMIT").await;
        match fails {
            true => assert_eq!(code(ended), UNLEASED, "{what}"),
            false => ended.unwrap_or_else(|error| panic!("{what}: {error:?}")),
        }
    }
    assert_eq!(count(&client).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commits_by_itself_is_checked_at_its_end() {
    let member = unleased().await;
    let client = app(&member.server).await;
    // The row is written first, and then the statement waits until the lease is over.
    let wait = "CREATE FUNCTION wait_for_the_end() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
                    WHILE pg_sequence_last_value('multiactive.lease'::regclass) >> 21 > extract(epoch FROM clock_timestamp()) * 1000
                    LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN 'u1'; END $$";
    let admin = admin(&member.server).await;
    admin.batch_execute(wait).await.unwrap();
    let sql = "GRANT USAGE ON SCHEMA multiactive TO shop_app; GRANT SELECT ON multiactive.lease TO shop_app";
    admin.batch_execute(sql).await.unwrap();
    let insert =
        "WITH one AS (INSERT INTO orders VALUES ('a', 'u1') RETURNING id) SELECT id, wait_for_the_end() FROM one";
    let statement = client.prepare(insert).await.unwrap();
    asked(&member, SHORT).await;
    assert_eq!(code(client.query(&statement, &[]).await), UNLEASED, "prepared");
    asked(&member, SHORT).await;
    assert_eq!(code(client.batch_execute(insert).await), UNLEASED, "a simple query");
    // The first of two transactions in one message was over before.
    asked(&member, SHORT).await;
    let both = "INSERT INTO orders VALUES ('b', 'u1'); COMMIT; BEGIN; INSERT INTO orders VALUES ('c', 'u1');
                SELECT wait_for_the_end(); COMMIT";
    assert_eq!(code(client.batch_execute(both).await), UNLEASED);
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(ids(&client).await, ["b"]);
    // So are those of a procedure, each at its own COMMIT.
    let sql = "CREATE PROCEDURE several() LANGUAGE plpgsql AS $$ BEGIN
                   INSERT INTO orders VALUES ('d', 'u1'); COMMIT;
                   INSERT INTO orders VALUES ('e', 'u1'); PERFORM wait_for_the_end(); COMMIT; END $$;
               GRANT CREATE ON SCHEMA public TO shop_app";
    admin.batch_execute(sql).await.unwrap();
    asked(&member, SHORT).await;
    assert_eq!(code(client.batch_execute("CALL several()").await), UNLEASED);
    asked(&member, SHORT).await;
    let block = "DO $$ BEGIN INSERT INTO orders VALUES ('f', 'u1'); COMMIT; CALL several(); END $$";
    client.batch_execute("DELETE FROM orders WHERE id = 'd'").await.unwrap();
    assert_eq!(code(client.batch_execute(block).await), UNLEASED);
    assert_eq!(ids(&client).await, ["b", "d", "f"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_check_leaves_behind_is_swept_up() {
    let member = unleased().await;
    let client = app(&member.server).await;
    asked(&member, LONG).await;
    let size = "SELECT pg_relation_size('multiactive.writing'), (SELECT count(*) FROM multiactive.writing)";
    let many = "DO $$ BEGIN FOR i IN 1..500 LOOP INSERT INTO orders VALUES (i::text, 'u1'); END LOOP; END $$;
                DELETE FROM orders";
    let admin = admin(&member.server).await;
    until("a megabyte of rows", async || {
        client.batch_execute(many).await.unwrap();
        let bytes: i64 = admin.query_one(size, &[]).await.unwrap().get(0);
        (bytes > 1_048_576)
            .then_some(())
            .ok_or_else(|| format!("{bytes} bytes"))
    })
    .await;
    // Those of a transaction under way stay, and so does its check.
    client
        .batch_execute("BEGIN; INSERT INTO orders VALUES ('a', 'u1')")
        .await
        .unwrap();
    asked(&member, LONG).await;
    let rows: i64 = admin.query_one(size, &[]).await.unwrap().get(1);
    assert_eq!(rows, 0);
    member.driver.expire().await.unwrap();
    assert_eq!(code(client.batch_execute("COMMIT").await), UNLEASED);
}
