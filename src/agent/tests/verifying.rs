//! A Verification whose agent dies in the midst, of slots or of one that is large: the next one goes on behind what was compared,
//! and rows are read at the pace that was asked for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use crate::support::world::{SLOTS, World};
use crate::support::{admin, session, shared_cluster, until};
use kube::api::{Patch, PatchParams};
use multiactive_api::{PairReport, PairState};
use multiactive_core::hash::Function;
use multiactive_core::slots::{Slot, SlotSet};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How many rows east has.
const ROWS: i64 = 2000;

/// How many rows a second are read at first.
const PACE: i64 = 10;

/// Asks north to compare, at this pace.
async fn asked(world: &World, pace: Option<i64>) {
    asked_as(world, "v", pace).await;
}

/// Asks north to compare, by a Verification of this uid.
async fn asked_as(world: &World, uid: &str, pace: Option<i64>) {
    let asked = json!({"uid": uid, "stores": ["orders"], "repair": "None", "maxRowsPerSecond": pace});
    let patch = Patch::Merge(json!({"spec": {"verification": asked}}));
    let api = world.assignments();
    api.patch("north-1", &PatchParams::default(), &patch).await.unwrap();
}

/// Asks north for nothing any more, and waits until it says nothing.
async fn stopped(world: &World) {
    let patch = Patch::Merge(json!({"spec": {"verification": null}}));
    let api = world.assignments();
    api.patch("north-1", &PatchParams::default(), &patch).await.unwrap();
    let silent = |status: &multiactive_api::UnitAssignmentStatus| status.verification.is_none().then_some(());
    world.reported("north-1", "no Verification", silent).await;
}

/// Waits for what north says of east's rows.
async fn said(world: &World, what: &str, says: impl Fn(&PairReport) -> bool) -> PairReport {
    let said = |status: &multiactive_api::UnitAssignmentStatus| {
        let found = &status.verification.as_ref()?.pairs.first()?.found;
        says(found).then(|| found.clone())
    };
    world.reported("north-1", what, said).await
}

fn compared(found: &PairReport) -> SlotSet {
    found
        .compared
        .as_deref()
        .unwrap_or_default()
        .parse()
        .unwrap_or_default()
}

/// Rows of users of many slots, at east and at north.
async fn filled(world: &World) {
    inserted(world, "'order-' || n, 'user-' || n", ROWS).await;
}

/// So many rows with these values, at east and at north.
async fn inserted(world: &World, values: &str, rows: i64) {
    let app = session(world.database("east-1"), "shop_app", "shop").await.unwrap();
    let sql = format!("INSERT INTO orders (id, user_id) SELECT {values} FROM generate_series(1, $1::int8) n");
    app.execute(&sql, &[&rows]).await.unwrap();
    let north = admin(world.database("north-1")).await;
    until("the rows at north", || async {
        let row = north.query_one("SELECT count(*) FROM orders", &[]).await;
        let found: i64 = row.unwrap().get(0);
        if found == rows { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Somebody whose changes at north go nowhere else.
async fn hand(world: &World) -> tokio_postgres::Client {
    let north = admin(world.database("north-1")).await;
    let sql = "SET session_replication_role = replica; SELECT pg_replication_origin_create('planted');
               SELECT pg_replication_origin_session_setup('planted')";
    north.batch_execute(sql).await.unwrap();
    north
}

/// Removes a row of each of these slots at north, and nowhere else.
async fn planted(world: &World, slots: &[Slot]) {
    let north = hand(world).await;
    for slot in slots {
        let mut users = (1..=ROWS).map(|number| format!("user-{number}"));
        let user = users
            .find(|user| Function::Crc32.slot(user.as_bytes(), SLOTS) == *slot)
            .unwrap();
        let gone = north
            .execute("DELETE FROM orders WHERE user_id = $1", &[&user])
            .await
            .unwrap();
        assert_eq!(gone, 1, "{user} of slot {slot}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_while_comparing_is_followed_by_one_who_goes_on_behind_what_was_compared() {
    let (world, [east, north]) = World::pair(shared_cluster().await, "verifying").await;
    filled(&world).await;
    let began = Instant::now();
    asked(&world, Some(PACE)).await;
    let found = said(&world, "a chunk", |found| !compared(found).is_empty()).await;
    assert_eq!(
        (found.state, found.slots.as_deref()),
        (PairState::Comparing, Some("0-255"))
    );
    let one = compared(&found).len();
    assert_eq!(one, 1, "nothing is known of the slots yet");
    let found = said(&world, "two chunks", |found| compared(found).len() > one).await;
    let (two, rows) = (compared(&found).len(), found.rows.unwrap());
    println!("{two} of {SLOTS} slots, {rows} rows in two chunks");
    let found = said(&world, "three chunks", |found| compared(found).len() > two).await;
    let rest = Duration::from_secs_f64(rows as f64 / PACE as f64);
    println!("the third chunk after {:?}, {rest:?} at that pace", began.elapsed());
    assert!(
        began.elapsed() >= rest.mul_f64(0.9),
        "{:?} instead of {rest:?}",
        began.elapsed()
    );
    // As one that is paused, and goes on.
    let done = compared(&found);
    stopped(&world).await;
    asked(&world, Some(PACE)).await;
    let found = said(&world, "it again", |_| true).await;
    assert!(done.difference(&compared(&found)).is_empty(), "{found:?} after {done}");
    north.abort().await;
    let found = said(&world, "what the dead one said last", |_| true).await;
    let (done, rows) = (compared(&found), found.rows.unwrap());
    assert!(done.len() < 200, "{done}");

    // What was compared is not looked at again; all that was not is: the first of them, the last, and one of each chunk.
    let left: Vec<Slot> = SlotSet::range(0, 255).difference(&done).iter().collect();
    let slots: BTreeSet<Slot> = left.iter().copied().step_by(7).chain(left.last().copied()).collect();
    let before: Vec<Slot> = vec![0, done.iter().last().unwrap()];
    planted(&world, &[before, slots.iter().copied().collect()].concat()).await;
    asked(&world, None).await;
    let north = world.agent("north-1").await;
    let ended = said(&world, "the end", |found| {
        assert!(found.rows.is_some_and(|seen| seen >= rows), "it began again: {found:?}");
        found.state.has_ended()
    })
    .await;
    assert_eq!(ended.state, PairState::Differs, "{ended:?}");
    let want: SlotSet = slots.iter().copied().collect();
    assert_eq!(ended.differing, Some(want.to_string()), "compared before: {done}");
    // Each row once, whoever read it.
    assert_eq!((ended.rows, ended.compared), (Some(ROWS), None));
    for agent in [east, north] {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_within_a_large_slot_is_followed_by_one_who_goes_on_behind_its_keys() {
    const LARGE: i64 = 150;
    let (world, [east, north]) = World::pair(shared_cluster().await, "within").await;
    inserted(&world, "'order-' || lpad(n::text, 4, '0'), 'one'", LARGE).await;
    let slot = Function::Crc32.slot(b"one", SLOTS);
    asked(&world, Some(PACE)).await;
    said(&world, "a part", |found| found.within.is_some()).await;
    north.abort().await;
    let found = said(&world, "what the dead one said last", |_| true).await;
    let within = found.within.clone().unwrap();
    println!("{within:?}");
    assert_eq!((within.slot, within.table.as_str()), (i32::from(slot), "orders"));
    assert!(within.rows < LARGE && !within.differs, "{within:?}");
    // Nothing of it counts before all of it was compared.
    assert!(!compared(&found).contains(slot), "{found:?}");
    assert_eq!(found.rows.unwrap_or_default(), 0, "{found:?}");

    // The last row that was compared is not looked at again, the first that was not is.
    let sql = format!(
        "DELETE FROM orders WHERE id = '{0}' OR id = (SELECT min(id) FROM orders WHERE id > '{0}')",
        within.key[0]
    );
    assert_eq!(hand(&world).await.execute(&sql, &[]).await.unwrap(), 2);
    asked(&world, None).await;
    let north = world.agent("north-1").await;
    let ended = said(&world, "the end", |found| found.state.has_ended()).await;
    let told = (ended.differing.clone(), ended.rows, ended.within.is_none());
    assert_eq!(told, (Some(slot.to_string()), Some(LARGE), true), "{ended:?}");
    let next = format!("order-{:04}", within.rows + 1);
    assert!(
        ended.examples.len() == 1 && ended.examples[0].contains(&next),
        "{ended:?}"
    );
    for agent in [east, north] {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_compared_all_remembers_that_all_was_equal() {
    let (world, [east, north]) = World::pair(shared_cluster().await, "remembers").await;
    inserted(&world, "'order-' || lpad(n::text, 4, '0'), 'one'", 150).await;
    let database = admin(world.database("north-1")).await;
    let remembered = async || -> i64 {
        let sql = "SELECT count(*) FROM multiactive.found_equal WHERE owner = 'east-1'";
        database.query_one(sql, &[]).await.unwrap().get(0)
    };
    asked(&world, Some(PACE)).await;
    said(&world, "a part", |found| found.within.is_some()).await;
    north.abort().await;
    asked(&world, None).await;
    let north = world.agent("north-1").await;
    let ended = said(&world, "the end", |found| found.state.has_ended()).await;
    assert_eq!((ended.state, ended.rows), (PairState::Equal, Some(150)), "{ended:?}");
    assert_eq!(
        remembered().await,
        0,
        "what the dead one compared may have changed since"
    );
    asked_as(&world, "w", None).await;
    let all = |status: &multiactive_api::UnitAssignmentStatus| {
        let told = status.verification.as_ref().filter(|told| told.uid == "w")?;
        told.pairs
            .first()
            .filter(|pair| pair.found.state == PairState::Equal)
            .map(drop)
    };
    world.reported("north-1", "the end of another one", all).await;
    assert_eq!(remembered().await, 1);
    for agent in [east, north] {
        agent.stop().await;
    }
}
