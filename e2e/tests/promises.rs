//! Every promise of `docs/promises.md` names what shows it, and that exists: a test or bench `path::function`, or a
//! step of the demo `demo: title`.

use std::path::Path;

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

#[test]
fn every_promise_names_a_proof_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/promises.md")).unwrap();
    let rows: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
        .collect();
    assert!(rows.len() > 10, "docs/promises.md lists {} promises", rows.len());
    let mut problems = Vec::new();
    for row in rows.iter().filter(|row| !row.starts_with("| promise ")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        let proofs = cells.get(1).map(|cell| proofs(cell)).unwrap_or_default();
        if proofs.is_empty() && !row.contains("not yet") {
            problems.push(format!("no proof: {row}"));
        }
        problems.extend(
            proofs
                .into_iter()
                .filter_map(|proof| problem(&root, proof))
                .map(|why| format!("{why}: {row}")),
        );
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_proof_that_does_not_exist_is_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (proof, exists) in [
        ("e2e/tests/promises.rs::a_proof_that_does_not_exist_is_found", true),
        ("e2e/tests/promises.rs::no_such_test", false),
        ("e2e/tests/no_such_file.rs::anything", false),
        ("demo: no such step", false),
    ] {
        assert_eq!(problem(&root, proof).is_none(), exists, "{proof}");
    }
}
