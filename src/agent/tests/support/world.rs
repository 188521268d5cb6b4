//! Units of one namespace, each with its database and its agent, and the operator that the test plays.

use super::{TESTER, database, namespace, secret, session, until};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use multiactive_agent::metrics::Metrics;
use multiactive_agent::routers::RouterHub;
use multiactive_agent::{Agent, Events, Shared, lease};
use multiactive_api::{
    AssignedStoreStatus, ROUTING_TABLE, RoutingTable as StoredTable, RoutingTableSpec, UnitAssignment,
    UnitAssignmentStatus,
};
use multiactive_core::epoch::Epoch;
use multiactive_core::slots::SlotSet;
use multiactive_core::span::SpanState;
use multiactive_core::table::{KeyspaceTable, RoutingTable, TableUnit};
use multiactive_fleet::cluster::Cluster;
use multiactive_fleet::postgres::Postgres as Server;
use multiactive_runtime::certs::{Ca, TlsFiles, agent_name, router_name};
use multiactive_runtime::probes::Readiness;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Slots of the tests' keyspace.
pub const SLOTS: u32 = 256;

/// One namespace.
pub struct World {
    pub client: Client,
    pub kubeconfig: PathBuf,
    pub namespace: String,
    pub units: Vec<String>,
    pub databases: Vec<Server>,
    pub ca: Ca,
    dir: tempfile::TempDir,
    table: Mutex<RoutingTable>,
}

/// An agent in this process.
pub struct Running {
    pub routers: std::net::SocketAddr,
    pub metrics: Metrics,
    /// Its way to the ledger: none, until a test gives it one.
    pub hub: watch::Sender<lease::Hub>,
    token: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// As SIGTERM ends it.
    pub async fn stop(self) {
        self.token.cancel();
        self.task.await.unwrap();
    }

    /// As a crash ends it: between two instructions.
    pub async fn abort(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl World {
    /// A namespace with these units, each with a database, a Secret and an assignment; no table yet.
    pub async fn new(cluster: &Cluster, name: &str, units: &[&str]) -> World {
        let client = cluster.client().await.unwrap();
        namespace(&client, name).await;
        let databases = futures::future::join_all(units.iter().map(|_| database())).await;
        let day = SignedDuration::from_hours(24);
        let now = Timestamp::now();
        let world = World {
            client,
            kubeconfig: cluster.kubeconfig_path(),
            namespace: name.to_owned(),
            units: units.iter().map(|unit| (*unit).to_owned()).collect(),
            databases,
            ca: Ca::generate("test", now - day, now + day).unwrap(),
            dir: tempfile::tempdir().unwrap(),
            table: Mutex::new(empty_table(units)),
        };
        for unit in units {
            world.credentials(unit, world.database(unit).password()).await;
            world.assign(unit).await;
        }
        world
    }

    /// Two units, `east-1` and `north-1`, with an agent each; the first owns every slot.
    pub async fn pair(cluster: &Cluster, name: &str) -> (World, [Running; 2]) {
        let world = World::new(cluster, name, &["east-1", "north-1"]).await;
        let agents = [world.agent("east-1").await, world.agent("north-1").await];
        world.publish(world.table()).await;
        world.all_to("east-1").await;
        (world, agents)
    }

    pub fn database(&self, unit: &str) -> &Server {
        let index = self.units.iter().position(|known| known == unit).unwrap();
        &self.databases[index]
    }

    /// Writes the unit's Secret, with this password for the agent.
    pub async fn credentials(&self, unit: &str, password: &str) {
        let replication = self.database(unit).password();
        let pairs = [
            ("username", "multiactive_agent"),
            ("password", password),
            ("replicationUsername", "multiactive_replication"),
            ("replicationPassword", replication),
        ];
        secret(&self.client, &self.namespace, &format!("{unit}-db"), &pairs).await;
    }

    /// The assignment of a unit that lives in the cluster of the same name.
    pub async fn assign(&self, unit: &str) {
        self.assign_with(unit, json!([self.store("orders", "orders", unit)]))
            .await;
    }

    /// One store of a unit.
    pub fn store(&self, name: &str, table: &str, unit: &str) -> Value {
        let peers = self.units.iter().filter(|peer| *peer != unit);
        json!({
            "name": name, "keyspace": "users",
            "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "shop"}},
            "tables": [{"name": table, "shardKey": "user_id"}],
            "local": self.member(unit),
            "peers": peers.map(|peer| self.member(peer)).collect::<Vec<_>>(),
        })
    }

    fn member(&self, unit: &str) -> Value {
        let address = format!("127.0.0.1:{}", self.database(unit).port());
        json!({"unit": unit, "address": address, "credentials": format!("{unit}-db")})
    }

    /// Writes the assignment with these stores, and without a word about the lease.
    pub async fn assign_with(&self, unit: &str, stores: Value) {
        self.assign_leased(unit, stores, Value::Null).await;
    }

    /// Writes the assignment with these stores and this lease.
    pub async fn assign_leased(&self, unit: &str, stores: Value, lease: Value) {
        let mut object = json!({
            "apiVersion": "multiactive.io/v1alpha1", "kind": "UnitAssignment", "metadata": {"name": unit},
            "spec": {
                "unit": unit, "cluster": unit,
                "backends": [],
                "keyspaces": [keyspace("users"), keyspace("carts")],
                "stores": stores,
            },
        });
        if !lease.is_null() {
            object["spec"]["lease"] = lease;
        }
        let params = PatchParams::apply(TESTER).force();
        self.assignments()
            .patch(unit, &params, &Patch::Apply(&object))
            .await
            .unwrap();
    }

    pub fn assignments(&self) -> Api<UnitAssignment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The folder with the certificates of these names.
    pub fn tls(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let day = SignedDuration::from_hours(24);
        let now = Timestamp::now();
        let issued = self.ca.issue(&[name.to_owned()], now - day, now + day).unwrap();
        write(&dir, "ca.crt", self.ca.cert_pem());
        write(&dir, "tls.crt", &issued.cert_pem);
        write(&dir, "tls.key", &issued.key_pem);
        dir
    }

    pub fn router_tls(&self, unit: &str) -> TlsFiles {
        TlsFiles::open(self.tls(&router_name(unit, &self.namespace))).unwrap()
    }

    pub fn agent_tls(&self, cluster: &str) -> PathBuf {
        self.tls(&agent_name(cluster))
    }

    /// Starts the agent of a cluster in this process.
    pub async fn agent(&self, cluster: &str) -> Running {
        self.replica(cluster, true, lease::Hub::default()).await
    }

    /// Starts one replica of an agent in this process, which leads or not, with this way to the ledger.
    pub async fn replica(&self, cluster: &str, leads: bool, hub: lease::Hub) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let routers = listener.local_addr().unwrap();
        let metrics = Metrics::default();
        let client = || {
            multiactive_runtime::kube_client::from_file(
                &self.kubeconfig,
                multiactive_runtime::kube_client::Patience::WATCHES,
            )
        };
        let (requests, watches) = (client().await.unwrap(), client().await.unwrap());
        let (hub, leading) = (watch::Sender::new(hub), watch::Sender::new(leads));
        let leases = lease::Shared {
            watches: watches.clone(),
            hub: hub.subscribe(),
            leading: leading.subscribe(),
            boards: lease::Boards::default(),
            metrics: metrics.clone(),
        };
        let agent = Agent {
            cluster: cluster.to_owned(),
            namespaces: vec![self.namespace.clone()],
            tls: TlsFiles::open(self.agent_tls(cluster)).unwrap(),
            shared: Shared {
                events: Events::new(requests.clone(), cluster),
                requests,
                watches,
                routers: RouterHub::default(),
                metrics: metrics.clone(),
                leases: leases.boards.clone(),
            },
            leases,
            readiness: Readiness::not_ready("starting"),
        };
        let token = CancellationToken::new();
        let stop = token.clone();
        let task = tokio::spawn(async move {
            let leases = agent.keep_leases(stop.clone());
            if leads {
                tokio::join!(agent.run(listener, stop), leases);
            } else {
                leases.await;
            }
            drop(leading);
        });
        Running {
            routers,
            hub,
            metrics,
            token,
            task,
        }
    }

    /// The agent's report of a unit.
    pub async fn status(&self, unit: &str) -> UnitAssignmentStatus {
        self.assignments().get(unit).await.unwrap().status.unwrap_or_default()
    }

    /// Waits for a report that says this.
    pub async fn reported<T>(&self, unit: &str, what: &str, says: impl Fn(&UnitAssignmentStatus) -> Option<T>) -> T {
        until(&format!("{unit}: {what}"), || async {
            let status = self.status(unit).await;
            says(&status).ok_or(status)
        })
        .await
    }

    /// Waits until a unit stands at the present table.
    pub async fn applied(&self, unit: &str) {
        let epoch = self.table().epoch;
        self.reported(unit, &format!("applied {epoch}"), |status| {
            let applied = status.applied?;
            (applied.epoch == i64::try_from(epoch.epoch).unwrap() && status.stores.iter().all(|store| store.ready))
                .then_some(())
        })
        .await;
    }

    /// Waits until every unit stands at the present table and every link runs.
    pub async fn settled(&self) {
        for unit in &self.units {
            self.applied(unit).await;
            self.reported(unit, "links run", |status| {
                let run = status
                    .links
                    .iter()
                    .filter(|link| link.state == multiactive_api::LinkState::Running);
                (run.count() == self.units.len() - 1).then_some(())
            })
            .await;
        }
    }

    /// The first store of a unit, as reported.
    pub async fn store_says(&self, unit: &str, what: &str, says: impl Fn(&AssignedStoreStatus) -> bool) {
        self.reported(unit, what, |status| {
            status.stores.first().is_some_and(&says).then_some(())
        })
        .await;
    }

    pub fn table(&self) -> RoutingTable {
        self.table.lock().unwrap().clone()
    }

    /// Commits a table and projects it.
    pub async fn publish(&self, table: RoutingTable) {
        let spec = RoutingTableSpec::try_from(&table).unwrap();
        *self.table.lock().unwrap() = table;
        let object = StoredTable::new(ROUTING_TABLE, spec);
        let api: Api<StoredTable> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = PatchParams::apply(TESTER).force();
        api.patch(ROUTING_TABLE, &params, &Patch::Apply(&object)).await.unwrap();
    }

    /// As a restored API server has it: the table that was there is gone, this one is there.
    pub async fn restore(&self, table: RoutingTable) {
        let api: Api<StoredTable> = Api::namespaced(self.client.clone(), &self.namespace);
        api.delete(ROUTING_TABLE, &Default::default()).await.unwrap();
        self.publish(table).await;
    }

    /// Gives slots to a unit, in this state, at the next epoch.
    pub async fn own(&self, unit: &str, slots: SlotSet, state: SpanState) {
        let mut table = self.table();
        table.epoch = table.epoch.next();
        let epoch = table.epoch;
        table.keyspaces[0].set(&slots, Some(&unit.into()), state, epoch);
        self.publish(table).await;
    }

    /// Gives all slots to one unit and waits until everyone stands there.
    pub async fn all_to(&self, unit: &str) {
        self.own(unit, SlotSet::range(0, 255), SpanState::Opening).await;
        self.settled().await;
        self.own(unit, SlotSet::range(0, 255), SpanState::Serving).await;
        self.settled().await;
    }

    /// Whether the application may write a row of this user in a unit.
    pub async fn accepts(&self, unit: &str, user: &str) -> Result<(), String> {
        let app = session(self.database(unit), "shop_app", "shop")
            .await
            .map_err(|error| error.to_string())?;
        let id = format!("probe-{}", Timestamp::now());
        let sql = "INSERT INTO orders (id, user_id) VALUES ($1, $2)";
        let written = app.execute(sql, &[&id, &user]).await;
        written
            .map(drop)
            .map_err(|error| error.code().map_or(error.to_string(), |code| code.code().to_owned()))
    }

    pub async fn events(&self, unit: &str) -> Vec<String> {
        let api: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = api.list(&Default::default()).await.unwrap();
        let about = all
            .items
            .into_iter()
            .filter(|event| event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(unit));
        about
            .map(|event| event.reason.clone().unwrap_or_else(|| event.name_any()))
            .collect()
    }
}

/// The table holds `users` alone.
fn keyspace(name: &str) -> Value {
    json!({
        "name": name, "slots": SLOTS, "function": {"type": "Crc32"},
        "key": {"sources": [{"type": "Header", "header": {"name": "x-user-id"}}], "onMissing": "Reject"},
    })
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

fn empty_table(units: &[&str]) -> RoutingTable {
    let mut names: Vec<_> = units.to_vec();
    names.sort_unstable();
    let unit = |name: &&str| TableUnit {
        name: (*name).into(),
        router: format!("https://{name}.example:8443"),
    };
    RoutingTable {
        epoch: Epoch::new(1, 1),
        units: names.iter().map(unit).collect(),
        keyspaces: vec![KeyspaceTable::unowned("users".into(), SLOTS)],
        ..RoutingTable::default()
    }
}
