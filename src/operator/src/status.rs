//! Status writes: compared first, one server-side apply, never for another object of the same name.

use crate::apply::{forced, writing};
use crate::error::Error;
use kube::api::{Api, Patch};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// The annotation with which a person stops all writes for an object.
pub const PAUSED: &str = "multiactive.io/paused";

/// The annotation with which a person gives up what is being deleted: a Keyspace or DataStore that slots depend on, a
/// UnitWorkload whose objects cannot be deleted; its value is the object's name.
pub const GIVE_UP: &str = "multiactive.io/give-up";

/// The annotation with which a person accepts that a MemberCluster is another cluster now; its value is the uid of that
/// cluster's kube-system namespace.
pub const ACCEPT_CLUSTER: &str = "multiactive.io/accept-cluster";

/// Whether a person gave the object up, which counts only while it is being deleted.
pub fn is_given_up<K: Resource>(object: &K) -> bool {
    let meant = object.annotations().get(GIVE_UP);
    object.meta().deletion_timestamp.is_some() && meant.is_some() && meant == object.meta().name.as_ref()
}

/// Whether the object is observed only.
pub fn is_paused<K: Resource>(object: &K) -> bool {
    object.annotations().get(PAUSED).is_some_and(|value| value != "false")
}

/// Whether a status was not written because the object is another one or of another version by now: the watch tells.
pub fn is_overtaken(error: &Error) -> bool {
    error
        .status()
        .is_some_and(|status| status.is_not_found() || status.is_conflict())
}

/// Applies `status` to `object`, if that still is the version that was looked at: an operator that was frozen, and leads
/// no more, must not take back what its successor said. The caller compares before: this always writes.
///
/// # Errors
///
/// [`Error::Apply`] or [`Error::Timeout`]; writing again is safe.
pub async fn write<K, S>(api: &Api<K>, object: &K, status: &S) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    S: Serialize,
{
    write_at(api, object, object.resource_version(), status).await
}

/// As [`write`], against `version`: that of `object`, or the one that our own last write made of it, which the watch may
/// not have shown yet.
///
/// # Errors
///
/// As [`write`].
pub async fn write_at<K, S>(api: &Api<K>, object: &K, version: Option<String>, status: &S) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    S: Serialize,
{
    let name = object.name_any();
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // The uid makes it fail where the object was created again meanwhile.
        "metadata": {"name": name, "namespace": object.namespace(), "uid": object.uid(),
            "resourceVersion": version},
        "status": status,
    });
    let (params, patch) = (forced(), Patch::Apply(body));
    let call = api.patch_status(&name, &params, &patch);
    writing::<K, _>("writing the status of", &name, call).await
}
