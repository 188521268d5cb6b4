//! What changed of an operation between two looks at it, as lines in the order in which it happened.

use super::{object, verify_steps};
use crate::operations::{FAILOVER, Operation, between};
use crate::print::Tone;
use crate::text;
use jiff::Timestamp;
use multiactive_api::{FailoverPlacement, PlacedSlots};
use multiactive_core::slots::SlotSet;
use serde::Serialize;
use std::collections::BTreeMap;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// When, where that was recorded; else when it was seen.
    pub at: String,
    /// `Operation`, `Placement`, `Step`, `Pair`, `Progress`, `Wait`, `Decision`, `Outcome`, `Owner` or `Readiness`.
    pub what: &'static str,
    /// The object.
    pub object: String,
    /// What happened.
    pub text: String,
    /// How it looks.
    #[serde(skip)]
    pub tone: Tone,
}

/// The changes of one operation; `before` is `None` where it was not known.
pub fn operation(before: Option<&Operation>, after: &Operation, now: Timestamp) -> Vec<Change> {
    let name = object(after.kind.name, after.metadata.namespace.as_deref(), after.name());
    let change = |at: String, what, text: String, tone| Change {
        at,
        what,
        object: name.clone(),
        text,
        tone,
    };
    let mut changes = Vec::new();
    if before.is_none() {
        let named = |word: &str, unit: &Option<String>| {
            let unit = unit.as_deref();
            unit.map(|unit| format!(", {word} {unit}")).unwrap_or_default()
        };
        let (lost, to) = (
            named("lost is", &after.spec.lost_unit),
            named("to", &after.spec.target_unit),
        );
        let at = after.created().unwrap_or(now);
        let text = format!("created{lost}{to}{}", verify_steps::asked(&after.spec));
        changes.push(change(at.to_string(), "Operation", text, Tone::Bold));
    }
    let known = before.and_then(|before| before.status.placement.as_ref());
    let placement = after.status.placement.as_ref();
    if let Some(placement) = placement.filter(|placement| known != Some(*placement)) {
        let tone = if placement.unplaced.is_empty() {
            Tone::Plain
        } else {
            Tone::Bad
        };
        changes.push(change(now.to_string(), "Placement", taken_over(placement), tone));
    }
    let known = before.map_or(0, |before| before.status.history.len());
    let history = &after.status.history;
    for (index, record) in history.iter().enumerate().skip(known) {
        let since = index
            .checked_sub(1)
            .and_then(|last| history.get(last))
            .and_then(|last| {
                let (last, this): (Timestamp, Timestamp) = (last.at.parse().ok()?, record.at.parse().ok()?);
                Some(this.duration_since(last))
            });
        let took = since
            .map(|since| format!(" (after {})", text::span(since)))
            .unwrap_or_default();
        let text = match &record.not_needed {
            Some(why) => format!("{} not needed: {why}", record.step),
            None => format!("{}{took}", record.step),
        };
        changes.push(change(record.at.clone(), "Step", text, Tone::Plain));
    }
    let known = before.map(|before| &before.status.compared);
    for (what, text, tone) in verify_steps::progress(known, &after.status.compared) {
        changes.push(change(now.to_string(), what, text, tone));
    }
    let (old, new) = (
        before.and_then(|before| before.status.waiting_for.as_ref()),
        after.status.waiting_for.as_ref(),
    );
    if let Some(wait) = new.filter(|_| old != new) {
        changes.push(change(
            now.to_string(),
            "Wait",
            format!("waiting for {wait}"),
            Tone::Warn,
        ));
    }
    let asked = before.map_or(&[][..], |before| &before.status.needed);
    for needed in after.status.needed.iter().filter(|needed| !asked.contains(needed)) {
        let text = format!("needs {}: {}", text::word(&needed.kind), needed.command);
        changes.push(change(now.to_string(), "Decision", text, Tone::Bad));
    }
    let ended_before = before.is_some_and(|before| before.status.outcome.is_some());
    if let Some(outcome) = after.status.outcome.as_ref().filter(|_| !ended_before) {
        let tone = if outcome == "Succeeded" { Tone::Good } else { Tone::Bad };
        changes.push(change(now.to_string(), "Outcome", ending(after, outcome), tone));
    }
    changes
}

/// Changes of several objects in the order of their times.
pub fn in_order(mut changes: Vec<Change>) -> Vec<Change> {
    // Stable: what has the same time stays as it was told.
    changes.sort_by_key(|change| change.at.parse::<Timestamp>().ok());
    changes
}

/// Who takes over how much.
fn taken_over(placement: &FailoverPlacement) -> String {
    let mut by: BTreeMap<&str, usize> = BTreeMap::new();
    for PlacedSlots { slots, target, .. } in &placement.placed {
        let slots: SlotSet = slots.parse().unwrap_or_default();
        *by.entry(target.as_deref().unwrap_or("nobody")).or_default() += slots.len();
    }
    let left = placement.unplaced.iter().filter_map(|left| left.slots.parse().ok());
    let left: usize = left.map(|slots: SlotSet| slots.len()).sum();
    let nobody = (left > 0).then_some(("nobody", left));
    let shares: Vec<_> = by
        .into_iter()
        .chain(nobody)
        .map(|(unit, slots)| format!("{} by {unit}", text::count(slots, "slot")))
        .collect();
    format!("chosen to be taken over: {}", shares.join(", "))
}

/// How it ended, in one line.
fn ending(operation: &Operation, outcome: &str) -> String {
    let status = &operation.status;
    let reason = status
        .reason
        .as_ref()
        .map(|reason| format!("/{reason}"))
        .unwrap_or_default();
    let message = status
        .message
        .as_ref()
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    let slots = status
        .slots
        .map(|slots| format!(", {}", text::count(usize::try_from(slots).unwrap_or(0), "slot")));
    let held = if operation.kind == FAILOVER {
        "served again after"
    } else {
        "writes held for"
    };
    let pause = status
        .pause
        .as_ref()
        .map(|pause| format!(", {held} {pause}"))
        .unwrap_or_default();
    let epoch = status
        .epoch
        .as_ref()
        .map(|epoch| format!(", owner changed at epoch {epoch}"))
        .unwrap_or_default();
    let took = between(&status.history, "Check", "Settle").or_else(|| status.compared.took());
    let whole = took.map(|took| format!(", {} in all", text::span(took)));
    let facts = match outcome {
        "Succeeded" => format!(
            "{}{pause}{epoch}{}",
            slots.unwrap_or_default(),
            whole.unwrap_or_default()
        ),
        _ => String::new(),
    };
    format!("{outcome}{reason}{facts}{message}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures::{failover, operation as object};
    use serde_json::json;

    #[test]
    fn each_step_is_told_once_with_the_time_since_the_one_before() {
        let at = |step: &str, at: &str| json!({"step": step, "at": at});
        let check = at("Check", "2026-01-01T00:00:00Z");
        let hold = at("Hold", "2026-01-01T00:00:01.5Z");
        let skipped = json!({"step": "Verify", "at": "2026-01-01T00:00:01Z", "notNeeded": "not asked for"});
        let first = object("move", json!({"step": "Check", "history": [check]}));
        let second = object(
            "move",
            json!({"step": "Hold", "history": [check, skipped, hold], "waitingFor": "routers of east-1"}),
        );
        let texts = |before: Option<&Operation>, after: &Operation| -> Vec<String> {
            let changes = operation(before, after, Timestamp::UNIX_EPOCH);
            changes
                .into_iter()
                .map(|change| format!("{} {}", change.what, change.text))
                .collect()
        };
        assert_eq!(texts(None, &first), ["Operation created, to north-1", "Step Check"]);
        assert_eq!(
            texts(Some(&first), &second),
            [
                "Step Verify not needed: not asked for",
                "Step Hold (after 500ms)",
                "Wait waiting for routers of east-1"
            ]
        );
        assert!(texts(Some(&second), &second).is_empty());
        let ended = object(
            "move",
            json!({"history": [check, skipped, hold], "outcome": "Aborted", "reason": "FenceLate", "message": "over"}),
        );
        assert_eq!(texts(Some(&second), &ended), ["Outcome Aborted/FenceLate: over"]);
    }

    #[test]
    fn of_a_failover_who_takes_over_and_what_a_person_has_to_decide_is_told_once() {
        let part = |slots: &str, target: Option<&str>| json!({"keyspace": "users", "slots": slots, "target": target});
        let placement = json!({"placed": [part("0-3", Some("b")), part("6", Some("a")), part("8-9", Some("b"))],
            "unplaced": [part("4-5", None)]});
        let needed = json!([{"type": "AcceptDataLoss", "target": "b", "why": "too much", "command": "kubectl decide"}]);
        let begun = failover("lost", "east-1", json!({"placement": placement}));
        let blocked = failover("lost", "east-1", json!({"placement": placement, "needed": needed}));
        let ended = json!({"outcome": "Succeeded", "slots": 7, "pause": "12s", "message": "3s may be lost"});
        let ended = failover("lost", "east-1", ended);
        let texts = |before: Option<&Operation>, after: &Operation| -> Vec<String> {
            let changes = operation(before, after, Timestamp::UNIX_EPOCH).into_iter();
            changes
                .map(|change| format!("{} {}", change.what, change.text))
                .collect()
        };
        let taken = "Placement chosen to be taken over: 1 slot by a, 6 slots by b, 2 slots by nobody";
        assert_eq!(texts(None, &begun), ["Operation created, lost is east-1", taken]);
        let asked = "Decision needs AcceptDataLoss: kubectl decide";
        assert_eq!(texts(Some(&begun), &blocked), [asked]);
        assert!(texts(Some(&blocked), &blocked).is_empty());
        let end = "Outcome Succeeded, 7 slots, served again after 12s: 3s may be lost";
        assert_eq!(texts(Some(&blocked), &ended), [end]);
    }
}
