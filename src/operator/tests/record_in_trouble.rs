//! The record on a real hub: a commit that the server refuses, a change by hand, and a record that is lost while a
//! member is silent.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use base64::Engine;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use multiactive_api::{self as api, ROUTING_TABLE};
use serde_json::json;
use support::{Operator, SYSTEM, World, condition, eventually, keyspace};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_in_trouble_stops_only_what_it_must() {
    let world = World::start().await;
    world.agents();
    let operator = Operator::start(&world.hub, "trouble").await;
    world.shop().await;
    world.served().await;
    a_refused_commit_holds_up_no_other_operation(&world).await;
    a_change_by_hand_is_told_with_who_and_what(&world).await;
    a_lost_record_waits_for_every_member(&world, operator).await;
}

/// A policy that refuses the table where `stuck` stands at Hold, and any table with the annotation `probe`.
async fn refuse(world: &World) {
    let rule = json!({"apiGroups": ["multiactive.io"], "apiVersions": ["v1alpha1"], "operations": ["UPDATE"],
        "resources": ["routingtables"]});
    let said = "the test does not take it";
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "test"}, "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [
        {"message": said, "expression": "!object.spec.operations.exists(o, o.name == 'stuck' && o.step == 'Hold')"},
        {"message": said, "expression": "!has(object.metadata.annotations) || !('probe' in object.metadata.annotations)"},
    ]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "test"}, "spec": {"policyName": "test", "validationActions": ["Deny"]}});
    world.apply(policy).await;
    world.apply(binding).await;
    let probe = Patch::Merge(json!({"metadata": {"annotations": {"probe": "x"}}}));
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let tables: Api<api::RoutingTable> = world.namespaced();
    eventually("the policy is in force", async || {
        tables
            .patch(ROUTING_TABLE, &params, &probe)
            .await
            .is_err()
            .then_some(())
    })
    .await;
}

async fn a_refused_commit_holds_up_no_other_operation(world: &World) {
    refuse(world).await;
    let select = |range: &str| json!({"type": "Ranges", "ranges": [range]});
    let epoch = world.epoch().await;
    world.promote("stuck", "north-1", select("users-0"), epoch).await;
    let promotions: Api<api::Promotion> = world.namespaced();
    eventually("stuck says why", async || {
        let status = promotions.get("stuck").await.unwrap().status?;
        let ready = condition(&status.conditions, "Ready")?;
        let message = status.message.unwrap_or_default();
        (ready == "False RecordMisfit" && message.contains("the test does not take it")).then_some(())
    })
    .await;
    world
        .promote("other", "east-1", select("users-1"), world.epoch().await)
        .await;
    assert_eq!(world.outcome("other").await, "Succeeded");
    let stuck = promotions.get("stuck").await.unwrap().status.unwrap();
    assert_eq!(
        stuck.outcome, None,
        "the other came to its end while stuck stood where it stands"
    );
    assert_eq!(world.owners().await, ["0-7 east-1 Serving", "8-15 east-1 Serving"]);

    // Once the server takes it, it goes on by itself.
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "test"}});
    let (bindings, name) = support::dynamic(&world.hub, &binding);
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    assert_eq!(world.outcome("stuck").await, "Succeeded");
}

async fn a_change_by_hand_is_told_with_who_and_what(world: &World) {
    let tables: Api<api::RoutingTable> = world.namespaced();
    let before = world.table().await.unwrap();
    let mut units = serde_json::to_value(&before.spec.units).unwrap();
    units[0]["router"] = "https://by-hand.example:8443".into();
    let params = PatchParams {
        field_manager: Some("by-hand".to_owned()),
        ..PatchParams::default()
    };
    let change = async |change: serde_json::Value| {
        tables
            .patch(ROUTING_TABLE, &params, &Patch::Merge(change))
            .await
            .unwrap();
    };
    let keyspaces: Api<api::Keyspace> = world.namespaced();
    let says = async |reason: &str| {
        eventually(&format!("the keyspace says {reason}"), async || {
            let status = keyspaces.get("users").await.unwrap().status?;
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready")?;
            (ready.reason == reason).then(|| ready.message.clone())
        })
        .await
    };
    // Without the next epoch it would be a second truth of this one: nothing is published, and what is put back counts.
    change(json!({"metadata": {"annotations": {"note": "who reads this"}}})).await;
    change(json!({"spec": {"units": units}})).await;
    let message = says("RecordAltered").await;
    assert!(
        message.contains("by-hand changed") && message.contains("router of east-1"),
        "{message}"
    );
    let copies: Api<api::RoutingTable> = Api::namespaced(world.member.clone(), support::NAMESPACE);
    assert_eq!(copies.get(ROUTING_TABLE).await.unwrap().spec, before.spec);
    change(json!({"spec": {"units": before.spec.units}})).await;
    says("Published").await;
    assert_eq!(world.epoch().await, before.spec.epoch, "nothing was written meanwhile");
    change(json!({"spec": {"units": units, "epoch": before.spec.epoch + 1}})).await;
    let events: Api<Event> = world.namespaced();
    eventually("an event on the table says who changed what", async || {
        let found = events.list(&ListParams::default()).await.unwrap().items;
        let mut notes = found.iter().filter_map(|event| {
            let told = event.reason.as_deref() == Some("ChangedByAnother");
            let about = event.regarding.as_ref()?.kind.as_deref() == Some("RoutingTable");
            event.note.as_deref().filter(|_| told && about)
        });
        notes
            .any(|note| note.contains("by-hand changed") && note.contains("router of east-1"))
            .then_some(())
    })
    .await;
    eventually("what is declared is put back", async || {
        let table = world.table().await?;
        table.spec.units[0].router.contains("east-1").then_some(())
    })
    .await;
}

/// Where north's API server is: one that takes connections and never answers, or the real one.
async fn north_is_at(world: &World, url: Option<&str>) {
    let mut kubeconfig = world.north.kubeconfig().clone();
    if let Some(url) = url {
        kubeconfig["clusters"][0]["cluster"]["server"] = url.into();
    }
    let kubeconfig = base64::engine::general_purpose::STANDARD.encode(kubeconfig.to_string());
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "north", "namespace": SYSTEM},
        "data": {"kubeconfig": kubeconfig}});
    world.apply(secret).await;
}

/// The Keyspace was made anew, so its status says nothing; the operator begins anew, so it remembers nothing.
async fn a_lost_record_waits_for_every_member(world: &World, operator: Operator) {
    eventually("north holds the record", async || {
        let copies: Api<api::RoutingTable> = Api::namespaced(world.member.clone(), support::NAMESPACE);
        let copy = copies.get(ROUTING_TABLE).await.unwrap();
        (copy.spec == world.table().await?.spec).then_some(())
    })
    .await;
    let (owners, epoch) = (world.owners().await, world.epoch().await);
    operator.stop().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    north_is_at(world, Some(&format!("https://{}", silent.local_addr().unwrap()))).await;
    let tables: Api<api::RoutingTable> = world.namespaced();
    tables.delete(ROUTING_TABLE, &DeleteParams::default()).await.unwrap();
    let keyspaces: Api<api::Keyspace> = world.namespaced();
    keyspaces.delete("users", &DeleteParams::default()).await.unwrap();
    let unheld = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    keyspaces
        .patch("users", &PatchParams::default(), &unheld)
        .await
        .unwrap();
    eventually("the keyspace is gone", async || {
        keyspaces.get_opt("users").await.unwrap().is_none().then_some(())
    })
    .await;
    world.apply(keyspace()).await;

    let operator = Operator::start(&world.hub, "anew").await;
    let message = eventually("the keyspace says that the record is lost", async || {
        let status = keyspaces.get("users").await.unwrap().status?;
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready")?;
        (ready.reason == "RecordLost").then(|| ready.message.clone())
    })
    .await;
    assert!(message.contains("north-1"), "{message}");
    assert_eq!(world.owners().await, [""; 0], "a record was made up");

    north_is_at(world, None).await;
    // A look at the member at once, not in some seconds.
    let mut member = support::member_cluster("north");
    member["metadata"]["annotations"] = json!({"look": "now"});
    world.apply(member).await;
    let table = eventually("the record is back", async || world.table().await).await;
    assert_eq!(world.owners().await, owners);
    assert!(table.spec.term == 2 && table.spec.epoch > epoch, "{:?}", table.spec);
    operator.stop().await;
}
