//! A whole promotion by hand-written tables: three units, real databases, writers that never stop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use crate::support;
use crate::support::router::Router;
use crate::support::shared_cluster;
use crate::support::world::World;
use crate::support::writes::Writes;
use multiactive_api::LinkState;
use multiactive_core::promotion::{Move, Outcome, Step};
use multiactive_core::slots::SlotSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_range_moves_under_load_without_a_lost_row_and_back_by_an_abort() {
    let world = World::new(shared_cluster().await, "promotion", &["east-1", "north-1", "south-1"]).await;
    let east = world.agent("east-1").await;
    let _north = world.agent("north-1").await;
    let _south = world.agent("south-1").await;
    world.publish(world.table()).await;
    world.settled().await;
    for unit in &world.units {
        assert_eq!(
            world.accepts(unit, "user-0").await,
            Err("MA001".into()),
            "{unit} starts fenced"
        );
    }
    world.all_to("east-1").await;
    assert_eq!(world.accepts("east-1", "user-0").await, Ok(()));
    assert_eq!(world.accepts("north-1", "user-0").await, Err("MA001".into()));

    let writes = Writes::start(&world, 4);
    writes.more(20).await;
    let mut router = Router::of(&world, east.routers, "east-1").await;
    router.told_of(world.table().epoch).await;
    let all = SlotSet::range(0, 255);
    let uid = world.begin("move", "north-1", all.clone()).await;
    let holds = holding(&world, &uid, router);
    let (_, router) = tokio::join!(world.until_drained(&uid), holds);
    world.until_done(&uid).await;
    writes.more(20).await;
    let pause = writes.all_are_in(&world, "north-1").await;
    println!("longest pause of a writer: {pause:?}");
    assert_eq!(world.accepts("north-1", "user-0").await, Ok(()));
    assert_eq!(world.accepts("east-1", "user-0").await, Err("MA001".into()));

    // Back, aborted after the fence: north-1 serves again, nothing is lost.
    let mut router = router;
    router.report(world.table().epoch, &[]).await;
    let writes = Writes::start(&world, 2);
    let uid = world.begin("back", "east-1", all).await;
    world.until_drained(&uid).await;
    let outcome = Outcome::Aborted {
        reason: "Test".into(),
        message: "by the test".into(),
    };
    world.record(&uid, &Move::End(outcome)).await;
    world.settled().await;
    writes.more(10).await;
    writes.all_are_in(&world, "north-1").await;
    let status = world.status("north-1").await;
    assert!(status.operations.is_empty(), "{:?}", status.operations);
    assert!(status.links.iter().all(|link| link.state == LinkState::Running));
}

/// What a router does: takes each table, and has nothing in flight from Hold on.
async fn holding(world: &World, uid: &multiactive_core::ids::OperationUid, mut router: Router) -> Router {
    support::until("Hold", || async {
        let step = world.table().operation(uid).unwrap().step;
        if step >= Step::Hold { Ok(()) } else { Err(step) }
    })
    .await;
    let epoch = world.epoch_of(uid);
    router.report(epoch, &[(uid, 2)]).await;
    world
        .answer("east-1", uid, "two in flight", |report| {
            report.in_flight.filter(|n| *n == 2)
        })
        .await;
    router.report(epoch, &[(uid, 0)]).await;
    router
}
