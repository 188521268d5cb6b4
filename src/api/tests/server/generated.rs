//! The policies of what the operator writes for agents and routers, and of what agents report.

use crate::accounts::grant;
use crate::good;
use crate::support::{
    account, admin, api, assert_accepted, assert_refused, create, message, run, try_create, try_delete, try_replace,
    user, with,
};
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

async fn try_report(client: &Client, object: &Value, status: Value) -> Result<(), String> {
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    let answer = api(client, object)
        .patch_status(name, &params, &Patch::Merge(json!({"status": status})))
        .await;
    answer.map(drop).map_err(message)
}

/// Who may do nothing here: one with every right, the administrator, and one who owns the fleet.
async fn others(tag: &str) -> [(&'static str, Client); 2] {
    let gil = format!("gil-{tag}");
    grant("generated-only", &gil).await;
    [
        ("gil, who has the rights", user(&gil).await),
        ("the administrator", admin().await),
    ]
}

/// The controllers that take away what belongs to a namespace or an owner that is gone.
async fn controllers() -> [(&'static str, Client); 2] {
    let of = async |name: &str| user(&format!("system:serviceaccount:kube-system:{name}")).await;
    [
        ("the namespace controller", of("namespace-controller").await),
        ("the garbage collector", of("generic-garbage-collector").await),
    ]
}

#[test]
fn a_unit_assignment_is_the_operators_and_its_status_the_agents() {
    run(async {
        let assignment = good::unit_assignment("policy");
        let (operator, hub) = (account("multiactive-operator").await, account("multiactive-hub").await);
        let agent = account("multiactive-agent").await;
        let others = others("assignments").await;
        let (writes, reports) = (
            "only the operator writes and deletes UnitAssignments",
            "only the agent reports in the status",
        );
        for (who, client) in &others {
            assert_refused(try_create(client, &assignment).await, writes, &format!("{who} creates"));
        }
        for (who, client) in [("operator", &operator), ("hub", &hub)] {
            assert_accepted(try_create(client, &assignment).await, &format!("{who} creates"));
        }
        create(&hub, &assignment).await;
        let edited = with(&assignment, "/spec/stores/0/local/address", json!("forged:5432"));
        let labelled = with(
            &assignment,
            "/metadata/labels",
            json!({"app.kubernetes.io/managed-by": "me"}),
        );
        for (who, client) in &others {
            for changed in [&edited, &labelled] {
                assert_refused(
                    try_replace(client, changed, true).await,
                    writes,
                    &format!("{who} changes"),
                );
            }
            assert_refused(try_delete(client, &assignment).await, writes, &format!("{who} deletes"));
            let fenced = json!({"operations": [{"uid": "u", "term": 1, "epoch": 2, "fenced": []}]});
            assert_refused(
                try_report(client, &assignment, fenced).await,
                reports,
                &format!("{who} reports"),
            );
        }
        for (who, client) in [("operator", &operator), ("hub", &hub)] {
            assert_accepted(try_replace(client, &edited, true).await, &format!("{who} changes"));
            assert_accepted(try_delete(client, &assignment).await, &format!("{who} deletes"));
        }
        assert_accepted(
            try_report(&agent, &assignment, json!({"protocol": 1})).await,
            "the agent reports",
        );
        for (who, client) in &controllers().await {
            assert_accepted(try_delete(client, &assignment).await, &format!("{who} deletes"));
        }
        let collector = &controllers().await[1].1;
        assert_accepted(
            try_replace(collector, &labelled, true).await,
            "the garbage collector changes metadata",
        );
        assert_refused(
            try_replace(collector, &edited, true).await,
            writes,
            "the garbage collector changes the spec",
        );
    });
}

#[test]
fn a_replication_link_is_the_operators_alone() {
    run(async {
        let mut link = good::replication_link();
        link["metadata"]["name"] = json!("policy-east-1-north-1");
        link["spec"]["store"] = json!("policy");
        let operator = account("multiactive-operator").await;
        let others = others("links").await;
        let writes = "only the operator writes and deletes ReplicationLinks";
        for (who, client) in &others {
            assert_refused(try_create(client, &link).await, writes, &format!("{who} creates"));
        }
        create(&operator, &link).await;
        let labelled = with(&link, "/metadata/labels", json!({"a": "b"}));
        for (who, client) in &others {
            assert_refused(
                try_replace(client, &labelled, true).await,
                writes,
                &format!("{who} changes"),
            );
            assert_refused(try_delete(client, &link).await, writes, &format!("{who} deletes"));
            let running = json!({"state": "Running"});
            assert_refused(
                try_report(client, &link, running).await,
                writes,
                &format!("{who} reports"),
            );
        }
        assert_accepted(try_replace(&operator, &labelled, true).await, "the operator changes");
        assert_accepted(
            try_report(&operator, &link, json!({"state": "Running"})).await,
            "the operator reports",
        );
        for (who, client) in &controllers().await {
            assert_accepted(try_delete(client, &link).await, &format!("{who} deletes"));
        }
        let collector = &controllers().await[1].1;
        assert_accepted(
            try_replace(collector, &labelled, true).await,
            "the garbage collector frees it of its owner",
        );
    });
}
