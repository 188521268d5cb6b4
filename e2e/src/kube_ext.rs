//! Waiting for objects, and what they said last when waiting was in vain.

use anyhow::{Result, bail};
use futures::TryStreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// Waits until `wanted` gives something for the object `name`, woken by its watch.
///
/// # Errors
///
/// Where that does not come within `limit`; the text says what the object looked like.
pub async fn wait_for<K, T>(api: &Api<K>, name: &str, limit: Duration, wanted: impl Fn(&K) -> Option<T>) -> Result<T>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + serde::Serialize + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(api.clone(), config).default_backoff().applied_objects());
    let mut last = None;
    let search = async {
        loop {
            // A watch that breaks is begun again by the watcher.
            let Ok(next) = events.try_next().await else { continue };
            let Some(object) = next else { bail!("the watch ended") };
            if let Some(found) = wanted(&object) {
                return Ok(found);
            }
            last = Some(object);
        }
    };
    match tokio::time::timeout(limit, search).await {
        Ok(found) => found,
        Err(_) => {
            let seen = match last {
                Some(object) => serde_json::to_value(&object)?
                    .get("status")
                    .map_or_else(|| "no status".into(), ToString::to_string),
                None => "no such object".to_owned(),
            };
            bail!("{name} was not as wanted within {limit:?}; last seen: {seen}")
        }
    }
}

/// The condition `Ready`, if it speaks of this generation.
pub fn is_ready(conditions: &[Condition]) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
