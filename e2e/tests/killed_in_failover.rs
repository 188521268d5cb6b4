//! Operator and agents are killed at the effects of a failover and of the way home of the lost unit, under load: each time the
//! slots are served elsewhere, what is lost lies within the bound, nobody else notices, and the unit comes home.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use multiactive_api::convert::parse_duration;
use multiactive_e2e::lost::{fail_over, failures, listed, stops_within_its_lease, until_unit, within_bound};
use multiactive_e2e::region::{Engine, Region};
use multiactive_e2e::stage::{LIMIT, Options, Stage, acknowledges, examine, orders};
use multiactive_e2e::verification::verified;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What is lost.
const REGION: &str = "south";
const LOST: &str = "south-1";

/// Where a program of a region dies, one after the other: each is armed once the last one struck.
type Deaths = (&'static str, &'static str, Vec<&'static str>);

/// One loss and one return.
struct Round {
    /// While the failover runs.
    failover: Vec<Deaths>,
    /// While the unit is on its way home.
    home: Vec<Deaths>,
}

fn rounds() -> Vec<Round> {
    let times = |point: &'static str, count: usize| vec![point; count];
    // Each time one commit later.
    let before = || times("step-before-commit:2", 6);
    vec![
        Round {
            failover: vec![
                ("operator", "east", times("step-after-commit:1", 6)),
                ("agent", "north", vec!["cut-before", "drain-before"]),
                ("agent", "east", vec!["cut-after", "drain-after"]),
            ],
            home: vec![
                ("operator", "east", times("step-after-commit:1", 3)),
                ("agent", REGION, vec!["copy-before", "rejoin-before"]),
            ],
        },
        Round {
            failover: vec![
                ("operator", "east", before()),
                ("agent", "north", vec!["cut-after", "drain-after", "open-before"]),
                ("agent", "east", vec!["cut-before", "drain-before", "open-before"]),
            ],
            home: vec![
                ("operator", "east", before()),
                ("agent", REGION, vec!["copy-after", "rejoin-after"]),
            ],
        },
        Round {
            failover: vec![
                (
                    "operator",
                    "east",
                    vec![
                        "lease-before-write",
                        "lease-after-write",
                        "publish-before-write:1",
                        "publish-after-write:1",
                    ],
                ),
                ("agent", "north", vec!["open-after", "told-routers"]),
                ("agent", "east", vec!["open-after", "told-routers"]),
            ],
            home: vec![
                ("operator", "east", vec!["lease-before-write", "lease-after-write"]),
                ("agent", REGION, vec!["copy-after", "copy-before"]),
            ],
        },
    ]
}

/// Arms one program's deaths until it is told to stop; how often each struck.
struct Killer {
    stop: CancellationToken,
    task: JoinHandle<BTreeMap<String, usize>>,
}

impl Killer {
    fn start(stage: &Stage, (part, region, points): &Deaths) -> Self {
        let file: PathBuf = stage.install.failpoint(part, region);
        let stop = CancellationToken::new();
        let token = stop.clone();
        let (part, points) = (*part, points.clone());
        let task = tokio::spawn(async move {
            let mut struck = BTreeMap::new();
            for point in points {
                std::fs::write(&file, point).expect("the stage's own folder");
                let mut tick = tokio::time::interval(Duration::from_millis(5));
                while file.exists() {
                    if token.is_cancelled() {
                        let _ = std::fs::remove_file(&file);
                        return struck;
                    }
                    tick.tick().await;
                }
                let name = point.split(':').next().unwrap_or(point);
                *struck.entry(format!("{part} {name}")).or_default() += 1;
            }
            struck
        });
        Self { stop, task }
    }
}

async fn stopped(killers: Vec<Killer>, tally: &mut BTreeMap<String, usize>) -> Result<()> {
    for killer in killers {
        killer.stop.cancel();
        for (point, count) in killer.task.await? {
            *tally.entry(point).or_default() += count;
        }
    }
    Ok(())
}

/// The region dies under load, and is taken over though programs die meanwhile.
async fn lose(stage: &Stage, round: &Round, number: usize, tally: &mut BTreeMap<String, usize>) -> Result<()> {
    let users = shop::load::users(24, &format!("lost{number}"));
    let of_lost = stage.users_of(&users, LOST).await?;
    let load = stage.load_through(&["east", "north"], &users)?;
    orders(&load, 150).await;
    let killed = Timestamp::now();
    stage.world.kill(REGION).await?;
    let killers = round
        .failover
        .iter()
        .map(|deaths| Killer::start(stage, deaths))
        .collect();
    let name = format!("lost-{number}");
    let status = fail_over(&stage.hub, &name, LOST, "1m", LIMIT).await;
    stopped(killers, tally).await?;
    let status = status?;
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{name}: {status:?}");
    let targets = status.to.clone().context("a target is told")?;
    for target in targets.split(',') {
        acknowledges(&load, target, Timestamp::now()).await?;
    }
    let record = load.stop().await;
    println!("{number}: lost, to {targets}: {}; {:?}", record.summary(), status.loss);
    let (_, strangers) = failures(&record, &of_lost);
    ensure!(
        strangers.is_empty(),
        "orders of other units failed: {:?}",
        strangers.first()
    );
    let bound = status.loss.and_then(|loss| loss.bound).context("a bound is told")?;
    let bound = parse_duration("bound", &bound)?;
    let survivors: Vec<Region> = stage
        .world
        .regions
        .iter()
        .filter(|region| region.name != REGION)
        .cloned()
        .collect();
    let findings = examine(&survivors, &stage.table().await?, &record).await?;
    ensure!(
        findings.taken_twice.is_empty() && findings.differing.is_empty(),
        "{findings:?}"
    );
    within_bound(&findings, &record, LOST, killed, bound)
}

/// It is back, rejoins and gets its slots, though programs die meanwhile.
async fn comes_home(stage: &Stage, round: &Round, number: usize, tally: &mut BTreeMap<String, usize>) -> Result<()> {
    let killers = round.home.iter().map(|deaths| Killer::start(stage, deaths)).collect();
    let back = async {
        stage.world.revive(REGION).await?;
        let listed = listed(&stage.hub, &format!("lost-{number}"), LIMIT).await?;
        let accept = &listed.needed.command;
        stage.install.as_printed(stage.install.hub()?, accept).await?;
        until_unit(&stage.hub, LOST, LIMIT, |ready| ready.status == "True")
            .await
            .context("it rejoins")
    };
    let back = back.await;
    stopped(killers, tally).await?;
    back?;
    stage.install.ready(|_| {}).await?;
    let users = shop::load::users(24, &format!("back{number}"));
    let load = stage.load_through(&["east", "north", REGION], &users)?;
    orders(&load, 50).await;
    let range = json!({"type": "Ranges", "ranges": ["users-2"]});
    stage.moved(&format!("home-{number}"), LOST, range, "Full").await?;
    acknowledges(&load, LOST, Timestamp::now()).await?;
    let record = load.stop().await;
    println!("{number}: home: {}", record.summary());
    let failed = record.attempts.iter().find(|attempt| attempt.order.is_none());
    ensure!(
        failed.is_none(),
        "{} orders failed, the first: {failed:?}",
        record.failures()
    );
    let status = verified(&stage.hub, &format!("equal-{number}"), json!({}), LIMIT).await?;
    ensure!(status.reason.as_deref() == Some("Equal"), "{status:?}");
    Ok(())
}

/// The agents' effects on databases, before and behind each.
fn on_databases() -> Round {
    Round {
        failover: vec![
            // One of them takes over.
            (
                "agent",
                "north",
                vec!["cut-before", "drain-after", "open-before", "open-after"],
            ),
            (
                "agent",
                "east",
                vec!["cut-after", "drain-before", "open-before", "open-after"],
            ),
        ],
        home: vec![("agent", REGION, vec!["copy-after", "rejoin-before", "rejoin-after"])],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn whoever_dies_meanwhile_the_slots_are_served_elsewhere_and_the_unit_comes_home() -> Result<()> {
    served_elsewhere_and_home(Engine::PostgreSql, &rounds()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn with_mariadb_the_slots_are_served_elsewhere_and_the_unit_comes_home_whatever_agents_die_at() -> Result<()> {
    served_elsewhere_and_home(Engine::MariaDb, &[on_databases()]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes, all that the first test does, with MariaDB: make test-faults"]
async fn with_mariadb_whoever_dies_meanwhile_it_is_the_same() -> Result<()> {
    served_elsewhere_and_home(Engine::MariaDb, &rounds()).await
}

async fn served_elsewhere_and_home(engine: Engine, rounds: &[Round]) -> Result<()> {
    let stage = Stage::up_with(Options {
        failpoints: true,
        engine,
        ..Options::default()
    })
    .await?;
    stops_within_its_lease(&stage.hub, LOST, LIMIT).await?;
    let mut tally = BTreeMap::new();
    for (number, round) in rounds.iter().enumerate() {
        lose(&stage, round, number, &mut tally)
            .await
            .with_context(|| format!("loss {number}, {tally:?}"))?;
        comes_home(&stage, round, number, &mut tally)
            .await
            .with_context(|| format!("return {number}, {tally:?}"))?;
    }
    println!("killed: {tally:?}");
    let armed = rounds.iter().flat_map(|round| round.failover.iter().chain(&round.home));
    let armed = armed.flat_map(|(part, _, points)| points.iter().map(move |point| (part, *point)));
    let mut never: Vec<String> = armed
        .map(|(part, point)| format!("{part} {}", point.split(':').next().unwrap_or(point)))
        .filter(|point| !tally.contains_key(point))
        .collect();
    never.dedup();
    ensure!(never.is_empty(), "nobody died at {never:?}");
    Ok(())
}
