//! A real cluster whose pods are processes: what a Deployment, a Secret, a probe and a deletion do to them.
#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use common::{apply, cluster, get, namespace, only, phase, pid, ready, restarts, wait, waiting};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use multiactive_fleet::process::start_time;
use multiactive_fleet::tools::{Tool, ensure};
use multiactive_fleet::{node, ports};

fn deployment(port: u16) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: tiny, namespace: life, labels: {{app: tiny}}}}
spec:
  replicas: 1
  strategy: {{type: Recreate}}
  selector: {{matchLabels: {{app: tiny}}}}
  template:
    metadata: {{labels: {{app: tiny}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: tiny
        image: process/tiny:v1
        args: ["--port=$(PORT)"]
        ports: [{{name: http, containerPort: {port}}}]
        env:
        - {{name: PORT, value: "{port}"}}
        - {{name: NAMESPACE, valueFrom: {{fieldRef: {{fieldPath: metadata.namespace}}}}}}
        - {{name: WORD, valueFrom: {{secretKeyRef: {{name: words, key: word}}}}}}
        readinessProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 1}}
        volumeMounts:
        - {{name: words, mountPath: /etc/words}}
        - {{name: gate, mountPath: /gate}}
        - {{name: scratch, mountPath: /tmp/scratch}}
      volumes:
      - {{name: words, secret: {{secretName: words}}}}
      - {{name: gate, configMap: {{name: gate, optional: true}}}}
      - {{name: scratch, emptyDir: {{}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: tiny, namespace: life}}
spec: {{selector: {{app: tiny}}, ports: [{{port: 80, targetPort: http}}]}}
"#
    )
}

fn word(value: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: words, namespace: life}}, stringData: {{word: {value}}}}}"
    )
}

#[tokio::test]
async fn a_deployment_is_a_process_from_its_secret_to_its_deletion() {
    let pods = namespace("life").await;
    let port = ports::free().unwrap();
    apply(&deployment(port)).await;
    let (reason, message) = wait("a pod that misses its Secret", async || {
        only(&pods)
            .await
            .as_ref()
            .and_then(waiting)
            .filter(|(_, message)| !message.is_empty())
    })
    .await;
    assert_eq!(reason, "ContainerCreating");
    assert!(message.contains("secret \"words\" not found"), "{message}");

    apply(&word("one")).await;
    let first = wait("the process", async || only(&pods).await.as_ref().and_then(pid)).await;
    wait("an answer", async || get(port, "/env/NAMESPACE")).await;
    assert_eq!(get(port, "/env/NAMESPACE").as_deref(), Some("life"));
    assert_eq!(get(port, "/env/WORD").as_deref(), Some("one"));
    assert_eq!(get(port, "/etc/words/word").as_deref(), Some("one"));
    assert!(
        !ready(&only(&pods).await.unwrap()),
        "its probe fails, so it is not ready"
    );

    // The probe succeeds once a file of an updated ConfigMap is there.
    apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: gate, namespace: life}, data: {open: '1'}}").await;
    cluster()
        .await
        .kubectl(&[
            "wait",
            "-n",
            "life",
            "deployment/tiny",
            "--for=condition=Available",
            "--timeout=60s",
        ])
        .await
        .unwrap();

    apply(&word("two")).await;
    wait("the new Secret in the volume", async || {
        get(port, "/etc/words/word").filter(|text| text == "two")
    })
    .await;
    assert_eq!(
        get(port, "/env/WORD").as_deref(),
        Some("one"),
        "an environment is not replaced"
    );

    // A killed process is noticed and started again.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL).unwrap();
    let second = wait("the restart", async || {
        let pod = only(&pods).await?;
        (restarts(&pod) == 1 && ready(&pod)).then(|| pid(&pod))?
    })
    .await;
    assert_ne!(first, second);
    assert_eq!(
        get(port, "/env/WORD").as_deref(),
        Some("two"),
        "the next start reads it anew"
    );

    let pod = only(&pods).await.unwrap();
    cluster()
        .await
        .kubectl(&["delete", "deployment", "tiny", "-n", "life"])
        .await
        .unwrap();
    wait("the pod's removal", async || only(&pods).await.is_none().then_some(())).await;
    assert_eq!(start_time(second), None, "its process is gone");
    let name = pod.metadata.name.unwrap();
    let files = cluster().await.dir().join("node/pods");
    wait("its files' removal", async || {
        let mut left = std::fs::read_dir(&files).ok()?.flatten();
        let gone = left.all(|file| !file.file_name().to_string_lossy().contains(&name));
        gone.then_some(())
    })
    .await;
    let log = node::log_file(&cluster().await.dir().join("node"), "life", &name, "tiny");
    let text = std::fs::read_to_string(log).unwrap();
    assert_eq!(
        text.matches(&format!("tiny listens on {port}, arguments [\"--port={port}\"]"))
            .count(),
        2,
        "{text}"
    );

    let controllers = cluster().await.log(multiactive_fleet::cluster::Part::ControllerManager);
    let text = std::fs::read_to_string(controllers).unwrap();
    assert!(
        !text.contains("loopback"),
        "EndpointSlices were tried with loopback addresses"
    );
}

#[tokio::test]
async fn a_pod_that_cannot_run_says_why_and_one_that_ends_says_how() {
    let pods = namespace("ends").await;
    let pod = |name: &str, image: &str, policy: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: ends}}, spec: {{restartPolicy: {policy}, \
             terminationGracePeriodSeconds: 1, containers: [{{name: c, image: {image}}}]}}}}"
        )
    };
    for (name, image) in [("foreign", "nginx"), ("unknown", "process/none")] {
        apply(&pod(name, image, "Always")).await;
        let (reason, message) = wait(name, async || {
            waiting(&pods.get(name).await.unwrap()).filter(|w| !w.1.is_empty())
        })
        .await;
        assert_eq!(reason, "ErrImagePull");
        assert!(message.contains(image.trim_start_matches("process/")), "{message}");
    }
    for (name, want) in [("ends-well", "Succeeded"), ("ends-badly", "Failed")] {
        apply(&pod(name, &format!("process/{name}"), "Never")).await;
        wait(name, async || {
            (phase(&pods.get(name).await.unwrap()) == want).then_some(())
        })
        .await;
    }
    let ended = pods
        .get("ends-badly")
        .await
        .unwrap()
        .status
        .unwrap()
        .container_statuses
        .unwrap()
        .remove(0);
    let ended = ended.state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.message.as_deref()), (3, Some("it went wrong")));

    apply(&pod("loops", "process/ends-badly", "Always")).await;
    wait("a restart after a back-off", async || {
        (restarts(&pods.get("loops").await.unwrap()) >= 2).then_some(())
    })
    .await;
    let events: Api<Event> = Api::namespaced(cluster().await.client().await.unwrap(), "ends");
    wait("the event of the back-off", async || {
        events
            .list(&ListParams::default())
            .await
            .unwrap()
            .iter()
            .any(|e| e.reason.as_deref() == Some("BackOff"))
            .then_some(())
    })
    .await;

    // What ignores SIGTERM is killed when its grace period is over.
    apply(&pod("stubborn", "process/ignores-term", "Always")).await;
    let pid = wait("the process", async || pid(&pods.get("stubborn").await.unwrap())).await;
    cluster()
        .await
        .kubectl(&["delete", "pod", "stubborn", "-n", "ends"])
        .await
        .unwrap();
    assert_eq!(start_time(pid), None);
    for name in ["foreign", "unknown", "ends-well", "ends-badly", "loops"] {
        cluster()
            .await
            .kubectl(&["delete", "pod", name, "-n", "ends"])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_pod_has_the_rights_of_its_service_account_and_no_more() {
    namespace("rights").await;
    let kubectl = ensure(Tool::Kubectl).unwrap();
    apply(&format!(
        r#"
{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: reader, namespace: rights}}}}
---
{{apiVersion: v1, kind: ConfigMap, metadata: {{name: mine, namespace: rights}}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: reader, namespace: rights}}
rules: [{{apiGroups: [""], resources: [configmaps], verbs: [get]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: reader, namespace: rights}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}}
subjects: [{{kind: ServiceAccount, name: reader, namespace: rights}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: asks, namespace: rights}}
spec:
  serviceAccountName: reader
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: process/asks, env: [{{name: KUBECTL, value: {}}}]}}]
"#,
        kubectl.display()
    ))
    .await;
    let log = node::log_file(&cluster().await.dir().join("node"), "rights", "asks", "c");
    let text = wait("the last answer", async || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|text| text.to_lowercase().contains("forbidden"))
    })
    .await;
    for want in [
        "system:serviceaccount:rights:reader",
        "pod-name",
        "configmap/mine",
        "cannot list resource \"secrets\"",
    ] {
        assert!(text.contains(want), "{want} is missing in:\n{text}");
    }
    cluster()
        .await
        .kubectl(&["delete", "pod", "asks", "-n", "rights"])
        .await
        .unwrap();
}
