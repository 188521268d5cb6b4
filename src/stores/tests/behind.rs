//! Members that are behind when slots move: whatever links bring first, no write of a new owner is applied before all
//! writes of the owner before it, and `links` says what is waited for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::promotion::StorePosition;
use multiactive_stores::driver::{KeyRange, LinkState, Unlinked, Waited};
use multiactive_stores::{Driver, Postgres};
use std::time::Duration;
use support::*;
use tokio_postgres::Client;

const LONG: Duration = Duration::from_secs(15);

/// Three units with links each way; east's slots are open, nobody else's.
async fn three() -> Vec<Member> {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    set_all(&members[0].driver, true, 1).await;
    members
}

/// The name of the subscription, and of its slot.
async fn link_name(to: &Member, from: &Member) -> String {
    let sql = "SELECT name FROM multiactive.link WHERE from_unit = $1";
    let admin = admin(&to.server).await;
    admin.query_one(sql, &[&from.unit.as_str()]).await.unwrap().get(0)
}

/// Stops a link, as a cut network would.
async fn cut(to: &Member, from: &Member) {
    let (name, admin) = (link_name(to, from).await, admin(&to.server).await);
    let sql = format!("ALTER SUBSCRIPTION {name} DISABLE");
    admin.batch_execute(&sql).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_subscription WHERE subname = $1::text::name AND pid IS NOT NULL";
    until("the link to stop", async || {
        let workers: i64 = admin.query_one(sql, &[&name]).await.unwrap().get(0);
        (workers == 0).then_some(()).ok_or_else(|| format!("{workers} workers"))
    })
    .await;
}

/// Fences all slots at `from` and brings them to `to`, which drains first. The fence is at the epoch after `at`.
async fn bring(from: &Member, to: &Member, name: &str, at: u64) -> StorePosition {
    let fenced = from
        .driver
        .fence(&op(name), epoch(at + 1), &all(), LIMITS)
        .await
        .unwrap();
    let positions = [fenced.position.clone()];
    let waited = to
        .driver
        .wait_for(&op(name), epoch(at + 1), &positions, true, LONG)
        .await;
    assert_eq!(waited.unwrap(), Waited::Reached);
    let mut brought = open(all(), at + 2);
    brought.brought_by = Some(op(name));
    let applied = to.driver.apply(epoch(at + 2), &[brought], LIMITS).await.unwrap();
    assert_eq!(applied.opened, u64::from(SLOTS));
    fenced.position
}

async fn state(at: &Member, from: &Member) -> LinkState {
    let links = at.driver.links().await.unwrap();
    links.into_iter().find(|link| link.from == from.unit).unwrap().state
}

async fn errors(admin: &Client, name: &str) -> i64 {
    let sql = "SELECT apply_error_count FROM pg_stat_subscription_stats WHERE subname = $1::text::name";
    admin.query_one(sql, &[&name]).await.unwrap().get(0)
}

async fn checksums(driver: &Postgres) -> multiactive_stores::driver::Checksums {
    driver.checksum(&all(), &KeyRange::default(), LONG).await.unwrap()
}

/// Waits until all members have the rows of the first.
async fn equal(members: &[Member]) {
    until("equal rows", async || {
        let first = checksums(&members[0].driver).await;
        for member in members {
            let here = checksums(&member.driver).await;
            if here != first {
                return Err(format!("{}: {} rows of {}", member.unit, here.rows, first.rows));
            }
        }
        Ok(())
    })
    .await;
}

async fn amount(admin: &Client, id: &str) -> Option<i32> {
    let rows = admin
        .query("SELECT amount FROM orders WHERE id = $1", &[&id])
        .await
        .unwrap();
    rows.first().map(|row| row.get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_applies_a_new_owners_writes_after_all_of_the_owner_before() {
    let members = three().await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    running(south, north).await;
    cut(south, east).await;
    let writer = app(&east.server).await;
    for number in 0..20 {
        insert(&writer, &format!("e{number}"), &key_of(50, number))
            .await
            .unwrap();
    }
    let position = bring(east, north, "move", 1).await;
    // The new owner changes a row that south has never seen, and adds one.
    let writer = app(&north.server).await;
    writer
        .batch_execute("UPDATE orders SET amount = 7 WHERE id = 'e3'; DELETE FROM orders WHERE id = 'e4'")
        .await
        .unwrap();
    insert(&writer, "n", &key_of(50, 0)).await.unwrap();

    // South holds back through several attempts of its worker, and says why all the time: in each and between them.
    let here = admin(&south.server).await;
    let name = link_name(south, north).await;
    let why = format!(
        "waits for the writes of east-1 up to {}, which east-1's link has not brought yet",
        position.vector[0].position
    );
    until("the link to wait", async || match state(south, north).await {
        LinkState::Starting(told) if told.contains(&why) => Ok(()),
        other @ (LinkState::Starting(_)
        | LinkState::Lacks { .. }
        | LinkState::Running
        | LinkState::Broken(_)
        | LinkState::Cut(_)
        | LinkState::Quarantined(_)) => Err(format!("{other:?}")),
    })
    .await;
    until("two attempts to end", async || {
        let told = state(south, north).await;
        assert!(
            matches!(&told, LinkState::Starting(told) if told.contains(&why)),
            "{told:?}"
        );
        assert_eq!(count(&here).await, 0, "a row came past the opening");
        let errors = errors(&here, &name).await;
        (errors >= 2).then_some(()).ok_or_else(|| format!("{errors} attempts"))
    })
    .await;

    // The way is mended: everything comes, in the right order.
    running(south, east).await;
    running(south, north).await;
    equal(&members).await;
    assert_eq!((amount(&here, "e3").await, amount(&here, "e4").await), (Some(7), None));
    assert_eq!(count(&here).await, 20);
    let sql = "SELECT count(*) FROM multiactive.opening";
    for (member, rows) in [(north, 1_i64), (south, 0), (east, 0)] {
        let found: i64 = admin(&member.server).await.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(found, rows, "{}: receivers keep no opening", member.unit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writes_of_a_lost_unit_are_waited_for_until_a_person_takes_its_link_away() {
    let members = three().await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    running(south, north).await;
    cut(south, east).await;
    insert(&app(&east.server).await, "lost", "u1").await.unwrap();
    bring(east, north, "move", 1).await;
    insert(&app(&north.server).await, "new", "u1").await.unwrap();
    east.server.kill_9().await;
    until("the link to wait", async || match state(south, north).await {
        LinkState::Starting(told) if told.contains("waits for the writes of east-1") => Ok(()),
        other @ (LinkState::Starting(_)
        | LinkState::Lacks { .. }
        | LinkState::Running
        | LinkState::Broken(_)
        | LinkState::Cut(_)
        | LinkState::Quarantined(_)) => Err(format!("{other:?}")),
    })
    .await;
    let unlinked = south.driver.unlink(&east.unit, None).await.unwrap();
    assert!(matches!(unlinked, Unlinked::LogKept { .. }), "{unlinked:?}");
    running(south, north).await;
    let here = admin(&south.server).await;
    until("the new owner's row", async || {
        amount(&here, "new").await.ok_or("none".to_owned())
    })
    .await;
    assert_eq!(amount(&here, "lost").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openings_in_two_links_do_not_wait_for_each_other() {
    let members = three().await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    running(south, north).await;
    cut(south, east).await;
    cut(south, north).await;
    // There and back again, and there: each link has an opening that waits for the other one.
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    bring(east, north, "there", 1).await;
    let change = |amount: i32| format!("UPDATE orders SET amount = {amount} WHERE id = 'a'");
    app(&north.server).await.batch_execute(&change(2)).await.unwrap();
    bring(north, east, "back", 4).await;
    app(&east.server).await.batch_execute(&change(3)).await.unwrap();
    bring(east, north, "there again", 7).await;
    app(&north.server).await.batch_execute(&change(4)).await.unwrap();
    tokio::join!(running(south, north), running(south, east));
    equal(&members).await;
    assert_eq!(amount(&admin(&south.server).await, "a").await, Some(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_over_has_reached_nothing_while_a_peer_would_miss_its_writes() {
    let members = three().await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    running(south, north).await;
    cut(south, north).await;
    let sql = format!("SELECT pg_drop_replication_slot('{}')", link_name(south, north).await);
    admin(&north.server).await.batch_execute(&sql).await.unwrap();
    let fenced = east.driver.fence(&op("move"), epoch(2), &all(), LIMITS).await.unwrap();
    let positions = [fenced.position];
    let ask = async |takes_over| {
        let uid = op("move");
        let verb = north.driver.wait_for(&uid, epoch(2), &positions, takes_over, LONG);
        verb.await.unwrap()
    };
    let waited = ask(true).await;
    assert!(
        matches!(&waited, Waited::LinkBroken(why) if why.contains("no slot for the link to south-1")),
        "{waited:?}"
    );
    // Who only receives writes nothing that could be missed.
    assert_eq!(ask(false).await, Waited::Reached);
    running(south, north).await;
    assert_eq!(ask(true).await, Waited::Reached);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_schema_is_older_meets_the_opening_too() {
    let members = three().await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    running(south, north).await;
    cut(south, east).await;
    cut(south, north).await;
    // South is as an older version left it.
    let here = admin(&south.server).await;
    let older =
        "DROP TABLE multiactive.opening, multiactive.breach, multiactive.joined, multiactive.lost, multiactive.placed;
                 UPDATE multiactive.store SET digest = 'older'";
    here.batch_execute(older).await.unwrap();
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    bring(east, north, "move", 1).await;
    app(&north.server)
        .await
        .batch_execute("UPDATE orders SET amount = 2")
        .await
        .unwrap();

    // What it does not know stops its link, and does not pass.
    let name = link_name(south, north).await;
    let sql = format!("ALTER SUBSCRIPTION {name} ENABLE");
    here.batch_execute(&sql).await.unwrap();
    until("the opening to fail", async || {
        let errors = errors(&here, &name).await;
        (errors >= 1).then_some(()).ok_or_else(|| format!("{errors} errors"))
    })
    .await;
    // The newer version comes: the link meets the opening, and waits.
    south.driver.install().await.unwrap();
    until("the link to wait", async || {
        match south.driver.link(&peer(north)).await.unwrap().state {
            LinkState::Starting(told) if told.contains("waits for the writes of east-1") => Ok(()),
            other @ (LinkState::Starting(_)
            | LinkState::Lacks { .. }
            | LinkState::Running
            | LinkState::Broken(_)
            | LinkState::Cut(_)
            | LinkState::Quarantined(_)) => Err(format!("{other:?}")),
        }
    })
    .await;
    running(south, east).await;
    running(south, north).await;
    equal(&members).await;
    assert_eq!(amount(&here, "a").await, Some(2));
    let gaps: i64 = here
        .query_one("SELECT count(*) FROM multiactive.link WHERE gap IS NOT NULL", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(gaps, 0, "nothing was missed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_waits_for_no_link_that_was_made_again_after_its_positions() {
    for slot_stays in [true, false] {
        let members = three().await;
        let [east, north, south] = &members[..] else {
            unreachable!()
        };
        running(south, north).await;
        cut(south, north).await;
        insert(&app(&east.server).await, "a", "u1").await.unwrap();
        bring(east, north, "move", 1).await;
        let here = admin(&south.server).await;
        until("east's rows", async || match count(&here).await {
            1 => Ok(()),
            other => Err(format!("{other} rows")),
        })
        .await;
        // Somebody drops the link from east, which has nothing to write any more.
        let name = link_name(south, east).await;
        cut(south, east).await;
        let sql = match slot_stays {
            true => format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
            false => "SELECT".to_owned(),
        };
        here.batch_execute(&sql).await.unwrap();
        here.batch_execute(&format!("DROP SUBSCRIPTION {name}")).await.unwrap();
        let link = running(south, east).await;
        assert_eq!(link.gap.is_some(), !slot_stays, "{link:?}");
        running(south, north).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_openings_are_forgotten_and_no_link_minds() {
    let members = three().await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    bring(east, north, "move", 1).await;
    let there = admin(&north.server).await;
    // Written by hand, so it is not replicated as an opening would be.
    there
        .batch_execute("UPDATE multiactive.opening SET at = at - interval '31 days'")
        .await
        .unwrap();
    bring(north, east, "back", 4).await;
    bring(east, north, "again", 7).await;
    let left: Vec<String> = there
        .query("SELECT op FROM multiactive.opening", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(left, ["again"]);
    insert(&app(&north.server).await, "after", "u1").await.unwrap();
    equal(&members).await;
    for member in [east, south] {
        running(member, north).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_whose_worker_waits_for_a_lock_says_who_holds_it() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let holder = admin(&north.server).await;
    // As CREATE INDEX does.
    holder
        .batch_execute("BEGIN; LOCK TABLE orders IN SHARE MODE")
        .await
        .unwrap();
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    let told = until("the cause to be told", async || match state(north, east).await {
        LinkState::Starting(why) | LinkState::Broken(why) => Ok(why),
        other @ (LinkState::Running | LinkState::Lacks { .. } | LinkState::Cut(_) | LinkState::Quarantined(_)) => {
            Err(format!("{other:?}"))
        }
    })
    .await;
    let holds = format!("held by process {pid} of postgres, idle in transaction");
    assert!(
        told.contains("waits for a lock on public.orders since") && told.contains(&holds),
        "{told}"
    );
    // Who waits for a position hears it as well.
    let fenced = east.driver.fence(&op("p"), epoch(2), &all(), LIMITS).await.unwrap();
    let waited = north
        .driver
        .wait_for(&op("p"), epoch(2), &[fenced.position], true, Duration::from_secs(1))
        .await
        .unwrap();
    assert!(
        matches!(&waited, Waited::TimedOut(why) | Waited::LinkBroken(why) if why.contains(&holds)),
        "{waited:?}"
    );
    holder.batch_execute("COMMIT").await.unwrap();
    running(north, east).await;
    equal(&members).await;
}
