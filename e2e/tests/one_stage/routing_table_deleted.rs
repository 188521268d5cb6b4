//! Somebody deletes the RoutingTable while orders come in: nothing fails, it comes back with the same owners under a
//! higher term, and slots move as before.

use anyhow::{Context, Result, ensure};
use kube::Api;
use kube::api::DeleteParams;
use multiactive_api::{ROUTING_TABLE, RoutingTable};
use multiactive_core::table::RoutingTable as Owners;
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::region::NAMESPACE;
use multiactive_e2e::stage::{LIMIT, Stage, orders};
use serde_json::json;

/// The owner of each slot.
fn owners(table: &Owners) -> Vec<(u16, Option<String>)> {
    let spans = table.keyspaces.iter().flat_map(|keyspace| &keyspace.spans);
    spans
        .flat_map(|span| (span.first..=span.last).map(|slot| (slot, span.owner.as_ref().map(ToString::to_string))))
        .collect()
}

pub(crate) async fn it_comes_back_above_all_epochs_and_no_request_fails(stage: &Stage) -> Result<()> {
    let load = stage.load(20)?;
    orders(&load, 100).await;
    let before = stage.table().await?;

    let records: Api<RoutingTable> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    records.delete(ROUTING_TABLE, &DeleteParams::default()).await?;
    let back = |table: &RoutingTable| {
        Owners::try_from(&table.spec)
            .ok()
            .filter(|table| table.epoch.term > before.epoch.term)
    };
    let after = wait_for(&records, ROUTING_TABLE, LIMIT, back).await?;
    ensure!(after.epoch > before.epoch, "{:?} after {:?}", after.epoch, before.epoch);
    ensure!(owners(&after) == owners(&before), "{after:?}");
    orders(&load, 100).await;

    // The copy of a member, too.
    let copies: Api<RoutingTable> = Api::namespaced(stage.region("north")?.client().await?, NAMESPACE);
    copies.delete(ROUTING_TABLE, &DeleteParams::default()).await?;
    wait_for(&copies, ROUTING_TABLE, LIMIT, |copy| {
        (copy.spec.term == i64::from(after.epoch.term)).then_some(())
    })
    .await
    .context("the copy in north")?;
    orders(&load, 50).await;

    let all = json!({"type": "Unit", "unit": "north-1"});
    stage.moved("afterwards", "south-1", all, "None").await?;
    orders(&load, 50).await;
    stage.judge(load).await.map(drop)
}
