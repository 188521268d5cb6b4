//! A copy of one kind's objects, kept by a watch, that survives an object which cannot be parsed.
//!
//! Such an object is listed with the reason, and its last good version stays in the copy.

use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// Namespace and name; the namespace is empty for cluster-scoped kinds.
type Key = (String, String);

/// The objects of one kind that a watch has shown; cloning shares the copy.
#[derive(Debug)]
pub struct Mirror<K> {
    objects: Arc<RwLock<Objects<K>>>,
    ready: Arc<watch::Sender<bool>>,
}

#[derive(Debug)]
struct Objects<K> {
    good: BTreeMap<Key, Arc<K>>,
    invalid: BTreeMap<Key, String>,
}

impl<K> Clone for Mirror<K> {
    fn clone(&self) -> Self {
        Self {
            objects: Arc::clone(&self.objects),
            ready: Arc::clone(&self.ready),
        }
    }
}

impl<K> Default for Mirror<K> {
    fn default() -> Self {
        let empty = Objects {
            good: BTreeMap::new(),
            invalid: BTreeMap::new(),
        };
        Self {
            objects: Arc::new(RwLock::new(empty)),
            ready: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl<K> Mirror<K> {
    /// The object of this name; the namespace is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.with(|objects| objects.good.get(&key).cloned())
    }

    /// The objects of a namespace, sorted by name.
    pub fn of(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = (namespace.to_owned(), String::new());
        self.with(|objects| {
            let here = objects.good.range(from..).take_while(|((ns, _), _)| ns == namespace);
            here.map(|(_, object)| Arc::clone(object)).collect()
        })
    }

    /// All objects, sorted by namespace and name.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.with(|objects| objects.good.values().cloned().collect())
    }

    /// The objects of a namespace that could not be parsed: name and reason.
    pub fn invalid(&self, namespace: &str) -> Vec<(String, String)> {
        self.with(|objects| {
            let here = objects.invalid.iter().filter(|((ns, _), _)| ns == namespace);
            here.map(|((_, name), why)| (name.clone(), why.clone())).collect()
        })
    }

    /// Whether a complete list has been seen.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until a complete list has been seen.
    pub async fn wait_until_ready(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    fn with<T>(&self, read: impl FnOnce(&Objects<K>) -> T) -> T {
        read(&self.objects.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, write: impl FnOnce(&mut Objects<K>) -> T) -> T {
        write(&mut self.objects.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K> Mirror<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    /// Watches `api` for ever; calls `changed` with namespace and name after each change. Safe to drop.
    pub async fn run(&self, api: Api<DeserializeGuard<K>>, changed: impl Fn(&str, &str) + Send) {
        let mut stream = std::pin::pin!(multiactive_runtime::watch::all(api, watcher::Config::default()));
        let mut listed: Option<BTreeMap<Key, DeserializeGuard<K>>> = None;
        while let Some(event) = stream.next().await {
            match event {
                Event::Apply(object) => {
                    let key = key_of(&object);
                    self.put(key.clone(), object);
                    changed(&key.0, &key.1);
                }
                Event::Delete(object) => {
                    let key = key_of(&object);
                    self.change(|objects| {
                        objects.good.remove(&key);
                        objects.invalid.remove(&key);
                    });
                    changed(&key.0, &key.1);
                }
                Event::Init => listed = Some(BTreeMap::new()),
                Event::InitApply(object) => {
                    listed.get_or_insert_default().insert(key_of(&object), object);
                }
                Event::InitDone => {
                    for (namespace, name) in self.replace(listed.take().unwrap_or_default()) {
                        changed(&namespace, &name);
                    }
                    self.ready.send_replace(true);
                    changed("", "");
                }
            }
        }
    }

    fn put(&self, key: Key, object: DeserializeGuard<K>) {
        self.change(|objects| match object.0 {
            Ok(object) => {
                objects.invalid.remove(&key);
                objects.good.insert(key, Arc::new(object));
            }
            Err(error) => {
                objects.invalid.insert(key, error.to_string());
            }
        });
    }

    /// Takes a complete list; returns what it changed.
    fn replace(&self, listed: BTreeMap<Key, DeserializeGuard<K>>) -> Vec<Key> {
        let gone: Vec<Key> = self.change(|objects| {
            let known = objects.good.keys().chain(objects.invalid.keys());
            let gone: Vec<Key> = known.filter(|key| !listed.contains_key(*key)).cloned().collect();
            for key in &gone {
                objects.good.remove(key);
                objects.invalid.remove(key);
            }
            gone
        });
        let mut changed = gone;
        for (key, object) in listed {
            let version = object.resource_version();
            let same = self.with(|objects| {
                objects
                    .good
                    .get(&key)
                    .is_some_and(|old| old.resource_version() == version)
            });
            if !same {
                self.put(key.clone(), object);
                changed.push(key);
            }
        }
        changed
    }
}

fn key_of<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}
