//! The end of UnitWorkloads and Units on real API servers: what was never made holds nothing up, what may be there does,
//! and what serves slots stays.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod workload_world;

use kube::Api;
use kube::api::{Patch, PatchParams};
use multiactive_api::{ROUTING_TABLE, RoutingTable, RoutingTableSpec, Unit};
use multiactive_core::epoch::Epoch;
use multiactive_core::slots::SlotSet;
use multiactive_core::span::SpanState;
use multiactive_core::table;
use serde_json::{Value, json};
use workload_world::{
    EAST, FORBIDDEN, Team, World, a, apply, config_map, delete, edit, eventually, shared_operator, until_gone,
    until_object, usual_rules,
};

async fn team(namespace: &str) -> Team {
    let world = World::get().await;
    shared_operator(world).await;
    world.team(namespace, &usual_rules()).await
}

/// What the team has no right to.
fn cluster_role() -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "wide"},
        "rules": []})
}

#[tokio::test]
async fn what_was_never_made_holds_nothing_up() {
    let team = team("never-made").await;
    team.declare("wide", json!({"units": ["east-1"], "manifests": [cluster_role()]}))
        .await;
    let message = team.until("wide", "False", "MissingRight").await;
    assert!(
        message.contains("by a ClusterRole and a ClusterRoleBinding"),
        "{message}"
    );
    team.declare(
        "wide",
        json!({"units": ["east-1"], "manifests": [config_map("c", "x")]}),
    )
    .await;
    team.until("wide", "True", "Current").await;
    team.declare("wide", json!({"units": ["east-1"], "manifests": [cluster_role()]}))
        .await;
    team.until("wide", "False", "MissingRight").await;
    delete(&team.workloads(), "wide").await;
    until_gone(&team.workloads(), "wide").await;
    until_gone(&team.config_maps(EAST).await, "c").await;

    let outside = World::get().await;
    let outside = outside.team(&format!("{FORBIDDEN}never-made"), &usual_rules()).await;
    outside
        .declare("web", json!({"units": ["east-1"], "manifests": [config_map("c", "x")]}))
        .await;
    outside.until("web", "False", "NamespaceNotAllowed").await;
    delete(&outside.workloads(), "web").await;
    until_gone(&outside.workloads(), "web").await;
}

/// A UnitWorkload as an earlier process left it, with the ClusterRole recorded in this state.
async fn left_behind(team: &Team, name: &str, state: &str) {
    let workloads = team.workloads();
    let object = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": "UnitWorkload", "metadata": {"name": name,
            "finalizers": ["multiactive.io/workload"], "annotations": {"multiactive.io/paused": "true"}},
        "spec": {"units": ["east-1"], "manifests": [cluster_role()]}});
    apply(&workloads, &object).await;
    let object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "wide",
        "state": state});
    let unit = json!({"unit": "east-1", "cluster": EAST, "state": "Progressing", "objects": [object]});
    let status = json!({"status": {"observedGeneration": 1, "units": [unit]}});
    let params = PatchParams::default();
    workloads
        .patch_status(name, &params, &Patch::Merge(status))
        .await
        .unwrap();
    delete(&workloads, name).await;
    let unpaused = json!({"metadata": {"annotations": {"multiactive.io/paused": null}}});
    edit(&workloads, name, unpaused).await;
}

#[tokio::test]
async fn what_may_be_there_holds_it_until_a_person_gives_it_up() {
    let team = team("give-up").await;
    left_behind(&team, "refused", "Refused").await;
    until_gone(&team.workloads(), "refused").await;
    // Recorded, and then its process died: it may have been made.
    left_behind(&team, "unknown", "InProgress").await;
    let message = team.until("unknown", "False", "MissingRight").await;
    assert!(
        message.contains("waits for its objects to be deleted") && message.contains("multiactive.io/give-up=unknown"),
        "{message}"
    );
    let give_up = |value: &str| json!({"metadata": {"annotations": {"multiactive.io/give-up": value}}});
    edit(&team.workloads(), "unknown", give_up("another")).await;
    assert!(team.workloads().get_opt("unknown").await.unwrap().is_some());
    edit(&team.workloads(), "unknown", give_up("unknown")).await;
    until_gone(&team.workloads(), "unknown").await;
    let note = team.event("unknown", "GivenUp").await;
    assert!(note.contains("ClusterRole wide in member east"), "{note}");
}

#[tokio::test]
async fn what_is_granted_later_is_made() {
    let world = World::get().await;
    shared_operator(world).await;
    let team = world.team("granted", &json!([])).await;
    team.declare("web", json!({"units": ["east-1"], "manifests": [config_map("c", "x")]}))
        .await;
    team.until("web", "False", "MissingRight").await;
    eventually("it is recorded that nothing was sent", || async {
        let units = team.get("web").await.status?.units;
        (units[0].objects[0].state == "Refused").then_some(())
    })
    .await;
    world.team("granted", &usual_rules()).await;
    until_object(&team.config_maps(EAST).await, "c", "is made", |map| a(map) == Some("x")).await;
    team.until("web", "True", "Current").await;
}

/// The record, with slot 0 owned by this unit.
async fn owned_by(team: &Team, unit: &str) {
    let mut users = table::KeyspaceTable::unowned("users".into(), 1);
    users.set(
        &SlotSet::range(0, 0),
        Some(&unit.into()),
        SpanState::Serving,
        Epoch::new(1, 2),
    );
    let table = table::RoutingTable {
        keyspaces: vec![users],
        units: ["east-1", "home-1"]
            .map(|name| table::TableUnit {
                name: name.into(),
                router: "https://r.example:8443".to_owned(),
            })
            .to_vec(),
        ..table::RoutingTable::default()
    };
    let spec = RoutingTableSpec::try_from(&table).unwrap();
    let object = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": "RoutingTable",
        "metadata": {"name": ROUTING_TABLE}, "spec": spec});
    apply(
        &Api::<RoutingTable>::namespaced(team.hub.clone(), &team.namespace),
        &object,
    )
    .await;
}

#[tokio::test]
async fn what_serves_slots_stays_though_its_unit_is_gone() {
    let team = team("unit-gone").await;
    owned_by(&team, "east-1").await;
    let roles = json!({"roles": ["Sharded"], "manifests": [config_map("c", "x")]});
    team.declare("web", roles.clone()).await;
    team.until("web", "True", "Current").await;
    let maps = team.config_maps(EAST).await;
    let uid = |map: &k8s_openapi::api::core::v1::ConfigMap| map.metadata.uid.clone();
    let before = uid(&maps.get("c").await.unwrap());

    let units: Api<Unit> = Api::namespaced(team.hub.clone(), &team.namespace);
    delete(&units, "east-1").await;
    until_gone(&units, "east-1").await;
    // The keeper has seen that it is gone once it has done something else that came after.
    let mut both = roles.clone();
    both["manifests"] = json!([config_map("c", "x"), config_map("d", "x")]);
    team.declare("web", both).await;
    let home = team.config_maps(workload_world::HOME).await;
    until_object(&home, "d", "is made", |_| true).await;
    team.until("web", "True", "Current").await;
    assert_eq!(uid(&maps.get("c").await.unwrap()), before, "it serves slots");
    assert!(maps.get("c").await.unwrap().metadata.deletion_timestamp.is_none());

    // Without slots it goes.
    owned_by(&team, "home-1").await;
    until_gone(&maps, "c").await;
    until_object(&team.workloads(), "web", "has one unit", |web| {
        web.status.as_ref().is_some_and(|status| status.units.len() == 1)
    })
    .await;
    team.until("web", "True", "Current").await;
}

#[tokio::test]
async fn what_outlives_its_unit_is_not_forgotten_by_who_looks_anew() {
    let team = team("looked-anew").await;
    owned_by(&team, "east-1").await;
    let units: Api<Unit> = Api::namespaced(team.hub.clone(), &team.namespace);
    edit(&units, "east-1", json!({"metadata": {"labels": {"only": "east"}}})).await;
    let lone =
        |manifests: serde_json::Value| json!({"selector": {"matchLabels": {"only": "east"}}, "manifests": manifests});
    team.declare("lone", lone(json!([config_map("c", "x")]))).await;
    team.until("lone", "True", "Current").await;
    delete(&units, "east-1").await;
    until_gone(&units, "east-1").await;

    // As after a restart: who was paused has forgotten what it knew.
    let paused = |value: serde_json::Value| json!({"metadata": {"annotations": {"multiactive.io/paused": value}}});
    edit(&team.workloads(), "lone", paused(json!("true"))).await;
    team.declare("lone", lone(json!([config_map("c", "x"), config_map("d", "x")])))
        .await;
    edit(&team.workloads(), "lone", paused(json!(null))).await;
    let seen = eventually("the new spec is looked at", || async {
        let workload = team.get("lone").await;
        let status = workload.status?;
        (status.observed_generation == workload.metadata.generation).then_some(status)
    })
    .await;
    let made = |unit: &multiactive_api::WorkloadUnit| unit.objects.iter().any(|object| object.name == "c");
    assert!(seen.units.iter().any(made), "{:?}", seen.units);

    // Without slots what is recorded goes.
    owned_by(&team, "home-1").await;
    until_gone(&team.config_maps(EAST).await, "c").await;
}
