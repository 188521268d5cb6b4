//! A store that every unit writes: what two write at the same time stops nothing, is settled alike everywhere by the store's
//! `conflict`, and is listed; a region that is lost takes part in nothing of its own, and what it wrote comes when it is back.

use anyhow::{Context, Result, ensure};
use kube::Api;
use kube::api::{Patch, PatchParams};
use multiactive_api::{DataStore, DataStoreStatus, Verification};
use multiactive_e2e::catalog::{PROFILES, add_all, database};
use multiactive_e2e::databases::run;
use multiactive_e2e::kube_ext::{is_ready, wait_for};
use multiactive_e2e::region::NAMESPACE;
use multiactive_e2e::stage::{LIMIT, Options, REGIONS, Stage};
use multiactive_e2e::story::{self, Loss};
use multiactive_e2e::verification::verified;
use serde_json::{Value, json};
use tokio_postgres::NoTls;

fn stores(stage: &Stage) -> Api<DataStore> {
    Api::namespaced(stage.hub.clone(), NAMESPACE)
}

/// The store's status, once it is as wanted.
async fn until(stage: &Stage, wanted: impl Fn(&DataStoreStatus) -> bool) -> Result<DataStoreStatus> {
    let api = stores(stage);
    let found = wait_for(&api, PROFILES, LIMIT, |store| {
        store
            .status
            .clone()
            .filter(|status| is_ready(&status.conditions) && wanted(status))
    });
    found.await.context("the store of the profiles")
}

async fn change(stage: &Stage, spec: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": spec}));
    stores(stage).patch(PROFILES, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Adds the store, which is settled when a test asks for it.
async fn add(stage: &Stage) -> Result<()> {
    add_all(&stage.install, &[PROFILES], "examples/shop/profiles").await?;
    change(stage, json!({"verification": {"suspend": true}})).await?;
    until(stage, |_| true).await.map(drop)
}

/// What a service does in one region: every customer changes his name, at about the same time as in the others.
async fn write(stage: &Stage, region: &str, round: usize) -> Result<()> {
    let sql = format!(
        "DO $$ BEGIN
             FOR n IN 1..40 LOOP
                 INSERT INTO profiles VALUES ('user-' || n, '{region} {round}', clock_timestamp())
                 ON CONFLICT (user_id) DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at;
                 COMMIT;
             END LOOP;
         END $$"
    );
    run(&database(stage.region(region)?, PROFILES), &sql)
        .await
        .with_context(|| format!("writing in {region}"))
}

/// The one number that a query in a region's database gives.
async fn number(stage: &Stage, region: &str, sql: &str) -> Result<i64> {
    let (client, connection) = database(stage.region(region)?, PROFILES).connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let number = client.query_one(sql, &[]).await?.get(0);
    drop(client);
    connection.await??;
    Ok(number)
}

/// The profiles of each region, in order.
async fn profiles(stage: &Stage) -> Result<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for region in REGIONS {
        let (client, connection) = database(stage.region(region)?, PROFILES).connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        let rows = client
            .query("SELECT p::text FROM profiles p ORDER BY user_id", &[])
            .await?;
        drop(client);
        connection.await??;
        all.push(rows.iter().map(|row| row.get(0)).collect());
    }
    Ok(all)
}

/// In how many rows two regions are not the same.
fn differ(all: &[Vec<String>]) -> usize {
    let [first, others @ ..] = all else { return 0 };
    let unlike = |other: &Vec<String>| {
        let pairs = first.iter().zip(other);
        pairs.filter(|(one, other)| one != other).count() + first.len().abs_diff(other.len())
    };
    others.iter().map(unlike).sum()
}

/// All regions write the same rows until some of them differ.
async fn conflicts(stage: &Stage) -> Result<usize> {
    for round in 0..20 {
        let (east, north, south) = tokio::join!(
            write(stage, "east", round),
            write(stage, "north", round),
            write(stage, "south", round)
        );
        east.and(north).and(south)?;
        settles(stage).await?;
        let found = differ(&profiles(stage).await?);
        if found > 0 {
            return Ok(found);
        }
    }
    anyhow::bail!("three regions wrote the same rows at the same time, and none of them differs")
}

/// Waits until each region has got what the others have written: a row of each, written last.
async fn settles(stage: &Stage) -> Result<()> {
    let count = "SELECT count(*) FROM profiles WHERE user_id LIKE 'last-%'";
    let before = number(stage, "east", count).await?;
    for region in REGIONS {
        let sql = format!("INSERT INTO profiles VALUES ('last-{region}-{before}', '', clock_timestamp())");
        run(&database(stage.region(region)?, PROFILES), &sql).await?;
    }
    let began = tokio::time::Instant::now();
    for region in REGIONS {
        while number(stage, region, count).await? < before + 3 {
            ensure!(began.elapsed() < LIMIT, "{region} does not get what others write");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// A Verification settles what differs, everywhere alike, and lists it.
async fn settled(stage: &Stage, name: &str) -> Result<()> {
    let status = verified(&stage.hub, name, json!({"stores": [PROFILES]}), LIMIT).await?;
    println!("{name}: {:?} {:?}: {:?}", status.outcome, status.reason, status.message);
    ensure!(status.outcome.as_deref() == Some("Succeeded"), "{status:?}");
    ensure!(status.pairs.len() == 6, "each with each other: {status:?}");
    let all = profiles(stage).await?;
    ensure!(differ(&all) == 0, "{} rows differ: {all:?}", differ(&all));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_units_write_at_the_same_time_is_settled_alike_everywhere() -> Result<()> {
    let stage = Stage::up_with(Options::default()).await?;
    add(&stage).await?;
    let found = conflicts(&stage).await?;
    println!("{found} rows differed");
    settled(&stage, "settles").await?;
    let listed = until(&stage, |status| status.conflicts.is_some_and(|known| known.settled > 0)).await?;
    let counts = listed.conflicts.context("counts")?;
    ensure!(counts.open == 0, "{counts:?}");
    let mut sum = 0;
    for region in REGIONS {
        sum += number(&stage, region, "SELECT count(*) FROM multiactive.conflict WHERE taken").await?;
    }
    println!("{sum} rows are listed: {counts:?}");
    ensure!(sum > 0, "what was replaced is listed");
    // Somebody has to say who is right.
    change(&stage, json!({"conflict": "Report"})).await?;
    until(&stage, |_| true).await?;
    conflicts(&stage).await?;
    let status = verified(&stage.hub, "reports", json!({"stores": [PROFILES]}), LIMIT).await?;
    println!("reports: {:?} {:?}", status.reason, status.message);
    ensure!(
        (status.outcome.as_deref(), status.reason.as_deref()) == (Some("Failed"), Some("RowsDiffer")),
        "{status:?}"
    );
    until(&stage, |status| status.conflicts.is_some_and(|known| known.open > 0)).await?;
    ensure!(differ(&profiles(&stage).await?) > 0, "nothing was changed");
    // The owner of each slot is, and nobody has to say so twice: the schedule does the rest.
    change(
        &stage,
        json!({"conflict": "OwnerWins", "verification": {"suspend": false, "schedule": "* * * * *"}}),
    )
    .await?;
    let verifications: Api<Verification> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let done = until(&stage, |status| status.conflicts.is_some_and(|known| known.open == 0)).await?;
    let made = done
        .verification
        .and_then(|known| known.last)
        .context("one that was made")?;
    let ended = wait_for(&verifications, &made, LIMIT, |object| {
        object.status.clone().filter(|status| status.outcome.is_some())
    });
    let ended = ended.await?;
    println!("{made}: {:?} {:?}", ended.reason, ended.message);
    ensure!(ended.outcome.as_deref() == Some("Succeeded"), "{ended:?}");
    let all = profiles(&stage).await?;
    ensure!(differ(&all) == 0, "{all:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn a_region_that_is_lost_and_comes_back_brings_what_it_wrote() -> Result<()> {
    let stage = Stage::up_with(Options::default()).await?;
    add(&stage).await?;
    conflicts(&stage).await?;
    story::a_region_is_lost(&stage, Loss::KilledUnheard).await?;
    settles(&stage).await?;
    settled(&stage, "after-it-is-back").await
}
