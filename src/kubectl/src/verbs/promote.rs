//! `promote`: creates a Promotion and follows it.

use crate::cli::{Global, Output, PromoteArgs};
use crate::client::Session;
use crate::fail::{Exit, Failure, Result};
use crate::fetch;
use crate::follow::{self, Followed, follow};
use crate::interrupt::Interrupts;
use crate::operations::PROMOTION;
use crate::print::{self, Paint, note};
use crate::submit::{self, Mode};
use jiff::Timestamp;
use multiactive_api::Promotion;

/// Does it; the exit code says how it ended.
///
/// # Errors
///
/// Where it is not created, or cannot be followed.
pub async fn run(global: &Global, args: PromoteArgs) -> Result<Exit> {
    let session = Session::open(global).await?;
    let select = submit::select(&session, &args.movement).await?;
    let epoch = match args.expected_epoch {
        Some(epoch) => epoch,
        None => {
            let epoch = fetch::table(&session, &session.namespace).await?.spec.epoch;
            note(&format!(
                "expected epoch {epoch}, the present one: a slot that changes before it begins ends it as Refused/Stale"
            ));
            epoch
        }
    };
    let promotion = submit::promotion(
        &session.namespace,
        &args.name,
        &args.movement,
        &select,
        Mode::Execute(epoch),
    )?;
    let mut interrupts = Interrupts::listen()?;
    let created = tokio::select! {
        exit = interrupts.recv() => {
            note(&format!("interrupted while it was being created: look with kubectl -n {} get promotion {}", session.namespace, args.name));
            return Ok(exit);
        }
        created = submit::create(&session, &promotion, args.dry_run.is_some()) => created?,
    };
    if args.dry_run.is_some() || args.no_wait {
        let done = if args.dry_run.is_some() {
            "would be created (server dry run)"
        } else {
            "created"
        };
        print_created(global, &session, &created, done)?;
        return Ok(Exit::Ok);
    }
    to_its_end(global, &session, &args.name, &mut interrupts).await
}

/// What was created, or would be.
///
/// # Errors
///
/// Where nobody reads it.
pub fn print_created(global: &Global, session: &Session, created: &Promotion, done: &str) -> Result<()> {
    let name = created.metadata.name.clone().unwrap_or_default();
    let object = submit::as_sent(created)?;
    match global.output {
        Output::Json => print::out(&format!(
            "{}\n",
            serde_json::to_string_pretty(&object).map_err(Failure::error)?
        )),
        Output::Yaml => print::out(&serde_yaml::to_string(&object).map_err(Failure::error)?),
        Output::Table | Output::Wide => print::out(&format!("promotion {}/{name} {done}\n", session.namespace)),
    }
}

/// Follows a Promotion to its end, telling its steps: on standard output for people, else on standard error.
///
/// # Errors
///
/// Where it cannot be followed.
pub async fn to_its_end(global: &Global, session: &Session, name: &str, interrupts: &mut Interrupts) -> Result<Exit> {
    let paint = Paint::stdout();
    let people = matches!(global.output, Output::Table | Output::Wide);
    if people {
        print::out(&format!("promotion {}/{name} created\n", session.namespace))?;
    }
    let tell = |change: &crate::view::steps::Change| match people {
        true => print::out(&follow::line(change, paint, false)),
        false => {
            note(follow::line(change, Paint::OFF, false).trim_end());
            Ok(())
        }
    };
    match follow(session, PROMOTION, name, interrupts, tell).await? {
        Followed::Ended(operation) => {
            let view = operation.view(Timestamp::now());
            if !people {
                print::view(global.output, "Operation", &view, |_, _| String::new())?;
            }
            Ok(follow::exit(view.outcome.as_deref()))
        }
        Followed::Deleted => {
            note(&format!(
                "promotion {}/{name} was deleted: before its commit that aborts it",
                session.namespace
            ));
            Ok(Exit::EndedBadly)
        }
        Followed::Unreadable(failure) => Err(failure),
        Followed::Interrupted(exit, _) => {
            let namespace = &session.namespace;
            note(&format!(
                "\nNo longer followed: promotion {namespace}/{name} goes on.\n  see it:   kubectl multiactive watch -n {namespace}\n  \
                 abort it: kubectl multiactive decide {name} Abort --reason '...' -n {namespace}"
            ));
            Ok(exit)
        }
    }
}
