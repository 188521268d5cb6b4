//! One cluster for all tests of this file, with the chart installed by a real Helm; and ways to run the program.

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use multiactive_fleet::cluster::{Cluster, Options};
use multiactive_fleet::tools::{Tool, ensure};
use serde_json::{Value, json};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// Where the chart is installed.
pub const SYSTEM: &str = "multiactive-system";
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Outlives the single test, as the cluster does.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
/// What the program said while the kinds were missing.
static BARE: OnceLock<Run> = OnceLock::new();
static SCRATCH: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

/// Runs a test in the runtime of the cluster.
pub fn run(test: impl Future<Output = ()>) {
    RUNTIME.block_on(test);
}

/// The cluster, which ends with this process.
pub async fn cluster() -> &'static Cluster {
    CLUSTER.get_or_init(start).await
}

/// What `status` said before multiactive was installed.
pub async fn bare() -> &'static Run {
    cluster().await;
    BARE.get().unwrap()
}

async fn start() -> Cluster {
    let cluster = Cluster::start(Options::api_server_only("kubectl-tests")).await.unwrap();
    let kubeconfig = cluster.kubeconfig_path();
    let before = as_file(&kubeconfig, &["status", "-n", "default"]).finish().await;
    assert!(BARE.set(before).is_ok());
    let client = cluster.client().await.unwrap();
    namespace(&client, SYSTEM).await;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/multiactive");
    let helm = tokio::task::spawn_blocking(move || {
        Command::new(ensure(Tool::Helm).unwrap())
            .args(["install", "multiactive", "--namespace", SYSTEM, "--kubeconfig"])
            .args([&kubeconfig, &chart])
            .args(["--set", "mode=hub,image.repository=registry.invalid"])
            .output()
            .unwrap()
    });
    let output = helm.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cluster
}

/// Makes a namespace.
pub async fn namespace(client: &Client, name: &str) {
    apply(
        client,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
    )
    .await;
}

/// The client of an administrator.
pub async fn admin() -> Client {
    cluster().await.client().await.unwrap()
}

/// The client of the operator, who alone writes tables and links.
pub async fn operator() -> Client {
    let name = format!("system:serviceaccount:{SYSTEM}:multiactive-operator");
    cluster().await.client_for(&name, None).await.unwrap()
}

/// Where objects like this one are.
pub fn api(client: &Client, like: &Value) -> Api<DynamicObject> {
    let text = |pointer: &str| like.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let resource = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, text("/kind")));
    match text("/metadata/namespace") {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

/// Applies an object, and its status where it has one. The API server compiles kinds in the background.
pub async fn apply(client: &Client, mut object: Value) {
    let status = object.as_object_mut().unwrap().remove("status");
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let params = PatchParams::apply("tests").force();
    let api = api(client, &object);
    eventually(&format!("{object} is applied"), async || {
        match api.patch(&name, &params, &Patch::Apply(&object)).await {
            Ok(_) => Some(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 403 => None,
            Err(error) => panic!("{object}: {error}"),
        }
    })
    .await;
    if let Some(status) = status {
        let patch = json!({"status": status});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }
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

/// A file that lasts as long as the tests.
pub fn scratch(name: &str) -> PathBuf {
    SCRATCH.path().join(name)
}

/// The kubeconfig of a user without a group, with one context `hub`.
pub async fn kubeconfig_of(user: &str) -> PathBuf {
    let value = cluster().await.kubeconfig_for(user, None).unwrap();
    let path = scratch(&format!("{}.kubeconfig", user.replace(':', "-")));
    std::fs::write(&path, serde_yaml::to_string(&value).unwrap()).unwrap();
    path
}

/// Gives a user one of the chart's roles everywhere, and waits until that is known.
pub async fn grant(role: &str, user: &str) {
    let rbac = "rbac.authorization.k8s.io";
    let client = admin().await;
    apply(
        &client,
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": format!("{role}-{user}")},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}]}),
    )
    .await;
    let theirs = cluster().await.client_for(user, None).await.unwrap();
    let units = ApiResource::erase::<multiactive_api::Unit>(&());
    let units: Api<DynamicObject> = Api::all_with(theirs, &units);
    eventually("the authorizer knows the role", async || {
        units.list(&Default::default()).await.ok()
    })
    .await;
}

/// What a run of the program came to.
#[derive(Clone, Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    /// Fails unless the exit code is this.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// Fails unless standard error holds this.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(
            self.err.contains(text),
            "expected: {text}\nerr: {}\nout: {}",
            self.err,
            self.out
        );
        self
    }

    /// Fails unless standard output holds this.
    #[track_caller]
    pub fn shows(&self, text: &str) -> &Self {
        assert!(
            self.out.contains(text),
            "expected: {text}\nout: {}\nerr: {}",
            self.out,
            self.err
        );
        self
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// A run that has not begun.
pub struct Program(pub Command);

impl Program {
    /// Runs it without a terminal, to its end, which must come.
    pub async fn finish(self) -> Run {
        let shown = format!("{:?}", self.0);
        let mut command = tokio::process::Command::from(self.0);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, output).await;
        let output = output
            .unwrap_or_else(|_| panic!("no end within {PATIENCE:?}: {shown}"))
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// The program with a kubeconfig.
pub fn as_file(kubeconfig: &Path, args: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-multiactive"));
    command
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .env_remove("NO_COLOR")
        .current_dir(SCRATCH.path());
    Program(command)
}

/// Runs it as an administrator.
pub async fn kubectl(args: &[&str]) -> Run {
    let kubeconfig = cluster().await.kubeconfig_path();
    as_file(&kubeconfig, args).finish().await
}

/// Runs it as a user.
pub async fn kubectl_as(user: &str, args: &[&str]) -> Run {
    as_file(&kubeconfig_of(user).await, args).finish().await
}
