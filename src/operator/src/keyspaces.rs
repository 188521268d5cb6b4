//! What a Keyspace's status says: whether it is published as declared, and if not, the exact slots and objects (pure);
//! and the finalizer that holds one whose slots have owners.

use crate::Context;
use crate::conditions::{Readiness, set_readiness};
use crate::finalizers;
use crate::route_claims;
use crate::served::{self, Unserved};
use crate::shard_ranges::spans;
use crate::status::GIVE_UP;
use crate::tables::View;
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use multiactive_api::{Keyspace, KeyspaceStatus};
use multiactive_core::ids::KeyspaceName;
use multiactive_core::ids::UnitName;
use multiactive_core::ownership;
use multiactive_core::slots::SlotSet;
use multiactive_core::span::SpanState;
use multiactive_core::table::{KeyspaceTable, RoutingTable};

/// Holds a Keyspace while its slots have owners. Without it no slot gets one.
pub const KEYSPACE_FINALIZER: &str = "multiactive.io/keyspace";

/// How many problems a message lists before it counts the rest.
const SHOWN: usize = 10;

/// The status that the view asks for.
pub fn status(keyspace: &Keyspace, view: &View, unserved: &Unserved, now: Timestamp) -> KeyspaceStatus {
    let mut status = keyspace.status.clone().unwrap_or_default();
    let name = keyspace.name_any().into();
    let table = view.table.as_deref().and_then(|table| table.keyspace(&name));
    let newest = table.and_then(|table| table.spans.iter().map(|span| span.epoch).max());
    let newest = newest.filter(|epoch| *epoch > multiactive_core::epoch::Epoch::NEVER);
    if let Some(epoch) = newest.or(view
        .table
        .as_deref()
        .filter(|_| table.is_some())
        .map(|table| table.epoch))
    {
        // Before the first owner there is no epoch of a span; that there is a table is remembered all the same.
        if newest.is_some() || status.epoch.is_none() {
            status.epoch = Some(epoch.to_string());
        }
    }
    status.observed_generation = keyspace.metadata.generation;
    let readiness = readiness(keyspace, table, view, unserved);
    set_readiness(&mut status.conditions, &readiness, keyspace.metadata.generation, now);
    status
}

fn readiness(keyspace: &Keyspace, table: Option<&KeyspaceTable>, view: &View, unserved: &Unserved) -> Readiness {
    let name = keyspace.name_any();
    if let Some(problem) = &view.record_problem {
        let (reason, message) = (problem.reason, problem.message.clone());
        return match reason {
            "RecordUnreachable" => Readiness::Reconciling { reason, message },
            _ => Readiness::Stalled { reason, message },
        };
    }
    if let Some(problem) = view.problems.iter().find(|problem| problem.keyspace().as_str() == name) {
        return Readiness::Stalled {
            reason: problem.reason(),
            message: problem.to_string(),
        };
    }
    if keyspace.metadata.deletion_timestamp.is_some() {
        return leaving(keyspace, view);
    }
    if let Some(Err(error)) = view.inputs.checked.get(&name) {
        let instead = match table {
            Some(_) => "the last good one stays published",
            None => "it is not published",
        };
        return Readiness::Stalled {
            reason: "NotUsable",
            message: format!("{error}; {instead}"),
        };
    }
    if let Err(problems) = &*view.inputs.homes(keyspace) {
        let mut texts: Vec<_> = problems.iter().take(SHOWN).map(ToString::to_string).collect();
        if problems.len() > SHOWN {
            texts.push(format!("and {} more problems", problems.len() - SHOWN));
        }
        return Readiness::Stalled {
            reason: problems.first().map_or("RangesInvalid", |problem| problem.reason()),
            message: format!("{}; the last good table stays", texts.join("; ")),
        };
    }
    let mut stores = view.inputs.stores.iter();
    if let Some(lost) = stores.find(|store| store.uid().is_none() && store.keyspace_name().as_str() == name) {
        let lost = lost.name_any();
        return Readiness::Stalled {
            reason: "StoreMissing",
            message: format!(
                "there is no DataStore {lost} any more, or it cannot be read, but slots are owned and it fences them: it stays \
                 in force as the units hold it; apply it again"
            ),
        };
    }
    let Some(table) = table else {
        return Readiness::Reconciling {
            reason: "NotPublished",
            message: "it is not in the routing table yet".to_owned(),
        };
    };
    if let Some((reason, message)) = route_claims::bad_route(&name, "spec.routes", &keyspace.spec.routes, view) {
        return Readiness::Stalled { reason, message };
    }
    let unowned = table.slots_where(|span| span.state == SpanState::Unowned);
    if !unowned.is_empty() {
        return Readiness::Reconciling {
            reason: "SlotsWithoutOwner",
            message: unowned_text(keyspace, table, &unowned, view),
        };
    }
    let opening = table.slots_where(|span| span.state == SpanState::Opening);
    if !opening.is_empty() {
        return Readiness::Reconciling {
            reason: "Opening",
            message: format!("the databases of the owners open slots {opening}"),
        };
    }
    let ranges = view.inputs.ranges.iter().filter(|range| range.spec.keyspace == name);
    if let Some(message) = unserved.of_ranges(ranges.map(|range| (&**range, spans(range, view)))) {
        let reason = served::REASON;
        return Readiness::Reconciling { reason, message };
    }
    let taken = route_claims::taken(&name, view);
    Readiness::Ready {
        reason: "Published",
        message: format!("{} slots, all owned{taken}", table.slots),
    }
}

/// What is said of one that is being deleted.
fn leaving(keyspace: &Keyspace, view: &View) -> Readiness {
    let name = keyspace.name_any();
    let owners = view
        .table
        .as_deref()
        .map(|table| owners_text(&name, table))
        .unwrap_or_default();
    if owners.is_empty() {
        return Readiness::Reconciling {
            reason: "Leaving",
            message: "nobody owns a slot of it: it goes".to_owned(),
        };
    }
    let ranges = view.inputs.ranges.iter().filter(|range| range.spec.keyspace == name);
    let ranges: Vec<_> = ranges.map(|range| range.name_any()).collect();
    Readiness::Stalled {
        reason: "SlotsOwned",
        message: format!(
            "it is being deleted, but its slots have owners: {owners} (ShardRanges: {}); so it stays published as it was, and \
             nothing is interrupted. A deletion gives up no slot. To keep it, take its finalizer {KEYSPACE_FINALIZER} off \
             and apply it again unchanged; to end its service, give up its DataStores{}, then annotate it \
             {GIVE_UP}={name}",
            ranges.join(", "),
            stores_text(&name, view)
        ),
    }
}

/// The stores that depend on a keyspace, for people.
fn stores_text(keyspace: &str, view: &View) -> String {
    let stores = view
        .inputs
        .stores
        .iter()
        .filter(|store| store.spec.keyspace.as_deref() == Some(keyspace));
    let names: Vec<_> = stores.map(|store| store.name_any()).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(" ({})", names.join(", ")),
    }
}

/// Who owns which slots of a keyspace, for people; empty where nobody does.
pub fn owners_text(keyspace: &str, table: &RoutingTable) -> String {
    let owners = table.owners_of(&KeyspaceName(keyspace.to_owned()));
    let texts: Vec<_> = owners
        .iter()
        .map(|(unit, slots)| format!("{unit} owns {slots}"))
        .collect();
    texts.join(", ")
}

/// Whether nothing depends on a keyspace any more: known, and no slot of it is owned or being moved.
pub fn is_free(keyspace: &str, view: &View) -> bool {
    let name = KeyspaceName(keyspace.to_owned());
    let unused = |table: &RoutingTable| table.owners_of(&name).is_empty() && table.moved_between(&name).is_empty();
    match view.table.as_deref() {
        Some(table) => view.record_problem.is_none() && unused(table),
        // There was none, once every member has said so.
        None => view.record_problem.is_none() && view.unsettled.is_empty(),
    }
}

/// Adds or removes the finalizer where the view asks for it; whether that succeeded.
pub async fn finalizer(ctx: &Context, keyspace: &Keyspace, view: &View) -> bool {
    let api: Api<Keyspace> = Api::namespaced(ctx.client.clone(), &view.inputs.namespace);
    let free = is_free(&keyspace.name_any(), view);
    finalizers::keep(&ctx.metrics, &api, keyspace, KEYSPACE_FINALIZER, free).await
}

/// Which home units the slots wait for, and why.
fn unowned_text(keyspace: &Keyspace, table: &KeyspaceTable, unowned: &SlotSet, view: &View) -> String {
    let members = view.inputs.members_of(&table.name);
    let seen = view.inputs.units_seen();
    let open = ownership::came(table).map(|came| ownership::not_closed(&members, &table.name, came, &seen));
    if let Some(open) = open.filter(|open| !open.is_empty()) {
        let why = |unit: &UnitName| match view.inputs.store_problem(unit) {
            Some(problem) => format!("{unit} ({problem})"),
            None => unit.to_string(),
        };
        let open: Vec<_> = open.into_iter().map(why).collect();
        return format!(
            "slots {unowned} have no owner until the databases of {} are known to hold none of them open from before",
            open.join(", ")
        );
    }
    let compiled = view.inputs.homes(keyspace);
    let Ok(homes) = &*compiled else {
        return format!("slots {unowned} have no owner");
    };
    let mut units: Vec<_> = homes.runs().iter().map(|run| &run.unit).collect();
    units.sort_unstable();
    units.dedup();
    let waits = units.into_iter().filter_map(|unit| {
        let slots = homes.slots_of(unit).intersection(unowned);
        (!slots.is_empty()).then(|| {
            format!(
                "slots {slots} wait for {unit}: {}",
                crate::units::why_not_open(unit, view)
            )
        })
    });
    waits.collect::<Vec<_>>().join("; ")
}
