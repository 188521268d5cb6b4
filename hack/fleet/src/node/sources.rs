//! Secrets and ConfigMaps of the whole cluster, watched: what environments and volumes are made of.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// The bytes under the keys of a Secret or a ConfigMap.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// Where pods read Secrets and ConfigMaps.
#[derive(Debug)]
pub(super) struct Sources {
    secrets: Store<Secret>,
    maps: Store<ConfigMap>,
    changed: watch::Sender<u64>,
}

impl Sources {
    /// The sources, and the work that keeps them up to date, which never ends.
    pub(super) fn new(client: &Client) -> (Arc<Sources>, impl Future<Output = ()> + use<>) {
        let (secrets, secrets_writer) = reflector::store();
        let (maps, maps_writer) = reflector::store();
        let changed = watch::Sender::new(0);
        let secrets_work = follow(
            reflector::reflector(
                secrets_writer,
                watcher(Api::all(client.clone()), watcher::Config::default()),
            ),
            changed.clone(),
        );
        let maps_work = follow(
            reflector::reflector(
                maps_writer,
                watcher(Api::all(client.clone()), watcher::Config::default()),
            ),
            changed.clone(),
        );
        let work = async {
            tokio::join!(secrets_work, maps_work);
        };
        (Arc::new(Sources { secrets, maps, changed }), work)
    }

    /// Waits until everything that exists has been read once.
    pub(super) async fn read(&self) {
        let _ = self.secrets.wait_until_ready().await;
        let _ = self.maps.wait_until_ready().await;
    }

    /// A change after each of which something may differ.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A Secret's data; `None` when it does not exist.
    pub(super) fn secret(&self, namespace: &str, name: &str) -> Option<Data> {
        let found = self.secrets.get(&ObjectRef::new(name).within(namespace))?;
        Some(
            found
                .data
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.0.clone()))
                .collect(),
        )
    }

    /// A ConfigMap's data; `None` when it does not exist.
    pub(super) fn map(&self, namespace: &str, name: &str) -> Option<Data> {
        let found = self.maps.get(&ObjectRef::new(name).within(namespace))?;
        let text = found
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone().into_bytes()));
        let binary = found
            .binary_data
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.0.clone()));
        Some(text.chain(binary).collect())
    }
}

async fn follow<K>(stream: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>>, changed: watch::Sender<u64>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut stream = std::pin::pin!(stream.backoff(Steady));
    loop {
        match stream.try_next().await {
            Ok(Some(_)) => changed.send_modify(|count| *count += 1),
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "watching"),
        }
    }
}

/// Always the same short wait: the API server is on this machine, and comes back when somebody starts it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steady;

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(250))
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}
