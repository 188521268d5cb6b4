//! Pods of several containers, and probes that are commands: as the kubelet runs them.
#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use common::{apply, cluster, get, namespace, pid, ready, restarts, wait};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{Api, ListParams};
use multiactive_fleet::ports;
use multiactive_fleet::process::start_time;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn init(pod: &Pod, name: &str) -> Option<ContainerStatus> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == name).cloned()
}

#[tokio::test]
async fn init_containers_run_one_after_the_other_and_scratch_lives_as_long_as_the_pod() {
    let pods = namespace("init").await;
    let port = ports::free().unwrap();
    apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: several, namespace: init}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {{name: first, image: process/fails-once, volumeMounts: [{{name: shared, mountPath: /shared}}]}}
  - {{name: second, image: process/second, volumeMounts: [{{name: shared, mountPath: /shared}}]}}
  containers:
  - name: main
    image: process/tiny
    env: [{{name: PORT, value: "{port}"}}]
    volumeMounts: [{{name: shared, mountPath: /shared}}]
  volumes: [{{name: shared, emptyDir: {{}}}}]
"#
    ))
    .await;
    let before = wait("the main container", async || pid(&pods.get("several").await.unwrap())).await;
    let order = wait("an answer", async || get(port, "/shared/order")).await;
    assert_eq!(
        order, "first\nsecond\n",
        "the second waited until the first had succeeded"
    );
    let pod = wait("the statuses", async || {
        let pod = pods.get("several").await.unwrap();
        ready(&pod).then_some(pod)
    })
    .await;
    for (name, tries) in [("first", 1), ("second", 0)] {
        let status = init(&pod, name).unwrap();
        assert_eq!(status.restart_count, tries, "{name}: {status:?}");
        let ended = status.state.and_then(|state| state.terminated).unwrap();
        assert_eq!(ended.exit_code, 0, "{name}");
    }

    // A container that starts again finds what was there; its init containers are not run again.
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    wait("the restart", async || {
        let pod = pods.get("several").await.unwrap();
        (restarts(&pod) == 1 && ready(&pod)).then_some(())
    })
    .await;
    assert_eq!(wait("an answer", async || get(port, "/shared/order")).await, order);
    cluster()
        .await
        .kubectl(&["delete", "pod", "several", "-n", "init"])
        .await
        .unwrap();
    let left = std::fs::read_dir(cluster().await.dir().join("node/pods"))
        .unwrap()
        .flatten();
    assert!(
        left.into_iter()
            .all(|entry| !entry.file_name().to_string_lossy().contains("several"))
    );
}

#[tokio::test]
async fn an_init_container_that_fails_for_good_keeps_the_others_from_starting() {
    let pods = namespace("never").await;
    apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: stuck, namespace: never}
spec:
  terminationGracePeriodSeconds: 1
  initContainers: [{name: broken, image: process/ends-badly}]
  containers: [{name: main, image: process/tiny}]
"#,
    )
    .await;
    wait("a second try", async || {
        let pod = pods.get("stuck").await.unwrap();
        init(&pod, "broken").filter(|status| status.restart_count >= 2)
    })
    .await;
    let pod = pods.get("stuck").await.unwrap();
    assert_eq!(pid(&pod), None, "{:?}", pod.status);
    assert!(!ready(&pod));
    cluster()
        .await
        .kubectl(&["delete", "pod", "stuck", "-n", "never"])
        .await
        .unwrap();
}

#[tokio::test]
async fn commands_say_whether_a_container_has_started_is_ready_and_lives() {
    let pods = namespace("asked").await;
    let port = ports::free().unwrap();
    let shared = tempfile::tempdir().unwrap();
    let touch = |name: &str| std::fs::write(shared.path().join(name), "").unwrap();
    let remove = |name: &str| std::fs::remove_file(shared.path().join(name)).unwrap();
    let test = |condition: &str| {
        format!(r#"exec: {{command: [sh, -c, 'test {condition}']}}, periodSeconds: 1, failureThreshold"#)
    };
    apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: asked, namespace: asked}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: process/tiny
    env: [{{name: PORT, value: "{port}"}}]
    startupProbe: {{{started}: 60}}
    readinessProbe: {{{open}: 1}}
    livenessProbe: {{{alive}: 1}}
    lifecycle: {{preStop: {{exec: {{command: [sh, -c, 'touch $POD_ROOT/shared/stopped']}}}}}}
    volumeMounts: [{{name: shared, mountPath: /shared}}]
  volumes: [{{name: shared, hostPath: {{path: {dir}}}}}]
"#,
        started = test("-e $POD_ROOT/shared/started"),
        open = test("-e $POD_ROOT/shared/open"),
        alive = test("! -e $POD_ROOT/shared/dead"),
        dir = shared.path().display(),
    ))
    .await;
    let now = async || pods.get("asked").await.unwrap();
    let started = |pod: &Pod| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        statuses.first()?.started
    };
    let becomes = async |what: &str, is: &dyn Fn(&Pod) -> bool| {
        wait(what, async || Some(now().await).filter(is)).await;
    };
    touch("open");
    becomes("running", &|pod| pid(pod).is_some()).await;
    wait("an answer", async || get(port, "/env/PORT")).await;
    let pod = now().await;
    assert!(
        started(&pod) != Some(true) && !ready(&pod),
        "it has not started yet: {:?}",
        pod.status
    );
    touch("started");
    becomes("ready", &|pod| started(pod) == Some(true) && ready(pod)).await;
    remove("open");
    becomes("not ready", &|pod| !ready(pod)).await;
    assert_eq!(restarts(&now().await), 0, "that is no reason to end it");
    touch("open");
    becomes("ready again", &ready).await;
    touch("dead");
    becomes("ended", &|pod| restarts(pod) >= 1).await;
    remove("dead");
    becomes("back", &ready).await;
    let events: Api<Event> = Api::namespaced(cluster().await.client().await.unwrap(), "asked");
    wait("the event", async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        let mut unhealthy = events
            .iter()
            .filter(|event| event.reason.as_deref() == Some("Unhealthy"));
        unhealthy
            .find(|event| event.message.as_deref().is_some_and(|text| text.contains("liveness")))
            .map(drop)
    })
    .await;
    let pid = pid(&now().await).unwrap();
    cluster()
        .await
        .kubectl(&["delete", "pod", "asked", "-n", "asked"])
        .await
        .unwrap();
    assert_eq!(start_time(pid), None);
    assert!(
        shared.path().join("stopped").exists(),
        "the hook before the end was run"
    );
}
