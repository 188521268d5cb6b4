//! Promotions to a unit whose service, agent or database is away, on a running shop: each is refused with a reason that
//! names what is wrong, no write is held for it, no order fails, and the same slots move once all is well. One whose
//! database dies while writes are held ends the promotion, and no order fails by that either.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use multiactive_api::{DataStore, ROUTING_TABLE, RoutingTable, UnitWorkload, WorkloadState};
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::promotion::{create, ended};
use multiactive_e2e::region::{NAMESPACE, SYSTEM};
use multiactive_e2e::stage::{LIMIT, Stage, orders};
use serde_json::{Value, json};
use shop::load::Load;
use std::time::Duration;
use tokio::time::interval;
use tokio_postgres::NoTls;

fn range() -> Value {
    json!({"type": "Ranges", "ranges": ["users-0"]})
}

/// A Promotion of users-0 to north-1 ends without having held a write, and says one of `causes`.
async fn refused(stage: &Stage, load: &Load, name: &str, causes: &[&str]) -> Result<()> {
    let before = stage.table().await?;
    create(&stage.hub, name, "north-1", range(), "None").await?;
    let status = ended(&stage.hub, name, LIMIT).await?;
    let (reason, message) = (
        status.reason.clone().unwrap_or_default(),
        status.message.clone().unwrap_or_default(),
    );
    println!("{name}: {reason}: {message}");
    ensure!(status.outcome.as_deref() == Some("Refused"), "{status:?}");
    ensure!(
        message.contains("north-1") && causes.iter().any(|cause| message.contains(cause)),
        "{name}: the message names none of {causes:?}: {status:?}"
    );
    ensure!(status.pause.is_none(), "writes were held: {status:?}");
    let after = stage.table().await?;
    ensure!(after.operations.is_empty(), "{after:?}");
    let owners = |table: &multiactive_core::table::RoutingTable| table.owned_by(&"east-1".into());
    ensure!(owners(&after) == owners(&before), "slots moved: {after:?}");
    orders(load, 30).await;
    Ok(())
}

/// The service of north-1 answers its probe with an error.
async fn without_its_service(stage: &Stage, load: &Load) -> Result<()> {
    let workloads: Api<UnitWorkload> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let probe = "/spec/patches/1/merge/spec/template/spec/containers/0/readinessProbe/httpGet/path";
    let patch = json!([{"op": "add", "path": probe, "value": "/no-such-page"}]).to_string();
    let args = [
        "-n",
        NAMESPACE,
        "patch",
        "unitworkload",
        "shop",
        "--type=json",
        "--patch",
        &patch,
    ];
    stage.install.kubectl(stage.install.hub()?, &args).await?;
    wait_for(&workloads, "shop", LIMIT, |workload| {
        let units = &workload.status.as_ref()?.units;
        let north = units.iter().find(|entry| entry.unit == "north-1")?;
        (north.state != WorkloadState::Ready).then_some(())
    })
    .await?;
    refused(stage, load, "without-its-service", &["UnitWorkload shop"]).await?;
    stage.install.shop().await?;
    stage.install.ready(|_| {}).await
}

/// So many pods of the agent in north.
async fn agents(stage: &Stage, count: usize) -> Result<()> {
    let client = stage.region("north")?.client().await?;
    let api: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
    let patch = Patch::Merge(json!({"spec": {"replicas": count}}));
    api.patch("multiactive-agent", &PatchParams::default(), &patch).await?;
    let pods: Api<Pod> = Api::namespaced(client, SYSTEM);
    let of_agent = ListParams::default().labels("app.kubernetes.io/component=agent");
    let mut tick = interval(Duration::from_millis(100));
    let settled = async {
        while pods.list(&of_agent).await?.items.len() != count {
            tick.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, settled)
        .await
        .with_context(|| format!("{count} agents in north"))?
}

/// The agent of north is not there: what it said last is all that is known, until it is asked for more.
async fn without_its_agent(stage: &Stage, load: &Load) -> Result<()> {
    agents(stage, 0).await?;
    refused(
        stage,
        load,
        "without-its-agent",
        &["has not reported", "behind", "agent"],
    )
    .await?;
    agents(stage, 1).await?;
    stage.install.ready(|_| {}).await
}

/// The database of north is not there.
async fn without_its_database(stage: &Stage, load: &Load) -> Result<()> {
    let database = stage.world.databases.get(1).context("north")?;
    database.kill_9().await;
    let stores: Api<DataStore> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    wait_for(&stores, "orders", LIMIT, |store| {
        let conditions = &store.status.as_ref()?.conditions;
        let mut ready = conditions.iter().filter(|condition| condition.type_ == "Ready");
        ready.any(|condition| condition.status == "False").then_some(())
    })
    .await?;
    refused(stage, load, "without-its-database", &["store orders"]).await?;
    // It is nobody's target here: it holds up no move between others, and has the rows once it is back.
    let status = stage.moved("past-it", "south-1", range(), "None").await?;
    ensure!(status.behind == ["north-1"], "{status:?}");
    orders(load, 30).await;
    database.restart().await?;
    stage.install.ready(|_| {}).await?;
    stage.moved("and-back", "east-1", range(), "Full").await.map(drop)
}

/// The database of north dies while writes are held for it, and stays away: that ends the promotion long before its budget.
async fn dies_while_writes_are_held(stage: &Stage, load: &Load) -> Result<()> {
    let database = stage.world.databases.get(1).context("north")?;
    let (session, connection) = stage.region("north")?.database().connect(NoTls).await?;
    tokio::spawn(connection);
    // Nothing is applied there, so the target cannot follow.
    session.batch_execute("BEGIN; LOCK TABLE orders IN SHARE MODE").await?;
    let name = "dies-while-writes-are-held";
    create(&stage.hub, name, "north-1", range(), "None").await?;
    let tables: Api<RoutingTable> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    wait_for(&tables, ROUTING_TABLE, LIMIT, |table| {
        let mut operations = table.spec.operations.iter();
        operations.any(|op| op.name == name && op.step == "Drain").then_some(())
    })
    .await?;
    database.kill_9().await;
    let status = ended(&stage.hub, name, LIMIT).await?;
    let message = status.message.clone().unwrap_or_default();
    println!("{name}: {:?}: {message}", status.reason);
    ensure!(status.outcome.as_deref() == Some("Aborted"), "{status:?}");
    ensure!(status.reason.as_deref() == Some("TargetNotReady"), "{status:?}");
    ensure!(
        message.contains("north-1 is not ready") && message.contains("store orders"),
        "{status:?}"
    );
    // The slots are served where they were.
    orders(load, 30).await;
    database.restart().await?;
    stage.install.ready(|_| {}).await
}

pub(crate) async fn a_promotion_to_it_is_refused_with_the_cause_and_no_order_fails(stage: &Stage) -> Result<()> {
    let load = stage.load(20)?;
    orders(&load, 50).await;
    // It owns nothing, so that what is away serves nobody.
    let all = json!({"type": "Unit", "unit": "north-1"});
    stage.moved("empty-north", "south-1", all, "None").await?;
    orders(&load, 50).await;

    without_its_service(stage, &load).await?;
    without_its_agent(stage, &load).await?;
    without_its_database(stage, &load).await?;

    dies_while_writes_are_held(stage, &load).await?;

    stage.moved("once-all-is-well", "north-1", range(), "Full").await?;
    orders(&load, 50).await;
    stage.judge(load).await.map(drop)
}
