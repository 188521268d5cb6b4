//! What Keyspaces and stores with a single writer say of their routes: those that somebody else has, and those that lead to
//! no backend. Pure.

use crate::tables::{Claim, View, canonical, lost};
use kube::ResourceExt;
use multiactive_api::{Route, Unit};
use multiactive_core::ids::KeyspaceName;
use std::collections::BTreeMap;

/// The first route that does not go where it says. `name` is the keyspace's, or that of a store's writer; `field` holds the
/// routes.
pub fn bad_route(name: &str, field: &str, routes: &[Route], view: &View) -> Option<(&'static str, String)> {
    let lost = lost_routes(view);
    let keyspace = KeyspaceName::from(name);
    let members = keyspace.writer_of().map(|_| view.inputs.members_of(&keyspace));
    for (index, route) in routes.iter().enumerate() {
        let (field, prefix) = (format!("{field}[{index}]"), &route.path_prefix);
        if let Some(owner) = lost.get(&(name.to_owned(), index)) {
            let message = match *owner == name {
                true => format!("{field}.pathPrefix: {prefix} is declared twice; the first one counts"),
                false => format!(
                    "{field}.pathPrefix: {prefix} belongs to {}, which was created first and keeps it; choose another \
                     prefix, or take it away there",
                    claimant(owner)
                ),
            };
            return Some(("RouteTaken", message));
        }
        let lacks = |unit: &&Unit| !unit.spec.backends.iter().any(|backend| backend.name == route.backend);
        let units = view.inputs.units.iter().map(|unit| &**unit);
        let units = units.filter(|unit| unit.metadata.deletion_timestamp.is_none());
        // Of a store with a single writer, units without a member send all requests on.
        let units = units.filter(|unit| {
            members
                .as_ref()
                .is_none_or(|members| members.contains(&unit.name_any().into()))
        });
        let without: Vec<_> = units.filter(lacks).map(|unit| unit.name_any()).collect();
        if !without.is_empty() {
            let (backend, units) = (&route.backend, without.join(", "));
            let owned = match keyspace.writer_of() {
                Some(_) => "that come to these units, or that they own,",
                None => "whose slots they own",
            };
            let message = format!(
                "{field}.backend: there is no backend {backend} in {units}: requests for {prefix} {owned} are answered with \
                 502; add it to spec.backends of the Unit, or correct the name"
            );
            return Some(("NoBackend", message));
        }
    }
    None
}

/// Who else declares a prefix of this one and does not get it, for people: the end of a sentence, empty where nobody does.
pub fn taken(name: &str, view: &View) -> String {
    let lost = lost_routes(view).into_iter();
    let mine = lost.filter(|((rival, _), owner)| *owner == name && *rival != name);
    let claims = claims(view);
    let prefix = |rival: &str, index: usize| {
        let claim = claims.iter().find(|claim| claim.name == rival)?;
        Some(canonical(&claim.routes.get(index)?.path_prefix).to_owned())
    };
    let texts = mine.filter_map(|((rival, index), _)| {
        let prefix = prefix(&rival, index)?;
        Some(format!(
            "; {} declares {prefix} too and does not get it",
            claimant(&rival)
        ))
    });
    texts.collect()
}

fn claimant(name: &str) -> String {
    match KeyspaceName::from(name).writer_of() {
        Some(store) => format!("DataStore {store}"),
        None => format!("Keyspace {name}"),
    }
}

/// The routes of the namespace that another one has.
fn lost_routes(view: &View) -> BTreeMap<(String, usize), String> {
    let claims = claims(view);
    let claims = claims.iter().map(|claim| Claim {
        created: claim.created,
        name: &claim.name,
        routes: claim.routes,
    });
    lost(&claims.collect::<Vec<_>>())
}

/// As [`Claim`], with a name of its own.
struct Named<'a> {
    created: Option<jiff::Timestamp>,
    name: String,
    routes: &'a [Route],
}

fn claims(view: &View) -> Vec<Named<'_>> {
    let known = view.inputs.keyspaces.iter().filter(|keyspace| {
        let usable = matches!(view.inputs.checked.get(&keyspace.name_any()), Some(Ok(_)));
        usable || view.inputs.published.contains_key(&keyspace.name_any())
    });
    let keyspaces = known.map(|keyspace| Named {
        created: keyspace.creation_timestamp().map(|time| time.0),
        name: keyspace.name_any(),
        routes: &keyspace.spec.routes,
    });
    let writers = view.inputs.stores.iter().filter_map(|store| {
        Some(Named {
            created: store.creation_timestamp().map(|time| time.0),
            name: store.keyspace_name().to_string(),
            routes: &store.spec.single_writer.as_ref()?.routes,
        })
    });
    keyspaces.chain(writers).collect()
}
