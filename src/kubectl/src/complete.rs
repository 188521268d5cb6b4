//! What kubectl's own completion asks of a plugin: the candidates for the last word, one a line with its help, and a last
//! line with a directive (4: no file names).

use crate::cli::Args;
use crate::fail::{Exit, Result};
use crate::print::out;
use clap::{Command, CommandFactory};

/// No file names.
const NO_FILES: &str = ":4\n";
/// File names.
const FILES: &str = ":0\n";

/// Prints the candidates.
///
/// # Errors
///
/// Where nobody reads them.
pub fn run(words: &[String]) -> Result<Exit> {
    out(&candidates(words))?;
    Ok(Exit::Ok)
}

fn candidates(words: &[String]) -> String {
    let root = Args::command();
    let (last, before) = words
        .split_last()
        .map_or(("", words), |(last, before)| (last.as_str(), before));
    let verb = before
        .iter()
        .find_map(|word| root.find_subcommand(word).filter(|found| !found.is_hide_set()));
    let flag_before = before.last().and_then(|word| flag(&root, verb, word));
    let mut found: Vec<(String, String)> = Vec::new();
    let mut end = NO_FILES;
    if let Some(flag) = flag_before.filter(|flag| flag.get_action().takes_values()) {
        let values = flag.get_possible_values();
        found.extend(
            values
                .iter()
                .map(|value| (value.get_name().to_owned(), help(value.get_help()))),
        );
        if matches!(flag.get_value_hint(), clap::ValueHint::AnyPath)
            || flag.get_id() == "kubeconfig"
            || flag.get_id() == "file"
        {
            end = FILES;
        }
    } else if last.starts_with('-') {
        for flag in flags(&root, verb) {
            let names = flag.get_long().map(|long| format!("--{long}"));
            found.extend(names.map(|name| (name, help(flag.get_help()))));
        }
    } else if let Some(verb) = verb {
        let values = verb.get_positionals().flat_map(clap::Arg::get_possible_values);
        found.extend(values.map(|value| (value.get_name().to_owned(), help(value.get_help()))));
    } else {
        let verbs = root.get_subcommands().filter(|verb| !verb.is_hide_set());
        found.extend(verbs.map(|verb| (verb.get_name().to_owned(), help(verb.get_about()))));
    }
    found.retain(|(name, _)| name.starts_with(last));
    let lines: String = found.iter().map(|(name, help)| format!("{name}\t{help}\n")).collect();
    lines + end
}

fn flags<'a>(root: &'a Command, verb: Option<&'a Command>) -> impl Iterator<Item = &'a clap::Arg> {
    let own = verb.into_iter().flat_map(Command::get_arguments);
    own.filter(|arg| !arg.is_positional())
        .chain(root.get_arguments().filter(|arg| arg.is_global_set()))
}

fn flag<'a>(root: &'a Command, verb: Option<&'a Command>, word: &str) -> Option<&'a clap::Arg> {
    let long = word.strip_prefix("--");
    let short = word
        .strip_prefix('-')
        .filter(|rest| rest.chars().count() == 1)
        .and_then(|rest| rest.chars().next());
    flags(root, verb)
        .find(|arg| (long.is_some() && arg.get_long() == long) || (short.is_some() && arg.get_short() == short))
}

fn help(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_flags_and_values_are_offered_where_they_may_stand() {
        for (words, offered, not) in [
            (&[""][..], "status\t", "__complete"),
            (&["pl"], "plan\t", "promote"),
            (&["plan", "--"], "--range\t", "--reason"),
            (&["plan", "--"], "--namespace\t", "--member-context"),
            (&["plan", "-o", ""], "json\t", "--range"),
            (&["-n", "shop", "completion", ""], "kubectl-plugin\t", "status"),
            (&["decide", "x", "A"], "Abort\t", "--reason"),
        ] {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            let got = candidates(&words);
            let once: std::collections::BTreeSet<_> = got.lines().collect();
            assert_eq!(once.len(), got.lines().count(), "{words:?}: {got}");
            assert!(
                got.contains(offered) && !got.contains(not) && got.ends_with(NO_FILES),
                "{words:?}: {got}"
            );
        }
        assert!(candidates(&["support-bundle".into(), "-f".into(), String::new()]).ends_with(FILES));
    }
}
