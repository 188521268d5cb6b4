//! Copies of what stands in the members, one watch for each member, namespace and kind, for as long as someone needs
//! it. They show drift and readiness without polling.

use super::copy::{Kept, Seen};
use super::kinds::Kind;
use super::marks::WORKLOAD_UID;
use crate::metrics::Metrics;
use crate::supervise::supervise;
use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
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
/// How many objects are read at a time where all are: what is read at once is in memory at once.
const PAGE: u32 = 100;
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
    objects: Objects,
    api_version: String,
    kind: String,
    health: watch::Receiver<Health>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// The object of this name, `None` where the copy has none. Ask for [`Watch::synced`] first.
    pub fn get(&self, name: &str) -> Option<Arc<Kept>> {
        read(&self.objects).get(name).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Value> {
        let all: Vec<_> = read(&self.objects).values().cloned().collect();
        all.iter().map(|kept| self.value(kept)).collect()
    }

    /// An object of this watch as it is; items of a server's list carry no apiVersion and kind.
    pub fn value(&self, kept: &Kept) -> Value {
        let mut value = kept.value();
        value["apiVersion"] = Value::String(self.api_version.clone());
        value["kind"] = Value::String(self.kind.clone());
        value
    }

    /// Puts in what the server just answered to a write, unless the watch has shown something newer.
    pub fn learn(&self, name: &str, object: &Value) {
        put(&self.objects, name, Arc::new(Kept::new(object)));
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
        let api: Api<Seen> = if scope.namespace.is_empty() {
            Api::all_with(client.clone(), &kind.resource)
        } else {
            Api::namespaced_with(client.clone(), &scope.namespace, &kind.resource)
        };
        let objects = Objects::default();
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
            api_version: scope.api_version.clone(),
            kind: scope.kind.clone(),
            health,
            _task: AbortOnDropHandle::new(task),
        });
        known.insert(scope.clone(), Arc::downgrade(&watch));
        watch
    }
}

/// By name.
type Objects = Arc<RwLock<HashMap<String, Arc<Kept>>>>;

async fn follow(api: Api<Seen>, copy: Copy) {
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
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
    fn take(&self, event: Event<Seen>, listed: &mut HashMap<String, Arc<Kept>>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(object.name().to_owned(), object.kept);
            }
            Event::InitDone => {
                *write(&self.objects) = std::mem::take(listed);
                self.health.send_replace(Health::Synced);
                (self.tell)(&self.scope, None);
            }
            Event::Apply(object) => {
                let before = read(&self.objects).get(object.name()).cloned();
                put(&self.objects, object.name(), Arc::clone(&object.kept));
                // What was learned from the answer to a write is no news.
                let known = before
                    .as_ref()
                    .is_some_and(|before| before.version != 0 && before.version == object.kept.version);
                if !known {
                    tell_of(&self.scope, &self.tell, before.as_deref(), Some(&object.kept));
                }
            }
            Event::Delete(object) => {
                let before = write(&self.objects).remove(object.name());
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

fn tell_of(scope: &Scope, tell: &Tell, before: Option<&Kept>, after: Option<&Kept>) {
    if !scope.marked {
        return tell(scope, None);
    }
    let before = before.and_then(|kept| kept.workload.as_deref());
    let after = after.and_then(|kept| kept.workload.as_deref());
    for workload in [before, after.filter(|after| before != Some(after))]
        .into_iter()
        .flatten()
    {
        tell(scope, Some(workload));
    }
}

fn put(objects: &Objects, name: &str, object: Arc<Kept>) {
    let mut objects = write(objects);
    match objects.get_mut(name) {
        Some(known) if known.version > object.version => {}
        Some(known) => *known = object,
        None => {
            objects.insert(name.to_owned(), object);
        }
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
