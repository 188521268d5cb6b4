//! ReplicationLinks: made from the DataStores, one for each ordered pair of members, with what the receiving agent says.

use crate::Context;
use crate::apply::{apply, delete};
use crate::conditions::{Readiness, set_readiness};
use crate::error::Error;
use crate::status::is_paused;
use crate::tables::View;
use jiff::{SignedDuration, Timestamp};
use kube::{Api, Resource, ResourceExt};
use multiactive_api::convert::format_duration;
use multiactive_api::{DataStore, LinkState, ReplicationLink, ReplicationLinkSpec, ReplicationLinkStatus};
use multiactive_core::ids::UnitName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The links that a store asks for, by name.
pub fn wanted(store: &DataStore) -> BTreeMap<String, ReplicationLinkSpec> {
    let name = store.name_any();
    let units: Vec<_> = store.spec.members.iter().map(|member| &member.unit).collect();
    let pairs = units.iter().flat_map(|from| units.iter().map(move |to| (*from, *to)));
    pairs
        .filter(|(from, to)| from != to)
        .map(|(from, to)| {
            let spec = ReplicationLinkSpec {
                store: name.clone(),
                from: from.clone(),
                to: to.clone(),
            };
            (format!("{name}-{from}-{to}"), spec)
        })
        .collect()
}

/// Makes the links that are missing or altered, deletes ours that no store asks for; whether all of it succeeded.
pub async fn keep(ctx: &Context, existing: Vec<Arc<ReplicationLink>>, view: &View) -> bool {
    let api: Api<ReplicationLink> = Api::namespaced(ctx.client.clone(), &view.inputs.namespace);
    let mut all = BTreeMap::new();
    for store in &view.inputs.stores {
        all.extend(wanted(store).into_iter().map(|(name, spec)| (name, (spec, store))));
    }
    let mut complete = true;
    for (name, (spec, store)) in &all {
        let held = existing.iter().find(|link| link.name_any() == *name);
        let same = held.is_some_and(|link| link.spec == *spec);
        if same || is_paused(&***store) || store.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let mut link = ReplicationLink::new(name, spec.clone());
        link.metadata.owner_references = store.controller_owner_ref(&()).map(|owner| vec![owner]);
        let result = apply(&api, &link).await.map(|_| ());
        ctx.metrics.wrote("ReplicationLink");
        complete &= done(result, name);
    }
    for link in existing {
        let name = link.name_any();
        let store = view
            .inputs
            .stores
            .iter()
            .find(|store| store.name_any() == link.spec.store);
        // Only where its store says otherwise: a store that is gone takes its links with it by itself.
        let surplus = store.is_some_and(|store| !all.contains_key(&name) && owns(store, &link));
        if surplus && !view.terminating && link.metadata.deletion_timestamp.is_none() {
            complete &= done(delete(&api, &link).await, &name);
            ctx.metrics.wrote("ReplicationLink");
        }
    }
    complete
}

fn owns(store: &DataStore, link: &ReplicationLink) -> bool {
    let uid = store.uid().unwrap_or_default();
    link.owner_references().iter().any(|owner| owner.uid == uid)
}

fn done(result: Result<(), Error>, name: &str) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if error.status().is_some_and(|s| s.is_not_found() || s.is_conflict()) => true,
        Err(error) => {
            tracing::warn!(name, error = error.chain(), "the ReplicationLink was not written");
            false
        }
    }
}

/// The status that the view asks for.
pub fn status(link: &ReplicationLink, view: &View, now: Timestamp) -> ReplicationLinkStatus {
    let mut status = link.status.clone().unwrap_or_default();
    let to = UnitName(link.spec.to.clone());
    let report = view.inputs.reports.get(&to).and_then(|report| report.status.as_ref());
    let known = report.and_then(|report| {
        let mut links = report.links.iter();
        links.find(|known| known.store == link.spec.store && known.from == link.spec.from)
    });
    let known = known.filter(|_| view.inputs.reachable.contains(&to));
    let message = known.and_then(|known| known.message.clone());
    let lag = known.and_then(|known| known.lag_ms);
    status.lag = lag.map(|millis| format_duration(SignedDuration::from_millis(millis)));
    let (state, readiness) = match known.map(|known| known.state) {
        None => (
            "Unknown",
            Readiness::Reconciling {
                reason: "Unknown",
                message: format!("the agent of {to} does not report it"),
            },
        ),
        Some(LinkState::Running) => (
            "Running",
            Readiness::Ready {
                reason: "Running",
                message: "it streams".to_owned(),
            },
        ),
        Some(LinkState::Starting) => (
            "Starting",
            Readiness::Reconciling {
                reason: "Starting",
                message: message.unwrap_or_else(|| "it is being made".to_owned()),
            },
        ),
        Some(LinkState::Broken) => (
            "Broken",
            Readiness::Stalled {
                reason: "Broken",
                message: message.unwrap_or_else(|| "it does not stream".to_owned()),
            },
        ),
        Some(LinkState::Cut) => (
            "Cut",
            Readiness::Stalled {
                reason: "Cut",
                message: message.unwrap_or_else(|| format!("{} was lost and has not rejoined", link.spec.from)),
            },
        ),
        Some(LinkState::Quarantined) => (
            "Quarantined",
            Readiness::Stalled {
                reason: "Quarantined",
                message: message.unwrap_or_else(|| format!("{to} was lost and has not rejoined")),
            },
        ),
    };
    status.state = Some(state.to_owned());
    status.observed_generation = link.metadata.generation;
    set_readiness(&mut status.conditions, &readiness, link.metadata.generation, now);
    status
}
