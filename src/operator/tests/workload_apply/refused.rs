//! What cannot be applied is told, and what stands stays.

use super::*;

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
