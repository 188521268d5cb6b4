//! Copies of what stands in the members, one watch for each member, namespace and kind, for as long as someone needs
//! it. They show drift and readiness without polling.

use super::kinds::Kind;
use super::marks::{WORKLOAD, WORKLOAD_UID};
use crate::metrics::Metrics;
use crate::supervise::supervise;
use futures::StreamExt;
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// How long a watch may be silent, in seconds.
const WATCH_SECONDS: u32 = multiactive_runtime::watch::SECONDS;
/// The pause after a first error.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after further errors.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How soon a right that was missing is tried again.
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(20);
/// How long a right that was there must be missing to count as taken away: an API server that starts refuses
/// everything until it has read the Roles.
const FORBIDDEN_AFTER: Duration = Duration::from_secs(15);

/// Which watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The member.
    pub cluster: String,
    /// The number of its connection: a new one begins everything anew.
    pub connection: u64,
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// The apiVersion.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// Only objects with our marks.
    pub marked: bool,
}

/// How a watch does.
#[derive(Clone, Debug)]
pub enum Health {
    /// The first list is under way.
    Starting,
    /// The copy is complete and follows.
    Synced,
    /// The copy, if there is one, is old.
    Broken(Arc<kube::Error>),
}

/// Word of a change: the member, the namespace of the watch, and the UnitWorkload (`namespace/name`) that it concerns;
/// `None` where it concerns all of that namespace.
pub type Tell = Arc<dyn Fn(&Scope, Option<&str>) + Send + Sync>;

/// A watch's copy.
pub struct Watch {
    objects: Arc<RwLock<HashMap<String, Arc<Value>>>>,
    health: watch::Receiver<Health>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// The object of this name, `None` where the copy has none. Ask for [`Watch::synced`] first.
    pub fn get(&self, name: &str) -> Option<Arc<Value>> {
        read(&self.objects).get(name).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Value>> {
        read(&self.objects).values().cloned().collect()
    }

    /// Puts in what the server just answered to a write, unless the watch has shown something newer.
    pub fn learn(&self, object: Value) {
        put(&self.objects, Arc::new(object));
    }

    /// Waits until the copy is complete, or it is known that it will not be.
    ///
    /// # Errors
    ///
    /// Why the watch is broken; `None` where it has not answered within `limit`.
    pub async fn synced(&self, limit: Duration) -> Result<(), Option<Arc<kube::Error>>> {
        let mut health = self.health.clone();
        let settled = health.wait_for(|health| !matches!(health, Health::Starting));
        match tokio::time::timeout(limit, settled).await {
            Ok(Ok(health)) => match &*health {
                Health::Synced => Ok(()),
                Health::Broken(error) => Err(Some(Arc::clone(error))),
                Health::Starting => Err(None),
            },
            Ok(Err(_)) | Err(_) => Err(None),
        }
    }
}

/// All watches that someone holds.
pub struct Watches {
    known: Mutex<HashMap<Scope, Weak<Watch>>>,
    tell: Tell,
    metrics: Metrics,
}

impl Watches {
    /// No watches yet; `tell` is called on every change.
    pub fn new(tell: Tell, metrics: Metrics) -> Self {
        Self {
            known: Mutex::default(),
            tell,
            metrics,
        }
    }

    /// The watch of `scope`, started with `client` where nobody holds it. It ends when the last holder drops it.
    pub fn hold(&self, scope: &Scope, client: &Client, kind: &Kind) -> Arc<Watch> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = known.get(scope).and_then(Weak::upgrade) {
            return watch;
        }
        known.retain(|_, watch| watch.strong_count() > 0);
        let api: Api<DynamicObject> = if scope.namespace.is_empty() {
            Api::all_with(client.clone(), &kind.resource)
        } else {
            Api::namespaced_with(client.clone(), &scope.namespace, &kind.resource)
        };
        let objects: Arc<RwLock<HashMap<String, Arc<Value>>>> = Arc::default();
        let (sender, health) = watch::channel(Health::Starting);
        let name = format!("{} {} of {}", scope.kind, scope.namespace, scope.cluster);
        let (of, filled, tell) = (scope.clone(), Arc::clone(&objects), Arc::clone(&self.tell));
        let begin = move || {
            let copy = Copy {
                scope: of.clone(),
                objects: Arc::clone(&filled),
                health: sender.clone(),
                tell: Arc::clone(&tell),
            };
            follow(api.clone(), copy)
        };
        let work = supervise(self.metrics.clone(), "watch of a workload", name, begin);
        let task = tokio::spawn(work);
        let watch = Arc::new(Watch {
            objects,
            health,
            _task: AbortOnDropHandle::new(task),
        });
        known.insert(scope.clone(), Arc::downgrade(&watch));
        watch
    }
}

type Objects = Arc<RwLock<HashMap<String, Arc<Value>>>>;

async fn follow(api: Api<DynamicObject>, copy: Copy) {
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    if copy.scope.marked {
        config = config.labels(WORKLOAD_UID);
    }
    let mut pause = FIRST_PAUSE;
    let (mut was_synced, mut refused_since) = (false, None);
    loop {
        let mut stream = std::pin::pin!(watcher(api.clone(), config.clone()));
        let mut listed = HashMap::new();
        while let Some(event) = stream.next().await {
            let broken = match event {
                Ok(event) => {
                    // The first event comes before the server is asked.
                    if !matches!(event, Event::Init) {
                        (pause, refused_since) = (FIRST_PAUSE, None);
                    }
                    was_synced |= matches!(event, Event::InitDone);
                    copy.take(event, &mut listed);
                    continue;
                }
                Err(error) => lasting(error),
            };
            let forbidden = matches!(&broken, Some(kube::Error::Api(status)) if status.is_forbidden());
            let again = broken.is_some();
            refused_since = forbidden.then(|| refused_since.unwrap_or_else(Instant::now));
            let starting = was_synced && refused_since.is_some_and(|since| since.elapsed() < FORBIDDEN_AFTER);
            if let Some(error) = broken.filter(|_| !starting) {
                copy.broke(error);
            }
            let long = forbidden && !starting;
            tokio::time::sleep(if long { FORBIDDEN_PAUSE } else { pause }).await;
            pause = (pause * 2).min(LAST_PAUSE);
            if again {
                // A watch that goes on says nothing until something changes; a list says at once that it is back.
                break;
            }
        }
    }
}

/// What a watch fills.
struct Copy {
    scope: Scope,
    objects: Objects,
    health: watch::Sender<Health>,
    tell: Tell,
}

impl Copy {
    fn take(&self, event: Event<DynamicObject>, listed: &mut HashMap<String, Arc<Value>>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                if let Some(object) = value(&object, &self.scope) {
                    listed.insert(name(&object).to_owned(), object);
                }
            }
            Event::InitDone => {
                *write(&self.objects) = std::mem::take(listed);
                self.health.send_replace(Health::Synced);
                (self.tell)(&self.scope, None);
            }
            Event::Apply(object) => {
                let Some(object) = value(&object, &self.scope) else {
                    return;
                };
                let before = read(&self.objects).get(name(&object)).cloned();
                put(&self.objects, Arc::clone(&object));
                tell_of(&self.scope, &self.tell, before.as_deref(), Some(&object));
            }
            Event::Delete(object) => {
                let before = write(&self.objects).remove(&object.name_any());
                tell_of(&self.scope, &self.tell, before.as_deref(), None);
            }
        }
    }

    fn broke(&self, error: kube::Error) {
        tracing::debug!(scope = ?self.scope, error = crate::error::chain(&error), "a member's watch is broken");
        self.health.send_replace(Health::Broken(Arc::new(error)));
        (self.tell)(&self.scope, None);
    }
}

/// The error, where it means that the copy does not follow; a watch that only has to begin anew does so at once.
fn lasting(error: watcher::Error) -> Option<kube::Error> {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => Some(error),
        watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_) | watcher::Error::NoResourceVersion => None,
    }
}

fn tell_of(scope: &Scope, tell: &Tell, before: Option<&Value>, after: Option<&Value>) {
    if !scope.marked {
        return tell(scope, None);
    }
    let workload = |object: Option<&Value>| {
        let annotations = object?.pointer("/metadata/annotations")?;
        Some(annotations.get(WORKLOAD)?.as_str()?.to_owned())
    };
    let (before, after) = (workload(before), workload(after));
    for workload in [
        before.as_deref(),
        after.as_deref().filter(|after| before.as_deref() != Some(after)),
    ]
    .into_iter()
    .flatten()
    {
        tell(scope, Some(workload));
    }
}

/// The object as a value; list items of an API server carry no apiVersion and kind.
fn value(object: &DynamicObject, scope: &Scope) -> Option<Arc<Value>> {
    let mut value = serde_json::to_value(object).ok()?;
    value["apiVersion"] = Value::String(scope.api_version.clone());
    value["kind"] = Value::String(scope.kind.clone());
    Some(Arc::new(value))
}

fn put(objects: &Objects, object: Arc<Value>) {
    let mut objects = write(objects);
    let older = objects
        .get(name(&object))
        .is_some_and(|known| version(known) > version(&object));
    if !older {
        objects.insert(name(&object).to_owned(), object);
    }
}

fn name(object: &Value) -> &str {
    object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The resourceVersion: comparable within one kind of one server.
fn version(object: &Value) -> u64 {
    let text = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
