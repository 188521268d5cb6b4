//! A unit is lost: survivors take nothing more from it, whatever happens, and it takes nothing of who took its slots over,
//! until it joins again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::promotion::UnitPosition;
use multiactive_stores::driver::{LinkState, Peer, Waited};
use multiactive_stores::{Driver, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::Client;

const LONG: Duration = Duration::from_secs(15);

/// Says something of a link as a person would, by hand.
async fn by_hand(to: &Member, from: &Member, what: &str) {
    let sql = format!("ALTER SUBSCRIPTION {} {what}", name_of(to, from).await);
    admin(&to.server).await.batch_execute(&sql).await.unwrap();
}

async fn state(at: &Member, from: &Member) -> LinkState {
    let links = at.driver.links().await.unwrap();
    links.into_iter().find(|link| link.from == from.unit).unwrap().state
}

/// Whether the state is as wanted, else what it is.
fn is(state: &LinkState, wanted: impl Fn(&LinkState) -> bool) -> Result<(), String> {
    wanted(state).then_some(()).ok_or_else(|| format!("{state:?}"))
}

async fn gap(at: &Member, from: &Member) -> Option<String> {
    let links = at.driver.links().await.unwrap();
    links.into_iter().find(|link| link.from == from.unit).unwrap().gap
}

async fn amount(client: &Client, id: &str) -> Option<i32> {
    let sql = "SELECT amount FROM orders WHERE id = $1";
    let rows = client.query(sql, &[&id]).await.unwrap();
    rows.first().map(|row| row.get(0))
}

async fn positions(at: &Member, of: &Member) -> Option<String> {
    let vector = at.driver.position().await.unwrap();
    vector.into_iter().find(|at| at.unit == of.unit).map(|at| at.position)
}

async fn repair(client: &Client, sql: &str) {
    let behind_the_back = "SELECT pg_replication_origin_create('repair')
        WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = 'repair');
        SELECT pg_replication_origin_session_setup('repair') WHERE NOT pg_replication_origin_session_is_setup();
        SET session_replication_role = replica";
    client.batch_execute(behind_the_back).await.unwrap();
    client.batch_execute(sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_lost_units_tail_is_taken_and_it_takes_nothing_before_it_is_compared() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else {
        unreachable!()
    };
    set_all(&east.driver, true, 1).await;
    let writer = app(&east.server).await;
    insert(&writer, "all", "u1").await.unwrap();
    stops(south, east, 1).await;
    insert(&writer, "north only", "u1").await.unwrap();
    stops(north, east, 2).await;
    insert(&writer, "tail", "u1").await.unwrap();
    writer
        .batch_execute("UPDATE orders SET amount = 5 WHERE id = 'all'")
        .await
        .unwrap();
    east.server.kill_9().await;
    // The network is back, for whoever comes back.
    by_hand(north, east, "ENABLE").await;
    by_hand(south, east, "ENABLE").await;

    // Each survivor cuts it off, says how far it is, and says so again, after a restart too.
    let uid = op("failover");
    let [at_north, at_south] = [north, south].map(|member| async {
        let first = member.driver.cut(&east.unit, &uid, epoch(2)).await.unwrap();
        member.server.restart().await.unwrap();
        assert_eq!(member.driver.cut(&east.unit, &uid, epoch(2)).await.unwrap(), first);
        assert_eq!(positions(member, east).await, first.position);
        for told in [
            state(member, east).await,
            member.driver.link(&peer(east)).await.unwrap().state,
        ] {
            assert!(
                matches!(&told, LinkState::Cut(why) if why.contains("failover")),
                "{told:?}"
            );
        }
        first.position.unwrap()
    });
    let (at_north, at_south) = tokio::join!(at_north, at_south);
    running(south, north).await;
    running(north, south).await;

    // Who has received less has reached nothing; who has all of it may open, though there is no fence.
    let wanted = wanted_of(&east.unit, at_north.as_str());
    let waited = south
        .driver
        .wait_for(&uid, epoch(2), &wanted, true, LONG)
        .await
        .unwrap();
    let words = format!("{at_south} of east-1 is applied, {at_north} is wanted, and it will not come by its link");
    assert!(
        matches!(&waited, Waited::LinkBroken(why) if why.contains(&words)),
        "{waited:?}, {words}"
    );
    // A cut of another operation, and an older one, is none for it.
    let other = north
        .driver
        .wait_for(&op("other"), epoch(3), &wanted, true, Duration::from_millis(300))
        .await;
    assert!(
        matches!(&other, Ok(Waited::TimedOut(why)) if why.contains("the fence of east-1")),
        "{other:?}"
    );
    let waited = north
        .driver
        .wait_for(&uid, epoch(2), &wanted, true, LONG)
        .await
        .unwrap();
    assert_eq!(waited, Waited::Reached);
    let mut brought = open(all(), 3);
    brought.brought_by = Some(uid.clone());
    north.driver.apply(epoch(3), &[brought.clone()], LIMITS).await.unwrap();
    extend(&north.driver, Duration::from_secs(1800)).await.unwrap();
    let new_owner = app(&north.server).await;
    new_owner
        .batch_execute("UPDATE orders SET amount = 7 WHERE id = 'all'")
        .await
        .unwrap();
    insert(&new_owner, "new", "u1").await.unwrap();

    // South waits with the new owner's writes for what it lacks, until another member has handed it on.
    until("south to wait", async || {
        is(
            &state(south, north).await,
            |state| matches!(state, LinkState::Lacks { of, upto } if *of == east.unit && *upto == at_north),
        )
    })
    .await;
    let here = admin(&south.server).await;
    assert_eq!(amount(&here, "new").await, None);
    repair(&here, "INSERT INTO orders VALUES ('north only', 'u1')").await;
    let upto = &wanted[0].vector[0];
    south.driver.repaired(epoch(3), upto).await.unwrap();
    until("the new owner's row", async || {
        amount(&here, "new").await.ok_or("none".to_owned())
    })
    .await;
    assert_eq!(amount(&here, "all").await, Some(7));
    assert_eq!(positions(south, east).await.as_deref(), Some(at_north.as_str()));
    let nobody = UnitPosition {
        unit: north.unit.clone(),
        ..upto.clone()
    };
    let refused = south.driver.repaired(epoch(3), &nobody).await;
    assert!(matches!(refused, Err(Error::NotCut { .. })), "{refused:?}");

    // Somebody enables the link by hand: it says so, and is stopped.
    by_hand(north, east, "ENABLE").await;
    assert!(matches!(state(north, east).await, LinkState::Cut(_)));
    let link = north.driver.link(&peer(east)).await.unwrap();
    assert!(matches!(link.state, LinkState::Cut(_)), "{link:?}");
    assert!(link.gap.unwrap().contains("somebody enabled it"));
    let enabled = "SELECT count(*) FROM pg_subscription WHERE subenabled";
    let enabled: i64 = admin(&north.server).await.query_one(enabled, &[]).await.unwrap().get(0);
    assert_eq!(enabled, 1, "the one from south");
    north.driver.compared(&east.unit).await.unwrap();

    // It comes back, with its tail: nobody takes that, and it takes nothing.
    east.server.restart().await.unwrap();
    let quarantined = async || {
        is(
            &state(east, north).await,
            |state| matches!(state, LinkState::Quarantined(why) if why.contains("operation failover")),
        )
    };
    until("the quarantine", quarantined).await;
    insert(&new_owner, "newer", "u1").await.unwrap();
    let there = admin(&east.server).await;
    let errors = "SELECT apply_error_count FROM pg_stat_subscription_stats WHERE subname = $1::text::name";
    let name = name_of(east, north).await;
    until("two attempts of its worker", async || {
        // Between two attempts a worker that begins slowly is only starting; it never counts as one that runs.
        let now = quarantined().await;
        assert_ne!(now, Err("Running".to_owned()));
        now?;
        for member in [north, south] {
            let told = member.driver.link(&peer(east)).await.unwrap().state;
            assert!(matches!(told, LinkState::Cut(_)), "{told:?}");
        }
        let errors: i64 = there.query_one(errors, &[&name]).await.unwrap().get(0);
        (errors >= 2).then_some(()).ok_or_else(|| format!("{errors} errors"))
    })
    .await;
    assert_eq!(
        (amount(&there, "all").await, amount(&there, "new").await),
        (Some(5), None)
    );
    running(east, south).await;
    for member in [north, south] {
        let here = admin(&member.server).await;
        assert_eq!(
            (amount(&here, "all").await, amount(&here, "tail").await),
            (Some(7), None)
        );
    }

    // Its differences are accepted: the tail is exported and taken back, and it gets what it missed.
    east.driver.apply(epoch(3), &[closed(all(), 3)], LIMITS).await.unwrap();
    repair(&there, "DELETE FROM orders WHERE id = 'tail'").await;
    east.driver.rejoin(&uid).await.unwrap();
    running(east, north).await;
    until("what it missed", async || {
        amount(&there, "newer").await.ok_or("none".to_owned())
    })
    .await;
    assert_eq!(amount(&there, "all").await, Some(7));
    // Links from it begin with what it writes from now on.
    north.driver.uncut(&east.unit, epoch(4), true).await.unwrap();
    north.driver.uncut(&east.unit, epoch(4), true).await.expect("again");
    south.driver.uncut(&east.unit, epoch(4), false).await.unwrap();
    assert_eq!(running(north, east).await.gap, None);
    let gap_of = running(south, east).await.gap.unwrap();
    assert!(gap_of.contains("the unit was lost, and is back"), "{gap_of}");
    south.driver.compared(&east.unit).await.unwrap();
    assert_eq!(gap(south, east).await, None);
    for member in [north, south] {
        let late = member.driver.cut(&east.unit, &uid, epoch(2)).await;
        assert!(matches!(late, Err(Error::Overtaken { .. })), "{late:?}");
    }
    // And it goes home.
    let back = op("home");
    let fenced = north.driver.fence(&back, epoch(5), &all(), LIMITS).await.unwrap();
    let waited = east
        .driver
        .wait_for(&back, epoch(5), &[fenced.position], true, LONG)
        .await
        .unwrap();
    assert_eq!(waited, Waited::Reached);
    brought.epoch = epoch(6);
    brought.brought_by = Some(back);
    east.driver.apply(epoch(6), &[brought], LIMITS).await.unwrap();
    extend(&east.driver, Duration::from_secs(1800)).await.unwrap();
    insert(&app(&east.server).await, "home", "u1").await.unwrap();
    rows_everywhere(&members, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_changes_at_a_higher_epoch_only_and_needs_no_link() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    east.server.kill_9().await;
    north.driver.unlink(&east.unit, None).await.unwrap();
    let sql = "DELETE FROM multiactive.applied";
    admin(&north.server).await.batch_execute(sql).await.unwrap();
    let cut = north.driver.cut(&east.unit, &op("p"), epoch(3)).await.unwrap();
    assert_eq!(cut.position, None);
    assert!(matches!(state(north, east).await, LinkState::Cut(_)));
    for (uid, at) in [("p", 2), ("q", 3), ("q", 2)] {
        let late = north.driver.cut(&east.unit, &op(uid), epoch(at)).await;
        assert!(
            matches!(late, Err(Error::Overtaken { held, .. }) if held == epoch(3)),
            "{uid} {at}: {late:?}"
        );
    }
    let late = north.driver.uncut(&east.unit, epoch(2), true).await;
    assert!(matches!(late, Err(Error::Overtaken { .. })), "{late:?}");
    north.driver.cut(&east.unit, &op("q"), epoch(4)).await.unwrap();
    // It wrote nothing that came here: its slots may open, and it is told when it is back.
    let nothing = wanted_of(&east.unit, None);
    let waited = north
        .driver
        .wait_for(&op("q"), epoch(4), &nothing, true, LONG)
        .await
        .unwrap();
    assert_eq!(waited, Waited::Reached);
    let mut brought = open(all(), 5);
    brought.brought_by = Some(op("q"));
    north.driver.apply(epoch(5), &[brought], LIMITS).await.unwrap();
    insert(&app(&north.server).await, "a", "u1").await.unwrap();
    east.server.restart().await.unwrap();
    assert!(matches!(
        north.driver.link(&peer(east)).await.unwrap().state,
        LinkState::Cut(_)
    ));
    until("the quarantine", async || {
        is(&east.driver.link(&peer(north)).await.unwrap().state, |state| {
            matches!(state, LinkState::Quarantined(_))
        })
    })
    .await;
    assert_eq!(count(&admin(&east.server).await).await, 0);
    north.driver.uncut(&east.unit, epoch(6), false).await.unwrap();
    let again = north.driver.cut(&east.unit, &op("q"), epoch(6)).await;
    assert!(
        matches!(again, Err(Error::Overtaken { .. })),
        "joined again at this epoch: {again:?}"
    );
    running(north, east).await;
}

/// Passes connections on to `port`, until so many bytes came from there: then nothing more comes, and nothing ends.
async fn half_open(port: u16, bytes: Arc<AtomicI64>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                let up = tokio::io::copy(&mut from_client, &mut to_server);
                let down = async {
                    let mut buffer = [0; 4096];
                    loop {
                        let read = from_server.read(&mut buffer).await.unwrap_or(0);
                        if bytes.fetch_sub(read as i64, Ordering::SeqCst) <= 0 {
                            std::future::pending::<()>().await;
                        }
                        if read == 0 || to_client.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::join!(async { up.await.map(drop) }, down).0.ok();
            });
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_hangs_in_a_dead_connection_is_ended() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let bytes = Arc::new(AtomicI64::new(i64::MAX));
    let through = Peer {
        port: half_open(east.server.port(), bytes.clone()).await,
        ..peer(east)
    };
    until("the link through the proxy", async || {
        is(&north.driver.link(&through).await.unwrap().state, |state| {
            matches!(state, LinkState::Running)
        })
    })
    .await;
    let writer = app(&east.server).await;
    insert(&writer, "before", "u1").await.unwrap();
    rows_everywhere(&members, 1).await;
    // In the middle of a transaction the worker does not look whether it should end.
    bytes.store(200_000, Ordering::SeqCst);
    let many = "INSERT INTO orders SELECT 'x' || n, 'u' || n FROM generate_series(1, 20000) n";
    writer.batch_execute(many).await.unwrap();
    until("the connection to be dead", async || {
        match bytes.load(Ordering::SeqCst) {
            left if left <= 0 => Ok(()),
            left => Err(format!("{left} bytes left")),
        }
    })
    .await;
    let started = Instant::now();
    let cut = north.driver.cut(&east.unit, &op("p"), epoch(2)).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        started.elapsed()
    );
    let here = admin(&north.server).await;
    let workers = "SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL";
    assert_eq!(here.query_one(workers, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(count(&here).await, 1, "all of a transaction or nothing");
    assert!(cut.position.is_some());
}
