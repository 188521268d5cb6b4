//! Transcripts: what is typed, the exit code, and what is printed. `[..]` stands for anything within a line. With
//! `BLESS=1` in the environment they are written anew: look at the difference before you commit it.

use crate::support::{cluster, kubectl};
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

/// Plays a transcript of the folder `tests` again.
pub async fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
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
