//! A cluster whose API server goes away and comes back, and pods that are only counted.
#![allow(clippy::unwrap_used)] // helpers of tests, too

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use multiactive_fleet::cluster::{Cluster, Options, Part};
use multiactive_fleet::ports;
use multiactive_fleet::process::start_time;

async fn apply(cluster: &Cluster, yaml: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    cluster
        .kubectl(&["apply", "-f", file.path().to_str().unwrap()])
        .await
        .unwrap();
}

fn deployment(name: &str, replicas: usize, spec: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{replicas: {replicas}, \
         strategy: {{type: Recreate}}, selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: \
         {{app: {name}}}}}, spec: {{{spec}}}}}}}}}"
    )
}

#[tokio::test]
async fn pods_outlive_an_outage_of_their_api_server_and_kwok_counts_many() {
    let programs = Path::new(env!("CARGO_BIN_EXE_fleet-tiny")).parent().unwrap();
    let options = Options {
        simulated_nodes: 2,
        ..Options::new("north").programs(programs)
    };
    let cluster = Cluster::start(options).await.unwrap();

    let port = ports::free().unwrap();
    let real = format!(
        "nodeSelector: {{multiactive.io/runs: processes}}, containers: [{{name: c, image: process/fleet-tiny, env: \
         [{{name: PORT, value: '{port}'}}], readinessProbe: {{tcpSocket: {{port: {port}}}}}}}]"
    );
    apply(&cluster, &deployment("real", 1, &real)).await;
    let counted = "nodeSelector: {type: kwok}, containers: [{name: c, image: anything}]";
    apply(&cluster, &deployment("counted", 50, counted)).await;
    for name in ["deployment/real", "deployment/counted"] {
        cluster
            .kubectl(&["wait", name, "--for=condition=Available", "--timeout=90s"])
            .await
            .unwrap();
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client().await.unwrap(), "default");
    let mine = ListParams::default().labels("app=real");
    let pid = |pod: &Pod| -> i32 {
        let status = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].clone();
        status
            .container_id
            .unwrap()
            .strip_prefix("process://")
            .unwrap()
            .parse()
            .unwrap()
    };
    let before = pid(&pods.list(&mine).await.unwrap().items[0]);

    cluster.stop_part(Part::ApiServer).await;
    assert!(start_time(before).is_some(), "a pod needs no API server to go on");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    cluster.start_part(Part::ApiServer).await.unwrap();
    assert_eq!(
        pid(&pods.list(&mine).await.unwrap().items[0]),
        before,
        "the same process"
    );

    // What happens afterwards is seen again.
    cluster
        .kubectl(&["scale", "deployment/real", "--replicas=0"])
        .await
        .unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while start_time(before).is_some() {
        assert!(Instant::now() < until, "the deletion was not seen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (dir, parts) = (cluster.dir().to_path_buf(), cluster.running());
    assert_eq!(parts.len(), 5);
    cluster.stop().await;
    drop(cluster);
    assert!(
        !dir.exists() && parts.iter().all(|(_, pid)| start_time(*pid).is_none()),
        "nothing is left"
    );
}
