//! What a ShardRange's status says: who owns its slots now, in which state, since when. Pure.

use crate::conditions::{Readiness, set_readiness};
use crate::tables::View;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{ShardRange, ShardRangeStatus};
use multiactive_core::ranges::RangeProblem;
use multiactive_core::span::{Span, SpanState};
use std::collections::BTreeSet;

/// What several different values are called.
const MIXED: &str = "mixed";

/// The status that the view asks for.
pub fn status(range: &ShardRange, view: &View, now: Timestamp) -> ShardRangeStatus {
    let mut status = range.status.clone().unwrap_or_default();
    let spans = spans(range, view);
    let home = &range.spec.home_unit;
    let owners: BTreeSet<_> = spans
        .iter()
        .map(|span| span.owner.as_ref().map(|owner| owner.as_str()))
        .collect();
    let states: BTreeSet<_> = spans.iter().map(|span| format!("{:?}", span.state)).collect();
    status.slots = Some(match (range.spec.first_slot, range.spec.last_slot) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    });
    status.active = one_of(owners.iter().map(|owner| owner.unwrap_or("none")));
    status.state = one_of(states.iter().map(String::as_str));
    let newest = spans.iter().map(|span| span.epoch.epoch).max();
    status.epoch = newest.and_then(|epoch| i64::try_from(epoch).ok());
    status.away = owners.iter().any(|owner| owner.is_some_and(|owner| owner != home));
    status.observed_generation = range.metadata.generation;
    let readiness = readiness(range, &spans, view);
    set_readiness(&mut status.conditions, &readiness, range.metadata.generation, now);
    status
}

/// The spans of the table that hold a slot of the range.
fn spans<'a>(range: &ShardRange, view: &'a View) -> Vec<&'a Span> {
    let name = range.spec.keyspace.as_str().into();
    let table = view.table.as_deref().and_then(|table| table.keyspace(&name));
    let (first, last) = (i64::from(range.spec.first_slot), i64::from(range.spec.last_slot));
    let spans = table.into_iter().flat_map(|table| &table.spans);
    spans
        .filter(|span| i64::from(span.first) <= last && i64::from(span.last) >= first)
        .collect()
}

fn one_of<'a>(mut values: impl Iterator<Item = &'a str>) -> Option<String> {
    let first = values.next()?;
    Some(if values.next().is_some() { MIXED } else { first }.to_owned())
}

fn readiness(range: &ShardRange, spans: &[&Span], view: &View) -> Readiness {
    let name = range.name_any();
    let keyspace = &range.spec.keyspace;
    let Some(object) = view.inputs.keyspaces.iter().find(|known| known.name_any() == *keyspace) else {
        return Readiness::Stalled {
            reason: "NoKeyspace",
            message: format!("there is no Keyspace {keyspace}"),
        };
    };
    let problems = view.inputs.homes(object).err().unwrap_or_default();
    let mine: Vec<&RangeProblem> = problems
        .iter()
        .filter(|p| p.ranges().contains(&name.as_str()))
        .collect();
    if let Some(first) = mine.first() {
        let texts: Vec<_> = mine.iter().map(ToString::to_string).collect();
        return Readiness::Stalled {
            reason: first.reason(),
            message: texts.join("; "),
        };
    }
    let unowned = spans.is_empty() || spans.iter().any(|span| span.state == SpanState::Unowned);
    if unowned {
        return Readiness::Reconciling {
            reason: "SlotsWithoutOwner",
            message: "some slots have no owner yet, see the Keyspace".to_owned(),
        };
    }
    if spans.iter().any(|span| span.state != SpanState::Serving) {
        return Readiness::Reconciling {
            reason: "Moving",
            message: "slots are opening or being moved".to_owned(),
        };
    }
    Readiness::Ready {
        reason: "Serving",
        message: "all slots are served".to_owned(),
    }
}
