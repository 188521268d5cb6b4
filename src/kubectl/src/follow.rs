//! Following operations to their end by one watch of their kind: each step is told once, with its time.

use crate::client::{Session, chain};
use crate::fail::{Exit, Failure, Result};
use crate::interrupt::Interrupts;
use crate::operations::{Kind, Operation};
use crate::print::{Paint, Tone, note};
use crate::view::steps::{self, Change};
use futures::StreamExt;
use jiff::Timestamp;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};

/// Namespace and name.
pub type Key = (String, String);

/// How following ended.
#[derive(Debug)]
pub enum Followed {
    /// The operation ended.
    Ended(Box<Operation>),
    /// Its object was deleted.
    Deleted,
    /// Its object cannot be read, and why.
    Unreadable(Failure),
    /// The user does not wait any longer: the exit code, and where it stood.
    Interrupted(Exit, Option<Box<Operation>>),
}

/// One of those that are followed.
struct Seen {
    key: Key,
    listed: bool,
    last: Option<Operation>,
    end: Option<Followed>,
}

/// Follows an operation of the session's namespace; each change is given to `tell`.
///
/// # Errors
///
/// Where it may not be watched or cannot be read, or `tell` fails.
pub async fn follow(
    session: &Session,
    kind: Kind,
    name: &str,
    interrupts: &mut Interrupts,
    tell: impl FnMut(&Change) -> Result<()>,
) -> Result<Followed> {
    let key = (session.namespace.clone(), name.to_owned());
    let followed = follow_all(session, kind, vec![key], interrupts, tell).await?;
    match followed.into_iter().next() {
        Some(Followed::Unreadable(failure)) => Err(failure),
        Some(followed) => Ok(followed),
        None => Err(Failure::error("nothing was followed")),
    }
}

/// Follows several, each to its own end; the answers are in their order.
///
/// # Errors
///
/// Where they may not be watched, or `tell` fails.
pub async fn follow_all(
    session: &Session,
    kind: Kind,
    wanted: Vec<Key>,
    interrupts: &mut Interrupts,
    mut tell: impl FnMut(&Change) -> Result<()>,
) -> Result<Vec<Followed>> {
    let mut events = watcher(api(session, kind, &wanted), config(&wanted))
        .default_backoff()
        .boxed();
    let mut all: Vec<Seen> = wanted.into_iter().map(Seen::of).collect();
    let mut troubled = false;
    while all.iter().any(Seen::goes_on) {
        let event = tokio::select! {
            biased;
            exit = interrupts.recv() => {
                all.iter_mut().filter(|seen| seen.goes_on()).for_each(|seen| seen.interrupt(exit));
                break;
            }
            event = events.next() => event,
        };
        match event {
            Some(Ok(Event::Init)) => all.iter_mut().for_each(|seen| seen.listed = false),
            Some(Ok(Event::InitApply(object) | Event::Apply(object))) => {
                troubled = false;
                if let Some(seen) = find(&mut all, &object) {
                    seen.take(kind, object, &mut tell)?;
                }
            }
            // Listed anew and not there: it was deleted while the watch was broken.
            Some(Ok(Event::InitDone)) => {
                let gone = all.iter_mut().filter(|seen| seen.goes_on() && !seen.listed);
                gone.for_each(|seen| seen.end = Some(Followed::Deleted));
            }
            Some(Ok(Event::Delete(object))) => {
                if let Some(seen) = find(&mut all, &object) {
                    seen.end = Some(Followed::Deleted);
                }
            }
            Some(Err(error)) => {
                forbidden(session, kind, &error)?;
                if !troubled {
                    note(&format!("lost sight of it, looking again: {}", chain(&error)));
                }
                troubled = true;
            }
            None => return Err(Failure::error("the watch ended")),
        }
    }
    Ok(all.into_iter().filter_map(|seen| seen.end).collect())
}

/// The narrowest place that holds them all.
fn api(session: &Session, kind: Kind, wanted: &[Key]) -> Api<DynamicObject> {
    let (client, resource) = (session.watches.clone(), kind.resource());
    match wanted.split_first() {
        Some(((namespace, _), rest)) if rest.iter().all(|(other, _)| other == namespace) => {
            Api::namespaced_with(client, namespace, &resource)
        }
        Some(_) | None => Api::all_with(client, &resource),
    }
}

fn config(wanted: &[Key]) -> watcher::Config {
    let config = watcher::Config::default().timeout(multiactive_runtime::watch::SECONDS);
    match wanted {
        [(_, name)] => config.fields(&format!("metadata.name={name}")),
        _ => config,
    }
}

/// The one that goes on and has this object.
fn find<'a>(all: &'a mut [Seen], object: &DynamicObject) -> Option<&'a mut Seen> {
    let key = (object.namespace().unwrap_or_default(), object.name_any());
    all.iter_mut().find(|seen| seen.goes_on() && seen.key == key)
}

impl Seen {
    fn of(key: Key) -> Self {
        Self {
            key,
            listed: false,
            last: None,
            end: None,
        }
    }

    fn goes_on(&self) -> bool {
        self.end.is_none()
    }

    fn interrupt(&mut self, exit: Exit) {
        self.end = Some(Followed::Interrupted(exit, self.last.take().map(Box::new)));
    }

    fn take(&mut self, kind: Kind, object: DynamicObject, tell: &mut impl FnMut(&Change) -> Result<()>) -> Result<()> {
        self.listed = true;
        let operation = match Operation::read(kind, object) {
            Ok(operation) => operation,
            Err(error) => {
                let (namespace, name) = &self.key;
                let why = format!("{} {namespace}/{name} cannot be read: {error}", kind.name);
                self.end = Some(Followed::Unreadable(Failure::error(why)));
                return Ok(());
            }
        };
        for change in steps::operation(self.last.as_ref(), &operation, Timestamp::now()) {
            tell(&change)?;
        }
        match operation.runs() {
            true => self.last = Some(operation),
            false => self.end = Some(Followed::Ended(Box::new(operation))),
        }
        Ok(())
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
