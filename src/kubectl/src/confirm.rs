//! Asking before something dangerous is done; without a terminal nobody can be asked, so nothing is done.

use crate::cli::Global;
use crate::fail::{Failure, Result};
use crate::print::note;
use std::io::{BufRead, IsTerminal, Write};

/// Goes on only where the user said so: by `--yes`, or on a terminal.
///
/// # Errors
///
/// Where there is no terminal, or the user does not agree.
pub fn confirm(global: &Global, what: &str) -> Result<()> {
    if global.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "{what} needs your confirmation, and there is no terminal to ask on: give --yes"
        )));
    }
    let _ = write!(std::io::stderr(), "{what}? Type yes to go on: ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_err() || !agrees(&answer) {
        note("");
        return Err(Failure::error("nothing was done: you did not confirm"));
    }
    Ok(())
}

fn agrees(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_agrees() {
        for (answer, want) in [
            ("yes\n", true),
            ("Y\n", true),
            ("\n", false),
            ("", false),
            ("no\n", false),
            ("yes!\n", false),
        ] {
            assert_eq!(agrees(answer), want, "{answer:?}");
        }
    }
}
