//! The password of an agent is changed at a database in the middle of a promotion, under load, and its Secret follows only later:
//! the promotion says which store of which unit lets nobody in and which Secret to change, and ends as soon as that is done; or it
//! ends by itself with the same words, and the slots stay where they were. No order is lost, and no slot is open twice.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use multiactive_api::{Promotion, PromotionStatus};
use multiactive_e2e::databases::{password, run};
use multiactive_e2e::held_up::stuck_at_the_fence;
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::open_slots::OpenSlots;
use multiactive_e2e::promotion::ended;
use multiactive_e2e::region::NAMESPACE;
use multiactive_e2e::stage::{LIMIT, Options, Stage, orders};
use serde_json::json;
use shop::load::Load;

/// The agent's password at a region's database is another one from now on, and its sessions are ended.
async fn rotated(stage: &Stage, region: &str) -> Result<String> {
    let new = password()?;
    let sql = format!(
        "ALTER ROLE multiactive_agent PASSWORD '{new}';
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE usename = 'multiactive_agent' AND backend_type = 'client backend'"
    );
    run(&stage.region(region)?.database(), &sql).await?;
    Ok(new)
}

/// The Secret says it, too.
async fn is_told(stage: &Stage, region: &str, password: &str) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(stage.region(region)?.client().await?, NAMESPACE);
    let patch = Patch::Merge(json!({"stringData": {"password": password}}));
    secrets.patch("shop-db", &PatchParams::default(), &patch).await?;
    Ok(())
}

/// What is said of a unit whose store lets nobody in.
fn names_it(text: &str, unit: &str) -> bool {
    let words = [
        unit,
        "store orders",
        "password authentication failed",
        "into Secret shop-db",
    ];
    words.iter().all(|word| text.contains(word))
}

/// Moves users-0 to north while the password changes at `region`, whose Secret is told it once the promotion waits for that, or
/// once it has ended.
async fn moves(stage: &Stage, name: &str, region: &str, late: bool) -> Result<PromotionStatus> {
    let mut new = String::new();
    let rotates = async || {
        new = rotated(stage, region).await?;
        Ok(())
    };
    stuck_at_the_fence(stage, name, rotates).await?;
    let unit = stage.region(region)?.unit();
    let promotions: Api<Promotion> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let waits = wait_for(&promotions, name, LIMIT, |promotion| {
        let status = promotion.status.as_ref()?;
        let waits = status.waiting_for.clone().filter(|waits| names_it(waits, &unit));
        (waits.is_some() || status.outcome.is_some()).then_some(waits)
    });
    let waits = waits.await?;
    let waits = waits.with_context(|| format!("{name} has ended and did not say what it waited for"))?;
    println!("{name} waits for {waits}");
    if !late {
        is_told(stage, region, &new).await?;
    }
    let status = ended(&stage.hub, name, LIMIT).await?;
    println!("{name}: {:?} {:?}: {:?}", status.outcome, status.reason, status.message);
    if late {
        let message = status.message.as_deref().unwrap_or_default();
        ensure!(status.outcome.as_deref() == Some("Aborted"), "{status:?}");
        ensure!(names_it(message, &unit), "{name}: it says what to do: {message}");
        is_told(stage, region, &new).await?;
    }
    let table = stage.table().await?;
    ensure!(table.operations.is_empty(), "{table:?}");
    stage.install.ready(|_| {}).await?;
    Ok(status)
}

/// Whoever had moved goes home.
async fn goes_home(stage: &Stage, name: &str, status: &PromotionStatus) -> Result<()> {
    match status.outcome.as_deref() {
        Some("Succeeded") => {
            let range = json!({"type": "Ranges", "ranges": ["users-0"]});
            stage.moved(name, "east-1", range, "Full").await.map(drop)
        }
        // On a slow machine the Secret may come too late.
        Some("Aborted") => Ok(()),
        _ => anyhow::bail!("it neither moved nor was given up: {status:?}"),
    }
}

/// None of these orders failed.
async fn nobody_notices(load: &Load, when: &str) -> Result<()> {
    orders(load, 50).await;
    let record = load.record().await;
    let failed = record.attempts.iter().find(|attempt| attempt.order.is_none());
    ensure!(failed.is_none(), "{when}: {failed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_waits_for_the_secret_or_ends_in_words_and_no_order_is_lost() -> Result<()> {
    let stage = Stage::up_with(Options::default()).await?;
    // North owns nothing: without its database nobody could write there once its lease is over.
    let all = json!({"type": "Unit", "unit": "north-1"});
    stage.moved("empty-north", "south-1", all, "None").await?;
    let users = shop::load::users(24, "rotated");
    let of_east = stage.users_of(&users, "east-1").await?;
    let load = stage.load_of(users)?;
    let open = OpenSlots::watch(&stage.world.regions);
    orders(&load, 100).await;

    moves(&stage, "target-late", "north", true).await?;
    nobody_notices(&load, "the target's Secret came late").await?;
    let status = moves(&stage, "target", "north", false).await?;
    nobody_notices(&load, "the target's Secret came in time").await?;
    goes_home(&stage, "target-back", &status).await?;
    let status = moves(&stage, "source", "east", false).await?;
    nobody_notices(&load, "the source's Secret came in time").await?;
    goes_home(&stage, "source-back", &status).await?;
    // The lease of the source's database is over by then, so it takes no writes before its agent is let in.
    moves(&stage, "source-late", "east", true).await?;

    stage
        .moved(
            "at-last",
            "north-1",
            json!({"type": "Ranges", "ranges": ["users-0"]}),
            "Full",
        )
        .await?;
    orders(&load, 50).await;
    let record = load.stop().await;
    println!("{}", record.summary());
    let mut failed = record.attempts.iter().filter(|attempt| attempt.order.is_none());
    let stranger = failed.find(|attempt| !of_east.contains(&attempt.user));
    ensure!(stranger.is_none(), "an order of another unit failed: {stranger:?}");
    let seen = open.stop().await.context("looking at the databases")?;
    println!("looked {} times", seen.times);
    ensure!(seen.times > 0 && seen.twice.is_empty(), "{seen:?}");
    stage.examine(&record).await
}
