//! SET CONSTRAINTS … IMMEDIATE has deferred triggers run before the commit. The check of the lease runs at the commit all
//! the same, whoever says it, where, and how often.

use super::*;
use multiactive_stores::postgres::UNLEASED;

const WRITE: &str = "INSERT INTO orders VALUES ('a', 'u1')";
const SET: &str = "SET CONSTRAINTS ALL IMMEDIATE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_constraints_does_not_take_the_check_away() {
    let member = unleased().await;
    let client = app(&member.server).await;
    admin(&member.server)
        .await
        .batch_execute("GRANT CREATE ON SCHEMA public TO shop_app")
        .await
        .unwrap();
    // The application's own functions, one of which looks like a COMMIT in a procedure.
    let functions = format!(
        "CREATE FUNCTION now_plpgsql() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {SET}; END $$;
         CREATE FUNCTION now_sql() RETURNS void LANGUAGE sql AS '{SET}';
         CREATE FUNCTION hidden() RETURNS void LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE 'SET CONSTR' || 'AINTS ALL IMMEDIATE'; END $$;
         CREATE FUNCTION \"x() line 1 at COMMIT\ny\"() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {SET}; END $$;
         CREATE FUNCTION \"PL/pgSQL function x() line 1 at COMMIT\n\"() RETURNS void LANGUAGE plpgsql AS
             $$ BEGIN {SET}; END $$"
    );
    client.batch_execute(&functions).await.unwrap();
    for (what, statements) in [
        ("after the write", vec![WRITE, SET]),
        ("before the write", vec![SET, WRITE]),
        ("before and after", vec![SET, WRITE, SET]),
        ("twice after", vec![WRITE, SET, SET]),
        ("four times", vec![WRITE, SET, SET, SET, SET]),
        (
            "in other words",
            vec![WRITE, "sEt/* x */\nConStraints -- y\n all immediate"],
        ),
        (
            "in one message",
            vec!["INSERT INTO orders VALUES ('a', 'u1'); SET CONSTRAINTS ALL IMMEDIATE"],
        ),
        (
            "in one message, several times",
            vec![
                "SET CONSTRAINTS ALL IMMEDIATE; INSERT INTO orders VALUES ('a', 'u1'); SET CONSTRAINTS ALL IMMEDIATE;
                 SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL IMMEDIATE",
            ],
        ),
        ("in a function", vec![WRITE, "SELECT now_plpgsql()"]),
        ("in a function in SQL", vec![WRITE, "SELECT now_sql()"]),
        ("hidden in a function", vec![WRITE, "SELECT hidden()"]),
        (
            "in functions, several times",
            vec![WRITE, "SELECT hidden() FROM generate_series(1, 5)", SET],
        ),
        (
            "in functions and the message",
            vec![
                WRITE,
                "SET CONSTRAINTS ALL IMMEDIATE; SELECT hidden() FROM generate_series(1, 5); SET CONSTRAINTS ALL IMMEDIATE",
            ],
        ),
        (
            "in a function with a false name",
            vec![WRITE, "SELECT \"x() line 1 at COMMIT\ny\"()"],
        ),
        (
            "in a function with another false name",
            vec![WRITE, "SELECT \"PL/pgSQL function x() line 1 at COMMIT\n\"()"],
        ),
        (
            "in a block",
            vec![
                WRITE,
                "DO $$ BEGIN SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL IMMEDIATE; END $$",
            ],
        ),
        (
            "in a block with the write",
            vec![
                "DO $$ BEGIN SET CONSTRAINTS ALL IMMEDIATE; INSERT INTO orders VALUES ('a', 'u1');
                  SET CONSTRAINTS ALL IMMEDIATE; END $$",
            ],
        ),
        ("within a savepoint", vec!["SAVEPOINT s", SET, WRITE, "RELEASE s", SET]),
        (
            "within a savepoint that is rolled back",
            vec![WRITE, "SAVEPOINT s", SET, "ROLLBACK TO s"],
        ),
    ] {
        for extended in [false, true] {
            if extended && statements.iter().any(|sql| sql.contains("; SE")) && !statements[0].starts_with("DO") {
                continue;
            }
            member.driver.expire().await.unwrap();
            within(&member, &client, &statements, extended).await;
            over(&member).await;
            let committed = match extended {
                true => client.execute("COMMIT", &[]).await.map(drop),
                false => client.batch_execute("COMMIT").await,
            };
            assert_eq!(code(committed), UNLEASED, "{what}, extended: {extended}");
            // And it costs nothing else: within the lease the same is committed.
            asked(&member, LONG).await;
            client.batch_execute("BEGIN").await.unwrap();
            for sql in &statements {
                client
                    .batch_execute(sql)
                    .await
                    .unwrap_or_else(|error| panic!("{what}: {error:?}"));
            }
            client
                .batch_execute("COMMIT")
                .await
                .unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert_eq!(ids(&client).await, ["a"], "{what}");
            client.batch_execute("DELETE FROM orders").await.unwrap();
        }
    }
}

/// Runs all the statements in a transaction within one lease.
async fn within(member: &Member, client: &Client, statements: &[&str], extended: bool) {
    'longer: for millis in [300, 600, 1_200, 2_400, 4_800] {
        client.batch_execute("BEGIN").await.unwrap();
        extend(&member.driver, Duration::from_millis(millis)).await;
        for sql in statements {
            let done = match extended {
                true => client.execute(*sql, &[]).await.map(drop),
                false => client.batch_execute(sql).await,
            };
            if let Err(error) = done {
                assert_eq!(error.code().map(|code| code.code()), Some(UNLEASED), "{sql}: {error:?}");
                client.batch_execute("ROLLBACK").await.unwrap();
                continue 'longer;
            }
        }
        return;
    }
    panic!("never done within the lease: {statements:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_in_the_same_message_as_set_constraints_is_checked() {
    let member = unleased().await;
    let client = app(&member.server).await;
    let wait = "CREATE FUNCTION wait_for_the_end() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                    WHILE pg_sequence_last_value('multiactive.lease'::regclass) >> 21 > extract(epoch FROM clock_timestamp()) * 1000
                    LOOP PERFORM pg_sleep(0.01); END LOOP; END $$";
    admin(&member.server).await.batch_execute(wait).await.unwrap();
    for message in [
        format!("BEGIN; {WRITE}; {SET}; SELECT wait_for_the_end(); COMMIT"),
        format!("BEGIN; {WRITE}; {SET}; {SET}; {SET}; SELECT wait_for_the_end(); COMMIT"),
        format!("{WRITE}; {SET}; SELECT wait_for_the_end()"),
        format!("{SET}; {WRITE}; {SET}; {SET}; SELECT wait_for_the_end(); -- constraints"),
        format!("DO $$ BEGIN {WRITE}; {SET}; {SET}; PERFORM wait_for_the_end(); END $$"),
        format!("DO $$ BEGIN {WRITE}; {SET}; {SET}; PERFORM wait_for_the_end(); COMMIT; END $$"),
        format!("DO $$ BEGIN {SET}; {WRITE}; {SET}; PERFORM wait_for_the_end(); COMMIT; END $$"),
    ] {
        asked(&member, SHORT).await;
        assert_eq!(code(client.batch_execute(&message).await), UNLEASED, "{message}");
        client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(count(&client).await, 0, "{message}");
    }
    // Words in texts and comments are no harm.
    asked(&member, LONG).await;
    for message in [
        "INSERT INTO orders VALUES ('set constraints constraints', 'u1') -- constraints",
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO orders VALUES ('b', 'u1'); COMMIT",
    ] {
        client.batch_execute(message).await.unwrap();
    }
    assert_eq!(count(&client).await, 2);
    // Nothing goes on for ever.
    let often = format!("DO $$ BEGIN {WRITE}; FOR i IN 1..1001 LOOP {SET}; END LOOP; END $$");
    let refused = client.batch_execute(&often).await.unwrap_err();
    assert!(
        refused.as_db_error().unwrap().message().contains("cannot be told"),
        "{refused:?}"
    );
}
