//! Transcripts: what is typed, the exit code, and what is printed. `[..]` stands for anything within a line. With
//! `BLESS=1` in the environment they are written anew: look at the difference before you commit it.

use crate::objects::{conditions, deployment, event, finished, link, promotion, range, table, unit};
use crate::support::{admin, apply, cluster, kubectl, operator, run};
use serde_json::json;
use std::fmt::Write;
use std::path::Path;

/// What a run prints, in the form of a transcript: standard error after standard output.
async fn play(line: &str, server: &str) -> String {
    let words: Vec<&str> = line
        .strip_prefix("$ kubectl multiactive ")
        .unwrap()
        .split(' ')
        .collect();
    let run = kubectl(&words).await;
    let mut text = format!("{line}\n? {}\n{}", run.code, run.out);
    for line in run.err.lines() {
        writeln!(text, "{}", format!("! {line}").trim_end()).unwrap();
    }
    text.replace(server, "https://[SERVER]")
}

/// Whether a line is as expected.
fn fits(expected: &str, got: &str) -> bool {
    let mut parts = expected.split("[..]");
    let Some(mut rest) = got.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let found = if parts.peek().is_none() {
            rest.len().checked_sub(part.len()).filter(|at| rest[*at..] == *part)
        } else {
            rest.find(part)
        };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

async fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cli/transcripts")
        .join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap();
    let server = cluster().await.server();
    let mut played = String::new();
    let mut head = String::new();
    for line in expected.lines().take_while(|line| line.starts_with('#')) {
        writeln!(head, "{line}").unwrap();
    }
    for line in expected.lines().filter(|line| line.starts_with("$ ")) {
        writeln!(played, "\n{}", play(line, &server).await.trim_end()).unwrap();
    }
    let got = head + &played;
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &got).unwrap();
        return;
    }
    let same = expected.lines().count() == got.lines().count()
        && expected.lines().zip(got.lines()).all(|(want, got)| fits(want, got));
    assert!(same, "{name}: expected\n{expected}\ngot\n{got}");
}

#[test]
fn a_deployment_that_is_well_reads_as_the_transcript() {
    run(async {
        deployment("shop").await;
        let mut stored = table("shop", 6, "8s0@1.4,8s1@1.6");
        stored["spec"]["finished"] = json!([finished("a", 230), finished("b", 330), finished("c", 250)]);
        apply(&operator().await, stored).await;
        event("shop", "Promotion", "move-1", 20, ("Normal", "StepEntered"), "Hold").await;
        event(
            "shop",
            "Unit",
            "north-1",
            10,
            ("Warning", "StoreNotReady"),
            "no answer from db.example:5432",
        )
        .await;
        check("well").await;
    });
}

#[test]
fn a_deployment_in_trouble_reads_as_the_transcript() {
    run(async {
        deployment("trouble").await;
        let client = admin().await;
        let lost = conditions(
            "False",
            "StoreNotReady",
            "store orders: no answer from db.example:5432",
            false,
        );
        apply(&client, unit("trouble", "north-1", "north", lost)).await;
        apply(&client, range("trouble", "users-0", (0, 7), "east-1", "north-1")).await;
        apply(&operator().await, table("trouble", 8, "8h1@1.8,8s1@1.6")).await;
        apply(&operator().await, link("trouble", "north-1", "east-1", "Broken")).await;
        let at = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(73)).to_string();
        let status = json!({"step": "Hold", "from": "north-1", "slots": 8, "waitingFor": "routers of north-1", "history": [{"step": "Hold", "at": at}],
            "conditions": conditions("False", "Running", "at Hold", false)});
        promotion("trouble", "home-again", status).await;
        check("trouble").await;
    });
}

#[test]
fn a_blank_in_a_transcript_stands_for_anything_within_its_line() {
    for (expected, got, want) in [
        ("a [..] c", "a b c", true),
        ("a [..] c", "a b d", false),
        ("[..]", "", true),
        ("a[..]b[..]c", "a-b-b-c", true),
        ("abc", "abcd", false),
        ("a[..]c", "acc", true),
    ] {
        assert_eq!(fits(expected, got), want, "{expected} {got}");
    }
}
