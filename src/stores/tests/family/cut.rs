//! A lost unit: what was received of it is applied, nothing more is taken, and it takes nothing before a person has agreed.

use super::support::*;
use multiactive_core::promotion::{Progress, UnitPosition};
use multiactive_stores::driver::{LinkState, Waited};
use multiactive_stores::{Driver, Error};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Writes past everything, as a unit does that nobody reaches any more.
async fn tail(member: &Member, ids: &[&str]) {
    let mut writer = app(&member.server).await;
    for id in ids {
        insert(&mut writer, id, "u1").await.unwrap();
    }
}

async fn has(client: &mut Conn, id: &str) -> bool {
    let sql = "SELECT COUNT(*) FROM shop.orders WHERE id = ?";
    client.exec_first::<u64, _, _>(sql, (id,)).await.unwrap() == Some(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_received_of_a_lost_unit_is_applied_and_nothing_of_its_tail_is_taken() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    tail(east, &["a"]).await;
    rows_everywhere(&members, 1).await;
    // North has received more than it has applied when east is lost.
    let mut north_admin = admin(&north.server).await;
    for link in channels(&mut north_admin).await {
        north_admin.query_drop(stop_applying(&link.name)).await.unwrap();
    }
    tail(east, &["b", "c"]).await;
    let progress = east.driver.progress().await.unwrap();
    tokio::time::sleep(SECOND / 2).await;
    east.server.freeze().await;
    let cut = north.driver.cut(&east.unit, &op("f"), epoch(5)).await.unwrap();
    assert!(
        has(&mut north_admin, "b").await && has(&mut north_admin, "c").await,
        "it was received"
    );
    assert_eq!(seq(cut.position.as_ref().unwrap()), progress.at);
    assert_eq!(
        cut.progress,
        Progress { ..progress.clone() },
        "the same log, and the same number"
    );
    let again = north.driver.cut(&east.unit, &op("f"), epoch(5)).await.unwrap();
    assert_eq!(again, cut, "a repeated call gives the same answer");
    let late = north.driver.cut(&east.unit, &op("f"), epoch(4)).await;
    assert!(matches!(late, Err(Error::Overtaken { .. })), "{late:?}");
    south.driver.cut(&east.unit, &op("f"), epoch(5)).await.unwrap();
    // It comes back with a tail: neither its own link brings it, whoever makes or starts it, nor one by another member.
    east.server.thaw();
    tail(east, &["late"]).await;
    for member in [north, south] {
        let link = member.driver.link(&peer(east)).await.unwrap();
        assert!(matches!(link.state, LinkState::Cut(_)), "{link:?}");
        member.server.restart().await.unwrap();
    }
    running(north, south).await;
    running(south, north).await;
    for member in [north, south] {
        let link = member.driver.link(&peer(east)).await.unwrap();
        assert!(
            matches!(&link.state, LinkState::Cut(why) if why.contains("operation f took slots over")),
            "{link:?}"
        );
        let links = member.driver.links().await.unwrap();
        assert!(
            links
                .iter()
                .any(|link| link.from == east.unit && matches!(link.state, LinkState::Cut(_)))
        );
    }
    tokio::time::sleep(SECOND / 2).await;
    for member in [north, south] {
        assert!(!has(&mut admin(&member.server).await, "late").await, "{}", member.unit);
    }
    // Somebody starts it by hand all the same: it is stopped, and that is its gap.
    let mut south_admin = admin(&south.server).await;
    south_admin.query_drop(START_LINKS).await.unwrap();
    until("the tail, by hand", async || {
        if has(&mut south_admin, "late").await {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    let link = south.driver.link(&peer(east)).await.unwrap();
    assert!(link.gap.is_some_and(|gap| gap.contains("somebody started it")), "a gap");
    let mut admin = admin(&south.server).await;
    let links = channels(&mut admin).await;
    let port = east.server.port().to_string();
    let stopped = links.iter().find(|link| link.port == port).unwrap();
    assert_eq!(stopped.receives, "No");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_unit_that_is_back_takes_nothing_before_its_rows_were_compared() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    tail(east, &["a"]).await;
    rows_everywhere(&members, 1).await;
    let uid = op("f");
    let mut positions = Vec::new();
    for member in [north, south] {
        let cut = member.driver.cut(&east.unit, &uid, epoch(2)).await.unwrap();
        positions = wanted_of(&east.unit, cut.position.as_deref().unwrap()).to_vec();
    }
    tail(east, &["late"]).await;
    // North takes over. What is beyond its position comes only by a repair.
    let beyond = format!("{}-9", positions[0].vector[0].position);
    assert!(
        north
            .driver
            .repaired(
                epoch(2),
                &UnitPosition {
                    unit: east.unit.clone(),
                    position: beyond
                }
            )
            .await
            .is_err()
    );
    let waited = north
        .driver
        .wait_for(&uid, epoch(2), &positions, true, 5 * SECOND)
        .await
        .unwrap();
    assert_eq!(waited, Waited::Reached);
    let mut grant = open(all(), 3);
    grant.brought_by = Some(uid.clone());
    north.driver.apply(epoch(3), &[grant], LIMITS).await.unwrap();
    let mut writer = app(&north.server).await;
    insert(&mut writer, "new", "u1").await.unwrap();
    writer
        .query_drop("UPDATE orders SET amount = 7 WHERE id = 'a'")
        .await
        .unwrap();
    until("south to follow north", async || {
        if has(&mut admin(&south.server).await, "new").await {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    // Neither from north nor by way of south.
    for from in [north, south] {
        let link = linked(east, from, |link| matches!(link.state, LinkState::Quarantined(_))).await;
        assert!(
            matches!(&link.state, LinkState::Quarantined(why) if why.contains("lost_f_east_1")),
            "{link:?}"
        );
    }
    east.server.restart().await.unwrap();
    linked(east, north, |link| matches!(link.state, LinkState::Quarantined(_))).await;
    assert!(
        !has(&mut admin(&east.server).await, "new").await,
        "nothing of the new owner is applied"
    );
    // Another operation's acceptance is not this one's.
    east.driver.rejoin(&op("g")).await.unwrap();
    linked(east, north, |link| matches!(link.state, LinkState::Quarantined(_))).await;
    // A person has compared, repaired (here: deleted what is only in east, out of the log) and agreed.
    let mut east_admin = admin(&east.server).await;
    east_admin.query_drop("SET GLOBAL read_only = 1").await.unwrap();
    let mut agent = client(&east.server, "multiactive_agent").await;
    agent.query_drop("SET SESSION sql_log_bin = 0").await.unwrap();
    let triggers: Vec<String> = east_admin
        .query("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop'")
        .await
        .unwrap();
    for trigger in triggers {
        east_admin
            .query_drop(format!("DROP TRIGGER shop.{trigger}"))
            .await
            .unwrap();
    }
    east_admin
        .query_drop("DELETE FROM shop.orders WHERE id = 'late'")
        .await
        .unwrap();
    east.driver.rejoin(&uid).await.unwrap();
    running(east, north).await;
    running(east, south).await;
    until("east to follow north", async || {
        if has(&mut east_admin, "new").await {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    // And the others take from it again, from where it is now: its tail never comes.
    east.driver.install().await.unwrap();
    lease(&east.driver).await;
    for member in [north, south] {
        let early = member.driver.uncut(&east.unit, epoch(1), true).await;
        assert!(matches!(early, Err(Error::Overtaken { .. })), "{early:?}");
        member
            .driver
            .uncut(&east.unit, epoch(4), member.unit == north.unit)
            .await
            .unwrap();
        let link = running(member, east).await;
        let gap = link.gap.unwrap_or_default();
        assert_eq!(
            gap.contains("the unit was lost, and is back"),
            member.unit == south.unit,
            "{gap}"
        );
        member.driver.compared(&east.unit).await.unwrap();
        assert_eq!(running(member, east).await.gap, None);
    }
    north.driver.fence(&op("back"), epoch(5), &all(), LIMITS).await.unwrap();
    for from in [north, south] {
        east.driver.compared(&from.unit).await.unwrap(); // its own fence was not in place
    }
    let back = [north.unit.clone()];
    let waited = east
        .driver
        .follow(&op("back"), epoch(5), &back, true, 5 * SECOND)
        .await
        .unwrap();
    assert_eq!(waited, Waited::Reached);
    let mut grant = open(all(), 6);
    grant.brought_by = Some(op("back"));
    east.driver.apply(epoch(6), &[grant], LIMITS).await.unwrap();
    tail(east, &["home"]).await;
    rows_everywhere(&members, 3).await;
    let never = south.driver.cut(&east.unit, &uid, epoch(2)).await;
    assert!(
        matches!(never, Err(Error::Overtaken { .. })),
        "a late call of an older epoch: {never:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_does_not_come_by_way_of_a_member_that_was_away() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    tail(east, &["a"]).await;
    rows_everywhere(&members, 1).await;
    // North reaches neither of the others any more, though its links try; east writes on, and south has it.
    let mut north_admin = admin(&north.server).await;
    for other in [east, south] {
        let mut admin = admin(&other.server).await;
        admin
            .query_drop("ALTER USER multiactive_replication@'%' ACCOUNT LOCK")
            .await
            .unwrap();
    }
    for other in [east, south] {
        let mut admin = admin(&other.server).await;
        let sql = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND = '{READER}'");
        let readers: Vec<u64> = admin.query(sql).await.unwrap();
        for reader in readers {
            admin.query_drop(format!("KILL {reader}")).await.unwrap();
        }
    }
    until("north to reach nobody", async || {
        let links = north.driver.links().await.unwrap();
        if links.iter().any(|link| link.state == LinkState::Running) {
            Err(format!("{links:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    let mut east_admin = admin(&east.server).await;
    let cut = north.driver.cut(&east.unit, &op("f"), epoch(2)).await.unwrap();
    east_admin
        .query_drop("ALTER USER multiactive_replication@'%' ACCOUNT UNLOCK")
        .await
        .unwrap();
    running(south, east).await;
    tail(east, &["late"]).await;
    let mut writer = app(&east.server).await;
    writer
        .query_drop("UPDATE orders SET amount = 5 WHERE id = 'a'")
        .await
        .unwrap();
    until("the tail in south", async || {
        if has(&mut admin(&south.server).await, "late").await {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    let uid = op("f");
    let wanted = wanted_of(&east.unit, cut.position.as_deref().unwrap());
    let waited = north
        .driver
        .wait_for(&uid, epoch(2), &wanted, true, 5 * SECOND)
        .await
        .unwrap();
    assert_eq!(waited, Waited::Reached);
    let mut grant = open(all(), 3);
    grant.brought_by = Some(uid.clone());
    north.driver.apply(epoch(3), &[grant], LIMITS).await.unwrap();
    let mut writer = app(&north.server).await;
    writer
        .query_drop("UPDATE orders SET amount = 7 WHERE id = 'a'")
        .await
        .unwrap();
    // The network heals, and the link goes on by itself: no agent looks first, where the server passes over the tail alone.
    let mut south_admin = admin(&south.server).await;
    south_admin
        .query_drop("ALTER USER multiactive_replication@'%' ACCOUNT UNLOCK")
        .await
        .unwrap();
    south.driver.beat().await.unwrap();
    until("what south wrote since", async || {
        if !PASSES_ALONE {
            north.driver.link(&peer(south)).await.unwrap();
        }
        let lag = north.driver.lag().await.unwrap();
        let of_south = lag.iter().find(|lag| lag.from == south.unit).unwrap();
        of_south.heartbeat.map(drop).ok_or("nothing".to_owned())
    })
    .await;
    let amount: Option<i32> = north_admin
        .query_first("SELECT amount FROM shop.orders WHERE id = 'a'")
        .await
        .unwrap();
    assert_eq!(amount, Some(7), "the new owner's row stands");
    assert!(!has(&mut north_admin, "late").await, "nothing of the tail came");
    // What is told of the lost unit stays what it was; and nobody takes its log for one that went back.
    let again = north.driver.cut(&east.unit, &uid, epoch(2)).await.unwrap();
    assert_eq!(again, cut);
    assert_eq!(east.driver.went_back(&[peer(north)]).await.unwrap(), [""; 0]);
    // South learns of it, and closes what is left of that log once north's opening has passed.
    south.driver.cut(&east.unit, &uid, epoch(2)).await.unwrap();
    running(south, north).await;
    until("south to close east's log", async || {
        running(south, north).await;
        closed_log(&mut admin(&south.server).await).await
    })
    .await;
    // And it is taken again from where it is, once it has joined.
    east.driver.rejoin(&uid).await.unwrap();
    running(east, north).await;
    north.driver.uncut(&east.unit, epoch(4), true).await.unwrap();
    north.driver.expire().await.unwrap(); // a read-only server can be linked too
    running(north, east).await;
    east.driver.beat().await.unwrap();
    until("what east writes from now on", async || {
        let lag = north.driver.lag().await.unwrap();
        let of_east = lag.iter().find(|lag| lag.from == east.unit).unwrap();
        of_east.heartbeat.map(drop).ok_or("nothing".to_owned())
    })
    .await;
    assert!(!has(&mut north_admin, "late").await);
}

/// All links run but the one that is cut: nobody mends any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_the_new_owner_has_opened_no_survivor_takes_the_tail_from_anybody() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    tail(east, &["a"]).await;
    rows_everywhere(&members, 1).await;
    let uid = op("f");
    south.driver.cut(&east.unit, &uid, epoch(2)).await.unwrap();
    let cut = north.driver.cut(&east.unit, &uid, epoch(2)).await.unwrap();
    let wanted = wanted_of(&east.unit, cut.position.as_deref().unwrap());
    let waited = north.driver.wait_for(&uid, epoch(2), &wanted, true, 5 * SECOND);
    assert_eq!(waited.await.unwrap(), Waited::Reached);
    let mut grant = open(all(), 3);
    grant.brought_by = Some(uid.clone());
    north.driver.apply(epoch(3), &[grant], LIMITS).await.unwrap();
    let mut writer = app(&north.server).await;
    insert(&mut writer, "n", "u1").await.unwrap();
    let mut here = admin(&south.server).await;
    until("what the new owner wrote", async || match has(&mut here, "n").await {
        true => Ok(()),
        false => Err("not yet".to_owned()),
    })
    .await;
    let link = south.driver.link(&peer(east)).await.unwrap();
    assert!(matches!(link.state, LinkState::Cut(_)), "{link:?}");
    let noted = closed_log(&mut here).await;
    assert!(noted.is_ok(), "its log is not closed: {noted:?}");
}
