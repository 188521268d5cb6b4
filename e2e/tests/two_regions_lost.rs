//! Two regions of three are lost, and one is left: it serves its own users throughout, takes over those of both others, and
//! nobody takes over from it. Where the one that shall take over is lost too, the failover says what it needs, and ends once that
//! region is back.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube::Api;
use multiactive_api::{DecisionType, Failover, FailoverStatus, NeededDecision};
use multiactive_e2e::held_up::at_step;
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::lost::{
    MayBeLost, begin, blocked, fail_over, first_at, how_it_ended, stops_within_its_lease, taken_by,
};
use multiactive_e2e::region::NAMESPACE;
use multiactive_e2e::stage::{LIMIT, Options, Stage, acknowledges, orders};
use multiactive_e2e::story::{Lost, Served, goes_home, judge, rejoins, served};
use serde_json::json;
use shop::check::Findings;
use shop::load::{Load, Record};

const LOST: [Lost; 2] = [Lost::NORTH, Lost::SOUTH];
const LEFT: &str = "east-1";

async fn up() -> Result<Stage> {
    let stage = Stage::up_with(Options::default()).await?;
    for unit in ["east-1", "north-1", "south-1"] {
        stops_within_its_lease(&stage.hub, unit, LIMIT).await?;
    }
    Ok(stage)
}

/// Of these orders those that `lost` had taken.
fn of_unit(findings: &Findings, record: &Record, lost: &Lost) -> Vec<String> {
    let taken: Vec<_> = taken_by(record, lost.unit)
        .filter_map(|attempt| attempt.order.as_ref())
        .map(|order| &order.id)
        .collect();
    findings.lost.iter().filter(|id| taken.contains(id)).cloned().collect()
}

/// Both are back, and get their slots.
async fn come_home(stage: &Stage, lost: &[(Lost, Vec<String>)]) -> Result<()> {
    let users = shop::load::users(24, "back");
    for (lost, orders) in lost {
        rejoins(stage, lost, orders).await?;
    }
    let all: Vec<&Lost> = lost.iter().map(|(lost, _)| lost).collect();
    goes_home(stage, &all, &users).await
}

/// Nobody is left who could take over from the last one: that is said, with what to do about it, and nothing changes.
async fn is_the_last(stage: &Stage, load: &Load) -> Result<()> {
    let status = fail_over(&stage.hub, "the-last", LEFT, "15s", LIMIT).await?;
    println!("the last: {:?}: {:?}", status.reason, status.message);
    let end = (status.outcome.as_deref(), status.reason.as_deref());
    ensure!(end == (Some("Refused"), Some("NoTarget")), "{status:?}");
    let message = status.message.unwrap_or_default();
    let said = ["north-1: ", "south-1: ", "Bring one of these units back"];
    let unsaid: Vec<_> = said.iter().filter(|said| !message.contains(**said)).collect();
    ensure!(unsaid.is_empty(), "{unsaid:?} is not said: {message}");
    acknowledges(load, LEFT, Timestamp::now()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn the_one_that_is_left_serves_its_own_users_and_takes_over_the_others() -> Result<()> {
    let stage = up().await?;
    let users = shop::load::users(36, "lost");
    let of_lost = [
        stage.users_of(&users, LOST[0].unit).await?,
        stage.users_of(&users, LOST[1].unit).await?,
    ];
    let load = stage.load_through(&["east"], &users)?;
    orders(&load, 200).await;

    let killed = Timestamp::now();
    tokio::try_join!(stage.world.kill("north"), stage.world.kill("south"))?;
    // At once: nobody has noticed yet that who comes first in the order of north's range is lost as well.
    for lost in LOST {
        let spec = json!({"lostUnit": lost.unit, "maxDataLoss": "15s"});
        begin(&stage.hub, lost.failover, spec).await?;
    }
    let mut may_be = Vec::new();
    for (lost, of_lost) in LOST.iter().zip(&of_lost) {
        let status = how_it_ended(&stage.hub, lost.failover, LIMIT).await?;
        let Served { target, bound } = served(&status, "Lease")?;
        ensure!(target == LEFT, "{status:?}");
        let (unit, until) = (lost.unit, killed);
        may_be.push(MayBeLost { unit, until, bound });
        acknowledges(&load, LEFT, Timestamp::now()).await?;
        let first = first_at(&load.record().await, of_lost, LEFT);
        let first = first.context("an order of its users")?;
        let after = first.duration_since(killed);
        println!("users of {} are served {after:#} after the kill", lost.unit);
    }
    is_the_last(&stage, &load).await?;
    orders(&load, 100).await;
    let record = load.stop().await;
    println!("{}", record.summary());
    let findings = judge(&stage, &["east"], &record, &of_lost.concat(), &may_be).await?;

    tokio::try_join!(stage.world.revive("north"), stage.world.revive("south"))?;
    let lost = LOST.map(|lost| (lost, of_unit(&findings, &record, &lost)));
    come_home(&stage, &lost).await
}

/// Its target is back: it ends by itself, unless another unit has more of what the lost one wrote. Nobody gives that up: the person
/// aborts, as was printed, and begins anew.
async fn ends_or_is_tried_again(stage: &Stage, lost: Lost, abort: &NeededDecision) -> Result<(Lost, FailoverStatus)> {
    let failovers: Api<Failover> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let said = wait_for(&failovers, lost.failover, LIMIT, |failover| {
        let status = failover.status.as_ref()?;
        let gives_up = |needed: &&NeededDecision| needed.kind == DecisionType::AcceptDataLoss;
        let gives_up = status.needed.iter().find(gives_up);
        (status.outcome.is_some() || gives_up.is_some()).then(|| gives_up.cloned())
    });
    let Some(gives_up) = said.await? else {
        let status = how_it_ended(&stage.hub, lost.failover, LIMIT).await?;
        ensure!(status.to.as_deref() == Some("north-1"), "{status:?}");
        return Ok((lost, status));
    };
    println!("it would give up: {}", gives_up.why);
    ensure!(
        gives_up
            .why
            .contains("to keep that, abort, and name east-1 by a new Failover"),
        "{gives_up:?}"
    );
    stage.install.as_printed(stage.install.hub()?, &abort.command).await?;
    let status = how_it_ended(&stage.hub, lost.failover, LIMIT).await?;
    let end = (status.outcome.as_deref(), status.reason.as_deref());
    ensure!(end == (Some("Aborted"), Some("AbortRequested")), "{status:?}");
    let lost = lost.by("lost-south-again");
    let spec = json!({"lostUnit": lost.unit, "targetUnit": LEFT, "maxDataLoss": "15s"});
    begin(&stage.hub, lost.failover, spec).await?;
    Ok((lost, how_it_ended(&stage.hub, lost.failover, LIMIT).await?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn a_failover_whose_target_is_lost_too_says_so_and_ends_once_that_is_back() -> Result<()> {
    let stage = up().await?;
    let [north, south] = LOST;
    let users = shop::load::users(36, "lost");
    let of_lost = [
        stage.users_of(&users, north.unit).await?,
        stage.users_of(&users, south.unit).await?,
    ];
    let load = stage.load_through(&["east"], &users)?;
    orders(&load, 200).await;

    let killed = Timestamp::now();
    stage.world.kill(south.region).await?;
    let spec = json!({"lostUnit": south.unit, "targetUnit": north.unit, "maxDataLoss": "15s"});
    begin(&stage.hub, south.failover, spec).await?;
    at_step(&stage, south.failover, "Fence").await?;
    stage.world.kill(north.region).await?;
    let needed = blocked(&stage.hub, south.failover, DecisionType::Abort, LIMIT).await?;
    println!("blocked: {}: {}", needed.why, needed.command);
    let said = ["bring north-1 back", "abort, which gives them back to south-1"];
    let unsaid: Vec<_> = said.iter().filter(|said| !needed.why.contains(**said)).collect();
    ensure!(
        unsaid.is_empty() && needed.why.starts_with("north-1 "),
        "{unsaid:?} is not said: {}",
        needed.why
    );
    acknowledges(&load, LEFT, Timestamp::now()).await?;

    let back = Timestamp::now();
    stage.world.revive(north.region).await?;
    let (south, status) = ends_or_is_tried_again(&stage, south, &needed).await?;
    let Served { target, bound } = served(&status, "Lease")?;
    acknowledges(&load, &target, Timestamp::now()).await?;
    stage.until_member(north.region, true).await?;
    orders(&load, 100).await;
    let record = load.stop().await;
    println!("{}", record.summary());
    let first = first_at(&record, &of_lost[1], &target);
    let after = first.context("an order of its users")?.duration_since(back);
    println!("users of {} are served {after:#} after north was started", south.unit);
    let (unit, until) = (south.unit, killed);
    let may_be = [MayBeLost { unit, until, bound }];
    let findings = judge(&stage, &["east", "north"], &record, &of_lost.concat(), &may_be).await?;
    ensure!(findings.differing.is_empty(), "{findings:?}");

    stage.world.revive(south.region).await?;
    come_home(&stage, &[(south, findings.lost)]).await
}
