//! The fence, on a real server: who may write which slot, in every way of writing, and after restarts and copies.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::hash::Function;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{FenceLimits, KeyspaceSpec};
use multiactive_stores::postgres::REFUSED;
use multiactive_stores::{Driver, Error, Postgres};
use std::collections::BTreeMap;
use std::time::Duration;
use support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_in_sql_are_those_of_the_published_vectors() {
    #[derive(serde::Deserialize)]
    struct Vector {
        key: String,
        slots: u32,
        slot: i32,
    }
    let mut functions = vec![(Function::Md5, "md5")];
    if release() == Release::Newest {
        functions.push((Function::Crc32, "crc32"));
    }
    let mut all: BTreeMap<(u32, &str), (Function, Vec<Vector>)> = BTreeMap::new();
    for (function, name) in functions {
        let path = format!("{}/../core/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let vectors: Vec<Vector> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(vectors.len() >= 150, "only {} vectors", vectors.len());
        for vector in vectors {
            let of_size = all.entry((vector.slots, name)).or_insert((function, Vec::new()));
            of_size.1.push(vector);
        }
    }
    let server = shop().await;
    let admin = admin(&server).await;
    for ((slots, _), (function, vectors)) in all {
        let mut spec = spec("east-1", &[]);
        spec.keyspace = KeyspaceSpec {
            slots,
            function,
            overrides: BTreeMap::new(),
            ..spec.keyspace
        };
        Postgres::new(spec, access(&server)).install().await.unwrap();
        let name = slot_function(&admin).await;
        for Vector { key, slot, .. } in vectors {
            let sql = format!("SELECT multiactive.{name}($1)");
            let got: i32 = admin.query_one(&sql, &[&key]).await.unwrap().get(0);
            assert_eq!(got, slot, "key {key:?} in {slots} slots by {function}");
        }
        let publications = "DO $$ DECLARE p text; BEGIN FOR p IN SELECT pubname FROM pg_publication LOOP
                            EXECUTE format('DROP PUBLICATION %I', p); END LOOP; END $$";
        admin.batch_execute(publications).await.unwrap();
        admin.batch_execute("DROP SCHEMA multiactive CASCADE").await.unwrap();
    }
}

async fn slot_function(admin: &tokio_postgres::Client) -> String {
    let sql = "SELECT quote_ident(proname) FROM pg_proc WHERE proname LIKE 'slot\\_%'
               AND pronamespace = 'multiactive'::regnamespace";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_open_slots_take_writes_in_every_way_of_writing() {
    let member = alone().await;
    let app = app(&member.server).await;
    let (open_key, closed_key) = (key_of(3, 0), key_of(100, 0));

    assert_eq!(
        code(insert(&app, "a", &open_key).await),
        REFUSED,
        "a store starts closed"
    );
    let grants = [open(SlotSet::range(0, 63), 1), closed(SlotSet::range(64, 255), 1)];
    let applied = member.driver.apply(epoch(1), &grants, LIMITS).await.unwrap();
    assert_eq!(applied.opened, 64);
    insert(&app, "a", &open_key).await.unwrap();
    insert(&app, "vip", "vip-1")
        .await
        .expect("an override sends the key to slot 7");

    let refusal = insert(&app, "b", &closed_key).await.unwrap_err();
    let refusal = refusal.as_db_error().unwrap();
    assert_eq!(
        refusal.message(),
        "keyspace users, slot 100 is not open for writes in unit east-1"
    );
    assert_eq!(
        refusal.hint(),
        Some("send the write to the unit that owns the slot, through any router")
    );

    for (what, sql) in [
        ("insert", format!("INSERT INTO orders VALUES ('b', '{closed_key}')")),
        (
            "many rows",
            format!("INSERT INTO orders VALUES ('b', '{open_key}'), ('c', '{closed_key}')"),
        ),
        (
            "insert … select",
            format!("INSERT INTO orders SELECT 'x' || n, '{closed_key}' FROM generate_series(1, 3) n"),
        ),
        (
            "merge that inserts",
            format!(
                "MERGE INTO orders o USING (VALUES ('new')) v(id) ON o.id = v.id
                 WHEN NOT MATCHED THEN INSERT VALUES (v.id, '{closed_key}')"
            ),
        ),
        (
            "change of the key to a closed slot",
            format!("UPDATE orders SET user_id = '{closed_key}' WHERE id = 'a'"),
        ),
        (
            "upsert that changes the key",
            format!(
                "INSERT INTO orders VALUES ('a', '{open_key}')
                     ON CONFLICT (id) DO UPDATE SET user_id = '{closed_key}'"
            ),
        ),
        (
            "merge",
            format!(
                "MERGE INTO orders o USING (VALUES ('a')) v(id) ON o.id = v.id
                     WHEN MATCHED THEN UPDATE SET user_id = '{closed_key}'"
            ),
        ),
        ("truncate", "TRUNCATE orders".to_owned()),
    ] {
        assert_eq!(code(app.batch_execute(&sql).await), REFUSED, "{what}");
    }
    let sink = app.copy_in("COPY orders (id, user_id) FROM STDIN").await.unwrap();
    let rows = format!("x\t{open_key}\ny\t{closed_key}\n");
    futures::pin_mut!(sink);
    futures::SinkExt::send(&mut sink, std::io::Cursor::new(rows.into_bytes()))
        .await
        .unwrap();
    assert_eq!(code(sink.finish().await), REFUSED, "copy");
    let nothing = format!("INSERT INTO orders VALUES ('a', '{closed_key}') ON CONFLICT DO NOTHING");
    assert_eq!(
        app.execute(&nothing, &[]).await.unwrap(),
        0,
        "what writes nothing is not refused"
    );
    assert_eq!(count(&app).await, 2, "nothing of all this is left");
    app.batch_execute("UPDATE orders SET amount = 2 WHERE id = 'a'; DELETE FROM orders WHERE id = 'a'")
        .await
        .unwrap();

    // A row of a slot that closed since can be neither changed nor deleted, nor brought over.
    insert(&app, "a", &open_key).await.unwrap();
    let swapped = [closed(SlotSet::range(0, 63), 2), open(SlotSet::range(64, 255), 2)];
    member.driver.apply(epoch(2), &swapped, LIMITS).await.unwrap();
    for sql in [
        "UPDATE orders SET amount = 9 WHERE id = 'a'".to_owned(),
        "DELETE FROM orders WHERE id = 'a'".to_owned(),
        format!("UPDATE orders SET user_id = '{closed_key}' WHERE id = 'a'"),
    ] {
        assert_eq!(code(app.batch_execute(&sql).await), REFUSED, "{sql}");
    }
    let inspected = member.driver.inspect().await.unwrap();
    assert_eq!(inspected.open, SlotSet::range(64, 255));
    assert_eq!(inspected.seen, epoch(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_calls_of_older_epochs_change_nothing() {
    let member = alone().await;
    let driver = &member.driver;
    let some = SlotSet::range(10, 19);
    set_all(driver, true, 5).await;
    let fenced = driver.fence(&op("p"), epoch(7), &some, LIMITS).await.unwrap();
    let again = driver.fence(&op("p"), epoch(7), &some, LIMITS).await.unwrap();
    assert_eq!(
        fenced.position, again.position,
        "a repeated fence gives the same position"
    );

    let overtaken = |result: Result<_, Error>| matches!(result, Err(Error::Overtaken { .. }));
    assert!(
        overtaken(driver.apply(epoch(6), &[open(all(), 6)], LIMITS).await),
        "a table older than the fence"
    );
    assert!(
        overtaken(driver.apply(epoch(7), &[open(some.clone(), 7)], LIMITS).await),
        "a fence's own epoch"
    );
    assert_eq!(
        driver.inspect().await.unwrap().open.len(),
        246,
        "nothing was opened by them"
    );

    driver.apply(epoch(8), &[open(all(), 8)], LIMITS).await.unwrap();
    let late = driver.fence(&op("p"), epoch(7), &some, LIMITS).await;
    assert!(
        matches!(late, Err(Error::Overtaken { held, asked }) if held == epoch(8) && asked == epoch(7)),
        "{late:?}"
    );
    assert_eq!(driver.inspect().await.unwrap().open, all(), "nothing was closed by it");
    // A table that closes nothing and opens nothing here still keeps older ones out.
    driver.apply(epoch(9), &[open(all(), 8)], LIMITS).await.unwrap();
    assert!(overtaken(driver.apply(epoch(8), &[closed(all(), 8)], LIMITS).await));
    // An operation holds at 10 and is aborted at 12 before its fence ran everywhere; a table of 11, which leaves its slots
    // out, does not count. The fence that comes after all closes nothing, and ends nobody.
    let rest = all().difference(&SlotSet::range(10, 20));
    driver.apply(epoch(11), &[open(rest.clone(), 8)], LIMITS).await.unwrap();
    let early = driver.fence(&op("q"), epoch(10), &SlotSet::range(20, 20), LIMITS).await;
    early.expect("the table of 11 was one of other slots");
    let table = |at| [open(SlotSet::range(10, 20), at), open(rest.clone(), 8)];
    let applied = driver.apply(epoch(12), &table(12), LIMITS).await.unwrap();
    assert_eq!(applied.opened, 1, "the others were open all the time");
    let client = app(&member.server).await;
    let write = async |id: u64| {
        let sql = format!("BEGIN; INSERT INTO orders VALUES ('{id}', '{}')", key_of(12, 0));
        client.batch_execute(&sql).await.unwrap();
    };
    write(12).await;
    let hasty = FenceLimits {
        grace: Duration::ZERO,
        ..LIMITS
    };
    let late = driver.fence(&op("q"), epoch(10), &some, hasty).await;
    assert!(
        matches!(late, Err(Error::Overtaken { held, asked }) if held == epoch(12) && asked == epoch(10)),
        "{late:?}"
    );
    client.batch_execute("COMMIT").await.expect("no session was ended");
    assert_eq!(driver.inspect().await.unwrap().open, all(), "nothing was closed by it");
    // Nor does one that had looked before the table came, and waits for a writer, who ends by himself or does not.
    for (at, ends) in [(13, true), (15, false)] {
        write(at).await;
        let patient = FenceLimits {
            grace: Duration::from_secs(2),
            deadline: Duration::from_secs(20),
        };
        let (uid, asked) = (op("r"), epoch(at));
        let waits = driver.fence(&uid, asked, &some, patient);
        let comes = async {
            until("the fence to wait", async || {
                match driver.blockers().await.unwrap().len() {
                    0 => Err("nobody".to_owned()),
                    _ => Ok(()),
                }
            })
            .await;
            let applied = driver.apply(epoch(at + 1), &table(at + 1), LIMITS).await.unwrap();
            assert_eq!(applied.opened, 0);
            if ends {
                client.batch_execute("COMMIT").await.unwrap();
            }
        };
        let (late, ()) = tokio::join!(waits, comes);
        assert!(
            matches!(late, Err(Error::Overtaken { held, asked }) if held == epoch(at + 1) && asked == epoch(at)),
            "{late:?}"
        );
        if !ends {
            client.batch_execute("COMMIT").await.expect("no session was ended");
        }
        assert_eq!(driver.inspect().await.unwrap().open, all(), "nothing was closed by it");
    }
    // What a restart takes away comes back at the epoch that it was kept at, and the fence is as late as before.
    member.server.restart().await.unwrap();
    let applied = driver.apply(epoch(16), &table(16), LIMITS).await.unwrap();
    assert_eq!(applied.opened, u64::from(SLOTS));
    let late = driver.fence(&op("r"), epoch(15), &some, LIMITS).await;
    assert!(matches!(late, Err(Error::Overtaken { .. })), "{late:?}");
    // A newer term beats any epoch.
    let mut newer = closed(some, 1);
    newer.epoch = multiactive_core::epoch::Epoch::new(2, 1);
    driver.apply(newer.epoch, &[newer.clone()], LIMITS).await.unwrap();
    assert!(overtaken(driver.apply(epoch(99), &[open(all(), 99)], LIMITS).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_is_fenced_until_it_is_opened_again_at_the_same_epoch() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let before = member.driver.inspect().await.unwrap();
    insert(&app(&member.server).await, "a", "u1").await.unwrap();
    for how in ["restart", "kill -9"] {
        if how == "kill -9" {
            member.server.kill_9().await;
        }
        member.server.restart().await.unwrap();
        let app = app(&member.server).await;
        assert_eq!(code(insert(&app, how, "u1").await), REFUSED, "{how}");
        let after = member.driver.inspect().await.unwrap();
        assert!(after.open.is_empty(), "{how}");
        assert_ne!(before.server, after.server, "{how}");
        let applied = member.driver.apply(epoch(1), &[open(all(), 1)], LIMITS).await.unwrap();
        assert_eq!(applied.opened, u64::from(SLOTS), "{how}");
        lease(&member.driver).await;
        insert(&app, how, "u1").await.unwrap();
    }
    // But what was fenced stays fenced.
    member.driver.fence(&op("p"), epoch(2), &all(), LIMITS).await.unwrap();
    member.server.restart().await.unwrap();
    let reopened = member.driver.apply(epoch(2), &[open(all(), 2)], LIMITS).await;
    assert!(matches!(reopened, Err(Error::Overtaken { .. })), "{reopened:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_an_open_database_on_another_server_is_closed() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let other = shop().await;
    admin(&other).await.batch_execute("DROP TABLE orders").await.unwrap();
    let bin = member.server.bin();
    let dump = tokio::process::Command::new(bin.join("pg_dump"))
        .arg(member.server.url("postgres", "shop"))
        .output();
    let dump = dump.await.unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let client = admin(&other).await;
    // The newest pg_dump sets what older servers do not know.
    let sql = String::from_utf8(dump.stdout).unwrap();
    let sql: String = sql
        .lines()
        .filter(|line| !line.starts_with("SET transaction_timeout"))
        .map(|line| format!("{line}\n"))
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), sql).unwrap();
    let restore = tokio::process::Command::new(bin.join("psql"))
        .args(["-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(file.path())
        .arg(other.url("postgres", "shop"))
        .output();
    let restore = restore.await.unwrap();
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    let rows = client
        .query_one("SELECT count(*) FROM multiactive.slot WHERE open", &[])
        .await
        .unwrap();
    assert_eq!(
        rows.get::<_, i64>(0),
        i64::from(SLOTS),
        "the copy has the rows that say open"
    );
    assert_eq!(
        code(insert(&app(&other).await, "a", "u1").await),
        REFUSED,
        "and yet it is closed"
    );
    // It is this unit's database by name; another unit that is given it is refused.
    let taken = driver(&other, "north-1", &[]).install().await;
    assert!(
        matches!(&taken, Err(Error::DatabaseTaken { unit, .. }) if unit == "east-1"),
        "{taken:?}"
    );
}
