//! `kubectl multiactive`: the command-line tool of the person on call. Verbs fetch, views decide what is shown (pure), and
//! printing is apart from both. It decides nothing about ownership: it reads what the operator says, and creates the
//! objects by which the operator is asked.

pub mod cli;
pub mod client;
pub mod compared;
pub mod complete;
pub mod confirm;
pub mod decisions;
pub mod fail;
pub mod fetch;
pub mod follow;
pub mod interrupt;
pub mod operations;
pub mod print;
pub mod redact;
pub mod submit;
pub mod text;
pub mod verbs;
pub mod view;
pub mod watching;

use cli::{Args, Verb};
use fail::{Exit, Failure};

/// Does what was asked; errors are told here.
pub async fn run(args: Args) -> Exit {
    let Args { global, verb } = args;
    let result = match verb {
        Verb::Status(args) => verbs::status::run(&global, args).await,
        Verb::Route(args) => verbs::route::run(&global, args).await,
        Verb::Plan(args) => verbs::plan::run(&global, args).await,
        Verb::Promote(args) => verbs::promote::run(&global, args).await,
        Verb::Failback(args) => verbs::failback::run(&global, args).await,
        Verb::Failover(args) => verbs::failover::run(&global, args).await,
        Verb::Verify(args) => verbs::verify::run(&global, args).await,
        Verb::Decide(args) => verbs::decide::run(&global, args).await,
        Verb::Watch(args) => verbs::watch::run(&global, args).await,
        Verb::Events(args) => verbs::events::run(&global, args).await,
        Verb::SupportBundle(args) => verbs::support_bundle::run(&global, args).await,
        Verb::Completion(args) => verbs::completion::run(args),
        Verb::Version(args) => verbs::version::run(&global, args).await,
        Verb::Complete { words } => complete::run(&words),
    };
    match result {
        Ok(exit) => exit,
        Err(Failure::Closed) => Exit::Ok,
        Err(failure) => {
            print::note(&format!("error: {failure}"));
            failure.exit()
        }
    }
}
