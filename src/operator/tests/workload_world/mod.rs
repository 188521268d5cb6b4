//! Two real API servers, hub and member, and the part of the operator that keeps workloads, for the tests beside this.
#![allow(dead_code, reason = "each test binary uses its own part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests fail as tests do")]

use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use multiactive_api::{Unit, UnitWorkload};
use multiactive_fleet::cluster::{Cluster, Options};
use multiactive_operator::Context;
use multiactive_operator::members::{Health, Member};
use multiactive_operator::metrics::Metrics;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The member that is the hub itself.
pub const HOME: &str = "home";
/// The other member.
pub const EAST: &str = "east";
/// Namespaces that the members do not allow begin with this.
pub const FORBIDDEN: &str = "forbidden-";

/// Hub and member.
pub struct World {
    pub hub: Cluster,
    pub member: Cluster,
}

static WORLD: OnceCell<World> = OnceCell::const_new();
static OPERATOR: OnceCell<Mutex<Vec<String>>> = OnceCell::const_new();

impl World {
    /// The two clusters of this test binary, with our kinds in the hub.
    pub async fn get() -> &'static World {
        WORLD
            .get_or_init(|| async {
                let start = |name: &str| Cluster::start(Options::api_server_only(name));
                let (hub, member) = tokio::try_join!(start(HOME), start(EAST)).unwrap();
                let world = World { hub, member };
                world.install().await;
                world
            })
            .await
    }

    async fn install(&self) {
        let client = self.hub.client().await.unwrap();
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in multiactive_api::crd::all().unwrap() {
            apply(&definitions, &definition).await;
        }
        for name in ["unitworkloads", "units", "memberclusters"] {
            let name = format!("{name}.multiactive.io");
            eventually("the definitions are established", || async {
                let found = definitions.get(&name).await.ok()?;
                let status = found.status?.conditions?;
                status
                    .iter()
                    .any(|c| c.type_ == "Established" && c.status == "True")
                    .then_some(())
            })
            .await;
        }
        let members: Api<multiactive_api::MemberCluster> = Api::all(client);
        for name in [HOME, EAST] {
            let member = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": "MemberCluster", "metadata": {"name": name},
                "spec": {"region": "r", "access": {"type": "InCluster"}}});
            apply(&members, &member).await;
        }
    }

    pub fn cluster(&self, name: &str) -> &Cluster {
        if name == HOME { &self.hub } else { &self.member }
    }

    pub async fn client(&self, name: &str) -> Client {
        self.cluster(name).client().await.unwrap()
    }

    /// A namespace in both clusters with a team that may do everything with these resources, and a unit in each
    /// member: `home-1` and `east-1`.
    pub async fn team(&'static self, namespace: &str, rules: &Value) -> Team {
        allow(namespace).await;
        for cluster in [HOME, EAST] {
            let client = self.client(cluster).await;
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            apply(&Api::<Namespace>::all(client.clone()), &object).await;
            let object =
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "multiactive-deployer"}});
            apply(&Api::<ServiceAccount>::namespaced(client.clone(), namespace), &object).await;
            let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "team"},
                "rules": rules});
            apply(&Api::<Role>::namespaced(client.clone(), namespace), &role).await;
            let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": "team"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "team"},
                "subjects": [{"kind": "ServiceAccount", "name": "multiactive-deployer", "namespace": namespace}]});
            apply(&Api::<RoleBinding>::namespaced(client, namespace), &binding).await;
        }
        let hub = self.client(HOME).await;
        for (unit, cluster) in [("home-1", HOME), ("east-1", EAST)] {
            let object = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": "Unit", "metadata": {"name": unit},
                "spec": {"cluster": cluster, "role": "Sharded", "router": "https://r.example:8443"}});
            apply(&Api::<Unit>::namespaced(hub.clone(), namespace), &object).await;
        }
        Team {
            world: self,
            namespace: namespace.to_owned(),
            hub,
        }
    }
}

/// Rules with which a team may keep what the tests use.
pub fn usual_rules() -> Value {
    let verbs = json!(["get", "list", "watch", "create", "patch", "delete"]);
    json!([
        {"apiGroups": [""], "resources": ["configmaps", "secrets", "services"], "verbs": verbs},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": verbs},
    ])
}

/// A running part of the operator; it ends when it is dropped.
pub struct Running {
    token: CancellationToken,
    pub tasks: TaskTracker,
    pub ctx: Arc<Context>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

impl Running {
    /// Ends it and waits for the end of all that it does.
    pub async fn stop(self) {
        self.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Starts the workload part of the operator, with both members allowing `namespaces`.
pub async fn operate(world: &World, namespaces: &[String]) -> Running {
    let client = patient(&config(&world.hub).await);
    let ctx = Arc::new(Context::new(
        client.clone(),
        "multiactive-system".into(),
        "test".into(),
        Metrics::default(),
    ));
    let (token, tasks) = (CancellationToken::new(), TaskTracker::new());
    ctx.hub.start(&client, &ctx.metrics, &tasks, &token);
    for name in [HOME, EAST] {
        ctx.members.put(member(world, name, namespaces).await);
    }
    tasks.spawn(multiactive_operator::workload::run(Arc::clone(&ctx), token.clone()));
    Running { token, tasks, ctx }
}

pub async fn member(world: &World, name: &str, namespaces: &[String]) -> Member {
    let config = config(world.cluster(name)).await;
    Member {
        name: name.to_owned(),
        client: patient(&config),
        config,
        connection: 1,
        uid: name.to_owned(),
        hub: name == HOME,
        allowed_namespaces: namespaces.to_vec(),
        agent_namespace: "multiactive-system".into(),
        health: Health::Ready,
    }
}

async fn config(cluster: &Cluster) -> Config {
    let kubeconfig: Kubeconfig = serde_json::from_value(cluster.kubeconfig().clone()).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap()
}

fn patient(config: &Config) -> Client {
    let mut config = config.clone();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// Adds a namespace to those that the shared operator's members allow, and starts that operator where it does not run.
async fn allow(namespace: &str) {
    let allowed = OPERATOR.get_or_init(|| async { Mutex::default() }).await;
    allowed.lock().unwrap().push(namespace.to_owned());
}

/// The operator that all tests of this binary share, on a runtime of its own: each test's ends with the test.
pub async fn shared_operator(world: &'static World) {
    static STARTED: OnceCell<tokio::sync::watch::Receiver<bool>> = OnceCell::const_new();
    let started = STARTED.get_or_init(|| async {
        let (ready, started) = tokio::sync::watch::channel(false);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let running = operate(world, &[]).await;
                ready.send_replace(true);
                let mut known = 0;
                loop {
                    let allowed: Vec<String> = OPERATOR
                        .get()
                        .map(|all| all.lock().unwrap().clone())
                        .unwrap_or_default();
                    if allowed.len() != known {
                        known = allowed.len();
                        let allowed: Vec<String> =
                            allowed.into_iter().filter(|ns| !ns.starts_with(FORBIDDEN)).collect();
                        for name in [HOME, EAST] {
                            running.ctx.members.put(member(world, name, &allowed).await);
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        started
    });
    started.await.clone().wait_for(|ready| *ready).await.unwrap();
}

/// A team with its namespace.
pub struct Team {
    pub world: &'static World,
    pub namespace: String,
    pub hub: Client,
}

impl Team {
    pub fn workloads(&self) -> Api<UnitWorkload> {
        Api::namespaced(self.hub.clone(), &self.namespace)
    }

    pub async fn api<K>(&self, cluster: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.world.client(cluster).await, &self.namespace)
    }

    pub async fn config_maps(&self, cluster: &str) -> Api<ConfigMap> {
        self.api(cluster).await
    }

    /// Applies a UnitWorkload, as its team does.
    pub async fn declare(&self, name: &str, spec: Value) {
        let object = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": "UnitWorkload", "metadata": {"name": name},
            "spec": spec});
        apply(&self.workloads(), &object).await;
    }

    /// Waits until the condition Ready of the present generation has this status and reason; gives its message.
    pub async fn until(&self, name: &str, status: &str, reason: &str) -> String {
        let workloads = self.workloads();
        let what = format!("{name} is {status}/{reason}");
        eventually(&what, || async {
            let found = workloads.get(name).await.ok()?;
            let generation = found.metadata.generation;
            let ready = found.status?.conditions.into_iter().find(|c| c.type_ == "Ready")?;
            let as_wanted = ready.status == status && ready.reason == reason && ready.observed_generation == generation;
            as_wanted.then_some(ready.message)
        })
        .await
    }

    pub async fn get(&self, name: &str) -> UnitWorkload {
        self.workloads().get(name).await.unwrap()
    }

    /// Waits for an event of this reason about a UnitWorkload; gives its note.
    pub async fn event(&self, name: &str, reason: &str) -> String {
        let events: Api<Event> = Api::namespaced(self.hub.clone(), &self.namespace);
        eventually(&format!("event {reason} of {name}"), || async {
            let list = events.list(&ListParams::default()).await.ok()?;
            let mut found = list.items.into_iter();
            let event = found.find(|event| {
                event.reason.as_deref() == Some(reason) && event.involved_object.name.as_deref() == Some(name)
            })?;
            event.message
        })
        .await
    }
}

/// A ConfigMap as a manifest.
pub fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}})
}

/// Applies as a person does.
pub async fn apply<K, D>(api: &Api<K>, object: &D) -> K
where
    K: DeserializeOwned + Clone + Debug,
    D: Serialize + Debug,
{
    apply_as(api, object, "a-person").await
}

/// Applies under this field manager, taking what it names.
pub async fn apply_as<K, D>(api: &Api<K>, object: &D, manager: &str) -> K
where
    K: DeserializeOwned + Clone + Debug,
    D: Serialize + Debug,
{
    let value = serde_json::to_value(object).unwrap();
    let name = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap()
        .to_owned();
    let params = PatchParams::apply(manager).force();
    match api.patch(&name, &params, &Patch::Apply(&value)).await {
        Ok(object) => object,
        Err(error) => panic!("applying {value}: {error}"),
    }
}

/// Changes by an update, as `kubectl edit` does.
pub async fn edit<K>(api: &Api<K>, name: &str, change: Value) -> K
where
    K: DeserializeOwned + Clone + Debug,
{
    let params = PatchParams {
        field_manager: Some("kubectl-edit".into()),
        ..PatchParams::default()
    };
    api.patch(name, &params, &Patch::Merge(change)).await.unwrap()
}

pub async fn delete<K>(api: &Api<K>, name: &str)
where
    K: DeserializeOwned + Clone + Debug,
{
    api.delete(name, &DeleteParams::default()).await.unwrap();
}

/// Waits until `look` gives something; says what never came.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    eventually_within(Duration::from_secs(40), what, look).await
}

/// As [`eventually`], with a limit.
pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < limit, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until an object is there and as wanted.
pub async fn until_object<K>(api: &Api<K>, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> K
where
    K: DeserializeOwned + Clone + Debug + kube::Resource,
{
    eventually(&format!("{name} {what}"), || async {
        api.get_opt(name).await.ok().flatten().filter(|found| wanted(found))
    })
    .await
}

/// Waits until there is no object of this name.
pub async fn until_gone<K>(api: &Api<K>, name: &str)
where
    K: DeserializeOwned + Clone + Debug + kube::Resource,
{
    eventually(&format!("{name} is gone"), || async {
        let found = api.get_opt(name).await.ok()?;
        found.is_none().then_some(())
    })
    .await;
}

/// The value under `a` of a ConfigMap.
pub fn a(map: &ConfigMap) -> Option<&str> {
    map.data.as_ref()?.get("a").map(String::as_str)
}

/// The message of an object in the status of a unit.
pub fn object_message(workload: &UnitWorkload, unit: &str, name: &str) -> Option<String> {
    let units = &workload.status.as_ref()?.units;
    let unit = units.iter().find(|known| known.unit == unit)?;
    unit.objects.iter().find(|object| object.name == name)?.message.clone()
}

pub fn name_of(object: &impl ResourceExt) -> String {
    object.name_any()
}
