//! `plan`, `promote` and `failback` with an operator that the test plays: what is asked, what is followed, and that nothing
//! is left behind.

use crate::objects::{deployment, promotion_status, table};
use crate::support::{admin, as_file, cluster, eventually, kubectl, operator, run};
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use multiactive_api::{Promotion, PromotionMode};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

async fn promotions(namespace: &str) -> Vec<Promotion> {
    let api: Api<Promotion> = Api::namespaced(admin().await, namespace);
    api.list(&ListParams::default()).await.unwrap().items
}

/// Waits for a Promotion that has no status yet.
async fn appears(namespace: &str, mode: PromotionMode) -> Promotion {
    eventually("a Promotion was created", async || {
        let mut found = promotions(namespace).await.into_iter();
        found.find(|promotion| promotion.spec.mode == mode && promotion.status.is_none())
    })
    .await
}

/// An operator that runs the next Promotion to this end.
async fn play(namespace: &str, outcome: Value) -> Promotion {
    let promotion = appears(namespace, PromotionMode::Execute).await;
    let name = promotion.name_any();
    let mut history = Vec::new();
    for step in ["Check", "Hold", "Commit", "Settle"] {
        history.push(json!({"step": step, "at": Timestamp::now().to_string()}));
        let status = json!({"step": step, "from": "east-1", "slots": 8, "history": history,
            "waitingFor": format!("the test at {step}")});
        promotion_status(namespace, &name, status).await;
    }
    promotion_status(namespace, &name, outcome).await;
    promotion
}

#[test]
fn the_operator_is_asked_by_an_object_that_is_gone_afterwards() {
    run(async {
        deployment("asked").await;
        let answer = async {
            let promotion = appears("asked", PromotionMode::Plan).await;
            let plan = json!({"expectedEpoch": 41, "moves": [{"keyspace": "users", "source": "east-1", "slots": "0-7"}],
                "blockers": ["LinksUnhealthy: said by the operator"]});
            let status = json!({"outcome": "Succeeded", "reason": "Planned", "plan": plan});
            promotion_status("asked", &promotion.name_any(), status).await;
            promotion
        };
        let args = ["plan", "--to", "north-1", "--range", "users-0", "-n", "asked"];
        let (run, asked) = tokio::join!(kubectl(&args), answer);
        run.exits(3)
            .shows("1 blocker")
            .shows("LinksUnhealthy: said by the operator")
            .shows("Expected epoch: 41");
        assert_eq!(asked.spec.target_unit, "north-1");
        assert!(promotions("asked").await.is_empty(), "the Plan is left behind");
    });
}

#[test]
fn an_interrupted_plan_leaves_nothing_behind() {
    run(async {
        deployment("interrupted").await;
        let kubeconfig = cluster().await.kubeconfig_path();
        for signal in ["INT", "TERM", "HUP"] {
            let mut command = as_file(
                &kubeconfig,
                &["plan", "--to", "north-1", "--range", "users-0", "-n", "interrupted"],
            )
            .0;
            let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            appears("interrupted", PromotionMode::Plan).await;
            kill(&child, signal);
            let code = wait(&mut child).await;
            assert!(code > 128, "{signal}: {code}");
            assert!(
                promotions("interrupted").await.is_empty(),
                "{signal}: the Plan is left behind"
            );
        }
    });
}

fn kill(child: &Child, signal: &str) {
    let status = std::process::Command::new("kill")
        .args([format!("-{signal}"), child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

async fn wait(child: &mut Child) -> i32 {
    eventually("the program ended", async || child.try_wait().unwrap())
        .await
        .code()
        .unwrap_or(-1)
}

#[test]
fn an_operator_that_does_not_answer_is_not_waited_for_without_end() {
    run(async {
        deployment("silent").await;
        let run = kubectl(&["plan", "--to", "north-1", "--range", "users-0", "-n", "silent"]).await;
        run.exits(0)
            .shows("the operator did not answer within 10s")
            .shows("8 slots would move to north-1");
        assert!(promotions("silent").await.is_empty(), "the Plan is left behind");
    });
}

#[test]
fn a_promotion_is_followed_to_its_end_and_its_outcome_is_the_exit_code() {
    run(async {
        deployment("moved").await;
        for (name, outcome, code, shown) in [
            (
                "good",
                json!({"outcome": "Succeeded", "pause": "230ms", "epoch": "1.9", "waitingFor": null}),
                0,
                "Succeeded, 8 slots, writes held for 230ms",
            ),
            (
                "stale",
                json!({"outcome": "Refused", "reason": "Stale", "message": "slot 3 changed"}),
                4,
                "Refused/Stale: slot 3 changed",
            ),
            (
                "late",
                json!({"outcome": "Aborted", "reason": "FenceLate", "message": "10s are over"}),
                4,
                "Aborted/FenceLate: 10s are over",
            ),
            (
                "lost",
                json!({"outcome": "Failed", "reason": "Lost", "message": "m"}),
                4,
                "Failed/Lost: m",
            ),
        ] {
            let args = [
                "promote", name, "--to", "north-1", "--range", "users-0", "-n", "moved", "--verify", "Full", "--fence",
                "5s",
            ];
            let (run, promotion) = tokio::join!(kubectl(&args), play("moved", outcome));
            run.exits(code)
                .shows(&format!("promotion moved/{name} created"))
                .shows(shown)
                .says("expected epoch 6, the present one");
            assert_eq!(promotion.spec.expected_epoch, Some(6));
            assert_eq!(promotion.spec.budgets.fence, "5s");
        }
        let again = kubectl(&[
            "promote", "good", "--to", "north-1", "--range", "users-0", "-n", "moved",
        ])
        .await;
        again.exits(1).says("already exists").says("A name is used once");
        let args = [
            "promote",
            "for-scripts",
            "--to",
            "north-1",
            "--unit",
            "east-1",
            "-n",
            "moved",
            "--expected-epoch",
            "3",
            "-o",
            "json",
        ];
        let (run, promotion) = tokio::join!(kubectl(&args), play("moved", json!({"outcome": "Succeeded"})));
        let json = run.exits(0).json();
        assert_eq!(json["apiVersion"], "cli.multiactive.io/v1alpha1");
        assert_eq!(
            (&json["kind"], &json["outcome"]),
            (&json!("Operation"), &json!("Succeeded"))
        );
        assert_eq!(promotion.spec.expected_epoch, Some(3));
    });
}

#[test]
fn a_dry_run_creates_nothing_and_hears_the_server() {
    run(async {
        deployment("tried").await;
        let args = [
            "promote",
            "p",
            "--to",
            "north-1",
            "--range",
            "users-0",
            "-n",
            "tried",
            "--dry-run=server",
        ];
        kubectl(&args)
            .await
            .exits(0)
            .shows("promotion tried/p would be created (server dry run)");
        let refused = kubectl(&[
            "promote",
            "p",
            "--to",
            "north-1",
            "--unit",
            "north-1",
            "-n",
            "tried",
            "--dry-run=server",
        ])
        .await;
        refused.exits(1).says("the unit to empty must not be the target");
        assert!(promotions("tried").await.is_empty());
    });
}

#[test]
fn who_interrupts_stops_following_and_not_the_promotion() {
    run(async {
        deployment("followed").await;
        let kubeconfig = cluster().await.kubeconfig_path();
        let mut command = as_file(
            &kubeconfig,
            &[
                "promote", "p", "--to", "north-1", "--range", "users-0", "-n", "followed",
            ],
        )
        .0;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        appears("followed", PromotionMode::Execute).await;
        kill(&child, "INT");
        assert_eq!(wait(&mut child).await, 130);
        let err = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert!(
            err.contains("promotion followed/p goes on") && err.contains("decide p Abort"),
            "{err}"
        );
        assert_eq!(promotions("followed").await.len(), 1);
    });
}

#[test]
fn ranges_go_home_unit_by_unit_and_the_first_that_fails_ends_it() {
    run(async {
        deployment("home").await;
        // Each owns what is the other's.
        crate::support::apply(&operator().await, table("home", 7, "8s1@1.7,8s0@1.7")).await;
        let refused = kubectl(&["failback", "--all", "-n", "home"]).await;
        refused.exits(2).says("there is no terminal to ask on: give --yes");
        assert!(promotions("home").await.is_empty());
        let args = ["failback", "--all", "-n", "home", "--yes"];
        let aborted = json!({"outcome": "Aborted", "reason": "Late", "message": "m"});
        let (run, first) = tokio::join!(kubectl(&args), play("home", aborted));
        run.exits(4).shows("Aborted/Late");
        assert_eq!(first.name_any(), "failback-east-1-7");
        assert_eq!(promotions("home").await.len(), 1, "the second must not begin");
        crate::support::apply(&operator().await, table("home", 8, "8s1@1.7,8s0@1.7")).await;
        let both = async {
            play("home", json!({"outcome": "Succeeded"})).await;
            play("home", json!({"outcome": "Succeeded"})).await
        };
        let (run, second) = tokio::join!(kubectl(&args), both);
        run.exits(0);
        assert_eq!(second.name_any(), "failback-north-1-8");
        kubectl(&["failback", "users-0", "-n", "home", "--no-wait", "--yes"])
            .await
            .exits(1)
            .says("already exists");
    });
}
