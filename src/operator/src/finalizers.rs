//! Finalizers: added and removed against the version that was seen, so that nobody else's is lost.

use crate::apply::{FIELD_MANAGER, within};
use crate::error::Error;
use crate::metrics::Metrics;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::borrow::Cow;
use std::fmt::Debug;

/// Adds a finalizer.
///
/// # Errors
///
/// [`Error::Apply`], a conflict where the object changed meanwhile, or [`Error::Timeout`].
pub async fn add<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let mut all = object.finalizers().to_vec();
    all.push(finalizer.to_owned());
    write(api, object, &all).await
}

/// Removes a finalizer.
///
/// # Errors
///
/// As [`add`].
pub async fn remove<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let mut all = object.finalizers().to_vec();
    all.retain(|known| known != finalizer);
    write(api, object, &all).await
}

/// Adds the finalizer, or takes it off an object that is being deleted, once it is `free`; whether that succeeded.
pub async fn keep<K>(metrics: &Metrics, api: &Api<K>, object: &K, finalizer: &str, free: bool) -> bool
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let has = object.finalizers().iter().any(|known| known == finalizer);
    let leaving = object.meta().deletion_timestamp.is_some();
    let result = match (leaving, has) {
        (false, false) => add(api, object, finalizer).await,
        (true, true) if free => remove(api, object, finalizer).await,
        (false, true) | (true, false | true) => return true,
    };
    let kind = match K::kind(&()) {
        Cow::Borrowed(kind) => kind,
        Cow::Owned(_) => "other",
    };
    metrics.wrote(kind);
    settled(result, kind, &object.name_any())
}

/// Whether the outcome needs no retry of its own: a conflict or a deletion shows in the watch. Logs what does.
pub fn settled(result: Result<(), Error>, kind: &str, name: &str) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if error.status().is_some_and(|s| s.is_conflict() || s.is_not_found()) => true,
        Err(error) => {
            tracing::warn!(kind, name, error = error.chain(), "the finalizer was not written");
            false
        }
    }
}

async fn write<K>(api: &Api<K>, object: &K, finalizers: &[String]) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let name = object.name_any();
    let version = object.resource_version();
    let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}}));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let error = |source| Error::Apply {
        kind: K::kind(&()),
        name: name.clone(),
        source: Box::new(source),
    };
    let what = || format!("writing the finalizers of {} {name}", K::kind(&()));
    within(what, api.patch(&name, &params, &patch), error).await.map(|_| ())
}
