//! `watch`, without a terminal: lines, by watches.

use crate::objects::{conditions, deployment, object, promotion, promotion_status, table, unit};
use crate::support::{admin, apply, as_file, cluster, eventually, operator, run};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

#[test]
fn steps_owners_and_readiness_are_told_as_they_change() {
    run(async {
        deployment("watched").await;
        let kubeconfig = cluster().await.kubeconfig_path();
        let mut command = as_file(&kubeconfig, &["watch", "-n", "watched", "-o", "json"]).0;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let reader = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                reader.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let told = async |what: &str, text: &str| {
            eventually(&format!("{what} {text} is told"), async || {
                let seen = seen.lock().unwrap();
                let found = seen
                    .iter()
                    .filter(|line| line["what"] == what)
                    .find(|line| line["text"].as_str().unwrap().contains(text));
                found.cloned()
            })
            .await
        };
        eventually("the first look", async || {
            seen.lock()
                .unwrap()
                .first()
                .filter(|line| line["kind"] == "Status")
                .map(drop)
        })
        .await;
        promotion("watched", "move", json!({"step": "Hold", "waitingFor": "routers", "history": [{"step": "Hold", "at": "2026-01-01T00:00:00Z"}]})).await;
        told("Step", "Hold").await;
        told("Wait", "waiting for routers").await;
        apply(&operator().await, table("watched", 9, "4s0@1.4,12s1@1.9")).await;
        let owner = told("Owner", "slots 4-7: east-1 -> north-1").await;
        assert_eq!(
            (owner["kind"].clone(), owner["apiVersion"].clone()),
            (json!("Change"), json!("cli.multiactive.io/v1alpha1"))
        );
        let spec = json!({"units": ["north-1"]});
        let found = json!({"done": "1/2", "waitingFor": "orders at north-1 with east-1"});
        apply(
            &admin().await,
            object("Verification", "watched", "nightly", spec, found),
        )
        .await;
        told("Progress", "1/2 compared").await;
        let lost = conditions("False", "StoreNotReady", "no answer", false);
        apply(&admin().await, unit("watched", "north-1", "north", lost)).await;
        told("Readiness", "not Ready (StoreNotReady): no answer").await;
        promotion_status("watched", "move", json!({"outcome": "Succeeded", "pause": "20ms"})).await;
        told("Outcome", "Succeeded").await;
        let status = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        let ended = eventually("watch ended", async || child.try_wait().unwrap()).await;
        assert_eq!(ended.code(), Some(130));
    });
}
