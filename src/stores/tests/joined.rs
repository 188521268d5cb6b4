//! Tables that are added to a store that runs: no row of them is passed over by a receiver that learns of them late, and
//! what cannot have been published is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_stores::driver::{Link, LinkState, TableSpec, Waited};
use multiactive_stores::{Driver, Postgres};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::*;
use tokio_postgres::Client;

/// A table that the store does not have at first.
const INVOICES: &str = "CREATE TABLE invoices (id text PRIMARY KEY, user_id text NOT NULL);
                        ALTER TABLE invoices OWNER TO shop_owner;
                        GRANT SELECT, INSERT, UPDATE, DELETE ON invoices TO shop_app";

/// Two units with links each way; east's slots are open. Both databases have the table.
async fn two() -> Vec<Member> {
    let members = mesh(&["east-1", "north-1"]).await;
    set_all(&members[0].driver, true, 1).await;
    for member in &members {
        admin(&member.server).await.batch_execute(INVOICES).await.unwrap();
    }
    members
}

/// The member's driver once its agent has learned of the table.
fn learned(member: &Member, peer: &str) -> Postgres {
    let mut spec = spec(member.unit.as_str(), &[peer]);
    spec.tables.push(TableSpec {
        name: "invoices".to_owned(),
        shard_key: Some("user_id".to_owned()),
        last_write: None,
    });
    Postgres::new(spec, access(&member.server))
}

async fn bill(client: &Client, id: &str) {
    let sql = "INSERT INTO invoices (id, user_id) VALUES ($1, 'u1')";
    client.execute(sql, &[&id]).await.unwrap();
}

async fn invoices(member: &Member) -> i64 {
    let client = admin(&member.server).await;
    let row = client.query_one("SELECT count(*) FROM invoices", &[]).await.unwrap();
    row.get(0)
}

async fn come(member: &Member, wanted: i64) {
    until("the invoices", async || match invoices(member).await {
        found if found == wanted => Ok(()),
        found => Err(format!("{found} of {wanted}")),
    })
    .await;
}

async fn link(driver: &Postgres) -> Link {
    driver.links().await.unwrap().remove(0)
}

/// Waits until the link says that it waits for the table; told in the middle of an attempt of its worker.
async fn waits(driver: &Postgres) {
    until("the link to wait", async || match link(driver).await {
        Link {
            state: LinkState::Starting(why),
            ..
        } if why.contains("table \"public\".\"invoices\" joined the store there") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn runs(driver: &Postgres, from: &Member) -> Link {
    let peer = peer(from);
    until("the link to run", async || match driver.link(&peer).await.unwrap() {
        link if link.state == LinkState::Running => Ok(link),
        link => Err(format!("{link:?}")),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_added_under_writes_comes_whole_to_who_learns_of_it_afterwards() {
    // Its agent may learn of the table, or only look after a link that does not run.
    for learns in [true, false] {
        let members = two().await;
        let [east, north] = &members[..] else { unreachable!() };
        let writer = app(&east.server).await;
        let stop = AtomicBool::new(false);
        let orders = async {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                insert(&writer, &number.to_string(), "u1").await.unwrap();
                number += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            i64::from(number)
        };
        let joins = async {
            learned(east, "north-1").install().await.unwrap();
            let writer = app(&east.server).await;
            for number in 0..50 {
                bill(&writer, &number.to_string()).await;
            }
            stop.store(true, Ordering::Relaxed);
        };
        let (orders, ()) = tokio::join!(orders, joins);
        waits(&north.driver).await;
        // Nobody takes over what has not come, though the position in the log is far behind it.
        let fenced = east.driver.fence(&op("p"), epoch(2), &all(), LIMITS).await.unwrap();
        let positions = [fenced.position];
        let reach = async |timeout| {
            let uid = op("p");
            let verb = north.driver.wait_for(&uid, epoch(2), &positions, true, timeout);
            verb.await.unwrap()
        };
        let waited = reach(Duration::from_secs(1)).await;
        assert!(
            matches!(&waited, Waited::TimedOut(why) if why.contains("joined the store there")),
            "{waited:?}"
        );
        assert_eq!(invoices(north).await, 0);

        let later = learned(north, "east-1");
        let driver = if learns { &later } else { &north.driver };
        if learns {
            // What its worker has locked while it waits keeps no install from its end.
            driver.install().await.unwrap();
        }
        assert_eq!(runs(driver, east).await.gap, None);
        come(north, 50).await;
        assert_eq!(count(&admin(&north.server).await).await, orders);
        assert_eq!(reach(Duration::from_secs(15)).await, Waited::Reached);
        assert_eq!(link(driver).await.gap, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_table_had_before_it_joined_are_a_gap_where_slots_were_open() {
    let members = two().await;
    let [east, north] = &members[..] else { unreachable!() };
    bill(&app(&east.server).await, "before").await;
    bill(&app(&north.server).await, "seed").await;
    let (there, here) = (learned(east, "north-1"), learned(north, "east-1"));
    there.install().await.unwrap();
    here.install().await.unwrap();
    let gap = runs(&here, east).await.gap;
    let gap = match gap {
        Some(gap) => gap,
        None => until("the gap", async || link(&here).await.gap.ok_or("none".to_owned())).await,
    };
    for says in [
        "table \"public\".\"invoices\" joined the store of east-1",
        "had rows already, which were never published",
        "bring them here, compare the rows and repair",
    ] {
        assert!(gap.contains(says), "{gap}");
    }
    // Its peer never had an open slot: what is there is a seed, as everywhere.
    assert_eq!(runs(&there, north).await.gap, None);
    // What is written afterwards comes.
    bill(&app(&east.server).await, "after").await;
    come(north, 2).await;
    here.compared(&east.unit).await.unwrap();
    assert_eq!(runs(&here, east).await.gap, None);
    // Out and in again, and empty by now: what was written meanwhile may have been anything.
    east.driver.install().await.unwrap();
    let client = admin(&east.server).await;
    client.batch_execute("DELETE FROM invoices").await.unwrap();
    there.install().await.unwrap();
    let gap = until("the gap", async || {
        here.link(&peer(east)).await.unwrap();
        link(&here).await.gap.ok_or("none".to_owned())
    })
    .await;
    assert!(gap.contains("had been in it before"), "{gap}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_without_the_table_says_so_and_loses_nothing() {
    let members = two().await;
    let [east, north] = &members[..] else { unreachable!() };
    let here = admin(&north.server).await;
    here.batch_execute("DROP TABLE invoices").await.unwrap();
    learned(east, "north-1").install().await.unwrap();
    let writer = app(&east.server).await;
    bill(&writer, "a").await;
    insert(&writer, "behind", "u1").await.unwrap();
    let peer = peer(east);
    until("the cause to be told", async || {
        match north.driver.link(&peer).await.unwrap().state {
            LinkState::Broken(why) if why.contains("there is none in this database: create it here") => Ok(()),
            other @ (LinkState::Starting(_)
            | LinkState::Lacks { .. }
            | LinkState::Running
            | LinkState::Broken(_)
            | LinkState::Cut(_)
            | LinkState::Quarantined(_)) => Err(format!("{other:?}")),
        }
    })
    .await;
    bill(&writer, "b").await;
    let sql = "SELECT sum(apply_error_count)::bigint FROM pg_stat_subscription_stats";
    until("an attempt to end", async || {
        match here.query_one(sql, &[]).await.unwrap().get(0) {
            0_i64 => Err("none".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(count(&here).await, 0, "a row came past the table");
    here.batch_execute(INVOICES).await.unwrap();
    assert_eq!(runs(&north.driver, east).await.gap, None);
    come(north, 2).await;
    assert_eq!(count(&here).await, 1);
    assert_eq!(link(&north.driver).await.gap, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_left_again_is_waited_for_no_more_and_when_it_is_back_it_is() {
    let members = two().await;
    let [east, north] = &members[..] else { unreachable!() };
    let there = learned(east, "north-1");
    there.install().await.unwrap();
    let writer = app(&east.server).await;
    bill(&writer, "a").await;
    waits(&north.driver).await;
    // Taken out: what is behind it comes.
    east.driver.install().await.unwrap();
    insert(&writer, "behind", "u1").await.unwrap();
    runs(&north.driver, east).await;
    let here = admin(&north.server).await;
    until("the order", async || match count(&here).await {
        1 => Ok(()),
        other => Err(format!("{other} orders")),
    })
    .await;
    assert_eq!(link(&north.driver).await.gap, None);
    // Back again: it is waited for, and what north has not got is told.
    there.install().await.unwrap();
    bill(&writer, "b").await;
    waits(&north.driver).await;
    runs(&north.driver, east).await;
    come(north, 1).await;
    let gap = link(&north.driver).await.gap.unwrap_or_default();
    assert!(gap.contains("had rows already"), "{gap}");
}
