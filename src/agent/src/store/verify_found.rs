//! What a comparison with one owner has found so far, chunk by chunk, and how it ends. Pure.
//!
//! A slot is told once all of its rows were compared while the owner had it open, and not before; while rows are being replaced,
//! only where they are equal. Of a slot that is compared a range at a time it is told how far it is, apart from all else.

use multiactive_api::{PairReport, PairState, RepairMode, WithinSlot};
use multiactive_core::ids::UnitName;
use multiactive_core::slots::{Slot, SlotSet};
use multiactive_stores::driver::{Compared, Place, Settled};

/// How many rows that differ are told of one owner's.
const TOLD: usize = 20;

/// The slots whose rows differ in one pass, and some of these rows in words.
#[derive(Default)]
pub(super) struct Found {
    pub(super) slots: SlotSet,
    rows: Vec<String>,
    /// Since when rows have changed that were compared whole, of some chunks; and whether of others all were.
    narrowed: Option<String>,
    whole: bool,
}

impl Found {
    /// Notes which rows of a chunk were compared whole.
    pub(super) fn extent(&mut self, got: &Compared) {
        match &got.narrowed {
            Some(narrowed) => self.narrowed = Some(narrowed.since.clone()),
            None => self.whole = true,
        }
    }

    /// Which rows were compared whole, in words.
    pub(super) fn told(&self) -> String {
        let since = |since: &String| {
            format!("of rows that did not change since they were found equal at {since} only the keys")
        };
        match (&self.narrowed, self.whole) {
            (None, _) => {
                "all rows were compared whole: it is not known which of them changed since they were found equal"
                    .to_owned()
            }
            (Some(at), false) => format!("{} were compared", since(at)),
            (Some(at), true) => format!(
                "{} were compared, in some slots; in others all rows were, whole",
                since(at)
            ),
        }
    }

    fn add(&mut self, differing: &SlotSet, rows: Vec<String>) {
        self.slots = self.slots.union(differing);
        self.rows.extend(rows);
        self.rows.truncate(TOLD);
    }
}

/// The slots that need not be compared again.
pub(super) fn compared(found: &PairReport) -> SlotSet {
    set(found.compared.as_deref())
}

fn set(slots: Option<&str>) -> SlotSet {
    slots.and_then(|slots| slots.parse().ok()).unwrap_or_default()
}

fn text(slots: &SlotSet) -> Option<String> {
    (!slots.is_empty()).then(|| slots.to_string())
}

/// Where a slot is gone on with; `None` at its beginning.
pub(super) fn place(found: &PairReport, slot: Slot) -> Option<Place> {
    let within = found.within.as_ref().filter(|within| within.slot == i32::from(slot))?;
    Some(Place {
        table: within.table.clone(),
        order: within.order.clone(),
        key: within.key.clone(),
    })
}

/// Notes what was found of some rows of a slot. Where more are behind them it is only remembered how far it is: whoever does not
/// know of that looks at all of the slot again.
pub(super) fn after(found: &mut PairReport, differ: &mut Found, slot: Slot, got: &Compared, rows: Vec<String>) {
    let before = found.within.take().filter(|within| within.slot == i32::from(slot));
    let differed = before.as_ref().is_some_and(|before| before.differs);
    let rows_before = before.as_ref().map_or(0, |before| before.rows);
    let mut examples = before.map(|before| before.examples).unwrap_or_default();
    examples.extend(rows);
    examples.truncate(TOLD);
    let all = rows_before.saturating_add(number(got.rows));
    let differs = differed || !got.differing.is_empty();
    match &got.ends {
        Some(Place { table, order, key }) => {
            found.within = Some(WithinSlot {
                slot: i32::from(slot),
                table: table.clone(),
                order: order.clone(),
                key: key.clone(),
                rows: all,
                differs,
                examples,
            });
        }
        None => {
            let slot = SlotSet::range(slot, slot);
            let differing = if differs { slot.clone() } else { SlotSet::default() };
            note(found, &slot, all, &differing, &examples);
            differ.add(&differing, examples);
        }
    }
}

/// Notes what was found of all rows of some slots.
pub(super) fn done(found: &mut PairReport, differ: &mut Found, slots: &SlotSet, got: &Compared, rows: Vec<String>) {
    note(found, slots, number(got.rows), &got.differing, &rows);
    differ.add(&got.differing, rows);
}

fn number(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// While rows are replaced, what differed before stays told, and what differs still is not done: whoever goes on looks at it again.
fn note(found: &mut PairReport, slots: &SlotSet, more: i64, differing: &SlotSet, rows: &[String]) {
    let done = match found.state {
        PairState::Repairing => slots.difference(differing),
        PairState::Comparing | PairState::Equal | PairState::Differs | PairState::Repaired | PairState::Settled => {
            found.rows = Some(found.rows.unwrap_or_default().saturating_add(more));
            found.differing = text(&set(found.differing.as_deref()).union(differing));
            found.examples.extend_from_slice(rows);
            found.examples.truncate(TOLD);
            slots.clone()
        }
    };
    found.compared = text(&compared(found).union(&done));
}

/// How it ends once all slots were compared; `None` where what differs is to be replaced first.
pub(super) fn ended(
    found: &PairReport,
    differ: &Found,
    repair: RepairMode,
    copied: Option<&String>,
) -> Option<PairReport> {
    let ends = |state, message| PairReport {
        state,
        compared: None,
        within: None,
        message,
        ..found.clone()
    };
    match (found.state, repair) {
        (PairState::Equal | PairState::Differs | PairState::Repaired | PairState::Settled, _) => Some(found.clone()),
        (PairState::Comparing, _) if found.differing.is_none() => Some(ends(PairState::Equal, None)),
        (PairState::Comparing, RepairMode::None) => Some(ends(PairState::Differs, None)),
        (PairState::Comparing, RepairMode::FromOwner) => None,
        (PairState::Repairing, _) if differ.slots.is_empty() => {
            let by_now = || "what differed is equal by now".to_owned();
            Some(ends(PairState::Repaired, Some(copied.cloned().unwrap_or_else(by_now))))
        }
        (PairState::Repairing, _) => copied.map(|copied| PairReport {
            differing: text(&differ.slots),
            examples: differ.rows.clone(),
            ..ends(PairState::Differs, Some(format!("{copied}, and rows differ still")))
        }),
    }
}

/// How it ends in a store that several units write, once it was decided about the rows that differ for good.
pub(super) fn settled_as(
    found: PairReport,
    settled: &Settled,
    examples: Vec<String>,
    (unit, peer): (&UnitName, &UnitName),
) -> PairReport {
    let moving = || {
        (settled.moving > 0).then(|| {
            format!(
                "{} rows are being written: they are looked at the next time",
                settled.moving
            )
        })
    };
    let (state, message) = match (settled.noted, settled.taken + settled.left) {
        (0, 0) => (PairState::Equal, moving()),
        (0, rows) => {
            let taken = (settled.taken > 0).then(|| format!("{} are {peer}'s here now", settled.taken));
            let left = (settled.left > 0)
                .then(|| format!("{} stay {unit}'s, and {peer} takes them when it is asked", settled.left));
            let both: Vec<_> = taken.into_iter().chain(left).chain(moving()).collect();
            let message = format!("{rows} rows that both had written: {}", both.join("; "));
            (PairState::Settled, Some(message))
        }
        (rows, _) => {
            let message = format!("{rows} rows that both had written: see multiactive.conflict in {unit}'s database");
            (PairState::Differs, Some(message))
        }
    };
    PairReport {
        state,
        compared: None,
        within: None,
        differing: text(&settled.slots),
        examples,
        message,
        ..found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> PairReport {
        PairReport {
            slots: Some("0-9".to_owned()),
            ..PairReport::begun("east", None)
        }
    }

    /// A chunk whose rows differ in these slots.
    fn chunk(found: &mut PairReport, differ: &mut Found, (first, last): (u16, u16), differing: &str) {
        let got = Compared {
            rows: 10,
            differing: set(Some(differing)),
            ..Compared::default()
        };
        let rows: Vec<_> = got.differing.iter().map(|slot| format!("row of {slot}")).collect();
        done(found, differ, &SlotSet::range(first, last), &got, rows);
    }

    /// Ten rows of slot 3, behind which it goes on at a key.
    fn part(found: &mut PairReport, differ: &mut Found, differs: bool, ends: Option<&str>) {
        let got = Compared {
            rows: 10,
            differing: set(differs.then_some("3")),
            ends: ends.map(|key| Place {
                table: "items".to_owned(),
                order: "o".to_owned(),
                key: vec![key.to_owned()],
            }),
            ..Compared::default()
        };
        let rows = got.differing.iter().map(|_| format!("row before {ends:?}")).collect();
        after(found, differ, 3, &got, rows);
    }

    #[test]
    fn a_slot_counts_once_all_of_its_ranges_were_compared_whoever_compared_them() {
        for (state, differs) in [
            (PairState::Comparing, [false, false, false]),
            (PairState::Comparing, [true, false, false]),
            (PairState::Comparing, [false, false, true]),
            (PairState::Repairing, [false, false, false]),
            (PairState::Repairing, [false, true, false]),
        ] {
            let mut found = PairReport {
                state,
                compared: Some("0-2".to_owned()),
                ..begun()
            };
            assert_eq!(place(&found, 3), None);
            for (number, ends) in ["a", "b"].into_iter().enumerate() {
                // Whoever goes on knows only what was told.
                let mut differ = Found::default();
                part(&mut found, &mut differ, differs[number], Some(ends));
                assert_eq!(differ.slots, SlotSet::default());
                let told = serde_json::to_value(&found).unwrap();
                found = serde_json::from_value(told).unwrap();
                // Who does not know of it takes nothing of the slot for compared, or for different.
                assert_eq!((found.compared.as_deref(), found.rows), (Some("0-2"), None));
                assert_eq!((found.differing.as_deref(), found.examples.len()), (None, 0));
                assert_eq!(place(&found, 3).map(|place| place.key), Some(vec![ends.to_owned()]));
                // Of another slot it says nothing.
                assert_eq!(place(&found, 4), None);
            }
            let mut differ = Found::default();
            part(&mut found, &mut differ, differs[2], None);
            let differs = differs.contains(&true);
            assert_eq!(differ.slots, set(differs.then_some("3")));
            assert_eq!(found.within, None);
            // What differs still while rows are replaced is not done.
            let (compared, rows, differing) = if state == PairState::Repairing {
                (if differs { "0-2" } else { "0-3" }, None, None)
            } else {
                ("0-3", Some(30), differs.then_some("3"))
            };
            assert_eq!(
                (found.compared.as_deref(), found.rows),
                (Some(compared), rows),
                "{found:?}"
            );
            assert_eq!(found.differing.as_deref(), differing);
            assert_eq!(found.examples.len(), usize::from(differing.is_some()));
        }
    }

    #[test]
    fn what_chunks_find_adds_up_to_how_it_ends() {
        for (chunks, differing, repair, want) in [
            (["", ""], None, RepairMode::None, Some(PairState::Equal)),
            (["", ""], None, RepairMode::FromOwner, Some(PairState::Equal)),
            (["1", "9"], Some("1,9"), RepairMode::None, Some(PairState::Differs)),
            (["1", ""], Some("1"), RepairMode::None, Some(PairState::Differs)),
            (["", "8"], Some("8"), RepairMode::FromOwner, None),
        ] {
            let mut found = begun();
            let mut differ = Found::default();
            chunk(&mut found, &mut differ, (0, 5), chunks[0]);
            assert_eq!(found.compared.as_deref(), Some("0-5"));
            // Whoever goes on knows only what was told.
            differ = Found::default();
            chunk(&mut found, &mut differ, (6, 9), chunks[1]);
            assert_eq!((found.rows, found.differing.as_deref()), (Some(20), differing));
            assert_eq!(compared(&found), SlotSet::range(0, 9));
            let ended = ended(&found, &differ, repair, None);
            assert_eq!(ended.as_ref().map(|ended| ended.state), want, "{chunks:?} {repair:?}");
            assert!(ended.is_none_or(|ended| ended.compared.is_none() && ended.differing.as_deref() == differing));
        }
    }

    #[test]
    fn what_differs_still_after_a_repair_is_not_done_and_not_forgotten_by_who_goes_on() {
        let repairing = PairReport {
            state: PairState::Repairing,
            differing: Some("1".to_owned()),
            rows: Some(20),
            ..begun()
        };
        let words = "3 rows were copied".to_owned();
        for (differs, copied, want, differing) in [
            ("", Some(&words), Some(PairState::Repaired), "1"),
            ("", None, Some(PairState::Repaired), "1"),
            ("2,3", Some(&words), Some(PairState::Differs), "2-3"),
            // Who has not copied himself does so first.
            ("2,3", None, None, ""),
        ] {
            let mut found = repairing.clone();
            let mut differ = Found::default();
            chunk(&mut found, &mut differ, (0, 9), differs);
            assert_eq!(compared(&found), SlotSet::range(0, 9).difference(&set(Some(differs))));
            assert_eq!((found.rows, found.differing.as_deref()), (Some(20), Some("1")));
            let ended = ended(&found, &differ, RepairMode::FromOwner, copied);
            assert_eq!(ended.as_ref().map(|ended| ended.state), want, "{differs} {copied:?}");
            let said = ended.map(|ended| ended.differing.unwrap_or_default());
            assert_eq!(said.unwrap_or_default(), differing);
        }
    }
}
