//! One cluster for all tests of this file, with the chart installed by a real Helm, and short ways to ask it.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::{Api, Client};
use multiactive_fleet::cluster::{Cluster, Options};
use multiactive_fleet::tools::{Tool, ensure};
use serde_json::{Value, json};
use std::future::Future;
use std::path::Path;
use std::sync::LazyLock;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// Where the chart is installed.
pub const SYSTEM: &str = "multiactive-system";
/// A team's namespace, in which the chart lets multiactive work.
pub const TEAM: &str = "shop";

/// Outlives the single test, as the cluster does.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

/// Runs a test in the runtime of the cluster.
pub fn run(test: impl Future<Output = ()>) {
    RUNTIME.block_on(test);
}

/// The cluster, which ends with this process.
pub async fn cluster() -> &'static Cluster {
    CLUSTER.get_or_init(|| async { start().await }).await
}

async fn start() -> Cluster {
    let cluster = Cluster::start(Options::api_server_only("api-tests")).await.unwrap();
    let client = cluster.client().await.unwrap();
    for name in [SYSTEM, TEAM] {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"team": "a"}}})).unwrap();
        let api: Api<Namespace> = Api::all(client.clone());
        api.create(&PostParams::default(), &namespace).await.unwrap();
    }
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/multiactive");
    let kubeconfig = cluster.kubeconfig_path();
    let helm = tokio::task::spawn_blocking(move || {
        std::process::Command::new(ensure(Tool::Helm).unwrap())
            .args(["install", "multiactive", "--namespace", SYSTEM, "--kubeconfig"])
            .args([&kubeconfig, &chart])
            .args(["--set", "cluster=east,member.namespaces={shop}"])
            .args(["--set", "image.repository=registry.invalid"])
            .args([
                "--set",
                "operator.fencingHookSecrets[0].name=pdu,operator.fencingHookSecrets[0].namespace=shop",
            ])
            .args(["--set", "router.units[0].name=east-1,router.units[0].namespace=shop"])
            .output()
            .unwrap()
    });
    let output = helm.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    policies_are_in_force(&client).await;
    cluster
}

/// The API server compiles policies in the background: waits until those refuse that even an administrator meets.
async fn policies_are_in_force(client: &Client) {
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    // A member of system:masters may create a table, so only the wish to change it shows the policy.
    let table = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": "RoutingTable",
        "metadata": {"name": "routing", "namespace": TEAM}, "spec": {"term": 1, "epoch": 1}});
    let tables = api(client, &table);
    tables.create(&PostParams::default(), &object(&table)).await.unwrap();
    until_refused("only the operator changes", async || {
        let mut changed = tables.get("routing").await.unwrap();
        changed.data["spec"]["epoch"] = json!(2);
        tables.replace("routing", &dry, &changed).await.map(drop)
    })
    .await;
    tables.delete("routing", &DeleteParams::default()).await.unwrap();
    for new in [
        crate::good::unit_assignment("policies"),
        crate::good::replication_link(),
        crate::leases::lease("policies"),
    ] {
        let create = async || api(client, &new).create(&dry, &object(&new)).await.map(drop);
        until_refused("only the operator ", create).await;
    }
}

async fn until_refused(text: &str, attempt: impl AsyncFn() -> kube::Result<()>) {
    loop {
        match attempt().await {
            Ok(()) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            Err(error) => {
                assert!(error.to_string().contains(text), "{error}");
                break;
            }
        }
    }
}

/// The client of a user without a group.
pub async fn user(name: &str) -> Client {
    cluster().await.client_for(name, None).await.unwrap()
}

/// The client of an administrator.
pub async fn admin() -> Client {
    cluster().await.client().await.unwrap()
}

/// The client of an account of the chart.
pub async fn account(name: &str) -> Client {
    user(&format!("system:serviceaccount:{SYSTEM}:{name}")).await
}

/// The client of one who may write objects like this one: what is generated is the operator's.
pub async fn writer(of: &Value) -> Client {
    match of["kind"].as_str() {
        Some("UnitAssignment" | "ReplicationLink") => account("multiactive-operator").await,
        _ => admin().await,
    }
}

/// Where objects like this one are.
pub fn api(client: &Client, like: &Value) -> Api<DynamicObject> {
    let text = |pointer: &str| like.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let gvk = kube::core::GroupVersionKind::gvk(group, version, text("/kind"));
    let resource = ApiResource::from_gvk(&gvk);
    match text("/metadata/namespace") {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

/// The object.
pub fn object(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}

/// Would the server take it?
pub async fn try_create(client: &Client, value: &Value) -> Result<(), String> {
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let answer = api(client, value).create(&params, &object(value)).await;
    answer.map(drop).map_err(message)
}

/// Creates it for good.
pub async fn create(client: &Client, value: &Value) {
    let answer = api(client, value).create(&PostParams::default(), &object(value)).await;
    answer.unwrap_or_else(|error| panic!("{value}: {error}"));
}

/// Would the server take the stored object of this name with this content instead?
pub async fn try_replace(client: &Client, value: &Value, dry_run: bool) -> Result<(), String> {
    let name = value["metadata"]["name"].as_str().unwrap();
    let mut new = object(value);
    let stored = api(&admin().await, value).get(name).await.unwrap();
    new.metadata.resource_version = stored.metadata.resource_version;
    let params = PostParams {
        dry_run,
        ..PostParams::default()
    };
    api(client, value)
        .replace(name, &params, &new)
        .await
        .map(drop)
        .map_err(message)
}

/// Would the server delete it?
pub async fn try_delete(client: &Client, value: &Value) -> Result<(), String> {
    let params = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    let name = value["metadata"]["name"].as_str().unwrap();
    api(client, value)
        .delete(name, &params)
        .await
        .map(drop)
        .map_err(message)
}

/// What the server said.
pub fn message(error: kube::Error) -> String {
    let kube::Error::Api(status) = error else {
        panic!("no answer of the API server: {error}");
    };
    status.message.clone()
}

/// `value` with something else at `pointer`; null takes it away, and what followed it in a list.
pub fn with(value: &Value, pointer: &str, new: Value) -> Value {
    let mut value = value.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = value
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("nothing at {parent}"));
    if let Value::Array(list) = parent {
        let index: usize = key.parse().unwrap();
        list.truncate(index);
        list.push(new);
    } else if new.is_null() {
        parent.as_object_mut().unwrap().remove(key);
    } else {
        parent[key] = new;
    }
    value
}

/// Fails unless the server refused with this text.
pub fn assert_refused(answer: Result<(), String>, text: &str, what: &str) {
    match answer {
        Ok(()) => panic!("accepted: {what}"),
        Err(message) => assert!(
            message.contains(text),
            "{what}\n  refused with: {message}\n  expected: {text}"
        ),
    }
}

/// Fails unless the server accepted.
pub fn assert_accepted(answer: Result<(), String>, what: &str) {
    if let Err(message) = answer {
        panic!("refused: {what}\n  with: {message}");
    }
}
