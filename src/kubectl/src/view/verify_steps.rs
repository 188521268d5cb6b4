//! What changed of a Verification between two looks at it: how far it is, and each pair whose rows differ.

use crate::compared::{Compared, name};
use crate::operations::Spec;
use crate::print::Tone;
use crate::text::count;
use multiactive_api::{PairState, RepairMode, VerifiedPair};
use multiactive_core::slots::SlotSet;

/// What it was asked for, to go on with behind a word; nothing of other kinds.
pub fn asked(spec: &Spec) -> String {
    let named = |word: &str, names: &Option<Vec<String>>| {
        let names = names.as_ref();
        let names = names.map(|names| format!(", {word} {}", names.join(", ")));
        names.unwrap_or_default()
    };
    let repair = match spec.repair {
        Some(RepairMode::FromOwner) => ", rows that differ are replaced by the owners'",
        Some(RepairMode::None) | None => "",
    };
    let pace = spec.max_rows_per_second;
    let pace = pace.map(|pace| format!(", at most {pace} rows a second"));
    let (stores, units) = (named("of", &spec.stores), named("at", &spec.units));
    format!("{stores}{units}{repair}{}", pace.unwrap_or_default())
}

/// What is new: pairs whose rows differ, are being replaced or were, then how far it is: with each comparison that ends, each
/// tenth of the slots, and as the rows of a large slot grow. That rows of a pair are equal is told by their number alone.
pub fn progress(before: Option<&Compared>, after: &Compared) -> Vec<(&'static str, String, Tone)> {
    let known = |pair: &VerifiedPair| Some(before?.same(pair)?.found.state);
    let news = after.pairs.iter().filter(|pair| known(pair) != Some(pair.found.state));
    let mut told: Vec<_> = news.filter_map(news_of).collect();
    let key = |compared: &Compared| (compared.done.clone(), tenth(compared), large(compared).map(magnitude));
    if let Some(text) = far(after).filter(|_| before.map(key) != Some(key(after))) {
        told.push(("Progress", text, Tone::Plain));
    }
    told
}

/// How far it is.
pub fn far(compared: &Compared) -> Option<String> {
    let slots = compared.compared_slots.as_ref().map(|slots| format!(", {slots} slots"));
    let rows = large(compared).map(|rows| format!(", {} of large slots so far", count(rows, "row")));
    let done = compared.done.as_ref()?;
    Some(format!(
        "{done} compared{}{}",
        slots.unwrap_or_default(),
        rows.unwrap_or_default()
    ))
}

/// How many rows were compared of slots that are not done; `None` where none is in the midst.
fn large(compared: &Compared) -> Option<usize> {
    let within = compared.pairs.iter().filter_map(|pair| pair.found.within.as_ref());
    let rows: Vec<_> = within
        .map(|within| usize::try_from(within.rows).unwrap_or_default())
        .collect();
    (!rows.is_empty()).then(|| rows.into_iter().sum())
}

/// A number's first digit, and how many there are: it changes often enough to see that something happens.
fn magnitude(rows: usize) -> (u32, usize) {
    let digits = rows.checked_ilog10().unwrap_or_default();
    (digits, rows / 10_usize.pow(digits))
}

/// How many tenths of the slots were compared.
fn tenth(compared: &Compared) -> Option<u64> {
    let (done, all) = compared.compared_slots.as_ref()?.split_once('/')?;
    let (done, all): (u64, u64) = (done.parse().ok()?, all.parse().ok()?);
    (10 * done).checked_div(all)
}

fn news_of(pair: &VerifiedPair) -> Option<(&'static str, String, Tone)> {
    let slots = count(differing(pair), "slot");
    let (text, tone) = match pair.found.state {
        PairState::Comparing | PairState::Equal => return None,
        PairState::Differs => (format!("rows of {slots} differ"), Tone::Bad),
        PairState::Repairing => (format!("rows of {slots} differ, and are being replaced"), Tone::Warn),
        PairState::Settled => {
            let text = pair.found.message.clone().unwrap_or_default();
            (text, Tone::Good)
        }
        PairState::Repaired => {
            let message = pair.found.message.as_ref().map(|message| format!(": {message}"));
            let text = format!(
                "rows of {slots} differed, and are equal now{}",
                message.unwrap_or_default()
            );
            (text, Tone::Good)
        }
    };
    Some(("Pair", format!("{}: {text}", name(pair)), tone))
}

/// In how many slots rows differ, or did.
pub fn differing(pair: &VerifiedPair) -> usize {
    let slots = pair.found.differing.as_deref().unwrap_or_default();
    slots.parse().map_or(0, |slots: SlotSet| slots.len())
}
