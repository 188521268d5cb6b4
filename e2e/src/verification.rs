//! Verifications as a user makes them.

use crate::kube_ext::wait_for;
use crate::region::NAMESPACE;
use anyhow::{Context, Result};
use kube::api::PostParams;
use kube::{Api, Client};
use multiactive_api::{Verification, VerificationStatus};
use serde_json::{Value, json};
use std::time::Duration;

/// Creates a Verification, and returns how it ended.
///
/// # Errors
///
/// Where the hub refuses it, or it does not end in time.
pub async fn verified(hub: &Client, name: &str, spec: Value, limit: Duration) -> Result<VerificationStatus> {
    let api: Api<Verification> = Api::namespaced(hub.clone(), NAMESPACE);
    let object = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": "Verification", "metadata": {"name": name},
        "spec": spec});
    api.create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    let ended = wait_for(&api, name, limit, |object| {
        object.status.clone().filter(|status| status.outcome.is_some())
    });
    ended.await.with_context(|| format!("Verification {name} ends"))
}
