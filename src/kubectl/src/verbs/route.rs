//! `route`: who serves a key.

use crate::cli::{Global, RouteArgs};
use crate::client::Session;
use crate::fail::{Exit, Failure, Result};
use crate::fetch;
use crate::print::{self, Paint, Tone};
use crate::view::route::{self, RouteView};
use multiactive_api::{Keyspace, ShardRange};
use multiactive_core::table::RoutingTable;

/// Shows it.
///
/// # Errors
///
/// Where the keyspace or the table is not there or cannot be read.
pub async fn run(global: &Global, args: RouteArgs) -> Result<Exit> {
    let session = Session::open(global).await?;
    let namespace = &session.namespace;
    let keyspaces = fetch::objects::<Keyspace>(&session, Some(namespace)).await?;
    let mut unreadable = Vec::new();
    let keyspaces = fetch::sort(keyspaces, &mut unreadable);
    let stored = fetch::table(&session, namespace).await?;
    let keyspace = route::choose(&keyspaces, args.keyspace.as_deref(), namespace)?;
    let table = read(namespace, &stored)?;
    let ranges = fetch::sort(
        fetch::objects::<ShardRange>(&session, Some(namespace)).await?,
        &mut unreadable,
    );
    let view = route::route(namespace, keyspace, &ranges, &table, &args.key)?;
    print::view(global.output, "Route", &view, |paint, _| text(&view, paint))?;
    Ok(Exit::Ok)
}

/// The table in the core's terms.
///
/// # Errors
///
/// Where it cannot be read, with the field.
pub fn read(namespace: &str, stored: &multiactive_api::RoutingTable) -> Result<RoutingTable> {
    RoutingTable::try_from(&stored.spec).map_err(|error| {
        Failure::error(format!(
            "RoutingTable {namespace}/{} cannot be read: {error}. Is this program older than the operator? Compare `kubectl \
             multiactive version`",
            multiactive_api::ROUTING_TABLE
        ))
    })
}

fn text(view: &RouteView, paint: Paint) -> String {
    let owner = view.owner.clone().unwrap_or_else(|| "nobody".to_owned());
    let rule = match view.rule {
        "Override" => "an override".to_owned(),
        _ => view.definition.clone(),
    };
    let mut lines = vec![
        ("Key", view.key.clone()),
        ("Slot", format!("{} of {}, by {rule}", view.slot, view.keyspace)),
        (
            "Owner",
            format!(
                "{}, {} since epoch {}",
                paint.tone(Tone::Bold, &owner),
                view.state,
                view.epoch
            ),
        ),
    ];
    if let Some(router) = &view.router {
        lines.push(("Router", router.clone()));
    }
    if let (Some(range), Some(home)) = (&view.range, &view.home) {
        let away = match view.owner.as_ref() {
            Some(owner) if owner != home => paint.tone(Tone::Warn, " (away)"),
            Some(_) | None => String::new(),
        };
        lines.push(("Range", format!("{range}, home {home}{away}")));
    }
    if let Some(operation) = &view.operation {
        lines.push(("Moving", paint.tone(Tone::Warn, operation)));
    }
    lines.push(("Table", view.table.clone()));
    lines
        .iter()
        .map(|(name, value)| format!("{:<9}{value}\n", format!("{name}:")))
        .collect()
}
