//! `completion`: scripts for shells.

use crate::cli::{Args, CompletionArgs, Shell};
use crate::fail::{Exit, Result};
use crate::print::out;
use clap::CommandFactory;

/// The program that kubectl's own completion calls.
const PLUGIN: &str = "#!/bin/sh\n# Completion of `kubectl multiactive`: kubectl calls this with the words so far.\nexec kubectl-multiactive __complete -- \"$@\"\n";

/// Prints it.
///
/// # Errors
///
/// Where nobody reads it.
pub fn run(args: CompletionArgs) -> Result<Exit> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::KubectlPlugin => {
            out(PLUGIN)?;
            return Ok(Exit::Ok);
        }
    };
    let mut script = Vec::new();
    let mut command = Args::command().bin_name("kubectl-multiactive");
    clap_complete::generate(shell, &mut command, "kubectl-multiactive", &mut script);
    out(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
