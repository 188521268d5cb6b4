//! A hub and a member on real API servers, the operator in this process or as its program, and doubles of agents that
//! report what an agent with obedient databases would. Real agents are used end to end.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

pub mod agent;
pub mod databases;
pub mod gate;
pub mod history;
pub mod hook;
pub mod lost;
pub mod program;

use base64::Engine;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::config::{Config, KubeConfigOptions};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use multiactive_api as api;
use multiactive_fleet::Cluster;
use multiactive_fleet::cluster::Options;
use multiactive_ledger::Ended;
use multiactive_operator::leases::HubAddress;
use multiactive_operator::metrics::Metrics;
use multiactive_runtime::probes::Readiness;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const NAMESPACE: &str = "shop";
pub const SYSTEM: &str = "multiactive-system";
const PATIENCE: Duration = Duration::from_secs(60);

/// Two clusters: `east`, the hub, with unit east-1, and `north` with unit north-1.
pub struct World {
    pub east: Cluster,
    pub north: Cluster,
    pub hub: Client,
    pub member: Client,
    pub databases: databases::Databases,
    agents: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.agents.cancel();
    }
}

/// An operator in this process.
pub struct Operator {
    pub ctx: Arc<multiactive_operator::Context>,
    token: CancellationToken,
    task: JoinHandle<Ended>,
}

impl Operator {
    pub async fn start(hub: &Client, identity: &str) -> Self {
        let ctx = multiactive_operator::Context::new(hub.clone(), SYSTEM.into(), identity.into(), Metrics::default());
        Self::run(ctx)
    }

    /// The same, which knows where members reach the hub.
    pub async fn start_with_leases(world: &World, identity: &str) -> Self {
        let kubeconfig = serde_json::from_value(world.east.kubeconfig().clone()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let config = config.unwrap();
        let address = HubAddress::new(config.cluster_url.to_string(), &config);
        let (hub, metrics) = (world.hub.clone(), Metrics::default());
        let ctx = multiactive_operator::Context::new(hub, SYSTEM.into(), identity.into(), metrics);
        Self::run(ctx.with_hub_address(Some(address)))
    }

    fn run(ctx: multiactive_operator::Context) -> Self {
        let token = CancellationToken::new();
        let ctx = Arc::new(ctx);
        let run = multiactive_operator::run(Arc::clone(&ctx), Readiness::not_ready("starting"), token.clone());
        let task = tokio::spawn(run);
        Self { ctx, token, task }
    }

    pub async fn stop(self) {
        self.token.cancel();
        assert_eq!(self.task.await.unwrap(), Ended::Released);
    }
}

impl World {
    /// Both clusters with the kinds, the namespaces and the objects that nothing depends on.
    pub async fn start() -> Self {
        multiactive_runtime::logs::init();
        let (east, north) = tokio::try_join!(
            Cluster::start(Options::api_server_only("east")),
            Cluster::start(Options::api_server_only("north"))
        )
        .unwrap();
        let (hub, member) = (east.client().await.unwrap(), north.client().await.unwrap());
        for client in [&hub, &member] {
            install(client).await;
        }
        let world = Self {
            east,
            north,
            hub,
            member,
            databases: databases::Databases::default(),
            agents: CancellationToken::new(),
        };
        world.members().await;
        world
    }

    async fn members(&self) {
        for (name, cluster) in [("east", &self.east), ("north", &self.north)] {
            let kubeconfig = serde_json::to_vec(cluster.kubeconfig()).unwrap();
            let kubeconfig = base64::engine::general_purpose::STANDARD.encode(kubeconfig);
            self.apply(
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": SYSTEM},
                "data": {"kubeconfig": kubeconfig}}),
            )
            .await;
            self.apply(object("Region", name, json!({}))).await;
            self.apply(member_cluster(name)).await;
        }
    }

    /// The deployment of two units, one keyspace of 16 slots, home of the first half is east-1.
    pub async fn shop(&self) {
        self.apply(keyspace()).await;
        self.shop_without_keyspace().await;
    }

    /// The same, for a Keyspace of the test's own.
    pub async fn shop_without_keyspace(&self) {
        for (unit, cluster) in [("east-1", "east"), ("north-1", "north")] {
            self.apply(unit_object(unit, cluster)).await;
        }
        self.apply(range("users-0", 0, 7, "east-1")).await;
        self.apply(range("users-1", 8, 15, "north-1")).await;
        self.apply(store()).await;
    }

    /// Starts a double of each agent.
    pub fn agents(&self) {
        self.agent("east-1", &self.agents);
        self.agent("north-1", &self.agents);
    }

    /// Starts the double of one agent, until the token is cancelled.
    pub fn agent(&self, unit: &str, until: &CancellationToken) {
        let client = if unit == "east-1" { &self.hub } else { &self.member };
        let run = agent::run(client.clone(), unit.to_owned(), self.databases.clone());
        tokio::spawn(until.clone().run_until_cancelled_owned(run));
    }

    /// Ends the doubles: what they said last stays.
    pub fn agents_end(&self) {
        self.agents.cancel();
    }

    /// Server-side applies an object to the hub, as a user's GitOps would.
    pub async fn apply(&self, object: Value) -> DynamicObject {
        apply_to(&self.hub, object).await
    }

    pub fn namespaced<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.hub.clone(), NAMESPACE)
    }

    pub async fn table(&self) -> Option<api::RoutingTable> {
        self.namespaced().get_opt(api::ROUTING_TABLE).await.unwrap()
    }

    /// The owner of each span as text, such as `0-7 east-1 Serving`.
    pub async fn owners(&self) -> Vec<String> {
        let Some(table) = self.table().await else {
            return Vec::new();
        };
        let table = multiactive_core::table::RoutingTable::try_from(&table.spec).unwrap();
        let spans = table.keyspaces.iter().flat_map(|keyspace| keyspace.spans.clone());
        spans
            .map(|s| {
                format!(
                    "{}-{} {} {:?}",
                    s.first,
                    s.last,
                    s.owner.map(|o| o.0).unwrap_or_default(),
                    s.state
                )
            })
            .collect()
    }

    /// Waits until every slot is served by its home.
    pub async fn served(&self) {
        eventually("every slot is served", async || {
            (self.owners().await == ["0-7 east-1 Serving", "8-15 north-1 Serving"]).then_some(())
        })
        .await;
        eventually("the keyspace is Ready", async || {
            let keyspace: api::Keyspace = self.namespaced().get("users").await.unwrap();
            condition(&keyspace.status?.conditions, "Ready")?
                .eq("True Published")
                .then_some(())
        })
        .await;
    }

    pub async fn epoch(&self) -> i64 {
        self.table().await.unwrap().spec.epoch
    }

    pub async fn promote(&self, name: &str, target: &str, select: Value, epoch: i64) -> DynamicObject {
        let spec = json!({"targetUnit": target, "select": select, "expectedEpoch": epoch, "mode": "Execute"});
        self.apply(namespaced("Promotion", name, spec)).await
    }

    /// Waits for a Promotion's end; `Succeeded` or `Refused/Reason`.
    pub async fn outcome(&self, name: &str) -> String {
        let status = self.ended(name).await;
        let reason = status.reason.map(|reason| format!("/{reason}")).unwrap_or_default();
        format!("{}{reason}", status.outcome.unwrap_or_default())
    }

    pub async fn ended(&self, name: &str) -> api::PromotionStatus {
        eventually(&format!("{name} ended"), async || {
            let promotion: api::Promotion = self.namespaced().get(name).await.unwrap();
            promotion.status.filter(|status| status.outcome.is_some())
        })
        .await
    }
}

/// `status reason` of a condition.
pub fn condition(list: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition], type_: &str) -> Option<String> {
    let found = list.iter().find(|condition| condition.type_ == type_)?;
    Some(format!("{} {}", found.status, found.reason))
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

pub fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "multiactive.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

pub fn namespaced(kind: &str, name: &str, spec: Value) -> Value {
    let mut object = object(kind, name, spec);
    object["metadata"]["namespace"] = NAMESPACE.into();
    object
}

pub fn member_cluster(name: &str) -> Value {
    object(
        "MemberCluster",
        name,
        json!({"region": name, "allowedNamespaces": [NAMESPACE],
            "access": {"type": "Kubeconfig", "kubeconfig": {"secret": name}}}),
    )
}

pub fn unit_object(name: &str, cluster: &str) -> Value {
    namespaced(
        "Unit",
        name,
        json!({"cluster": cluster, "role": "Sharded", "router": format!("https://{name}.example:8443"),
            "backends": [{"name": "shop", "url": "http://127.0.0.1:8080"}]}),
    )
}

pub fn keyspace() -> Value {
    namespaced(
        "Keyspace",
        "users",
        json!({"slots": 16, "function": {"type": "Crc32"}, "routes": [{"pathPrefix": "/orders", "backend": "shop"}],
            "key": {"sources": [{"type": "Header", "header": {"name": "x-user-id"}}]}}),
    )
}

pub fn range(name: &str, first: i64, last: i64, home: &str) -> Value {
    namespaced(
        "ShardRange",
        name,
        json!({"keyspace": "users", "firstSlot": first, "lastSlot": last, "homeUnit": home}),
    )
}

pub fn store() -> Value {
    let member = |unit: &str| json!({"unit": unit, "address": "127.0.0.1:5432", "credentials": "shop-db"});
    namespaced(
        "DataStore",
        "orders",
        json!({"topology": "Sharded", "keyspace": "users",
            "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "shop"}},
            "tables": [{"name": "orders", "shardKey": "user_id"}],
            "members": [member("east-1"), member("north-1")]}),
    )
}

pub async fn apply_to(client: &Client, object: Value) -> DynamicObject {
    let (api, name) = dynamic(client, &object);
    let params = PatchParams::apply("gitops").force();
    api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap()
}

pub fn dynamic(client: &Client, object: &Value) -> (Api<DynamicObject>, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text(&object["kind"])));
    let name = text(&object["metadata"]["name"]);
    let api = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    (api, name)
}

async fn install(client: &Client) {
    for namespace in [NAMESPACE, SYSTEM] {
        apply_to(
            client,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        )
        .await;
    }
    let crds = api::crd::all().unwrap();
    let defined: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in &crds {
        let params = PatchParams::apply("test").force();
        defined
            .patch(&crd.name_any(), &params, &Patch::Apply(crd))
            .await
            .unwrap();
    }
    for crd in &crds {
        let name = crd.name_any();
        eventually(&format!("{name} is established"), async || {
            let found = defined.get(&name).await.unwrap();
            let mut conditions = found.status?.conditions?.into_iter();
            conditions
                .find(|c| c.type_ == "Established" && c.status == "True")
                .map(drop)
        })
        .await;
    }
}

/// For messages of failed assertions.
pub fn show(value: &impl Debug) -> String {
    format!("{value:#?}")
}
