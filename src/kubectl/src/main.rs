//! The program: reads the command line, and ends with the exit code of the verb.

use clap::Parser;
use multiactive_kubectl::cli::Args;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    // clap ends the process by itself: 0 for help, 2 for what it does not understand.
    let args = Args::parse();
    let exit = multiactive_kubectl::run(args).await;
    ExitCode::from(exit.code())
}
