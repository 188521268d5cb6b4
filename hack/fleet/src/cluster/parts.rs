//! The programs of a control plane: their files and flags.

use nix::sys::signal::Signal;

use super::{Cluster, Options};
use crate::certs::{Authority, token_keys};
use crate::files::write_private;
use crate::process::Spec;
use crate::tools::Tool;
use crate::{Error, Result, kubeconfig};

/// A program of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// Simulated nodes.
    Kwok,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 5] = [
        Part::Etcd,
        Part::ApiServer,
        Part::ControllerManager,
        Part::Scheduler,
        Part::Kwok,
    ];

    /// Its name, as in logs and on the command line.
    pub fn name(self) -> &'static str {
        self.tool().program()
    }

    pub(super) fn tool(self) -> Tool {
        match self {
            Part::Etcd => Tool::Etcd,
            Part::ApiServer => Tool::KubeApiserver,
            Part::ControllerManager => Tool::KubeControllerManager,
            Part::Scheduler => Tool::KubeScheduler,
            Part::Kwok => Tool::Kwok,
        }
    }
}

/// The parts that a cluster with these options has.
pub(super) fn wanted(options: &Options) -> Vec<Part> {
    Part::ALL
        .into_iter()
        .filter(|part| match part {
            Part::Etcd | Part::ApiServer => true,
            Part::ControllerManager | Part::Scheduler => !options.api_server_only,
            Part::Kwok => options.simulated_nodes > 0,
        })
        .collect()
}

/// Keys, certificates and kubeconfigs, before anything runs.
pub(super) fn write_files(cluster: &Cluster) -> Result<()> {
    let dir = cluster.dir();
    let pki = dir.join("pki");
    std::fs::create_dir_all(&pki).map_err(Error::io("creating", &pki))?;
    let names = [
        "127.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "10.96.0.1",
    ];
    let server = cluster.authority.server("kube-apiserver", &names)?;
    // An authority apart: whoever may talk to the API server may not talk to its store.
    let etcd = Authority::new("etcd")?;
    let store = etcd.server("etcd", &["127.0.0.1", "localhost"])?;
    let tokens = token_keys()?;
    for (name, text) in [
        ("ca.crt", cluster.authority.cert()),
        ("server.crt", &server.cert),
        ("server.key", &server.key),
        ("etcd-ca.crt", etcd.cert()),
        ("etcd.crt", &store.cert),
        ("etcd.key", &store.key),
        ("tokens.pub", &tokens.cert),
        ("tokens.key", &tokens.key),
    ] {
        write_private(&pki.join(name), text)?;
    }
    write_private(&cluster.kubeconfig_path(), &kubeconfig::to_yaml(cluster.kubeconfig())?)?;
    for (part, user, group) in [
        (Part::ControllerManager, "system:kube-controller-manager", None),
        (Part::Scheduler, "system:kube-scheduler", None),
        (Part::Kwok, "kwok", Some("system:masters")),
    ] {
        let text = kubeconfig::to_yaml(&cluster.kubeconfig_for(user, group)?)?;
        write_private(&dir.join(format!("{}.kubeconfig", part.name())), &text)?;
    }
    write_private(&dir.join("kwok.yaml"), STAGES)
}

/// The stages in which kwok moves its nodes and pods: it has none of its own.
const STAGES: &str = include_str!("stages.yaml");

/// How a part is started.
pub(super) fn spec(cluster: &Cluster, part: Part) -> Result<Spec> {
    let args = match part {
        Part::Etcd => etcd(cluster),
        Part::ApiServer => api_server(cluster),
        Part::ControllerManager => controller_manager(cluster),
        Part::Scheduler => scheduler(cluster),
        Part::Kwok => kwok(cluster),
    };
    Ok(Spec {
        program: part.tool().path()?,
        args,
        env: environment(),
        dir: cluster.dir().to_path_buf(),
        log: cluster.log(part),
        run_as: None,
        death_signal: Signal::SIGKILL,
    })
}

/// Our environment, in which Go collects its garbage less often, unless somebody says how often: three control planes on a small
/// machine are made in half the time, for some hundred megabytes each.
fn environment() -> Option<Vec<(String, String)>> {
    let mut all: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    if !all.iter().any(|(name, _)| name == "GOGC") {
        all.push(("GOGC".into(), "400".into()));
    }
    Some(all)
}

fn etcd(cluster: &Cluster) -> Vec<String> {
    let pki = |name: &str| cluster.dir().join("pki").join(name).display().to_string();
    let client = format!("https://127.0.0.1:{}", cluster.ports.etcd);
    let peer = format!("https://127.0.0.1:{}", cluster.ports.etcd_peer);
    vec![
        "--name=etcd".into(),
        format!("--data-dir={}", cluster.dir().join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=etcd={peer}"),
        "--client-cert-auth".into(),
        "--peer-client-cert-auth".into(),
        format!("--trusted-ca-file={}", pki("etcd-ca.crt")),
        format!("--peer-trusted-ca-file={}", pki("etcd-ca.crt")),
        format!("--cert-file={}", pki("etcd.crt")),
        format!("--peer-cert-file={}", pki("etcd.crt")),
        format!("--key-file={}", pki("etcd.key")),
        format!("--peer-key-file={}", pki("etcd.key")),
        // A crash of the machine would lose the cluster, which nobody keeps.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

fn api_server(cluster: &Cluster) -> Vec<String> {
    let pki = |name: &str| cluster.dir().join("pki").join(name).display().to_string();
    let mut args = vec![
        format!("--etcd-servers=https://127.0.0.1:{}", cluster.ports.etcd),
        format!("--etcd-cafile={}", pki("etcd-ca.crt")),
        format!("--etcd-certfile={}", pki("etcd.crt")),
        format!("--etcd-keyfile={}", pki("etcd.key")),
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        format!("--secure-port={}", cluster.ports.api),
        format!("--tls-cert-file={}", pki("server.crt")),
        format!("--tls-private-key-file={}", pki("server.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--cert-dir={}", cluster.dir().join("pki").display()),
        "--authorization-mode=RBAC".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", pki("tokens.pub")),
        format!("--service-account-signing-key-file={}", pki("tokens.key")),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        // It would write a loopback address to an EndpointSlice, which refuses it.
        "--endpoint-reconciler-type=none".into(),
        "--profiling=false".into(),
    ];
    if cluster.options.api_server_only {
        // Nobody makes the ServiceAccounts it waits for.
        args.push("--disable-admission-plugins=ServiceAccount".into());
    }
    args.extend(cluster.options.api_server_args.iter().cloned());
    args
}

fn controller_manager(cluster: &Cluster) -> Vec<String> {
    let pki = |name: &str| cluster.dir().join("pki").join(name).display().to_string();
    vec![
        format!("--kubeconfig={}", own_kubeconfig(cluster, Part::ControllerManager)),
        format!("--service-account-private-key-file={}", pki("tokens.key")),
        format!("--root-ca-file={}", pki("ca.crt")),
        // Policies can tell the controllers apart.
        "--use-service-account-credentials".into(),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]
}

fn scheduler(cluster: &Cluster) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", own_kubeconfig(cluster, Part::Scheduler)),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]
}

fn kwok(cluster: &Cluster) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", own_kubeconfig(cluster, Part::Kwok)),
        format!("--config={}", cluster.dir().join("kwok.yaml").display()),
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".into(),
        "--node-lease-duration-seconds=40".into(),
    ]
}

fn own_kubeconfig(cluster: &Cluster, part: Part) -> String {
    cluster
        .dir()
        .join(format!("{}.kubeconfig", part.name()))
        .display()
        .to_string()
}
