//! Brings the chart and the shop onto a fleet, with the commands and manifests that a user has: helm, kubectl, the
//! examples. Only addresses differ, where a world does not live on the examples' network.

use crate::catalog::{CATALOG, PRICES};
use crate::databases::{self, Passwords};
use crate::kube_ext::{is_ready, wait_for};
use crate::region::{DATABASE, Engine, NAMESPACE, Region, SYSTEM};
use crate::world::{Network, programs, root};
use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use multiactive_api::{DataStore, Keyspace, ShardRange, Unit, UnitWorkload};
use multiactive_fleet::tools::{Tool, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long an API server may take before it serves kinds that were installed.
const SERVES: Duration = Duration::from_secs(60);

/// How long everything may take to become ready on a slow machine.
const READY_LIMIT: Duration = Duration::from_secs(180);

/// Where agents listen for routers.
pub const AGENT_PORT: u16 = 19_443;

/// A fleet that is being furnished.
#[derive(Clone, Debug)]
pub struct Install {
    /// The regions; the first is the hub.
    pub regions: Vec<Region>,
    /// The loopback network they live on.
    pub network: Network,
    /// A folder for what is written on the way: values, manifests of another network.
    pub scratch: PathBuf,
    /// Whether operator and agents look for a failpoint in a file: see [`Install::failpoint`].
    pub failpoints: bool,
    /// What operators, agents and routers log, as in `RUST_LOG`; their own choice where it is `None`.
    pub logs: Option<String>,
    /// Where routers look for their agent, on their region's address.
    pub agent_port: u16,
}

impl Install {
    /// The hub.
    ///
    /// # Errors
    ///
    /// Where there is no region.
    pub fn hub(&self) -> Result<&Region> {
        self.regions.first().context("there is no region")
    }

    /// Everything, in order: namespaces and Secrets of the team, databases, the chart, the hub's kubeconfigs.
    ///
    /// # Errors
    ///
    /// Where a step fails; the text says which.
    pub async fn platform(&self) -> Result<()> {
        let passwords = Passwords::random()?;
        let regions = self.regions.iter().map(|region| self.furnish(region, &passwords));
        try_join_all(regions).await?;
        let hub = self.hub()?.client().await?;
        for member in self.regions.iter().skip(1) {
            let kubeconfig = member_kubeconfig(member)
                .await
                .with_context(|| format!("a kubeconfig of {}", member.name))?;
            let name = format!("member-{}", member.name);
            apply_secret(&hub, SYSTEM, &name, &[("kubeconfig", &kubeconfig)]).await?;
        }
        Ok(())
    }

    async fn furnish(&self, region: &Region, passwords: &Passwords) -> Result<()> {
        let root = root();
        let prepared = databases::prepare(region, passwords, &root);
        let team = async {
            self.kubectl(region, &["apply", "-k", path(&root.join("examples/shop/member"))?])
                .await?;
            let client = region.client().await?;
            let mut agent = vec![
                ("username", "multiactive_agent"),
                ("password", passwords.agent.as_str()),
                ("replicationUsername", "multiactive_replication"),
                ("replicationPassword", passwords.replication.as_str()),
            ];
            let ca = region.ca_file.as_ref().map(std::fs::read_to_string).transpose()?;
            agent.extend(ca.as_deref().map(|ca| ("ca.crt", ca)));
            apply_secret(&client, NAMESPACE, "shop-db", &agent).await?;
            let app = [("username", "shop_app"), ("password", passwords.app.as_str())];
            apply_secret(&client, NAMESPACE, "shop-app", &app).await?;
            self.chart(region).await
        };
        tokio::try_join!(prepared, team).with_context(|| format!("furnishing {}", region.name))?;
        Ok(())
    }

    /// The file that arms a failpoint of `part` (operator or agent) of a region; it is gone once it struck.
    pub fn failpoint(&self, part: &str, region: &str) -> PathBuf {
        self.scratch.join(format!("failpoint-{part}-{region}"))
    }

    /// The chart's values for a region: real ones but for the images, which name local programs, and the addresses.
    pub fn values(&self, region: &Region) -> Value {
        let is_hub = self.regions.first().is_some_and(|hub| hub.name == region.name);
        let at = |port: u16| format!("{}:{port}", region.address);
        let env = |part: Option<&str>| {
            let armed = part.filter(|_| self.failpoints);
            let file = armed.map(|part| format!("@{}", self.failpoint(part, &region.name).display()));
            let variables = [("MULTIACTIVE_FAILPOINT", file), ("RUST_LOG", self.logs.clone())];
            let given = variables.into_iter().filter_map(|(name, value)| Some((name, value?)));
            Value::from_iter(given.map(|(name, value)| json!({"name": name, "value": value})))
        };
        json!({
            "mode": if is_hub { "both" } else { "member" },
            "cluster": region.name,
            "member": {"namespaces": [NAMESPACE]},
            "operator": {
                "image": "process/multiactive-operator",
                "listen": at(18090),
                "strategy": {"type": "Recreate"},
                "extraEnv": env(Some("operator")),
            },
            "agent": {
                "image": "process/multiactive-agent",
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "listenRouters": at(AGENT_PORT),
                "listen": at(18091),
                "extraEnv": env(Some("agent")),
            },
            "router": {
                "image": "process/multiactive-router",
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "listen": at(18000),
                "peerListen": at(18443),
                "adminListen": at(18080),
                "agent": at(self.agent_port),
                "extraEnv": env(None),
                "units": [{"name": region.unit(), "namespace": NAMESPACE}],
            },
        })
    }

    /// Installs the chart in a region's cluster, or upgrades it to other values.
    ///
    /// # Errors
    ///
    /// What helm said.
    pub async fn chart(&self, region: &Region) -> Result<()> {
        let values = self.scratch.join(format!("values-{}.yaml", region.name));
        std::fs::write(&values, serde_yaml::to_string(&self.values(region))?)?;
        let (chart, values, kubeconfig) = (
            root().join("charts/multiactive"),
            path(&values)?.to_owned(),
            path(&region.kubeconfig)?,
        );
        let args = [
            "upgrade",
            "--install",
            "multiactive",
            path(&chart)?,
            "--namespace",
            SYSTEM,
            "--create-namespace",
        ];
        let args = args
            .iter()
            .copied()
            .chain(["--values", &values, "--kubeconfig", kubeconfig]);
        run(Tool::Helm, args).await?;
        self.serves_kinds(region).await
    }

    /// Waits until the API server tells of the chart's kinds, which is a moment after it has them.
    async fn serves_kinds(&self, region: &Region) -> Result<()> {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let asks = async {
            while let Err(error) = self.kubectl(region, &["get", "memberclusters"]).await {
                tracing::debug!(region = region.name, %error, "the chart's kinds are not served yet");
                tick.tick().await;
            }
        };
        tokio::time::timeout(SERVES, asks).await.with_context(|| {
            format!(
                "the API server of {} does not serve MemberCluster within {SERVES:?}",
                region.name
            )
        })
    }

    /// Applies the shop on the hub, as `kubectl apply -k examples/shop/hub` does.
    ///
    /// # Errors
    ///
    /// Where kubectl fails; the text is what it said.
    pub async fn shop(&self) -> Result<String> {
        let folder = self.moved("examples/shop/hub")?;
        self.kubectl(self.hub()?, &["apply", "-k", path(&folder)?]).await
    }

    /// Applies of the shop what needs no store of orders: fleet, units, workload.
    ///
    /// # Errors
    ///
    /// Where kubectl fails; the text is what it said.
    pub async fn units_and_workload(&self) -> Result<()> {
        let folder = self.moved("examples/shop/hub")?;
        for file in ["fleet.yaml", "units.yaml", "workload.yaml"] {
            self.kubectl(self.hub()?, &["apply", "-f", path(&folder.join(file))?])
                .await?;
        }
        Ok(())
    }

    /// A folder of the examples' manifests, rewritten where this is not the examples' network.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, or what is rewritten cannot be kept.
    pub fn moved(&self, folder: &str) -> Result<PathBuf> {
        let examples = root().join(folder);
        if self.network.0 == 0 {
            return Ok(examples);
        }
        let folder = self
            .scratch
            .join(examples.file_name().context("a folder without a name")?);
        std::fs::create_dir_all(&folder)?;
        for file in std::fs::read_dir(&examples)? {
            let file = file?;
            let mut text = self.network.rewrite(&std::fs::read_to_string(file.path())?);
            for (index, region) in self.regions.iter().enumerate() {
                text = text.replace(&format!(":{}", 15_411 + index), &format!(":{}", region.database_port));
            }
            let hub = self.hub()?;
            let engine = hub.engine;
            if engine != Engine::PostgreSql {
                let ca_file = hub.ca_file.as_deref().map(path).transpose()?;
                let tls = ca_file.map_or(String::new(), |file| format!("\n  tls: {{caFile: {file}}}"));
                for database in [DATABASE, CATALOG, PRICES] {
                    let declared = |engine: Engine| {
                        let (name, field) = (engine.name(), engine.field());
                        format!("{{type: {name}, {field}: {{database: {database}}}}}")
                    };
                    let other = format!("{}{tls}", declared(engine));
                    text = text.replace(&declared(Engine::PostgreSql), &other);
                }
                let name = "            - {name: DB_NAME, value: shop}";
                let of_engine = format!("            - {{name: DB_ENGINE, value: {}}}", engine.name());
                text = text.replace(name, &format!("{of_engine}\n{name}"));
            }
            std::fs::write(folder.join(file.file_name()), text)?;
        }
        Ok(folder)
    }

    /// Runs kubectl against a region's cluster.
    ///
    /// # Errors
    ///
    /// Where it fails; the text is what it said.
    pub async fn kubectl(&self, region: &Region, args: &[&str]) -> Result<String> {
        let kubeconfig = path(&region.kubeconfig)?;
        run(
            Tool::Kubectl,
            ["--kubeconfig", kubeconfig].into_iter().chain(args.iter().copied()),
        )
        .await
    }

    /// Runs a command of `kubectl multiactive` that a status printed, as a person does who copies it, and says yes to it.
    ///
    /// # Errors
    ///
    /// Where it fails; the text is what it said.
    pub async fn as_printed(&self, region: &Region, printed: &str) -> Result<String> {
        let kubectl = tokio::task::spawn_blocking(|| ensure(Tool::Kubectl)).await??;
        let kubectl = kubectl.parent().context("kubectl lies in no folder")?;
        let found = std::env::var_os("PATH").unwrap_or_default();
        let folders = [programs()?, kubectl.to_owned()];
        let folders = folders.into_iter().chain(std::env::split_paths(&found));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{printed} --yes")]);
        command.env("PATH", std::env::join_paths(folders)?);
        command.env("KUBECONFIG", &region.kubeconfig);
        said(command, printed).await
    }

    /// Waits until keyspace, units, ranges, store and workload are Ready; calls `progress` with each that is.
    ///
    /// # Errors
    ///
    /// Where one does not become ready; the text shows its status.
    pub async fn ready(&self, progress: impl Fn(&str)) -> Result<()> {
        let hub = self.hub()?.client().await?;
        macro_rules! ready {
            ($kind:ty, $name:expr) => {{
                let api: Api<$kind> = Api::namespaced(hub.clone(), NAMESPACE);
                let name: &str = $name;
                let fact = |object: &$kind| {
                    object
                        .status
                        .as_ref()
                        .filter(|status| is_ready(&status.conditions))
                        .map(|_| ())
                };
                wait_for(&api, name, READY_LIMIT, fact)
                    .await
                    .with_context(|| format!("{} {name}", stringify!($kind)))?;
                progress(&format!("{} {name}", stringify!($kind)));
            }};
        }
        ready!(Keyspace, "users");
        ready!(UnitWorkload, "shop");
        ready!(DataStore, "orders");
        for region in &self.regions {
            ready!(Unit, &region.unit());
        }
        for range in ["users-0", "users-1", "users-2"] {
            ready!(ShardRange, range);
        }
        Ok(())
    }
}

/// A path as text; paths that are no text are not made here.
fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no text", path.display()))
}

async fn run<'a>(tool: Tool, args: impl IntoIterator<Item = &'a str>) -> Result<String> {
    let program = tokio::task::spawn_blocking(move || ensure(tool)).await??;
    let args: Vec<&str> = args.into_iter().collect();
    let mut command = Command::new(&program);
    command.args(&args);
    said(command, &format!("{tool:?} {}", args.join(" "))).await
}

/// What a command prints that is run to its end.
async fn said(mut command: Command, shown: &str) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        bail!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn apply_secret(client: &Client, namespace: &str, name: &str, data: &[(&str, &str)]) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let data: BTreeMap<_, _> = data.iter().copied().collect();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    let params = PatchParams::apply("shop-demo").force();
    api.patch(name, &params, &Patch::Apply(&secret))
        .await
        .with_context(|| format!("Secret {namespace}/{name}"))?;
    Ok(())
}

/// A kubeconfig with which the hub's operator reaches a member: the account that the chart made for it, and no more.
async fn member_kubeconfig(member: &Region) -> Result<String> {
    let api: Api<ServiceAccount> = Api::namespaced(member.client().await?, SYSTEM);
    let spec = TokenRequestSpec {
        audiences: Vec::new(),
        bound_object_ref: None,
        expiration_seconds: Some(24 * 3600),
    };
    let request = TokenRequest {
        spec,
        ..TokenRequest::default()
    };
    let response = api
        .create_token_request("multiactive-hub", &PostParams::default(), &request)
        .await?;
    let token = response.status.context("the API server gave no token")?.token;
    let admin = Kubeconfig::read_from(&member.kubeconfig)?;
    let cluster = admin
        .clusters
        .first()
        .and_then(|named| named.cluster.clone())
        .context("the kubeconfig has no cluster")?;
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": member.name, "cluster": cluster}],
        "users": [{"name": "multiactive-hub", "user": {"token": token}}],
        "contexts": [{"name": member.name, "context": {"cluster": member.name, "user": "multiactive-hub"}}],
        "current-context": member.name,
    });
    Ok(serde_yaml::to_string(&kubeconfig)?)
}
