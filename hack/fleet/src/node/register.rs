//! The Node object and its lease: made, and kept alive.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::Options;
use crate::{Error, Result};

/// Who writes, for server-side apply.
const MANAGER: &str = "multiactive-fleet-node";
/// Kubernetes waits 40 s and more before it doubts a node.
const HEARTBEAT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_secs(10);

/// Registers the node and renews its lease, for ever.
pub(super) async fn keep(client: &Client, options: &Options) {
    let mut registered = false;
    loop {
        let step = async {
            if !registered {
                register(client, options).await?;
            }
            renew(client, options).await
        };
        let result = tokio::time::timeout(LIMIT, step).await;
        // After a failure all is written again: the controllers may have marked the node meanwhile.
        registered = matches!(result, Ok(Ok(())));
        if let Ok(Err(error)) = &result {
            tracing::debug!(%error, node = options.name, "heartbeat");
        }
        tokio::time::sleep(if registered { HEARTBEAT } else { RETRY }).await;
    }
}

async fn register(client: &Client, options: &Options) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let params = PatchParams::apply(MANAGER).force();
    let name = &options.name;
    let doing = || format!("registering node {name}");
    nodes
        .patch(name, &params, &Patch::Apply(node(name)))
        .await
        .map_err(Error::kube(doing()))?;
    nodes
        .patch_status(name, &params, &Patch::Apply(status(name)))
        .await
        .map_err(Error::kube(doing()))?;
    Ok(())
}

async fn renew(client: &Client, options: &Options) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": options.name},
        "spec": {
            "holderIdentity": options.name,
            "leaseDurationSeconds": 40,
            "renewTime": format!("{:.6}", Timestamp::now()),
        },
    });
    let params = PatchParams::apply(MANAGER).force();
    let renewed = leases.patch(&options.name, &params, &Patch::Apply(lease)).await;
    renewed
        .map(drop)
        .map_err(Error::kube(format!("renewing the lease of node {}", options.name)))
}

fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture(),
            "multiactive.io/runs": "processes",
        }},
    })
}

fn status(name: &str) -> Value {
    // Requests are bookkeeping here, nothing is limited: never the reason why a pod is not scheduled.
    let capacity = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "256Gi", "pods": "500"});
    let now = Timestamp::now().to_string();
    let condition = |type_: &str, status: &str, reason: &str| {
        json!({
            "type": type_, "status": status, "reason": reason, "message": "pods run as processes",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {
            "capacity": capacity, "allocatable": capacity,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
            "conditions": [
                condition("Ready", "True", "KubeletReady"),
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            ],
            "nodeInfo": {
                "architecture": architecture(), "operatingSystem": "linux", "osImage": "processes",
                "kubeletVersion": concat!("multiactive-fleet-v", env!("CARGO_PKG_VERSION")),
                "containerRuntimeVersion": concat!("process://", env!("CARGO_PKG_VERSION")),
                "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "systemUUID": "", "bootID": "",
            },
        },
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
