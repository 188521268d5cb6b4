//! UnitWorkloads on real API servers: what is applied, what is put back, what is reported and left, what is removed.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

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
async fn a_missing_right_is_named() {
    let world = World::get().await;
    shared_operator(world).await;
    let verbs = json!(["get", "list", "watch", "create", "patch", "delete"]);
    let read = json!(["get", "list", "watch"]);
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": read}]);
    let team = world.team("rights", &rules).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}});
    team.declare(
        "web",
        json!({"units": ["east-1"], "manifests": [config_map("c", "x"), secret]}),
    )
    .await;
    let message = team.until("web", "False", "MissingRight").await;
    assert!(
        message.contains("Secret s") && message.contains("multiactive-deployer"),
        "{message}"
    );
    assert!(
        message.contains("patch secrets") || message.contains("create secrets"),
        "{message}"
    );

    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    team.declare("wide", json!({"units": ["east-1"], "manifests": [namespace]}))
        .await;
    let message = team.until("wide", "False", "MissingRight").await;
    assert!(message.contains("namespaces at the cluster scope"), "{message}");
}

#[tokio::test]
async fn an_invalid_edit_changes_nothing() {
    let team = team("invalid").await;
    team.declare(
        "web",
        json!({"units": ["east-1"], "manifests": [config_map("c", "good")]}),
    )
    .await;
    team.until("web", "True", "Current").await;
    // What is no object at all does not even come in.
    let none = json!({"spec": {"manifests": [config_map("c", "bad"), {"no": "object"}]}});
    let params = kube::api::PatchParams::default();
    let refused = team
        .workloads()
        .patch("web", &params, &kube::api::Patch::Merge(none))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("spec.manifests[1].kind"), "{refused}");

    let mut elsewhere = config_map("d", "x");
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    team.declare(
        "web",
        json!({"units": ["east-1"], "manifests": [config_map("c", "bad"), elsewhere]}),
    )
    .await;
    let message = team.until("web", "False", "Invalid").await;
    assert!(
        message.contains("spec.manifests[1]") && message.contains("elsewhere"),
        "{message}"
    );
    let maps = team.config_maps(EAST).await;
    assert_eq!(a(&maps.get("c").await.unwrap()), Some("good"));
    // What was applied before is still kept.
    edit(&maps, "c", json!({"data": {"a": "theirs"}})).await;
    until_object(&maps, "c", "is put back", |map| a(map) == Some("good")).await;

    team.declare(
        "none",
        json!({"units": ["gone-1", "east-1"], "manifests": [config_map("d", "x")]}),
    )
    .await;
    let message = team.until("none", "False", "UnknownUnit").await;
    assert!(message.contains("gone-1"), "{message}");
    until_object(&maps, "d", "stands in the unit that exists", |_| true).await;
}

#[tokio::test]
async fn what_the_member_refuses_is_told_in_its_words() {
    let team = team("refused").await;
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 99999}]}});
    team.declare("web", json!({"units": ["east-1"], "manifests": [service]}))
        .await;
    let message = team.until("web", "False", "Refused").await;
    assert!(
        message.contains("Service s") && message.contains("spec.ports[0].port"),
        "{message}"
    );

    let thing = json!({"apiVersion": "example.io/v1", "kind": "Thing", "metadata": {"name": "t"}});
    team.declare("thing", json!({"units": ["east-1"], "manifests": [thing]}))
        .await;
    let message = team.until("thing", "False", "UnknownKind").await;
    assert!(
        message.contains("Thing") && message.contains("install its definition"),
        "{message}"
    );
}

#[tokio::test]
async fn only_what_we_made_is_pruned() {
    let team = team("prune").await;
    let maps = team.config_maps(EAST).await;
    apply_as(&maps, &config_map("theirs", "theirs"), "a-person").await;
    let names = |names: &[&str]| -> Value { names.iter().map(|name| config_map(name, "ours")).collect() };
    team.declare(
        "web",
        json!({"units": ["east-1"], "manifests": names(&["keep", "drop", "swapped", "theirs"])}),
    )
    .await;
    let message = team.until("web", "False", "Conflict").await;
    assert!(
        message.contains("ConfigMap theirs") && message.contains("not made by multiactive (but by a-person)"),
        "{message}"
    );
    until_object(&maps, "drop", "is made", |_| true).await;
    until_object(&maps, "swapped", "is made", |_| true).await;

    // Someone puts an object of their own in the place of ours while nobody looks, and then ours is not wanted any more.
    let paused = |value: Value| json!({"metadata": {"annotations": {"multiactive.io/paused": value}}});
    let recorded = || async {
        let units = team.get("web").await.status?.units;
        let object = units[0].objects.iter().find(|object| object.name == "swapped")?;
        object.uid.clone()
    };
    eventually("its uid is recorded", recorded).await;
    edit(&team.workloads(), "web", paused(json!("true"))).await;
    // The pause holds once a deletion is not answered; an object that came back was made before.
    eventually("the pause holds", || async {
        let params = kube::api::DeleteParams::default();
        maps.delete("swapped", &params).await.ok()?;
        apply_as(&maps, &config_map("swapped", "theirs"), "a-person").await;
        let found = maps.get("swapped").await.ok()?;
        let managers = found.metadata.managed_fields?;
        (managers.len() == 1 && a(&maps.get("swapped").await.ok()?) == Some("theirs")).then_some(())
    })
    .await;
    team.declare("web", json!({"units": ["east-1"], "manifests": names(&["keep"])}))
        .await;
    edit(&team.workloads(), "web", paused(Value::Null)).await;
    until_gone(&maps, "drop").await;
    team.until("web", "True", "Current").await;
    assert_eq!(a(&maps.get("theirs").await.unwrap()), Some("theirs"));
    assert_eq!(a(&maps.get("swapped").await.unwrap()), Some("theirs"));
    assert_eq!(team.get("web").await.status.unwrap().units[0].objects.len(), 1);

    // An object is handed over by annotation.
    edit(
        &maps,
        "theirs",
        json!({"metadata": {"annotations": {"multiactive.io/adopt": "prune/web"}}}),
    )
    .await;
    team.declare(
        "web",
        json!({"units": ["east-1"], "manifests": names(&["keep", "theirs"])}),
    )
    .await;
    let message = team.until("web", "False", "Conflict").await;
    assert!(
        message.contains(".data.a") && message.contains("a-person"),
        "an applied field is still not taken: {message}"
    );
}

#[tokio::test]
async fn a_deleted_workload_takes_its_objects_along() {
    let team = team("deleted").await;
    team.declare(
        "web",
        json!({"roles": ["Sharded"], "manifests": [config_map("c", "x")]}),
    )
    .await;
    team.until("web", "True", "Current").await;
    assert_eq!(
        team.get("web").await.metadata.finalizers.unwrap(),
        ["multiactive.io/workload"]
    );
    delete(&team.workloads(), "web").await;
    until_gone(&team.workloads(), "web").await;
    for cluster in [HOME, EAST] {
        assert!(
            team.config_maps(cluster).await.get_opt("c").await.unwrap().is_none(),
            "{cluster}"
        );
    }
}

#[tokio::test]
async fn a_unit_that_is_not_selected_any_more_loses_its_objects() {
    let team = team("unselected").await;
    team.declare(
        "web",
        json!({"units": ["home-1", "east-1"], "manifests": [config_map("c", "x")]}),
    )
    .await;
    team.until("web", "True", "Current").await;
    team.declare("web", json!({"units": ["home-1"], "manifests": [config_map("c", "x")]}))
        .await;
    until_gone(&team.config_maps(EAST).await, "c").await;
    eventually("the unit leaves the status", || async {
        let status = team.get("web").await.status?;
        (status.units.len() == 1 && status.ready_units.as_deref() == Some("1/1")).then_some(())
    })
    .await;
    assert!(team.config_maps(HOME).await.get_opt("c").await.unwrap().is_some());
}

#[tokio::test]
async fn a_namespace_must_be_allowed_and_the_account_must_exist() {
    let refused = team(&format!("{FORBIDDEN}ns")).await;
    refused
        .declare("web", json!({"units": ["east-1"], "manifests": [config_map("c", "x")]}))
        .await;
    let message = refused.until("web", "False", "NamespaceNotAllowed").await;
    assert!(
        message.contains("allowedNamespaces") && message.contains("east"),
        "{message}"
    );

    let team = team("account").await;
    delete(&team.api::<ServiceAccount>(EAST).await, "multiactive-deployer").await;
    team.declare(
        "web",
        json!({"units": ["home-1", "east-1"], "manifests": [config_map("c", "x")]}),
    )
    .await;
    let message = team.until("web", "False", "AccountMissing").await;
    assert!(
        message.contains("ServiceAccount multiactive-deployer in namespace account of member east"),
        "{message}"
    );
    until_object(&team.config_maps(HOME).await, "c", "stands in the other member", |_| {
        true
    })
    .await;
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
