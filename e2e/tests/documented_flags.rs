//! The table of flags in docs/architecture.md is what the programs say of themselves.

use multiactive_e2e::world::{programs, root};
use std::collections::BTreeSet;

/// Program, flag, variable and default.
type Flag = (String, String, String, String);

#[test]
fn every_flag_is_documented_with_its_default_and_its_variable() {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let documented: BTreeSet<Flag> = page.lines().filter_map(row).collect();
    let mut offered = BTreeSet::new();
    for program in ["multiactive-operator", "multiactive-agent", "multiactive-router"] {
        let output = std::process::Command::new(programs().unwrap().join(program))
            .arg("--help")
            .env_clear()
            .output()
            .unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        // Each flag's text begins with the flag, indented.
        let flags = help.split("\n      --").skip(1);
        offered.extend(flags.map(|text| flag(program, text)));
    }
    assert!(offered.len() > 20, "{offered:#?}");
    let missing: Vec<_> = offered.difference(&documented).collect();
    let wrong: Vec<_> = documented.difference(&offered).collect();
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "missing: {missing:#?}\nno flag: {wrong:#?}"
    );
}

fn flag(program: &str, help: &str) -> Flag {
    let name = help.split([' ', '\n']).next().unwrap_or_default();
    let tagged = |tag: &str| {
        let (_, rest) = help.split_once(&format!("[{tag}: "))?;
        Some(rest.split_once(']')?.0.trim_end_matches('=').to_owned())
    };
    let (variable, default) = (tagged("env").unwrap_or_default(), tagged("default").unwrap_or_default());
    (program.to_owned(), name.to_owned(), variable, default)
}

fn row(line: &str) -> Option<Flag> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let ["", program, flag, default, _, ""] = cells[..] else {
        return None;
    };
    let program = program.trim_matches('`').strip_prefix("multiactive-")?;
    let mut words = flag
        .split('`')
        .filter(|word| !word.trim_matches([' ', '(', ')']).is_empty());
    let name = words.next()?.strip_prefix("--")?;
    let usual = || format!("MULTIACTIVE_{}", name.to_uppercase().replace('-', "_"));
    let variable = words.next().map_or_else(usual, str::to_owned);
    let program = format!("multiactive-{program}");
    Some((program, name.to_owned(), variable, default.trim_matches('`').to_owned()))
}
