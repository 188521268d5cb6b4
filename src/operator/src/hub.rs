//! Copies of the hub's objects, one watch a kind for the whole process, and word of every change.

use crate::metrics::Metrics;
use crate::mirror::{Extent, Mirror};
use crate::supervise::supervise;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use multiactive_api::{
    DataStore, Failover, Keyspace, MemberCluster, Promotion, Region, ReplicationLink, RoutingTable, ShardRange, Unit,
    UnitWorkload, Verification,
};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many changes a slow listener may fall behind before it is told that it missed some.
const CHANGES_KEPT: usize = 4096;

/// An object of the hub that appeared, changed or went; name and namespace are empty when a whole list was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The kind.
    pub kind: Arc<str>,
    /// The namespace, empty for cluster-scoped kinds.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// How much of it changed.
    pub extent: Extent,
}

/// The hub's objects. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Regions.
    pub regions: Mirror<Region>,
    /// Member clusters.
    pub members: Mirror<MemberCluster>,
    /// Units.
    pub units: Mirror<Unit>,
    /// Keyspaces.
    pub keyspaces: Mirror<Keyspace>,
    /// Shard ranges.
    pub ranges: Mirror<ShardRange>,
    /// Data stores.
    pub stores: Mirror<DataStore>,
    /// Promotions.
    pub promotions: Mirror<Promotion>,
    /// Failovers.
    pub failovers: Mirror<Failover>,
    /// Verifications.
    pub verifications: Mirror<Verification>,
    /// Replication links.
    pub links: Mirror<ReplicationLink>,
    /// Routing tables: to notice changes by others; the ledger reads the server.
    pub tables: Mirror<RoutingTable>,
    /// Unit workloads.
    pub workloads: Mirror<UnitWorkload>,
    changes: broadcast::Sender<Change>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            regions: Mirror::default(),
            members: Mirror::default(),
            units: Mirror::default(),
            keyspaces: Mirror::default(),
            ranges: Mirror::default(),
            stores: Mirror::default(),
            promotions: Mirror::default(),
            failovers: Mirror::default(),
            verifications: Mirror::default(),
            links: Mirror::default(),
            tables: Mirror::default(),
            workloads: Mirror::default(),
            changes: broadcast::Sender::new(CHANGES_KEPT),
        }
    }
}

impl Hub {
    /// Every change from now on. A listener that gets `Lagged` must look at everything again.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Starts the watches; they end with `token`.
    pub fn start(&self, client: &Client, metrics: &Metrics, tasks: &TaskTracker, token: &CancellationToken) {
        let by = By {
            client,
            metrics,
            tasks,
            token,
        };
        self.watch(&self.regions, &by);
        self.watch(&self.members, &by);
        self.watch(&self.units, &by);
        self.watch(&self.keyspaces, &by);
        self.watch(&self.ranges, &by);
        self.watch(&self.stores, &by);
        self.watch(&self.promotions, &by);
        self.watch(&self.failovers, &by);
        self.watch(&self.verifications, &by);
        self.watch(&self.links, &by);
        self.watch(&self.tables, &by);
        self.watch(&self.workloads, &by);
    }

    /// Waits until every kind has been listed once.
    pub async fn wait_until_ready(&self) {
        self.regions.wait_until_ready().await;
        self.members.wait_until_ready().await;
        self.units.wait_until_ready().await;
        self.keyspaces.wait_until_ready().await;
        self.ranges.wait_until_ready().await;
        self.stores.wait_until_ready().await;
        self.promotions.wait_until_ready().await;
        self.failovers.wait_until_ready().await;
        self.verifications.wait_until_ready().await;
        self.links.wait_until_ready().await;
        self.tables.wait_until_ready().await;
        self.workloads.wait_until_ready().await;
    }

    fn watch<K>(&self, mirror: &Mirror<K>, by: &By<'_>)
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    {
        let api: Api<DeserializeGuard<K>> = Api::all(by.client.clone());
        let (mirror, changes) = (mirror.clone(), self.changes.clone());
        let kind: Arc<str> = K::kind(&()).into();
        let follow = move || {
            let (api, mirror, changes, kind) = (api.clone(), mirror.clone(), changes.clone(), Arc::clone(&kind));
            async move {
                let changed = |namespace: &str, name: &str, extent: Extent| {
                    // Nobody listening is no error.
                    let _ = changes.send(Change {
                        kind: Arc::clone(&kind),
                        namespace: namespace.to_owned(),
                        name: name.to_owned(),
                        extent,
                    });
                };
                mirror.run(api, changed).await;
            }
        };
        let follow = supervise(
            by.metrics.clone(),
            "watch of the hub",
            K::kind(&()).into_owned(),
            follow,
        );
        by.tasks.spawn(by.token.clone().run_until_cancelled_owned(follow));
    }
}

/// What every watch needs.
struct By<'a> {
    client: &'a Client,
    metrics: &'a Metrics,
    tasks: &'a TaskTracker,
    token: &'a CancellationToken,
}
