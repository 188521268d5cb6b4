//! What the accounts and roles of the chart may do, asked of the API server itself; and rights for the tests' users.

use crate::support::{SYSTEM, TEAM, account, admin, api, object, run, user};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// Gives `user` a role everywhere: one of the chart's, or one of those below.
pub async fn grant(role: &str, user: &str) {
    let rbac = "rbac.authorization.k8s.io";
    let own = |resources: Value, group: &str| {
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": role}, "rules": [{
            "apiGroups": [group], "resources": resources, "verbs": ["get", "create", "update", "patch", "delete"],
        }]})
    };
    let roles = match role {
        "promotions-only" => vec![own(json!(["promotions"]), "multiactive.io")],
        "failovers-only" => vec![own(json!(["failovers"]), "multiactive.io")],
        "tables-only" => vec![own(json!(["routingtables"]), "multiactive.io")],
        "namespaces-only" => vec![own(json!(["namespaces"]), "")],
        "generated-only" => vec![own(
            json!([
                "routingtables",
                "unitassignments",
                "unitassignments/status",
                "replicationlinks",
                "replicationlinks/status"
            ]),
            "multiactive.io",
        )],
        _ => vec![],
    };
    let binding = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": format!("{role}-{user}")},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
    });
    let client = admin().await;
    for value in roles.iter().chain([&binding]) {
        let name = value["metadata"]["name"].as_str().unwrap();
        let params = PatchParams::apply("tests").force();
        api(&client, value)
            .patch(name, &params, &Patch::Apply(object(value)))
            .await
            .unwrap();
    }
    // The authorizer learns of it by a watch.
    let client = crate::support::user(user).await;
    let (group, resource) = if role == "namespaces-only" {
        ("", "namespaces")
    } else {
        ("multiactive.io", "routingtables")
    };
    let resource = match role {
        "promotions-only" => "promotions",
        "failovers-only" => "failovers",
        _ => resource,
    };
    while !may(&client, "get", group, resource, "", None).await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Whether the client's user may do this.
pub async fn may(
    client: &Client,
    verb: &str,
    group: &str,
    resource: &str,
    name: &str,
    namespace: Option<&str>,
) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review: SelfSubjectAccessReview = serde_json::from_value(json!({"spec": {"resourceAttributes": {
        "verb": verb, "group": group, "resource": resource, "subresource": subresource, "name": name,
        "namespace": namespace,
    }}}))
    .unwrap();
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    api.create(&PostParams::default(), &review)
        .await
        .unwrap()
        .status
        .unwrap()
        .allowed
}

const OURS: &str = "multiactive.io";

#[test]
fn the_accounts_of_the_chart_may_do_their_work_and_no_more() {
    run(async {
        let operator = account("multiactive-operator").await;
        let hub = account("multiactive-hub").await;
        let agent = account("multiactive-agent").await;
        let router = user("system:serviceaccount:shop:multiactive-router").await;
        // Verb, group, resource and name (- where there is none), and the namespace.
        for (who, client, right, namespace, want) in [
            (
                "operator",
                &operator,
                "patch multiactive.io promotions/status -",
                TEAM,
                true,
            ),
            ("operator", &operator, "patch multiactive.io promotions -", TEAM, true),
            (
                "operator",
                &operator,
                "patch multiactive.io failovers/status -",
                TEAM,
                true,
            ),
            ("operator", &operator, "patch multiactive.io failovers -", TEAM, true),
            ("operator", &operator, "create multiactive.io failovers -", TEAM, false),
            (
                "operator",
                &operator,
                "patch multiactive.io verifications/status -",
                TEAM,
                true,
            ),
            (
                "operator",
                &operator,
                "patch multiactive.io verifications -",
                TEAM,
                false,
            ),
            (
                "operator",
                &operator,
                "confirmfenced multiactive.io failovers -",
                TEAM,
                false,
            ),
            ("operator", &operator, "create multiactive.io promotions -", TEAM, false),
            (
                "operator",
                &operator,
                "update multiactive.io routingtables routing",
                TEAM,
                true,
            ),
            (
                "operator",
                &operator,
                "create multiactive.io replicationlinks -",
                TEAM,
                true,
            ),
            ("operator", &operator, "get - secrets member-north", SYSTEM, true),
            ("operator", &operator, "get - secrets pdu", TEAM, true),
            ("operator", &operator, "patch - secrets pdu", TEAM, false),
            ("operator", &operator, "get - secrets shop-db", TEAM, false),
            ("operator", &operator, "list - secrets -", TEAM, false),
            ("operator", &operator, "patch - secrets multiactive-ca", SYSTEM, true),
            ("operator", &operator, "patch - secrets member-north", SYSTEM, false),
            (
                "operator",
                &operator,
                "update coordination.k8s.io leases -",
                SYSTEM,
                true,
            ),
            ("operator", &operator, "create - serviceaccounts -", SYSTEM, true),
            ("operator", &operator, "create - serviceaccounts -", TEAM, false),
            (
                "operator",
                &operator,
                "create - serviceaccounts/token multiactive-member-east",
                SYSTEM,
                true,
            ),
            (
                "operator",
                &operator,
                "create rbac.authorization.k8s.io roles -",
                SYSTEM,
                true,
            ),
            (
                "operator",
                &operator,
                "create rbac.authorization.k8s.io roles -",
                TEAM,
                false,
            ),
            (
                "operator",
                &operator,
                "escalate rbac.authorization.k8s.io roles -",
                SYSTEM,
                false,
            ),
            (
                "operator",
                &operator,
                "bind rbac.authorization.k8s.io roles -",
                SYSTEM,
                false,
            ),
            ("operator", &operator, "get - secrets shop-db", TEAM, false),
            ("operator", &operator, "patch - namespaces shop", "", true),
            ("operator", &operator, "delete - namespaces shop", "", false),
            ("operator", &operator, "create apps deployments -", TEAM, false),
            // In mode both it is the member's hub too.
            (
                "operator",
                &operator,
                "create - serviceaccounts/token multiactive-deployer",
                TEAM,
                true,
            ),
            (
                "hub",
                &hub,
                "create - serviceaccounts/token multiactive-deployer",
                TEAM,
                true,
            ),
            ("hub", &hub, "create - serviceaccounts/token default", TEAM, false),
            (
                "hub",
                &hub,
                "create - serviceaccounts/token multiactive-deployer",
                "default",
                false,
            ),
            ("hub", &hub, "patch - secrets east-1-router-tls", TEAM, true),
            ("hub", &hub, "get - secrets shop-db", TEAM, false),
            ("hub", &hub, "create - secrets multiactive-agent-tls", SYSTEM, true),
            ("hub", &hub, "patch - secrets multiactive-hub-access", SYSTEM, true),
            ("hub", &hub, "patch multiactive.io unitassignments east-1", TEAM, true),
            (
                "hub",
                &hub,
                "patch multiactive.io unitassignments east-1",
                "default",
                false,
            ),
            (
                "hub",
                &hub,
                "update multiactive.io unitassignments/status east-1",
                TEAM,
                false,
            ),
            ("hub", &hub, "get - namespaces kube-system", "", true),
            ("hub", &hub, "patch - namespaces shop", "", true),
            ("hub", &hub, "patch - namespaces default", "", false),
            ("hub", &hub, "patch - namespaces kube-system", "", false),
            ("hub", &hub, "delete - namespaces shop", "", false),
            (
                "agent",
                &agent,
                "patch multiactive.io unitassignments/status east-1",
                TEAM,
                true,
            ),
            (
                "agent",
                &agent,
                "patch multiactive.io unitassignments east-1",
                TEAM,
                false,
            ),
            (
                "agent",
                &agent,
                "update multiactive.io routingtables routing",
                TEAM,
                false,
            ),
            (
                "agent",
                &agent,
                "watch multiactive.io routingtables routing",
                TEAM,
                true,
            ),
            ("agent", &agent, "watch multiactive.io routingtables -", "", false),
            ("agent", &agent, "watch - secrets shop-db", TEAM, true),
            ("agent", &agent, "create - secrets shop-db", TEAM, false),
            ("agent", &agent, "watch - secrets multiactive-hub-access", SYSTEM, true),
            ("agent", &agent, "get - secrets multiactive-ca", SYSTEM, false),
            ("agent", &agent, "get - secrets any", "default", false),
            ("agent", &agent, "get - pods -", TEAM, true),
            ("agent", &agent, "list - pods -", TEAM, true),
            ("agent", &agent, "watch - pods -", TEAM, true),
            ("agent", &agent, "watch - pods -", "default", false),
            ("agent", &agent, "delete - pods -", TEAM, false),
            (
                "agent",
                &agent,
                "update coordination.k8s.io leases multiactive-agent",
                SYSTEM,
                true,
            ),
            (
                "router",
                &router,
                "watch multiactive.io routingtables routing",
                TEAM,
                true,
            ),
            (
                "router",
                &router,
                "watch multiactive.io unitassignments east-1",
                TEAM,
                true,
            ),
            (
                "router",
                &router,
                "get multiactive.io unitassignments north-1",
                TEAM,
                false,
            ),
            ("router", &router, "get - secrets shop-db", TEAM, false),
        ] {
            let words: Vec<&str> = right
                .split(' ')
                .map(|word| if word == "-" { "" } else { word })
                .collect();
            let [verb, group, resource, name] = words[..] else {
                panic!("{right}")
            };
            let got = may(client, verb, group, resource, name, Some(namespace)).await;
            assert_eq!(got, want, "{who}: {right} in {namespace}");
        }
    });
}

#[test]
fn the_roles_for_people_are_what_their_names_say() {
    run(async {
        let people = ["view", "operate", "failover", "platform", "restore"];
        for role in people {
            grant(&format!("multiactive-{role}"), &format!("person-{role}")).await;
        }
        // The verb and the resource, then for view, operate, failover, platform and restore.
        for (verb, resource, want) in [
            ("list", "promotions", [true, true, true, true, true]),
            ("get", "memberclusters", [true, true, true, true, true]),
            ("create", "promotions", [false, true, true, true, true]),
            ("abort", "promotions", [false, true, true, true, false]),
            ("list", "failovers", [true, true, true, true, true]),
            ("create", "failovers", [false, false, true, true, true]),
            ("abort", "failovers", [false, false, true, true, false]),
            ("acceptdataloss", "failovers", [false, false, true, true, false]),
            ("confirmfenced", "failovers", [false, false, true, true, false]),
            ("acceptdivergence", "failovers", [false, false, true, true, false]),
            ("restore", "failovers", [false, false, false, false, true]),
            ("create", "verifications", [false, true, true, true, false]),
            ("list", "verifications", [true, true, true, true, true]),
            ("patch", "shardranges", [false, true, false, true, false]),
            ("create", "memberclusters", [false, false, false, true, false]),
            ("restore", "routingtables", [false, false, false, false, true]),
            ("create", "routingtables", [false, false, false, false, true]),
            ("restore", "promotions", [false, false, false, false, true]),
            ("update", "routingtables", [false, false, false, false, false]),
            ("patch", "unitassignments", [false, false, false, false, false]),
            ("create", "replicationlinks", [false, false, false, false, false]),
        ] {
            for (role, want) in people.iter().zip(want) {
                let client = user(&format!("person-{role}")).await;
                assert_eq!(
                    may(&client, verb, OURS, resource, "", Some(TEAM)).await,
                    want,
                    "{role} {verb} {resource}"
                );
            }
        }
    });
}
