//! A member's API server stops and starts while orders come in: routing and orders go on, in that member too, and
//! slots move there afterwards.

use anyhow::{Context, Result, ensure};
use multiactive_e2e::stage::{Stage, orders};
use multiactive_fleet::cluster::Part;
use serde_json::json;

pub(crate) async fn orders_go_on_without_it_and_slots_move_there_afterwards(stage: &Stage) -> Result<()> {
    let load = stage.load(20)?;
    orders(&load, 50).await;
    let north = stage.world.clusters.get(1).context("north")?;
    ensure!(north.name() == "north", "{}", north.name());

    north.kill_part(Part::ApiServer).await;
    orders(&load, 200).await;
    stage.until_member("north", false).await?;
    orders(&load, 50).await;
    north.start_part(Part::ApiServer).await?;
    stage.until_member("north", true).await?;

    let all = json!({"type": "Unit", "unit": "east-1"});
    stage.moved("to-north", "north-1", all, "Full").await?;
    orders(&load, 50).await;
    stage.judge(load).await.map(drop)
}
