//! Rows here and at a peer are compared exactly while both run: what differs is told, and what is under way is not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

#[path = "compare/changed.rs"]
mod changed;
#[path = "compare/ranges.rs"]
mod ranges;
mod support;

use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{Compared, Difference, Extent, Side};
use multiactive_stores::{Driver, Error};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::writers::*;
use support::*;

const LONG: Duration = Duration::from_secs(30);

/// East has all slots, and north follows.
async fn two() -> (Member, Member) {
    let mut members = mesh(&["east-1", "north-1"]).await;
    let north = members.pop().unwrap();
    let east = members.pop().unwrap();
    set_all(&east.driver, true, 1).await;
    running(&north, &east).await;
    (east, north)
}

async fn compare(here: &Member, there: &Member, slots: &SlotSet) -> Compared {
    here.driver
        .compare(&peer(there), slots, None, Extent::All, LONG)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_under_way_are_no_difference_however_hot_they_are() {
    let (east, north) = two().await;
    let writers = [Writer::start(&east, "a").await, Writer::start(&east, "b").await];
    writers[0].more(300).await;
    let some: SlotSet = [(0, 9), (60, 70), (126, 126)].into_iter().collect();
    let mut seen = 0;
    for round in 0..30 {
        let slots = if round % 2 == 0 { &all() } else { &some };
        let compared = compare(&north, &east, slots).await;
        assert_eq!(compared.differing, SlotSet::default(), "round {round}: {compared:?}");
        seen += compared.rows;
        writers[1].more(20).await;
    }
    assert!(seen > 100, "{seen} rows");
    for writer in writers {
        println!("the longest write took {:?}", writer.stop().await);
    }
    nothing_twice(&north, &east).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_is_told_row_by_row_under_writes() {
    let (east, north) = two().await;
    let client = app(&east.server).await;
    for (id, slot) in [("gone", 3), ("changed", 4), ("same", 5)] {
        insert(&client, id, &key_of(slot, 1)).await.unwrap();
    }
    until("rows", async || match count(&admin(&north.server).await).await {
        3 => Ok(()),
        rows => Err(format!("{rows} rows")),
    })
    .await;
    let plant = format!(
        "DELETE FROM orders WHERE id = 'gone'; UPDATE orders SET amount = 7 WHERE id = 'changed';
         INSERT INTO orders VALUES ('extra', '{}')",
        key_of(6, 1)
    );
    by_hand(&north, &plant).await;
    let writer = Writer::start(&east, "w").await;
    writer.more(100).await;
    let compared = compare(&north, &east, &all()).await;
    let slots: SlotSet = [(3, 4), (6, 6)].into_iter().collect();
    assert_eq!(compared.differing, slots, "{compared:?}");
    let row = |id: &str, slot, side| Difference {
        table: "orders".to_owned(),
        key: format!("id={id}"),
        slot,
        side,
    };
    assert_eq!(
        compared.examples,
        [
            row("changed", 4, Side::Both),
            row("extra", 6, Side::Here),
            row("gone", 3, Side::There)
        ]
    );
    // Only the slots that were asked for count.
    let others = compare(&north, &east, &SlotSet::range(7, 255)).await;
    assert_eq!(others.differing, SlotSet::default());
    let sizes = north.driver.sizes(&peer(&east), LONG).await.unwrap();
    assert_eq!(
        (sizes[&3], sizes[&5], sizes.get(&6)),
        (1, 1, None),
        "of the owner: {sizes:?}"
    );
    // It has changed nothing.
    assert_eq!(compare(&north, &east, &SlotSet::range(3, 6)).await.differing, slots);
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_compares_and_is_stuck_holds_a_link_up_for_some_seconds_only() {
    let (east, north) = two().await;
    let stuck = admin(&north.server).await;
    stuck
        .batch_execute("SELECT pg_advisory_lock(hashtextextended('stuck', 27969))")
        .await
        .unwrap();
    let there = admin(&east.server).await;
    there
        .batch_execute(
            "SELECT multiactive.mark_place('north-1', 'stuck'), multiactive.mark_place('south-1', 'of another')",
        )
        .await
        .unwrap();
    insert(&app(&east.server).await, "behind", &key_of(1, 1)).await.unwrap();
    let began = Instant::now();
    until("the row", async || match count(&admin(&north.server).await).await {
        1 => Ok(()),
        rows => Err(format!("{rows} rows")),
    })
    .await;
    assert!(began.elapsed() > Duration::from_secs(2), "the mark held nothing up");
    // Who compares next is not confused by it.
    assert_eq!(compare(&north, &east, &all()).await.differing, SlotSet::default());
    nothing_twice(&north, &east).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_compared_is_refused_in_words_and_writers_go_on() {
    let (east, north) = two().await;
    let refused = async |timeout| {
        let slots = SlotSet::range(0, 99);
        match north
            .driver
            .compare(&peer(&east), &slots, None, Extent::All, timeout)
            .await
        {
            Err(error) => error,
            Ok(compared) => panic!("{compared:?}"),
        }
    };
    // Somebody has written and does not come to an end: others wait for moments only.
    let mut client = app(&east.server).await;
    let open = client.transaction().await.unwrap();
    open.execute("INSERT INTO orders VALUES ('open', $1)", &[&key_of(1, 1)])
        .await
        .unwrap();
    let writer = Writer::start(&east, "w").await;
    writer.more(1).await;
    let before = writer.written.load(Ordering::Relaxed);
    let error = refused(Duration::from_secs(3)).await;
    assert!(
        matches!(&error, Error::NotCompared { why, .. } if why.contains("does not end")),
        "{error:?}"
    );
    let written = writer.written.load(Ordering::Relaxed) - before;
    println!("{written} writes meanwhile, the longest took {:?}", writer.stop().await);
    assert!(written > 20, "writers are held in vain: {written} writes");
    open.commit().await.unwrap();

    // A column on one side.
    let there = admin(&east.server).await;
    there
        .batch_execute("ALTER TABLE orders ADD COLUMN note text")
        .await
        .unwrap();
    let words = refused(LONG).await.to_string();
    assert!(
        words.contains("table orders has column note there, and not here"),
        "{words}"
    );
    let here = admin(&north.server).await;
    here.batch_execute("ALTER TABLE orders ADD COLUMN more text, ADD COLUMN note text")
        .await
        .unwrap();
    running(&north, &east).await;
    assert_eq!(compare(&north, &east, &all()).await.differing, SlotSet::default());

    // No right to read.
    there
        .batch_execute("REVOKE multiactive_copy FROM multiactive_replication")
        .await
        .unwrap();
    let words = refused(LONG).await.to_string();
    assert!(words.contains("roles.sql"), "{words}");
    there
        .batch_execute("GRANT multiactive_copy TO multiactive_replication")
        .await
        .unwrap();

    // No table.
    there
        .batch_execute("ALTER TABLE orders RENAME TO elsewhere")
        .await
        .unwrap();
    let words = refused(LONG).await.to_string();
    assert!(words.contains("there is no table"), "{words}");
    let words = north.driver.sizes(&peer(&east), LONG).await.unwrap_err().to_string();
    assert!(words.contains("there is no table"), "{words}");
    there
        .batch_execute("ALTER TABLE elsewhere RENAME TO orders")
        .await
        .unwrap();

    // No link.
    let name = name_of(&north, &east).await;
    here.batch_execute(&format!("ALTER SUBSCRIPTION \"{name}\" DISABLE"))
        .await
        .unwrap();
    let words = refused(LONG).await.to_string();
    assert!(words.contains("no rows are compared with those of east-1"), "{words}");
}
