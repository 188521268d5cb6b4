//! Operator, agents and databases are killed at each effect of a promotion, under load: each promotion ends in a named
//! way, and no acknowledged order is lost. The list of effects comes from the programs themselves, that of steps from the
//! step machine. Each effect once here; each wherever a promotion passes it, and with MariaDB, by `make test-faults`.

#[path = "killed_at_each_step/databases.rs"]
mod databases;

use anyhow::{Context, Result, ensure};
use kube::Api;
use kube::api::{Patch, PatchParams};
use multiactive_api::{Keyspace, PromotionStatus};
use multiactive_core::hash::Function;
use multiactive_core::promotion::Step;
use multiactive_core::span::SpanState;
use multiactive_e2e::promotion::{create, ended};
use multiactive_e2e::region::{Engine, NAMESPACE};
use multiactive_e2e::stage::{LIMIT, Options, Stage, orders};
use multiactive_e2e::world::programs;
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// The slots that go to and fro.
const SLOTS: &str = "341-400";

/// Users of a load, half of whom order in those slots.
fn users(load: &str) -> Vec<String> {
    let all = || (0..).map(|number| format!("u{number}-{load}"));
    let moved = all().filter(|user| is_moved(user)).take(6);
    moved.chain(all().filter(|user| !is_moved(user)).take(6)).collect()
}

fn is_moved(user: &str) -> bool {
    (341..=400).contains(&Function::Crc32.slot(user.as_bytes(), 1024))
}

/// Both units have taken orders of users who go to and fro: there was something to lose.
fn went_to_and_fro(record: &shop::load::Record) -> Result<()> {
    for unit in ["east-1", "north-1"] {
        let taken = record.acknowledged().filter(|order| order.unit == unit);
        let moved = taken.filter(|order| is_moved(&order.user)).count();
        ensure!(moved > 0, "{unit} has taken no order of a user who moves");
    }
    Ok(())
}

/// For how long after a promotion's end a failpoint may still be passed.
const LATE: Duration = Duration::from_secs(10);

/// In how many more promotions an agent's effect may come that none of the first ones had.
const LATE_ANSWERS: usize = 8;

/// What is passed in failovers only: `killed_in_failover` strikes there.
const OF_FAILOVERS: [&str; 6] = ["lease-", "hook-", "cut-", "tail-", "copy-", "rejoin-"];

/// How much of all that can die does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Operator and agents at each effect, wherever it is passed, and the target's database at each step.
    All,
    /// Operator and agents at each effect, once, and the target's database from where writes are held.
    Once,
    /// What is about databases: agents at their effects there, and the target's database from where writes are held.
    Databases,
}

/// The target of a promotion, where one is wanted.
type Towards = Option<&'static str>;

/// The agent's effects on databases, and whether the source's agent has them.
const ON_DATABASES: [(&str, bool); 4] = [
    ("fence-", true),
    ("follow-", false),
    ("drain-", false),
    ("open-", false),
];

impl Extent {
    /// The operator's failpoints, and at which of its passings in a promotion each is to strike. Points around the record's commit and
    /// its publishing are passed once a step.
    fn of_operator(self) -> Result<Vec<(String, RangeInclusive<u32>)>> {
        let at_each_step = match self {
            Self::All => 1..=5,
            // Before and behind the commit that changes the owner.
            Self::Once => 3..=4,
            Self::Databases => return Ok(Vec::new()),
        };
        let passings = |name: &str| match name.starts_with("step-") || name.starts_with("publish-") {
            true => at_each_step.clone(),
            false => 1..=1,
        };
        let all = failpoints("multiactive-operator")?.into_iter();
        Ok(all.map(|name| (name.clone(), passings(&name))).collect())
    }

    /// Those of north's agent, and in which promotions each is to strike.
    fn of_agent(self) -> Result<Vec<(String, Vec<Towards>)>> {
        let all = failpoints("multiactive-agent")?.into_iter();
        let on_databases = |name: &str| {
            let (_, at_source) = ON_DATABASES.iter().find(|(prefix, _)| name.starts_with(prefix))?;
            Some(if *at_source { "east-1" } else { "north-1" })
        };
        Ok(match self {
            // Once with north-1 as the target, once as the source.
            Self::All => all.map(|name| (name, vec![None, None])).collect(),
            Self::Once => all.map(|name| (name.clone(), vec![on_databases(&name)])).collect(),
            Self::Databases => all
                .filter_map(|name| Some((name.clone(), vec![Some(on_databases(&name)?)])))
                .collect(),
        })
    }

    /// Whether the target's database dies at a step.
    fn includes(self, step: Step) -> bool {
        match step {
            Step::Check | Step::Prepare | Step::Verify | Step::Settle => self == Self::All,
            Step::Hold | Step::Fence | Step::Cut | Step::Drain | Step::Commit | Step::Open => true,
        }
    }
}

/// The failpoints that a program lists, but for those of failovers.
fn failpoints(program: &str) -> Result<Vec<String>> {
    let output = std::process::Command::new(programs()?.join(program))
        .arg("--list-failpoints")
        .output()?;
    ensure!(output.status.success(), "{program} --list-failpoints: {output:?}");
    let all = String::from_utf8(output.stdout)?;
    let of_promotions = |name: &&str| !OF_FAILOVERS.iter().any(|prefix| name.starts_with(prefix));
    Ok(all.lines().filter(of_promotions).map(str::to_owned).collect())
}

/// Moves the slots to the other of east-1 and north-1; a promotion of its own name each time.
struct Mover<'a> {
    stage: &'a Stage,
    moves: usize,
}

impl Mover<'_> {
    async fn target(&self) -> Result<&'static str> {
        let table = self.stage.table().await?;
        let span = table
            .keyspace(&"users".into())
            .and_then(|keyspace| keyspace.span_of(350))
            .context("slot 350")?;
        Ok(if span.is_owned_by(&"north-1".into()) {
            "east-1"
        } else {
            "north-1"
        })
    }

    async fn begin(&mut self, target: &str, verify: &str) -> Result<String> {
        self.moves += 1;
        let name = format!("to-and-fro-{}", self.moves);
        let select = json!({"type": "Slots", "slots": {"keyspace": "users", "slots": SLOTS}});
        create(&self.stage.hub, &name, target, select, verify).await?;
        Ok(name)
    }

    /// Waits for the end; then nothing may be left over.
    async fn end(&self, name: &str, why: &str) -> Result<PromotionStatus> {
        let status = ended(&self.stage.hub, name, LIMIT)
            .await
            .with_context(|| format!("killed at {why}"))?;
        let outcome = status.outcome.as_deref();
        ensure!(
            matches!(outcome, Some("Succeeded" | "Aborted" | "Refused")),
            "killed at {why}: {status:?}"
        );
        let table = self.stage.table().await?;
        ensure!(
            table.operations.is_empty(),
            "killed at {why}: an operation is left over: {:?}",
            table.operations
        );
        let serving = |span: &multiactive_core::span::Span| span.state == SpanState::Serving;
        ensure!(
            table.keyspaces.iter().all(|k| k.spans.iter().all(serving)),
            "killed at {why}: {:?}",
            table.keyspaces
        );
        Ok(status)
    }
}

/// A further route, another each time: a promotion by itself changes no assignment.
async fn change_assignments(mover: &Mover<'_>) -> Result<()> {
    let api: Api<Keyspace> = Api::namespaced(mover.stage.hub.clone(), NAMESPACE);
    let routes = json!([
        {"pathPrefix": "/orders", "backend": "shop"},
        {"pathPrefix": format!("/carts-{}", mover.moves), "backend": "shop"},
    ]);
    let patch = Patch::Merge(json!({"spec": {"routes": routes}}));
    api.patch("users", &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Whether the failpoint counts passings of which a promotion need not have as many.
fn is_counted(failpoint: &str) -> bool {
    failpoint.split_once(':').is_some_and(|(_, passing)| passing != "1")
}

/// Arms a file, runs a promotion, to `towards` where that is said, and says whether the failpoint struck and how the promotion
/// ended.
async fn strike(mover: &mut Mover<'_>, file: &Path, failpoint: &str, towards: Option<&str>) -> Result<(bool, String)> {
    // What was killed before is back: a target that is not ready would be refused.
    mover.stage.install.ready(|_| {}).await?;
    let other = mover.target().await?;
    if towards.is_some_and(|towards| towards != other) {
        let name = mover.begin(other, "None").await?;
        mover.end(&name, "nothing").await?;
    }
    std::fs::write(file, failpoint)?;
    if failpoint.starts_with("assign-") {
        change_assignments(mover).await?;
    }
    let target = mover.target().await?;
    // Drain is asked for only where the target does not follow at once.
    let in_the_way = if failpoint.starts_with("drain-") {
        Some(databases::holds_up_the_drain(mover.stage, target).await?)
    } else {
        None
    };
    let name = mover.begin(target, "None").await?;
    if let Some(in_the_way) = in_the_way {
        databases::entered(mover.stage, &name, Step::Drain).await?;
        drop(in_the_way);
    }
    let status = mover.end(&name, failpoint).await?;
    // Some points are passed only after the status has told the end: the finalizer is taken off by then.
    let struck = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while file.exists() {
            tick.tick().await;
        }
    };
    let patience = if is_counted(failpoint) { Duration::ZERO } else { LATE };
    let struck = tokio::time::timeout(patience, struck).await.is_ok();
    let _ = std::fs::remove_file(file);
    Ok((struck, status.outcome.unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promotion_ends_in_a_named_way_and_nothing_is_lost() -> Result<()> {
    ends_in_a_named_way(Engine::PostgreSql, Extent::Once).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes, each effect wherever it is passed: make test-faults"]
async fn whatever_is_killed_every_promotion_ends_in_a_named_way() -> Result<()> {
    ends_in_a_named_way(Engine::PostgreSql, Extent::All).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn every_promotion_with_mariadb_ends_in_a_named_way_and_nothing_is_lost() -> Result<()> {
    ends_in_a_named_way(Engine::MariaDb, Extent::Databases).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes, all that the first test does, with MariaDB: make test-faults"]
async fn whatever_is_killed_with_mariadb_every_promotion_ends_in_a_named_way() -> Result<()> {
    ends_in_a_named_way(Engine::MariaDb, Extent::All).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs packages of Debian's unstable release: make test-mysql"]
async fn with_mysql_every_promotion_ends_in_a_named_way_and_nothing_is_lost() -> Result<()> {
    ends_in_a_named_way(Engine::MySql, Extent::Databases).await
}

async fn ends_in_a_named_way(engine: Engine, extent: Extent) -> Result<()> {
    let stage = Stage::up_with(Options {
        failpoints: true,
        engine,
        ..Options::default()
    })
    .await?;
    let load = stage.load_of(users("programs"))?;
    orders(&load, 50).await;
    let mut mover = Mover {
        stage: &stage,
        moves: 0,
    };
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    let mut never = Vec::new();

    let hub = stage.install.hub()?.name.clone();
    let operator = stage.install.failpoint("operator", &hub);
    for (name, passings) in extent.of_operator()? {
        let mut strikes = 0;
        for passing in passings {
            let (struck, outcome) = strike(&mut mover, &operator, &format!("{name}:{passing}"), None).await?;
            strikes += usize::from(struck);
            *tally.entry(format!("operator {outcome}")).or_default() += usize::from(struck);
        }
        if strikes == 0 {
            never.push(format!("operator {name}"));
        }
    }
    let agent = stage.install.failpoint("agent", "north");
    for (name, promotions) in extent.of_agent()? {
        let mut strikes = 0;
        // What is asked for only where an answer is late may not be passed in the first ones.
        let more = [Some("north-1"), Some("east-1")].into_iter().cycle().take(LATE_ANSWERS);
        for (turn, towards) in promotions.iter().copied().chain(more).enumerate() {
            if turn >= promotions.len() && strikes > 0 {
                break;
            }
            let (struck, outcome) = strike(&mut mover, &agent, &name, towards).await?;
            strikes += usize::from(struck);
            *tally.entry(format!("agent {outcome}")).or_default() += usize::from(struck);
        }
        if strikes == 0 {
            never.push(format!("agent {name}"));
        }
    }
    orders(&load, 50).await;
    let record = load.stop().await;
    println!("killed: {tally:?}; {} promotions; {}", mover.moves, record.summary());
    ensure!(never.is_empty(), "these failpoints were never passed: {never:?}");
    went_to_and_fro(&record)?;
    stage.examine(&record).await.context("programs killed")?;

    let record = databases::kill_databases(&stage, &mut mover, |step| extent.includes(step)).await?;
    went_to_and_fro(&record)?;
    stage.examine(&record).await.context("databases killed")
}
