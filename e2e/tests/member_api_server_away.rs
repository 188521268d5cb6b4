//! A member's API server stops and starts while orders come in: routing and orders go on, in that member too, and
//! slots move there afterwards.

use anyhow::{Context, Result, ensure};
use kube::Api;
use multiactive_api::MemberCluster;
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::stage::{LIMIT, Stage, orders};
use multiactive_fleet::cluster::Part;
use serde_json::json;

/// Waits until the MemberCluster north is Ready, or not.
async fn until_north(stage: &Stage, ready: &str) -> Result<()> {
    let members: Api<MemberCluster> = Api::all(stage.hub.clone());
    wait_for(&members, "north", LIMIT, |member| {
        let mut conditions = member.status.as_ref()?.conditions.iter();
        conditions
            .find(|condition| condition.type_ == "Ready" && condition.status == ready)
            .map(drop)
    })
    .await
    .with_context(|| format!("north is Ready={ready}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_go_on_without_it_and_slots_move_there_afterwards() -> Result<()> {
    let stage = Stage::up().await?;
    let load = stage.load(20)?;
    orders(&load, 50).await;
    let north = stage.world.clusters.get(1).context("north")?;
    ensure!(north.name() == "north", "{}", north.name());

    north.kill_part(Part::ApiServer).await;
    orders(&load, 200).await;
    until_north(&stage, "False").await?;
    orders(&load, 50).await;
    north.start_part(Part::ApiServer).await?;
    until_north(&stage, "True").await?;

    let all = json!({"type": "Unit", "unit": "east-1"});
    stage.moved("to-north", "north-1", all, "Full").await?;
    orders(&load, 50).await;
    stage.judge(load).await.map(drop)
}
