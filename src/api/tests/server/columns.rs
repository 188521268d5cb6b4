//! What `kubectl get` shows, and that status is a subresource.

use crate::good;
use crate::support::{account, api, cluster, create, run};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

#[test]
fn columns_answer_who_owns_what() {
    run(async {
        let cluster = cluster().await;
        let operator = account("multiactive-operator").await;
        let ready = json!([{"type": "Ready", "status": "True", "reason": "Owned", "message": "", "lastTransitionTime": "2026-11-22T12:00:00Z"}]);
        for (object, status, short, want) in [
            (
                good::shard_range("columns"),
                json!({"slots": "0-511", "active": "north-1", "state": "Serving", "epoch": 42, "conditions": ready}),
                "sr",
                vec![
                    ("SLOTS", "0-511"),
                    ("HOME", "east-1"),
                    ("ACTIVE", "north-1"),
                    ("STATE", "Serving"),
                    ("EPOCH", "42"),
                    ("READY", "True"),
                ],
            ),
            (
                good::promotion("columns"),
                json!({"from": "east-1", "step": "Drain", "waitingFor": "the last writes", "pause": "43ms", "outcome": "Succeeded"}),
                "promo",
                vec![
                    ("FROM", "east-1"),
                    ("TO", "north-1"),
                    ("STEP", "Drain"),
                    ("WAITING-FOR", "the last writes"),
                    ("PAUSE", "43ms"),
                    ("OUTCOME", "Succeeded"),
                ],
            ),
            (
                good::verification("columns"),
                json!({"done": "1/2", "rows": 7, "differingSlots": 1, "outcome": "Failed", "reason": "RowsDiffer",
                    "pairs": [{"store": "orders", "unit": "north-1", "owner": "east-1", "state": "Differs", "slots": "0-7",
                        "rows": 7, "differing": "3", "examples": ["orders id=1"]}]}),
                "vf",
                vec![
                    ("REPAIR", "FromOwner"),
                    ("DONE", "1/2"),
                    ("ROWS", "7"),
                    ("DIFFERING-SLOTS", "1"),
                    ("OUTCOME", "Failed"),
                    ("REASON", "RowsDiffer"),
                ],
            ),
            (
                good::shared("columns"),
                json!({"conflicts": {"open": 2, "settled": 7}}),
                "dst",
                vec![
                    ("TOPOLOGY", "Sharded"),
                    ("CONFLICT", "LastWriterWins"),
                    ("OPEN-CONFLICTS", "2"),
                    ("SETTLED-CONFLICTS", "7"),
                ],
            ),
            (
                good::failover("columns"),
                json!({"to": "north-1,south-1", "step": "Cut", "waitingFor": "the cut at south-1", "reason": "Blocked",
                    "loss": {"bound": "3s", "allowed": "5s"}, "outcome": "Succeeded"}),
                "fo",
                vec![
                    ("LOST", "east-1"),
                    ("TO", "north-1,south-1"),
                    ("STEP", "Cut"),
                    ("WAITING-FOR", "the cut at south-1"),
                    ("LOSS", "3s"),
                    ("OUTCOME", "Succeeded"),
                    ("REASON", "Blocked"),
                ],
            ),
            (
                good::member_cluster("columns"),
                json!({"conditions": ready, "credentialsUntil": "2027-01-01T00:00:00Z", "lastSeen": "2026-11-22T12:00:00Z"}),
                "mcl",
                vec![("READY", "True"), ("CREDENTIALS-UNTIL", "2027-01-01T00:00:00Z")],
            ),
            (
                good::unit("columns"),
                json!({"conditions": ready, "slots": 512, "applied": "1.42"}),
                "un",
                vec![
                    ("CLUSTER", "east"),
                    ("ROLE", "Sharded"),
                    ("SLOTS", "512"),
                    ("READY", "True"),
                    ("APPLIED", "1.42"),
                ],
            ),
        ] {
            create(&crate::support::admin().await, &object).await;
            let patch = Patch::Merge(json!({"status": status}));
            api(&operator, &object)
                .patch_status("columns", &PatchParams::default(), &patch)
                .await
                .unwrap();
            let shown = cluster
                .kubectl(&["get", short, "columns", "-n", "shop", "-o", "wide"])
                .await
                .unwrap();
            let cells = cells(&shown);
            for (column, value) in want {
                let cell = cells
                    .iter()
                    .find(|(name, _)| name == column)
                    .map(|(_, cell)| cell.as_str());
                assert_eq!(cell, Some(value), "{column} in\n{shown}");
            }
        }
    });
}

/// The one row of a table with headers, by the position of the headers.
fn cells(shown: &str) -> Vec<(String, String)> {
    let mut lines = shown.lines();
    let (head, row) = (lines.next().unwrap(), lines.next().unwrap());
    let mut starts: Vec<usize> = Vec::new();
    for (at, _) in head.char_indices().filter(|(_, c)| *c != ' ') {
        if at == 0 || head[..at].ends_with("  ") {
            starts.push(at);
        }
    }
    let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
    let part = |line: &str, from: usize, to: usize| line[from.min(line.len())..to.min(line.len())].trim().to_owned();
    starts
        .iter()
        .zip(ends)
        .map(|(from, to)| (part(head, *from, to), part(row, *from, to)))
        .collect()
}

#[test]
fn a_status_sent_with_the_object_is_dropped() {
    run(async {
        let mut object = good::unit("status");
        object["status"] = json!({"slots": 7});
        create(&crate::support::admin().await, &object).await;
        let stored = api(&crate::support::admin().await, &object)
            .get("status")
            .await
            .unwrap();
        assert_eq!(
            stored.data.get("status").and_then(|status| status.get("slots")),
            None::<&Value>
        );
    });
}
