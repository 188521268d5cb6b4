//! The policies of the RoutingTable and of protected namespaces.

use crate::accounts::grant;
use crate::good;
use crate::support::{
    account, admin, assert_accepted, assert_refused, create, run, try_create, try_delete, try_replace, user, with,
};
use serde_json::{Value, json};

const PROTECTED: &str = "multiactive.io/protected";

#[test]
fn the_routing_table_is_the_operators_alone() {
    run(async {
        grant("tables-only", "tom").await;
        grant("multiactive-restore", "pia").await;
        let (tom, pia, admin) = (user("tom").await, user("pia").await, admin().await);
        let (operator, hub) = (account("multiactive-operator").await, account("multiactive-hub").await);
        let controller = user("system:serviceaccount:kube-system:namespace-controller").await;
        let mut table = good::routing_table();
        table["metadata"]["namespace"] = json!("shop");
        let (changes, makes) = (
            "only the operator changes the RoutingTable",
            "only the operator creates or deletes",
        );

        assert_refused(try_create(&tom, &table).await, makes, "tom creates");
        for (who, client) in [("operator", &operator), ("hub", &hub), ("pia, who restores", &pia)] {
            assert_accepted(try_create(client, &table).await, &format!("{who} creates"));
        }
        create(&operator, &table).await;
        let newer = with(&table, "/spec/epoch", json!(42));
        for (who, client) in [("tom", &tom), ("the administrator", &admin)] {
            assert_refused(
                try_replace(client, &newer, true).await,
                changes,
                &format!("{who} changes"),
            );
        }
        assert_refused(try_delete(&tom, &table).await, makes, "tom deletes");
        for (who, client) in [("operator", &operator), ("hub", &hub)] {
            assert_accepted(try_replace(client, &newer, true).await, &format!("{who} changes"));
        }
        let who = [
            ("operator", &operator),
            ("controller", &controller),
            ("pia", &pia),
            ("administrator", &admin),
        ];
        for (who, client) in who {
            assert_accepted(try_delete(client, &table).await, &format!("{who} deletes"));
        }

        let back = Some("the pair of term and epoch never goes back");
        for (pointer, new, refusal) in [
            ("/spec/epoch", json!(40), back),
            ("/spec/term", json!(0), back),
            ("/spec/epoch", json!(41), None),
            // Of an operator that does not know of writers.
            (
                "/spec",
                json!({"term": 2, "epoch": 1}),
                Some("a store that has a writer stays in the table"),
            ),
            (
                "/spec/writers",
                Value::Null,
                Some("a store that has a writer stays in the table"),
            ),
            (
                "/spec/writers",
                json!([{"store": "catalog", "owner": "east-1", "state": "Held", "term": 1, "epoch": 41}]),
                None,
            ),
            (
                "/spec",
                json!({"term": 2, "epoch": 1, "writers": [
                    {"store": "catalog", "state": "Unowned", "term": 2, "epoch": 1}]}),
                None,
            ),
            (
                "/spec/keyspaces/1",
                json!({"name": "users", "slots": 1, "spans": "1u@0.0"}),
                Some("Duplicate value"),
            ),
            ("/spec/units/0/router", json!("nowhere"), Some("should match")),
        ] {
            let answer = try_replace(&operator, &with(&table, pointer, new.clone()), true).await;
            match refusal {
                Some(text) => assert_refused(answer, text, &format!("{pointer} {new}")),
                None => assert_accepted(answer, &format!("{pointer} {new}")),
            }
        }
        let other = with(&table, "/metadata/name", json!("other"));
        assert_refused(
            try_create(&operator, &other).await,
            "its name is routing",
            "another name",
        );
    });
}

#[test]
fn a_protected_namespace_is_not_deleted_and_only_the_operator_ends_the_protection() {
    run(async {
        grant("namespaces-only", "nora").await;
        let (nora, operator, admin) = (user("nora").await, account("multiactive-operator").await, admin().await);
        let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let guarded = namespace("guarded", json!({PROTECTED: "true", "team": "a"}));
        create(&admin, &guarded).await;
        create(&admin, &namespace("open", json!({"team": "a"}))).await;
        for (who, client) in [("nora", &nora), ("the administrator", &admin)] {
            let answer = try_delete(client, &guarded).await;
            assert_refused(answer, "units of this namespace own slots", &format!("{who} deletes"));
            let answer = try_replace(client, &namespace("guarded", json!({"team": "a"})), true).await;
            assert_refused(
                answer,
                "only the operator takes the label",
                &format!("{who} takes the label off"),
            );
            let other = namespace("guarded", json!({PROTECTED: "true", "team": "b"}));
            assert_accepted(
                try_replace(client, &other, true).await,
                &format!("{who} sets another label"),
            );
            assert_accepted(
                try_delete(client, &namespace("open", json!({}))).await,
                &format!("{who} deletes another"),
            );
        }
        let params = kube::api::PatchParams::default();
        let off = kube::api::Patch::Merge(json!({"metadata": {"labels": {PROTECTED: null}}}));
        let api = crate::support::api(&operator, &guarded);
        api.patch("guarded", &params, &off)
            .await
            .expect("the operator takes the label off");
        assert_accepted(try_delete(&nora, &guarded).await, "a namespace whose protection ended");
    });
}

#[test]
fn of_a_namespace_the_operator_changes_that_label_and_nothing_else() {
    run(async {
        let admin = admin().await;
        let (operator, hub) = (account("multiactive-operator").await, account("multiactive-hub").await);
        let shop = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
        let label = json!({"metadata": {"labels": {PROTECTED: "true"}}});
        for (change, allowed) in [
            (label.clone(), true),
            (json!({"metadata": {"labels": {PROTECTED: null}}}), true),
            (
                json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}),
                false,
            ),
            (json!({"metadata": {"labels": {"team": null}}}), false),
            (json!({"metadata": {"labels": {PROTECTED: "true", "team": "b"}}}), false),
            (
                json!({"metadata": {"annotations": {"scheduler.alpha.kubernetes.io/node-selector": "a=b"}}}),
                false,
            ),
            (json!({"metadata": {"finalizers": ["example.com/stay"]}}), false),
            (
                json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}}),
                false,
            ),
        ] {
            let patch = kube::api::Patch::Merge(&change);
            let params = kube::api::PatchParams {
                dry_run: true,
                ..Default::default()
            };
            for (who, client) in [("operator", &operator), ("hub", &hub)] {
                let answer = crate::support::api(client, &shop).patch("shop", &params, &patch).await;
                match answer {
                    Ok(_) => assert!(allowed, "{who} may {change}"),
                    Err(error) => assert!(
                        !allowed
                            && error
                                .to_string()
                                .contains("changes nothing of a namespace but the label"),
                        "{who} {change}: {error}"
                    ),
                }
            }
            let answer = crate::support::api(&admin, &shop).patch("shop", &params, &patch).await;
            answer.unwrap_or_else(|error| panic!("the administrator {change}: {error}"));
        }
    });
}
