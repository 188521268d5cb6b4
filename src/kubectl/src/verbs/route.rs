//! `route`: who serves a key.

use crate::cli::{Global, RouteArgs};
use crate::client::Session;
use crate::fail::{Exit, Failure, Result};
use crate::fetch;
use crate::print::{self, Paint, Tone};
use crate::view::route::{self, RouteView};
use kube::ResourceExt;
use multiactive_api::{DataStore, Keyspace, ShardRange};
use multiactive_core::table::RoutingTable;

/// Shows it.
///
/// # Errors
///
/// Where the keyspace or the table is not there or cannot be read.
pub async fn run(global: &Global, args: RouteArgs) -> Result<Exit> {
    let session = Session::open(global).await?;
    let namespace = &session.namespace;
    let stored = fetch::table(&session, namespace).await?;
    let table = read(namespace, &stored)?;
    let view = match (&args.store, &args.key) {
        (Some(store), _) => of_store(&session, store, &table).await?,
        (None, key) => {
            of_key(
                &session,
                key.as_deref().unwrap_or_default(),
                args.keyspace.as_deref(),
                &table,
            )
            .await?
        }
    };
    print::view(global.output, "Route", &view, |paint, _| text(&view, paint))?;
    Ok(Exit::Ok)
}

async fn of_key(session: &Session, key: &str, keyspace: Option<&str>, table: &RoutingTable) -> Result<RouteView> {
    let namespace = &session.namespace;
    let mut unreadable = Vec::new();
    let keyspaces = fetch::objects::<Keyspace>(session, Some(namespace)).await?;
    let keyspaces = fetch::sort(keyspaces, &mut unreadable);
    let keyspace = route::choose(&keyspaces, keyspace, namespace)?;
    let ranges = fetch::objects::<ShardRange>(session, Some(namespace)).await?;
    route::route(namespace, keyspace, &fetch::sort(ranges, &mut unreadable), table, key)
}

async fn of_store(session: &Session, name: &str, table: &RoutingTable) -> Result<RouteView> {
    let namespace = &session.namespace;
    let stores = fetch::objects::<DataStore>(session, Some(namespace)).await?;
    let stores: Vec<DataStore> = fetch::sort(stores, &mut Vec::new());
    let store = stores.iter().find(|store| store.name_any() == name).ok_or_else(|| {
        let known: Vec<_> = stores.iter().map(ResourceExt::name_any).collect();
        Failure::not_found(format!(
            "there is no DataStore {namespace}/{name}; there are: {}",
            known.join(", ")
        ))
    })?;
    route::writer(namespace, store, table)
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
    let owned = format!(
        "{}, {} since epoch {}",
        paint.tone(Tone::Bold, &owner),
        view.state,
        view.epoch
    );
    let rule = match view.rule {
        "Override" => "an override".to_owned(),
        _ => view.definition.clone(),
    };
    let mut lines = match &view.key {
        Some(key) => vec![
            ("Key", key.clone()),
            ("Slot", format!("{} of {}, by {rule}", view.slot, view.keyspace)),
            ("Owner", owned),
        ],
        None => vec![("Writer", owned)],
    };
    if let Some(router) = &view.router {
        lines.push(("Router", router.clone()));
    }
    if let Some(home) = &view.home {
        let away = match view.owner.as_ref() {
            Some(owner) if owner != home => paint.tone(Tone::Warn, " (away)"),
            Some(_) | None => String::new(),
        };
        lines.push(match &view.range {
            Some(range) => ("Range", format!("{range}, home {home}{away}")),
            None => ("Home", format!("{home}{away}")),
        });
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
