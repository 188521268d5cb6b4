//! `failover`: shows what would become of lost units, asks, creates a Failover for each, and follows all of them.

use crate::cli::{FailoverArgs, Global, Output};
use crate::client::Session;
use crate::confirm::confirm;
use crate::fail::{Exit, Failure, Result};
use crate::fetch;
use crate::follow::{self, Followed, Key, follow_all};
use crate::interrupt::Interrupts;
use crate::operations::FAILOVER;
use crate::print::{self, Paint, note};
use crate::submit;
use crate::view::failover_lost::{self, Which};
use crate::view::failover_shapes::{Asked, Lost, LostView, State};
use crate::view::steps::Change;
use crate::view::{failover, failover_text};
use jiff::Timestamp;
use multiactive_api::Failover;
use serde::Serialize;
use serde_json::{Value, json};

/// What is printed for scripts.
#[derive(Serialize)]
struct Failovers<'a> {
    /// The lost units.
    lost: &'a [LostView],
}

/// Does it; the exit code is the worst of all of them.
///
/// # Errors
///
/// Where no such unit is there, it is not confirmed, or nothing can be followed.
pub async fn run(global: &Global, args: FailoverArgs) -> Result<Exit> {
    let session = Session::open(global).await?;
    let namespace = (!args.namespaces.all).then_some(session.namespace.as_str());
    let world = fetch::world(&session, namespace).await?;
    for doubt in world.doubts() {
        note(&doubt);
    }
    if let Some(namespace) = namespace.filter(|_| world.has_no_deployment()) {
        return Err(fetch::nothing_here(&session, namespace, "has no deployment of multiactive").await);
    }
    let lost = failover_lost::lost(&world, &which(&args), namespace)?;
    alone(&args, &lost)?;
    let mut views = failover::plan(&world, &lost, &asked(&args), Timestamp::now());
    note(failover_text::plan(&views, Paint::stderr()).trim_end());
    if args.dry_run.is_none() && views.iter().any(|view| view.state == State::Begins) {
        confirm(global, &failover_text::question(&views))?;
    }
    let mut interrupts = Interrupts::listen()?;
    let (created, interrupted) = create(&session, &args, &mut views, &mut interrupts).await;
    if args.dry_run.is_some() || args.no_wait || interrupted.is_some() {
        print_created(global, &args, &created, &views)?;
        return Ok(interrupted.unwrap_or_else(|| worst(views.iter().map(exit_before))));
    }
    if matches!(global.output, Output::Table | Output::Wide) {
        print::out(&lines(&created, "created"))?;
    }
    let interrupted = to_their_ends(global, &session, &mut views, &mut interrupts).await?;
    print::view(global.output, "Failovers", &Failovers { lost: &views }, |paint, _| {
        failover_text::outcomes(&views, paint)
    })?;
    if interrupted.is_some() {
        note(&how_it_goes_on(&views, args.namespaces.all, &session.namespace));
    }
    Ok(interrupted.unwrap_or_else(|| worst(views.iter().map(exit_after))))
}

fn which(args: &FailoverArgs) -> Which {
    match (&args.region, &args.cluster) {
        (Some(region), _) => Which::Region(region.clone()),
        (None, Some(cluster)) => Which::Cluster(cluster.clone()),
        (None, None) => Which::Units(args.units.clone()),
    }
}

fn asked(args: &FailoverArgs) -> Asked {
    Asked {
        to: args.to.clone(),
        max_data_loss: args.max_data_loss.clone(),
        expected_epoch: args.expected_epoch,
        name: args.name.clone(),
    }
}

/// What can be said of one unit only.
fn alone(args: &FailoverArgs, lost: &[Lost]) -> Result<()> {
    let given = [
        ("--to", args.to.is_some()),
        ("--name", args.name.is_some()),
        ("--expected-epoch", args.expected_epoch.is_some()),
    ];
    match given.iter().find(|(_, given)| *given && lost.len() > 1) {
        Some((flag, _)) => {
            let names: Vec<_> = lost
                .iter()
                .map(|lost| format!("{}/{}", lost.namespace, lost.unit))
                .collect();
            Err(Failure::usage(format!(
                "{flag} is for one lost unit, and these are {}: {}",
                names.len(),
                names.join(", ")
            )))
        }
        None => Ok(()),
    }
}

/// Creates what can be created, or only asks the server; each that fails says so in its view.
async fn create(
    session: &Session,
    args: &FailoverArgs,
    views: &mut [LostView],
    interrupts: &mut Interrupts,
) -> (Vec<Failover>, Option<Exit>) {
    let mut created = Vec::new();
    for view in views {
        let Some(object) = view.object.clone() else {
            continue;
        };
        let asked = tokio::select! {
            exit = interrupts.recv() => {
                let (namespace, name) = (&view.namespace, view.failover.as_deref().unwrap_or_default());
                note(&format!("interrupted while it was being created: look with kubectl -n {namespace} get failover {name}"));
                return (created, Some(exit));
            }
            asked = submit::create(session, &object, args.dry_run.is_some()) => asked,
        };
        match asked {
            Ok(object) => created.push(object),
            Err(failure) => {
                note(&format!("error: {failure}"));
                view.error = Some(failure.to_string());
            }
        }
    }
    (created, None)
}

fn lines(created: &[Failover], done: &str) -> String {
    let name = |object: &Failover| {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        format!("{}/{}", text(&object.metadata.namespace), text(&object.metadata.name))
    };
    created
        .iter()
        .map(|object| format!("failover {} {done}\n", name(object)))
        .collect()
}

/// What was created or would be: for scripts the object, or a List of several.
fn print_created(global: &Global, args: &FailoverArgs, created: &[Failover], views: &[LostView]) -> Result<()> {
    let done = match args.dry_run {
        Some(_) => "would be created (server dry run)",
        None => "created",
    };
    let objects = created.iter().map(submit::as_sent).collect::<Result<Vec<Value>>>()?;
    let value = match <[Value; 1]>::try_from(objects) {
        Ok([object]) if views.len() == 1 => object,
        Ok([object]) => json!({"apiVersion": "v1", "kind": "List", "items": [object]}),
        Err(objects) => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
    };
    match global.output {
        Output::Json => {
            let text = serde_json::to_string_pretty(&value).map_err(Failure::error)?;
            print::out(&format!("{text}\n"))
        }
        Output::Yaml => print::out(&serde_yaml::to_string(&value).map_err(Failure::error)?),
        Output::Table | Output::Wide => print::out(&lines(created, done)),
    }
}

/// Follows those that were created and those that ran before, each to its end; the exit code of a signal that ended it.
async fn to_their_ends(
    global: &Global,
    session: &Session,
    views: &mut [LostView],
    interrupts: &mut Interrupts,
) -> Result<Option<Exit>> {
    let people = matches!(global.output, Output::Table | Output::Wide);
    let mut followed: Vec<&mut LostView> = views.iter_mut().filter(|view| is_followed(view)).collect();
    let keys: Vec<Key> = followed
        .iter()
        .map(|view| (view.namespace.clone(), view.failover.clone().unwrap_or_default()))
        .collect();
    if keys.is_empty() {
        return Ok(None);
    }
    let many = keys.len() > 1;
    let tell = |change: &Change| match people {
        true => print::out(&follow::line(change, Paint::stdout(), many)),
        false => {
            note(follow::line(change, Paint::OFF, many).trim_end());
            Ok(())
        }
    };
    let ends = follow_all(session, FAILOVER, keys, interrupts, tell).await?;
    let mut interrupted = None;
    for (view, end) in followed.iter_mut().zip(ends) {
        let operation = match end {
            Followed::Ended(operation) => Some(operation),
            Followed::Deleted => {
                view.error = Some("its Failover was deleted: before the commit that aborts it".to_owned());
                None
            }
            Followed::Unreadable(failure) => {
                view.error = Some(failure.to_string());
                None
            }
            Followed::Interrupted(exit, operation) => {
                interrupted = Some(exit);
                operation
            }
        };
        view.operation = operation.map(|operation| operation.view(Timestamp::now()));
    }
    Ok(interrupted)
}

fn is_followed(view: &LostView) -> bool {
    match view.state {
        State::Begins | State::Runs => view.error.is_none(),
        State::OwnsNothing | State::Refused => false,
    }
}

fn how_it_goes_on(views: &[LostView], all: bool, namespace: &str) -> String {
    let scope = if all {
        "-A".to_owned()
    } else {
        format!("-n {namespace}")
    };
    let run = views
        .iter()
        .filter(|view| view.operation.as_ref().is_none_or(|known| known.outcome.is_none()));
    let aborts = run.filter(|view| is_followed(view)).map(|view| {
        let name = view.failover.as_deref().unwrap_or_default();
        format!(
            "\n  abort it: kubectl multiactive decide failover/{name} Abort --reason '...' -n {}",
            view.namespace
        )
    });
    format!(
        "\nNo longer followed: what runs goes on.\n  see it:   kubectl multiactive watch {scope}{}",
        aborts.collect::<String>()
    )
}

/// Where nothing is followed.
fn exit_before(view: &LostView) -> Exit {
    match view.state {
        _ if view.error.is_some() => Exit::Error,
        State::Begins | State::Runs | State::OwnsNothing => Exit::Ok,
        State::Refused => Exit::Unhealthy,
    }
}

/// Where each was followed to its end.
fn exit_after(view: &LostView) -> Exit {
    match (exit_before(view), &view.operation) {
        (Exit::Ok, Some(operation)) => follow::exit(operation.outcome.as_deref()),
        (exit, _) => exit,
    }
}

/// The worst: what was not asked for is worse than what ended badly, and that worse than what could not begin.
fn worst(exits: impl Iterator<Item = Exit>) -> Exit {
    let rank = |exit: &Exit| match exit {
        Exit::Ok => 0,
        Exit::Unhealthy => 1,
        Exit::EndedBadly | Exit::RowsDiffer => 2,
        Exit::NotFound => 3,
        Exit::Usage => 4,
        Exit::Error => 5,
        Exit::Signal(_) => 6,
    };
    exits.max_by_key(rank).unwrap_or(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_exit_counts() {
        for (exits, want) in [
            (&[][..], Exit::Ok),
            (&[Exit::Ok, Exit::Unhealthy, Exit::Ok], Exit::Unhealthy),
            (&[Exit::EndedBadly, Exit::Unhealthy], Exit::EndedBadly),
            (&[Exit::Error, Exit::EndedBadly], Exit::Error),
        ] {
            assert_eq!(worst(exits.iter().copied()), want, "{exits:?}");
        }
    }
}
