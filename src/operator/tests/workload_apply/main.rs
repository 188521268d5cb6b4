//! UnitWorkloads on real API servers: what is applied, what is put back, what is reported and left, what is removed.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod refused;
mod removed;
#[path = "../workload_world/mod.rs"]
mod workload_world;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::{Value, json};
use workload_world::{
    EAST, FORBIDDEN, HOME, Team, World, a, apply_as, config_map, delete, edit, eventually, shared_operator, until_gone,
    until_object, usual_rules,
};

async fn team(namespace: &str) -> Team {
    let world = World::get().await;
    shared_operator(world).await;
    world.team(namespace, &usual_rules()).await
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "one", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1000m"}}}]}}}})
}

#[tokio::test]
async fn objects_stand_in_each_unit_with_its_overrides() {
    let team = team("overrides").await;
    team.declare(
        "web",
        json!({"units": ["home-1", "east-1"], "manifests": [config_map("c", "all"), deployment("d", 2)],
        "patches": [
            {"unit": "east-1", "target": {"kind": "ConfigMap", "name": "c"}, "merge": {"data": {"a": "east"}}},
            {"unit": "east-1", "target": {"kind": "Deployment", "name": "d"}, "merge": {"spec": {"template": {"spec": {
                "containers": [{"name": "c", "image": "two"}]}}}}}]}),
    )
    .await;
    for (cluster, value, image) in [(HOME, "all", "one"), (EAST, "east", "two")] {
        let maps = team.config_maps(cluster).await;
        until_object(&maps, "c", value, |map| a(map) == Some(value)).await;
        let deployments = team.api::<Deployment>(cluster).await;
        let found = until_object(&deployments, "d", "exists", |_| true).await;
        let pod = found.spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.containers[0].image.as_deref(), Some(image), "{cluster}");
    }
    let message = team.until("web", "False", "Progressing").await;
    assert!(
        message.contains("Deployment d: its controller has not seen it yet"),
        "{message}"
    );

    // No controller runs here: this is what one would report.
    for cluster in [HOME, EAST] {
        let deployments = team.api::<Deployment>(cluster).await;
        let generation = deployments.get("d").await.unwrap().metadata.generation;
        let status = json!({"status": {"observedGeneration": generation, "replicas": 2, "updatedReplicas": 2,
            "readyReplicas": 2, "availableReplicas": 2, "conditions": [{"type": "Available", "status": "True"}]}});
        let patch = kube::api::Patch::Merge(status);
        deployments
            .patch_status("d", &kube::api::PatchParams::default(), &patch)
            .await
            .unwrap();
    }
    team.until("web", "True", "Current").await;
    let status = team.get("web").await.status.unwrap();
    assert_eq!(status.ready_units.as_deref(), Some("2/2"));
    assert!(
        status
            .units
            .iter()
            .all(|unit| unit.objects.iter().all(|object| object.uid.is_some())),
        "{status:?}"
    );
}

#[tokio::test]
async fn what_an_update_changed_is_put_back_with_an_event() {
    let team = team("drift").await;
    team.declare(
        "web",
        json!({"units": ["east-1"], "manifests": [config_map("c", "ours")]}),
    )
    .await;
    team.until("web", "True", "Current").await;
    let maps = team.config_maps(EAST).await;
    edit(&maps, "c", json!({"data": {"a": "theirs", "b": "their own"}})).await;
    let back = until_object(&maps, "c", "is put back", |map| a(map) == Some("ours")).await;
    assert_eq!(
        back.data.unwrap().get("b").map(String::as_str),
        Some("their own"),
        "only our fields are ours"
    );
    let note = team.event("web", "DriftPutBack").await;
    assert!(
        note.contains("east-1") && note.contains(".data.a (by kubectl-edit)"),
        "{note}"
    );

    edit(
        &maps,
        "c",
        json!({"metadata": {"labels": {"multiactive.io/workload-uid": null}}}),
    )
    .await;
    until_object(&maps, "c", "is marked again", |map| {
        map.metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key("multiactive.io/workload-uid"))
    })
    .await;
    delete(&maps, "c").await;
    until_object(&maps, "c", "is made again", |map| a(map) == Some("ours")).await;
}

#[tokio::test]
async fn a_field_that_another_manager_applied_is_reported_and_left() {
    let team = team("conflict").await;
    team.declare(
        "web",
        json!({"units": ["east-1"], "manifests": [config_map("c", "ours")]}),
    )
    .await;
    team.until("web", "True", "Current").await;
    let maps = team.config_maps(EAST).await;
    apply_as(&maps, &config_map("c", "theirs"), "flux").await;
    let message = team.until("web", "False", "Conflict").await;
    assert!(
        message.contains(".data.a") && message.contains("flux") && message.contains("east-1"),
        "{message}"
    );
    assert_eq!(a(&maps.get("c").await.unwrap()), Some("theirs"));
    assert_eq!(
        team.get("web").await.status.unwrap().units[0].objects[0].state,
        "Conflict"
    );

    // The other manager lets go: its next version does not name the field.
    apply_as(
        &maps,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}),
        "flux",
    )
    .await;
    until_object(&maps, "c", "is ours again", |map| a(map) == Some("ours")).await;
    team.until("web", "True", "Current").await;
}

#[tokio::test]
async fn of_two_workloads_that_claim_an_object_the_first_keeps_it() {
    let team = team("claims").await;
    team.declare(
        "first",
        json!({"units": ["east-1"], "manifests": [config_map("c", "first")]}),
    )
    .await;
    team.until("first", "True", "Current").await;
    team.declare(
        "second",
        json!({"units": ["east-1"], "manifests": [config_map("c", "second"), config_map("d", "second")]}),
    )
    .await;
    let message = team.until("second", "False", "Conflict").await;
    assert!(message.contains("UnitWorkload claims/first"), "{message}");
    let maps = team.config_maps(EAST).await;
    assert_eq!(a(&maps.get("c").await.unwrap()), Some("first"));
    until_object(&maps, "d", "is not held up", |map| a(map) == Some("second")).await;

    // The second goes; what the first has stays.
    delete(&team.workloads(), "second").await;
    until_gone(&team.workloads(), "second").await;
    until_gone(&maps, "d").await;
    assert_eq!(a(&maps.get("c").await.unwrap()), Some("first"));
}

#[tokio::test]
async fn an_autoscaler_decides_on_replicas() {
    let team = team("autoscaled").await;
    let deployments = team.api::<Deployment>(EAST).await;
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "d"},
        "spec": {"maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
    team.declare("web", json!({"units": ["east-1"], "manifests": [deployment("d", 3)]}))
        .await;
    let replicas = |found: &Deployment| found.spec.as_ref().and_then(|spec| spec.replicas);
    until_object(&deployments, "d", "has 3", |found| replicas(found) == Some(3)).await;

    // An autoscaler comes: the number that is there stays, and what it sets is not put back.
    team.declare(
        "web",
        json!({"units": ["east-1"], "manifests": [deployment("d", 3), scaler]}),
    )
    .await;
    let scalers = team
        .api::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler>(EAST)
        .await;
    until_object(&scalers, "d", "exists", |_| true).await;
    let scale = kube::api::Patch::Merge(json!({"spec": {"replicas": 7}}));
    let controller = kube::api::PatchParams {
        field_manager: Some("kube-controller-manager".into()),
        ..Default::default()
    };
    deployments.patch_scale("d", &controller, &scale).await.unwrap();
    let changed = deployment("d", 3);
    let mut changed_image = changed.clone();
    changed_image["spec"]["template"]["spec"]["containers"][0]["image"] = json!("three");
    team.declare(
        "web",
        json!({"units": ["east-1"], "manifests": [changed_image, scaler]}),
    )
    .await;
    let after = until_object(&deployments, "d", "has the new image", |found| {
        let pod = found.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        pod.is_some_and(|pod| pod.containers[0].image.as_deref() == Some("three"))
    })
    .await;
    assert_eq!(replicas(&after), Some(7));
}
