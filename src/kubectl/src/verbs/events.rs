//! `events`: what happened, in order.

use crate::cli::{EventsArgs, Global};
use crate::client::Session;
use crate::fail::{Exit, Failure, Result};
use crate::fetch;
use crate::print::{self, Cell, Paint, Tone};
use crate::view::event::{self, EventView, Wanted};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kube::core::ApiResource;
use serde::Serialize;

/// Events of objects without a namespace are there.
const OF_THE_CLUSTER: &str = "default";

#[derive(Serialize)]
struct List {
    events: Vec<EventView>,
}

/// Shows them.
///
/// # Errors
///
/// Where they cannot be read.
pub async fn run(global: &Global, args: EventsArgs) -> Result<Exit> {
    let about = args.about.as_deref().map(|about| {
        let parts = about
            .split_once('/')
            .map(|(kind, name)| (kind.to_owned(), name.to_owned()));
        parts.ok_or_else(|| {
            Failure::usage(format!(
                "--for {about}: write KIND/NAME, such as promotion/users-1-to-south"
            ))
        })
    });
    let wanted = Wanted {
        about: about.transpose()?,
        since: args.since.and_then(|since| SignedDuration::try_from(since).ok()),
    };
    let session = Session::open(global).await?;
    let found = read(&session, (!args.namespaces.all).then_some(session.namespace.as_str())).await?;
    let view = List {
        events: event::events(&found, &wanted, Timestamp::now()),
    };
    if view.events.is_empty() {
        print::note("no events: API servers keep them for an hour, unless told otherwise");
    }
    print::view(global.output, "EventList", &view, |paint, wide| {
        text(&view.events, paint, wide || args.namespaces.all)
    })?;
    Ok(Exit::Ok)
}

/// The events of a namespace and those of objects without one, or all.
///
/// # Errors
///
/// Where they may not be read.
pub async fn read(session: &Session, namespace: Option<&str>) -> Result<Vec<Event>> {
    let resource = ApiResource::erase::<Event>(&());
    let mut objects = fetch::dynamic(session, &resource, namespace).await?;
    if namespace.is_some_and(|namespace| namespace != OF_THE_CLUSTER) {
        // Who may read only a namespace of its own is told of that.
        match fetch::dynamic(session, &resource, Some(OF_THE_CLUSTER)).await {
            Ok(more) => {
                let of_none = more
                    .into_iter()
                    .filter(|event| event.data.pointer("/regarding/namespace").is_none());
                objects.extend(of_none);
            }
            Err(Failure::Forbidden(_)) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(fetch::sort(objects, &mut Vec::new()))
}

fn text(events: &[EventView], paint: Paint, with_namespace: bool) -> String {
    if events.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = events
        .iter()
        .map(|event| {
            let tone = if event.type_ == "Warning" {
                Tone::Bad
            } else {
                Tone::Plain
            };
            let times = if event.count > 1 {
                format!(" (x{})", event.count)
            } else {
                String::new()
            };
            let note = event.note.replace('\n', " ");
            let mut row = vec![
                event.age.clone().into(),
                Cell::of(tone, event.type_.clone()),
                Cell::of(tone, event.reason.clone()),
                format!("{}/{}", event.kind.to_lowercase(), event.name).into(),
                format!("{note}{times}").into(),
            ];
            if with_namespace {
                row.insert(0, event.namespace.clone().unwrap_or_default().into());
            }
            row
        })
        .collect();
    let mut header = vec!["AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"];
    if with_namespace {
        header.insert(0, "NAMESPACE");
    }
    print::columns(paint, &header, &rows)
}
