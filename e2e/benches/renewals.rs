//! What the write leases of many units cost a hub: each is renewed on time, as agents do, while a watch follows all of them, as the
//! operator's does. Then as many renewals as the API server takes, in turns with a client that writes plain Lease objects, as any
//! leader election does.
//!
//! `cargo bench --workspace --bench renewals -- [rounds=20]`: rounds are of renewals of each unit.

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::runtime::watcher;
use kube::{Api, Client};
use multiactive_core::epoch::Epoch;
use multiactive_core::lease::{DEFAULT, Lease, Terms};
use multiactive_e2e::bench::figures::{Sample, fact, ratio};
use multiactive_e2e::bench::usage::cpu_seconds;
use multiactive_e2e::bench::{Arguments, run};
use multiactive_fleet::Cluster;
use multiactive_fleet::cluster::{Options, Part};
use multiactive_ledger::{Commit, KubernetesLeases, LeaseLedger, Version};
use serde_json::json;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const UNITS: usize = 1000;
const ROUNDS: usize = 20;
const NAMESPACE: &str = "leases";
/// How many writes are under way at once where as many as possible are counted.
const AT_ONCE: usize = 32;
/// How many rounds of as many as possible, of each side.
const RUNS: usize = 5;
const LIMIT: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    run(measure)
}

/// A unit, as its agent remembers its lease.
struct Holder {
    lease: Lease,
    version: Version,
}

async fn measure(arguments: Arguments) -> Result<()> {
    let rounds = arguments.rounds.unwrap_or(ROUNDS);
    let cluster = Cluster::start(Options::api_server_only("hub")).await?;
    let client = cluster.client().await?;
    let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace).await?;
    let ledger = KubernetesLeases::new(client.clone(), NAMESPACE);
    let mut holders = granted(&ledger).await?;

    let seen = AtomicU64::new(0);
    let follows = follow(client.clone(), &seen);
    let renews = async {
        on_time(&cluster, &ledger, &mut holders, rounds).await?;
        let (mut ours, mut plain) = (Sample::new(), Sample::new());
        let mut objects = bare(&client).await?;
        for _ in 0..RUNS {
            ours.add(as_many(holders.iter_mut().map(|holder| renew(&ledger, holder))).await?);
            plain.add(as_many(objects.iter_mut().map(|object| replace(&client, object))).await?);
        }
        Sample::head(&format!("{UNITS} writes, {AT_ONCE} at once, {RUNS} times each"));
        ours.line("renewals", "");
        plain.line("plain Lease objects", "");
        let (mine, theirs) = (ours.quantile(0.5), plain.quantile(0.5));
        fact(
            "renewals to plain Leases",
            ratio(mine, theirs),
            "1.00 is what any leader election pays",
        );
        let terms = Terms::new(DEFAULT)?;
        let whole = terms.renew_every().as_secs_f64() * 1000.0;
        fact(
            "of the time between two renewals",
            ratio(mine, Some(whole)),
            "target < 1: else a hub cannot keep up",
        );
        Ok(())
    };
    tokio::select! {
        done = renews => done,
        ended = follows => ended,
    }
}

/// A lease for each unit.
async fn granted(ledger: &KubernetesLeases) -> Result<Vec<Holder>> {
    let units: Vec<String> = (0..UNITS).map(|number| format!("unit-{number}")).collect();
    let grant = |unit: String| async move {
        let mut lease = Lease::first(unit.as_str().into(), Epoch::new(1, 1));
        lease
            .positions
            .insert("orders".into(), format!("{unit}/7520000000000000001@16789012"));
        let version = write(ledger, None, &lease).await?;
        anyhow::Ok(Holder { lease, version })
    };
    futures::stream::iter(units)
        .map(grant)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn write(ledger: &KubernetesLeases, expected: Option<&Version>, lease: &Lease) -> Result<Version> {
    match ledger.write("shop", expected, lease, DEFAULT, LIMIT).await {
        Commit::Committed(version) => Ok(*version),
        other @ (Commit::Conflict | Commit::Refused(_) | Commit::Unknown(_)) => {
            bail!("the lease of {} was not written: {other:?}", lease.unit)
        }
    }
}

async fn renew(ledger: &KubernetesLeases, holder: &mut Holder) -> Result<()> {
    let positions = holder.lease.positions.clone();
    holder.lease = holder
        .lease
        .renewed(&holder.lease.unit, positions, Some(SignedDuration::from_secs(2)))?;
    holder.version = write(ledger, Some(&holder.version), &holder.lease).await?;
    Ok(())
}

/// Each unit renews at its own time, as agents do that know nothing of each other.
async fn on_time(cluster: &Cluster, ledger: &KubernetesLeases, holders: &mut [Holder], rounds: usize) -> Result<()> {
    let every = Duration::try_from(Terms::new(DEFAULT)?.renew_every())?;
    let (before, began) = (used(cluster)?, Instant::now());
    let each = holders.iter_mut().enumerate().map(|(number, holder)| async move {
        let share = u32::try_from(number)? * every / u32::try_from(UNITS)?;
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + share, every);
        let mut sample = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            tick.tick().await;
            let asked = Instant::now();
            renew(ledger, holder).await?;
            sample.push(asked.elapsed());
        }
        anyhow::Ok(sample)
    });
    let times: Sample = try_join_all(each).await?.into_iter().flatten().collect();
    let (took, used) = (began.elapsed().as_secs_f64(), used(cluster)? - before);
    let count = times.len() as f64;
    Sample::head(&format!("{UNITS} units renew every {every:?}, {rounds} times"));
    times.line("a renewal", "the patience is 3 s");
    fact(
        "renewals a second",
        format!("{:.0}", count / took),
        "as many as must be",
    );
    fact("CPU of API server and etcd", format!("{:.2}", used / took), "cores");
    fact(
        "CPU of them for a renewal",
        format!("{:.2}", used / count * 1000.0),
        "ms",
    );
    Ok(())
}

/// CPU seconds of API server and etcd.
fn used(cluster: &Cluster) -> Result<f64> {
    [Part::ApiServer, Part::Etcd]
        .into_iter()
        .map(|part| cpu_seconds(cluster.pid(part).context("it does not run")?))
        .sum()
}

/// All of these, so many at once; how long that took together.
async fn as_many<F: Future<Output = Result<()>>>(writes: impl Iterator<Item = F>) -> Result<Duration> {
    let began = Instant::now();
    let mut under_way = futures::stream::iter(writes).buffer_unordered(AT_ONCE);
    while under_way.try_next().await?.is_some() {}
    Ok(began.elapsed())
}

/// Lease objects of nobody.
async fn bare(client: &Client) -> Result<Vec<LeaseObject>> {
    let api: &Api<LeaseObject> = &Api::namespaced(client.clone(), NAMESPACE);
    let make = |number: usize| async move {
        let object = serde_json::from_value(json!({
            "metadata": {"name": format!("bare-{number}")},
            "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 10},
        }))?;
        anyhow::Ok(api.create(&PostParams::default(), &object).await?)
    };
    futures::stream::iter(0..UNITS)
        .map(make)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Writes one again, renewed, over itself.
async fn replace(client: &Client, object: &mut LeaseObject) -> Result<()> {
    let api: Api<LeaseObject> = Api::namespaced(client.clone(), NAMESPACE);
    let name = object.metadata.name.clone().context("a name")?;
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(jiff::Timestamp::now());
    object.spec.get_or_insert_default().renew_time = Some(now);
    *object = api.replace(&name, &PostParams::default(), object).await?;
    Ok(())
}

/// Follows all leases until it fails.
async fn follow(client: Client, seen: &AtomicU64) -> Result<()> {
    let api: Api<LeaseObject> = Api::namespaced(client, NAMESPACE);
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        event?;
        seen.fetch_add(1, Ordering::Relaxed);
    }
    bail!("the watch has ended after {} events", seen.load(Ordering::Relaxed))
}
