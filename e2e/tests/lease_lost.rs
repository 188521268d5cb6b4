//! A unit whose agents cannot renew its write lease: with `Fence` it stops within the lease, by its own database; with
//! `KeepServing` it goes on while its agent lives. Nothing that was acknowledged is lost, and all go on afterwards.

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use multiactive_api::{LeaseMode, LeaseState, Unit};
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::processes;
use multiactive_e2e::region::{Engine, NAMESPACE, SYSTEM};
use multiactive_e2e::stage::{LIMIT, Options, Stage, acknowledges, orders};
use multiactive_e2e::stops::{last_acknowledged, refuses};
use multiactive_fleet::cluster::Part;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use shop::load::Load;

const LEASE: SignedDuration = SignedDuration::from_secs(5);

/// Waits until a unit's lease stands so.
async fn stands(stage: &Stage, unit: &str, mode: LeaseMode, state: LeaseState) -> Result<()> {
    let units: Api<Unit> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    wait_for(&units, unit, LIMIT, |object| {
        let lease = object.status.as_ref()?.lease.as_ref()?;
        (lease.mode == mode && lease.state == Some(state)).then_some(())
    })
    .await
    .with_context(|| format!("the lease of {unit} is {mode:?} and {state:?}"))
}

/// The hub is gone: who asked for Fence stops in time, the others go on.
async fn hub_away(stage: &Stage, load: &Load, all: &[String]) -> Result<()> {
    let hub = stage.world.clusters.first().context("the hub")?;
    let of_south = stage.users_of(all, "south-1").await?;
    let cut = Timestamp::now();
    hub.kill_part(Part::ApiServer).await;
    let refused = refuses(load, &of_south, cut).await?;
    let later = Timestamp::now();
    for unit in ["east-1", "north-1"] {
        acknowledges(load, unit, later).await?;
    }
    // It is renewed as soon as the server answers.
    let back = Timestamp::now();
    hub.start_part(Part::ApiServer).await?;
    acknowledges(load, "south-1", back).await?;
    let record = load.record().await;
    let last = last_acknowledged(&record, "south-1", back).context("south-1 took orders before")?;
    println!(
        "south-1 took its last order {:#} after the hub was gone",
        last.duration_since(cut)
    );
    ensure!(
        last.duration_since(cut) < LEASE,
        "it went on for {:#}",
        last.duration_since(cut)
    );
    ensure!(refused > cut && refused.duration_since(cut) < LEASE + LEASE);
    let others: Vec<_> = record
        .attempts
        .iter()
        .filter(|attempt| attempt.order.is_none() && !of_south.contains(&attempt.user))
        .take(3)
        .collect();
    ensure!(
        others.is_empty(),
        "orders of units that keep serving failed: {others:?}"
    );
    Ok(())
}

/// An agent that is frozen for longer than the lease lengthens nothing; thawed, it goes on.
async fn agent_frozen(stage: &Stage, load: &Load, all: &[String]) -> Result<()> {
    let of_north = stage.users_of(all, "north-1").await?;
    let [agent] = processes::find("multiactive-agent", "--cluster=north")[..] else {
        anyhow::bail!("one agent of north");
    };
    let cut = Timestamp::now();
    kill(Pid::from_raw(agent), Signal::SIGSTOP)?;
    let refused = refuses(load, &of_north, cut).await;
    let back = Timestamp::now();
    kill(Pid::from_raw(agent), Signal::SIGCONT)?;
    refused?;
    acknowledges(load, "north-1", back).await?;
    let record = load.record().await;
    let last = last_acknowledged(&record, "north-1", back).context("north-1 took orders before")?;
    println!(
        "north-1 took its last order {:#} after its agent was frozen",
        last.duration_since(cut)
    );
    ensure!(
        last.duration_since(cut) < LEASE * 2,
        "it went on for {:#}",
        last.duration_since(cut)
    );
    stands(stage, "north-1", LeaseMode::KeepServing, LeaseState::Held).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_renew_stops_within_the_lease_or_goes_on_as_was_asked() -> Result<()> {
    cannot_renew(Engine::PostgreSql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn with_mariadb_who_cannot_renew_stops_within_the_lease_or_goes_on_as_was_asked() -> Result<()> {
    cannot_renew(Engine::MariaDb).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs packages of Debian's unstable release: make test-mysql"]
async fn with_mysql_who_cannot_renew_stops_within_the_lease_or_goes_on_as_was_asked() -> Result<()> {
    cannot_renew(Engine::MySql).await
}

async fn cannot_renew(engine: Engine) -> Result<()> {
    let stage = Stage::up_with(Options {
        engine,
        ..Options::default()
    })
    .await?;
    let units: Api<Unit> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let fence = json!({"spec": {"onLeaseLoss": "Fence", "leaseDuration": "5s"}});
    units
        .patch("south-1", &PatchParams::default(), &Patch::Merge(&fence))
        .await?;
    stands(&stage, "south-1", LeaseMode::Fence, LeaseState::Held).await?;
    // What was renewed with the longer length is over.
    let leases: Api<Lease> = Api::namespaced(stage.hub.clone(), SYSTEM);
    wait_for(&leases, "shop.south-1", LIMIT, |lease| {
        (lease.spec.as_ref()?.lease_duration_seconds == Some(5)).then_some(())
    })
    .await?;
    stands(&stage, "north-1", LeaseMode::KeepServing, LeaseState::Held).await?;
    let users = shop::load::users(24, "leases");
    let load = stage.load_of(users.clone())?;
    orders(&load, 100).await;

    hub_away(&stage, &load, &users).await?;
    agent_frozen(&stage, &load, &users).await?;
    stands(&stage, "south-1", LeaseMode::Fence, LeaseState::Held).await?;
    orders(&load, 50).await;
    let record = load.stop().await;
    println!("{}", record.summary());
    stage.examine(&record).await
}
