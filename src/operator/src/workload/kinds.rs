//! Which kinds a member serves: asked once, asked again where a kind is not known.

use super::render::Id;
use super::trouble::{Cause, Tried, Trouble, explain};
use crate::apply::CALL_LIMIT;
use kube::core::{ApiResource, GroupVersion};
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, core::GroupVersionKind};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A kind as a member serves it.
#[derive(Clone, Debug)]
pub struct Kind {
    /// How it is called.
    pub resource: ApiResource,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
}

/// Member, its connection, apiVersion and kind.
type Key = (String, u64, String, String);

/// What has been asked so far.
#[derive(Default)]
pub struct Kinds(Mutex<HashMap<Key, Kind>>);

impl Kinds {
    /// The kind of `id` in a member. What is not known there is asked again each time: it may be defined meanwhile.
    ///
    /// # Errors
    ///
    /// [`Cause::UnknownKind`] where the member does not serve it, [`Cause::Unreachable`] where it does not answer.
    pub async fn get(&self, client: &Client, tried: Tried<'_>, connection: u64) -> Result<Kind, Trouble> {
        let Tried { id, cluster, .. } = tried;
        let key = (cluster.to_owned(), connection, id.api_version.clone(), id.kind.clone());
        if let Some(known) = self.lock().get(&key) {
            return Ok(known.clone());
        }
        let kind = ask(client, id, tried).await?;
        let mut known = self.lock();
        known.retain(|(name, number, ..), _| name != cluster || *number == connection);
        known.insert(key, kind.clone());
        Ok(kind)
    }

    /// Forgets a kind that the member seems not to serve any more.
    pub fn forget(&self, cluster: &str, id: &Id) {
        self.lock().retain(|(name, _, api_version, kind), _| {
            (name.as_str(), api_version, kind) != (cluster, &id.api_version, &id.kind)
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Kind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(client: &Client, id: &Id, tried: Tried<'_>) -> Result<Kind, Trouble> {
    let cluster = tried.cluster;
    let Ok(version) = id.api_version.parse::<GroupVersion>() else {
        return Err(Trouble::new(
            Cause::Refused,
            format!("apiVersion {:?} is none; it reads group/version", id.api_version),
        ));
    };
    let gvk = GroupVersionKind::gvk(&version.group, &version.version, &id.kind);
    match tokio::time::timeout(CALL_LIMIT, pinned_kind(client, &gvk)).await {
        Ok(Ok((resource, capabilities))) => Ok(Kind {
            resource,
            namespaced: capabilities.scope == Scope::Namespaced,
        }),
        Ok(Err(kube::Error::Discovery(_))) => Err(unknown(id, cluster)),
        Ok(Err(error)) => Err(match explain(&error, tried) {
            trouble if trouble.cause == Cause::UnknownKind => unknown(id, cluster),
            trouble => trouble,
        }),
        Err(_) => Err(Trouble::new(
            Cause::Unreachable,
            format!("member {cluster} did not answer"),
        )),
    }
}

fn unknown(id: &Id, cluster: &str) -> Trouble {
    Trouble::new(
        Cause::UnknownKind,
        format!(
            "member {cluster} serves no kind {} in {}; install its definition there",
            id.kind, id.api_version
        ),
    )
}
