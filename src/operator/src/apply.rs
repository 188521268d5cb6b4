//! Writes to API servers: one field manager, one server-side apply, a limit of time on every call.

use crate::error::Error;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

/// The name under which the operator owns fields.
pub const FIELD_MANAGER: &str = "multiactive-operator";

/// How long one call may take; a server that hangs is one that does not answer.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Server-side applies `desired`, taking back any field we own.
///
/// # Errors
///
/// [`Error::Apply`] where the server refuses or cannot be reached, [`Error::Timeout`] where it does not answer: then
/// the outcome is not known, and applying again is safe.
pub async fn apply<K>(api: &Api<K>, desired: &K) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let name = desired.name_any();
    let (params, patch) = (forced(), Patch::Apply(desired));
    writing::<K, _>("applying", &name, api.patch(&name, &params, &patch)).await
}

/// A server-side apply that takes back the fields that we own.
pub fn forced() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// As [`within`], for a write to an object of the kind `K`; `doing` says what is done to it.
///
/// # Errors
///
/// [`Error::Apply`] or [`Error::Timeout`].
pub async fn writing<K, T>(doing: &str, name: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error>
where
    K: Resource<DynamicType = ()>,
{
    let error = |source| Error::Apply {
        kind: K::kind(&()),
        name: name.to_owned(),
        source: Box::new(source),
    };
    within(|| format!("{doing} {} {name}", K::kind(&())), call, error).await
}

/// The object, or `None` where the server says that there is none.
///
/// # Errors
///
/// [`Error::Read`] or [`Error::Timeout`]: nothing is known.
pub async fn read<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    within(
        || format!("reading {} {name}", K::kind(&())),
        api.get_opt(name),
        |source| Error::Read {
            kind: K::kind(&()),
            name: name.to_owned(),
            source: Box::new(source),
        },
    )
    .await
}

/// Deletes exactly the object that was seen. One that is gone, or another one by now, needs nothing.
///
/// # Errors
///
/// [`Error::Delete`] where the server refuses or cannot be reached, [`Error::Timeout`] where it does not answer: deleting again is
/// safe.
pub async fn delete<K>(api: &Api<K>, seen: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let (kind, name) = (K::kind(&()), seen.name_any());
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: seen.uid(),
        resource_version: None,
    });
    let error = |source| Error::Delete {
        kind: kind.clone(),
        name: name.clone(),
        source: Box::new(source),
    };
    match within(|| format!("deleting {kind} {name}"), api.delete(&name, &params), error).await {
        Err(error) if error.status().is_some_and(|s| s.is_not_found() || s.is_conflict()) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// Waits for `call` for at most [`CALL_LIMIT`].
///
/// # Errors
///
/// What `error` makes of the call's error, or [`Error::Timeout`].
pub async fn within<T>(
    what: impl Fn() -> String,
    call: impl Future<Output = kube::Result<T>>,
    error: impl FnOnce(kube::Error) -> Error,
) -> Result<T, Error> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map_err(error),
        Err(_) => Err(Error::Timeout {
            what: what(),
            limit: CALL_LIMIT,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Client;
    use kube::client::Body;

    #[tokio::test]
    async fn apply_names_its_field_manager_and_forces() {
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let api: Api<ConfigMap> = Api::namespaced(Client::new(service, "ns"), "ns");
        let call = tokio::spawn(async move {
            let mut desired = ConfigMap::default();
            desired.metadata.name = Some("routes".into());
            apply(&api, &desired).await
        });
        let (request, reply) = server.next_request().await.expect("one request");
        let query = request.uri().query().unwrap_or_default();
        assert!(
            query.contains("fieldManager=multiactive-operator") && query.contains("force=true"),
            "{query}"
        );
        reply.send_response(Response::new(request.into_body()));
        assert_eq!(call.await.unwrap().unwrap().name_any(), "routes");
    }
}
