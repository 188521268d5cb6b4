//! The policy of write leases: the operator makes, seals and grants them, agents renew them, nobody else touches them.

use crate::support::{
    SYSTEM, account, admin, assert_accepted, assert_refused, create, run, try_create, try_delete, try_replace, user,
    with,
};
use serde_json::{Value, json};

/// The lease with another annotation of ours; null takes it away.
fn noted(lease: &Value, name: &str, value: Value) -> Value {
    let mut lease = lease.clone();
    let annotations = lease["metadata"]["annotations"].as_object_mut().unwrap();
    let name = format!("multiactive.io/{name}");
    if value.is_null() {
        annotations.remove(&name);
    } else {
        annotations.insert(name, value);
    }
    lease
}

pub fn lease(name: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": name, "namespace": SYSTEM, "labels": {"multiactive.io/write-lease": "true"},
            "annotations": {"multiactive.io/granted": "1.4", "multiactive.io/renewals": "7"},
        },
        "spec": {"holderIdentity": "east-1", "leaseDurationSeconds": 10},
    })
}

/// Rights of a member's agents as the operator gives them, for every lease here.
async fn may_update_leases(who: &str) {
    let rbac = "rbac.authorization.k8s.io";
    let metadata = json!({"name": who, "namespace": SYSTEM});
    let role = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata,
        "rules": [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "update"]}],
    });
    let binding = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": who},
        "subjects": [{"kind": "ServiceAccount", "name": who, "namespace": SYSTEM}],
    });
    let admin = admin().await;
    create(&admin, &role).await;
    create(&admin, &binding).await;
    let client = account(who).await;
    // The authorizer learns of it by a watch.
    while !crate::accounts::may(&client, "update", "coordination.k8s.io", "leases", "any", Some(SYSTEM)).await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[test]
fn an_agent_renews_a_lease_and_neither_seals_nor_grants_it() {
    run(async {
        let (operator, agent) = (
            account("multiactive-operator").await,
            account("multiactive-member-east").await,
        );
        may_update_leases("multiactive-member-east").await;
        let admin = admin().await;
        let (only, renews) = ("only the operator makes", "an agent renews the lease of its unit");
        let good = lease("shop.east-1");
        assert_refused(try_create(&admin, &good).await, only, "an administrator makes one");
        create(&operator, &good).await;
        let renewed = noted(&good, "renewals", json!("8"));
        let sealed = noted(&good, "sealed-by", json!("uid"));
        assert_accepted(try_replace(&agent, &renewed, true).await, "an agent renews");
        assert_refused(
            try_replace(&admin, &renewed, true).await,
            only,
            "an administrator renews",
        );
        for (changed, what) in [
            (noted(&renewed, "sealed-by", json!("uid")), "seals"),
            (noted(&renewed, "granted", json!("1.9")), "grants"),
            (noted(&renewed, "granted", Value::Null), "forgets the grant"),
            (
                with(&renewed, "/spec/holderIdentity", json!("north-1")),
                "gives it to another",
            ),
            (
                with(&renewed, "/metadata/labels", json!({})),
                "takes it from under the policy",
            ),
        ] {
            assert_refused(
                try_replace(&agent, &changed, true).await,
                renews,
                &format!("an agent {what}"),
            );
        }
        assert_accepted(try_replace(&operator, &sealed, false).await, "the operator seals");
        for changed in [&renewed, &noted(&sealed, "renewals", json!("8"))] {
            assert_refused(
                try_replace(&agent, changed, true).await,
                renews,
                "an agent renews a sealed one",
            );
        }
        assert_accepted(
            try_replace(&operator, &noted(&renewed, "granted", json!("1.9")), true).await,
            "the operator grants it anew",
        );
        assert_refused(try_delete(&admin, &good).await, only, "an administrator deletes");
        assert_accepted(try_delete(&operator, &good).await, "the operator deletes");
        let controller = user("system:serviceaccount:kube-system:namespace-controller").await;
        assert_accepted(try_delete(&controller, &good).await, "the namespace controller deletes");
        // Leases of others are none of ours.
        let mut other = good.clone();
        other["metadata"] = json!({"name": "election", "namespace": SYSTEM});
        assert_accepted(try_create(&admin, &other).await, "another Lease");
    });
}
