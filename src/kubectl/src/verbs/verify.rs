//! `verify`: creates a Verification, or takes one that exists, and follows it to its end.

use crate::cli::{Global, Output, VerifyArgs};
use crate::client::Session;
use crate::confirm::confirm;
use crate::fail::{Exit, Failure, Result};
use crate::fetch;
use crate::follow::{self, Followed, follow};
use crate::interrupt::Interrupts;
use crate::operations::{Kind, OperationView, VERIFICATION};
use crate::print::{self, Paint, note};
use crate::submit;
use crate::view::steps::Change;
use crate::view::verify::{self, Asked};
use crate::view::verify_text;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{DataStore, Verification};
use std::collections::BTreeSet;

/// Does it; the exit code says what was found.
///
/// # Errors
///
/// Where a name is unknown, it is not confirmed or not created, or cannot be followed.
pub async fn run(global: &Global, args: VerifyArgs) -> Result<Exit> {
    let one = existing(&args)?;
    let session = Session::open(global).await?;
    if let Some(name) = one {
        is_there(&session, &name).await?;
        return to_its_end(global, &session, &name, &mut Interrupts::listen()?).await;
    }
    let object = planned(global, &session, &args).await?;
    let (dry_run, name) = (args.dry_run.is_some(), object.name_any());
    let mut interrupts = Interrupts::listen()?;
    let created = tokio::select! {
        exit = interrupts.recv() => {
            note(&format!("interrupted while it was being created: look with kubectl -n {} get verification {name}", session.namespace));
            return Ok(exit);
        }
        created = submit::create(&session, &object, dry_run) => created?,
    };
    if dry_run || args.no_wait {
        let done = match dry_run {
            true => "would be created (server dry run)",
            false => "created",
        };
        print_created(global, &session, &created, done)?;
        return Ok(Exit::Ok);
    }
    if is_for_people(global) {
        print::out(&format!("verification {}/{name} created\n", session.namespace))?;
    }
    to_its_end(global, &session, &name, &mut interrupts).await
}

/// The name of one that exists, where that is meant. No DataStore has a slash in its name.
fn existing(args: &VerifyArgs) -> Result<Option<String>> {
    let Some((kind, name)) = args.stores.iter().find_map(|word| word.split_once('/')) else {
        return Ok(None);
    };
    if Kind::named(kind) != Some(VERIFICATION) {
        return Err(Failure::usage(format!(
            "{kind}/{name} is no DataStore and no Verification: write the names of DataStores, or verification/NAME"
        )));
    }
    let given = [
        ("another name", args.stores.len() > 1),
        ("--unit", !args.units.is_empty()),
        ("--repair", args.repair),
        ("--max-rows-per-second", args.max_rows_per_second.is_some()),
        ("--name", args.name.is_some()),
        ("--no-wait", args.no_wait),
        ("--dry-run", args.dry_run.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Failure::usage(format!(
            "{kind}/{name} exists and is followed as it is: {flag} is for a new one"
        ))),
        None => Ok(Some(name.to_owned())),
    }
}

async fn is_there(session: &Session, name: &str) -> Result<()> {
    let namespace = &session.namespace;
    let all = fetch::objects::<Verification>(session, Some(namespace)).await?;
    let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    let known = match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    Err(Failure::not_found(format!(
        "there is no Verification {name} in namespace {namespace}; there are: {known}"
    )))
}

/// The Verification of these flags: every name is known, and who repairs has confirmed it.
async fn planned(global: &Global, session: &Session, args: &VerifyArgs) -> Result<Verification> {
    let namespace = &session.namespace;
    let asked = Asked {
        stores: args.stores.clone(),
        units: args.units.clone(),
        repair: args.repair,
        max_rows_per_second: args.max_rows_per_second,
    };
    let mut lost = Vec::new();
    let stores: Vec<DataStore> = fetch::sort(fetch::objects::<DataStore>(session, Some(namespace)).await?, &mut lost);
    if stores.is_empty() && lost.is_empty() {
        return Err(fetch::nothing_here(session, namespace, "has no DataStore: there are no rows to compare").await);
    }
    let chosen = verify::choose(namespace, &stores, &lost, &asked)?;
    for lost in &lost {
        note(&format!("unreadable: {} {}: {}", lost.kind, lost.name, lost.error));
    }
    let name = match &args.name {
        Some(name) => name.clone(),
        None => free_name(session, args.repair).await?,
    };
    if args.repair {
        let look = verify_text::command(&refs(&asked.stores), &refs(&asked.units), false, namespace);
        note(verify_text::repair(namespace, &chosen, &look, Paint::stderr()).trim_end());
        if args.dry_run.is_none() {
            confirm(global, &verify_text::question(namespace, &chosen))?;
        }
    }
    Ok(verify::object(namespace, &name, &asked))
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// A name of the present epoch that was never used, as far as objects tell.
async fn free_name(session: &Session, repair: bool) -> Result<String> {
    let namespace = &session.namespace;
    let epoch = fetch::table(session, namespace).await?.spec.epoch;
    let all = fetch::objects::<Verification>(session, Some(namespace)).await?;
    let used: BTreeSet<String> = all.iter().map(ResourceExt::name_any).collect();
    Ok(verify::free_name(epoch, repair, &used))
}

fn is_for_people(global: &Global) -> bool {
    matches!(global.output, Output::Table | Output::Wide)
}

fn print_created(global: &Global, session: &Session, created: &Verification, done: &str) -> Result<()> {
    let object = submit::as_sent(created)?;
    match global.output {
        Output::Json => {
            let text = serde_json::to_string_pretty(&object).map_err(Failure::error)?;
            print::out(&format!("{text}\n"))
        }
        Output::Yaml => print::out(&serde_yaml::to_string(&object).map_err(Failure::error)?),
        Output::Table | Output::Wide => {
            let (namespace, name) = (&session.namespace, created.name_any());
            print::out(&format!("verification {namespace}/{name} {done}\n"))
        }
    }
}

/// Follows it: what changes is told on standard output for people, else on standard error; then what was found.
async fn to_its_end(global: &Global, session: &Session, name: &str, interrupts: &mut Interrupts) -> Result<Exit> {
    let people = is_for_people(global);
    let tell = |change: &Change| match people {
        true => print::out(&follow::line(change, Paint::stdout(), false)),
        false => {
            note(follow::line(change, Paint::OFF, false).trim_end());
            Ok(())
        }
    };
    let namespace = &session.namespace;
    match follow(session, VERIFICATION, name, interrupts, tell).await? {
        Followed::Ended(operation) => {
            let view = operation.view(Timestamp::now());
            print::view(global.output, "Operation", &view, |paint, wide| {
                verify_text::found(&view, paint, wide)
            })?;
            Ok(exit(&view))
        }
        Followed::Deleted => {
            note(&format!(
                "verification {namespace}/{name} was deleted: nothing more is compared"
            ));
            Ok(Exit::EndedBadly)
        }
        Followed::Unreadable(failure) => Err(failure),
        Followed::Interrupted(exit, _) => {
            note(&format!(
                "\nNo longer followed: verification {namespace}/{name} goes on.\n  \
                 see it: kubectl multiactive verify verification/{name} -n {namespace}\n  \
                 end it: kubectl -n {namespace} delete verification {name}"
            ));
            Ok(exit)
        }
    }
}

/// That rows differ is an answer of its own, apart from what could not be compared.
fn exit(view: &OperationView) -> Exit {
    match (view.outcome.as_deref(), view.reason.as_deref()) {
        (Some("Failed"), Some("RowsDiffer")) => Exit::RowsDiffer,
        (outcome, _) => follow::exit(outcome),
    }
}
