//! Following an operation to its end by a watch of its object: each step is told once, with its time.

use crate::client::{Session, chain};
use crate::fail::{Exit, Failure, Result};
use crate::interrupt::Interrupts;
use crate::operations::{Kind, Operation};
use crate::print::{Paint, Tone, note};
use crate::view::steps::{self, Change};
use futures::StreamExt;
use jiff::Timestamp;
use kube::Api;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};

/// How following ended.
#[derive(Debug)]
pub enum Followed {
    /// The operation ended.
    Ended(Box<Operation>),
    /// Its object was deleted.
    Deleted,
    /// The user does not wait any longer.
    Interrupted(Exit),
}

/// Follows an operation; each change is given to `tell`.
///
/// # Errors
///
/// Where it may not be watched, or `tell` fails.
pub async fn follow(
    session: &Session,
    kind: Kind,
    name: &str,
    interrupts: &mut Interrupts,
    mut tell: impl FnMut(&Change) -> Result<()>,
) -> Result<Followed> {
    let api: Api<DynamicObject> = Api::namespaced_with(session.watches.clone(), &session.namespace, &kind.resource());
    let config = watcher::Config::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(multiactive_runtime::watch::SECONDS);
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut last: Option<Operation> = None;
    let (mut listed, mut troubled) = (false, false);
    loop {
        let event = tokio::select! {
            biased;
            exit = interrupts.recv() => return Ok(Followed::Interrupted(exit)),
            event = events.next() => event,
        };
        let object = match event {
            Some(Ok(Event::Init)) => {
                listed = false;
                continue;
            }
            Some(Ok(Event::InitApply(object) | Event::Apply(object))) => object,
            // Listed anew and not there: it was deleted while the watch was broken.
            Some(Ok(Event::InitDone)) if listed => continue,
            Some(Ok(Event::InitDone | Event::Delete(_))) => return Ok(Followed::Deleted),
            Some(Err(error)) => {
                forbidden(session, kind, &error)?;
                if !troubled {
                    note(&format!("lost sight of it, looking again: {}", chain(&error)));
                }
                troubled = true;
                continue;
            }
            None => return Err(Failure::error("the watch ended")),
        };
        (listed, troubled) = (true, false);
        let operation = Operation::read(kind, object).map_err(|error| {
            Failure::error(format!(
                "{} {}/{name} cannot be read: {error}",
                kind.name, session.namespace
            ))
        })?;
        for change in steps::operation(last.as_ref(), &operation, Timestamp::now()) {
            tell(&change)?;
        }
        if !operation.runs() {
            return Ok(Followed::Ended(Box::new(operation)));
        }
        last = Some(operation);
    }
}

/// Missing rights do not come back by waiting.
fn forbidden(session: &Session, kind: Kind, error: &watcher::Error) -> Result<()> {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return Ok(());
    };
    match session.explain(&format!("watching {}", kind.plural), error) {
        Failure::Forbidden(why) => Err(Failure::Forbidden(why)),
        Failure::Said { .. } | Failure::Closed => Ok(()),
    }
}

/// A change as a line: the time of day, and what happened.
pub fn line(change: &Change, paint: Paint, with_object: bool) -> String {
    let at = change
        .at
        .parse::<Timestamp>()
        .map(|at| at.strftime("%H:%M:%S%.3f").to_string());
    let at = at.unwrap_or_else(|_| change.at.clone());
    let object = if with_object {
        format!("{}: ", change.object)
    } else {
        String::new()
    };
    let text = paint.tone(change.tone, &change.text);
    format!("{}  {object}{text}\n", paint.tone(Tone::Faint, &at))
}

/// The exit code of an outcome.
pub fn exit(outcome: Option<&str>) -> Exit {
    match outcome {
        Some("Succeeded") => Exit::Ok,
        Some(_) | None => Exit::EndedBadly,
    }
}
