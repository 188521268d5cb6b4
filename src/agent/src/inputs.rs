//! What hands and leases hear from its API server besides the assignment: the namespace's table and the Secrets of its stores.
//! What was heard last stays in force while the server is away.

use crate::plan;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use multiactive_api::{ROUTING_TABLE, RoutingTable as Stored};
use multiactive_core::table::RoutingTable;
use multiactive_runtime::watch::{self as watches, Seen};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The newest table of a namespace, and the future that keeps it so: an older, an unreadable or a deleted one never
/// takes its place.
pub(crate) fn table_watch(
    client: &Client,
    namespace: &str,
) -> (
    watch::Receiver<Option<Arc<RoutingTable>>>,
    impl Future<Output = ()> + use<>,
) {
    let newest = watch::Sender::new(None);
    let receiver = newest.subscribe();
    let api = Api::namespaced(client.clone(), namespace);
    let namespace = namespace.to_owned();
    let watching = async move {
        let mut seen = pin!(watches::one::<Stored>(api, ROUTING_TABLE));
        while let Some(seen) = seen.next().await {
            match seen {
                Seen::Present(stored) => take(&newest, &stored, &namespace),
                Seen::Absent => tracing::warn!(namespace, "there is no routing table, going on with the last"),
                // The watch has logged why.
                Seen::Unparsable { .. } => {}
            }
        }
    };
    (receiver, watching)
}

fn take(newest: &watch::Sender<Option<Arc<RoutingTable>>>, stored: &Stored, namespace: &str) {
    let table = match RoutingTable::try_from(&stored.spec) {
        Ok(table) => table,
        Err(error) => {
            tracing::error!(namespace, %error, "the routing table cannot be understood, going on with the last");
            return;
        }
    };
    newest.send_if_modified(|held| {
        let held_epoch = held.as_ref().map(|held| held.epoch);
        if plan::supersedes(&table, held.as_deref()) {
            tracing::debug!(namespace, epoch = %table.epoch, "new table");
            *held = Some(Arc::new(table));
            return true;
        }
        if held_epoch > Some(table.epoch) {
            tracing::warn!(namespace, offered = %table.epoch, held = ?held_epoch, "an older table is not taken");
        }
        false
    });
}

/// What is known of a Secret.
#[derive(Clone, Debug)]
pub(crate) enum SecretSeen {
    /// The server has not said yet.
    Unknown,
    /// It has: the Secret, or that there is none.
    Known(Arc<Option<Secret>>),
}

/// The Secrets of a unit's stores, each watched by its name alone.
pub(crate) struct Secrets {
    api: Api<kube::core::DeserializeGuard<Secret>>,
    seen: watch::Sender<BTreeMap<String, Arc<Option<Secret>>>>,
    watching: BTreeMap<String, AbortOnDropHandle<()>>,
}

impl Secrets {
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            seen: watch::Sender::default(),
            watching: BTreeMap::new(),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<BTreeMap<String, Arc<Option<Secret>>>> {
        self.seen.subscribe()
    }

    /// From now on these are watched, and no others.
    pub(crate) fn want(&mut self, names: BTreeSet<String>) {
        self.watching.retain(|name, _| names.contains(name));
        self.seen.send_if_modified(|seen| {
            seen.retain(|name, _| names.contains(name));
            false
        });
        for name in names {
            let (api, seen) = (&self.api, &self.seen);
            self.watching.entry(name).or_insert_with_key(|name| {
                AbortOnDropHandle::new(tokio::spawn(watch_secret(api.clone(), name.clone(), seen.clone())))
            });
        }
    }

    pub(crate) fn get(&self, name: &str) -> SecretSeen {
        let seen = self.seen.borrow();
        seen.get(name)
            .map_or(SecretSeen::Unknown, |secret| SecretSeen::Known(Arc::clone(secret)))
    }
}

async fn watch_secret(
    api: Api<kube::core::DeserializeGuard<Secret>>,
    name: String,
    all: watch::Sender<BTreeMap<String, Arc<Option<Secret>>>>,
) {
    let mut events = pin!(watches::one::<Secret>(api, &name));
    while let Some(event) = events.next().await {
        let now = match event {
            Seen::Present(secret) => Some(secret),
            Seen::Absent => None,
            Seen::Unparsable { .. } => continue,
        };
        all.send_if_modified(|all| {
            let data = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.data.clone());
            let changed = all.get(&name).is_none_or(|known| data(known) != data(&now));
            all.insert(name.clone(), Arc::new(now));
            changed
        });
    }
}
