//! Every promise of `docs/promises.md` names what shows it, and that exists: a test or bench `path::function`, or a
//! step of the demo `demo: title`. So does every fault of `docs/planted-faults.md`: it names the tests that caught it.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rows of all tables of a page, each as its cells; without their heads, which begin with `head`.
fn rows(page: &str, head: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|line| {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    });
    let all: Vec<Vec<String>> = cells
        .filter(|cells: &Vec<String>| cells[0] != head && !cells[0].starts_with("---"))
        .collect();
    assert!(all.len() > 10, "{page} has {} rows", all.len());
    all
}

/// The quoted proofs of a line, each between back-ticks.
fn proofs(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// What is wrong with a proof; `None` where it exists.
fn problem(root: &Path, proof: &str) -> Option<String> {
    if let Some(title) = proof.strip_prefix("demo: ") {
        let demo = std::fs::read_dir(root.join("e2e/src/demo")).ok()?;
        let texts = demo
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        let found = texts.into_iter().any(|text| text.contains(&format!("\"{title}\"")));
        return (!found).then(|| format!("the demo has no step {title:?}"));
    }
    let (path, function) = proof.split_once("::").unwrap_or((proof, ""));
    let Ok(text) = std::fs::read_to_string(root.join(path)) else {
        return Some(format!("there is no file {path}"));
    };
    let found = function.is_empty() || text.contains(&format!("fn {function}("));
    (!found).then(|| format!("{path} has no function {function}"))
}

/// Fails where a row names nothing in its second cell, unless it may, or something that does not exist.
fn check(page: &str, head: &str, may_lack: impl Fn(&[String]) -> bool, fits: impl Fn(&str) -> Option<String>) {
    let root = root();
    let mut problems = Vec::new();
    for row in rows(page, head) {
        let proofs = row.get(1).map(|cell| proofs(cell)).unwrap_or_default();
        if proofs.is_empty() && !may_lack(&row) {
            problems.push(format!("no proof: {row:?}"));
        }
        let wrong = proofs
            .iter()
            .filter_map(|proof| fits(proof).or_else(|| problem(&root, proof)));
        problems.extend(wrong.map(|why| format!("{why}: {}", row[0])));
    }
    assert!(problems.is_empty(), "{page}:\n{}", problems.join("\n"));
}

#[test]
fn every_promise_names_a_proof_that_exists() {
    let not_yet = |row: &[String]| row.iter().any(|cell| cell.contains("not yet"));
    check("docs/promises.md", "promise", not_yet, |_| None);
}

#[test]
fn every_planted_fault_names_a_test_that_exists() {
    let function = |proof: &str| (!proof.contains("::")).then(|| format!("{proof} names no function"));
    check("docs/planted-faults.md", "fault", |_| false, function);
}

#[test]
fn a_proof_that_does_not_exist_is_found() {
    let root = root();
    for (proof, exists) in [
        ("e2e/tests/promises.rs::a_proof_that_does_not_exist_is_found", true),
        ("e2e/tests/promises.rs::no_such_test", false),
        ("e2e/tests/no_such_file.rs::anything", false),
        ("demo: no such step", false),
    ] {
        assert_eq!(problem(&root, proof).is_none(), exists, "{proof}");
    }
}
