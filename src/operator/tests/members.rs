//! Members that are unreachable, slow or wrong: each says what is wrong, and the good one is not delayed.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use base64::Engine;
use jiff::Timestamp;
use kube::api::Api;
use multiactive_api as api;
use multiactive_fleet::cluster::Part;
use multiactive_operator::members::Health;
use serde_json::{Value, json};
use support::{Operator, SYSTEM, World, condition, eventually, member_cluster};
use tokio::net::TcpListener;

async fn secret(world: &World, name: &str, kubeconfig: &str) {
    let kubeconfig = base64::engine::general_purpose::STANDARD.encode(kubeconfig);
    let metadata = json!({"name": name, "namespace": SYSTEM});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"kubeconfig": kubeconfig}});
    world.apply(secret).await;
}

async fn says(world: &World, name: &str, want: &str) -> api::MemberClusterStatus {
    says_one_of(world, name, &[want]).await
}

async fn says_one_of(world: &World, name: &str, wanted: &[&str]) -> api::MemberClusterStatus {
    let members: Api<api::MemberCluster> = Api::all(world.hub.clone());
    eventually(&format!("{name} says {wanted:?}"), async || {
        let status = members.get(name).await.unwrap().status?;
        let found = condition(&status.conditions, "Ready")?;
        wanted.contains(&found.as_str()).then_some(status)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_member_says_why_and_delays_nobody() {
    let world = World::start().await;
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("https://{}", silent.local_addr().unwrap());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut kubeconfig = world.north.kubeconfig().clone();
        change(&mut kubeconfig);
        kubeconfig.to_string()
    };
    let rejected = with(&|k| k["users"][0]["user"] = json!({"token": "not-a-token"}));
    let runs_a_program = with(&|k| {
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh"});
        k["users"][0]["user"] = json!({"exec": exec});
    });
    let hangs = with(&|k| k["clusters"][0]["cluster"]["server"] = json!(silent_url));
    for (name, kubeconfig) in [
        ("malformed", "clusters: ["),
        ("rejected", &rejected),
        ("exec", &runs_a_program),
        ("hangs", &hangs),
    ] {
        secret(&world, name, kubeconfig).await;
        world.apply(member_cluster(name)).await;
    }
    world.apply(member_cluster("no-secret")).await;
    // Good for long enough to be seen, and over before the others have been tried; at an API server that never hangs.
    let end = std::time::SystemTime::now() + std::time::Duration::from_secs(25);
    let ending = world.east.kubeconfig_until("admin", Some("system:masters"), Some(end));
    secret(&world, "ending", &ending.unwrap().to_string()).await;
    world.apply(member_cluster("ending")).await;
    let operator = Operator::start(&world.hub, "members").await;

    let good = says(&world, "north", "True Answering").await;
    assert!(good.cluster_uid.is_some() && !good.hub && good.version.is_some());
    let until = good.credentials_until.expect("the end of a client certificate").0;
    assert!(until > Timestamp::now());
    assert!(says(&world, "east", "True Answering").await.hub);
    says(&world, "ending", "True Answering").await;
    says(&world, "malformed", "False KubeconfigInvalid").await;
    says(&world, "exec", "False KubeconfigRefused").await;
    says(&world, "no-secret", "False SecretNotFound").await;
    says(&world, "rejected", "False CredentialsRejected").await;
    assert!(operator.ctx.members.get("hangs").is_none(), "it never answered");
    says(&world, "hangs", "False Unreachable").await;

    // New credentials are taken over without a restart; a member that becomes wrong keeps its last good connection.
    secret(&world, "rejected", &with(&|_| {})).await;
    says(&world, "rejected", "True Answering").await;
    let before = operator.ctx.members.get("north").unwrap().connection;
    secret(&world, "north", "clusters: [").await;
    says(&world, "north", "False KubeconfigInvalid").await;
    let kept = operator.ctx.members.get("north").unwrap();
    assert_eq!(kept.connection, before);
    assert!(matches!(
        kept.health,
        Health::NotReady {
            reason: "KubeconfigInvalid",
            ..
        }
    ));
    eventually("the region counts", async || {
        let region = Api::<api::Region>::all(world.hub.clone()).get("north").await.unwrap();
        (region.status?.ready_members == 0).then_some(())
    })
    .await;
    // A cluster that hangs on open connections, and comes back.
    secret(&world, "north", &with(&|_| {})).await;
    says(&world, "north", "True Answering").await;
    signal(&world, "-STOP");
    // Whether it was an open connection or a new one that got no answer decides between the two reasons.
    says_one_of(&world, "north", &["False NotAnswering", "False Unreachable"]).await;
    signal(&world, "-CONT");
    says(&world, "north", "True Answering").await;

    let expired = says(&world, "ending", "False CredentialsExpired").await;
    let (until, message) = (expired.credentials_until.unwrap().0, &expired.conditions[0].message);
    let want = format!(
        "the credentials ended at {until}; put new credentials into key kubeconfig of Secret multiactive-system/ending"
    );
    assert!(message.contains(&want), "{message}");
    operator.stop().await;
}

/// Stops or continues north's API server.
fn signal(world: &World, signal: &str) {
    let pid = world.north.pid(Part::ApiServer).unwrap().to_string();
    let status = std::process::Command::new("kill")
        .args([signal, &pid])
        .status()
        .unwrap();
    assert!(status.success());
}
