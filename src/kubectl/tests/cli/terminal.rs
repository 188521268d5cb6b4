//! What is different on a terminal: questions, colours, a screen that is redrawn. The terminal is one of `script`.

use crate::objects::deployment;
use crate::support::{admin, as_file, cluster, eventually, operator, run};
use kube::Api;
use kube::api::ListParams;
use multiactive_api::{Failover, Promotion};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// Runs the program on a terminal, types, and returns what was seen once it holds `until`, or has ended.
async fn on_terminal(args: &[&str], envs: &[(&str, &str)], until: &str, typed: &str) -> String {
    let kubeconfig = cluster().await.kubeconfig_path();
    let inner = as_file(&kubeconfig, args).0;
    let line = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| word.to_str().unwrap().to_owned());
    let line = line.collect::<Vec<_>>().join(" ");
    let mut command = Command::new("script");
    command
        .args(["-qefc", &line, "/dev/null"])
        .env("KUBECONFIG", &kubeconfig)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    command
        .envs(envs.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let reader = Arc::clone(&seen);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = out.read(&mut buffer) {
            reader.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
    });
    let text = || String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    let mut stdin = child.stdin.take().unwrap();
    eventually(&format!("{until} is seen"), async || {
        text().contains(until).then_some(())
    })
    .await;
    stdin.write_all(typed.as_bytes()).unwrap();
    stdin.flush().unwrap();
    eventually("it ended", async || child.try_wait().unwrap()).await;
    text()
}

#[test]
fn a_person_is_asked_and_only_a_yes_goes_on() {
    run(async {
        deployment("terminal").await;
        crate::support::apply(
            &operator().await,
            crate::objects::table("terminal", 7, "8s1@1.7,8s1@1.6"),
        )
        .await;
        let api: Api<Promotion> = Api::namespaced(admin().await, "terminal");
        let args = ["failback", "--all", "-n", "terminal", "--no-wait"];
        let seen = on_terminal(&args, &[], "Type yes", "no\n").await;
        assert!(
            seen.contains("Move 8 slots home with 1 promotion") && seen.contains("nothing was done"),
            "{seen}"
        );
        assert!(api.list(&ListParams::default()).await.unwrap().items.is_empty());
        let seen = on_terminal(&args, &[], "Type yes", "yes\n").await;
        assert!(seen.contains("failback-east-1-7 created"), "{seen}");
        assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
    });
}

#[test]
fn a_unit_that_looks_alive_is_failed_over_only_where_a_person_says_so() {
    run(async {
        deployment("lively").await;
        let range = crate::objects::range("lively", "users-0", (0, 7), "east-1", "east-1");
        let failover_units = serde_json::json!({"spec": {"failoverUnits": ["north-1"]}});
        let api_of_ranges = crate::support::api(&admin().await, &range);
        api_of_ranges
            .patch("users-0", &Default::default(), &kube::api::Patch::Merge(failover_units))
            .await
            .unwrap();
        let api: Api<Failover> = Api::namespaced(admin().await, "lively");
        let args = ["failover", "east-1", "-n", "lively", "--no-wait"];
        let seen = on_terminal(&args, &[], "Type yes", "no\n").await;
        assert!(seen.contains("\u{1b}[31mWARNING: it looks alive"), "{seen}");
        assert!(
            seen.contains("Fail over 8 slots of lively/east-1, which looks alive, with 1 Failover?")
                && seen.contains("nothing was done"),
            "{seen}"
        );
        assert!(api.list(&ListParams::default()).await.unwrap().items.is_empty());
        let seen = on_terminal(&args, &[], "Type yes", "yes\n").await;
        assert!(seen.contains("failover lively/failover-east-1-6 created"), "{seen}");
    });
}

#[test]
fn a_repair_is_asked_for_once_and_only_a_yes_replaces_rows() {
    run(async {
        deployment("mended").await;
        let args = ["verify", "--repair", "-n", "mended", "--no-wait"];
        let seen = on_terminal(&args, &[], "Type yes", "no\n").await;
        assert!(
            seen.contains("in 2 databases of orders in mended?") && seen.contains("nothing was done"),
            "{seen}"
        );
        assert!(crate::verifying::verifications("mended").await.is_empty());
        let seen = on_terminal(&args, &[], "Type yes", "yes\n").await;
        assert_eq!(seen.matches("Type yes").count(), 1, "{seen}");
        assert!(seen.contains("verification mended/repair-6 created"), "{seen}");
        // To look needs nobody's word.
        let seen = on_terminal(&["verify", "-n", "mended", "--no-wait"], &[], "created", "").await;
        assert!(!seen.contains("Type yes"), "{seen}");
    });
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    run(async {
        deployment("coloured").await;
        let args = ["status", "-n", "coloured"];
        let seen = on_terminal(&args, &[], "users-1", "").await;
        assert!(seen.contains("\u{1b}[32mhealthy"), "{seen}");
        for off in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let seen = on_terminal(&args, &[off], "users-1", "").await;
            assert!(seen.contains("healthy") && !seen.contains('\u{1b}'), "{off:?}: {seen}");
        }
        assert!(!crate::support::kubectl(&args).await.out.contains('\u{1b}'));
    });
}

#[test]
fn watch_redraws_its_screen_and_gives_the_old_one_back() {
    run(async {
        deployment("screen").await;
        // Ctrl-C, as the terminal sends it.
        let seen = on_terminal(&["watch", "-n", "screen"], &[], "users-1", "\u{3}").await;
        assert!(seen.contains("\u{1b}[?1049h") && seen.contains("healthy"), "{seen}");
        assert!(
            seen.contains("\u{1b}[?25h\u{1b}[?1049l"),
            "the screen is not given back: {seen}"
        );
    });
}
