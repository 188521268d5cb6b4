//! A whole region is gone, its database too, and slots move between the two others all the same: the Promotion says who
//! is behind, nobody's orders fail but those of the lost region, and when that returns it gets everything, in the right
//! order, and can take over.

use anyhow::{Context, Result, ensure};
use kube::Api;
use multiactive_api::ReplicationLink;
use multiactive_e2e::kube_ext::{is_ready, wait_for};
use multiactive_e2e::processes::kill_9;
use multiactive_e2e::region::{NAMESPACE, Region};
use multiactive_e2e::stage::{LIMIT, Stage, THINK, orders};
use multiactive_fleet::cluster::Part;
use serde_json::json;
use shop::load::{Attempt, Load, LoadOptions};

pub(crate) async fn slots_move_past_a_lost_region_which_gets_all_of_it_when_it_returns(stage: &Stage) -> Result<()> {
    let (cluster, database) = (&stage.world.clusters[2], &stage.world.databases[2]);
    ensure!(cluster.name() == "south", "{}", cluster.name());
    let living = ["east", "north"].map(|name| stage.region(name).map(Region::router));
    let load = Load::start(LoadOptions {
        routers: living.into_iter().collect::<Result<_>>()?,
        users: shop::load::users(24, "away"),
        think: THINK,
    })?;
    orders(&load, 100).await;

    // The region is lost in the middle of its orders.
    let before = stage.table().await?;
    cluster.kill_part(Part::ApiServer).await;
    database.kill_9().await;
    kill_9("multiactive-agent", "south")?;
    kill_9("multiactive-router", "south-1")?;
    stage.until_member("south", false).await?;

    let all = json!({"type": "Unit", "unit": "east-1"});
    let status = stage.moved("past-south", "north-1", all, "Full").await?;
    println!(
        "behind {:?}, pause {:?}: {:?}",
        status.behind, status.pause, status.message
    );
    ensure!(status.behind == ["south-1"], "{status:?}");
    let told = status.message.as_deref().unwrap_or_default();
    ensure!(told.contains("south-1"), "{told}");
    orders(&load, 100).await;

    // It returns, and has it all.
    database.restart().await?;
    cluster.start_part(Part::ApiServer).await?;
    stage.until_member("south", true).await?;
    let links: Api<ReplicationLink> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    for from in ["east-1", "north-1"] {
        let running = |link: &ReplicationLink| is_ready(&link.status.as_ref()?.conditions).then_some(());
        wait_for(&links, &format!("orders-{from}-south-1"), LIMIT, running).await?;
    }
    stage.install.ready(|_| {}).await?;
    orders(&load, 100).await;
    let all = json!({"type": "Unit", "unit": "north-1"});
    let status = stage.moved("to-south", "south-1", all, "Full").await?;
    ensure!(status.behind.is_empty(), "{status:?}");
    orders(&load, 100).await;

    let record = load.stop().await;
    println!("{}", record.summary());
    let users = before.keyspace(&"users".into()).context("keyspace users")?;
    let lost = |attempt: &&Attempt| {
        let slot = multiactive_core::hash::Function::Crc32.slot(attempt.user.as_bytes(), users.slots);
        users
            .span_of(slot)
            .is_some_and(|span| span.is_owned_by(&"south-1".into()))
    };
    let failed = || record.attempts.iter().filter(|attempt| attempt.order.is_none());
    let others: Vec<_> = failed().filter(|attempt| !lost(attempt)).take(3).collect();
    ensure!(others.is_empty(), "orders of living regions failed: {others:?}");
    println!("{} orders of the lost region failed", failed().count());
    ensure!(failed().count() > 0, "the region was not lost");
    stage.examine(&record).await
}
