//! Three members with links each way: rows arrive everywhere, a fence's position is reached everywhere, and a link that
//! someone breaks is mended or named.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{KeyRange, LinkState, Unlinked, Waited};
use multiactive_stores::{Driver, Error};
use std::time::Duration;
use support::*;

const UNITS: [&str; 3] = ["east-1", "north-1", "south-1"];
const LONG: Duration = Duration::from_secs(15);

/// Slots of each unit.
fn home(index: usize) -> SlotSet {
    [
        SlotSet::range(0, 99),
        SlotSet::range(100, 199),
        SlotSet::range(200, 255),
    ][index]
        .clone()
}

/// From now on this session's writes are not checked and not replicated, as those of a repair.
async fn behind_the_back(client: &tokio_postgres::Client) {
    let sql = "SELECT pg_replication_origin_create('repair')
               WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = 'repair');
               SELECT pg_replication_origin_session_setup('repair') WHERE NOT pg_replication_origin_session_is_setup();
               SET session_replication_role = replica";
    client.batch_execute(sql).await.unwrap();
}

/// Brings a member to a table in which each unit owns its home slots.
async fn go_home(members: &[Member], at: u64) {
    for (index, member) in members.iter().enumerate() {
        let grants: Vec<_> = (0..3)
            .map(|owner| {
                if owner == index {
                    open(home(owner), at)
                } else {
                    closed(home(owner), at)
                }
            })
            .collect();
        member.driver.apply(epoch(at), &grants, LIMITS).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_with_all_its_rows_and_opens_only_where_it_drained() {
    let members = mesh(&UNITS).await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    go_home(&members, 1).await;
    // Everyone writes its own slots; rows that arrive at the others are not checked there.
    for (index, member) in members.iter().enumerate() {
        let app = app(&member.server).await;
        for number in 0..20 {
            let key = key_of([50, 150, 250][index], number);
            insert(&app, &format!("{index}-{number}"), &key).await.unwrap();
        }
        let other = key_of([150, 250, 50][index], 0);
        assert_eq!(
            code(insert(&app, "x", &other).await),
            multiactive_stores::postgres::REFUSED
        );
    }
    rows_everywhere(&members, 60).await;

    // East's slots go north. South had a row of its own that east applied: north must have it too.
    let (uid, at) = (op("move"), epoch(2));
    let fenced = east.driver.fence(&uid, at, &home(0), LIMITS).await.unwrap();
    let units: Vec<_> = fenced.position.vector.iter().map(|entry| entry.unit.as_str()).collect();
    assert_eq!(
        units,
        ["east-1", "north-1", "south-1"],
        "its own position first, then what it had applied"
    );

    let mut brought = open(home(0), 3);
    brought.brought_by = Some(uid.clone());
    let early = north
        .driver
        .apply(epoch(3), std::slice::from_ref(&brought), LIMITS)
        .await;
    assert!(
        matches!(&early, Err(Error::NotDrained { op, .. }) if *op == uid),
        "{early:?}"
    );
    let positions = [fenced.position.clone()];
    for member in [north, south] {
        assert_eq!(
            member.driver.wait_for(&uid, at, &positions, true, LONG).await.unwrap(),
            Waited::Reached
        );
    }
    // The record is of this operation alone.
    let mut wrong = brought.clone();
    wrong.brought_by = Some(op("another"));
    let early = north.driver.apply(epoch(3), &[wrong], LIMITS).await;
    assert!(matches!(early, Err(Error::NotDrained { .. })), "{early:?}");
    assert_eq!(
        north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap().opened,
        100
    );
    let app = app(&north.server).await;
    insert(&app, "moved", &key_of(50, 0)).await.unwrap();
    app.batch_execute("UPDATE orders SET amount = 5 WHERE id = '0-3'")
        .await
        .unwrap();
    rows_everywhere(&members, 61).await;
    equal_checksums(&members).await;
}

/// Every member has the same rows, by slot and by range of keys.
async fn equal_checksums(members: &[Member]) {
    until("equal checksums", async || {
        let mut all = Vec::new();
        for member in members {
            all.push(
                member
                    .driver
                    .checksum(&support::all(), &KeyRange::default(), LONG)
                    .await
                    .unwrap(),
            );
        }
        if all.windows(2).all(|pair| pair[0] == pair[1]) {
            Ok(())
        } else {
            Err("they differ".to_owned())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_find_each_kind_of_difference() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let admin = admin(&member.server).await;
    for number in 0..50 {
        insert(&admin, &number.to_string(), &key_of(number % 5, usize::from(number)))
            .await
            .unwrap();
    }
    let slots = SlotSet::range(0, 9);
    let everything = KeyRange::default();
    let sum = async |range: &KeyRange| member.driver.checksum(&slots, range, LONG).await.unwrap();
    let before = sum(&everything).await;
    assert_eq!((before.rows, before.sums.len()), (50, 10));
    assert!(before.sums[&0] != 0 && before.sums[&9] == 0, "{before:?}");
    assert_eq!(sum(&everything).await, before, "twice the same");

    // Two ranges of keys make the whole.
    let low = KeyRange {
        from: None,
        to: Some("u3".to_owned()),
    };
    let high = KeyRange {
        from: Some("u3".to_owned()),
        to: None,
    };
    let (low, high) = (sum(&low).await, sum(&high).await);
    assert!(low.rows > 0 && high.rows > 0);
    assert_eq!(low.rows + high.rows, before.rows);
    for slot in slots.iter() {
        assert_eq!(
            low.sums[&slot].wrapping_add(high.sums[&slot]),
            before.sums[&slot],
            "slot {slot}"
        );
    }
    for (what, sql, undo) in [
        (
            "a value",
            "UPDATE orders SET amount = 2 WHERE id = '7'",
            "UPDATE orders SET amount = 1 WHERE id = '7'",
        ),
        ("a row less", "DELETE FROM orders WHERE id = '7'", ""),
    ] {
        admin.batch_execute(sql).await.unwrap();
        let after = sum(&everything).await;
        let differing: Vec<_> = slots
            .iter()
            .filter(|slot| after.sums[slot] != before.sums[slot])
            .collect();
        assert_eq!(differing, [2], "{what}");
        admin.batch_execute(undo).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_broken_by_hand_is_mended_and_lost_rows_are_not_kept_quiet() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let writer = app(&east.server).await;
    let (there, here) = (admin(&east.server).await, admin(&north.server).await);
    let name: String = here
        .query_one("SELECT subname::text FROM pg_subscription", &[])
        .await
        .unwrap()
        .get(0);
    let mut rows = 0;

    // The slot stands behind what was applied until that is flushed and told. Who drops a subscription by hand in between
    // gets those rows once more, and the link says that they exist.
    let told = async || {
        let sql =
            "SELECT coalesce(pg_replication_origin_progress('pg_' || oid, true), '0/0')::text FROM pg_subscription";
        let applied: String = here.query_one(sql, &[]).await.unwrap().get(0);
        let sql = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $2";
        until("the slot to stand at what was applied", async || {
            let row = there.query_one(sql, &[&applied, &name]).await.unwrap();
            row.get::<_, Option<bool>>(0)
                .filter(|told| *told)
                .ok_or("not yet".to_owned())
        })
        .await;
    };

    // What leaves the slot alone loses nothing: it is mended, and the rows come.
    for sql in [
        format!("ALTER SUBSCRIPTION {name} DISABLE"),
        format!("ALTER SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 port=1 password=x'"),
        format!("ALTER SUBSCRIPTION {name} SET (origin = any)"),
        format!("ALTER SUBSCRIPTION {name} DISABLE; ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
        format!(
            "ALTER SUBSCRIPTION {name} DISABLE; ALTER SUBSCRIPTION {name} SET (slot_name = NONE);
             DROP SUBSCRIPTION {name}"
        ),
    ] {
        told().await;
        for statement in sql.split(';') {
            here.batch_execute(statement).await.unwrap();
        }
        rows += 1;
        insert(&writer, &rows.to_string(), "u1").await.unwrap();
        let link = running(north, east).await;
        assert_eq!(link.gap, None, "{sql}");
        rows_everywhere(&members, rows).await;
    }
    assert_eq!(north.driver.links().await.unwrap().len(), 1);

    // Without its slot the link is made again, and says that it may have missed rows.
    let drop_slot = async || {
        let sql = format!("ALTER SUBSCRIPTION {name} DISABLE");
        here.batch_execute(&sql).await.unwrap();
        let sql = format!("SELECT pg_drop_replication_slot('{name}')");
        until("the slot to be free", async || {
            there.batch_execute(&sql).await.map_err(|e| format!("{e:?}"))
        })
        .await;
    };
    for how in ["slot dropped", "subscription dropped with its slot"] {
        if how == "slot dropped" {
            drop_slot().await;
        } else {
            here.batch_execute(&format!("DROP SUBSCRIPTION {name}")).await.unwrap();
        }
        insert(&writer, &format!("missed: {how}"), "u1").await.unwrap();
        let link = running(north, east).await;
        let gap = link.gap.unwrap_or_else(|| panic!("{how}: no gap told"));
        assert!(gap.contains("east-1 wrote before may be missing"), "{gap}");
        let number = if how == "slot dropped" { 10 } else { 12 };
        let fenced = east
            .driver
            .fence(&op(how), epoch(number), &all(), LIMITS)
            .await
            .unwrap();
        let waited = north
            .driver
            .wait_for(
                &op(how),
                epoch(number),
                std::slice::from_ref(&fenced.position),
                true,
                LONG,
            )
            .await
            .unwrap();
        assert!(
            matches!(&waited, Waited::LinkBroken(why) if why.contains("may be missing")),
            "{how}: {waited:?}"
        );
        set_all(&east.driver, true, number + 1).await;
        // Somebody compares and repairs; then the link is whole again.
        let sql = "SELECT id FROM orders ORDER BY id";
        let (have, miss) = (
            there.query(sql, &[]).await.unwrap(),
            here.query(sql, &[]).await.unwrap(),
        );
        assert_eq!(have.len(), miss.len() + 1, "{how}: the row that was written in between");
        let id = format!("missed: {how}");
        behind_the_back(&here).await;
        insert(&here, &id, "u1").await.unwrap();
        north.driver.compared(&"east-1".into()).await.unwrap();
        assert_eq!(running(north, east).await.gap, None);
    }
    equal_checksums(&members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_peer_is_named_and_can_be_unlinked() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let uid = op("p");
    let fenced = east.driver.fence(&uid, epoch(2), &all(), LIMITS).await.unwrap();
    east.server.kill_9().await;
    let broken = until("the dead peer to be noticed", async || {
        match north.driver.link(&peer(east)).await.unwrap().state {
            LinkState::Broken(why) => Ok(why),
            other @ (LinkState::Running | LinkState::Starting(_)) => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(
        broken.contains("connecting to 127.0.0.1") && broken.contains("refused"),
        "{broken}"
    );
    // A position that cannot come any more: LinkBroken, not a time-out.
    let mut beyond = fenced.position.clone();
    beyond.vector[0].position = "FF/0".to_owned();
    let waited = north
        .driver
        .wait_for(&uid, epoch(2), &[beyond.clone()], true, LONG)
        .await
        .unwrap();
    assert!(
        matches!(&waited, Waited::LinkBroken(why) if why.contains("refused")),
        "{waited:?}"
    );
    let unlinked = north.driver.unlink(&east.unit, Some(&peer(east))).await.unwrap();
    assert!(
        matches!(&unlinked, Unlinked::LogKept { why, .. } if why.contains("refused")),
        "{unlinked:?}"
    );
    let waited = north
        .driver
        .wait_for(&uid, epoch(2), &[beyond], true, LONG)
        .await
        .unwrap();
    assert!(
        matches!(&waited, Waited::LinkBroken(why) if why.contains("no link from east-1")),
        "{waited:?}"
    );

    // It returns: what it kept for us is adopted. A second removal, with it alive, leaves nothing behind.
    east.server.restart().await.unwrap();
    running(north, east).await;
    assert_eq!(
        north.driver.unlink(&east.unit, Some(&peer(east))).await.unwrap(),
        Unlinked::Clean
    );
    assert_eq!(
        north.driver.unlink(&east.unit, Some(&peer(east))).await.unwrap(),
        Unlinked::Clean,
        "again"
    );
    let slots = admin(&east.server)
        .await
        .query("SELECT slot_name FROM pg_replication_slots", &[])
        .await
        .unwrap();
    assert_eq!(slots.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_has_not_arrived_times_out_and_comes_later() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    rows_everywhere(&members, 1).await;
    // A lock on the row keeps the replica from applying.
    let holder = admin(&north.server).await;
    holder
        .batch_execute("BEGIN; SELECT FROM orders FOR UPDATE")
        .await
        .unwrap();
    app(&east.server)
        .await
        .batch_execute("UPDATE orders SET amount = 2")
        .await
        .unwrap();
    let fenced = east.driver.fence(&op("p"), epoch(2), &all(), LIMITS).await.unwrap();
    let short = Duration::from_millis(300);
    let positions = [fenced.position];
    let waited = north
        .driver
        .wait_for(&op("p"), epoch(2), &positions, true, short)
        .await
        .unwrap();
    assert!(
        matches!(&waited, Waited::TimedOut(why) if why.contains("of east-1 is applied")),
        "{waited:?}"
    );
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(
        north
            .driver
            .wait_for(&op("p"), epoch(2), &positions, true, LONG)
            .await
            .unwrap(),
        Waited::Reached
    );

    // A heartbeat has an age once it arrived, and only then.
    let lag = &east.driver.lag().await.unwrap()[0];
    assert_eq!((lag.from.as_str(), lag.heartbeat), ("north-1", None));
    north.driver.beat().await.unwrap();
    let age = until("the heartbeat", async || {
        let lag = east.driver.lag().await.unwrap();
        lag[0].heartbeat.ok_or_else(|| format!("{lag:?}"))
    })
    .await;
    assert!(age < Duration::from_secs(10), "{age:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_opening_waits_for_the_links_out() {
    let servers = [shop().await, shop().await];
    let drivers = [
        driver(&servers[0], "east-1", &["north-1"]),
        driver(&servers[1], "north-1", &["east-1"]),
    ];
    for driver in &drivers {
        driver.install().await.unwrap();
    }
    let early = drivers[0].apply(epoch(1), &[open(all(), 1)], LIMITS).await;
    assert!(
        matches!(&early, Err(Error::LinksMissing { missing }) if missing == &["north-1"]),
        "{early:?}"
    );
    let [one, two] = servers;
    let [east, north] = drivers;
    let east = Member {
        server: one,
        driver: east,
        unit: "east-1".into(),
    };
    let north = Member {
        server: two,
        driver: north,
        unit: "north-1".into(),
    };
    running(&north, &east).await;
    set_all(&east.driver, true, 1).await;
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    rows_everywhere(&[east, north], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_survives_the_death_of_a_server_in_the_middle() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let writer = app(&east.server).await;
    for number in 0..30 {
        insert(&writer, &number.to_string(), &key_of(number, 0)).await.unwrap();
    }
    // A fence that is held up when its server dies.
    let idle = app(&east.server).await;
    idle.batch_execute("BEGIN; INSERT INTO orders VALUES ('idle', 'u1')")
        .await
        .unwrap();
    let uid = op("p");
    let slots = all();
    let patient = multiactive_stores::driver::FenceLimits { grace: LONG, ..LIMITS };
    let watcher = admin(&east.server).await;
    let killing = async {
        until("the fence to wait", async || {
            let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
            let waiting: i64 = watcher.query_one(sql, &[]).await.unwrap().get(0);
            if waiting > 0 {
                Ok(())
            } else {
                Err("nobody waits".to_owned())
            }
        })
        .await;
        east.server.kill_9().await;
    };
    let (failed, ()) = tokio::join!(east.driver.fence(&uid, epoch(2), &slots, patient), killing);
    failed.expect_err("the server died");
    for (verb, result) in [
        (
            "apply",
            east.driver.apply(epoch(2), &[closed(all(), 2)], LIMITS).await.err(),
        ),
        ("install", east.driver.install().await.err()),
        ("inspect", east.driver.inspect().await.err()),
        ("position", east.driver.position().await.err()),
        (
            "checksum",
            east.driver.checksum(&slots, &KeyRange::default(), LONG).await.err(),
        ),
    ] {
        let error = result.unwrap_or_else(|| panic!("{verb} with a dead server"));
        assert_eq!(error.reason(), "Unreachable", "{verb}: {}", error.explain());
    }
    east.server.restart().await.unwrap();
    let fenced = east.driver.fence(&uid, epoch(2), &slots, LIMITS).await.unwrap();
    assert_eq!(
        count(&admin(&east.server).await).await,
        30,
        "what was acknowledged is there, the idle one is not"
    );

    // The replica dies while the position is awaited, and again after it was reached.
    let positions = [fenced.position.clone()];
    north.server.kill_9().await;
    let failed = north
        .driver
        .wait_for(&uid, epoch(2), &positions, true, LONG)
        .await
        .expect_err("dead");
    assert_eq!(failed.reason(), "Unreachable", "{}", failed.explain());
    north.server.restart().await.unwrap();
    running(north, east).await;
    assert_eq!(
        north
            .driver
            .wait_for(&uid, epoch(2), &positions, true, LONG)
            .await
            .unwrap(),
        Waited::Reached
    );
    north.server.kill_9().await;
    north.server.restart().await.unwrap();
    let mut brought = open(all(), 3);
    brought.brought_by = Some(uid.clone());
    let opened = north
        .driver
        .apply(epoch(3), &[brought.clone()], LIMITS)
        .await
        .unwrap()
        .opened;
    assert_eq!(opened, u64::from(SLOTS), "the record of the drain survived");
    // Opened, killed, opened again by the same table.
    north.server.kill_9().await;
    north.server.restart().await.unwrap();
    assert_eq!(
        north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap().opened,
        u64::from(SLOTS)
    );
    running(north, east).await;
    running(east, north).await;
    insert(&app(&north.server).await, "moved", "u1").await.unwrap();
    rows_everywhere(&members, 31).await;
    let again = east.driver.fence(&uid, epoch(2), &slots, LIMITS).await.unwrap();
    assert_eq!(again.position, fenced.position, "the same answer, over all of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_applied_breaks_the_link_by_name_and_mends_when_it_is_gone() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let here = admin(&north.server).await;
    behind_the_back(&here).await;
    insert(&here, "a", "u1").await.unwrap();
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    let why = until("the conflict to be told", async || {
        match north.driver.link(&peer(east)).await.unwrap().state {
            LinkState::Broken(why) => Ok(why),
            other @ (LinkState::Running | LinkState::Starting(_)) => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(why.contains("a row to insert exists"), "{why}");
    here.batch_execute("DELETE FROM orders").await.unwrap();
    running(north, east).await;
    rows_everywhere(&members, 1).await;
}
