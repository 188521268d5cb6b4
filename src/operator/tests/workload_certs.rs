//! Certificates on real API servers: issued where they belong, repaired when damaged or deleted, written only then.
#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod workload_world;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, ResourceExt};
use multiactive_operator::certs;
use multiactive_runtime::certs::{TlsFiles, peer_names};
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use workload_world::{EAST, HOME, World, apply, delete, edit, eventually, operate, usual_rules};

const SYSTEM: &str = "multiactive-system";

async fn secrets(world: &World, cluster: &str, namespace: &str) -> Api<Secret> {
    Api::namespaced(world.client(cluster).await, namespace)
}

/// Writes a TLS Secret as the files that a pod sees.
fn files(secret: &Secret) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, value) in secret.data.as_ref().unwrap() {
        std::fs::write(dir.path().join(name), &value.0).unwrap();
    }
    dir
}

/// Waits for a Secret that differs from `before`.
async fn changed(api: &Api<Secret>, name: &str, before: Option<&Secret>) -> Secret {
    eventually(&format!("{name} is written"), || async {
        let found = api.get_opt(name).await.ok()??;
        let whole = found.data.as_ref().is_some_and(|data| data.len() == 3);
        (whole && found.data != before.and_then(|before| before.data.clone())).then_some(found)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routers_and_agents_trust_each_other_and_secrets_are_repaired() {
    let world = World::get().await;
    world.team("shop", &usual_rules()).await;
    for cluster in [HOME, EAST] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}});
        apply(&Api::<Namespace>::all(world.client(cluster).await), &namespace).await;
    }
    let (shop, agents) = (secrets(world, EAST, "shop").await, secrets(world, EAST, SYSTEM).await);
    let home = secrets(world, HOME, "shop").await;
    let allowed = ["shop".to_owned()];
    let running = operate(world, &allowed).await;
    let start = |token: &CancellationToken| tokio::spawn(certs::run(Arc::clone(&running.ctx), token.clone()));
    let token = CancellationToken::new();
    let task = start(&token);

    let east = changed(&shop, "east-1-router-tls", None).await;
    let north = changed(&home, "home-1-router-tls", None).await;
    let agent = changed(&agents, "multiactive-agent-tls", None).await;
    assert_eq!(east.type_.as_deref(), Some("kubernetes.io/tls"));
    let (server, client) = (files(&east), files(&north));
    let (server, client) = (
        TlsFiles::open(server.path()).unwrap(),
        TlsFiles::open(client.path()).unwrap(),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = tokio::spawn(async move {
        let stream = server.accept(listener.accept().await.unwrap().0).await.unwrap();
        peer_names(stream.get_ref().1)
    });
    let dialled = client.connect(address, "east-1.shop.router.multiactive.internal").await;
    assert!(dialled.is_ok(), "{dialled:?}");
    assert_eq!(accepted.await.unwrap(), ["home-1.shop.router.multiactive.internal"]);
    let files = files(&agent);
    assert!(TlsFiles::open(files.path()).is_ok());

    // In place: a restart writes nothing.
    token.cancel();
    task.await.unwrap();
    let version = shop.get("east-1-router-tls").await.unwrap().resource_version();
    let token = CancellationToken::new();
    let task = start(&token);
    delete(&agents, "multiactive-agent-tls").await;
    wake(&running).await;
    changed(&agents, "multiactive-agent-tls", Some(&agent)).await;
    assert_eq!(shop.get("east-1-router-tls").await.unwrap().resource_version(), version);

    edit(&shop, "east-1-router-tls", json!({"data": {"tls.key": ""}})).await;
    wake(&running).await;
    let damaged = shop.get("east-1-router-tls").await.unwrap();
    let repaired = eventually("the key is there again", || async {
        let found = shop.get("east-1-router-tls").await.ok()?;
        let key = found.data.as_ref()?.get("tls.key")?.0.len();
        (key > 0).then_some(found)
    })
    .await;
    assert_ne!(
        repaired.data.unwrap().get("tls.crt"),
        damaged.data.unwrap().get("tls.crt")
    );

    // The authority is lost: all get a new one.
    let ca = secrets(world, HOME, SYSTEM).await;
    delete(&ca, certs::CA_SECRET).await;
    wake(&running).await;
    changed(&home, "home-1-router-tls", Some(&north)).await;
    token.cancel();
    task.await.unwrap();
    running.stop().await;
}

/// Makes the certificates be looked at now: a member changes.
async fn wake(running: &workload_world::Running) {
    let mut member = (*running.ctx.members.get(EAST).unwrap()).clone();
    member
        .allowed_namespaces
        .push(format!("more-{}", member.allowed_namespaces.len()));
    running.ctx.members.put(member);
}
