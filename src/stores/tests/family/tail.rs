//! What a survivor has received more of a lost unit is handed on to who takes the slots over.

use super::support::*;
use super::writers::*;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{Tail, TailTaken, Waited};
use multiactive_stores::{Driver, Error};
use mysql_async::prelude::Queryable;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

/// What east has.
fn easts() -> SlotSet {
    SlotSet::range(0, 199)
}

fn tail(east: &Member) -> Tail {
    Tail {
        lost: east.unit.clone(),
        op: op("failover"),
        epoch: epoch(2),
        slots: easts(),
    }
}

/// South has received more of east than north when east is lost: a row more, a changed one, and one less.
async fn lost() -> Vec<Member> {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    east.driver.apply(epoch(1), &[open(easts(), 1)], LIMITS).await.unwrap();
    let own = [open(SlotSet::range(200, 229), 1)];
    south.driver.apply(epoch(1), &own, LIMITS).await.unwrap();
    let mut writer = app(&east.server).await;
    for (id, slot) in [("all", 1), ("changed", 2), ("gone", 3)] {
        insert(&mut writer, id, &key_of(slot, 0)).await.unwrap();
    }
    rows_everywhere(&members, 3).await;
    // South would pass it on.
    stop_links(north).await;
    insert(&mut writer, "south only", &key_of(1, 1)).await.unwrap();
    for sql in [
        "UPDATE orders SET amount = 8 WHERE id = 'changed'",
        "DELETE FROM orders WHERE id = 'gone'",
        "UPDATE orders SET amount = 9 WHERE id = 'changed'",
    ] {
        writer.query_drop(sql).await.unwrap();
    }
    until("south to have it", async || {
        let found = ids(south).await;
        (found == ["all", "changed", "south only"])
            .then_some(())
            .ok_or(format!("{found:?}"))
    })
    .await;
    east.server.kill_9().await;
    members
}

async fn cut(at: &Member, east: &Member) -> String {
    let cut = at.driver.cut(&east.unit, &op("failover"), epoch(2)).await.unwrap();
    cut.position.unwrap()
}

/// North has reached this position, takes the slots over, and all that it writes arrives in south, whose link from there has no
/// gap.
async fn goes_on([east, north, south]: [&Member; 3], at: &str) {
    let wanted = wanted_of(&east.unit, at);
    let uid = op("failover");
    let waited = north.driver.wait_for(&uid, epoch(2), &wanted, true, LONG);
    assert_eq!(waited.await.unwrap(), Waited::Reached);
    let late = north.driver.take_tail(&tail(east), &peer(south), LONG).await;
    assert!(
        matches!(&late, Err(Error::NotCopied { why, .. }) if why.contains("operation failover goes on without its rows")),
        "{late:?}"
    );
    let mut brought = open(easts(), 3);
    brought.brought_by = Some(op("failover"));
    north.driver.apply(epoch(3), &[brought], LIMITS).await.unwrap();
    insert(&mut app(&north.server).await, "new", &key_of(1, 3))
        .await
        .unwrap();
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
    assert_eq!(running(south, north).await.gap, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_survivor_has_received_more_is_taken_over_as_the_lost_units_log() {
    let members = lost().await;
    let [east, north, south] = &members[..] else { panic!() };
    let take = async || north.driver.take_tail(&tail(east), &peer(south), LONG).await;
    assert!(matches!(take().await, Err(Error::NotCut { .. })));
    let here = cut(north, east).await;
    let uncut = take().await;
    assert!(
        matches!(&uncut, Err(Error::NotCopied { why, .. }) if why.contains("east-1 is not cut off there")),
        "{uncut:?}"
    );
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
    assert!(
        matches!(&open, Err(Error::NotCopied { why, .. }) if why.contains("slots 200-229 are open there")),
        "{open:?}"
    );
    let less = south.driver.take_tail(&tail(east), &peer(north), LONG).await;
    assert_eq!(less.unwrap(), TailTaken::default(), "who has less hands nothing on");

    // Its link stands still.
    let stands = take().await;
    assert!(
        matches!(&stands, Err(Error::NotCopied { why, .. }) if why.starts_with("its link would bring them: ")),
        "{stands:?}"
    );
    assert_eq!(cut(north, east).await, here);
    let (taken, _) = tokio::join!(take_once_it_can(north, east, south), running(north, south));
    assert_eq!(taken.upto.as_deref(), Some(there.as_str()));
    assert_eq!(take().await.unwrap(), TailTaken::default(), "once");
    assert_eq!(cut(north, east).await, there, "as if it had come by its own link");
    // At once, before anything else could come.
    goes_on([east, north, south], &there).await;
    for member in [north, south] {
        let amount = "SELECT amount FROM shop.orders WHERE id = 'changed'";
        let amount: Option<i64> = admin(&member.server).await.query_first(amount).await.unwrap();
        assert_eq!(amount, Some(9), "{}", member.unit);
        assert_eq!(ids(member).await, ["all", "changed", "new", "south only"]);
    }
}

async fn take_once_it_can(north: &Member, east: &Member, south: &Member) -> TailTaken {
    until("the tail", async || {
        let taken = north.driver.take_tail(&tail(east), &peer(south), LONG).await;
        taken.map_err(|error| error.to_string())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_come_since_the_cut_counts_and_who_has_more_takes_nothing() {
    let members = lost().await;
    let [east, north, south] = &members[..] else { panic!() };
    let (here, there) = (cut(north, east).await, cut(south, east).await);
    running(north, south).await;
    until("the rows", async || {
        let found = ids(north).await;
        (found == ids(south).await).then_some(()).ok_or(format!("{found:?}"))
    })
    .await;
    assert_ne!(here, there);
    let taken = take_once_it_can(north, east, south).await;
    assert!(taken.upto.is_none_or(|upto| upto == there));
    assert_eq!(cut(north, east).await, there);
    let back = south.driver.take_tail(&tail(east), &peer(north), LONG).await;
    assert_eq!(back.unwrap(), TailTaken::default());
    goes_on([east, north, south], &there).await;
}
