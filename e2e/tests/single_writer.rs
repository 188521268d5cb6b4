//! A store that one unit writes and all read: writes go to the writer's unit from everywhere, reads are answered where they come
//! in, a Promotion moves the writer without an error, and a lost writer is replaced, comes back and is compared.

use anyhow::{Result, ensure};
use kube::Api;
use multiactive_api::Verification;
use multiactive_e2e::catalog::{CATALOG, add, change, database, read};
use multiactive_e2e::http::Http;
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::region::{Engine, NAMESPACE};
use multiactive_e2e::stage::{LIMIT, Options, Stage};
use multiactive_e2e::verification::verified;
use multiactive_e2e::writer::{self, answers, begins, is_lost, moves, reads_of_ones_own};
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

/// All rows are in one slot: they are compared a range of keys at a time, at the pace that was asked for, and how far that is is
/// told before the slot is done.
async fn in_ranges(stage: &Stage) -> Result<()> {
    const ROWS: i64 = 600;
    let (writer, connection) = database(stage.region("north")?, CATALOG)
        .connect(tokio_postgres::NoTls)
        .await?;
    let connection = tokio::spawn(connection);
    let sql = "INSERT INTO items SELECT 'many-' || n, 1, 'north-1' FROM generate_series(1, $1::int8) n";
    writer.execute(sql, &[&ROWS]).await?;
    drop(writer);
    connection.await??;
    let spec = json!({"stores": [CATALOG], "units": ["south-1"], "maxRowsPerSecond": 100});
    let api: Api<Verification> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let watch = wait_for(&api, "in-ranges", LIMIT, |object| {
        let status = object.status.as_ref()?;
        let within = status.pairs.first()?.found.within.clone()?;
        Some((within, status.compared_slots.clone(), status.rows))
    });
    let (told, ended) = tokio::join!(watch, verified(&stage.hub, "in-ranges", spec, LIMIT));
    let ((within, slots, rows), ended) = (told?, ended?);
    println!("{within:?}, {slots:?} slots and {rows:?} rows; {:?}", ended.message);
    ensure!(
        within.table == "items" && !within.differs && within.key.len() == 1,
        "{within:?}"
    );
    ensure!(
        within.rows >= 100 && rows == Some(within.rows),
        "{within:?} of {rows:?}"
    );
    ensure!(slots.as_deref() == Some("0/1"), "{slots:?}");
    ensure!(
        ended.reason.as_deref() == Some("Equal") && ended.rows >= Some(ROWS),
        "{ended:?}"
    );
    ensure!(ended.pairs.iter().all(|pair| pair.found.within.is_none()), "{ended:?}");
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
    in_ranges(&stage).await?;
    is_lost(&stage).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn one_unit_writes_and_all_read_with_mariadb() -> Result<()> {
    writer::one_unit_writes_and_all_read(Engine::MariaDb).await
}
