//! Failovers for people: what would happen, the question, and what came of it.

use super::failover_shapes::{Looks, LostView, State};
use crate::operations::OperationView;
use crate::print::{Cell, Paint, Tone, columns};
use crate::text::count;
use multiactive_api::{LeaseMode, PlacedSlots};
use multiactive_core::ids::KeyspaceName;
use multiactive_core::slots::SlotSet;

/// How many ranges of a unit are shown.
const ROWS: usize = 20;
/// How many units the question names.
const NAMED: usize = 5;

/// What would happen, unit by unit, and what holds for all of them.
pub fn plan(views: &[LostView], paint: Paint) -> String {
    let mut text: String = views.iter().map(|view| one(view, paint) + "\n").collect();
    if let Some(view) = views.iter().find(|view| view.state == State::Begins) {
        text.push_str(&format!(
            "Loss:  {} of a lost unit's writing may be lost without anybody's word (--max-data-loss). More than that, or where\n       \
             nobody can tell, it waits for AcceptDataLoss before the owner changes.\n\
             Said by the hub's objects: the operator chooses by what agents tell it, and shows it before anything is fenced.\n",
            view.max_data_loss
        ));
    }
    text
}

fn one(view: &LostView, paint: Paint) -> String {
    let place = [("MemberCluster", &view.cluster), ("Region", &view.region)];
    let place: Vec<_> = place
        .iter()
        .filter_map(|(kind, name)| Some(format!("{kind} {}", name.as_ref()?)))
        .collect();
    let place = match place.is_empty() {
        true => String::new(),
        false => format!(" ({})", place.join(", ")),
    };
    let owns = view
        .slots
        .map_or_else(|| "slots unknown".to_owned(), |slots| count(slots, "slot"));
    let title = format!("Unit {}/{}", view.namespace, view.unit);
    let mut text = format!("{}{place}: {owns}\n", paint.tone(Tone::Bold, &title));
    let message = view.message.as_deref().unwrap_or_default();
    let reason = view.reason.as_deref().unwrap_or_default();
    let (tone, verdict) = match view.state {
        State::Begins => (Tone::Warn, message.to_owned()),
        State::Runs | State::OwnsNothing => (Tone::Warn, message.to_owned()),
        State::Refused => (Tone::Bad, format!("refused: {reason}: {message}")),
    };
    if !verdict.is_empty() {
        text.push_str(&format!("  {}\n", paint.tone(tone, &verdict)));
    }
    match view.state {
        State::Begins => text + &life(view, paint) + &takes(view, paint) + &lag(view) + &fence(view),
        State::Refused => text + &life(view, paint),
        State::Runs | State::OwnsNothing => text,
    }
}

fn life(view: &LostView, paint: Paint) -> String {
    let why = &view.life.why;
    let (tone, mut text) = match view.life.looks {
        Looks::Alive => (
            Tone::Bad,
            format!("WARNING: it looks alive: {why}.\n  What it accepts until it is fenced may be lost."),
        ),
        Looks::Unwell => (Tone::Bad, format!("WARNING: it may be alive: {why}.")),
        Looks::Silent => (Tone::Plain, format!("Silent: {why}.")),
        Looks::Unknown => (Tone::Warn, format!("Unknown: {why}.")),
    };
    if !view.promotions.is_empty() {
        text.push_str(" Where its databases answer, a promotion loses nothing:");
    }
    let commands = view.promotions.iter().map(|command| format!("    {command}\n"));
    format!("  {}\n{}", paint.tone(tone, &text), commands.collect::<String>())
}

fn takes(view: &LostView, paint: Paint) -> String {
    let (placed, unplaced) = (&view.placement.placed, &view.placement.unplaced);
    let parts: Vec<&PlacedSlots> = unplaced.iter().chain(placed).collect();
    let rows: Vec<_> = parts
        .iter()
        .take(ROWS)
        .map(|part| {
            let slots: SlotSet = part.slots.parse().unwrap_or_default();
            vec![
                part.range.clone().unwrap_or_else(|| "none".to_owned()).into(),
                part.keyspace.clone().into(),
                slots.len().to_string().into(),
                part.slots.clone().into(),
                match &part.target {
                    Some(target) => target.clone().into(),
                    None => Cell::of(Tone::Bad, "nobody: it stays with the lost unit, and is not served"),
                },
            ]
        })
        .collect();
    let table = columns(paint, &["RANGE", "KEYSPACE", "COUNT", "SLOTS", "TO"], &rows);
    let mut text: String = table.lines().map(|line| format!("  {line}\n")).collect();
    if parts.len() > ROWS {
        text.push_str(&format!("  and {} more\n", parts.len() - ROWS));
    }
    for skipped in view.skipped() {
        text.push_str(&format!("  Passed over: {}: {}\n", skipped.unit, skipped.why));
    }
    text
}

/// What would be lost, by what was known before it was.
fn lag(view: &LostView) -> String {
    let known = match &view.lag {
        Some(lag) => format!("at most {lag} of its writing had not reached who takes over when that was measured last"),
        None => "how much of its writing had not reached who takes over is not known here".to_owned(),
    };
    format!("  Lag:   {known}\n")
}

fn fence(view: &LostView) -> String {
    let command = view.confirm_command().unwrap_or_default();
    let hook = view.fence.hook.as_deref();
    let asked = hook.map(|hook| format!("its fencing hook, {hook}, is asked to fence it. "));
    let asked = asked.unwrap_or_default();
    let (blocked, until) = match hook {
        Some(_) => (format!("{asked}Before that says yes it is"), "it says yes, or "),
        None => ("without one it is".to_owned(), ""),
    };
    let blocked = format!(
        "{blocked}\n    Blocked until {until}somebody decides who made sure that it takes no writes:\n    {command}"
    );
    let text = match (view.fence.mode, &view.fence.within) {
        (Some(LeaseMode::Fence), within) => {
            let within = within.as_deref().unwrap_or("its length");
            format!(
                "by its agent's report, else by the end of its write lease, at most {within} after its last renewal"
            )
        }
        (Some(LeaseMode::KeepServing), _) => {
            format!("by its agent's report. Its silence proves nothing (KeepServing): {blocked}")
        }
        (None, _) => {
            format!("by its agent's report. What its silence proves is not known here: it may be that {blocked}")
        }
    };
    let name = view.failover.as_deref().unwrap_or_default();
    format!("  Fence: {text}\n  Creates: Failover {name}\n")
}

/// What the user is asked.
pub fn question(views: &[LostView]) -> String {
    let begin: Vec<_> = views.iter().filter(|view| view.state == State::Begins).collect();
    let names: Vec<_> = begin
        .iter()
        .map(|view| format!("{}/{}", view.namespace, view.unit))
        .collect();
    let names = match names.get(..NAMED).filter(|_| names.len() > NAMED) {
        Some(first) => format!("{} and {} more", first.join(", "), names.len() - NAMED),
        None => names.join(", "),
    };
    let slots = begin.iter().filter_map(|view| view.slots).sum();
    let alive = begin.iter().filter(|view| view.life.looks == Looks::Alive).count();
    let alive = match (alive, begin.len()) {
        (0, _) => String::new(),
        (1, 1) => ", which looks alive,".to_owned(),
        (alive, _) => format!(", {alive} of which look alive,"),
    };
    format!(
        "Fail over {} of {names}{alive} with {}",
        count(slots, "slot"),
        count(begin.len(), "Failover")
    )
}

/// What came of it: a line for each, then what is left to be known or to be decided.
pub fn outcomes(views: &[LostView], paint: Paint) -> String {
    let told: Vec<(&LostView, &OperationView)> = views
        .iter()
        .filter_map(|view| Some((view, view.operation.as_ref()?)))
        .collect();
    let rows: Vec<_> = told.iter().map(|(_, operation)| row(operation)).collect();
    let header = [
        "FAILOVER",
        "LOST",
        "TO",
        "SLOTS",
        "OUTCOME",
        "PAUSE",
        "LOSS",
        "FENCED-BY",
        "BEHIND",
    ];
    let mut text = match rows.is_empty() {
        true => String::new(),
        false => columns(paint, &header, &rows),
    };
    for (view, operation) in &told {
        for line in rest(view, operation) {
            text.push_str(&format!("  {}/{}: {line}\n", operation.namespace, operation.name));
        }
    }
    for view in views {
        if let Some(error) = &view.error {
            let line = format!("{}/{}: {error}", view.namespace, view.unit);
            text.push_str(&format!("  {}\n", paint.tone(Tone::Bad, &line)));
        }
    }
    text
}

fn row(operation: &OperationView) -> Vec<Cell> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let reason = operation
        .reason
        .as_ref()
        .map(|reason| format!("/{reason}"))
        .unwrap_or_default();
    let (tone, outcome) = match operation.outcome.as_deref() {
        Some("Succeeded") => (Tone::Good, "Succeeded".to_owned()),
        Some(outcome) => (Tone::Bad, format!("{outcome}{reason}")),
        None => (
            Tone::Warn,
            format!("runs, at {}", operation.step.as_deref().unwrap_or("Pending")),
        ),
    };
    let loss = operation.loss.as_ref();
    vec![
        format!("{}/{}", operation.namespace, operation.name).into(),
        text(&operation.from).into(),
        text(&operation.to).into(),
        operation
            .slots
            .map(|slots| slots.to_string())
            .unwrap_or_default()
            .into(),
        Cell::of(tone, outcome),
        text(&operation.pause).into(),
        loss.and_then(|loss| loss.bound.clone()).unwrap_or_default().into(),
        loss.and_then(|loss| loss.fenced_by.clone()).unwrap_or_default().into(),
        operation.behind.join(",").into(),
    ]
}

/// What one line does not tell.
fn rest(view: &LostView, operation: &OperationView) -> Vec<String> {
    let mut lines = Vec::new();
    let succeeded = operation.outcome.as_deref() == Some("Succeeded");
    if let Some(message) = operation
        .message
        .as_ref()
        .filter(|_| !succeeded && operation.needed.is_empty())
    {
        lines.push(message.clone());
    }
    for needed in &operation.needed {
        lines.push(format!("{}\n    {}", needed.why, needed.command));
    }
    let left = operation.placement.iter().flat_map(|placement| &placement.unplaced);
    lines.extend(
        left.map(|left| match KeyspaceName::from(left.keyspace.as_str()).writer_of() {
            Some(store) => format!("{} stays the writer of DataStore {store}: nobody writes", view.unit),
            None => format!(
                "slots {} of {} stay with {}: nobody serves them",
                left.slots, left.keyspace, view.unit
            ),
        }),
    );
    lines.extend(
        operation
            .unsettled
            .iter()
            .map(|unsettled| format!("not waited for: {unsettled}")),
    );
    lines
}
