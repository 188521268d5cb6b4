//! The operator moves slots in a table in which every slot is a span of its own, as many as a keyspace can have: the
//! table stays below the limit of the ledger, every step can be recorded, and every router routes by it. What would pass
//! the limit is refused before anything is fenced.

use anyhow::{Context, Result, bail, ensure};
use kube::api::PostParams;
use kube::{Api, Client};
use multiactive_api::{Keyspace, PromotionStatus, ROUTING_TABLE, RoutingTable, ShardRange};
use multiactive_core::hash::Function;
use multiactive_core::table::RoutingTable as Owners;
use multiactive_e2e::http::Http;
use multiactive_e2e::kube_ext::{is_ready, wait_for};
use multiactive_e2e::promotion::{create, ended};
use multiactive_e2e::region::{NAMESPACE, Region};
use multiactive_e2e::stage::{LIMIT, Stage};
use serde_json::{Value, json};
use std::ops::Range;

const SLOTS: u16 = 16_384;
const KEYSPACE: &str = "places-0";
/// More keyspaces than fit into a table if each has as many spans as it can.
const TOO_MANY: usize = 12;
/// The largest table that the ledger takes.
const TABLE_MAX: usize = 1 << 20;

/// A Keyspace without a store, all of it at home in one unit.
async fn declare(hub: &Client, name: &str) -> Result<()> {
    let keyspaces: Api<Keyspace> = Api::namespaced(hub.clone(), NAMESPACE);
    let keyspace = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"slots": SLOTS, "routes": [{"pathPrefix": format!("/{name}"), "backend": "shop"}],
            "key": {"sources": [{"type": "Header", "header": {"name": "x-place"}}]}, "function": {"type": "Crc32"}},
    }))?;
    keyspaces.create(&PostParams::default(), &keyspace).await?;
    let ranges: Api<ShardRange> = Api::namespaced(hub.clone(), NAMESPACE);
    let range = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"keyspace": name, "firstSlot": 0, "lastSlot": SLOTS - 1, "homeUnit": "east-1"},
    }))?;
    ranges.create(&PostParams::default(), &range).await?;
    let served = |range: &ShardRange| is_ready(&range.status.as_ref()?.conditions).then_some(());
    wait_for(&ranges, name, LIMIT, served).await
}

/// Every second slot of `slots`, as a Promotion names them.
fn every_second(keyspace: &str, slots: Range<u16>) -> Value {
    let slots: Vec<_> = slots.step_by(2).map(|slot| slot.to_string()).collect();
    json!({"type": "Slots", "slots": {"keyspace": keyspace, "slots": slots.join(",")}})
}

async fn table(hub: &Client) -> Result<(Owners, usize)> {
    let api: Api<RoutingTable> = Api::namespaced(hub.clone(), NAMESPACE);
    let spec = api.get(ROUTING_TABLE).await?.spec;
    let bytes = serde_json::to_vec(&spec)?.len();
    Ok((Owners::try_from(&spec)?, bytes))
}

async fn moved(stage: &Stage, name: &str, target: &str, select: Value) -> Result<PromotionStatus> {
    let status = stage.moved(name, target, select, "None").await?;
    let (_, bytes) = table(&stage.hub).await?;
    println!("{name}: pause {:?}, {bytes} bytes of table", status.pause);
    ensure!(bytes < TABLE_MAX, "{bytes} bytes");
    Ok(status)
}

/// A key of a slot.
fn key_of(slot: u16) -> Result<String> {
    let mut keys = (0..).map(|number: u32| format!("place-{number}"));
    let found = keys.find(|key| Function::Crc32.slot(key.as_bytes(), SLOTS.into()) == slot);
    found.context("no key has the slot")
}

/// What every router says of the owners of some slots.
async fn routed(regions: &[Region], want: &[(u16, &str)]) -> Result<()> {
    let http = Http::default();
    for region in regions {
        for (slot, owner) in want {
            let key = key_of(*slot)?;
            let uri = format!(
                "{}/route?path=/{KEYSPACE}&header=x-place:{key}&method=POST",
                region.router_admin()
            );
            let said: Value = serde_json::from_slice(http.call("GET", &uri).await?.body())?;
            let decision = if region.unit() == *owner { "Serve" } else { "Forward" };
            ensure!(
                said["owner"] == *owner && said["state"] == "Serving" && said["decision"] == decision,
                "{} of slot {slot}, which is {owner}'s: {said}",
                region.name
            );
        }
    }
    Ok(())
}

pub(crate) async fn slots_move_in_a_table_of_16384_spans_and_what_does_not_fit_is_refused(stage: &Stage) -> Result<()> {
    declare(&stage.hub, KEYSPACE).await?;

    // Every second slot: no two neighbours have one owner afterwards.
    moved(stage, "scatter", "north-1", every_second(KEYSPACE, 0..SLOTS)).await?;
    let (scattered, _) = table(&stage.hub).await?;
    let spans = scattered.keyspace(&KEYSPACE.into()).context("no keyspace")?.spans.len();
    ensure!(spans == usize::from(SLOTS), "{spans} spans");
    routed(
        &stage.world.regions,
        &[(0, "north-1"), (1, "east-1"), (16_382, "north-1"), (16_383, "east-1")],
    )
    .await?;

    // Some of them move in that table, one by one and many at once.
    let one = json!({"type": "Slots", "slots": {"keyspace": KEYSPACE, "slots": "8192"}});
    moved(stage, "one", "south-1", one).await?;
    moved(stage, "many", "south-1", every_second(KEYSPACE, 1..2_000)).await?;
    let (after, _) = table(&stage.hub).await?;
    let spans = &after.keyspace(&KEYSPACE.into()).context("no keyspace")?.spans;
    let owner = |slot: u16| match slot {
        8192 => "south-1",
        slot if slot % 2 == 1 && slot < 2_000 => "south-1",
        slot if slot % 2 == 1 => "east-1",
        _ => "north-1",
    };
    ensure!(spans.len() == usize::from(SLOTS), "{} spans", spans.len());
    for span in spans {
        let held = span.owner.as_ref().map(|owner| owner.as_str());
        ensure!(held == Some(owner(span.first)), "{span:?}");
    }
    let want: Vec<_> = [0, 1, 999, 2_001, 8_191, 8_192, 8_193, 16_383]
        .map(|slot| (slot, owner(slot)))
        .into();
    routed(&stage.world.regions, &want).await?;
    what_does_not_fit(stage).await
}

/// Keyspaces are added and scattered in the same way, until the table of one more operation would be too large.
async fn what_does_not_fit(stage: &Stage) -> Result<()> {
    for number in 1..TOO_MANY {
        let name = format!("places-{number}");
        declare(&stage.hub, &name).await?;
        let (before, bytes) = table(&stage.hub).await?;
        let scatter = format!("scatter-{number}");
        create(&stage.hub, &scatter, "north-1", every_second(&name, 0..SLOTS), "None").await?;
        let status = ended(&stage.hub, &scatter, LIMIT).await?;
        println!("{scatter}: {:?}, {bytes} bytes of table before", status.outcome);
        if status.outcome.as_deref() == Some("Succeeded") {
            continue;
        }
        let message = status.message.as_deref().unwrap_or_default();
        ensure!(status.outcome.as_deref() == Some("Refused"), "{status:?}");
        ensure!(status.reason.as_deref() == Some("TableTooLarge"), "{status:?}");
        ensure!(message.contains("bytes, at most"), "{message}");
        // It never began: no step, no slot that was held or fenced, no write of the table.
        ensure!(status.history.is_empty() && status.step.is_none(), "{status:?}");
        ensure!(table(&stage.hub).await?.0 == before, "the table changed");
        return routed(&stage.world.regions, &[(0, "north-1"), (16_383, "east-1")]).await;
    }
    bail!("{TOO_MANY} keyspaces of {SLOTS} spans fit into a table of {TABLE_MAX} bytes")
}
