//! Help that teaches, and documentation that leaves no verb out.

use clap::CommandFactory;
use multiactive_kubectl::cli::Args;
use std::path::Path;
use std::process::Command;

fn verbs() -> Vec<String> {
    let command = Args::command();
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    shown.map(|verb| verb.get_name().to_owned()).collect()
}

fn help(verb: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-multiactive"))
        .args([verb, "--help"])
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_verb_teaches_by_example_and_says_its_exit_codes() {
    assert!(verbs().len() >= 11);
    for verb in verbs() {
        let help = help(&verb);
        assert!(help.contains("Examples:"), "{verb}: {help}");
        assert!(help.contains(&format!("multiactive {verb}")), "{verb}: {help}");
        assert!(help.contains("Exit codes:"), "{verb}: {help}");
        assert!(
            help.contains(&format!("Usage: kubectl multiactive {verb}")),
            "{verb}: {help}"
        );
    }
}

#[test]
fn every_verb_and_every_flag_is_documented() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kubectl.md")).unwrap();
    let command = Args::command();
    for verb in verbs() {
        assert!(
            page.contains(&format!("\n## {verb}\n")),
            "docs/kubectl.md has no section {verb}"
        );
        let verb = command.find_subcommand(&verb).unwrap();
        for flag in verb.get_arguments().filter_map(|arg| arg.get_long()) {
            assert!(
                page.contains(&format!("`--{flag}")),
                "docs/kubectl.md does not tell of --{flag} of {}",
                verb.get_name()
            );
        }
    }
    for flag in command.get_arguments().filter_map(|arg| arg.get_long()) {
        assert!(
            page.contains(&format!("`--{flag}")),
            "docs/kubectl.md does not tell of --{flag}"
        );
    }
}

#[test]
fn every_exit_code_of_the_help_is_documented() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kubectl.md")).unwrap();
    let help = help("status");
    let codes = help.split_once("Exit codes:").unwrap().1.lines();
    let codes: Vec<_> = codes
        .filter_map(|line| line.trim().split_once("  "))
        .map(|(code, _)| code.to_owned())
        .collect();
    assert_eq!(codes.len(), 8, "{codes:?}");
    for code in codes {
        assert!(
            page.contains(&format!("\n| {code} |")),
            "docs/kubectl.md does not tell of exit code {code}"
        );
    }
}

#[test]
fn completion_knows_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-multiactive"))
            .args(["completion", shell])
            .output()
            .unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        for verb in verbs() {
            assert!(script.contains(&verb), "{shell}: {verb}");
        }
    }
}
