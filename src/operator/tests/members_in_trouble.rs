//! Members of a namespace that change how they are reached, say nothing, or take nothing: what depends on them waits or
//! says so, and nothing else does.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use base64::Engine;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::Api;
use multiactive_api as api;
use serde_json::{Value, json};
use support::{Operator, SYSTEM, World, condition, eventually, member_cluster, object, unit_object};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_in_trouble_concerns_only_what_depends_on_it() {
    let world = World::start().await;
    world.agents();
    let operator = Operator::start(&world.hub, "first").await;
    world.shop().await;
    world.served().await;
    a_namespace_that_is_missing_in_a_member_is_told(&world).await;
    operator.stop().await;
    let operator = a_silent_member_holds_back_nothing_after_a_start(&world).await;
    a_rotated_kubeconfig_is_no_news(&world, &operator).await;
    another_cluster_behind_a_name_is_left_alone_until_a_person_accepts_it(&world).await;
    operator.stop().await;
}

async fn kubeconfig(world: &World, name: &str, kubeconfig: &str) {
    let kubeconfig = base64::engine::general_purpose::STANDARD.encode(kubeconfig);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": SYSTEM},
        "data": {"kubeconfig": kubeconfig}});
    world.apply(secret).await;
}

/// The operator looks at a member at once where its object changes.
async fn look_at(world: &World, name: &str, turn: &str) {
    let mut member = member_cluster(name);
    member["metadata"]["annotations"] = json!({"turn": turn});
    world.apply(member).await;
}

fn since(conditions: &[Condition]) -> Vec<(String, Time)> {
    let ready = conditions.iter().filter(|condition| condition.type_ == "Ready");
    ready
        .map(|condition| (condition.status.clone(), condition.last_transition_time.clone()))
        .collect()
}

/// Since when everything that north's reports decide is as it is.
async fn readiness(world: &World) -> Vec<(String, Time)> {
    let mut all = Vec::new();
    let unit: api::Unit = world.namespaced().get("north-1").await.unwrap();
    all.extend(since(&unit.status.unwrap().conditions));
    let store: api::DataStore = world.namespaced().get("orders").await.unwrap();
    all.extend(since(&store.status.unwrap().conditions));
    let link: api::ReplicationLink = world.namespaced().get("orders-east-1-north-1").await.unwrap();
    all.extend(since(&link.status.unwrap().conditions));
    all
}

/// By now the operator has run for so long that not knowing would be news.
async fn a_rotated_kubeconfig_is_no_news(world: &World, operator: &Operator) {
    let before = eventually("all of north is ready", async || {
        let all = readiness(world).await;
        (all.len() == 3 && all.iter().all(|(status, _)| status == "True")).then_some(all)
    })
    .await;
    // Times of conditions are of whole seconds.
    eventually("a change would show", async || {
        let newest = before.iter().map(|(_, since)| since.0).max()?;
        (jiff::Timestamp::now().duration_since(newest).as_secs() >= 2).then_some(())
    })
    .await;
    for turn in ["one", "two", "three"] {
        let connection = operator.ctx.members.get("north").unwrap().connection;
        let mut rotated = world.north.kubeconfig().clone();
        rotated["preferences"] = json!({"rotated": turn});
        kubeconfig(world, "north", &rotated.to_string()).await;
        look_at(world, "north", turn).await;
        eventually("north is reached in another way", async || {
            let member = operator.ctx.members.get("north").unwrap();
            (member.connection != connection).then_some(())
        })
        .await;
    }
    // It works over the new way, there and back.
    for (name, target) in [("there", "east-1"), ("back", "north-1")] {
        let select = json!({"type": "Ranges", "ranges": ["users-0"]});
        world.promote(name, target, select, world.epoch().await).await;
        assert_eq!(world.outcome(name).await, "Succeeded");
    }
    assert_eq!(readiness(world).await, before, "something flipped");
}

async fn a_namespace_that_is_missing_in_a_member_is_told(world: &World) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}});
    world.apply(namespace.clone()).await;
    let mut member = member_cluster("north");
    member["spec"]["allowedNamespaces"] = json!(["shop", "elsewhere"]);
    world.apply(member).await;
    let mut unit = unit_object("north-2", "north");
    unit["metadata"]["namespace"] = "elsewhere".into();
    world.apply(unit).await;
    let units: Api<api::Unit> = Api::namespaced(world.hub.clone(), "elsewhere");
    let says = async |wanted: &str| {
        eventually(&format!("the unit says {wanted}"), async || {
            let conditions = units.get("north-2").await.unwrap().status?.conditions;
            let stalled = condition(&conditions, "Stalled")?;
            (condition(&conditions, "Ready")? == wanted).then_some(stalled)
        })
        .await
    };
    assert_eq!(says("False NamespaceMissing").await, "True NamespaceMissing");
    support::apply_to(&world.member, namespace).await;
    // No agent of this test works there.
    says("False AgentNotReporting").await;
}

async fn a_silent_member_holds_back_nothing_after_a_start(world: &World) -> Operator {
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hangs: Value = world.north.kubeconfig().clone();
    hangs["clusters"][0]["cluster"]["server"] = format!("https://{}", silent.local_addr().unwrap()).into();
    kubeconfig(world, "hangs", &hangs.to_string()).await;
    world.apply(object("Region", "hangs", json!({}))).await;
    world.apply(member_cluster("hangs")).await;
    world.apply(unit_object("hangs-1", "hangs")).await;
    let operator = Operator::start(&world.hub, "second").await;
    let select = json!({"type": "Ranges", "ranges": ["users-0"]});
    world
        .promote("after-start", "north-1", select, world.epoch().await)
        .await;
    assert_eq!(world.outcome("after-start").await, "Succeeded");
    let units: Api<api::Unit> = world.namespaced();
    let unit = units.get("hangs-1").await.unwrap();
    assert!(
        unit.status.is_none(),
        "the Promotion waited until the silent member was given up: {unit:?}"
    );
    eventually("the silent unit says so in the end", async || {
        let status = units.get("hangs-1").await.unwrap().status?;
        condition(&status.conditions, "Ready")?
            .starts_with("False MemberUnusable")
            .then_some(())
    })
    .await;
    operator
}

/// The kubeconfig of north reaches the cluster of east all of a sudden.
async fn another_cluster_behind_a_name_is_left_alone_until_a_person_accepts_it(world: &World) {
    let members: Api<api::MemberCluster> = Api::all(world.hub.clone());
    let says = async |wanted: &str| {
        eventually(&format!("north says {wanted}"), async || {
            let status = members.get("north").await.unwrap().status?;
            (condition(&status.conditions, "Ready")? == wanted).then_some(status)
        })
        .await
    };
    let before = says("True Answering").await;
    assert_eq!(before.last_seen, None, "it answers now");
    let noted = before.cluster_uid.unwrap();
    kubeconfig(world, "north", &world.east.kubeconfig().to_string()).await;
    look_at(world, "north", "stranger").await;
    let status = says("False ClusterChanged").await;
    assert_eq!(status.cluster_uid.as_deref(), Some(noted.as_str()));
    assert!(status.last_seen.is_some(), "it answered before");
    // Its unit counts as away, and nothing of it comes to the other cluster.
    let select = json!({"type": "Ranges", "ranges": ["users-0"]});
    world.promote("stranger", "east-1", select, world.epoch().await).await;
    let units: Api<api::Unit> = world.namespaced();
    eventually("the unit says why", async || {
        let status = units.get("north-1").await.unwrap().status?;
        let why = status.conditions.iter().find(|c| c.type_ == "Ready")?;
        why.message.contains("ClusterChanged").then_some(())
    })
    .await;
    assert_eq!(world.outcome("stranger").await, "Refused/LinksUnhealthy");
    let assignments: Api<api::UnitAssignment> = Api::namespaced(world.hub.clone(), "shop");
    let there = assignments.get_opt("north-1").await.unwrap();
    assert!(there.is_none(), "it was written to the other cluster: {there:?}");
    let old: Api<api::UnitAssignment> = Api::namespaced(world.member.clone(), "shop");
    assert!(
        old.get_opt("north-1").await.unwrap().is_some(),
        "what is in the old one stays"
    );
    // A person accepts it.
    let answers: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.hub.clone());
    let uid = answers.get("kube-system").await.unwrap().metadata.uid.unwrap();
    let mut member = member_cluster("north");
    member["metadata"]["annotations"] = json!({"multiactive.io/accept-cluster": uid});
    world.apply(member).await;
    let status = says("True Answering").await;
    assert_eq!((status.cluster_uid, status.last_seen), (Some(uid), None));
    eventually("its unit is assigned there", async || {
        assignments.get_opt("north-1").await.unwrap()
    })
    .await;
}
