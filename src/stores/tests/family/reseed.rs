//! Rows that a link will never bring are copied from another member, and the link goes on exactly behind them.

use super::support::*;
use super::writers::*;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{KeyRange, Lacking, Link, LinkState, TableSpec, Waited};
use multiactive_stores::{Driver, Error, MySqlFamily};
use mysql_async::prelude::Queryable;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

/// What east has.
fn easts() -> SlotSet {
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

/// What was written at one member, the first, is equal at the other.
async fn equal(one: &Member, other: &Member, slots: &SlotSet) {
    let sums = async |driver: &MySqlFamily| driver.checksum(slots, &KeyRange::default(), LONG).await.unwrap();
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

/// East and south have slots, and north follows both.
async fn three() -> Vec<Member> {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    for (member, slots) in [(&members[0], easts()), (&members[2], souths())] {
        member.driver.apply(epoch(1), &[open(slots, 1)], LIMITS).await.unwrap();
    }
    members
}

/// North has rows that nobody wrote, and what east writes next fails there.
async fn stuck(east: &Member, north: &Member, id: &str) {
    let plant = format!("INSERT INTO orders VALUES ('{id}', '{}', 99)", key_of(6, 1));
    by_hand(north, &[&plant]).await;
    let mut writer = app(&east.server).await;
    insert(&mut writer, id, &key_of(5, 1)).await.unwrap();
    until("the link to be stuck", async || {
        let link = link_of(north, east).await;
        let is_stuck = matches!(&link.state, LinkState::Broken(why) if why.contains("Duplicate entry"));
        is_stuck.then_some(()).ok_or(format!("{link:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_applied_is_copied_under_writes_and_the_link_goes_on_exactly_behind() {
    let members = three().await;
    let [east, north, south] = &members[..] else { panic!() };
    let writer = Writer::start(east, "w", 9..190).await;
    writer.more(200).await;
    for round in 0..3 {
        stuck(east, north, &format!("stuck {round}")).await;
        writer.more(100).await;
        let reseeded = north.driver.reseed(&peer(east), LONG).await.unwrap();
        println!("{} rows written, {} removed", reseeded.written, reseeded.removed);
        assert_eq!((&reseeded.open, &reseeded.left), (&easts(), &SlotSet::default()));
        let link = running(north, east).await;
        assert_eq!((link.gap, link.lacking), (None, None));
        running(north, south).await;
        writer.more(100).await;
    }
    println!("the longest write took {:?}", writer.stop().await);
    insert(&mut app(&east.server).await, "later", &key_of(1, 3))
        .await
        .unwrap();
    insert(&mut app(&south.server).await, "south's", &key_of(200, 0))
        .await
        .unwrap();
    equal(east, north, &easts()).await;
    equal(south, north, &souths()).await;
    assert!(ids(north).await.contains(&"later".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_peer_has_not_goes_and_nothing_but_its_own_slots_is_touched() {
    let members = three().await;
    let [east, north, _] = &members[..] else { panic!() };
    let mut there = app(&east.server).await;
    for (id, slot) in [("all", 1), ("all too", 2)] {
        insert(&mut there, id, &key_of(slot, 0)).await.unwrap();
    }
    rows_everywhere(&members, 2).await;
    let plant = |id: &str, slot| format!("INSERT INTO orders VALUES ('{id}', '{}', 1)", key_of(slot, 9));
    let planted = [("extra", 3), ("own", 210), ("nobody", 240)].map(|(id, slot)| plant(id, slot));
    let [extra, own, nobody] = &planted;
    let other = "UPDATE orders SET amount = 9 WHERE id = 'all too'";
    by_hand(
        north,
        &["DELETE FROM orders WHERE id = 'all'", other, extra, own, nobody],
    )
    .await;
    let reseeded = north.driver.reseed(&peer(east), LONG).await.unwrap();
    assert_eq!((reseeded.written, reseeded.removed), (2, 1));
    assert_eq!(reseeded.slots, SlotSet::range(1, 3));
    assert_eq!(ids(north).await, ["all", "all too", "nobody", "own"]);
    equal(east, north, &easts()).await;

    // Where both have a slot open, nobody knows whose rows are right.
    let both = [open(SlotSet::range(5, 6), 9)];
    north.driver.apply(epoch(9), &both, LIMITS).await.unwrap();
    let refused = north.driver.reseed(&peer(east), LONG).await;
    assert!(
        matches!(&refused, Err(Error::NotCopied { why, .. }) if why.contains("slots 5-6 are open here and there")),
        "{refused:?}"
    );
    assert_eq!(running(north, east).await.gap, None, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_copied_is_passed_on_to_nobody_and_the_application_writes_to_no_closed_slot() {
    let members = three().await;
    let [east, north, south] = &members[..] else { panic!() };
    let mut writer = app(&east.server).await;
    for number in 0..5 {
        insert(&mut writer, &format!("e{number}"), &key_of(number, 0))
            .await
            .unwrap();
    }
    rows_everywhere(&members, 5).await;
    by_hand(south, &["DELETE FROM orders WHERE id IN ('e1', 'e2')"]).await;
    by_hand(north, &["DELETE FROM orders WHERE id = 'e1'"]).await;
    let reseeded = south.driver.reseed(&peer(east), LONG).await.unwrap();
    assert_eq!((reseeded.written, reseeded.removed), (2, 0));
    equal(east, south, &easts()).await;
    insert(&mut app(&south.server).await, "after", &key_of(200, 0))
        .await
        .unwrap();
    until("what south wrote after it", async || {
        let found = ids(north).await;
        found.contains(&"after".to_owned()).then_some(()).ok_or(found.join(" "))
    })
    .await;
    assert!(!ids(north).await.contains(&"e1".to_owned()), "south passed it on");
    // Neither the application, nor the agent where it writes into the log, gets past the fence.
    let refused = insert(&mut app(&south.server).await, "x", &key_of(1, 0)).await;
    assert_eq!(code(refused), "MA001");
    let mut agent = client(&south.server, "multiactive_agent").await;
    agent.query_drop("USE shop").await.unwrap();
    assert_eq!(code(insert(&mut agent, "x", &key_of(1, 0)).await), "MA001");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_broken_off_leaves_a_gap_or_nothing_and_may_be_repeated() {
    let members = three().await;
    let [east, north, south] = &members[..] else { panic!() };
    let writer = Writer::start(east, "w", 9..190).await;
    writer.more(100).await;
    let mut broken_off = 0;
    for (round, limit) in [0, 10, 20, 30, 45, 60, 80, 100, 130, 160, 200, 260, 340]
        .into_iter()
        .enumerate()
    {
        stuck(east, north, &format!("stuck {round}")).await;
        let from = peer(east);
        let copying = north.driver.reseed(&from, LONG);
        let ended = tokio::time::timeout(Duration::from_millis(limit), copying).await;
        match ended {
            Ok(done) => assert!(done.is_ok(), "{done:?}"),
            Err(_) => broken_off += 1,
        }
        // Whoever looks next finds the link as it was, or with a gap that a copy ends, or running behind the copy.
        let link = north.driver.link(&peer(east)).await;
        if let Ok(Link {
            gap: Some(_), lacking, ..
        }) = &link
        {
            assert_eq!(*lacking, Some(Lacking::Unknown), "{link:?}");
        }
        let reseeded = until("a copy", async || {
            let copied = north.driver.reseed(&peer(east), LONG).await;
            copied.map_err(|error| error.explain())
        })
        .await;
        assert!(reseeded.left.is_empty());
        assert_eq!(running(north, east).await.gap, None);
        running(north, south).await;
    }
    assert!(broken_off > 3, "it was broken off {broken_off} times only");
    writer.stop().await;
    equal(east, north, &easts()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_the_peer_closed_are_a_gap_until_they_are_copied_from_their_owner() {
    let members = three().await;
    let [east, north, south] = &members[..] else { panic!() };
    let mut writer = app(&east.server).await;
    insert(&mut writer, "first", &key_of(150, 0)).await.unwrap();
    rows_everywhere(&members, 1).await;
    stop_links(south).await;
    for (id, slot) in [("moves", 50), ("stays", 150)] {
        insert(&mut writer, id, &key_of(slot, 1)).await.unwrap();
    }
    // Half of east's slots go to north, which changes a row that south has not.
    let moving = SlotSet::range(0, 99);
    let uid = op("move");
    let fenced = east.driver.fence(&uid, epoch(2), &moving, LIMITS).await.unwrap();
    let positions = [fenced.position];
    let waited = north.driver.wait_for(&uid, epoch(2), &positions, true, LONG).await;
    assert_eq!(waited.unwrap(), Waited::Reached);
    let mut brought = open(moving.clone(), 3);
    brought.brought_by = Some(uid.clone());
    north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap();
    let mut there = app(&north.server).await;
    there
        .query_drop("UPDATE orders SET amount = 7 WHERE id = 'moves'")
        .await
        .unwrap();
    assert_eq!(south.driver.passed(std::slice::from_ref(&uid)).await.unwrap(), []);

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
    let link = link_of(south, east).await;
    assert!(link.gap.unwrap().contains("had closed slots"));
    assert_eq!(link.lacking, Some(Lacking::Of(left)));
    // Nothing of it opens here meanwhile.
    let soon = Duration::from_millis(300);
    let waited = south
        .driver
        .wait_for(&op("other"), epoch(9), &positions, true, soon)
        .await;
    assert_ne!(waited.unwrap(), Waited::Reached);

    let reseeded = south.driver.reseed(&peer(north), LONG).await.unwrap();
    assert_eq!((reseeded.written, &reseeded.open), (1, &moving));
    assert_eq!(south.driver.passed(std::slice::from_ref(&uid)).await.unwrap(), [uid]);
    for from in [east, north] {
        let link = running(south, from).await;
        assert_eq!((link.gap, link.lacking), (None, None));
    }
    equal(north, south, &easts()).await;
    insert(&mut writer, "later", &key_of(150, 2)).await.unwrap();
    rows_everywhere(&members, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_peer_confesses_is_told_and_stays_for_a_person() {
    let members = three().await;
    let [east, north, _] = &members[..] else { panic!() };
    stop_links(north).await;
    let mut there = admin(&east.server).await;
    let sql = "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop' LIMIT 1";
    let trigger: Option<String> = there.query_first(sql).await.unwrap();
    let trigger = trigger.unwrap();
    there.query_drop(format!("DROP TRIGGER shop.{trigger}")).await.unwrap();
    east.driver.install().await.unwrap();
    north.driver.reseed(&peer(east), LONG).await.unwrap();
    let link = running(north, east).await;
    assert!(link.gap.clone().unwrap().contains(&trigger), "{link:?}");
    assert_eq!(link.lacking, None);
    north.driver.reseed(&peer(east), LONG).await.unwrap();
    assert_eq!(running(north, east).await.gap, link.gap, "a copy ends no such gap");
    north.driver.compared(&east.unit).await.unwrap();
    assert_eq!(running(north, east).await.gap, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_rights_nothing_is_changed_and_it_says_what_to_run() {
    let members = three().await;
    let [east, north, _] = &members[..] else { panic!() };
    stuck(east, north, "stuck").await;
    for (member, revoke, grant) in [
        (
            east,
            "REVOKE SELECT ON shop.* FROM multiactive_replication@'%'",
            "GRANT SELECT ON shop.* TO multiactive_replication@'%'",
        ),
        (
            north,
            "REVOKE INSERT, DELETE ON shop.* FROM multiactive_agent@'%'",
            "GRANT INSERT, DELETE ON shop.* TO multiactive_agent@'%'",
        ),
    ] {
        let mut client = admin(&member.server).await;
        client.query_drop(revoke).await.unwrap();
        let refused = north.driver.reseed(&peer(east), LONG).await;
        assert!(
            matches!(&refused, Err(Error::NotCopied { why, .. }) if why.contains("roles.sql")),
            "{refused:?}"
        );
        // It was let go on, and meets the same row again.
        until("the link to be stuck", async || {
            let link = link_of(north, east).await;
            assert_eq!(link.gap, None);
            matches!(link.state, LinkState::Broken(_))
                .then_some(())
                .ok_or(format!("{link:?}"))
        })
        .await;
        client.query_drop(grant).await.unwrap();
    }
    north.driver.reseed(&peer(east), LONG).await.unwrap();
    running(north, east).await;
    equal(east, north, &easts()).await;
}

/// A second table, of many types.
async fn with_items(mut member: Member, peer: &str) -> Member {
    let items = "CREATE TABLE shop.items (number INT UNSIGNED NOT NULL, what VARCHAR(20) CHARACTER SET latin1 UNIQUE,
                     twice INT AS (number * 2) STORED, thrice INT AS (number * 3) VIRTUAL, user_id VARCHAR(190) NOT NULL,
                     kind JSON, raw VARBINARY(20), price DECIMAL(12, 3), at TIMESTAMP(6) NULL, day DATE, flags BIT(5),
                     size ENUM ('s', 'l'), ratio DOUBLE, PRIMARY KEY (user_id, number))";
    admin(&member.server).await.query_drop(items).await.unwrap();
    let mut spec = spec(member.unit.as_str(), &[peer]);
    spec.tables.push(TableSpec {
        name: "items".to_owned(),
        shard_key: Some("user_id".to_owned()),
        last_write: None,
    });
    member.driver = new(spec, access(&member.server));
    member.driver.install().await.unwrap();
    lease(&member.driver).await;
    member
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_tables_only_slots_that_differ_are_copied_whatever_their_columns() {
    let mut members = mesh(&["east-1", "north-1"]).await;
    let north = with_items(members.remove(1), "east-1").await;
    let east = with_items(members.remove(0), "north-1").await;
    running(&north, &east).await;
    set_all(&east.driver, true, 1).await;
    let mut writer = app(&east.server).await;
    insert(&mut writer, "a", &key_of(1, 0)).await.unwrap();
    let write = format!(
        "INSERT INTO items (number, what, user_id, kind, raw, price, at, day, flags, size, ratio) VALUES
            (1, 'öne', '{0}', '{{\"a\": [1, null]}}', x'00ff27', 12345.678, '2026-11-27 01:02:03.456789', '2026-11-27', b'10101',
             'l', 0.1),
            (2, 'two', '{0}', NULL, NULL, -0.001, NULL, NULL, NULL, NULL, 1e300), (3, 'three', '{1}', NULL, '', 0, NULL, NULL, 0, 's', 0)",
        key_of(7, 0),
        key_of(8, 0)
    );
    writer.query_drop(write).await.unwrap();
    equal(&east, &north, &all()).await;
    // Two rows have exchanged a value that is unique, a row is gone, and there is one more.
    let extra = format!(
        "INSERT INTO items (number, what, user_id) VALUES (4, 'four', '{}')",
        key_of(9, 0)
    );
    let damage = [
        "UPDATE items SET what = 'x', flags = 1 WHERE what = 'öne'",
        "UPDATE items SET what = 'öne' WHERE what = 'two'",
        "UPDATE items SET what = 'two' WHERE what = 'x'",
        "DELETE FROM items WHERE what = 'three'",
        &extra,
    ];
    by_hand(&north, &damage).await;
    let reseeded = north.driver.reseed(&peer(&east), LONG).await.unwrap();
    assert_eq!((reseeded.written, reseeded.removed), (3, 1));
    assert_eq!(reseeded.slots, SlotSet::range(7, 9));
    equal(&east, &north, &all()).await;
    let doubled = "SELECT COUNT(*) FROM shop.items WHERE twice = number * 2 AND thrice = number * 3";
    let there: Option<u64> = admin(&north.server).await.query_first(doubled).await.unwrap();
    assert_eq!(there, Some(3));
    writer
        .query_drop("UPDATE items SET what = 'five' WHERE what = 'öne'")
        .await
        .unwrap();
    equal(&east, &north, &all()).await;
    running(&north, &east).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_had_received_more_than_the_new_owner_has_not_passed_before_the_surplus_is_gone() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    east.driver.apply(epoch(1), &[open(easts(), 1)], LIMITS).await.unwrap();
    let mut writer = app(&east.server).await;
    for id in ["all", "too"] {
        insert(&mut writer, id, &key_of(1, 0)).await.unwrap();
    }
    rows_everywhere(&members, 2).await;
    // Only south gets more, and reaches nobody from then on.
    stop_links(north).await;
    insert(&mut writer, "south only", &key_of(1, 1)).await.unwrap();
    writer.query_drop("DELETE FROM orders WHERE id = 'too'").await.unwrap();
    until("south to have it", async || {
        let found = ids(south).await;
        (found == ["all", "south only"])
            .then_some(())
            .ok_or(format!("{found:?}"))
    })
    .await;
    east.server.kill_9().await;
    let uid = [op("failover")];
    let at = north.driver.cut(&east.unit, &uid[0], epoch(2)).await.unwrap();
    let wanted = wanted_of(&east.unit, at.position.as_deref().unwrap());
    let waited = north.driver.wait_for(&uid[0], epoch(2), &wanted, true, LONG).await;
    assert_eq!(waited.unwrap(), Waited::Reached);
    let mut brought = open(easts(), 3);
    brought.brought_by = Some(uid[0].clone());
    north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap();
    running(north, south).await;
    running(south, north).await;
    insert(&mut app(&north.server).await, "new", &key_of(1, 2))
        .await
        .unwrap();
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
    let gap = link.gap.unwrap();
    assert!(gap.contains("had received more of a lost unit than north-1"), "{gap}");
    assert_eq!(link.lacking, Some(Lacking::Unknown), "a copy ends it");
    assert_eq!(
        ids(north).await,
        ["all", "new", "too"],
        "what only south had was passed on"
    );

    let copied = south.driver.reseed(&peer(north), LONG).await.unwrap();
    assert_eq!((copied.written, copied.removed), (1, 1));
    assert_eq!(copied.cuts.len(), 1, "{copied:?}");
    equal(north, south, &easts()).await;
    assert_eq!(running(south, north).await.gap, None);
    assert_eq!(south.driver.passed(&uid).await.unwrap(), uid);
    assert_eq!(south.driver.passed(&uid).await.unwrap(), uid, "and stays so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_of_the_applications_that_changes_what_is_written_is_told() {
    let members = three().await;
    let [east, north, _] = &members[..] else { panic!() };
    insert(&mut app(&east.server).await, "a", &key_of(1, 0)).await.unwrap();
    rows_everywhere(&members, 1).await;
    by_hand(north, &["DELETE FROM orders WHERE id = 'a'"]).await;
    let mut here = admin(&north.server).await;
    let trigger =
        "CREATE TRIGGER shop.doubles BEFORE INSERT ON shop.orders FOR EACH ROW PRECEDES $guard SET NEW.amount = 2";
    let sql = "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_MANIPULATION = 'INSERT' AND TRIGGER_SCHEMA = 'shop'";
    let guard: Option<String> = here.query_first(sql).await.unwrap();
    here.query_drop(trigger.replace("$guard", &guard.unwrap()))
        .await
        .unwrap();
    let refused = north.driver.reseed(&peer(east), LONG).await;
    assert!(
        matches!(&refused, Err(Error::NotCopied { why, .. }) if why.contains("a trigger of the table")),
        "{refused:?}"
    );
    assert_eq!(ids(north).await, Vec::<String>::new(), "nothing was changed");
    assert_eq!(running(north, east).await.gap, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_link_goes_on_while_rows_are_copied() {
    let members = three().await;
    let [east, north, _] = &members[..] else { panic!() };
    let mut copier = client(&north.server, "multiactive_agent").await;
    copier
        .query_drop("SELECT GET_LOCK('multiactive.copy', 1)")
        .await
        .unwrap();
    stop_links(north).await;
    let link = north.driver.link(&peer(east)).await.unwrap();
    assert!(
        matches!(&link.state, LinkState::Starting(why) if why.contains("compared or copied")),
        "{link:?}"
    );
    let refused = north.driver.reseed(&peer(east), LONG).await;
    assert!(matches!(&refused, Err(Error::NotCopied { .. })), "{refused:?}");
    insert(&mut app(&east.server).await, "a", &key_of(1, 0)).await.unwrap();
    // Whoever copies dies.
    drop(copier);
    running(north, east).await;
    equal(east, north, &easts()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_log_is_gone_a_copy_takes_its_place() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    let mut writer = app(&east.server).await;
    insert(&mut writer, "first", &key_of(1, 0)).await.unwrap();
    rows_everywhere(&members, 1).await;
    stop_links(north).await;
    for id in ["a", "b"] {
        insert(&mut writer, id, &key_of(2, 0)).await.unwrap();
    }
    forget_log(east).await;
    let link = linked(north, east, |link| link.gap.is_some()).await;
    assert!(link.gap.unwrap().contains("does not keep its log"));
    assert_eq!(link.lacking, Some(Lacking::Unknown), "a copy ends it");
    let copied = north.driver.reseed(&peer(east), LONG).await.unwrap();
    assert_eq!((copied.written, copied.removed), (2, 0));
    assert_eq!(running(north, east).await.gap, None);
    insert(&mut writer, "later", &key_of(2, 0)).await.unwrap();
    rows_everywhere(&members, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_or_a_comparison_in_whose_midst_a_server_dies_may_be_repeated() {
    let members = three().await;
    let [east, north, south] = &members[..] else { panic!() };
    for number in 0..40 {
        let mut writer = app(&east.server).await;
        insert(&mut writer, &format!("e{number}"), &key_of(number, 0))
            .await
            .unwrap();
    }
    rows_everywhere(&members, 40).await;
    let mut broken_off = 0;
    for (round, millis) in [10, 25, 40, 60, 80, 110].into_iter().enumerate() {
        stuck(east, north, &format!("stuck {round}")).await;
        let victim = if round % 2 == 0 { north } else { east };
        let from = peer(east);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            victim.server.kill_9().await;
        };
        let (copied, ()) = tokio::join!(north.driver.reseed(&from, LONG), killing);
        broken_off += usize::from(copied.is_err());
        victim.server.restart().await.unwrap();
        let again = match victim.unit == east.unit {
            true => vec![open(easts(), 1)],
            false => Vec::new(),
        };
        let driver = &victim.driver;
        driver.apply(epoch(1), &again, LIMITS).await.unwrap();
        lease(driver).await;
        let copied = until("a copy", async || {
            // Whoever looks first mends what the dead left behind.
            north.driver.link(&peer(east)).await.map_err(|error| error.explain())?;
            let copied = north.driver.reseed(&peer(east), LONG).await;
            copied.map_err(|error| error.explain())
        })
        .await;
        assert!(copied.left.is_empty());
        for from in [east, south] {
            assert_eq!(running(north, from).await.gap, None, "round {round}");
        }
        equal(east, north, &easts()).await;
    }
    assert!(broken_off > 1, "{broken_off} copies were broken off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_copies_and_lost_his_lock_meanwhile_changes_nothing() {
    let members = three().await;
    let [east, north, _] = &members[..] else { panic!() };
    insert(&mut app(&east.server).await, "a", &key_of(1, 0)).await.unwrap();
    rows_everywhere(&members, 1).await;
    by_hand(north, &["DELETE FROM orders WHERE id = 'a'"]).await;
    // Who copies waits for the slot's row, and the server ends the session that holds his lock.
    let mut holder = client(&north.server, "multiactive_agent").await;
    for sql in [
        "START TRANSACTION",
        "SELECT slot FROM multiactive.slot WHERE slot = 1 FOR UPDATE",
    ] {
        holder.query_drop(sql).await.unwrap();
    }
    let mut here = admin(&north.server).await;
    let ending = async {
        let sql = "SELECT IS_USED_LOCK('multiactive.copy')";
        let guard = until("a copy", async || {
            let guard: Option<Option<u64>> = here.query_first(sql).await.unwrap();
            guard.flatten().ok_or("nobody copies".to_owned())
        })
        .await;
        here.query_drop(format!("KILL {guard}")).await.unwrap();
        until("the lock to be free", async || {
            let guard: Option<Option<u64>> = here.query_first(sql).await.unwrap();
            guard.flatten().is_none().then_some(()).ok_or("it is held".to_owned())
        })
        .await;
        holder.query_drop("ROLLBACK").await.unwrap();
    };
    let from = peer(east);
    let (refused, ()) = tokio::join!(north.driver.reseed(&from, LONG), ending);
    assert!(
        matches!(&refused, Err(Error::NotCopied { why, .. }) if why.contains("took too long")),
        "{refused:?}"
    );
    assert_eq!(ids(north).await, Vec::<String>::new());
    assert_eq!(running(north, east).await.gap, None);
}
