//! Databases that answer late, not at all, or stand still: what moves over a slow network moves without an error; a link that is
//! half open holds no write up for long, and the promotion says which; a unit whose agent does not reach its database any more,
//! or whose database stands still for longer than its lease, stops and goes on by itself, and no slot moves for it.

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use multiactive_api::{LinkState, LinkStatus, PromotionStatus, UnitAssignment};
use multiactive_e2e::held_up::stuck_at_the_fence;
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::lost::{failures, stops_within_its_lease, until_unit};
use multiactive_e2e::promotion::{create, ended, waits_for};
use multiactive_e2e::region::{Engine, NAMESPACE};
use multiactive_e2e::relay::Pass;
use multiactive_e2e::stage::{LIMIT, Options, Stage, acknowledges, orders};
use multiactive_e2e::stops::{last_acknowledged, refuses, until};
use serde_json::json;
use shop::load::Load;
use std::time::Duration;

const LEASE: SignedDuration = SignedDuration::from_secs(5);

/// As far as another continent, on a line that others use too.
const SLOW: Pass = Pass::Slowly {
    delay: Duration::from_millis(60),
    bytes_per_second: 256 * 1024,
};

/// Everything between the databases goes over a slow network, and a range moves to and fro.
async fn over_a_slow_network(stage: &Stage) -> Result<()> {
    let load = stage.load(24)?;
    orders(&load, 100).await;
    for wire in &stage.world.wires {
        wire.others(SLOW);
    }
    let range = json!({"type": "Ranges", "ranges": ["users-2"]});
    for (name, target) in [("far-to-north", "north-1"), ("far-to-south", "south-1")] {
        let status = stage.moved(name, target, range.clone(), "Full").await?;
        println!("{name} over a slow network: pause {:?}", status.pause);
        orders(&load, 50).await;
    }
    for wire in &stage.world.wires {
        wire.others(Pass::AtOnce);
    }
    stage.judge(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn what_is_late_or_does_not_answer_moves_nothing_and_loses_nothing() -> Result<()> {
    is_late_or_does_not_answer(Engine::PostgreSql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn with_mariadb_what_is_late_or_does_not_answer_moves_nothing_and_loses_nothing() -> Result<()> {
    is_late_or_does_not_answer(Engine::MariaDb).await
}

async fn is_late_or_does_not_answer(engine: Engine) -> Result<()> {
    let stage = Stage::up_with(Options {
        wired: true,
        engine,
        ..Options::default()
    })
    .await?;
    stops_within_its_lease(&stage.hub, "south-1", LIMIT).await?;
    over_a_slow_network(&stage).await?;
    a_link_is_half_open(&stage).await?;
    a_link_is_cut_in_the_middle(&stage).await?;
    the_agent_reaches_its_database_no_more(&stage).await?;
    the_database_stands_still(&stage).await
}

/// A Promotion that came to nothing, in these words.
fn came_to_nothing(name: &str, status: &PromotionStatus, outcome: &str, reason: &str, words: &[&str]) -> Result<()> {
    let message = status.message.as_deref().unwrap_or_default();
    println!("{name}: {:?} {:?}: {message}", status.outcome, status.reason);
    ensure!(status.outcome.as_deref() == Some(outcome), "{status:?}");
    ensure!(status.reason.as_deref() == Some(reason), "{status:?}");
    let unsaid = words.iter().find(|word| !message.contains(**word));
    ensure!(unsaid.is_none(), "it does not say {unsaid:?}: {message}");
    Ok(())
}

/// Nothing of south's log arrives any more, and no connection is told: the link says so all the same, no write is held for it, and the
/// promotion goes on as soon as something arrives.
async fn a_link_is_half_open(stage: &Stage) -> Result<()> {
    let load = stage.load(24)?;
    orders(&load, 50).await;
    let wire = stage.world.wire("south")?;
    wire.others(Pass::Nothing);
    let assignments: Api<UnitAssignment> = Api::namespaced(stage.region("north")?.client().await?, NAMESPACE);
    wait_for(&assignments, "north-1", LIMIT, |assignment| {
        let mut links = assignment.status.as_ref()?.links.iter();
        let broken = |link: &&LinkStatus| link.from == "south-1" && link.state == LinkState::Broken;
        links.find(broken).map(drop)
    })
    .await
    .context("the link from south says that nothing comes")?;
    let range = json!({"type": "Ranges", "ranges": ["users-2"]});
    create(&stage.hub, "half-open", "north-1", range, "None").await?;
    let words = ["links", "nothing has come from its server for"];
    let said = waits_for(&stage.hub, "half-open", &words, LIMIT).await?;
    println!("half-open waits for {said}");
    orders(&load, 50).await;
    wire.others(Pass::AtOnce);
    let status = ended(&stage.hub, "half-open", LIMIT).await?;
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{status:?}");
    let home = json!({"type": "Ranges", "ranges": ["users-2"]});
    stage.moved("half-open-home", "south-1", home, "None").await?;
    stage.judge(load).await?;
    Ok(())
}

/// The same in the moment in which writes are held: they are held for seconds, and go on where they were.
async fn a_link_is_cut_in_the_middle(stage: &Stage) -> Result<()> {
    let load = stage.load(24)?;
    orders(&load, 100).await;
    let wire = stage.world.wire("east")?;
    let cut = async || {
        wire.others(Pass::Nothing);
        Ok(())
    };
    stuck_at_the_fence(stage, "cut-in-the-middle", cut).await?;
    let status = ended(&stage.hub, "cut-in-the-middle", LIMIT).await?;
    let words = ["nothing has come from its server for"];
    came_to_nothing("cut-in-the-middle", &status, "Aborted", "LinkBroken", &words)?;
    acknowledges(&load, "east-1", Timestamp::now()).await?;
    wire.others(Pass::AtOnce);
    stage.judge(load).await?;
    Ok(())
}

/// Whoever is a customer of south is refused once its lease is over and not before, nobody else is, and all goes on as soon as
/// `away` is over.
async fn stops_and_goes_on<T>(stage: &Stage, what: &str, away: impl AsyncFnOnce() -> Result<T>) -> Result<()> {
    let users = shop::load::users(24, &what.replace(" ", "-"));
    let of_south = stage.users_of(&users, "south-1").await?;
    let load: Load = stage.load_of(users)?;
    orders(&load, 100).await;
    let epoch = stage.table().await?.epoch;
    let since = Timestamp::now();
    let away = away().await?;
    refuses(&load, &of_south, since).await?;
    until_unit(&stage.hub, "south-1", LIMIT, |ready| {
        println!("{what}: {} {}: {}", ready.status, ready.reason, ready.message);
        ready.status != "True"
    })
    .await?;
    // For longer than its lease.
    until(since + LEASE + LEASE).await;
    let back = Timestamp::now();
    drop(away);
    acknowledges(&load, "south-1", back).await?;
    orders(&load, 50).await;
    let record = load.stop().await;
    println!("{}", record.summary());
    let last = last_acknowledged(&record, "south-1", back).context("south-1 took orders before")?;
    println!("{what}: the last order {:#} after that", last.duration_since(since));
    ensure!(last.duration_since(since) < LEASE, "it went on");
    let (_, strangers) = failures(&record, &of_south);
    ensure!(strangers.is_empty(), "{:?}", strangers.first());
    ensure!(stage.table().await?.epoch == epoch, "something moved");
    stage.examine(&record).await
}

/// Its wire, until it is whole again.
struct Mended<'a>(&'a multiactive_e2e::database_wire::DatabaseWire);

impl Drop for Mended<'_> {
    fn drop(&mut self) {
        self.0.agent(Pass::AtOnce);
        self.0.others(Pass::AtOnce);
    }
}

async fn the_agent_reaches_its_database_no_more(stage: &Stage) -> Result<()> {
    let wire = stage.world.wire("south")?;
    let half_open = async || {
        wire.agent(Pass::AnswersLost);
        Ok(Mended(wire))
    };
    stops_and_goes_on(stage, "half-open agent", half_open).await
}

async fn the_database_stands_still(stage: &Stage) -> Result<()> {
    stops_and_goes_on(stage, "frozen database", async || {
        stage.world.freeze_database("south").await
    })
    .await
}
