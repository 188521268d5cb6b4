//! An agent is locked out by a database in the middle of a promotion, under load, and a person mends it only later: because its
//! password was changed there and not in its Secret, or because the server's certificate has expired.

use crate::databases::{password, run};
use crate::held_up::stuck_at_the_fence;
use crate::kube_ext::wait_for;
use crate::open_slots::OpenSlots;
use crate::promotion::ended;
use crate::region::NAMESPACE;
use crate::stage::{LIMIT, Stage, orders};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use multiactive_api::{Promotion, PromotionStatus};
use serde_json::json;
use shop::load::Load;
use std::time::{Duration, SystemTime};

/// By what an agent is locked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockedOut {
    /// Its password is another one, and its Secret does not say so: of PostgreSQL.
    ByPassword,
    /// The server's certificate is good no more: where sessions are encrypted.
    ByCertificate,
}

/// What a person has in hand who mends it.
struct Remedy(Option<String>);

impl LockedOut {
    /// From now on nobody of the agent comes in, and who is in has to go.
    async fn begins(self, stage: &Stage, region: &str) -> Result<Remedy> {
        match self {
            Self::ByPassword => {
                let new = password()?;
                let database = stage.region(region)?.database();
                // Committed first: whoever is ended comes back at once, and must not come in by what was the password until then.
                run(&database, &format!("ALTER ROLE multiactive_agent PASSWORD '{new}'")).await?;
                let ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                             WHERE usename = 'multiactive_agent' AND backend_type = 'client backend'";
                run(&database, ends).await?;
                Ok(Remedy(Some(new)))
            }
            Self::ByCertificate => {
                let expired = SystemTime::now() - Duration::from_secs(60);
                stage.world.proves(region, Some(expired)).await?;
                Ok(Remedy(None))
            }
        }
    }

    /// A person mends it.
    async fn ends(self, stage: &Stage, region: &str, Remedy(remedy): Remedy) -> Result<()> {
        match self {
            Self::ByPassword => {
                let secrets: Api<Secret> = Api::namespaced(stage.region(region)?.client().await?, NAMESPACE);
                let patch = Patch::Merge(json!({"stringData": {"password": remedy}}));
                secrets.patch("shop-db", &PatchParams::default(), &patch).await?;
                Ok(())
            }
            Self::ByCertificate => stage.world.proves(region, None).await,
        }
    }

    /// Whether that is said of a unit whose store lets nobody in, and what to do.
    fn is_said(self, text: &str, unit: &str) -> bool {
        let words: &[&str] = match self {
            Self::ByPassword => &["password authentication failed", "into Secret shop-db"],
            Self::ByCertificate => &["certificate"],
        };
        [unit, "store orders"]
            .iter()
            .chain(words)
            .all(|word| text.contains(word))
    }
}

/// Moves users-0 to north while the agent of `region` is locked out, which is mended once the promotion waits for that, or once it
/// has ended.
async fn moves(stage: &Stage, by: LockedOut, name: &str, region: &str, late: bool) -> Result<PromotionStatus> {
    let mut remedy = Remedy(None);
    let locks = async || {
        remedy = by.begins(stage, region).await?;
        Ok(())
    };
    stuck_at_the_fence(stage, name, locks).await?;
    let unit = stage.region(region)?.unit();
    let promotions: Api<Promotion> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let waits = wait_for(&promotions, name, LIMIT, |promotion| {
        let status = promotion.status.as_ref()?;
        let waits = status.waiting_for.clone().filter(|waits| by.is_said(waits, &unit));
        // On a slow machine it may end before it has said what it waits for: then its end says so.
        (waits.is_some() || status.outcome.is_some()).then(|| waits.or(status.message.clone()))
    });
    let waits = waits.await?.unwrap_or_default();
    ensure!(
        by.is_said(&waits, &unit),
        "{name} waited, and ended, with these words: {waits}"
    );
    println!("{name} waits for {waits}");
    if !late {
        by.ends(stage, region, std::mem::replace(&mut remedy, Remedy(None)))
            .await?;
    }
    let status = ended(&stage.hub, name, LIMIT).await?;
    println!("{name}: {:?} {:?}: {:?}", status.outcome, status.reason, status.message);
    if late {
        let message = status.message.as_deref().unwrap_or_default();
        ensure!(status.outcome.as_deref() == Some("Aborted"), "{status:?}");
        ensure!(by.is_said(message, &unit), "{name}: it says what to do: {message}");
        by.ends(stage, region, remedy).await?;
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
        // On a slow machine it may be mended too late.
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

/// The target's agent is locked out, then the source's, each mended late and in time: the promotion says what it waits for, and ends as
/// soon as that is mended, or by itself with the same words. No order is lost, and no slot is open twice.
///
/// # Errors
///
/// What was not so.
pub async fn in_the_middle_of_promotions(stage: &Stage, by: LockedOut) -> Result<()> {
    // North owns nothing: without its database nobody could write there once its lease is over.
    let all = json!({"type": "Unit", "unit": "north-1"});
    stage.moved("locked-empty-north", "south-1", all, "None").await?;
    let users = shop::load::users(24, "locked");
    let of_east = stage.users_of(&users, "east-1").await?;
    let load = stage.load_of(users)?;
    let open = OpenSlots::watch(&stage.world.regions);
    orders(&load, 100).await;

    moves(stage, by, "target-late", "north", true).await?;
    nobody_notices(&load, "the target was mended late").await?;
    let status = moves(stage, by, "target", "north", false).await?;
    nobody_notices(&load, "the target was mended in time").await?;
    goes_home(stage, "target-back", &status).await?;
    let status = moves(stage, by, "source", "east", false).await?;
    nobody_notices(&load, "the source was mended in time").await?;
    goes_home(stage, "source-back", &status).await?;
    // The lease of the source's database is over by then, so it takes no writes before its agent is let in.
    moves(stage, by, "source-late", "east", true).await?;

    let range = json!({"type": "Ranges", "ranges": ["users-0"]});
    stage.moved("locked-at-last", "north-1", range, "Full").await?;
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
