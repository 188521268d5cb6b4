//! Verifications for people: what a repair will do, the question, and what was found.

use super::verify::Chosen;
use super::verify_steps::differing;
use crate::compared::{Compared, name};
use crate::operations::OperationView;
use crate::print::{Cell, Paint, Tone, columns};
use crate::text::{count, word};
use multiactive_api::{PairState, VerifiedPair};
use multiactive_core::slots::SlotSet;
use std::collections::BTreeSet;

/// Up to how many pairs are all shown; of more, those whose rows are not simply equal.
const ROWS: usize = 40;
/// How long a list of slots is shown.
const SLOTS: usize = 40;
/// How many stores the question names.
const NAMED: usize = 5;

/// What a repair will do, before it is asked for.
pub fn repair(namespace: &str, chosen: &[Chosen], look: &str, paint: Paint) -> String {
    let stores = chosen.iter().map(|chosen| {
        let title = format!("DataStore {namespace}/{}", chosen.store);
        format!(
            "{}: the rows at {}\n",
            paint.tone(Tone::Bold, &title),
            chosen.units.join(", ")
        )
    });
    let warning = "  Rows there that differ from those of the units that own them are REPLACED by the owners'; rows that the owner has not\n  \
                   are REMOVED. What stood there is kept nowhere. No unit's own rows are touched, and nothing is passed on to others.";
    let rest =
        "  While rows are copied from an owner, nothing else of its writing arrives there; writers wait for moments.";
    format!(
        "{}{}\n{rest}\n  To look only: {look}\n",
        stores.collect::<String>(),
        paint.tone(Tone::Warn, warning)
    )
}

/// What the user is asked.
pub fn question(namespace: &str, chosen: &[Chosen]) -> String {
    let databases = chosen.iter().map(|chosen| chosen.units.len()).sum();
    let names: Vec<_> = chosen.iter().map(|chosen| chosen.store.as_str()).collect();
    let names = match names.get(..NAMED).filter(|_| names.len() > NAMED) {
        Some(first) => format!("{} and {} more", first.join(", "), names.len() - NAMED),
        None => names.join(", "),
    };
    format!(
        "Replace and remove rows that differ from their owners' in {} of {names} in {namespace}",
        count(databases, "database")
    )
}

/// The command that asks for it.
pub fn command(stores: &[&str], units: &[&str], repair: bool, namespace: &str) -> String {
    let stores: String = stores.iter().map(|store| format!(" {store}")).collect();
    let units: String = units.iter().map(|unit| format!(" --unit {unit}")).collect();
    let repair = if repair { " --repair" } else { "" };
    format!("kubectl multiactive verify{stores}{units}{repair} -n {namespace}")
}

/// What was found: a line for each pair, the rows that differ, and what to do.
pub fn found(view: &OperationView, paint: Paint, wide: bool) -> String {
    let Some(compared) = &view.compared else {
        return String::new();
    };
    let mut text = pairs(compared, paint, wide);
    for pair in compared.pairs.iter().filter(|pair| !pair.found.examples.is_empty()) {
        let verb = match pair.found.state {
            PairState::Repaired | PairState::Settled => "differed",
            PairState::Comparing | PairState::Repairing | PairState::Equal | PairState::Differs => "differ",
        };
        text.push_str(&format!("\n{}: among the rows that {verb}\n", name(pair)));
        text.extend(pair.found.examples.iter().map(|row| format!("  {row}\n")));
    }
    let once = |of: fn(&VerifiedPair) -> &str| -> Vec<&str> {
        let names: BTreeSet<&str> = compared.differ().map(of).collect();
        names.into_iter().collect()
    };
    let (stores, units) = (once(|pair| &pair.store), once(|pair| &pair.unit));
    if !stores.is_empty() {
        let command = command(&stores, &units, true, &view.namespace);
        text.push_str(&format!(
            "\nRows differ: find out why, then make them as their owners' are (docs/verification.md):\n  {command}\n"
        ));
    }
    text
}

fn pairs(compared: &Compared, paint: Paint, wide: bool) -> String {
    let all = wide || compared.pairs.len() <= ROWS;
    let shown = |pair: &&VerifiedPair| all || pair.found.state != PairState::Equal;
    let rows: Vec<_> = compared
        .pairs
        .iter()
        .filter(shown)
        .map(|pair| row(pair, wide))
        .collect();
    let rest = compared.pairs.len() - rows.len();
    let mut text = String::new();
    if !rows.is_empty() {
        let header = ["STORE", "UNIT", "OWNER", "STATE", "ROWS", "DIFFERING", "WHAT"];
        text.push_str(&columns(paint, &header, &rows));
    }
    if rest > 0 {
        let rest = format!("{} compared and equal: -o wide lists them\n", count(rest, "pair"));
        text.push_str(&paint.tone(Tone::Faint, &rest));
    }
    text
}

fn row(pair: &VerifiedPair, wide: bool) -> Vec<Cell> {
    let found = &pair.found;
    let (tone, ended) = match found.state {
        PairState::Comparing | PairState::Repairing => (Tone::Warn, false),
        PairState::Equal | PairState::Repaired | PairState::Settled => (Tone::Good, true),
        PairState::Differs => (Tone::Bad, true),
    };
    let slots = match (&found.differing, ended) {
        (Some(_), _) => differing(pair).to_string(),
        (None, true) => "0".to_owned(),
        (None, false) => "?".to_owned(),
    };
    let within = found.within.as_ref().map(|within| within.rows);
    let known = found.rows.is_some() || within.is_some();
    let rows = found
        .rows
        .unwrap_or_default()
        .saturating_add(within.unwrap_or_default());
    let rows = if known { rows.to_string() } else { "?".to_owned() };
    vec![
        pair.store.clone().into(),
        pair.unit.clone().into(),
        found.owner.clone().into(),
        Cell::of(tone, word(&found.state)),
        rows.into(),
        slots.into(),
        what(pair, wide).into(),
    ]
}

/// How far it is, the slots that differ, or did, and what was said of them.
fn what(pair: &VerifiedPair, wide: bool) -> String {
    let slots = pair.found.differing.as_deref().map(|slots| {
        let short: String = slots.chars().take(SLOTS).collect();
        match wide || short.len() == slots.len() {
            true => format!("slots {slots}"),
            false => format!("slots {short}…"),
        }
    });
    let far = pair.found.compared.as_deref().map(|compared| {
        let len = |slots: &str| slots.parse().map_or(0, |slots: SlotSet| slots.len());
        let all = pair.found.slots.as_deref().map(len).unwrap_or_default();
        format!("{}/{all} slots compared", len(compared))
    });
    let within = pair.found.within.as_ref().map(|within| {
        let differ = if within.differs { ", some of which differ" } else { "" };
        format!("{} rows of slot {} compared{differ}", within.rows, within.slot)
    });
    let parts = [far, within, slots, pair.found.message.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}
