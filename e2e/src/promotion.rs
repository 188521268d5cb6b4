//! Promotions as a user makes them: with the epoch that was seen, and an eye on the status.

use crate::kube_ext::wait_for;
use crate::region::NAMESPACE;
use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};
use multiactive_api::{Promotion, PromotionStatus, ROUTING_TABLE, RoutingTable};
use std::time::Duration;

/// The epoch of the table, as a user reads it before a promotion.
///
/// # Errors
///
/// Where the hub does not answer.
pub async fn epoch(hub: &Client) -> Result<i64> {
    let api: Api<RoutingTable> = Api::namespaced(hub.clone(), NAMESPACE);
    Ok(api
        .get(ROUTING_TABLE)
        .await
        .context("reading the routing table")?
        .spec
        .epoch)
}

/// As whom the hub knows us: the author of our decisions.
///
/// # Errors
///
/// Where the hub does not say.
pub async fn myself(hub: &Client) -> Result<String> {
    let api: Api<SelfSubjectReview> = Api::all(hub.clone());
    let review = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?;
    let user = review.status.and_then(|status| status.user_info);
    user.and_then(|user| user.username)
        .context("the hub does not say who we are")
}

/// A Promotion of `select` (a JSON value of its union) to `target`, with the epoch of now.
///
/// # Errors
///
/// Where the hub refuses it.
pub async fn create(
    hub: &Client,
    name: &str,
    target: &str,
    select: serde_json::Value,
    verify: &str,
) -> Result<Promotion> {
    let promotion = serde_json::from_value(serde_json::json!({
        "apiVersion": "multiactive.io/v1alpha1",
        "kind": "Promotion",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "targetUnit": target,
            "select": select,
            "expectedEpoch": epoch(hub).await?,
            "mode": "Execute",
            "verify": verify,
            "budgets": {"fence": "10s", "drain": "30s"},
        },
    }))?;
    let api: Api<Promotion> = Api::namespaced(hub.clone(), NAMESPACE);
    api.create(&PostParams::default(), &promotion)
        .await
        .with_context(|| format!("creating Promotion {name}"))
}

/// Waits until what a Promotion waits for has these words, and gives it.
///
/// # Errors
///
/// Where it ends before, or does not say so within `limit`.
pub async fn waits_for(hub: &Client, name: &str, words: &[&str], limit: Duration) -> Result<String> {
    let api: Api<Promotion> = Api::namespaced(hub.clone(), NAMESPACE);
    let said = wait_for(&api, name, limit, |promotion| {
        let status = promotion.status.as_ref()?;
        let said = status.waiting_for.clone();
        let said = said.filter(|said| words.iter().all(|word| said.contains(word)));
        (said.is_some() || status.outcome.is_some()).then_some(said)
    });
    said.await?
        .with_context(|| format!("{name} has ended and did not say that it waits for {words:?}"))
}

/// Waits until a Promotion has ended, and gives its status.
///
/// # Errors
///
/// Where it does not end within `limit`.
pub async fn ended(hub: &Client, name: &str, limit: Duration) -> Result<PromotionStatus> {
    let api: Api<Promotion> = Api::namespaced(hub.clone(), NAMESPACE);
    wait_for(&api, name, limit, |promotion| {
        promotion.status.clone().filter(|status| status.outcome.is_some())
    })
    .await
}
