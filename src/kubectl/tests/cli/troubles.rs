//! When something is not as it should be: each error says what is wrong and what to do, with its exit code, in time.

use crate::objects::{deployment, table};
use crate::support::{
    admin, api, apply, as_file, bare, cluster, eventually, grant, kubectl, kubectl_as, operator, run, scratch,
};
use kube::api::DeleteParams;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_cluster_without_the_kinds_is_told_so() {
    run(async {
        bare()
            .await
            .exits(1)
            .says("multiactive is not installed in this cluster")
            .says("--context");
    });
}

#[test]
fn a_server_that_does_not_answer_is_given_up_in_time() {
    run(async {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("https://{}", silent.local_addr().unwrap());
        let kubeconfig = scratch("silent.kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: far\nclusters: [{{name: k, cluster: {{server: '{server}'}}}}]\n\
             contexts: [{{name: far, context: {{cluster: k, user: u}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
        );
        std::fs::write(&kubeconfig, text).unwrap();
        for verb in [
            &["status"][..],
            &["route", "alice"],
            &["events"],
            &["watch"],
            &["version"],
        ] {
            let args = [verb, &["--request-timeout", "1s"]].concat();
            let start = Instant::now();
            let run = as_file(&kubeconfig, &args).finish().await;
            run.exits(1)
                .says("no answer from the API server")
                .says(&server)
                .says("context far");
            assert!(
                start.elapsed() < Duration::from_secs(8),
                "{verb:?}: {:?}",
                start.elapsed()
            );
        }
        drop(silent);
        let refused = as_file(&kubeconfig, &["status"]).finish().await;
        refused.exits(1).says("cannot be reached").says(&server);
    });
}

#[test]
fn a_kubeconfig_that_is_not_usable_is_named() {
    run(async {
        let missing = scratch("missing");
        as_file(&missing, &["status"])
            .finish()
            .await
            .exits(1)
            .says("reading the kubeconfig");
        kubectl(&["status", "--context", "nowhere"])
            .await
            .exits(1)
            .says("has no context nowhere; it has: ");
        kubectl(&["status", "-o", "html"]).await.exits(2);
        kubectl(&["promote"]).await.exits(2);
        kubectl(&["plan", "--to", "a"]).await.exits(2);
        kubectl(&["plan", "--to", "a", "--unit", "b", "--range", "c"])
            .await
            .exits(2);
        kubectl(&["failback", "--all", "users-0"]).await.exits(2);
    });
}

#[test]
fn who_may_only_look_can_look_and_who_may_not_is_told_the_role() {
    run(async {
        deployment("looking").await;
        grant("multiactive-view", "viewer").await;
        for args in [
            &["status", "-n", "looking"][..],
            &["status", "-A"],
            &["route", "alice", "-n", "looking"],
            &["events", "-n", "looking"],
            &["events", "-A"],
        ] {
            let run = kubectl_as("viewer", args).await;
            assert!([0, 3].contains(&run.code), "{args:?}: {run:?}");
            assert!(!run.out.contains("unknown"), "{args:?}: {run:?}");
        }
        let plan = kubectl_as(
            "viewer",
            &[
                "plan", "--to", "north-1", "--range", "users-0", "-n", "looking", "-o", "yaml",
            ],
        )
        .await;
        plan.exits(0).shows("kind: Promotion").shows("expectedEpoch: 6");
        let plan = kubectl_as(
            "viewer",
            &["plan", "--to", "north-1", "--range", "users-0", "-n", "looking"],
        )
        .await;
        plan.exits(0)
            .shows("the operator was not asked: you may not create Promotions in looking");
        kubectl_as(
            "viewer",
            &["promote", "p", "--to", "north-1", "--range", "users-0", "-n", "looking"],
        )
        .await
        .exits(1)
        .says("cannot create resource \"promotions\"")
        .says("multiactive-failover");
        let nobody = kubectl_as("nobody", &["status", "-n", "looking"]).await;
        nobody
            .exits(1)
            .says("cannot list resource \"units\"")
            .says("multiactive-view");
    });
}

#[test]
fn who_may_look_into_one_namespace_only_is_told_what_is_unknown() {
    run(async {
        deployment("team").await;
        let rbac = "rbac.authorization.k8s.io";
        let binding = json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding",
            "metadata": {"name": "team", "namespace": "team"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "multiactive-view"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "teamster"}]});
        apply(&admin().await, binding).await;
        let status = eventually("the authorizer knows the role", async || {
            Some(kubectl_as("teamster", &["status", "-n", "team"]).await).filter(|run| run.code == 0)
        })
        .await;
        status
            .shows("healthy, as far as you may look")
            .shows("unknown: listing regions: ")
            .shows("Unit east-1");
        kubectl_as("teamster", &["events", "-n", "team"]).await.exits(0);
        kubectl_as("teamster", &["status", "-A"])
            .await
            .exits(1)
            .says("at the cluster scope");
    });
}

#[test]
fn a_table_that_cannot_be_read_hides_nothing_else_and_is_named() {
    run(async {
        deployment("garbled").await;
        apply(&operator().await, table("garbled", 9, "8s0@1.4,8s7@1.6")).await;
        let status = kubectl(&["status", "-n", "garbled"]).await;
        status
            .exits(3)
            .shows("RoutingTable garbled/routing Unreadable")
            .shows("spec.keyspaces[0].spans")
            .shows("Unit east-1");
        for args in [
            &["route", "alice", "-n", "garbled"][..],
            &["plan", "--to", "north-1", "--unit", "east-1", "-n", "garbled"],
            &["failback", "--all", "-n", "garbled"],
        ] {
            let run = kubectl(args).await;
            run.exits(1)
                .says("RoutingTable garbled/routing cannot be read: spec.keyspaces[0].spans: run 1 names unit 7");
        }
    });
}

#[test]
fn a_namespace_that_does_not_exist_or_has_nothing_is_not_found() {
    run(async {
        deployment("somewhere").await;
        kubectl(&["status", "-n", "nowhere"])
            .await
            .exits(5)
            .says("there is no namespace nowhere");
        kubectl(&["status", "-n", "default"])
            .await
            .exits(5)
            .says("choose one with -n; there are deployments in")
            .says("somewhere");
        kubectl(&["watch", "-n", "default"]).await.exits(5);
        kubectl(&["promote", "p", "--to", "a", "--unit", "b", "-n", "nowhere"])
            .await
            .exits(5);
        kubectl(&["route", "alice", "--keyspace", "nothing", "-n", "somewhere"])
            .await
            .exits(5)
            .says("there are: users");
    });
}

#[test]
fn a_closed_pipe_is_no_error_and_no_panic() {
    run(async {
        deployment("piped").await;
        let kubeconfig = cluster().await.kubeconfig_path();
        for (args, lines) in [
            (&["status", "-A", "-o", "json"][..], 0),
            (&["--help"], 0),
            (&["events", "-A"], 0),
            (&["watch", "-n", "piped"], 1),
        ] {
            let mut command = as_file(&kubeconfig, args).0;
            let mut child = command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut out = BufReader::new(child.stdout.take().unwrap());
            for _ in 0..lines {
                out.read_line(&mut String::new()).unwrap();
            }
            drop(out);
            if args[0] == "watch" {
                // It notices when it has something to say.
                let client = operator().await;
                let mut epoch = 10;
                eventually("watch ended", async || {
                    epoch += 1;
                    let (one, other) = if epoch % 2 == 0 { ("8s0", "8s1") } else { ("7s0", "9s1") };
                    apply(&client, table("piped", epoch, &format!("{one}@1.4,{other}@1.6"))).await;
                    child.try_wait().unwrap()
                })
                .await;
            }
            let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
                .await
                .unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(!err.contains("panicked") && !err.contains("error:"), "{args:?}: {err}");
            assert!(
                output.status.code().is_some_and(|code| code != 101),
                "{args:?}: {:?}",
                output.status
            );
        }
        let table = table("piped", 1, "16s0@1.1");
        let _ = api(&admin().await, &table)
            .delete("routing", &DeleteParams::default())
            .await;
    });
}
