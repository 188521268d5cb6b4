//! One cluster whose pods are processes, and what tests of pods ask it.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test's helpers fail the test")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use multiactive_fleet::cluster::{Cluster, Options};
use tokio::sync::OnceCell;

/// One cluster for all tests of this file, each in a namespace of its own.
pub static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

pub async fn cluster() -> &'static Cluster {
    let start = || async { Cluster::start(Options::new("east").programs(programs())).await.unwrap() };
    CLUSTER.get_or_init(start).await
}

/// `tiny`, and programs of a few lines of shell.
pub fn programs() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_fleet-tiny"), dir.join("tiny")).unwrap();
    for (name, script) in [
        ("ends-well", "exit 0"),
        ("ends-badly", "echo it went wrong; exit 3"),
        ("ignores-term", "trap '' TERM; while true; do sleep 0.1; done"),
        (
            "asks",
            "\"$KUBECTL\" auth whoami; \"$KUBECTL\" get configmap mine -o name; \"$KUBECTL\" get secrets; exec sleep 600",
        ),
        (
            "fails-once",
            "cd \"$POD_ROOT/shared\"; echo try >> tries; [ $(wc -l < tries) -gt 1 ] || exit 3; echo first >> order",
        ),
        ("second", "echo second >> \"$POD_ROOT/shared/order\""),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
    }
    dir
}

/// Waits until `ask` gives a value; the message says what was waited for.
pub async fn wait<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn apply(yaml: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    cluster()
        .await
        .kubectl(&["apply", "-f", file.path().to_str().unwrap()])
        .await
        .unwrap();
}

pub async fn namespace(name: &str) -> Api<Pod> {
    cluster().await.kubectl(&["create", "namespace", name]).await.unwrap();
    let pods = Api::namespaced(cluster().await.client().await.unwrap(), name);
    // A bare pod is refused until its ServiceAccount exists.
    wait("the ServiceAccount", async || {
        cluster()
            .await
            .kubectl(&["get", "serviceaccount", "default", "-n", name])
            .await
            .ok()
    })
    .await;
    pods
}

pub async fn only(pods: &Api<Pod>) -> Option<Pod> {
    pods.list(&ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .next()
}

pub fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// The process of a pod's first container, while it runs.
pub fn pid(pod: &Pod) -> Option<i32> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.running.as_ref()?;
    status.container_id.as_ref()?.strip_prefix("process://")?.parse().ok()
}

pub fn waiting(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.clone()?, waiting.message.clone().unwrap_or_default()))
}

pub fn restarts(pod: &Pod) -> i32 {
    pod.status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref()?.first().map(|c| c.restart_count))
        .unwrap_or_default()
}

pub fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}
