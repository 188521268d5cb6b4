//! What a Verification's status says: what was compared, what is still awaited and why, and how it ended. Pure.

use super::{away, is_of, left_out, running, told, unknown, wanted};
use crate::conditions::{Readiness, set_readiness};
use crate::status::{PAUSED, is_paused};
use crate::tables::{Inputs, View};
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{PairReport, PairState, Verification, VerificationStatus, VerifiedPair};
use multiactive_core::ids::UnitName;
use multiactive_core::slots::SlotSet;
use multiactive_core::verification::{self, Found, Pair};
use std::collections::BTreeSet;

/// How many things a message lists before it counts the rest.
const SHOWN: usize = 5;

/// The status that the view asks for.
pub fn status(object: &Verification, view: &View, now: Timestamp) -> VerificationStatus {
    let mut status = object.status.clone().unwrap_or_default();
    if status.outcome.is_some() {
        return status;
    }
    let readiness = stands(&mut status, object, view, now);
    status.observed_generation = object.metadata.generation;
    set_readiness(&mut status.conditions, &readiness, object.metadata.generation, now);
    status
}

fn stands(status: &mut VerificationStatus, object: &Verification, view: &View, now: Timestamp) -> Readiness {
    let waits = |status: &mut VerificationStatus, reason, message: String| {
        status.waiting_for = Some(message.clone());
        Readiness::Reconciling { reason, message }
    };
    if is_paused(object) {
        return waits(status, "Paused", format!("the annotation {PAUSED} to be removed"));
    }
    if let Some(message) = unknown(object, &view.inputs) {
        status.waiting_for = Some(message.clone());
        return Readiness::Stalled {
            reason: "UnknownName",
            message,
        };
    }
    let Some(table) = view.table.as_deref() else {
        return waits(status, "Pending", "the routing table".to_owned());
    };
    if let Some(first) = running(&view.inputs, table).filter(|first| first.uid() != object.uid()) {
        return waits(status, "Queued", format!("Verification {} to end", first.name_any()));
    }
    status.started_at.get_or_insert_with(|| now.to_string());
    let wanted = wanted(object, &view.inputs, table);
    status.pairs = wanted.iter().map(|wanted| pair(object, wanted, &view.inputs)).collect();
    let found = || status.pairs.iter().map(|pair| &pair.found);
    let ended = found().filter(|found| found.state.has_ended()).count();
    status.done = Some(format!("{ended}/{}", wanted.len()));
    let of_all: usize = wanted.iter().map(|wanted| wanted.slots.len()).sum();
    let compared = wanted
        .iter()
        .zip(found())
        .map(|(wanted, found)| compared(wanted, found));
    status.compared_slots = Some(format!("{}/{of_all}", compared.sum::<usize>()));
    let rows = |found: &PairReport| {
        let within = found.within.as_ref().map_or(0, |within| within.rows);
        found.rows.unwrap_or_default().saturating_add(within)
    };
    status.rows = Some(found().map(rows).sum());
    let differing = found().filter_map(|found| found.differing.as_deref()).map(slots);
    status.differing_slots = i64::try_from(differing.map(|slots| slots.len()).sum::<usize>()).ok();
    if ended < wanted.len() {
        let at_most = object.spec.max_rows_per_second;
        let at_most = at_most.map(|pace| format!(", at most {pace} rows a second of a database"));
        let message = format!("{}{}", awaited(&status.pairs), at_most.unwrap_or_default());
        return waits(status, "Comparing", message);
    }
    status.waiting_for = None;
    status.ended_at = Some(now.to_string());
    end(status, &left_out(object, &view.inputs))
}

fn slots(text: &str) -> SlotSet {
    text.parse().unwrap_or_default()
}

/// How many slots were compared.
fn compared(wanted: &Pair, found: &PairReport) -> usize {
    match found.state.has_ended() {
        true => wanted.slots.len(),
        false => found.compared.as_deref().map(slots).unwrap_or_default().len(),
    }
}

/// What is known of one comparison: what the unit reports, or what was told before of a unit that is not asked any more. What was
/// compared with another owner's slots counts no more.
fn pair(object: &Verification, wanted: &Pair, inputs: &Inputs) -> VerifiedPair {
    let report = inputs.reports.get(&wanted.unit);
    let said = report.and_then(|report| report.status.as_ref()?.verification.as_ref());
    let said = said.filter(|said| Some(&said.uid) == object.uid().as_ref());
    let mut reported = said.into_iter().flat_map(|said| &said.pairs);
    let reported = reported.find(|pair| pair.store == wanted.store.as_str() && is_of(wanted, &pair.found));
    let reported = reported.map(|pair| pair.found.clone());
    let mut found = told(object, wanted)
        .or(reported)
        .unwrap_or_else(|| PairReport::begun(wanted.owner.as_str(), None));
    if !found.state.has_ended() {
        found.message = away(wanted, inputs)
            .or(found.message)
            .or(inputs.store_problem(&wanted.unit));
    }
    VerifiedPair {
        store: wanted.store.to_string(),
        unit: wanted.unit.to_string(),
        found,
    }
}

/// What is awaited, those first who say why.
fn awaited(pairs: &[VerifiedPair]) -> String {
    let waits = pairs.iter().filter(|pair| !pair.found.state.has_ended());
    let (said, silent): (Vec<_>, Vec<_>) = waits.partition(|pair| pair.found.message.is_some());
    let words = |pair: &&VerifiedPair| {
        let doing = match pair.found.state {
            PairState::Repairing => "repairing ",
            PairState::Comparing | PairState::Equal | PairState::Differs | PairState::Repaired | PairState::Settled => {
                ""
            }
        };
        let why = pair.found.message.as_ref().map(|why| format!(": {why}"));
        format!("{doing}{}{}", name(pair), why.unwrap_or_default())
    };
    listed(said.iter().chain(&silent).map(words))
}

fn name(pair: &VerifiedPair) -> String {
    format!("{} at {} with {}", pair.store, pair.unit, pair.found.owner)
}

fn listed(words: impl Iterator<Item = String>) -> String {
    let mut words: Vec<_> = words.collect();
    let more = words.len().saturating_sub(SHOWN);
    words.truncate(SHOWN);
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words.join("; ")
}

/// How it ends, once all is compared.
fn end(status: &mut VerificationStatus, left_out: &BTreeSet<UnitName>) -> Readiness {
    let of = |state| status.pairs.iter().filter(move |pair| pair.found.state == state);
    let found = status.pairs.iter().filter_map(|pair| found(pair.found.state));
    let (outcome, reason, message) = match verification::end(found) {
        None => {
            let message = "there is nothing to compare: no unit holds rows that another one owns".to_owned();
            ("Refused", "NothingToCompare", message)
        }
        Some(Found::Differs) => {
            let words = |pair: &VerifiedPair| {
                let slots = pair.found.differing.as_deref().unwrap_or_default();
                let rows = match pair.found.examples.as_slice() {
                    [] => String::new(),
                    some => format!(" ({})", some.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ")),
                };
                format!("{} in slots {slots}{rows}", name(pair))
            };
            let message = format!(
                "rows differ: {}; look at them, and replace them by the owners' with a Verification of repair FromOwner",
                listed(of(PairState::Differs).map(words))
            );
            ("Failed", "RowsDiffer", message)
        }
        Some(Found::Repaired) => {
            let words = |pair: &VerifiedPair| {
                let what = pair.found.message.as_deref().unwrap_or_default();
                format!("{}: {what}", name(pair))
            };
            let message = format!(
                "rows differed, and are the owners' now: {}",
                listed(of(PairState::Repaired).map(words))
            );
            ("Succeeded", "Repaired", message)
        }
        Some(Found::Settled) => {
            let words = |pair: &VerifiedPair| {
                let what = pair.found.message.as_deref().unwrap_or_default();
                format!("{}: {what}", name(pair))
            };
            let message = format!(
                "rows that two units had written were settled: {}",
                listed(of(PairState::Settled).map(words))
            );
            ("Succeeded", "Settled", message)
        }
        Some(Found::Equal) => {
            let rows = status.rows.unwrap_or_default();
            (
                "Succeeded",
                "Equal",
                format!("all {rows} rows that were compared are equal"),
            )
        }
    };
    let units: Vec<_> = left_out.iter().map(UnitName::as_str).collect();
    let message = match units.is_empty() {
        true => message,
        false => format!(
            "{message}; of stores that several units write not with {}, which does not answer",
            units.join(", ")
        ),
    };
    status.outcome = Some(outcome.to_owned());
    status.reason = Some(reason.to_owned());
    status.message = Some(message.clone());
    match outcome {
        "Succeeded" => Readiness::Ready { reason, message },
        _ => Readiness::Stalled { reason, message },
    }
}

/// What a comparison has found, once it has ended.
fn found(state: PairState) -> Option<Found> {
    match state {
        PairState::Comparing | PairState::Repairing => None,
        PairState::Equal => Some(Found::Equal),
        PairState::Repaired => Some(Found::Repaired),
        PairState::Settled => Some(Found::Settled),
        PairState::Differs => Some(Found::Differs),
    }
}
