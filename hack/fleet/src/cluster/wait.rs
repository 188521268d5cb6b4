//! When a cluster is ready: asked of the parts themselves, never guessed from the time that passed.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::{Cluster, Part, START_LIMIT};
use crate::process::Process;
use crate::{Error, Result, kubeconfig};

/// How often is asked.
const ASK: Duration = Duration::from_millis(100);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks until the answer is `Ok`, the limit is reached or a process that must run has ended.
async fn until<A: AsyncFnMut() -> Result<(), String>>(what: &str, processes: &[&Process], mut ask: A) -> Result<()> {
    let started = Instant::now();
    loop {
        let last = match tokio::time::timeout(ANSWER, ask()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(last)) => last,
            Err(_) => "it does not answer".to_owned(),
        };
        if let Some(error) = processes.iter().find_map(|process| process.exited(what)) {
            return Err(error);
        }
        if started.elapsed() > START_LIMIT {
            return Err(Error::NotReady {
                what: what.to_owned(),
                waited: START_LIMIT,
                last,
            });
        }
        tokio::time::sleep(ASK).await;
    }
}

/// A process listens on its port.
pub(super) async fn listens(process: &Process, part: Part, port: u16) -> Result<()> {
    until(part.name(), &[process], async || {
        let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        connected.map(drop).map_err(|error| error.to_string())
    })
    .await
}

/// The API server says that it is ready.
pub(super) async fn api_server(process: &Process, admin: &Value) -> Result<()> {
    let client = kubeconfig::client(admin).await?;
    until(Part::ApiServer.name(), &[process], async || {
        let request = kube::client::Body::empty();
        let request = http::Request::get("/readyz")
            .body(request)
            .map_err(|error| error.to_string())?;
        let response = client.send(request).await.map_err(|error| error.to_string())?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(format!("/readyz answers {}", response.status()))
        }
    })
    .await
}

/// The controllers work: they made the ServiceAccount that pods of a namespace need.
pub(super) async fn controllers(cluster: &Cluster, client: &Client) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let processes: Vec<_> = cluster.parts().values().cloned().collect();
    let processes: Vec<&Process> = processes.iter().map(AsRef::as_ref).collect();
    until("the cluster's controllers", &processes, async || {
        let found = accounts.get_opt("default").await.map_err(|error| error.to_string())?;
        found
            .map(drop)
            .ok_or_else(|| "namespace default has no ServiceAccount yet".to_owned())
    })
    .await
}

/// All nodes are Ready and take pods.
pub(super) async fn nodes(cluster: &Cluster, client: &Client) -> Result<()> {
    let wanted = cluster.options.simulated_nodes + usize::from(cluster.options.programs.is_some());
    let nodes: Api<Node> = Api::all(client.clone());
    until("the cluster's nodes", &[], async || {
        let found = nodes
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let ready = found.iter().filter(|node| takes_pods(node)).count();
        if ready >= wanted {
            Ok(())
        } else {
            Err(format!("{ready} of {wanted} are Ready"))
        }
    })
    .await
}

fn takes_pods(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    let tainted = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_ref())
        .is_some_and(|all| !all.is_empty());
    ready && !tainted
}

/// Makes the nodes that kwok simulates, labelled `type: kwok`.
pub(super) async fn simulated(cluster: &Cluster) -> Result<()> {
    let client = cluster.client().await?;
    let nodes: Api<Node> = Api::all(client);
    for number in 0..cluster.options.simulated_nodes {
        let name = format!("{}-simulated-{number}", cluster.name());
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
            },
        });
        let node: Node = serde_json::from_value(node).map_err(|e| Error::Refused(format!("making {name}: {e}")))?;
        match nodes.create(&PostParams::default(), &node).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(Error::kube(format!("making node {}", node.name_any()))(error)),
        }
    }
    Ok(())
}
