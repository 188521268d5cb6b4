//! UnitWorkloads while a member is away, and after a restart of the operator.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod workload_world;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use multiactive_fleet::cluster::Part;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use workload_world::{
    EAST, HOME, Team, World, a, config_map, delete, eventually, eventually_within, operate, until_gone, until_object,
    usual_rules,
};

/// Every write to these resources that an API server has counted.
async fn writes(client: &Client) -> BTreeMap<String, u64> {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = client.request_text(request).await.unwrap();
    let ours = ["configmaps", "secrets", "unitworkloads", "events", "deployments"];
    let verbs = ["APPLY", "PATCH", "PUT", "POST", "DELETE"];
    let counted = text.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    let mut found = BTreeMap::new();
    for line in counted {
        let label = |name: &str| Some(line.split_once(&format!("{name}=\""))?.1.split_once('"')?.0);
        let (Some(resource), Some(verb)) = (label("resource"), label("verb")) else {
            continue;
        };
        if ours.contains(&resource) && verbs.contains(&verb) {
            let count: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
            *found.entry(format!("{verb} {resource}")).or_default() += count as u64;
        }
    }
    found
}

/// The resourceVersions of everything that was declared or applied.
async fn versions(hub: &Client, maps: &[Api<ConfigMap>]) -> Vec<String> {
    let workloads: Api<multiactive_api::UnitWorkload> = Api::namespaced(hub.clone(), "outage");
    let mut all = Vec::new();
    for workload in workloads.list(&Default::default()).await.unwrap() {
        all.push(format!("{} {:?}", workload.name_any(), workload.resource_version()));
    }
    for api in maps {
        for map in api.list(&Default::default()).await.unwrap() {
            all.push(format!("{} {:?}", map.name_any(), map.resource_version()));
        }
    }
    all
}

fn many(count: usize, value: &str) -> Value {
    (0..count).map(|at| config_map(&format!("m{at}"), value)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_write_nothing_and_outages_lose_nothing() {
    let world = World::get().await;
    let team = world.team("outage", &usual_rules()).await;
    let namespaces = ["outage".to_owned()];
    let maps = [team.config_maps(HOME).await, team.config_maps(EAST).await];
    let (hub, east) = (world.client(HOME).await, world.client(EAST).await);

    let running = operate(world, &namespaces).await;
    for name in ["one", "two"] {
        let manifests: Vec<Value> = (0..20).map(|at| config_map(&format!("{name}-{at}"), "x")).collect();
        let before = writes(&hub).await;
        team.declare(name, json!({"units": ["home-1", "east-1"], "manifests": manifests}))
            .await;
        team.until(name, "True", "Current").await;
        let after = writes(&hub).await;
        let status = |counts: &BTreeMap<String, u64>| -> u64 {
            counts
                .iter()
                .filter(|(key, _)| key.ends_with("unitworkloads"))
                .map(|(_, count)| count)
                .sum()
        };
        // The declaration itself, the finalizer with what is about to be made, what was made.
        let spent = status(&after) - status(&before);
        assert!(spent <= 3, "{spent} hub writes for a UnitWorkload of 20 objects");
    }
    running.stop().await;

    let (before, counted) = (versions(&hub, &maps).await, (writes(&hub).await, writes(&east).await));
    let running = operate(world, &namespaces).await;
    // It has looked at everything once it answers to a change.
    team.declare(
        "probe",
        json!({"units": ["home-1", "east-1"], "manifests": [config_map("probe", "x")]}),
    )
    .await;
    team.until("probe", "True", "Current").await;
    let after = versions(&hub, &maps).await;
    let unchanged: Vec<&String> = after.iter().filter(|line| !line.starts_with("probe ")).collect();
    assert_eq!(unchanged, before.iter().collect::<Vec<_>>());
    let now = writes(&east).await;
    let applied = |counts: &BTreeMap<String, u64>| {
        counts
            .get("APPLY configmaps")
            .or(counts.get("PATCH configmaps"))
            .copied()
    };
    assert_eq!(
        applied(&now),
        applied(&counted.1).map(|count| count + 1),
        "only the probe was applied: {now:?}"
    );

    // The member goes; the other one goes on.
    world.member.kill_part(Part::ApiServer).await;
    team.declare(
        "one",
        json!({"units": ["home-1", "east-1"], "manifests": many(1, "during")}),
    )
    .await;
    until_object(&maps[0], "m0", "is made in the member that answers", |map| {
        a(map) == Some("during")
    })
    .await;
    team.declare(
        "new",
        json!({"units": ["home-1", "east-1"], "manifests": [config_map("new", "x")]}),
    )
    .await;
    until_object(&maps[0], "new", "is made in the member that answers", |_| true).await;
    delete(&team.workloads(), "two").await;

    // At first nothing is said of the rest, then it is unknown, and nothing recorded is forgotten.
    let message = eventually_within(Duration::from_secs(60), "the unit is unknown", || async {
        let units = team.get("probe").await.status?.units;
        let east = units
            .into_iter()
            .find(|unit| unit.unit == "east-1" && unit.state == multiactive_api::WorkloadState::Unknown)?;
        assert_eq!(east.objects.len(), 1);
        east.message
    })
    .await;
    assert!(message.contains("east"), "{message}");
    let leaving = eventually("the deletion says what it waits for", || async {
        let status = team.workloads().get("two").await.ok()?.status?;
        let ready = status
            .conditions
            .into_iter()
            .find(|c| c.type_ == "Ready" && c.status == "False")?;
        Some(ready.message).filter(|message| message.contains("waits for its objects") && message.contains("east"))
    })
    .await;
    assert!(!leaving.is_empty());
    until_gone(&maps[0], "two-0").await;

    // It comes back.
    world.member.start_part(Part::ApiServer).await.unwrap();
    until_object(&maps[1], "m0", "arrives", |map| a(map) == Some("during")).await;
    until_object(&maps[1], "new", "arrives", |_| true).await;
    until_gone(&maps[1], "one-0").await;
    until_gone(&team.workloads(), "two").await;
    until_gone(&maps[1], "two-19").await;
    for name in ["one", "new", "probe"] {
        team.until(name, "True", "Current").await;
    }
    running.stop().await;
    what_was_intended_is_known_without_a_status(world, &team, &maps).await;
}

/// As after a crash before the first status, or a restore, which drops it: the manifest changes meanwhile.
async fn what_was_intended_is_known_without_a_status(world: &World, team: &Team, maps: &[Api<ConfigMap>; 2]) {
    let lost = Patch::Merge(json!({"status": null}));
    let params = PatchParams::default();
    let without = team.workloads().patch_status("new", &params, &lost).await.unwrap();
    assert_eq!(without.status, None);
    team.declare(
        "new",
        json!({"units": ["home-1", "east-1"], "manifests": [config_map("newer", "x")]}),
    )
    .await;
    let running = operate(world, &["outage".to_owned()]).await;
    for map in maps {
        until_object(map, "newer", "is made", |_| true).await;
        until_gone(map, "new").await;
    }
    team.until("new", "True", "Current").await;
    running.stop().await;
}
