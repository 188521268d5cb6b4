//! The fence: who may write which slot, in every way of writing, and after restarts and copies.

use super::support::*;
use multiactive_core::hash::Function;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{FenceLimits, KeyspaceSpec};
use multiactive_stores::family::{REFUSED, UNLEASED};
use multiactive_stores::{Driver, Error};
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_in_sql_are_those_of_the_published_vectors_and_of_any_text() {
    #[derive(serde::Deserialize)]
    struct Vector {
        key: String,
        slots: u32,
        slot: u16,
    }
    let mut by_slots: BTreeMap<(u32, &str), (Function, Vec<Vector>)> = BTreeMap::new();
    for (function, name) in [(Function::Crc32, "crc32"), (Function::Md5, "md5")] {
        let path = format!("{}/../core/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let mut vectors: Vec<Vector> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(vectors.len() >= 150, "only {} vectors", vectors.len());
        // And keys of every kind of character, by core's own function.
        let mut state = 7_u64;
        for number in 0..500 {
            let letter = |state: &mut u64| {
                *state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                char::from_u32((*state >> 43) as u32 % 0x1_0fff).unwrap_or('\'')
            };
            let key: String = (0..number % 40).map(|_| letter(&mut state)).collect();
            let (slots, slot) = (16_384, function.slot(key.as_bytes(), 16_384));
            vectors.push(Vector { key, slots, slot });
        }
        for vector in vectors {
            let of_size = by_slots.entry((vector.slots, name)).or_insert((function, Vec::new()));
            of_size.1.push(vector);
        }
    }
    let server = shop().await;
    let mut admin = admin(&server).await;
    for ((slots, _), (function, vectors)) in by_slots {
        let mut spec = spec("east-1", &[]);
        spec.keyspace = KeyspaceSpec {
            slots,
            function,
            overrides: BTreeMap::new(),
            ..spec.keyspace
        };
        new(spec, access(&server)).install().await.unwrap();
        let name = "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_NAME LIKE 'slot\\_%'";
        let name: String = admin.query_first(name).await.unwrap().unwrap();
        for Vector { key, slot, .. } in vectors {
            let sql = format!("SELECT multiactive.{name}(?)");
            let got: u16 = admin.exec_first(sql, (&key,)).await.unwrap().unwrap();
            assert_eq!(got, slot, "key {key:?} in {slots} slots by {function}");
        }
        admin.query_drop("DROP DATABASE multiactive").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_open_slots_take_writes_in_every_way_of_writing() {
    let member = alone().await;
    let mut app = app(&member.server).await;
    let (open_key, closed_key) = (key_of(3, 0), key_of(100, 0));

    let before = insert(&mut app, "a", &open_key).await;
    assert_eq!(code(before), REFUSED, "a store starts closed");
    let grants = [open(SlotSet::range(0, 63), 1), closed(SlotSet::range(64, 255), 1)];
    let applied = member.driver.apply(epoch(1), &grants, LIMITS).await.unwrap();
    assert_eq!(applied.opened, 64);
    insert(&mut app, "a", &open_key).await.unwrap();
    let vip = insert(&mut app, "vip", "vip-1").await;
    vip.expect("an override sends the key to slot 7");

    let refusal = insert(&mut app, "b", &closed_key).await.unwrap_err().to_string();
    let words = "keyspace users, slot 100 is not open for writes in unit east-1: send the write to the unit that owns";
    assert!(refusal.contains(words), "{refusal}");

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("x\t{open_key}\t1\ny\t{closed_key}\t1\n")).unwrap();
    for (what, sql) in [
        ("insert", format!("INSERT INTO orders VALUES ('b', '{closed_key}', 1)")),
        (
            "many rows",
            format!("INSERT INTO orders VALUES ('b', '{open_key}', 1), ('c', '{closed_key}', 1)"),
        ),
        (
            "insert … select",
            format!("INSERT INTO orders SELECT seq, '{closed_key}', 1 FROM {THREE}"),
        ),
        (
            "insert ignore",
            format!("INSERT IGNORE INTO orders VALUES ('b', '{closed_key}', 1)"),
        ),
        (
            "replace",
            format!("REPLACE INTO orders VALUES ('a', '{closed_key}', 1)"),
        ),
        (
            "change of the key to a closed slot",
            format!("UPDATE orders SET user_id = '{closed_key}' WHERE id = 'a'"),
        ),
        (
            "change that ignores errors",
            format!("UPDATE IGNORE orders SET user_id = '{closed_key}' WHERE id = 'a'"),
        ),
        (
            "upsert that changes the key",
            format!(
                "INSERT INTO orders VALUES ('a', '{open_key}', 1) ON DUPLICATE KEY UPDATE user_id = '{closed_key}'"
            ),
        ),
        (
            "change of several tables",
            format!("UPDATE orders o JOIN orders p USING (id) SET o.user_id = '{closed_key}'"),
        ),
    ] {
        assert_eq!(code(app.query_drop(&sql).await), REFUSED, "{what}");
    }
    let truncated = app.query_drop("TRUNCATE orders").await.unwrap_err().to_string();
    assert!(
        truncated.contains("denied"),
        "a right that the application lacks: {truncated}"
    );
    assert_eq!(count(&mut app).await, 2, "nothing of all this is left");
    app.query_drop("UPDATE orders SET amount = 2 WHERE id = 'a'")
        .await
        .unwrap();
    app.query_drop("DELETE FROM orders WHERE id = 'a'").await.unwrap();

    // A row of a slot that closed since can be neither changed nor deleted, nor brought over.
    insert(&mut app, "a", &open_key).await.unwrap();
    let swapped = [closed(SlotSet::range(0, 63), 2), open(SlotSet::range(64, 255), 2)];
    member.driver.apply(epoch(2), &swapped, LIMITS).await.unwrap();
    for sql in [
        "UPDATE orders SET amount = 9 WHERE id = 'a'".to_owned(),
        "DELETE FROM orders WHERE id = 'a'".to_owned(),
        format!("UPDATE orders SET user_id = '{closed_key}' WHERE id = 'a'"),
    ] {
        assert_eq!(code(app.query_drop(&sql).await), REFUSED, "{sql}");
    }
    let inspected = member.driver.inspect().await.unwrap();
    assert_eq!(inspected.open, SlotSet::range(64, 255));
    assert_eq!(inspected.seen, epoch(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slot_of_a_key_is_that_of_its_text_whatever_its_column_is() {
    let server = shop().await;
    let mut admin = admin(&server).await;
    let keys = [
        ("BIGINT", "-17", "-17"),
        ("INT UNSIGNED ZEROFILL", "42", "0000000042"),
        ("VARCHAR(20) CHARACTER SET latin1", "'Zoë'", "Zoë"),
        (
            "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
            "'ZOË 😀'",
            "ZOË 😀",
        ),
        ("CHAR(9)", "'ab   '", "ab"),
        ("ENUM ('x', 'größe')", "'größe'", "größe"),
    ];
    let keys: Vec<_> = keys.into_iter().chain(KEYS).collect();
    let mut spec = spec("east-1", &[]);
    spec.tables.clear();
    for (number, (kind, _, _)) in keys.iter().enumerate() {
        let sql = format!("CREATE TABLE shop.t{number} (id INT PRIMARY KEY, k {kind} NOT NULL)");
        admin.query_drop(sql).await.unwrap();
        spec.tables.push(multiactive_stores::driver::TableSpec {
            name: format!("shop.t{number}"),
            shard_key: Some("k".to_owned()),
            last_write: None,
        });
    }
    let driver = new(spec, access(&server));
    driver.install().await.unwrap();
    lease(&driver).await;
    let mut app = app(&server).await;
    for (number, (kind, literal, text)) in keys.iter().enumerate() {
        let (slot, at) = (slot_of(text), 1 + 3 * number as u64);
        let own = SlotSet::range(slot, slot);
        let grants = [open(own.clone(), at), closed(all().difference(&own), at)];
        driver.apply(epoch(at), &grants, LIMITS).await.unwrap();
        let sql = format!("INSERT INTO t{number} VALUES (1, {literal})");
        app.query_drop(&sql).await.expect(kind);
        let grants = [closed(own.clone(), at + 1), open(all().difference(&own), at + 1)];
        driver.apply(epoch(at + 1), &grants, LIMITS).await.unwrap();
        for sql in [
            format!("INSERT INTO t{number} VALUES (2, {literal})"),
            format!("UPDATE t{number} SET id = 3"),
            format!("DELETE FROM t{number}"),
        ] {
            assert_eq!(code(app.query_drop(&sql).await), REFUSED, "{kind}: {sql}");
        }
        let sums = driver
            .checksum(&own, &Default::default(), Duration::from_secs(5))
            .await
            .unwrap();
        assert_eq!(sums.rows, 1, "{kind}: it is compared in its slot");
        // Out of the next one's sums.
        driver.apply(epoch(at + 2), &[open(own, at + 2)], LIMITS).await.unwrap();
        app.query_drop(format!("DELETE FROM t{number}")).await.unwrap();
    }
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
    let older = driver.apply(epoch(6), &[open(all(), 6)], LIMITS).await;
    assert!(overtaken(older), "a table older than the fence");
    let own = driver.apply(epoch(7), &[open(some.clone(), 7)], LIMITS).await;
    assert!(overtaken(own), "a fence's own epoch");
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
    // Nor does one that had looked before the table came, and waits for a writer, who ends by himself or does not.
    let mut client = app(&member.server).await;
    for (at, ends) in [(13, true), (15, false)] {
        client.query_drop("BEGIN").await.unwrap();
        insert(&mut client, &at.to_string(), &key_of(12, 0)).await.unwrap();
        let patient = FenceLimits {
            grace: Duration::from_secs(3),
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
            let table = [open(all(), at + 1)];
            let applied = driver.apply(epoch(at + 1), &table, LIMITS).await.unwrap();
            assert_eq!(applied.opened, 0);
            if ends {
                client.query_drop("COMMIT").await.unwrap();
            }
        };
        let (late, ()) = tokio::join!(waits, comes);
        assert!(
            matches!(late, Err(Error::Overtaken { held, asked }) if held == epoch(at + 1) && asked == epoch(at)),
            "{late:?}"
        );
        if !ends {
            client.query_drop("COMMIT").await.expect("no session was ended");
        }
        assert_eq!(driver.inspect().await.unwrap().open, all(), "nothing was closed by it");
    }
    // What a restart takes away comes back at the epoch that it was kept at, and the fence is as late as before.
    member.server.restart().await.unwrap();
    let applied = driver.apply(epoch(16), &[open(all(), 16)], LIMITS).await.unwrap();
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
    assert_eq!(before.server, member.driver.inspect().await.unwrap().server);
    insert(&mut app(&member.server).await, "a", "u1").await.unwrap();
    for how in ["restart", "kill -9"] {
        if how == "kill -9" {
            member.server.kill_9().await;
        }
        member.server.restart().await.unwrap();
        let mut app = app(&member.server).await;
        let refused = insert(&mut app, how, "u1").await.unwrap_err().to_string();
        assert!(refused.contains("--read-only"), "{how}: {refused}");
        // Nor may who may write to a read-only server: the lease is still valid by the clock.
        let mut admin = admin(&member.server).await;
        admin.query_drop("USE shop").await.unwrap();
        assert_eq!(code(insert(&mut admin, how, "u1").await), UNLEASED, "{how}");
        let after = member.driver.inspect().await.unwrap();
        assert!(after.open.is_empty() && after.lease.is_none(), "{how}: {after:?}");
        assert_ne!(before.server, after.server, "{how}");
        assert_eq!(code(insert(&mut admin, how, "u1").await), REFUSED, "{how}");
        let applied = member.driver.apply(epoch(1), &[open(all(), 1)], LIMITS).await.unwrap();
        assert_eq!(applied.opened, u64::from(SLOTS), "{how}");
        lease(&member.driver).await;
        insert(&mut app, how, "u1").await.unwrap();
    }
    // Somebody is quicker than the agent and lets the server take writes: the start of the server is another one all the same.
    // But for one within the second in which the server had begun before: nothing tells them apart.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    member.server.restart().await.unwrap();
    let mut admin = admin(&member.server).await;
    admin.query_drop("SET GLOBAL read_only = 0").await.unwrap();
    let after = member.driver.inspect().await.unwrap();
    assert!(after.open.is_empty() && after.lease.is_none(), "{after:?}");
    // But what was fenced stays fenced.
    member.driver.fence(&op("p"), epoch(2), &all(), LIMITS).await.unwrap();
    member.server.restart().await.unwrap();
    let reopened = member.driver.apply(epoch(2), &[open(all(), 2)], LIMITS).await;
    assert!(matches!(reopened, Err(Error::Overtaken { .. })), "{reopened:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_an_open_server_is_closed_and_belongs_to_its_unit() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("saved");
    member.server.save(&saved).await.unwrap();
    let other = shop().await;
    other.bring_back(&saved).await.unwrap();
    other.restart().await.unwrap();
    let mut admin = admin(&other).await;
    let rows: Option<u32> = admin
        .query_first("SELECT COUNT(*) FROM multiactive.slot WHERE open")
        .await
        .unwrap();
    assert_eq!(rows, Some(SLOTS), "the copy has the rows that say open");
    admin.query_drop("USE shop").await.unwrap();
    assert_eq!(
        code(insert(&mut admin, "a", "u1").await),
        UNLEASED,
        "and yet it is closed"
    );
    let taken = driver(&other, "north-1", &[]).install().await;
    assert!(
        matches!(&taken, Err(Error::DatabaseTaken { unit, .. }) if unit == "east-1"),
        "{taken:?}"
    );
}
