//! What a Keyspace's status says: whether it is published as declared, and if not, the exact slots and objects. Pure.

use crate::conditions::{Readiness, set_readiness};
use crate::tables::View;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{Keyspace, KeyspaceStatus};
use multiactive_core::slots::SlotSet;
use multiactive_core::span::SpanState;
use multiactive_core::table::KeyspaceTable;

/// How many problems a message lists before it counts the rest.
const SHOWN: usize = 10;

/// The status that the view asks for.
pub fn status(keyspace: &Keyspace, view: &View, now: Timestamp) -> KeyspaceStatus {
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
    let readiness = readiness(keyspace, table, view);
    set_readiness(&mut status.conditions, &readiness, keyspace.metadata.generation, now);
    status
}

fn readiness(keyspace: &Keyspace, table: Option<&KeyspaceTable>, view: &View) -> Readiness {
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
    if let Err(problems) = view.inputs.homes(keyspace) {
        let mut texts: Vec<_> = problems.iter().take(SHOWN).map(ToString::to_string).collect();
        if problems.len() > SHOWN {
            texts.push(format!("and {} more problems", problems.len() - SHOWN));
        }
        return Readiness::Stalled {
            reason: problems.first().map_or("RangesInvalid", |problem| problem.reason()),
            message: format!("{}; the last good table stays", texts.join("; ")),
        };
    }
    let Some(table) = table else {
        return Readiness::Reconciling {
            reason: "NotPublished",
            message: "it is not in the routing table yet".to_owned(),
        };
    };
    let unowned = table.slots_where(|span| span.state == SpanState::Unowned);
    if !unowned.is_empty() {
        return Readiness::Reconciling {
            reason: "SlotsWithoutOwner",
            message: unowned_text(keyspace, &unowned, view),
        };
    }
    let opening = table.slots_where(|span| span.state == SpanState::Opening);
    if !opening.is_empty() {
        return Readiness::Reconciling {
            reason: "Opening",
            message: format!("the databases of the owners open slots {opening}"),
        };
    }
    Readiness::Ready {
        reason: "Published",
        message: format!("{} slots, all owned", table.slots),
    }
}

/// Which home units the slots wait for, and why.
fn unowned_text(keyspace: &Keyspace, unowned: &SlotSet, view: &View) -> String {
    let Ok(homes) = view.inputs.homes(keyspace) else {
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
