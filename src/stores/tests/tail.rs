//! What a survivor has received more of a lost unit is handed on to who takes the slots over.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::promotion::UnitPosition;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{Tail, TailTaken, Waited};
use multiactive_stores::{Driver, Error};
use std::time::Duration;
use support::*;

const LONG: Duration = Duration::from_secs(20);

/// What east has.
fn easts() -> SlotSet {
    SlotSet::range(0, 199)
}

/// What south has.
fn souths() -> SlotSet {
    SlotSet::range(200, 229)
}

fn tail(east: &Member) -> Tail {
    Tail {
        lost: east.unit.clone(),
        op: op("failover"),
        epoch: epoch(2),
        slots: easts(),
    }
}

async fn ids(member: &Member) -> Vec<String> {
    let here = admin(&member.server).await;
    let rows = here.query("SELECT id FROM orders ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// South has received more of east than north when east is lost: a row more, a changed one, and one less.
async fn lost() -> Vec<Member> {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    east.driver.apply(epoch(1), &[open(easts(), 1)], LIMITS).await.unwrap();
    let own = [open(souths(), 1)];
    south.driver.apply(epoch(1), &own, LIMITS).await.unwrap();
    let writer = app(&east.server).await;
    for (id, slot) in [("all", 1), ("changed", 2), ("gone", 3)] {
        insert(&writer, id, &key_of(slot, 0)).await.unwrap();
    }
    stops(north, east, 3).await;
    insert(&writer, "south only", &key_of(1, 1)).await.unwrap();
    let more = "UPDATE orders SET amount = 9 WHERE id = 'changed'; DELETE FROM orders WHERE id = 'gone'";
    writer.batch_execute(more).await.unwrap();
    until("south to have it", async || {
        let found = ids(south).await;
        (found == ["all", "changed", "south only"])
            .then_some(())
            .ok_or(format!("{found:?}"))
    })
    .await;
    stops(south, east, 3).await;
    insert(&writer, "tail", &key_of(1, 2)).await.unwrap();
    east.server.kill_9().await;
    running(north, south).await;
    members
}

async fn cut(at: &Member, east: &Member) -> String {
    let cut = at.driver.cut(&east.unit, &op("failover"), epoch(2)).await.unwrap();
    cut.position.unwrap()
}

async fn reaches(north: &Member, east: &Member, at: &str) {
    let wanted = wanted_of(&east.unit, at);
    let uid = op("failover");
    let waited = north.driver.wait_for(&uid, epoch(2), &wanted, true, LONG);
    assert_eq!(waited.await.unwrap(), Waited::Reached);
}

async fn takes_over(north: &Member) {
    let mut brought = open(easts(), 3);
    brought.brought_by = Some(op("failover"));
    north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap();
    extend(&north.driver, Duration::from_secs(1800)).await.unwrap();
}

/// All that north wrote arrives in south, whose link from there has no gap.
async fn goes_on(north: &Member, south: &Member) {
    let new_owner = app(&north.server).await;
    insert(&new_owner, "new", &key_of(1, 3)).await.unwrap();
    until("what the new owner wrote", async || {
        let found = ids(south).await;
        found
            .iter()
            .any(|id| id == "new")
            .then_some(())
            .ok_or(format!("{found:?}"))
    })
    .await;
    let passed = south.driver.passed(&[op("failover")]).await.unwrap();
    assert_eq!(passed, [op("failover")], "nothing is left over");
    let gap = running(south, north).await.gap;
    assert_eq!(gap, None);
}

fn why(refused: Result<TailTaken, Error>) -> String {
    match refused {
        Err(Error::NotCopied { why, .. }) => why,
        other @ (Ok(_) | Err(_)) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_survivor_has_received_more_is_taken_over_as_the_lost_units_log() {
    let members = lost().await;
    let [east, north, south] = &members[..] else { panic!() };
    let take = async || north.driver.take_tail(&tail(east), &peer(south), LONG).await;
    assert!(matches!(take().await, Err(Error::NotCut { .. })));
    let here = cut(north, east).await;
    assert!(why(take().await).contains("east-1 is not cut off there"));
    let there = cut(south, east).await;
    assert_ne!(here, there);
    let old = Tail {
        epoch: epoch(1),
        ..tail(east)
    };
    let late = north.driver.take_tail(&old, &peer(south), LONG).await;
    assert!(matches!(late, Err(Error::Overtaken { .. })), "{late:?}");
    let more = Tail {
        slots: SlotSet::range(0, 229),
        ..tail(east)
    };
    let open = north.driver.take_tail(&more, &peer(south), LONG).await;
    assert!(why(open).contains("slots 200-229 are open there"));

    // Who has less hands nothing on.
    let less = south.driver.take_tail(&tail(east), &peer(north), LONG).await;
    assert_eq!(less.unwrap(), TailTaken::default());
    // Somebody writes meanwhile, to slots that are no part of it.
    insert(&app(&south.server).await, "south's", &key_of(200, 0))
        .await
        .unwrap();
    let taken = take().await.unwrap();
    assert_eq!((taken.written, taken.removed), (2, 1));
    assert_eq!(taken.slots, SlotSet::range(1, 3));
    assert_eq!(taken.upto.as_deref(), Some(there.as_str()));
    assert_eq!(take().await.unwrap(), TailTaken::default(), "once");
    assert_eq!(cut(north, east).await, there, "as if it had come by its own link");
    let amount = "SELECT amount FROM orders WHERE id = 'changed'";
    let amount: i32 = admin(&north.server).await.query_one(amount, &[]).await.unwrap().get(0);
    assert_eq!(amount, 9);

    reaches(north, east, &there).await;
    assert!(why(take().await).contains("operation failover goes on without its rows"));
    takes_over(north).await;
    goes_on(north, south).await;
    assert_eq!(ids(north).await, ids(south).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_over_late_is_waited_for_by_the_others_too() {
    let members = lost().await;
    let [east, north, south] = &members[..] else { panic!() };
    let (here, there) = (cut(north, east).await, cut(south, east).await);
    let copy = north.driver.take_tail(&tail(east), &peer(south), LONG).await;
    assert_eq!(copy.unwrap().upto.as_deref(), Some(there.as_str()));
    // The operation had gone on with what north had before.
    reaches(north, east, &here).await;
    takes_over(north).await;
    goes_on(north, south).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_survivor_has_is_not_dropped_in_silence() {
    let members = lost().await;
    let [east, north, south] = &members[..] else { panic!() };
    let here = cut(north, east).await;
    cut(south, east).await;
    let there = admin(&south.server).await;
    let publication = "SELECT pubname::text FROM pg_publication";
    let publication: String = there.query_one(publication, &[]).await.unwrap().get(0);
    for (change, undo, words) in [
        (
            "ALTER TABLE orders ADD note text".to_owned(),
            "ALTER TABLE orders DROP note".to_owned(),
            "table orders has column note there, and not here",
        ),
        (
            format!("CREATE TABLE carts (id text PRIMARY KEY); ALTER PUBLICATION {publication} ADD TABLE carts"),
            "DROP TABLE carts".to_owned(),
            "carts\" is in the store there, and not here",
        ),
    ] {
        there.batch_execute(&change).await.unwrap();
        let refused = why(north.driver.take_tail(&tail(east), &peer(south), LONG).await);
        assert!(refused.contains(words), "{refused}");
        there.batch_execute(&undo).await.unwrap();
    }
    assert_eq!(cut(north, east).await, here, "nothing was taken");
    north.driver.take_tail(&tail(east), &peer(south), LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_took_a_tail_and_gave_up_knows_that_it_has_more_than_another_new_owner() {
    let members = lost().await;
    let [east, north, south] = &members[..] else { panic!() };
    let (here, there) = (cut(north, east).await, cut(south, east).await);
    north.driver.take_tail(&tail(east), &peer(south), LONG).await.unwrap();
    assert_ne!(here, there);
    // South takes over with less than north has by now: as though it had received no more than north at first.
    let shorten = "UPDATE multiactive.cut SET applied = $1::text::pg_lsn";
    admin(&south.server).await.execute(shorten, &[&here]).await.unwrap();
    reaches(south, east, &here).await;
    takes_over(south).await;
    running(north, south).await;
    insert(&app(&south.server).await, "new", &key_of(1, 3)).await.unwrap();
    until("the surplus to be noted", async || {
        let passed = north.driver.passed(&[op("failover")]).await.unwrap();
        let links = north.driver.links().await.unwrap();
        let link = links.into_iter().find(|link| link.from == south.unit).unwrap();
        let noted = passed.is_empty() && link.gap.as_ref().is_some_and(|gap| gap.contains("had received more"));
        noted.then_some(()).ok_or(format!("{passed:?} {link:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_given_up_changes_nothing_and_holds_nobody_up() {
    let members = lost().await;
    let [east, north, south] = &members[..] else { panic!() };
    let (here, _) = (cut(north, east).await, cut(south, east).await);
    // Somebody reads a row in north for long, so that the copy cannot end.
    let reader = admin(&north.server).await;
    reader
        .batch_execute("BEGIN; SELECT FROM orders WHERE id = 'gone' FOR UPDATE")
        .await
        .unwrap();
    let begun = Duration::from_millis(1500);
    let (tail, from) = (tail(east), peer(south));
    let copy = tokio::time::timeout(begun, north.driver.take_tail(&tail, &from, LONG));
    assert!(copy.await.is_err(), "it waits");
    reader.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(ids(north).await, ["all", "changed", "gone"]);
    reaches(north, east, &here).await;
    let lost = UnitPosition {
        unit: east.unit.clone(),
        position: here,
    };
    let position = north.driver.position().await.unwrap();
    assert!(position.contains(&lost), "{position:?}");
}
