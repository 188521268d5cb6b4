//! Links between real servers: in a mesh, with one missing, in crashes, and against what must not be taken.

use super::support::*;
use super::writers::by_hand;
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use multiactive_stores::driver::{Link, LinkState, Unlinked, Waited};
use mysql_async::prelude::Queryable;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Opens a third of the slots in each of three units.
async fn share(members: &[Member], at: u64) {
    for (number, member) in members.iter().enumerate() {
        let own = SlotSet::range(80 * number as u16, 80 * number as u16 + 79);
        member.driver.apply(epoch(at), &[open(own, at)], LIMITS).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_units_write_their_own_slots_and_have_all_rows() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    share(&members, 1).await;
    for (number, member) in members.iter().enumerate() {
        let mut app = app(&member.server).await;
        for row in 0..40 {
            let key = key_of(80 * number as u16 + row, 0);
            insert(&mut app, &format!("{number}-{row}"), &key).await.unwrap();
        }
        let foreign = key_of((80 * number as u16 + 100) % 240, 0);
        insert(&mut app, "x", &foreign)
            .await
            .expect_err("a slot of another unit");
    }
    rows_everywhere(&members, 120).await;
    let range = Default::default();
    let (slots, limit) = (all(), Duration::from_secs(20));
    let first = members[0].driver.checksum(&slots, &range, limit).await.unwrap();
    assert_eq!((first.rows, first.sums.len()), (120, 256));
    for member in &members[1..] {
        assert_eq!(member.driver.checksum(&slots, &range, limit).await.unwrap(), first);
    }
    let key = key_of(5, 0);
    let only = multiactive_stores::driver::KeyRange {
        from: Some(key.clone()),
        to: Some(format!("{key}!")),
    };
    let part = members[2].driver.checksum(&slots, &only, limit).await.unwrap();
    assert_eq!((part.rows, part.sums[&5]), (1, first.sums[&5]), "one key's");
    // One row that differs is found in its slot, and only there; what is local to a unit is compared with nobody.
    let mut admin = admin(&members[1].server).await;
    let sql = "UPDATE shop.orders SET amount = 2 WHERE id = '0-5'";
    admin.query_drop("SET GLOBAL read_only = 0").await.unwrap();
    let trigger: String = admin
        .query_first("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_MANIPULATION = 'UPDATE' AND TRIGGER_SCHEMA = 'shop'")
        .await
        .unwrap()
        .unwrap();
    admin.query_drop(format!("DROP TRIGGER shop.{trigger}")).await.unwrap();
    admin.query_drop(sql).await.unwrap();
    let other = members[1].driver.checksum(&slots, &range, limit).await.unwrap();
    let differ: Vec<_> = slots
        .iter()
        .filter(|slot| other.sums[slot] != first.sums[slot])
        .collect();
    assert_eq!(differ, [5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_link_is_covered_by_the_others_in_the_order_of_causes() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    insert(&mut app(&east.server).await, "a", "u1").await.unwrap();
    rows_everywhere(&members, 1).await;
    // South loses its link from east; east writes, hands over to north, and north changes the same row.
    assert_eq!(south.driver.unlink(&east.unit, None).await.unwrap(), Unlinked::Clean);
    let mut writer = app(&east.server).await;
    insert(&mut writer, "b", "u1").await.unwrap();
    writer.query_drop("UPDATE orders SET amount = 2").await.unwrap();
    let fenced = east.driver.fence(&op("p"), epoch(2), &all(), LIMITS).await.unwrap();
    let positions = [fenced.position];
    for member in [north, south] {
        let waited = member
            .driver
            .wait_for(&op("p"), epoch(2), &positions, member.unit == north.unit, 5 * SECOND)
            .await
            .unwrap();
        assert_eq!(waited, Waited::Reached, "{}", member.unit);
    }
    let mut grant = open(all(), 3);
    grant.brought_by = Some(op("p"));
    north.driver.apply(epoch(3), &[grant], LIMITS).await.unwrap();
    assert!(north.driver.opened(&op("p")).await.unwrap() && !south.driver.opened(&op("p")).await.unwrap());
    let mut writer = app(&north.server).await;
    writer
        .query_drop("UPDATE orders SET amount = 3 WHERE id = 'b'")
        .await
        .unwrap();
    let sum = async |member: &Member| -> Option<i64> {
        let mut admin = admin(&member.server).await;
        admin
            .query_first("SELECT CAST(SUM(amount) AS SIGNED) FROM shop.orders")
            .await
            .unwrap()
    };
    until("south to have all", async || match sum(south).await {
        Some(5) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    // The link comes back, and brings nothing twice.
    running(south, east).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for member in &members {
        assert_eq!(sum(member).await, Some(5), "{}", member.unit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_is_reached_not_yet_or_never() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    insert(&mut app(&east.server).await, "a", "u1").await.unwrap();
    // Asked before the fence stands, and answered when it does.
    let (uid, sources) = (op("p"), [east.unit.clone()]);
    let follows = north.driver.follow(&uid, epoch(2), &sources, true, 10 * SECOND);
    let (followed, fenced) = tokio::join!(follows, async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        east.driver.fence(&uid, epoch(2), &all(), LIMITS).await
    });
    assert_eq!(followed.unwrap(), Waited::Reached);
    let mut positions = [fenced.unwrap().position];
    // A number beyond the log's end, and another operation.
    let real = positions[0].vector[0].position.clone();
    let beyond = format!("{}{}", &real[..real.rfind(['-', ':']).unwrap() + 1], 999_999);
    positions[0].vector[0].position = beyond;
    let early = north
        .driver
        .wait_for(&uid, epoch(2), &positions, true, SECOND / 2)
        .await
        .unwrap();
    assert!(
        matches!(&early, Waited::TimedOut(why) if why.contains("999999 is wanted")),
        "{early:?}"
    );
    let none = north
        .driver
        .follow(&op("q"), epoch(2), &sources, true, SECOND / 2)
        .await
        .unwrap();
    assert!(
        matches!(&none, Waited::TimedOut(why) if why.contains("the fence of east-1 has not come")),
        "{none:?}"
    );
    // A link that stands still brings nothing: not a matter of time.
    let mut admin = admin(&north.server).await;
    admin.query_drop(STOP_LINKS).await.unwrap();
    let never = north
        .driver
        .wait_for(&uid, epoch(2), &positions, true, 5 * SECOND)
        .await
        .unwrap();
    assert!(
        matches!(&never, Waited::LinkBroken(why) if why.contains("stopped")),
        "{never:?}"
    );
    north.driver.unlink(&east.unit, None).await.unwrap();
    let never = north
        .driver
        .wait_for(&uid, epoch(2), &positions, true, 5 * SECOND)
        .await
        .unwrap();
    assert!(
        matches!(&never, Waited::LinkBroken(why) if why.contains("no link from east-1")),
        "{never:?}"
    );
    // Slots that an operation brings open only where it has drained.
    let mut grant = open(all(), 4);
    grant.brought_by = Some(op("q"));
    let refused = north.driver.apply(epoch(4), &[grant], LIMITS).await;
    assert!(
        matches!(refused, Err(multiactive_stores::Error::NotDrained { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_in_crashes_of_either_side() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    let mut wrote = 0;
    for round in 0..4 {
        let mut writer = app(&east.server).await;
        for row in 0..25 {
            insert(&mut writer, &format!("{round}-{row}"), &key_of(row, round))
                .await
                .unwrap();
            wrote += 1;
        }
        let victim = if round % 2 == 0 { &north.server } else { &east.server };
        victim.kill_9().await;
        victim.restart().await.unwrap();
        // Nothing runs by itself after a restart, and the slots are opened again at their epoch.
        running(north, east).await;
        running(east, north).await;
        set_all(&east.driver, true, 1).await;
        lease(&east.driver).await;
    }
    rows_everywhere(&members, wrote).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lag_is_the_age_of_a_heartbeat_also_while_the_source_is_frozen() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    let lag = async || north.driver.lag().await.unwrap().remove(0);
    assert_eq!(lag().await.heartbeat, None, "before the first");
    east.driver.beat().await.unwrap();
    let fresh = until("the heartbeat", async || {
        let lag = lag().await;
        lag.heartbeat.ok_or("none".to_owned())
    })
    .await;
    assert!(fresh < SECOND, "{fresh:?}");
    east.driver.beat().await.unwrap();
    east.server.freeze().await;
    tokio::time::sleep(2 * SECOND).await;
    let late = lag().await;
    assert!(late.heartbeat > Some(SECOND), "{late:?}");
    assert!(late.position.is_some(), "{late:?}");
    let mut admin = admin(&north.server).await;
    let seconds = channels(&mut admin).await.remove(0).behind;
    assert_eq!(seconds.as_deref(), Some("0"), "what the server itself says");
    east.server.thaw();
    for _ in 0..3 {
        east.driver.beat().await.unwrap();
    }
    let rows: Option<u64> = self::admin(&east.server)
        .await
        .query_first("SELECT COUNT(*) FROM multiactive.beat")
        .await
        .unwrap();
    assert_eq!(rows, Some(1), "old heartbeats are forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_whose_server_is_silent_says_so_and_what_nobody_passes_on_is_not_waited_for() {
    // As a server has it that nobody configured: that long it notices nothing by itself.
    let units = ["east-1", "north-1", "south-1"];
    let servers = units.map(|_| shop_with(&[(NET_TIMEOUT, "60")]));
    let mut members = Vec::new();
    for (server, unit) in futures::future::join_all(servers).await.into_iter().zip(units) {
        let peers: Vec<_> = units.into_iter().filter(|peer| *peer != unit).collect();
        members.push(installed(server, unit, &peers).await);
    }
    link_all(&members).await;
    let [east, north, _] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    insert(&mut app(&east.server).await, "a", "u1").await.unwrap();
    rows_everywhere(&members, 1).await;
    let uid = op("p");
    let mut positions = [east
        .driver
        .fence(&uid, epoch(2), &all(), LIMITS)
        .await
        .unwrap()
        .position];
    // What east wrote last has come to nobody.
    let real = positions[0].vector[0].position.clone();
    let beyond = format!("{}{}", &real[..real.rfind(['-', ':']).unwrap() + 1], 999_999);
    positions[0].vector[0].position = beyond;
    east.server.freeze().await;
    until("the silence", async || {
        let mut links = north.driver.links().await.unwrap();
        links.retain(|link| link.from == east.unit);
        match &links[..] {
            [
                Link {
                    state: LinkState::Broken(why),
                    ..
                },
            ] if why.contains("nothing has come from its server for") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let mut given_time = false;
    let why = until("the end of patience", async || {
        let waits = north.driver.wait_for(&uid, epoch(2), &positions, true, SECOND);
        match waits.await.unwrap() {
            Waited::LinkBroken(why) => Ok(why),
            Waited::TimedOut(why) => {
                given_time |= why.contains("another member may pass it on");
                Err(why)
            }
            Waited::Reached => Err("reached".to_owned()),
        }
    })
    .await;
    assert!(given_time, "it was not waited for who may pass it on");
    assert!(why.contains("no other member passes it on"), "{why}");
    east.server.thaw();
    running(north, east).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_stops_a_link_and_a_lock_of_an_idle_session_is_told() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    insert(&mut app(&east.server).await, "a", "u1").await.unwrap();
    rows_everywhere(&members, 1).await;
    // Reads alone lock rows too, and fire no trigger.
    let mut idle = app(&north.server).await;
    idle.query_drop("BEGIN").await.unwrap();
    idle.query_drop("SELECT * FROM orders FOR UPDATE").await.unwrap();
    let mut writer = app(&east.server).await;
    writer.query_drop("UPDATE orders SET amount = 2").await.unwrap();
    let link = linked(north, east, |link| matches!(link.state, LinkState::Starting(_))).await;
    let LinkState::Starting(words) = &link.state else {
        panic!()
    };
    assert!(words.contains("shop_app, idle in transaction"), "{words}");
    idle.query_drop("ROLLBACK").await.unwrap();
    running(north, east).await;
    // A whole table.
    let mut locks = admin(&north.server).await;
    locks.query_drop("LOCK TABLES shop.orders READ").await.unwrap();
    writer.query_drop("UPDATE orders SET amount = 3").await.unwrap();
    let link = linked(north, east, |link| matches!(link.state, LinkState::Starting(_))).await;
    let LinkState::Starting(words) = &link.state else {
        panic!()
    };
    assert!(words.contains("its rows wait for"), "{words}");
    locks.query_drop("UNLOCK TABLES").await.unwrap();
    running(north, east).await;
    // A row that is there already.
    set_all(&north.driver, true, 1).await;
    by_hand(north, &["INSERT INTO orders VALUES ('b', 'u1', 1)"]).await;
    insert(&mut writer, "b", "u1").await.unwrap();
    let link = linked(north, east, |link| matches!(link.state, LinkState::Broken(_))).await;
    let LinkState::Broken(words) = &link.state else {
        panic!()
    };
    assert!(words.contains("Duplicate entry"), "{words}");
    by_hand(north, &["DELETE FROM orders WHERE id = 'b'"]).await;
    running(north, east).await;
    rows_everywhere(&members, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_from_a_wrong_server() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    let broken = async |peer: &multiactive_stores::driver::Peer| -> String {
        let link = north.driver.link(peer).await.unwrap();
        let LinkState::Broken(why) = link.state else {
            panic!("{link:?}");
        };
        why
    };
    let right = peer(east);
    // Another unit's, an empty one, one of the same domain, one that is away.
    let mut itself = right.clone();
    itself.port = north.server.port();
    let why = broken(&itself).await;
    assert!(why.contains("is that of north-1"), "{why}");
    let empty = installed(shop().await, "east-1", &["north-1"]).await;
    let mut wrong = right.clone();
    wrong.port = empty.server.port();
    let why = broken(&wrong).await;
    assert!(why.contains("database is another one"), "{why}");
    running(north, east).await;
    let twin = twin_of(&north.server, shop_of).await;
    let twin = installed(twin, "west-1", &[]).await;
    let why = broken(&peer(&twin)).await;
    assert!(why.contains("give each member one of its own"), "{why}");
    east.server.stop().await;
    let why = broken(&right).await;
    assert!(why.contains("connecting to"), "{why}");
    east.server.restart().await.unwrap();
    running(north, east).await;
    // A new password is taken over, and a link that somebody has reset is made again.
    let mut admin = admin(&east.server).await;
    admin.query_drop(NEW_PASSWORD).await.unwrap();
    let mut other = right.clone();
    other.password = "another".to_owned();
    east.server.restart().await.unwrap();
    until("the link with another password", async || {
        let link = north.driver.link(&other).await.unwrap();
        if link.state == LinkState::Running {
            Ok(())
        } else {
            Err(format!("{link:?}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_went_back_is_told_on_both_sides_and_brings_nothing() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    insert(&mut app(&east.server).await, "a", "u1").await.unwrap();
    rows_everywhere(&members, 1).await;
    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("saved");
    east.server.save(&saved).await.unwrap();
    east.server.restart().await.unwrap();
    set_all(&east.driver, true, 1).await;
    lease(&east.driver).await;
    running(north, east).await;
    for id in ["b", "c", "d"] {
        insert(&mut app(&east.server).await, id, "u1").await.unwrap();
    }
    rows_everywhere(&members, 4).await;
    assert_eq!(east.driver.went_back(&[peer(north)]).await.unwrap(), [""; 0]);
    east.server.bring_back(&saved).await.unwrap();
    east.server.restart().await.unwrap();
    let words = east.driver.went_back(&[peer(north)]).await.unwrap();
    assert!(
        words.len() == 1 && words[0].contains("north-1 has applied this database's log"),
        "{words:?}"
    );
    let link = linked(north, east, |link| matches!(link.state, LinkState::Broken(_))).await;
    let LinkState::Broken(words) = &link.state else {
        panic!()
    };
    assert!(words.contains("the log of east-1 went back"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_answer_holds_up_no_other_link_and_nobody_who_cuts_it_off() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    let (frozen, fine) = (peer(east), peer(south));
    east.server.freeze().await;
    let asked = north.driver.link(&frozen);
    let others = async {
        tokio::time::sleep(SECOND / 5).await;
        let started = Instant::now();
        let link = north.driver.link(&fine).await.unwrap();
        assert_eq!(link.state, LinkState::Running);
        north.driver.cut(&east.unit, &op("f"), epoch(1)).await.unwrap();
        // Less than a peer's answer is waited for.
        assert!(started.elapsed() < 4 * SECOND, "{:?}", started.elapsed());
    };
    let (link, ()) = tokio::join!(asked, others);
    let link = link.unwrap();
    assert!(matches!(link.state, LinkState::Cut(_)), "cut meanwhile: {link:?}");
    east.server.thaw();
}
