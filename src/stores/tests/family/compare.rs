//! Rows here and at a peer are compared exactly while both run: what differs is told, and what is under way is not.

use super::support::*;
use super::writers::*;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{Compared, Difference, Extent, Side};
use multiactive_stores::{Driver, Error};
use mysql_async::prelude::Queryable;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

/// What east has; the rest is south's.
fn easts() -> SlotSet {
    SlotSet::range(0, 199)
}

/// East and south write, and north follows both: what each of them writes comes to north by two ways.
async fn three() -> Vec<Member> {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    for (member, slots) in [(&members[0], easts()), (&members[2], SlotSet::range(200, 255))] {
        member.driver.apply(epoch(1), &[open(slots, 1)], LIMITS).await.unwrap();
    }
    members
}

async fn compare(here: &Member, there: &Member, slots: &SlotSet) -> Compared {
    here.driver
        .compare(&peer(there), slots, None, Extent::All, LONG)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_under_way_are_no_difference_however_hot_they_are() {
    let members = three().await;
    let [east, north, south] = &members[..] else { panic!() };
    let writers = [
        Writer::start(east, "a", 0..190).await,
        Writer::start(east, "b", 0..190).await,
        Writer::start(south, "c", 200..250).await,
    ];
    writers[0].more(300).await;
    let some: SlotSet = [(0, 9), (60, 70), (126, 126)].into_iter().collect();
    let mut seen = 0;
    for round in 0..60 {
        let slots = if round % 2 == 0 { &easts() } else { &some };
        let compared = compare(north, east, slots).await;
        assert_eq!(compared.differing, SlotSet::default(), "round {round}: {compared:?}");
        seen += compared.rows;
        writers[1].more(5).await;
    }
    assert!(seen > 100, "{seen} rows");
    for writer in writers {
        println!("the longest write took {:?}", writer.stop().await);
    }
    for from in [east, south] {
        running(north, from).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_is_told_row_by_row_under_writes() {
    let members = three().await;
    let [east, north, _] = &members[..] else { panic!() };
    let mut client = app(&east.server).await;
    for (id, slot) in [("gone", 3), ("changed", 4), ("same", 5)] {
        insert(&mut client, id, &key_of(slot, 1)).await.unwrap();
    }
    rows_everywhere(&members, 3).await;
    let extra = format!("INSERT INTO orders VALUES ('extra', '{}', 1)", key_of(6, 1));
    let plant = [
        "DELETE FROM orders WHERE id = 'gone'",
        "UPDATE orders SET amount = 7 WHERE id = 'changed'",
        &extra,
    ];
    by_hand(north, &plant).await;
    let writer = Writer::start(east, "w", 9..190).await;
    writer.more(100).await;
    let compared = compare(north, east, &easts()).await;
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
    // Only the slots that were asked for count, and it has changed nothing.
    let others = compare(north, east, &SlotSet::range(7, 199)).await;
    assert_eq!(others.differing, SlotSet::default());
    assert_eq!(compare(north, east, &SlotSet::range(3, 6)).await.differing, slots);
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_compares_and_dies_leaves_links_that_go_on_when_they_are_looked_at() {
    let members = three().await;
    let [east, north, south] = &members[..] else { panic!() };
    let writer = Writer::start(east, "w", 0..190).await;
    writer.more(50).await;
    let mut looker = admin(&north.server).await;
    let (mut stood, mut rounds) = (0, 0);
    while stood < 5 {
        rounds += 1;
        assert!(
            rounds < 200,
            "it was broken off {stood} times only while links stood still"
        );
        let (from, slots) = (peer(east), easts());
        // Whoever compares dies as soon as somebody sees that a link stands still.
        let seen = async {
            loop {
                let links = channels(&mut looker).await;
                if links.iter().any(|link| link.applies == "No") {
                    break;
                }
            }
        };
        tokio::select! {
            compared = north.driver.compare(&from, &slots, None, Extent::All, LONG) => drop(compared.unwrap()),
            () = seen => stood += 1,
        }
        for from in [east, south] {
            let link = running(north, from).await;
            assert_eq!(link.gap, None);
        }
    }
    writer.stop().await;
    assert_eq!(compare(north, east, &easts()).await.differing, SlotSet::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_compared_is_refused_in_words() {
    let members = three().await;
    let [east, north, _] = &members[..] else { panic!() };
    let refused = async |slots: SlotSet| match north.driver.compare(&peer(east), &slots, None, Extent::All, LONG).await
    {
        Err(error @ Error::NotCompared { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let words = refused(SlotSet::range(190, 210)).await;
    assert!(words.contains("slots 200-210 open, or not yet"), "{words}");
    let mut there = admin(&east.server).await;
    let add = "ALTER TABLE shop.orders ADD COLUMN note VARCHAR(20)";
    there.query_drop(add).await.unwrap();
    let words = refused(easts()).await;
    assert!(words.contains("column note there, and not here"), "{words}");
    admin(&north.server).await.query_drop(add).await.unwrap();
    assert_eq!(compare(north, east, &easts()).await.differing, SlotSet::default());
    let revoke = "REVOKE SELECT ON shop.* FROM multiactive_replication@'%'";
    there.query_drop(revoke).await.unwrap();
    let words = refused(easts()).await;
    assert!(words.contains("roles.sql"), "{words}");
    let grant = "GRANT SELECT ON shop.* TO multiactive_replication@'%'";
    there.query_drop(grant).await.unwrap();
    north.driver.unlink(&east.unit, None).await.unwrap();
    let words = refused(easts()).await;
    assert!(words.contains("there is no link from it"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_links_have_and_nobody_sees_there_yet_is_waited_for() {
    let members = three().await;
    let [east, north, _] = &members[..] else { panic!() };
    let mut there = admin(&east.server).await;
    for (round, id) in ["compared", "copied"].into_iter().enumerate() {
        // A commit stands in the log, and waits for an answer that does not come before anybody sees it.
        if let (0, Some(plugin)) = (round, ANSWERS_PLUGIN) {
            there.query_drop(plugin).await.unwrap();
        }
        for set in AWAITS_ANSWERS {
            there.query_drop(format!("SET GLOBAL {set}")).await.unwrap();
        }
        let (mut writer, key) = (app(&east.server).await, key_of(1, 1));
        let write = tokio::spawn(async move { insert(&mut writer, id, &key).await.unwrap() });
        until("the row to come", async || {
            let found = ids(north).await;
            found.contains(&id.to_owned()).then_some(()).ok_or(format!("{found:?}"))
        })
        .await;
        assert!(!ids(east).await.contains(&id.to_owned()), "it is seen there already");
        if round == 0 {
            let compared = compare(north, east, &easts()).await;
            assert_eq!(compared.differing, SlotSet::default(), "{compared:?}");
        } else {
            let copied = north.driver.reseed(&peer(east), LONG).await.unwrap();
            assert_eq!((copied.written, copied.removed), (0, 0));
        }
        write.await.unwrap();
        assert!(ids(north).await.contains(&id.to_owned()));
    }
}
