//! The world, kept up to date by watches: one stream for each kind, each change seen once. Nothing asks again and again.

use crate::client::Session;
use crate::fail::Failure;
use crate::fetch::{World, read_operations, sort};
use crate::operations::KINDS;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use kube::Api;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use multiactive_api::{
    DataStore, Keyspace, MemberCluster, Region, ReplicationLink, RoutingTable, ShardRange, Unit, UnitWorkload,
};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// For how long changes are gathered: one commit changes many objects.
const GATHER: Duration = Duration::from_millis(100);

/// Namespace and name.
type Key = (String, String);
type Stream = BoxStream<'static, (&'static str, Result<Event<DynamicObject>, watcher::Error>)>;

/// What came of waiting.
#[derive(Debug)]
pub enum News {
    /// The first lists have not all come yet.
    NotYet,
    /// The world as it is now.
    World(Box<World>),
    /// A watch broke; it is begun anew by itself.
    Trouble(String),
}

/// All objects of the group, as the watches know them.
pub struct Watching {
    streams: SelectAll<Stream>,
    kinds: BTreeMap<&'static str, Known>,
}

/// What is known of a kind.
#[derive(Default)]
struct Known {
    objects: BTreeMap<Key, DynamicObject>,
    /// A list that is coming.
    coming: BTreeMap<Key, DynamicObject>,
    listed: bool,
    forbidden: Option<String>,
}

impl Known {
    fn take(&mut self, event: Event<DynamicObject>) {
        self.forbidden = None;
        match event {
            Event::Init => self.coming.clear(),
            Event::InitApply(object) => drop(self.coming.insert(key(&object), object)),
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.coming);
                self.listed = true;
            }
            Event::Apply(object) => drop(self.objects.insert(key(&object), object)),
            Event::Delete(object) => drop(self.objects.remove(&key(&object))),
        }
    }
}

fn key(object: &DynamicObject) -> Key {
    let metadata = &object.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name))
}

impl Watching {
    /// Begins to watch; `None` for all namespaces.
    pub fn start(session: &Session, namespace: Option<&str>) -> Self {
        let mut watching = Self {
            streams: SelectAll::new(),
            kinds: BTreeMap::new(),
        };
        watching.add(session, "regions", &ApiResource::erase::<Region>(&()), None);
        watching.add(
            session,
            "memberclusters",
            &ApiResource::erase::<MemberCluster>(&()),
            None,
        );
        watching.add(session, "units", &ApiResource::erase::<Unit>(&()), namespace);
        watching.add(session, "keyspaces", &ApiResource::erase::<Keyspace>(&()), namespace);
        watching.add(
            session,
            "shardranges",
            &ApiResource::erase::<ShardRange>(&()),
            namespace,
        );
        watching.add(
            session,
            "routingtables",
            &ApiResource::erase::<RoutingTable>(&()),
            namespace,
        );
        watching.add(session, "datastores", &ApiResource::erase::<DataStore>(&()), namespace);
        watching.add(
            session,
            "replicationlinks",
            &ApiResource::erase::<ReplicationLink>(&()),
            namespace,
        );
        watching.add(
            session,
            "unitworkloads",
            &ApiResource::erase::<UnitWorkload>(&()),
            namespace,
        );
        for kind in KINDS {
            watching.add(session, kind.plural, &kind.resource(), namespace);
        }
        watching
    }

    fn add(&mut self, session: &Session, plural: &'static str, resource: &ApiResource, namespace: Option<&str>) {
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(session.watches.clone(), namespace, resource),
            None => Api::all_with(session.watches.clone(), resource),
        };
        let config = watcher::Config::default().timeout(multiactive_runtime::watch::SECONDS);
        let stream = watcher(api, config).default_backoff();
        self.streams.push(stream.map(move |event| (plural, event)).boxed());
        self.kinds.insert(plural, Known::default());
    }

    /// Waits for a change.
    ///
    /// # Errors
    ///
    /// Where the first lists do not come, but for kinds other than Units that may not be read: those are unknown.
    pub async fn next(&mut self, session: &Session) -> Result<News, Failure> {
        let mut until = None;
        loop {
            let event = match until {
                None => self.streams.next().await,
                Some(until) => match tokio::time::timeout_at(until, self.streams.next()).await {
                    Ok(event) => event,
                    Err(_) => break,
                },
            };
            // The watches never end.
            let Some((plural, event)) = event else {
                return Err(Failure::error("the watches ended"));
            };
            match event {
                Ok(event) => {
                    self.kinds.entry(plural).or_default().take(event);
                    until.get_or_insert_with(|| Instant::now() + GATHER);
                }
                Err(error) => {
                    if let Some(trouble) = self.failed(session, plural, &error)? {
                        return Ok(News::Trouble(trouble));
                    }
                }
            }
        }
        if self
            .kinds
            .values()
            .all(|known| known.listed || known.forbidden.is_some())
        {
            return Ok(News::World(Box::new(self.world())));
        }
        Ok(News::NotYet)
    }

    fn failed(
        &mut self,
        session: &Session,
        plural: &'static str,
        error: &watcher::Error,
    ) -> Result<Option<String>, Failure> {
        let doing = format!("watching {plural}");
        let failure = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => session.explain(&doing, error),
            watcher::Error::WatchError(status) => session.explain(&doing, &kube::Error::Api(status.clone())),
            watcher::Error::NoResourceVersion => Failure::error(format!("{doing}: the answer has no resourceVersion")),
        };
        let known = self.kinds.entry(plural).or_default();
        match failure {
            Failure::Forbidden(why) if plural != "units" => {
                known.forbidden = Some(why);
                Ok(None)
            }
            Failure::Said { .. } | Failure::Forbidden(_) | Failure::Closed => match known.listed {
                true => Ok(Some(failure.to_string())),
                false => Err(failure),
            },
        }
    }

    fn world(&self) -> World {
        let mut world = World::default();
        let all = |plural: &str| -> Vec<DynamicObject> {
            self.kinds
                .get(plural)
                .map(|known| known.objects.values().cloned().collect())
                .unwrap_or_default()
        };
        let lost = &mut world.unreadable;
        world.regions = sort(all("regions"), lost);
        world.clusters = sort(all("memberclusters"), lost);
        world.units = sort(all("units"), lost);
        world.keyspaces = sort(all("keyspaces"), lost);
        world.ranges = sort(all("shardranges"), lost);
        world.tables = sort(all("routingtables"), lost);
        world.stores = sort(all("datastores"), lost);
        world.links = sort(all("replicationlinks"), lost);
        world.workloads = sort(all("unitworkloads"), lost);
        for kind in KINDS {
            world.operations.extend(read_operations(*kind, all(kind.plural), lost));
        }
        world.unknown = self
            .kinds
            .values()
            .filter_map(|known| known.forbidden.clone())
            .collect();
        world
    }
}
