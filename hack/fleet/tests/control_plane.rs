//! A real API server alone: users and their rights, and parts that stop and start on the same ports and data.
#![allow(clippy::unwrap_used)] // helpers of tests, too

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, PostParams};
use multiactive_fleet::cluster::{Cluster, Options, Part};
use multiactive_fleet::process::start_time;

fn config_map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map
}

#[tokio::test]
async fn an_api_server_knows_its_users_and_keeps_its_data_through_a_stop() {
    let cluster = Cluster::start(Options::api_server_only("hub")).await.unwrap();
    let admin = cluster.client().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "default");
    maps.create(&PostParams::default(), &config_map("kept")).await.unwrap();

    // A user without rights is known and refused; a group gives rights.
    let nobody: Api<Namespace> = Api::all(cluster.client_for("alice", None).await.unwrap());
    let refused = nobody.list(&Default::default()).await.unwrap_err().to_string();
    assert!(refused.contains("alice"), "{refused}");
    let master: Api<Namespace> = Api::all(cluster.client_for("bob", Some("system:masters")).await.unwrap());
    assert!(master.list(&Default::default()).await.unwrap().iter().count() > 0);

    // The file is what kubectl takes.
    let seen = cluster
        .kubectl(&["get", "configmap", "kept", "-o", "name"])
        .await
        .unwrap();
    assert_eq!(seen.trim(), "configmap/kept");

    let pid = cluster.pid(Part::ApiServer).unwrap();
    cluster.stop_part(Part::ApiServer).await;
    assert_eq!((cluster.pid(Part::ApiServer), start_time(pid)), (None, None));
    assert!(maps.get("kept").await.is_err(), "nobody answers");
    cluster.start_part(Part::ApiServer).await.unwrap();
    assert!(
        maps.get_opt("kept").await.unwrap().is_some(),
        "the same client, the same port, the same data"
    );

    cluster.kill_part(Part::Etcd).await;
    cluster.start_part(Part::Etcd).await.unwrap();
    // The API server connects again by itself; the first calls may still fail.
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while maps.get_opt("kept").await.ok().flatten().is_none() {
        assert!(std::time::Instant::now() < limit, "the store did not come back");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }

    let (dir, running) = (cluster.dir().to_path_buf(), cluster.running());
    assert_eq!(running.len(), 2);
    drop(cluster);
    assert!(!dir.exists(), "no file is left");
    assert!(
        running.iter().all(|(_, pid)| start_time(*pid).is_none()),
        "no process is left"
    );
}
