//! Rows that a link will never bring are copied from another member, and the link goes on exactly behind them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::ids::OperationUid;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{KeyRange, Lacking, Link, LinkState, TableSpec, Waited};
use multiactive_stores::{Driver, Error, Postgres};
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::writers::*;
use support::*;
use tokio_postgres::Client;

const LONG: Duration = Duration::from_secs(20);

/// What north takes over.
fn lost() -> SlotSet {
    SlotSet::range(0, 199)
}

/// What south has.
fn souths() -> SlotSet {
    SlotSet::range(200, 229)
}

async fn link_of(at: &Member, from: &Member) -> Link {
    let links = at.driver.links().await.unwrap();
    links.into_iter().find(|link| link.from == from.unit).unwrap()
}

async fn ids(member: &Member) -> Vec<String> {
    let rows = admin(&member.server)
        .await
        .query("SELECT id FROM orders ORDER BY id", &[])
        .await;
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

/// What was written at one member, the first, is equal at the other.
async fn equal(one: &Member, other: &Member, slots: &SlotSet) {
    let sums = async |driver: &Postgres| driver.checksum(slots, &KeyRange::default(), LONG).await.unwrap();
    until("equal rows", async || {
        let (one, other) = (sums(&one.driver).await, sums(&other.driver).await);
        if one == other {
            Ok(())
        } else {
            Err(format!("{} and {} rows", one.rows, other.rows))
        }
    })
    .await;
}

/// East is lost, and north has taken over what was east's. South has received less of east than north, has slots of its own,
/// and waits with what north writes.
async fn bereaved() -> Vec<Member> {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    east.driver.apply(epoch(1), &[open(lost(), 1)], LIMITS).await.unwrap();
    south
        .driver
        .apply(epoch(1), &[open(souths(), 1)], LIMITS)
        .await
        .unwrap();
    let writer = app(&east.server).await;
    for (id, slot) in [("all", 1), ("all too", 2)] {
        insert(&writer, id, &key_of(slot, 0)).await.unwrap();
    }
    stops(south, east, 2).await;
    insert(&writer, "north only", &key_of(1, 1)).await.unwrap();
    stops(north, east, 3).await;
    insert(&writer, "tail", &key_of(1, 2)).await.unwrap();
    east.server.kill_9().await;
    let uid = op("failover");
    let at = north.driver.cut(&east.unit, &uid, epoch(2)).await.unwrap();
    south.driver.cut(&east.unit, &uid, epoch(2)).await.unwrap();
    running(south, north).await;
    running(north, south).await;
    take_over(east, north, &uid, &at.position.unwrap()).await;
    until("south to wait", async || match link_of(south, north).await.state {
        LinkState::Lacks { of, .. } if of == east.unit => Ok(()),
        other @ (LinkState::Running
        | LinkState::Starting(_)
        | LinkState::Lacks { .. }
        | LinkState::Broken(_)
        | LinkState::Cut(_)
        | LinkState::Quarantined(_)) => Err(format!("{other:?}")),
    })
    .await;
    members
}

async fn take_over(east: &Member, north: &Member, uid: &OperationUid, at: &str) {
    let wanted = wanted_of(&east.unit, at);
    let waited = north.driver.wait_for(uid, epoch(2), &wanted, true, LONG).await.unwrap();
    assert_eq!(waited, Waited::Reached);
    let mut brought = open(lost(), 3);
    brought.brought_by = Some(uid.clone());
    north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap();
    extend(&north.driver, Duration::from_secs(1800)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lacks_rows_gets_them_under_writes_and_the_link_goes_on_exactly_behind() {
    let members = bereaved().await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    let writer = Writer::start(north, "w").await;
    writer.more(300).await;
    for _ in 0..3 {
        let before = writer.written.load(Ordering::Relaxed);
        let reseeded = south.driver.reseed(&peer(north), LONG).await.unwrap();
        println!(
            "{} rows written, {} removed, {} writes at the peer meanwhile",
            reseeded.written,
            reseeded.removed,
            writer.written.load(Ordering::Relaxed) - before
        );
        assert_eq!((&reseeded.open, &reseeded.left), (&lost(), &SlotSet::default()));
        assert_eq!(reseeded.cuts.len(), 1, "{reseeded:?}");
        assert_eq!(reseeded.cuts[0].unit, east.unit);
        let link = running(south, north).await;
        assert_eq!((link.gap, link.lacking), (None, None));
        writer.more(200).await;
    }
    println!("the longest write took {:?}", writer.stop().await);
    insert(&app(&north.server).await, "later", &key_of(1, 3)).await.unwrap();
    equal(north, south, &lost()).await;
    nothing_twice(south, north).await;
    let found = ids(south).await;
    for (id, wanted) in [("north only", true), ("later", true), ("tail", false)] {
        assert_eq!(found.iter().any(|found| found == id), wanted, "{id}");
    }
    // Its own writes go on to north, and east, when it is back, takes nothing by a copy that it would not take by the link.
    insert(&app(&south.server).await, "south's", &key_of(200, 0))
        .await
        .unwrap();
    equal(south, north, &souths()).await;
    east.server.restart().await.unwrap();
    let refused = east.driver.reseed(&peer(north), LONG).await;
    assert!(
        matches!(&refused, Err(Error::NotCopied { why, .. }) if why.contains("operation failover took slots over")),
        "{refused:?}"
    );
    let refused = south.driver.reseed(&peer(east), LONG).await;
    assert!(
        matches!(&refused, Err(Error::NotCopied { why, .. }) if why.contains("nothing is taken from it")),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_in_the_log_and_that_nobody_sees_yet_is_waited_for() {
    let members = bereaved().await;
    let [_, north, south] = &members[..] else {
        unreachable!()
    };
    // As whoever opens slots: so the copy waits behind its slot, and before its snapshot.
    let there = admin(&north.server).await;
    let lock = "SELECT pg_advisory_lock_shared(27969, 1003)";
    there.batch_execute(lock).await.unwrap();
    let meanwhile = async {
        let number = async |sql: &str| there.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        let waits = async |sql: &str| {
            until("who waits", async || match number(sql).await {
                0 => Err("nobody".to_owned()),
                _ => Ok(()),
            })
            .await;
        };
        waits("SELECT count(*) FROM pg_locks WHERE classid = 27969 AND objid = 1003 AND NOT granted").await;
        // It is in the log of the new slot, and in the snapshot.
        insert(&app(&north.server).await, "between", &key_of(1, 5))
            .await
            .unwrap();
        // A commit stands in the log, and waits for a standby before anybody sees it.
        let set = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
        for sql in [set, "SELECT pg_reload_conf()", "SELECT pg_sleep(0.5)"] {
            there.batch_execute(sql).await.unwrap();
        }
        let writer = app(&north.server).await;
        let key = key_of(1, 4);
        let write = tokio::spawn(async move { insert(&writer, "unseen", &key).await.unwrap() });
        waits("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").await;
        let unlock = "SELECT pg_advisory_unlock_shared(27969, 1003)";
        there.batch_execute(unlock).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let reset = "ALTER SYSTEM RESET synchronous_standby_names";
        for sql in [reset, "SELECT pg_reload_conf()"] {
            there.batch_execute(sql).await.unwrap();
        }
        write.await.unwrap();
    };
    let from = peer(north);
    let (reseeded, ()) = tokio::join!(south.driver.reseed(&from, LONG), meanwhile);
    reseeded.unwrap();
    running(south, north).await;
    equal(north, south, &lost()).await;
    for id in ["between", "unseen"] {
        assert!(ids(south).await.contains(&id.to_owned()), "{id}");
    }
    nothing_twice(south, north).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_peer_has_not_goes_and_nothing_but_its_own_slots_is_touched() {
    let members = bereaved().await;
    let [_, north, south] = &members[..] else {
        unreachable!()
    };
    let there = app(&north.server).await;
    there
        .batch_execute("DELETE FROM orders WHERE id = 'all'; UPDATE orders SET amount = 9 WHERE id = 'all too'")
        .await
        .unwrap();
    let plant = |id: &str, slot| format!("INSERT INTO orders VALUES ('{id}', '{}');", key_of(slot, 9));
    let planted = [("extra", 3), ("own", 210), ("nobody", 240)].map(|(id, slot)| plant(id, slot));
    by_hand(south, &planted.concat()).await;
    let reseeded = south.driver.reseed(&peer(north), LONG).await.unwrap();
    assert_eq!((reseeded.written, reseeded.removed), (2, 2));
    let slots: SlotSet = [(1, 1), (2, 2), (3, 3)].into_iter().collect();
    assert_eq!(reseeded.slots, slots);
    assert_eq!(ids(south).await, ["all too", "nobody", "north only", "own"]);
    equal(north, south, &lost()).await;
    running(south, north).await;

    // Where both have a slot open, nobody knows whose rows are right.
    south
        .driver
        .apply(epoch(9), &[open(SlotSet::range(5, 6), 9)], LIMITS)
        .await
        .unwrap();
    let refused = south.driver.reseed(&peer(north), LONG).await;
    assert!(
        matches!(&refused, Err(Error::NotCopied { why, .. }) if why.contains("slots 5-6 are open here and there")),
        "{refused:?}"
    );
    assert_eq!(running(south, north).await.gap, None, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_copied_is_passed_on_to_nobody() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    east.driver.apply(epoch(1), &[open(lost(), 1)], LIMITS).await.unwrap();
    south
        .driver
        .apply(epoch(1), &[open(souths(), 1)], LIMITS)
        .await
        .unwrap();
    let writer = app(&east.server).await;
    for number in 0..5 {
        insert(&writer, &format!("e{number}"), &key_of(number, 0))
            .await
            .unwrap();
    }
    rows_everywhere(&members, 5).await;
    by_hand(south, "DELETE FROM orders WHERE id IN ('e1', 'e2')").await;
    by_hand(north, "DELETE FROM orders WHERE id = 'e1'").await;
    let reseeded = south.driver.reseed(&peer(east), LONG).await.unwrap();
    assert_eq!((reseeded.written, reseeded.removed), (2, 0));
    equal(east, south, &all()).await;
    insert(&app(&south.server).await, "after", &key_of(200, 0))
        .await
        .unwrap();
    until("what south wrote after it", async || {
        let found = ids(north).await;
        found.contains(&"after".to_owned()).then_some(()).ok_or(found.join(" "))
    })
    .await;
    assert!(!ids(north).await.contains(&"e1".to_owned()), "south passed it on");
    nothing_twice(north, south).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_broken_off_leaves_a_gap_and_may_be_repeated() {
    let members = bereaved().await;
    let [_, north, south] = &members[..] else {
        unreachable!()
    };
    let writer = Writer::start(north, "w").await;
    writer.more(100).await;
    let mut gaps = 0;
    let subscription = async |member: &Member| -> Option<u32> {
        let sql = "SELECT s.oid FROM pg_subscription s JOIN multiactive.link l ON l.name = s.subname::text
                   WHERE l.from_unit = 'north-1'";
        let found = admin(&member.server).await.query(sql, &[]).await.unwrap();
        found.first().map(|row| row.get(0))
    };
    for limit in [0, 15, 30, 50, 70, 90, 120, 160, 200, 260, 340, 450, 600] {
        by_hand(south, "DELETE FROM orders WHERE id = 'all too'").await;
        let (from, before) = (peer(north), subscription(south).await);
        let copying = south.driver.reseed(&from, LONG);
        let ended = tokio::time::timeout(Duration::from_millis(limit), copying).await;
        let made = until("a link", async || {
            let link = south.driver.link(&peer(north)).await.unwrap();
            match &link.state {
                LinkState::Running => Ok(link),
                LinkState::Lacks { .. } => Ok(link),
                other @ (LinkState::Starting(_)
                | LinkState::Broken(_)
                | LinkState::Cut(_)
                | LinkState::Quarantined(_)) => Err(format!("{other:?}, {:?}", link.gap)),
            }
        })
        .await;
        println!("after {limit} ms: {:?} {:?}", made.state, made.gap);
        match ended {
            Ok(done) => assert!(done.is_ok() && made.gap.is_none(), "{done:?} {made:?}"),
            // Broken off before anything was changed, or behind the commit: then all is right.
            Err(_) if made.gap.is_none() => {
                let whole = ids(south).await.contains(&"all too".to_owned());
                assert!(
                    whole || subscription(south).await == before,
                    "a link without gap lacks rows"
                );
            }
            Err(_) => {
                gaps += 1;
                assert_eq!(made.lacking, Some(Lacking::Unknown));
            }
        }
        if gaps > 0 {
            let reseeded = until("a copy", async || {
                south
                    .driver
                    .reseed(&peer(north), LONG)
                    .await
                    .map_err(|error| error.explain())
            })
            .await;
            assert!(reseeded.left.is_empty());
            assert_eq!(running(south, north).await.gap, None);
        }
    }
    assert!(gaps > 1, "it was never broken off in the middle");
    writer.stop().await;
    equal(north, south, &lost()).await;
    nothing_twice(south, north).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_the_peer_closed_are_a_gap_until_they_are_copied_from_their_owner() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    east.driver.apply(epoch(1), &[open(lost(), 1)], LIMITS).await.unwrap();
    let writer = app(&east.server).await;
    insert(&writer, "first", &key_of(150, 0)).await.unwrap();
    stops(south, east, 1).await;
    for (id, slot) in [("moves", 50), ("stays", 150)] {
        insert(&writer, id, &key_of(slot, 1)).await.unwrap();
    }
    // Half of east's slots go to north, which changes a row that south has not.
    let moving = SlotSet::range(0, 99);
    let uid = op("move");
    let fenced = east.driver.fence(&uid, epoch(2), &moving, LIMITS).await.unwrap();
    let positions = [fenced.position];
    let waited = north
        .driver
        .wait_for(&uid, epoch(2), &positions, true, LONG)
        .await
        .unwrap();
    assert_eq!(waited, Waited::Reached);
    let mut brought = open(moving.clone(), 3);
    brought.brought_by = Some(uid);
    north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap();
    app(&north.server)
        .await
        .batch_execute("UPDATE orders SET amount = 7 WHERE id = 'moves'")
        .await
        .unwrap();

    // East's link would bring its rows over those of north.
    let refused = south.driver.reseed(&peer(north), LONG).await;
    assert!(
        matches!(&refused, Err(Error::NotCopied { why, .. }) if why.contains("of east-1 is applied here")),
        "{refused:?}"
    );
    let reseeded = south.driver.reseed(&peer(east), LONG).await.unwrap();
    let left = SlotSet::range(50, 50);
    assert_eq!((&reseeded.left, &reseeded.slots), (&left, &SlotSet::range(150, 150)));
    assert_eq!(reseeded.open, SlotSet::range(100, 199));
    let link = running(south, east).await;
    assert!(link.gap.unwrap().contains("had closed slots"));
    assert_eq!(link.lacking, Some(Lacking::Of(left)));
    // Nothing of it opens here meanwhile.
    let waited = south
        .driver
        .wait_for(&op("other"), epoch(9), &positions, true, Duration::from_millis(300))
        .await
        .unwrap();
    assert_ne!(waited, Waited::Reached);

    let reseeded = south.driver.reseed(&peer(north), LONG).await.unwrap();
    assert_eq!((reseeded.written, &reseeded.open), (1, &moving));
    for from in [east, north] {
        let link = running(south, from).await;
        assert_eq!((link.gap, link.lacking), (None, None));
    }
    equal(north, south, &all()).await;
    insert(&app(&east.server).await, "later", &key_of(150, 2))
        .await
        .unwrap();
    rows_everywhere(&members, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_peer_confesses_is_told_and_stays_for_a_person() {
    let members = bereaved().await;
    let [_, north, south] = &members[..] else {
        unreachable!()
    };
    let there = admin(&north.server).await;
    there
        .batch_execute("ALTER TABLE orders DISABLE TRIGGER \"~multiactive_guard\"")
        .await
        .unwrap();
    north.driver.install().await.unwrap();
    south.driver.reseed(&peer(north), LONG).await.unwrap();
    let link = running(south, north).await;
    assert!(link.gap.clone().unwrap().contains("~multiactive_guard"), "{link:?}");
    assert_eq!(link.lacking, None);
    south.driver.reseed(&peer(north), LONG).await.unwrap();
    assert_eq!(running(south, north).await.gap, link.gap, "a copy ends no such gap");
    south.driver.compared(&north.unit).await.unwrap();
    assert_eq!(running(south, north).await.gap, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_rights_nothing_is_changed_and_it_says_what_to_run() {
    let members = bereaved().await;
    let [_, north, south] = &members[..] else {
        unreachable!()
    };
    for (member, revoke, grant, says) in [
        (
            north,
            "DROP OWNED BY multiactive_copy; DROP ROLE multiactive_copy",
            "CREATE ROLE multiactive_copy NOLOGIN; GRANT multiactive_copy TO multiactive_replication",
            "CREATE ROLE multiactive_copy NOLOGIN",
        ),
        (
            south,
            "REVOKE SET ON PARAMETER session_replication_role FROM multiactive_agent",
            "GRANT SET ON PARAMETER session_replication_role TO multiactive_agent",
            "session_replication_role",
        ),
    ] {
        let client = admin(&member.server).await;
        client.batch_execute(revoke).await.unwrap();
        let refused = south.driver.reseed(&peer(north), LONG).await;
        assert!(
            matches!(&refused, Err(Error::NotCopied { why, .. }) if why.contains(says) && why.contains("roles.sql")),
            "{refused:?}"
        );
        let link = link_of(south, north).await;
        assert!(matches!(link.state, LinkState::Lacks { .. }), "{link:?}");
        assert_eq!(link.gap, None);
        client.batch_execute(grant).await.unwrap();
        // The agent installs again and again; here it finds the role.
        member.driver.install().await.unwrap();
    }
    assert!(!ids(south).await.contains(&"north only".to_owned()));
    south.driver.reseed(&peer(north), LONG).await.unwrap();
    assert!(ids(south).await.contains(&"north only".to_owned()));
}

async fn orders_and_items(mut member: Member, peer: &str) -> Member {
    let items = "CREATE TABLE items (number integer GENERATED ALWAYS AS IDENTITY (INCREMENT 64), what text UNIQUE,
                                     twice integer GENERATED ALWAYS AS (number * 2) STORED, user_id text NOT NULL,
                                     kind jsonb, PRIMARY KEY (user_id, number));
                 ALTER TABLE items OWNER TO shop_owner; GRANT SELECT, INSERT, UPDATE, DELETE ON items TO shop_app";
    admin(&member.server).await.batch_execute(items).await.unwrap();
    let mut spec = spec(member.unit.as_str(), &[peer]);
    spec.tables.push(TableSpec {
        name: "items".to_owned(),
        shard_key: Some("user_id".to_owned()),
        last_write: None,
    });
    member.driver = Postgres::new(spec, access(&member.server));
    member.driver.install().await.unwrap();
    member
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_tables_only_slots_that_differ_are_copied_whatever_their_columns() {
    let mut members = mesh(&["east-1", "north-1"]).await;
    let north = orders_and_items(members.remove(1), "east-1").await;
    let east = orders_and_items(members.remove(0), "north-1").await;
    running(&north, &east).await;
    set_all(&east.driver, true, 1).await;
    let writer = app(&east.server).await;
    insert(&writer, "a", &key_of(1, 0)).await.unwrap();
    let write = format!(
        "INSERT INTO items (what, user_id, kind) VALUES ('one', '{0}', '{{\"a\": [1, null]}}'), ('two', '{0}', NULL), ('three', '{1}', NULL)",
        key_of(7, 0),
        key_of(8, 0)
    );
    writer.batch_execute(&write).await.unwrap();
    equal(&east, &north, &all()).await;
    // Two rows have exchanged a value that is unique, a row is gone, and there is one more.
    let damage = format!(
        "UPDATE items SET what = 'x' WHERE what = 'one'; UPDATE items SET what = 'one' WHERE what = 'two';
         UPDATE items SET what = 'two' WHERE what = 'x'; DELETE FROM items WHERE what = 'three';
         INSERT INTO items (what, user_id) VALUES ('four', '{}')",
        key_of(9, 0)
    );
    by_hand(&north, &damage).await;
    let before = ids(&north).await;
    let reseeded = north.driver.reseed(&peer(&east), LONG).await.unwrap();
    assert_eq!((reseeded.written, reseeded.removed), (3, 1));
    assert_eq!(reseeded.slots, SlotSet::range(7, 9));
    assert_eq!(ids(&north).await, before);
    equal(&east, &north, &all()).await;
    let doubled = "SELECT count(*) FROM items WHERE twice = number * 2";
    let there: i64 = admin_count(&admin(&north.server).await, doubled).await;
    assert_eq!(there, 3);
    writer
        .batch_execute("UPDATE items SET what = 'five' WHERE what = 'one'")
        .await
        .unwrap();
    equal(&east, &north, &all()).await;
    running(&north, &east).await;
    nothing_twice(&north, &east).await;
}

async fn admin_count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_had_received_more_than_the_new_owner_has_not_passed_before_the_surplus_is_gone() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    east.driver.apply(epoch(1), &[open(lost(), 1)], LIMITS).await.unwrap();
    let writer = app(&east.server).await;
    insert(&writer, "all", &key_of(1, 0)).await.unwrap();
    stops(north, east, 1).await;
    insert(&writer, "south only", &key_of(1, 1)).await.unwrap();
    writer
        .batch_execute("DELETE FROM orders WHERE id = 'all'")
        .await
        .unwrap();
    stops(south, east, 1).await;
    east.server.kill_9().await;
    let uid = [op("failover")];
    let at = north.driver.cut(&east.unit, &uid[0], epoch(2)).await.unwrap();
    running(south, north).await;
    running(north, south).await;
    take_over(east, north, &uid[0], &at.position.unwrap()).await;
    let writer = app(&north.server).await;
    writer
        .batch_execute("UPDATE orders SET amount = 7 WHERE id = 'all'")
        .await
        .unwrap();
    insert(&writer, "new", &key_of(1, 2)).await.unwrap();
    // South was away when the others cut east off: north's opening has passed here before it does.
    until("the new owner's row", async || {
        let here = ids(south).await;
        here.contains(&"new".to_owned())
            .then_some(())
            .ok_or(format!("{here:?}"))
    })
    .await;
    south.driver.cut(&east.unit, &uid[0], epoch(2)).await.unwrap();
    assert_eq!(south.driver.passed(&uid).await.unwrap(), []);
    let link = link_of(south, north).await;
    assert!(
        link.gap
            .unwrap()
            .contains("had received more of a lost unit than north-1")
    );
    assert_eq!(link.lacking, Some(Lacking::Unknown), "a copy ends it");
    assert_eq!(ids(south).await, ["new", "south only"]);

    let copied = south.driver.reseed(&peer(north), LONG).await.unwrap();
    assert_eq!((copied.written, copied.removed), (1, 1));
    equal(north, south, &lost()).await;
    assert_eq!(running(south, north).await.gap, None);
    assert_eq!(south.driver.passed(&uid).await.unwrap(), uid);
    assert_eq!(south.driver.passed(&uid).await.unwrap(), uid, "and stays so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_policy_hides_are_an_error_and_none_of_them_is_taken_for_missing() {
    let members = bereaved().await;
    let [_, north, south] = &members[..] else {
        unreachable!()
    };
    let there = admin(&north.server).await;
    let hidden = "ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
                  CREATE POLICY tenants ON orders TO shop_app USING (true)";
    there.batch_execute(hidden).await.unwrap();
    let before = ids(south).await;
    let refused = south.driver.reseed(&peer(north), LONG).await.unwrap_err();
    assert!(
        refused.explain().contains("row-level security"),
        "{}",
        refused.explain()
    );
    assert_eq!(ids(south).await, before);
    there
        .batch_execute("ALTER ROLE multiactive_replication BYPASSRLS")
        .await
        .unwrap();
    south.driver.reseed(&peer(north), LONG).await.unwrap();
    equal(north, south, &lost()).await;
}
