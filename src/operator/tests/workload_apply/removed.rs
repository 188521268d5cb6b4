//! What is wanted no more is removed, where it was made here.

use super::*;

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
