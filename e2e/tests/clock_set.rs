//! The clock of a unit's database is set while its customers order: by an hour back, where its write lease would last for an hour
//! more, and by an hour forward, where it is over at once. The unit goes on by a new lease; cut off from the hub in that very
//! moment, it stops as it must. What moves meanwhile moves, and nothing is lost.

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use multiactive_e2e::databases::number;
use multiactive_e2e::held_up::stuck_at_the_fence;
use multiactive_e2e::lost::{failures, stops_within_its_lease};
use multiactive_e2e::promotion::{create, ended, waits_for};
use multiactive_e2e::region::{Engine, Region};
use multiactive_e2e::stage::{LIMIT, Options, Stage, acknowledges, orders};
use multiactive_e2e::stops::{last_acknowledged, refuses, until};
use multiactive_e2e::wire::Wire;
use serde_json::json;

const LEASE: SignedDuration = SignedDuration::from_secs(5);
const HOUR: i64 = 3600;

/// Sets the clock of south's database, cuts the unit off from the hub in the same moment, and joins it again once it has stopped.
async fn is_set_and_cut_off(stage: &Stage, wire: &Wire, name: &str, seconds: i64) -> Result<()> {
    let users = shop::load::users(24, name);
    let of_south = stage.users_of(&users, "south-1").await?;
    let load = stage.load_of(users)?;
    orders(&load, 100).await;
    let since = Timestamp::now();
    stage.world.set_clock("south", seconds)?;
    wire.cut();
    refuses(&load, &of_south, since).await?;
    // Long enough for an order that a lease of an hour would let in, or one that is renewed by the new clock.
    until(since + LEASE + LEASE).await;
    let back = Timestamp::now();
    wire.mend();
    acknowledges(&load, "south-1", back).await?;
    let record = load.stop().await;
    println!("{name}: {}", record.summary());
    let last = last_acknowledged(&record, "south-1", back).context("south-1 took orders before")?;
    println!(
        "{name}: the last order {:#} after the clock was set",
        last.duration_since(since)
    );
    ensure!(last.duration_since(since) < LEASE, "it went on");
    let (_, strangers) = failures(&record, &of_south);
    ensure!(strangers.is_empty(), "{:?}", strangers.first());
    stage.examine(&record).await
}

/// Sets the clock of east's database while its range moves away and writes are held; it is right again when the range comes home.
async fn is_set_while_slots_move(stage: &Stage, name: &str, seconds: i64) -> Result<()> {
    let load = stage.load(24)?;
    orders(&load, 100).await;
    let set = async || stage.world.set_clock("east", seconds);
    stuck_at_the_fence(stage, name, set).await?;
    let status = ended(&stage.hub, name, LIMIT).await?;
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{status:?}");
    orders(&load, 100).await;
    stage.world.set_clock("east", 0)?;
    let home = format!("{name}-home");
    let status = stage
        .moved(
            &home,
            "east-1",
            json!({"type": "Ranges", "ranges": ["users-0"]}),
            "Full",
        )
        .await?;
    println!("{home}: pause {:?}", status.pause);
    stage.judge(load).await.map(drop)
}

/// Waits until the last that a member has heard of south is older, by its own clock, than a promotion's budget allows.
async fn its_beat_is_old(member: &Region) -> Result<()> {
    let sql = match member.engine {
        Engine::PostgreSql => {
            "SELECT count(*) FROM multiactive.marker WHERE unit = 'south-1' AND at < clock_timestamp() - interval '30 minutes'"
        }
        Engine::MariaDb | Engine::MySql => {
            // A beat is never older than the one before it: on a clock that was set back all have the same age, which grows.
            "SELECT COUNT(*) FROM (SELECT MAX(at) AS at FROM multiactive.beat WHERE unit = 'south-1') b
             WHERE multiactive.clock() - b.at > 40000000"
        }
    };
    let deadline = Timestamp::now() + SignedDuration::try_from(LIMIT)?;
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
    while number(member, sql).await? == 0 {
        ensure!(Timestamp::now() < deadline, "no beat of south's clock has come");
        tick.tick().await;
    }
    Ok(())
}

/// Whoever has a wrong clock seems to be behind: the promotion says by what it goes and holds nothing, and goes on once it is right.
async fn seems_to_be_behind(stage: &Stage) -> Result<()> {
    let load = stage.load(24)?;
    orders(&load, 50).await;
    stage.world.set_clock("south", -HOUR)?;
    its_beat_is_old(stage.region("north")?).await?;
    let range = json!({"type": "Ranges", "ranges": ["users-2"]});
    create(&stage.hub, "behind-by-its-clock", "north-1", range, "None").await?;
    let words = ["behind, as far as the clocks of the two servers agree"];
    let said = waits_for(&stage.hub, "behind-by-its-clock", &words, LIMIT).await?;
    println!("it waits for {said}");
    stage.world.set_clock("south", 0)?;
    let status = ended(&stage.hub, "behind-by-its-clock", LIMIT).await?;
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{status:?}");
    let home = json!({"type": "Ranges", "ranges": ["users-2"]});
    stage.moved("right-again", "south-1", home, "None").await?;
    stage.judge(load).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn no_lease_lasts_longer_for_a_clock_that_was_set() -> Result<()> {
    clocks_are_set(Engine::PostgreSql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn with_mariadb_no_lease_lasts_longer_for_a_clock_that_was_set() -> Result<()> {
    clocks_are_set(Engine::MariaDb).await
}

async fn clocks_are_set(engine: Engine) -> Result<()> {
    let stage = Stage::up_with(Options {
        clocks: true,
        engine,
        ..Options::default()
    })
    .await?;
    stops_within_its_lease(&stage.hub, "south-1", LIMIT).await?;
    is_set_while_slots_move(&stage, "set-back", -HOUR).await?;
    is_set_while_slots_move(&stage, "set-forward", HOUR).await?;
    seems_to_be_behind(&stage).await?;
    let wire = Wire::to(&stage, "south").await?;
    is_set_and_cut_off(&stage, &wire, "back", -HOUR).await?;
    is_set_and_cut_off(&stage, &wire, "forward", HOUR).await
}
