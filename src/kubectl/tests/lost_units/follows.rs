//! What `failover` creates, and how it follows that to its end.

use crate::support::{PATIENCE, Run, admin, apply, as_file, cluster, eventually, grant, kubectl, kubectl_as, run};
use crate::world::{appears, deployment, failovers, status};
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::Failover;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader as Lines};
use tokio::sync::watch;

fn history(steps: &[&str]) -> Value {
    let at = Timestamp::now().to_string();
    steps.iter().map(|step| json!({"step": step, "at": at})).collect()
}

/// The operator's choice, which is not what the objects said.
fn placement() -> Value {
    let part = |slots: &str| json!({"range": "users-0", "keyspace": "users", "slots": slots});
    let mut placed = part("0-5");
    placed["target"] = json!("south-1");
    json!({"placed": [placed], "unplaced": [part("6-7")]})
}

/// An operator that runs the next Failover to its good end.
async fn succeeds(n: &str) -> Failover {
    let failover = appears(n).await;
    begins(&failover).await;
    ends_well(&failover).await;
    failover
}

async fn begins(failover: &Failover) {
    let lost = &failover.spec.lost_unit;
    let begun = json!({"step": "Check", "from": lost, "to": "south-1", "slots": 6, "placement": placement(),
        "history": history(&["Check"]), "waitingFor": "the write lease"});
    status(failover, begun).await;
}

async fn ends_well(failover: &Failover) {
    let loss = json!({"bound": "3s", "allowed": "5s", "fencedBy": "Lease"});
    let history = history(&["Check", "Fence", "Settle"]);
    let end = json!({"step": "Settle", "history": history, "waitingFor": null, "outcome": "Succeeded",
        "pause": "12s", "epoch": "1.9", "loss": loss, "behind": ["north-1"],
        "message": "what the lost unit wrote in its last 3s may be lost"});
    status(failover, end).await;
}

/// An operator that waits for a person, who ends it once that has been `shown`.
async fn is_aborted(n: &str, mut shown: watch::Receiver<String>) -> Failover {
    let failover = appears(n).await;
    let lost = &failover.spec.lost_unit;
    let command = format!(
        "kubectl multiactive decide failover/{} ConfirmFenced --target {lost} -n {n}",
        failover.name_any()
    );
    let needed = json!({"type": "ConfirmFenced", "target": lost, "why": "it does not answer", "command": command});
    let blocked = json!({"step": "Fence", "from": lost, "to": "north-1", "slots": 8, "reason": "Blocked", "needed": [needed],
        "history": history(&["Check", "Fence"]), "waitingFor": "the decision ConfirmFenced"});
    status(&failover, blocked).await;
    let waits = format!("{n}/{}: waiting for the decision", failover.name_any());
    let seen = tokio::time::timeout(PATIENCE, shown.wait_for(|out| out.contains(&waits))).await;
    drop(
        seen.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {waits}"))
            .unwrap(),
    );
    let end =
        json!({"outcome": "Aborted", "reason": "Decided", "message": "alice decided Abort: INC-7", "needed": null});
    status(&failover, end).await;
    failover
}

#[test]
fn each_lost_unit_of_a_region_is_followed_and_the_worst_outcome_is_the_exit_code() {
    run(async {
        deployment("ends", "west", "Fence").await;
        deployment("begins", "west", "KeepServing").await;
        let args = ["failover", "--region", "west", "-A", "--max-data-loss", "5s", "--yes"];
        let (shows, shown) = watch::channel(String::new());
        let (run, good, bad) = tokio::join!(shown_to(&shows, &args), succeeds("ends"), is_aborted("begins", shown));
        run.exits(4)
            .shows("failover begins/failover-west-1-6 created\nfailover ends/failover-west-1-6 created\n")
            .shows("Failover ends/failover-west-1-6: chosen to be taken over: 6 slots by south-1, 2 slots by nobody")
            .shows("needs ConfirmFenced: kubectl multiactive decide failover/failover-west-1-6 ConfirmFenced --target west-1 -n begins")
            .shows("Succeeded, 6 slots, served again after 12s")
            .shows("Aborted/Decided: alice decided Abort: INC-7")
            .shows("ends/failover-west-1-6     west-1   south-1   6       Succeeded         12s     3s     Lease       north-1")
            .shows("ends/failover-west-1-6: slots 6-7 of users stay with west-1: nobody serves them");
        for failover in [good, bad] {
            assert_eq!(
                (failover.spec.lost_unit.as_str(), failover.spec.expected_epoch),
                ("west-1", 6)
            );
            assert_eq!(
                (failover.spec.max_data_loss.as_str(), failover.spec.target_unit),
                ("5s", None)
            );
        }
        // What ended leaves its name used; the next one has another.
        let again = kubectl(&["failover", "west-1", "-n", "begins", "--yes", "--no-wait"]).await;
        again.exits(0).shows("failover begins/failover-west-1-6-2 created");
        let named = [
            "failover",
            "west-1",
            "-n",
            "ends",
            "--yes",
            "--name",
            "failover-west-1-6",
        ];
        kubectl(&named)
            .await
            .exits(1)
            .says("already exists")
            .says("A name is used once");
    });
}

#[test]
fn scripts_get_one_object_with_what_was_seen_and_what_came_of_it() {
    run(async {
        deployment("scripted", "east", "Fence").await;
        let args = ["failover", "east-1", "north-1", "-n", "scripted", "--yes", "-o", "json"];
        let both = async {
            succeeds("scripted").await;
            succeeds("scripted").await
        };
        let (run, _) = tokio::join!(kubectl(&args), both);
        let json = run.exits(0).json();
        assert_eq!(
            (&json["apiVersion"], &json["kind"]),
            (&json!("cli.multiactive.io/v1alpha1"), &json!("Failovers"))
        );
        let (east, north) = (&json["lost"][0], &json["lost"][1]);
        assert_eq!(
            (&east["unit"], &east["state"], &east["life"]["looks"]),
            (&json!("east-1"), &json!("Begins"), &json!("Silent"))
        );
        assert_eq!(
            east["placement"]["placed"][0]["target"], "south-1",
            "north-1 is lost as well"
        );
        assert_eq!(
            (&east["operation"]["outcome"], &east["operation"]["loss"]["bound"]),
            (&json!("Succeeded"), &json!("3s"))
        );
        assert_eq!(north["life"]["looks"], "Alive");
        assert!(
            north["promotions"][0]
                .as_str()
                .unwrap()
                .contains("--to south-1 --unit north-1"),
            "{north}"
        );
    });
}

#[test]
fn without_a_confirmation_nothing_is_created_and_a_dry_run_creates_nothing() {
    run(async {
        deployment("asked", "east", "Fence").await;
        let refused = kubectl(&["failover", "east-1", "-n", "asked"]).await;
        refused
            .exits(2)
            .says("Fail over 8 slots of asked/east-1 with 1 Failover needs your confirmation");
        let list = kubectl(&[
            "failover",
            "east-1",
            "north-1",
            "-n",
            "asked",
            "--dry-run=server",
            "-o",
            "yaml",
        ])
        .await;
        list.exits(0).shows("kind: List").shows("lostUnit: north-1");
        let invalid = kubectl(&[
            "failover",
            "east-1",
            "-n",
            "asked",
            "--dry-run=server",
            "--max-data-loss",
            "25h",
        ])
        .await;
        invalid.exits(1).says("maxDataLoss must be at most 24h");
        assert!(failovers("asked").await.is_empty());
    });
}

#[test]
fn who_interrupts_stops_following_and_the_same_command_follows_again() {
    run(async {
        deployment("followed", "east", "Fence").await;
        let (mut child, _out) = start(&["failover", "east-1", "-n", "followed", "--yes"]).await;
        let failover = appears("followed").await;
        begins(&failover).await;
        interrupt(&child);
        let (code, err) = end(&mut child).await;
        assert_eq!(code, Some(130));
        let abort = "decide failover/failover-east-1-6 Abort";
        assert!(err.contains("what runs goes on") && err.contains(abort), "{err}");
        let (mut child, out) = start(&["failover", "east-1", "-n", "followed"]).await;
        ends_well(&failover).await;
        let (code, err) = end(&mut child).await;
        let out = std::io::read_to_string(out).unwrap();
        assert_eq!(code, Some(0), "{err}");
        assert!(
            err.contains("the Failover failover-east-1-6 runs already, at Check"),
            "{err}"
        );
        assert!(out.contains("Succeeded, 6 slots"), "{out}");
        assert_eq!(failovers("followed").await.len(), 1);
    });
}

/// A run to its end, of which others see what it prints as it comes.
async fn shown_to(shows: &watch::Sender<String>, args: &[&str]) -> Run {
    let kubeconfig = cluster().await.kubeconfig_path();
    let mut command = tokio::process::Command::from(as_file(&kubeconfig, args).0);
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let (mut out, mut errors) = (Lines::new(child.stdout.take().unwrap()), child.stderr.take().unwrap());
    let mut err = String::new();
    let prints = async {
        let mut line = String::new();
        while out.read_line(&mut line).await.unwrap() > 0 {
            shows.send_modify(|all| all.push_str(&std::mem::take(&mut line)));
        }
    };
    let all = async { tokio::join!(child.wait(), prints, errors.read_to_string(&mut err)).0 };
    let ended = tokio::time::timeout(PATIENCE, all).await.expect("it ends");
    let code = ended.unwrap().code().unwrap_or(-1);
    let out = shows.borrow().clone();
    Run { code, out, err }
}

/// A run that has printed its first line.
async fn start(args: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let kubeconfig = cluster().await.kubeconfig_path();
    let mut command = as_file(&kubeconfig, args).0;
    let (out, err) = (Stdio::piped(), Stdio::piped());
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    (child, out)
}

/// Its exit code and what it said on standard error.
async fn end(child: &mut Child) -> (Option<i32>, String) {
    let status = eventually("it ended", async || child.try_wait().unwrap()).await;
    (
        status.code(),
        std::io::read_to_string(child.stderr.take().unwrap()).unwrap(),
    )
}

fn interrupt(child: &Child) {
    let args = ["-INT".to_owned(), child.id().to_string()];
    assert!(
        std::process::Command::new("kill")
            .args(args)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn one_that_may_not_be_created_holds_up_no_other() {
    run(async {
        deployment("mine", "east", "Fence").await;
        deployment("theirs", "east", "Fence").await;
        grant("multiactive-view", "oncall").await;
        let rbac = "rbac.authorization.k8s.io";
        let binding = json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding",
            "metadata": {"name": "oncall", "namespace": "mine"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "multiactive-failover"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "oncall"}]});
        apply(&admin().await, binding).await;
        let forbidden = eventually("the authorizer knows the role", async || {
            let args = ["failover", "east-1", "-n", "mine", "--dry-run=server"];
            (kubectl_as("oncall", &args).await.code == 0).then_some(())
        });
        forbidden.await;
        let args = ["failover", "east-1", "-n", "theirs", "--yes", "--no-wait"];
        kubectl_as("oncall", &args)
            .await
            .exits(1)
            .says("cannot create resource \"failovers\"")
            .says("multiactive-failover");
        assert!(failovers("theirs").await.is_empty());
        let args = ["failover", "east-1", "-n", "mine", "--yes", "--no-wait"];
        kubectl_as("oncall", &args)
            .await
            .exits(0)
            .shows("failover mine/failover-east-1-6 created");
    });
}
