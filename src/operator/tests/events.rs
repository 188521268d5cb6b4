//! Events: each step and end of a Promotion, each change of readiness, each change of owner, on the object that it
//! happened to, once, and never again by a pass without news.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use base64::Engine;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use multiactive_api as api;
use serde_json::json;
use std::collections::BTreeMap;
use support::{NAMESPACE, Operator, SYSTEM, World, condition, eventually, namespaced, range, unit_object};

/// How often each event happened: `Kind/name: Type Reason: note`.
async fn events(world: &World) -> BTreeMap<String, i32> {
    let mut all = BTreeMap::new();
    // Those of objects without a namespace are in `default`.
    for namespace in [NAMESPACE, "default"] {
        let events: Api<Event> = Api::namespaced(world.hub.clone(), namespace);
        for event in events.list(&Default::default()).await.unwrap() {
            let of = event.regarding.unwrap_or_default();
            let line = format!(
                "{}/{}: {} {}: {}",
                of.kind.unwrap_or_default(),
                of.name.unwrap_or_default(),
                event.type_.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.note.unwrap_or_default()
            );
            *all.entry(line).or_default() += event.series.map_or(1, |series| series.count);
        }
    }
    all
}

/// Waits until these events of `object` are there, each once; `…` at an end stands for more text.
async fn told(world: &World, object: &str, wanted: &[&str]) {
    let mut last = Vec::new();
    let search = async || {
        let prefix = format!("{object}: ");
        let all = events(world).await.into_iter();
        last = all
            .filter_map(|(line, count)| Some((line.strip_prefix(&prefix)?.to_owned(), count)))
            .collect();
        let matches = |line: &str, wanted: &str| match wanted.strip_suffix('…') {
            Some(start) => line.starts_with(start),
            None => line == wanted,
        };
        let once = |wanted: &&str| {
            let of = last.iter().filter(|(line, _)| matches(line, wanted));
            of.map(|(_, count)| count).sum::<i32>() == 1
        };
        wanted.iter().all(once).then_some(())
    };
    let found = tokio::time::timeout(std::time::Duration::from_secs(30), eventually(object, search)).await;
    assert!(found.is_ok(), "{object}: wanted {wanted:#?}, found {last:#?}");
}

async fn keyspace_says(world: &World, wanted: &str) {
    eventually(&format!("the keyspace says {wanted}"), async || {
        let keyspace: api::Keyspace = world.namespaced().get("users").await.unwrap();
        condition(&keyspace.status?.conditions, "Ready")?
            .eq(wanted)
            .then_some(())
    })
    .await;
}

/// A plan has been made: the operator has looked at everything once more.
async fn a_pass(world: &World, name: &str) {
    let select = json!({"type": "Ranges", "ranges": ["users-1"]});
    let spec = json!({"targetUnit": "east-1", "select": select, "mode": "Plan"});
    world.apply(namespaced("Promotion", name, spec)).await;
    world.ended(name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_thing_that_happens_is_told_once_on_its_object() {
    let world = World::start().await;
    world.agents();
    let operator = Operator::start(&world.hub, "events").await;
    world.shop().await;
    world.served().await;
    promotions(&world).await;
    readiness(&world).await;

    // Whatever is quiet stays quiet: by further passes, and by an operator that starts.
    a_pass(&world, "plan-1").await;
    told(&world, "Promotion/plan-1", &["Normal Planned: it can run"]).await;
    let before = events(&world).await;
    a_pass(&world, "plan-2").await;
    operator.stop().await;
    let operator = Operator::start(&world.hub, "again").await;
    a_pass(&world, "plan-3").await;
    told(&world, "Promotion/plan-3", &["Normal Planned: it can run"]).await;
    let mut after = events(&world).await;
    after.retain(|line, _| !line.starts_with("Promotion/plan-2:") && !line.starts_with("Promotion/plan-3:"));
    assert_eq!(after, before);
    a_member(&world).await;
    operator.stop().await;
}

async fn promotions(world: &World) {
    let select = json!({"type": "Ranges", "ranges": ["users-0"]});
    world.promote("stale", "north-1", select.clone(), 0).await;
    assert_eq!(world.outcome("stale").await, "Refused/Stale");
    told(
        world,
        "Promotion/stale",
        &["Warning Refused: Stale: slot 0 of users changed …"],
    )
    .await;

    let mut cordoned = unit_object("north-1", "north");
    cordoned["spec"]["cordoned"] = true.into();
    world.apply(cordoned).await;
    world
        .promote("cordoned", "north-1", select.clone(), world.epoch().await)
        .await;
    assert_eq!(world.outcome("cordoned").await, "Refused/TargetCordoned");
    let refused = "Warning Refused: cordoned refused (TargetCordoned): north-1 is cordoned…";
    told(
        world,
        "Promotion/cordoned",
        &["Normal Started: cordoned began at Check", refused],
    )
    .await;
    world.apply(unit_object("north-1", "north")).await;

    world.promote("move", "north-1", select, world.epoch().await).await;
    assert_eq!(world.outcome("move").await, "Succeeded");
    let steps = [
        "Normal Started: move began at Check",
        "Normal StepEntered: move: Check -> Prepare",
        "Normal StepEntered: move: Prepare -> Hold",
        "Normal StepEntered: move: Hold -> …",
        "Normal StepEntered: move: Open -> Settle",
        "Normal Succeeded: move succeeded",
    ];
    told(world, "Promotion/move", &steps).await;
    for (promotion, count) in [("stale", 1), ("cordoned", 2)] {
        let prefix = format!("Promotion/{promotion}: ");
        let all = events(world).await;
        let of: Vec<_> = all.keys().filter(|line| line.starts_with(&prefix)).collect();
        assert_eq!(of.len(), count, "{of:#?}");
    }
    every_step_once(world).await;
}

/// How many steps are entered with one commit depends on who reports first: together the events name each step once.
async fn every_step_once(world: &World) {
    let all = events(world).await;
    let lines = all
        .keys()
        .filter_map(|line| line.strip_prefix("Promotion/move: Normal StepEntered: move: "));
    let mut ways: Vec<Vec<&str>> = lines.map(|line| line.split(" -> ").collect()).collect();
    let mut path = vec!["Check"];
    while let Some(index) = ways.iter().position(|way| way.first() == path.last()) {
        path.extend(&ways.swap_remove(index)[1..]);
    }
    assert!(ways.is_empty(), "{path:?}, and {ways:?}");
    assert_eq!(path, ["Check", "Prepare", "Hold", "Fence", "Drain", "Open", "Settle"]);
}

async fn readiness(world: &World) {
    world.apply(range("users-0", 0, 5, "east-1")).await;
    keyspace_says(world, "False RangesLeaveGap").await;
    a_pass(world, "plan-a").await;
    a_pass(world, "plan-b").await;
    world.apply(range("users-0", 0, 7, "east-1")).await;
    keyspace_says(world, "True Published").await;
    let slots = |text: &str| format!("Normal SlotsChanged: users slots {text}…");
    let changes = [
        slots("0-7: Opening at east-1 -> Serving at east-1"),
        slots("8-15: Opening at north-1 -> Serving at north-1"),
        slots("0-7: Serving at east-1 -> Held at east-1"),
        slots("0-7: Opening at north-1 -> Serving at north-1"),
    ];
    told(world, "Keyspace/users", &changes.each_ref().map(String::as_str)).await;
    let gap = "Warning RangesLeaveGap: slots 6-7 are in no range: between users-0 and users-1…";
    told(world, "Keyspace/users", &[gap]).await;
}

async fn a_member(world: &World) {
    let ready = "Normal MemberReady: the cluster answers";
    told(world, "MemberCluster/north", &[ready]).await;
    let broken = base64::engine::general_purpose::STANDARD.encode("clusters: [");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "north", "namespace": SYSTEM},
        "data": {"kubeconfig": broken}});
    world.apply(secret).await;
    let not_ready =
        "Warning MemberNotReady: key kubeconfig of Secret multiactive-system/north: the kubeconfig cannot be read…";
    told(world, "MemberCluster/north", &[ready, not_ready]).await;
}
