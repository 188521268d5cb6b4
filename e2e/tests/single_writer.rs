//! A store that one unit writes and all read: writes go to the writer's unit from everywhere, reads are answered where they come
//! in, a Promotion moves the writer without an error, and a lost writer is replaced, comes back and is compared.

use anyhow::{Result, ensure};
use multiactive_e2e::catalog::{CATALOG, add, change, database, read};
use multiactive_e2e::http::Http;
use multiactive_e2e::region::Engine;
use multiactive_e2e::stage::{Options, Shop, Stage};
use multiactive_e2e::writer::{answers, begins, is_lost, moves, reads_of_ones_own};
use serde_json::json;

/// Reads are answered where they come in while they are young enough: within the bound south's are its own, then the writer's.
async fn reads_within_a_bound(stage: &Stage) -> Result<()> {
    let http = Http::default();
    let stores: kube::Api<multiactive_api::DataStore> =
        kube::Api::namespaced(stage.hub.clone(), multiactive_e2e::region::NAMESPACE);
    let bound =
        |max_lag: serde_json::Value| kube::api::Patch::Merge(json!({"spec": {"singleWriter": {"maxLag": max_lag}}}));
    let params = kube::api::PatchParams::default();
    stores.patch(CATALOG, &params, &bound(json!("1s"))).await?;
    answers(stage, "south", "south-1", CATALOG, "own").await?;
    let subscription = "SELECT subname FROM pg_subscription WHERE subname LIKE '%catalog_north_1_south_1%'";
    let (south, connection) = database(stage.region("south")?, CATALOG)
        .connect(tokio_postgres::NoTls)
        .await?;
    let connection = tokio::spawn(connection);
    let link: String = south.query_one(subscription, &[]).await?.get(0);
    // A lock that the applier waits for: its link is well and brings nothing.
    south.batch_execute("BEGIN; LOCK TABLE items IN EXCLUSIVE MODE").await?;
    let item = change(&http, &stage.region("north")?.router(), CATALOG, "own").await?;
    answers(stage, "south", "north-1", CATALOG, "own").await?;
    let (seen, _) = read(&http, &stage.region("south")?.router(), CATALOG, "own").await?;
    ensure!(seen.as_ref() == Some(&item), "{seen:?} is older than {item:?}");
    south.batch_execute("ROLLBACK").await?;
    answers(stage, "south", "south-1", CATALOG, "own").await?;
    println!("reads went to the writer while {link} brought nothing, and came back");
    drop(south);
    connection.await??;
    stores.patch(CATALOG, &params, &bound(serde_json::Value::Null)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_unit_writes_and_all_read() -> Result<()> {
    let stage = Stage::up_with(Options::default()).await?;
    add(&stage.install).await?;
    begins(&stage).await?;
    moves(&stage).await?;
    reads_of_ones_own(&stage).await?;
    reads_within_a_bound(&stage).await?;
    is_lost(&stage).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_unit_writes_and_all_read_with_mariadb() -> Result<()> {
    let stage = Stage::up_with(Options {
        engine: Engine::MariaDb,
        shop: Shop::Catalog,
        ..Options::default()
    })
    .await?;
    begins(&stage).await?;
    moves(&stage).await?;
    reads_of_ones_own(&stage).await?;
    is_lost(&stage).await
}
