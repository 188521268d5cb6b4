//! A copy of one kind's objects, kept by a watch, that survives an object which cannot be parsed.
//!
//! Such an object is listed with the reason, and its last good version stays in the copy. `managedFields`, the larger part
//! of most objects, is left out: nobody here asks it of a copy.

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
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

/// How many objects are read at a time where all are: what is read at once is in memory at once.
const PAGE: u32 = 100;

/// How much of an object changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// It came, went, or any of it changed.
    Any,
    /// Its status alone, which the operator or an agent writes.
    Status,
}

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

    /// How many objects there are, those apart that could not be parsed.
    pub fn count(&self) -> usize {
        self.with(|objects| objects.good.len())
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
    /// Watches `api` for ever; calls `changed` with namespace and name after each change, and how much it changed. Safe to
    /// drop.
    pub async fn run(&self, api: Api<DeserializeGuard<K>>, changed: impl Fn(&str, &str, Extent) + Send) {
        let config = watcher::Config::default().page_size(PAGE);
        let mut stream = std::pin::pin!(multiactive_runtime::watch::all(api, config));
        let mut listed: Option<BTreeMap<Key, DeserializeGuard<K>>> = None;
        while let Some(event) = stream.next().await {
            match event {
                Event::Apply(object) => {
                    let key = key_of(&object);
                    let extent = self.put(key.clone(), object);
                    changed(&key.0, &key.1, extent);
                }
                Event::Delete(object) => {
                    let key = key_of(&object);
                    self.change(|objects| {
                        objects.good.remove(&key);
                        objects.invalid.remove(&key);
                    });
                    changed(&key.0, &key.1, Extent::Any);
                }
                Event::Init => listed = Some(BTreeMap::new()),
                Event::InitApply(mut object) => {
                    object.meta_mut().managed_fields = None;
                    listed.get_or_insert_default().insert(key_of(&object), object);
                }
                Event::InitDone => {
                    for (namespace, name) in self.replace(listed.take().unwrap_or_default()) {
                        changed(&namespace, &name, Extent::Any);
                    }
                    self.ready.send_replace(true);
                    changed("", "", Extent::Any);
                }
            }
        }
    }

    fn put(&self, key: Key, object: DeserializeGuard<K>) -> Extent {
        self.change(|objects| match object.0 {
            Ok(mut object) => {
                object.meta_mut().managed_fields = None;
                let invalid = objects.invalid.remove(&key).is_some();
                let object = Arc::new(object);
                let old = objects.good.insert(key, Arc::clone(&object));
                match old.filter(|_| !invalid) {
                    Some(old) if same_but_for_status(old.meta(), object.meta()) => Extent::Status,
                    Some(_) | None => Extent::Any,
                }
            }
            Err(error) => {
                objects.invalid.insert(key, error.to_string());
                Extent::Any
            }
        })
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

/// The generation changes with all but metadata and status, where a kind has a status; without one it says nothing.
fn same_but_for_status(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    new.generation.is_some()
        && (&old.uid, old.generation) == (&new.uid, new.generation)
        && old.deletion_timestamp == new.deletion_timestamp
        && (&old.labels, &old.annotations) == (&new.labels, &new.annotations)
        && (&old.finalizers, &old.owner_references) == (&new.finalizers, &new.owner_references)
}

fn key_of<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}
