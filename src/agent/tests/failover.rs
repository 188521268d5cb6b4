//! A unit is lost: its server and its agent are killed. The others cut it off and one of them takes over; when it is back
//! nobody takes anything of what only it has, and it takes nothing of the new owner.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use crate::support::world::{Running, World};
use crate::support::{admin, session, shared_cluster, until};
use multiactive_api::{LinkState, OperationReport, READY};
use multiactive_core::promotion::{FencedBy, Move, Outcome, Step, Tail};

const UNITS: [&str; 3] = ["east-1", "north-1", "south-1"];

async fn ids(world: &World, unit: &str) -> Vec<String> {
    let there = admin(world.database(unit)).await;
    let rows = there.query("SELECT id FROM orders ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn write(world: &World, unit: &str, id: &str) {
    let app = session(world.database(unit), "shop_app", "shop").await.unwrap();
    let sql = "INSERT INTO orders (id, user_id) VALUES ($1, 'u')";
    app.execute(sql, &[&id]).await.unwrap();
}

async fn arrives(world: &World, unit: &str, wanted: &[&str]) {
    until(&format!("{wanted:?} in {unit}"), || async {
        let found = ids(world, unit).await;
        if found == wanted { Ok(()) } else { Err(found) }
    })
    .await;
}

/// How far each of these has applied the log of the first.
async fn stands_still(world: &World, from: &str, survivors: &[&str]) {
    let sql = "SELECT subname::text FROM pg_subscription s JOIN multiactive.link l ON l.name = s.subname::text
               WHERE l.from_unit = $1";
    let progress = "SELECT pg_replication_origin_progress('pg_' || oid, true)::text FROM pg_subscription
                    WHERE subname = $1::text::name";
    let workers = "SELECT count(*) FROM pg_stat_subscription WHERE subname = $1::text::name AND pid IS NOT NULL";
    let mut sessions = Vec::new();
    for survivor in survivors {
        let there = admin(world.database(survivor)).await;
        let name: String = there.query_one(sql, &[&from]).await.unwrap().get(0);
        sessions.push((there, name));
    }
    until("all to have the same", || async {
        let mut found = Vec::new();
        for (there, name) in &sessions {
            let at: String = there.query_one(progress, &[name]).await.unwrap().get(0);
            found.push(at);
        }
        let same = found.iter().all(|at| *at == found[0]);
        if same { Ok(()) } else { Err(found) }
    })
    .await;
    // As a network that fails.
    for (there, name) in &sessions {
        let stop = format!("ALTER SUBSCRIPTION {name} DISABLE");
        there.batch_execute(&stop).await.unwrap();
        until("the worker to end", || async {
            match there.query_one(workers, &[name]).await.unwrap().get::<_, i64>(0) {
                0 => Ok(()),
                running => Err(running),
            }
        })
        .await;
    }
}

/// East owns everything and has one row that the others lack; no agent runs.
async fn with_a_tail(name: &str) -> World {
    let world = World::new(shared_cluster().await, name, &UNITS).await;
    let agents: [Running; 3] = [
        world.agent("east-1").await,
        world.agent("north-1").await,
        world.agent("south-1").await,
    ];
    world.publish(world.table()).await;
    world.all_to("east-1").await;
    write(&world, "east-1", "a").await;
    for unit in ["north-1", "south-1"] {
        arrives(&world, unit, &["a"]).await;
    }
    for agent in agents {
        agent.abort().await;
    }
    stands_still(&world, "east-1", &["north-1", "south-1"]).await;
    write(&world, "east-1", "tail").await;
    world
}

/// Neither side takes anything of the other.
async fn both_keep_apart(world: &World, survivors: &[&str]) {
    let why = world.link_is("east-1", "north-1", LinkState::Quarantined).await;
    assert!(why.contains("uid-east-1"), "{why}");
    write(world, "north-1", "newest").await;
    for unit in ["north-1", "south-1"] {
        arrives(world, unit, &["a", "new", "newest"]).await;
    }
    for survivor in survivors {
        let why = world.link_is(survivor, "east-1", LinkState::Cut).await;
        assert!(why.contains("nothing is taken from it"), "{why}");
    }
    world
        .reported("east-1", "that it is in quarantine", |status| {
            let ready = status.conditions.iter().find(|condition| condition.type_ == READY)?;
            (ready.status == "False" && ready.reason == "Quarantined").then_some(())
        })
        .await;
    assert_eq!(world.accepts("east-1", "u").await, Err("MA001".to_owned()));
    assert_eq!(ids(world, "east-1").await, ["a", "tail"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_was_killed_is_taken_over_and_kept_apart_when_it_is_back() {
    let world = with_a_tail("failover").await;
    world.database("east-1").kill_9().await;
    let _north = world.agent("north-1").await;
    let _south = world.agent("south-1").await;
    let uid = world.lose("east-1", "north-1").await;
    world.fence_lost(&uid).await;
    let cuts = world.cut_by(&uid, FencedBy::Lease, &["north-1", "south-1"]).await;
    let [north, south] = &cuts[..] else { unreachable!() };
    assert_eq!((&north.log, &north.at), (&south.log, &south.at), "both have the same");
    assert!(north.log.starts_with("east-1/"), "{north:?}");
    assert_ne!(north.at, "0");
    let order: Vec<_> = north.position.vector.iter().map(|at| at.unit.as_str()).collect();
    assert_eq!(order[0], "east-1", "its log first");
    assert!(!order.contains(&"north-1"), "{order:?}");
    world.drain_to(&uid, north, &["north-1", "south-1"], &[]).await;
    assert_eq!(world.accepts("north-1", "u").await, Err("MA001".to_owned()), "not yet");
    world.commit_lost(&uid).await;
    write(&world, "north-1", "new").await;
    arrives(&world, "south-1", &["a", "new"]).await;

    // It is back, and so is its agent, in the middle of the operation and after its end.
    world.database("east-1").restart().await.unwrap();
    let _east = world.agent("east-1").await;
    world.applied("east-1").await;
    both_keep_apart(&world, &["north-1", "south-1"]).await;
    world.enter(&uid, Step::Settle).await;
    world.record(&uid, &Move::End(Outcome::Succeeded)).await;
    for unit in UNITS {
        world.applied(unit).await;
    }
    world.link_is("south-1", "east-1", LinkState::Cut).await;
    world.link_is("south-1", "north-1", LinkState::Running).await;
    assert_eq!(world.accepts("east-1", "u").await, Err("MA001".to_owned()));
    assert_eq!(ids(&world, "east-1").await, ["a", "tail"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_that_was_away_is_cut_before_it_links_and_a_unit_that_lives_says_that_it_is_fenced() {
    let world = with_a_tail("away").await;
    let _east = world.agent("east-1").await;
    let uid = world.lose("east-1", "north-1").await;
    world.fence_lost(&uid).await;
    let fenced = world
        .answer("east-1", &uid, "fenced", |report| report.fenced.clone())
        .await;
    assert_eq!(fenced.len(), 1);
    // The agents of the others were away, as their links were: what they find is a table that stands at Cut, and one that
    // is past all of it.
    world.cut_by(&uid, FencedBy::Report, &[]).await;
    let _north = world.agent("north-1").await;
    let cuts = world.cut(&uid, &["north-1"]).await;
    world.drain_to(&uid, &cuts[0], &["north-1"], &["south-1"]).await;
    world.commit_lost(&uid).await;
    write(&world, "north-1", "new").await;
    world.enter(&uid, Step::Settle).await;
    world.record(&uid, &Move::End(Outcome::Succeeded)).await;

    let _south = world.agent("south-1").await;
    world.link_is("south-1", "east-1", LinkState::Cut).await;
    both_keep_apart(&world, &["north-1", "south-1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_that_had_received_less_gets_the_rest_from_who_took_over() {
    let world = World::new(shared_cluster().await, "behind", &UNITS).await;
    let agents: [Running; 3] = [
        world.agent("east-1").await,
        world.agent("north-1").await,
        world.agent("south-1").await,
    ];
    world.publish(world.table()).await;
    world.all_to("east-1").await;
    write(&world, "east-1", "a").await;
    for unit in ["north-1", "south-1"] {
        arrives(&world, unit, &["a"]).await;
    }
    for agent in agents {
        agent.abort().await;
    }
    stands_still(&world, "east-1", &["south-1"]).await;
    write(&world, "east-1", "north only").await;
    arrives(&world, "north-1", &["a", "north only"]).await;
    world.database("east-1").kill_9().await;

    let _north = world.agent("north-1").await;
    let _south = world.agent("south-1").await;
    let uid = world.lose("east-1", "north-1").await;
    world.fence_lost(&uid).await;
    let cuts = world.cut_by(&uid, FencedBy::Lease, &["north-1", "south-1"]).await;
    let [north, south] = &cuts[..] else { unreachable!() };
    assert_ne!(north.at, south.at, "south has received less");
    world.drain_to(&uid, north, &["north-1"], &["south-1"]).await;
    world.commit_lost(&uid).await;
    write(&world, "north-1", "new").await;
    arrives(&world, "south-1", &["a", "new", "north only"]).await;
    world
        .reported("south-1", "what was copied", |status| {
            let link = status.links.iter().find(|link| link.from == "north-1")?;
            let message = link.message.clone().unwrap_or_default();
            (link.state == LinkState::Running && message.contains("rows of 1 slots were copied")).then_some(())
        })
        .await;
    // All slots that others own are here as they are there, so nothing waits for the lost unit any more.
    let there = admin(world.database("south-1")).await;
    let sql = "SELECT repaired::text FROM multiactive.cut WHERE from_unit = 'east-1'";
    let repaired: String = until("the repair to be noted", || async {
        let repaired: Option<String> = there.query_one(sql, &[]).await.unwrap().get(0);
        repaired.ok_or("not yet")
    })
    .await;
    assert_eq!(repaired, north.position.vector[0].position);
    world.link_is("south-1", "east-1", LinkState::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_had_received_less_takes_over_what_another_survivor_has() {
    let world = World::new(shared_cluster().await, "tail", &UNITS).await;
    let agents: [Running; 3] = [
        world.agent("east-1").await,
        world.agent("north-1").await,
        world.agent("south-1").await,
    ];
    world.publish(world.table()).await;
    world.all_to("east-1").await;
    write(&world, "east-1", "a").await;
    for unit in ["north-1", "south-1"] {
        arrives(&world, unit, &["a"]).await;
    }
    for agent in agents {
        agent.abort().await;
    }
    stands_still(&world, "east-1", &["north-1"]).await;
    write(&world, "east-1", "south only").await;
    arrives(&world, "south-1", &["a", "south only"]).await;
    world.database("east-1").kill_9().await;

    let _north = world.agent("north-1").await;
    let south = world.agent("south-1").await;
    let uid = world.lose("east-1", "north-1").await;
    world.fence_lost(&uid).await;
    let cuts = world.cut_by(&uid, FencedBy::Lease, &["north-1", "south-1"]).await;
    let [less, more] = &cuts[..] else { unreachable!() };
    assert_ne!(less.at, more.at, "north has received less");
    // Why it cannot be taken over is told, and it goes on by itself.
    south.abort().await;
    world.database("south-1").kill_9().await;
    let tail = Tail {
        from: "south-1".into(),
        stores: Vec::new(),
    };
    world.record(&uid, &Move::HandOn(tail)).await;
    let problem = |report: &OperationReport| report.problems.first().map(|problem| problem.message.clone());
    let problem = world.answer("north-1", &uid, "a problem", problem).await;
    println!("{problem}");
    world.database("south-1").restart().await.unwrap();
    let taken = |report: &OperationReport| {
        let cut = report.cut.as_ref()?.first()?;
        (cut.at == more.at && report.problems.is_empty()).then(|| cut.clone())
    };
    let taken = world.answer("north-1", &uid, "what it took over", taken).await;
    assert_eq!(ids(&world, "north-1").await, ["a", "south only"]);
    let _south = world.agent("south-1").await;
    world.drain_to(&uid, &taken, &["north-1", "south-1"], &[]).await;
    world.commit_lost(&uid).await;
    write(&world, "north-1", "new").await;
    arrives(&world, "south-1", &["a", "new", "south only"]).await;
    world.link_is("south-1", "north-1", LinkState::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_its_slots_back_is_linked_again_and_what_it_wrote_meanwhile_is_copied() {
    let (world, agents) = World::pair(shared_cluster().await, "given-back").await;
    write(&world, "east-1", "before").await;
    arrives(&world, "north-1", &["before"]).await;
    let uid = world.lose("east-1", "north-1").await;
    world.fence_lost(&uid).await;
    world
        .answer("east-1", &uid, "fenced", |report| report.fenced.clone())
        .await;
    world.cut_by(&uid, FencedBy::Report, &["north-1"]).await;
    world.link_is("north-1", "east-1", LinkState::Cut).await;
    let cut_off = "SELECT pg_replication_origin_create('test'), pg_replication_origin_session_setup('test');
                   SET session_replication_role = replica; DELETE FROM orders WHERE id = 'before'";
    admin(world.database("north-1"))
        .await
        .batch_execute(cut_off)
        .await
        .unwrap();
    let outcome = Outcome::Aborted {
        reason: "Test".into(),
        message: "by the test".into(),
    };
    world.record(&uid, &Move::End(outcome)).await;
    until("east to serve again", || world.accepts("east-1", "u")).await;
    until("what it had written", || async {
        let found = ids(&world, "north-1").await;
        let copied = found.iter().any(|id| id == "before");
        copied.then_some(()).ok_or(found)
    })
    .await;
    let message = world.link_is("north-1", "east-1", LinkState::Running).await;
    assert!(message.contains("rows of 1 slots were copied"), "{message}");
    write(&world, "east-1", "later").await;
    until("what it writes from then on", || async {
        let (here, there) = (ids(&world, "north-1").await, ids(&world, "east-1").await);
        let later = here == there && here.iter().any(|id| id == "later");
        later.then_some(()).ok_or(here)
    })
    .await;
    for agent in agents {
        agent.stop().await;
    }
}
